//! What `run` and `chat` share: asking a line and handing its text on as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use inference::SamplingParams;
use metering::{Meter, UsageRecord};
use service::{ErrorKind, Generation, Labels, Line, LineError, LineEvent, Prompt};
use tokio::runtime::Runtime;

use super::Context;
use super::pull::consent;
use crate::adapter;
use crate::assembly::{self, Drafts, Production};
use crate::catalogue::ModelRef;
use crate::cli::Sampling;
use crate::error::{Error, Kind, Result};
use crate::memory::KvRoom;
use crate::output::duration;

/// Starts the line that a command asks, of the model or of an adapter (its configured name, or a path); models that are not
/// here are fetched first, a draft model only if asked for.
///
/// # Errors
/// The model or its adapter cannot be found, fetched, loaded or started.
pub fn start_line(context: &Context, model: &ModelRef, adapter: Option<&str>, drafts: Drafts) -> Result<Production> {
    let own = context.settings.models.get(&model.name).cloned().unwrap_or_default();
    let found = adapter.map(|wanted| adapter::find(&model.name, &own, wanted)).transpose()?;
    let pool = assembly::thread_pool(context)?;
    let loaded = assembly::load(context, model, &pool, &|builtin| consent(context, builtin, false), drafts)?;
    // Before the KV cache takes its share of what is free.
    let weights = found.map(|(full, path)| Ok((adapter::load(&full, &path, &loaded.model)?, full))).transpose()?;
    let mut production = loaded.start(context, &Arc::new(Meter::new()), None, KvRoom::default())?;
    if let Some((weights, full)) = weights {
        production.line = Arc::new(adapter::line(&production.line, full, &weights));
    }
    Ok(production)
}

/// A runtime for one person: requests are few, the engine has its own threads.
///
/// # Errors
/// The system refuses it.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failure("cannot start the asynchronous runtime").because(e))
}

/// A generation with the person's sampling.
#[must_use]
pub fn generation(prompt: Prompt, sampling: &Sampling, stop: Vec<String>, route: &'static str) -> Generation {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Generation {
        id: format!("{route}-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        prompt,
        answered: Vec::new(),
        max_tokens: sampling.max_tokens,
        candidates: 1,
        sampling: SamplingParams {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            seed: sampling.seed,
            ..SamplingParams::default()
        },
        stop,
        ignore_eos: false,
        echo: false,
        priority: 0,
        template_variables: std::collections::BTreeMap::new(),
        payer: None,
        labels: Labels { key: None, user: None, route },
    }
}

/// Asks, hands each piece of text to `each`, and gives the usage record.
///
/// # Errors
/// The line refuses or fails, or `each` does.
pub async fn ask(
    line: &dyn Line,
    generation: Generation,
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<UsageRecord> {
    let mut reply = line.submit(generation).await.map_err(|e| refused(&e))?;
    while let Some(event) = reply.next().await {
        match event {
            LineEvent::Text { text, .. } => each(&text)?,
            LineEvent::Done(record, _) => return Ok(*record),
            LineEvent::Failed(error, _) => return Err(refused(&error)),
            LineEvent::Echo { .. } | LineEvent::Chances { .. } | LineEvent::Finished { .. } => {}
        }
    }
    Err(Error::failure("the line ended without an answer"))
}

/// A line's refusal in the words of the command line.
#[must_use]
pub fn refused(error: &LineError) -> Error {
    let kind = match error.kind() {
        ErrorKind::Invalid | ErrorKind::ContextFull | ErrorKind::NoChatTemplate => Kind::Usage,
        _ => Kind::Failure,
    };
    let wrapped = Error { kind, ..Error::failure(error.to_string()) };
    match error.kind() {
        ErrorKind::NoChatTemplate => wrapped
            .hint("use `tokenworks run --raw TEXT`, or set chat_template or chat_template_file under [models.NAME]"),
        ErrorKind::ContextFull => wrapped.hint("shorten the prompt"),
        _ => wrapped,
    }
}

/// Tokens, speed and waiting time of an answer in one line.
#[must_use]
pub fn usage_line(record: &UsageRecord) -> String {
    let prompt = record.prompt_tokens();
    let made = record.completion_tokens();
    let mut text = format!("{prompt} tokens in");
    if record.input_cached_tokens > 0 {
        text.push_str(&format!(" ({} cached)", record.input_cached_tokens));
    }
    text.push_str(&format!(", {made} out"));
    if let Some(rate) = tokens_per_second(record) {
        text.push_str(&format!(", {rate:.1} tokens/s"));
    }
    if let Some(ttft) = record.ttft_ns {
        text.push_str(&format!(", first after {}", duration(std::time::Duration::from_nanos(ttft))));
    }
    text
}

/// Decode speed: the tokens after the first, over the time from the first to the end.
#[must_use]
pub fn tokens_per_second(record: &UsageRecord) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    (record.gap_count > 0 && record.gap_sum_ns > 0).then(|| record.gap_count as f64 * 1e9 / record.gap_sum_ns as f64)
}
