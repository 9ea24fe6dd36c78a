//! `eval divergence`, and what quantizing did to the answers: two models on the same text, position by position. Of the
//! first, a file of log-probabilities may stand in.

mod reader;
mod stored;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use formats::gguf::Gguf;
use kernels::ThreadPool;
use serde::Serialize;

use self::reader::Reader;
use self::stored::Stored;
use super::Context;
use super::perplexity::{self, Score};
use super::pull::consent;
use crate::assembly::{self, file_error, read_tokenizer};
use crate::cli;
use crate::error::{Error, Result};
use crate::output::grouped;
use crate::progress::Bar;

/// Tokens of a window when nothing is said.
const DEFAULT_CTX: u32 = 512;
/// Columns of a forward pass: the logits of so many positions are in memory for both models.
const COLUMNS: usize = 32;

/// The text in windows of tokens; as for perplexity, the second half of each is scored.
pub(super) struct Windows {
    file: String,
    ctx: usize,
    windows: Vec<Vec<u32>>,
}

impl Windows {
    /// Reads and tokenizes the text.
    ///
    /// # Errors
    /// It cannot be read or is shorter than a window; the model has no tokenizer or a shorter context.
    pub(super) fn read(gguf: &Gguf, file: &Path, args: &cli::Quantize) -> Result<Self> {
        let config = model::ModelConfig::from_gguf(gguf).map_err(|e| file_error(gguf.path(), &e))?;
        let ctx = args.ctx.unwrap_or(DEFAULT_CTX) as usize;
        if ctx > config.context_len {
            return Err(Error::usage(format!("--ctx is {ctx}, but the model has a context of {}", config.context_len))
                .hint("give a smaller --ctx"));
        }
        let text = perplexity::read(file)?;
        let tokenizer = read_tokenizer(gguf)?;
        let tokens = tokenizer.encode(&text, true, false);
        let start = tokenizer.encode("", true, false).first().copied();
        let most = args.chunks.map_or(usize::MAX, |n| n as usize);
        let windows: Vec<Vec<u32>> = tokens.chunks_exact(ctx).take(most).map(<[u32]>::to_vec).collect();
        if windows.is_empty() {
            let (file, tokens) = (file.display(), tokens.len());
            return Err(Error::usage(format!("{file} has {tokens} tokens, fewer than one window of {ctx}"))
                .hint("give a longer text or a smaller --ctx"));
        }
        Ok(Self { file: file.display().to_string(), ctx, windows }.starting_with(start))
    }

    /// With the model's start token, if it has one, in the first place of each window.
    fn starting_with(mut self, start: Option<u32>) -> Self {
        if let Some(start) = start {
            self.windows.iter_mut().filter_map(|window| window.first_mut()).for_each(|first| *first = start);
        }
        self
    }
}

/// Both models on a text.
#[derive(Debug, Serialize)]
pub(super) struct Evaluation {
    file: String,
    ctx: usize,
    windows: usize,
    positions: u64,
    before: Perplexity,
    after: Perplexity,
    /// KL divergence of the new distribution from the old one, in nats; its mean over the positions.
    kl_divergence_mean: f64,
    kl_divergence_p99: f64,
    kl_divergence_max: f64,
    /// Share of positions at which both think the same token the likeliest.
    same_top: f64,
}

#[derive(Debug, Serialize)]
struct Perplexity {
    perplexity: f64,
    standard_error: f64,
}

impl From<&Score> for Perplexity {
    fn from(score: &Score) -> Self {
        Self { perplexity: score.perplexity(), standard_error: score.standard_error() }
    }
}

impl Evaluation {
    /// As a person reads it.
    pub(super) fn shown(&self) -> String {
        let Self { before, after, .. } = self;
        format!(
            "on {} ({} positions in {} windows of {}):\n  \
             perplexity {:.4} +/- {:.4} before, {:.4} +/- {:.4} after ({:+.2} %)\n  \
             KL divergence {:.6} mean, {:.6} p99, {:.6} most\n  same likeliest token at {:.2} % of the positions\n",
            self.file,
            grouped(self.positions),
            self.windows,
            self.ctx,
            before.perplexity,
            before.standard_error,
            after.perplexity,
            after.standard_error,
            100.0 * (after.perplexity / before.perplexity - 1.0),
            self.kl_divergence_mean,
            self.kl_divergence_p99,
            self.kl_divergence_max,
            100.0 * self.same_top,
        )
    }
}

/// One position under both models.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    nll_before: f64,
    nll_after: f64,
    divergence: f64,
    same_top: bool,
}

/// As `eval divergence --json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// Runs `eval divergence`.
///
/// # Errors
/// No such model or file, or one of another vocabulary.
pub fn run(context: &Context, args: &cli::Divergence) -> Result<()> {
    let reference = context.model(Some(&args.model))?;
    let gguf = assembly::open(context, &reference, &|builtin| consent(context, builtin, false))?;
    let (base, windows) = Stored::open(&args.base, &gguf, args.chunks)?;
    let pool = assembly::thread_pool(context)?;
    let evaluation = compared(Base::Stored(base), &gguf, &windows, &pool)?;
    if args.json {
        return context.output.json(&Report { model: reference.name, evaluation });
    }
    context.output.text(format_args!("{} against the log-probabilities {}", reference.name, evaluation.shown()))
}

/// What is known of a distribution over the vocabulary.
#[derive(Clone, Copy)]
enum Scores<'a> {
    Logits(&'a [f32]),
    /// As they were stored. One at `bound` says that it is no higher.
    LogProbabilities {
        stored: &'a [f32],
        bound: f32,
    },
}

/// What the answers of a model are compared with.
enum Base {
    Model(Box<Reader>),
    Stored(Stored),
}

impl Base {
    fn forward(&mut self, window: &[u32], columns: Range<usize>, scored: Range<usize>) -> Result<()> {
        match self {
            Self::Model(reader) => reader.forward(window, columns, scored),
            Self::Stored(stored) => stored.read(scored.len()),
        }
    }

    /// Of the scored position `index` of the last forward pass.
    fn scores(&self, index: usize) -> Scores<'_> {
        match self {
            Self::Model(reader) => Scores::Logits(reader.logits(index)),
            Self::Stored(stored) => stored.log_probabilities(index),
        }
    }
}

/// Runs both models over the windows.
///
/// # Errors
/// A model cannot be loaded, or has no room.
pub(super) fn measure(
    (before, after): (&Gguf, &Path),
    windows: &Windows,
    pool: &Arc<ThreadPool>,
) -> Result<Evaluation> {
    let after = Gguf::open(after).map_err(|e| file_error(after, &e))?;
    compared(Base::Model(Box::new(Reader::new(before, windows.ctx, pool)?)), &after, windows, pool)
}

fn compared(mut base: Base, after: &Gguf, windows: &Windows, pool: &Arc<ThreadPool>) -> Result<Evaluation> {
    let mut reader = Reader::new(after, windows.ctx, pool)?;
    let bar = Bar::of_tokens("comparing", (windows.windows.len() * windows.ctx) as u64);
    let mut positions = Vec::new();
    for (index, window) in windows.windows.iter().enumerate() {
        for from in (0..windows.ctx).step_by(COLUMNS) {
            let columns = from..windows.ctx.min(from + COLUMNS);
            // The last position foresees a token that is not in the window.
            let scored = columns.start.max(windows.ctx / 2)..columns.end.min(windows.ctx - 1);
            base.forward(window, columns.clone(), scored.clone())?;
            reader.forward(window, columns.clone(), scored.clone())?;
            let (before, after) = (&base, &reader);
            let first = positions.len();
            positions.resize(first + scored.len(), Position::default());
            pool.for_each_chunk(&mut positions[first..], 1, |i, out| {
                let next = window[scored.start + i + 1] as usize;
                out.fill(compare(before.scores(i), after.logits(i), next));
            });
            bar.set((index * windows.ctx + columns.end) as u64);
        }
    }
    bar.done();
    Ok(summary(windows, positions))
}

fn summary(windows: &Windows, mut positions: Vec<Position>) -> Evaluation {
    let (mut before, mut after) = (Score::default(), Score::default());
    for position in &positions {
        before.add(position.nll_before);
        after.add(position.nll_after);
    }
    positions.sort_unstable_by(|a, b| a.divergence.total_cmp(&b.divergence));
    let count = positions.len();
    let at = |rank: usize| positions.get(rank.saturating_sub(1)).map_or(0.0, |position| position.divergence);
    #[expect(clippy::cast_precision_loss, reason = "a count of positions")]
    let share = |sum: f64| sum / count.max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a count of positions")]
    let same = positions.iter().filter(|position| position.same_top).count() as f64;
    Evaluation {
        file: windows.file.clone(),
        ctx: windows.ctx,
        windows: windows.windows.len(),
        positions: count as u64,
        before: (&before).into(),
        after: (&after).into(),
        kl_divergence_mean: share(positions.iter().map(|position| position.divergence).sum()),
        kl_divergence_p99: at((count * 99).div_ceil(100)),
        kl_divergence_max: at(count),
        same_top: share(same),
    }
}

/// One position: `next` is the token that follows in the text.
///
/// The tokens of which only a bound is known count as one: its probability is what the others leave.
fn compare(before: Scores<'_>, after: &[f32], next: usize) -> Position {
    let (before, log_sum_before, top_before, bound) = match before {
        Scores::Logits(logits) => {
            let (log_sum, top) = log_sum_exp(logits);
            (logits, log_sum, top, f32::NEG_INFINITY)
        }
        Scores::LogProbabilities { stored, bound } => (stored, 0.0, log_sum_exp(stored).1, bound),
    };
    let (log_sum_after, top_after) = log_sum_exp(after);
    let (mut divergence, mut known, mut rest_after) = (0.0, 0.0, 0.0);
    for (&before, &after) in before.iter().zip(after) {
        let log_after = f64::from(after) - log_sum_after;
        if before <= bound {
            rest_after += log_after.exp();
            continue;
        }
        let log_before = f64::from(before) - log_sum_before;
        known += log_before.exp();
        divergence += log_before.exp() * (log_before - log_after);
    }
    // Without a bound nothing is left but rounding.
    let rest_before = 1.0 - known;
    if bound.is_finite() && rest_before > 0.0 && rest_after > 0.0 {
        divergence += rest_before * (rest_before / rest_after).ln();
    }
    Position {
        nll_before: log_sum_before - f64::from(before[next]),
        nll_after: log_sum_after - f64::from(after[next]),
        // Rounding can push the sum of equal distributions a little below.
        divergence: divergence.max(0.0),
        same_top: top_before == top_after,
    }
}

/// The logarithm of the sum of the exponentials, and the first of the largest.
fn log_sum_exp(logits: &[f32]) -> (f64, usize) {
    let (mut top, mut most) = (0, f32::NEG_INFINITY);
    for (i, &logit) in logits.iter().enumerate() {
        if logit > most {
            (top, most) = (i, logit);
        }
    }
    let most = f64::from(most);
    (most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln(), top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_by_hand() {
        // (1/2, 1/4, 1/4) against (1/4, 1/2, 1/4): ln(2)/2 - ln(2)/4.
        let ln = |values: [f32; 3]| values.map(f32::ln);
        let position = compare(Scores::Logits(&ln([2.0, 1.0, 1.0])), &ln([3.0, 6.0, 3.0]), 1);
        assert!((position.divergence - 2.0_f64.ln() / 4.0).abs() < 1e-6, "{position:?}");
        assert!((position.nll_before - 4.0_f64.ln()).abs() < 1e-6 && (position.nll_after - 2.0_f64.ln()).abs() < 1e-6);
        assert!(!position.same_top);
        let same = compare(Scores::Logits(&[0.5, -3.0]), &[10.5, 7.0], 0);
        assert!(same.divergence < 1e-6 && same.same_top);
    }

    #[test]
    fn tokens_at_the_bound_count_as_one() {
        let ln = |values: [f32; 4]| values.map(f32::ln);
        // 0.9, 0.08 and twice 0.01, stored no lower than 0.05: the last two have 0.02 together, not 0.1.
        let stored = ln([0.9, 0.08, 0.05, 0.05]);
        let stored = Scores::LogProbabilities { stored: &stored, bound: 0.05_f32.ln() };
        let same = compare(stored, &ln([0.9, 0.08, 0.005, 0.015]), 0);
        assert!(same.divergence < 1e-6 && same.same_top, "{same:?}");
        assert!((same.nll_before + 0.9_f64.ln()).abs() < 1e-6, "{same:?}");
        let other = compare(stored, &ln([0.9, 0.06, 0.02, 0.02]), 0);
        let by_hand = 0.08 * (0.08_f64 / 0.06).ln() + 0.02 * (0.02_f64 / 0.04).ln();
        assert!((other.divergence - by_hand).abs() < 1e-6, "{other:?} {by_hand}");
    }

    #[test]
    fn the_summary_ranks() {
        let windows = Windows { file: "t".to_owned(), ctx: 4, windows: vec![vec![0; 4]] };
        let positions = (0..200)
            .map(|i| Position { divergence: f64::from(i), same_top: i % 4 == 0, ..Position::default() })
            .collect();
        let summary = summary(&windows, positions);
        assert_eq!((summary.kl_divergence_p99, summary.kl_divergence_max, summary.same_top), (197.0, 199.0, 0.25));
        assert!((summary.kl_divergence_mean - 99.5).abs() < 1e-9);
    }
}
