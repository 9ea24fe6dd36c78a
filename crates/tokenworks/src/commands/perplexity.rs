//! `eval perplexity`: how well a model foresees a text.
//!
//! The convention of llama.cpp's tool, so that figures compare: the text in non-overlapping windows, each beginning
//! with the model's start token if it has one, and the second half of each window scored.

use std::path::Path;

use inference::{SamplingParams, TokenId};
use serde::Serialize;
use service::{Generation, Labels, Line, LineEvent, Prompt, TokenText};

use super::answer::{refused, runtime, start_line};
use super::{Context, input};
use crate::assembly::Drafts;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::grouped;

/// Longest text that is taken.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// As `eval perplexity --json` prints it.
#[derive(Serialize)]
struct Report {
    model: String,
    file: String,
    ctx: usize,
    windows: usize,
    tokens_scored: u64,
    perplexity: f64,
    /// Standard error of the perplexity.
    standard_error: f64,
    /// After each window.
    cumulative: Vec<f64>,
}

/// Sums over the scored tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    nll: f64,
    squares: f64,
    count: u64,
}

impl Score {
    pub(super) fn add(&mut self, nll: f64) {
        self.nll += nll;
        self.squares += nll * nll;
        self.count += 1;
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    fn mean(&self) -> f64 {
        self.nll / self.count as f64
    }

    pub(super) fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    pub(super) fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let variance = (self.squares / self.count as f64 - self.mean() * self.mean()).max(0.0);
        (variance / (self.count - 1) as f64).sqrt() * self.perplexity()
    }
}

/// Runs `eval perplexity`.
///
/// # Errors
/// No such model or file, a text too short, a window longer than the context.
pub fn run(context: &Context, args: &cli::Perplexity) -> Result<()> {
    let model = context.model(Some(&args.model))?;
    let text = read(&args.file)?;
    let production = start_line(context, &model, None, Drafts::LeftOut)?;
    let line = production.line.as_ref();
    let ctx = args.ctx as usize;
    if ctx > line.card().context_len {
        return Err(Error::usage(format!(
            "--ctx is {ctx}, but {} has a context of {}",
            model.name,
            line.card().context_len
        ))
        .hint("give a smaller --ctx, or raise engine.context_len and engine.kv_memory if they limit it"));
    }
    let ids = |text: &str| -> Result<Vec<TokenId>> {
        let tokens = line.tokenize(text, true, false).map_err(|e| refused(&e))?;
        Ok(tokens.into_iter().map(|t| t.id).collect())
    };
    let start = ids("")?.first().copied();
    let tokens = ids(&text)?;
    let windows = (tokens.len() / ctx).min(args.chunks.map_or(usize::MAX, |n| n as usize));
    if windows == 0 {
        return Err(Error::usage(format!(
            "{} has {} tokens, fewer than one window of {ctx}",
            args.file.display(),
            tokens.len()
        ))
        .hint("give a longer text or a smaller --ctx"));
    }
    let runtime = runtime()?;
    let mut score = Score::default();
    let mut cumulative = Vec::with_capacity(windows);
    for window in tokens.chunks_exact(ctx).take(windows) {
        let mut window = window.to_vec();
        if let (Some(start), Some(first)) = (start, window.first_mut()) {
            *first = start;
        }
        let scored = runtime.block_on(logprobs(line, window))?;
        // Position ctx/2 is the first whose prediction counts: the tokens scored begin one after it.
        for token in scored.iter().skip(ctx / 2 + 1) {
            let logprob = token.logprob.ok_or_else(|| Error::failure("the line left out a log-probability"))?;
            score.add(-f64::from(logprob));
        }
        cumulative.push(score.perplexity());
        if !args.json {
            context.output.text(format_args!("[{}]{:.4} ", cumulative.len(), score.perplexity()))?;
        }
    }
    production.end();
    let report = Report {
        model: model.name,
        file: args.file.to_string_lossy().into_owned(),
        ctx,
        windows,
        tokens_scored: score.count,
        perplexity: score.perplexity(),
        standard_error: score.standard_error(),
        cumulative,
    };
    if args.json {
        return context.output.json(&report);
    }
    context.output.line(format_args!(
        "\n\nperplexity of {}: {:.4} +/- {:.4} ({} tokens scored in {windows} windows of {ctx})",
        report.model,
        report.perplexity,
        report.standard_error,
        grouped(report.tokens_scored)
    ))
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, is too long or no text.
pub(super) fn read(path: &Path) -> Result<String> {
    let what = format!("the text {}", path.display());
    let file = std::fs::File::open(path)
        .map_err(|e| Error::usage(format!("cannot read {what}")).because(e).hint("give the path of a UTF-8 file"))?;
    input::text(&what, file, FILE_BYTES_MAX)
}

/// The log-probability of each token of a window, asked for like a client would: echo, no new tokens.
async fn logprobs(line: &dyn Line, window: Vec<TokenId>) -> Result<Vec<TokenText>> {
    let generation = Generation {
        id: "eval".to_owned(),
        prompt: Prompt::Ids(window),
        answered: Vec::new(),
        max_tokens: Some(0),
        candidates: 1,
        sampling: SamplingParams { logprobs: Some(0), ..SamplingParams::default() },
        stop: Vec::new(),
        ignore_eos: true,
        echo: true,
        priority: 0,
        template_variables: std::collections::BTreeMap::new(),
        payer: None,
        labels: Labels { key: None, user: None, route: "eval" },
    };
    let mut reply = line.submit(generation).await.map_err(|e| refused(&e))?;
    let mut scored = None;
    while let Some(event) = reply.next().await {
        match event {
            LineEvent::Echo { tokens, .. } => scored = Some(tokens),
            LineEvent::Failed(error, _) => return Err(refused(&error)),
            LineEvent::Text { .. } | LineEvent::Chances { .. } | LineEvent::Finished { .. } | LineEvent::Done(..) => {}
        }
    }
    scored.ok_or_else(|| Error::failure("the line gave no log-probabilities"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_of_a_fair_coin() {
        let mut score = Score::default();
        for _ in 0..10 {
            score.add(2.0_f64.ln());
        }
        assert!((score.perplexity() - 2.0).abs() < 1e-12);
        assert!(score.standard_error() < 1e-6);
    }

    #[test]
    fn spread_shows() {
        let mut score = Score::default();
        for nll in [1.0, 3.0] {
            score.add(nll);
        }
        // Mean 2, variance 1: the error of the mean is 1, times exp(2).
        assert!((score.standard_error() - 2.0_f64.exp()).abs() < 1e-9);
    }
}
