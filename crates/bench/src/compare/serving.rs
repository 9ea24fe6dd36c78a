//! Measurements of a server that is up, over HTTP only: the same for all sides.

use std::time::{Duration, Instant};

use clap::Parser as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::results::median;
use crate::args::{Cli, Command};
use crate::http::Target;
use crate::load;
use crate::machine::processor_seconds;
use crate::plan::{Planned, words};
use crate::request::{self, Outcome, Sample};

const PATH: &str = "/v1/chat/completions";
/// A request without an end after so long has failed.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Words of a chat that make a prompt of about 150 tokens.
const CHAT_WORDS: &str = "136";
/// Tokens of the answers that run when a long prompt arrives: they must last longer than its prefill.
const STREAM_TOKENS: u32 = 640;
/// How long the streams run before it arrives.
const STREAMS_ALONE: Duration = Duration::from_millis(2000);
/// Questions asked after a shared prefix.
const QUESTIONS: u64 = 3;

/// What streaming chats were like.
pub(super) struct Chats {
    pub(super) tokens_per_second: f64,
    /// Median TTFT in milliseconds.
    pub(super) ttft_ms: f64,
    /// 99th percentile of ITL in milliseconds.
    pub(super) itl_ms: f64,
    /// The most resident memory of the server in MiB.
    pub(super) memory_mib: f64,
}

/// Streaming chats of some clients at once, so many `each`, one after the other.
pub(super) async fn chats(url: &str, pid: u32, (clients, each): (u32, u32), seed: u64) -> Result<Chats, String> {
    let requests = clients * each;
    let line = format!(
        "tokenworks-bench serve-load --url {url} --pid {pid} --clients {clients} --requests {requests} --seed {seed} \
         --disconnect 0 --prompt-words {CHAT_WORDS} --shared 0 --max-tokens 128 --ignore-eos --metrics off"
    );
    let words = line.split_whitespace();
    let Command::ServeLoad(args) = Cli::try_parse_from(words).map_err(|e| e.to_string())?.command else {
        return Err("not a load test".to_owned());
    };
    let report = load::run(*args).await.map_err(|e| e.to_string())?;
    let (Some(ttft), Some(itl), Some(memory)) = (report.ttft, report.itl, report.memory) else {
        return Err(format!("no chat was answered: {}", report.violations.join("; ")));
    };
    if report.outcomes.completed != requests {
        return Err(format!(
            "only {} of {requests} chats ended well: {}",
            report.outcomes.completed,
            report.violations.join("; ")
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let memory_mib = memory.peak as f64 / f64::from(1 << 20);
    let (ttft_ms, itl_ms) = (ttft.p50 * 1e3, itl.p99 * 1e3);
    Ok(Chats { tokens_per_second: report.output_tokens_per_second, ttft_ms, itl_ms, memory_mib })
}

/// The worst gap in milliseconds that four running streams see from the arrival of a prompt of 1,500 tokens on.
pub(super) async fn gap(target: &Target, seed: u64) -> Result<f64, String> {
    let model = model(target).await?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let planned = chat(&model, &words(&mut rng, 16), STREAM_TOKENS);
        let target = target.clone();
        streams.push(tokio::spawn(async move {
            let started = Instant::now();
            (started, request::run(&target, PATH, &planned, TIMEOUT).await)
        }));
    }
    tokio::time::sleep(STREAMS_ALONE).await;
    let arrived = Instant::now();
    let long = request::run(target, PATH, &chat(&model, &words(&mut rng, 1485), 8), TIMEOUT).await;
    let answered = arrived + first_token(&long)?;
    let mut worst = Duration::ZERO;
    for stream in streams {
        let (started, sample) = stream.await.map_err(|e| e.to_string())?;
        let gaps = gaps_since(started + first_token(&sample)?, &sample.gaps, arrived);
        if started + sample.e2e < answered {
            return Err("a stream ended before the long prompt's first token".to_owned());
        }
        worst = worst.max(gaps);
    }
    Ok(worst.as_secs_f64() * 1e3)
}

/// The longest of the gaps that end after `since`; the first one starts at `at`.
fn gaps_since(mut at: Instant, gaps: &[Duration], since: Instant) -> Duration {
    let mut worst = Duration::ZERO;
    for gap in gaps {
        at += *gap;
        if at > since {
            worst = worst.max(*gap);
        }
    }
    worst
}

/// Milliseconds to the first token of a prompt of 1,000 tokens and a short question, when `share` percent of the 1,000
/// were seen before; the median of a few questions.
pub(super) async fn first_token_after_prefix(target: &Target, share: u32, seed: u64) -> Result<f64, String> {
    const PREFIX: u32 = 1000;
    let model = model(target).await?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let known = words(&mut rng, PREFIX * share / 100);
    let mut times = Vec::new();
    for question in 0..=QUESTIONS {
        let new = words(&mut rng, PREFIX - PREFIX * share / 100);
        let prompt = format!("{known} {new} {}", words(&mut rng, 20));
        let sample = request::run(target, PATH, &chat(&model, prompt.trim(), 8), TIMEOUT).await;
        let time = first_token(&sample)?.as_secs_f64() * 1e3;
        // The first one makes the prefix known.
        if question > 0 {
            times.push(time);
        }
    }
    median(&times).ok_or_else(|| "no question was answered".to_owned())
}

/// Processor time of an idle process over five seconds, in percent of one core.
pub(super) async fn idle_share(pid: u32) -> Result<f64, String> {
    let gone = || "the process is gone".to_owned();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, started) = (processor_seconds(pid).ok_or_else(gone)?, Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = processor_seconds(pid).ok_or_else(gone)? - before;
    Ok(100.0 * used / started.elapsed().as_secs_f64())
}

/// Asks for one token, not streamed.
pub(super) async fn one_token(target: &Target) -> Result<(), String> {
    let mut body = chat(&model(target).await?, "Hello", 1).body;
    body["stream"] = json!(false);
    if let Some(body) = body.as_object_mut() {
        body.remove("stream_options");
    }
    let mut response = target.post(PATH, body.to_string()).await.map_err(|e| e.to_string())?;
    let text = response.text().await.map_err(|e| e.to_string())?;
    if response.status.as_u16() == 200 { Ok(()) } else { Err(text) }
}

async fn model(target: &Target) -> Result<String, String> {
    load::first_model(target).await.map_err(|e| e.to_string())
}

fn chat(model: &str, prompt: &str, max_tokens: u32) -> Planned {
    let body: Value = json!({
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0.8,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    Planned { body, model: 0, disconnect: None }
}

fn first_token(sample: &Sample) -> Result<Duration, String> {
    match (&sample.outcome, sample.ttft) {
        (Outcome::Completed, Some(ttft)) => Ok(ttft),
        (outcome, _) => Err(format!("a chat ended with {outcome:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_before_the_arrival_do_not_count() {
        let start = Instant::now();
        let gaps = [900, 20, 300, 40].map(Duration::from_millis);
        let since = |ms| gaps_since(start, &gaps, start + Duration::from_millis(ms)).as_millis();
        assert_eq!(since(0), 900);
        assert_eq!(since(950), 300, "a gap that began before counts whole");
        assert_eq!(since(1230), 40);
        assert_eq!(since(5000), 0);
    }
}
