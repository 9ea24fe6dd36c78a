//! The life of one streaming request, and what was seen of it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{HttpError, Target};
use crate::plan::{Disconnect, Planned};
use crate::sse::{SseDecoder, SseError};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 and a whole stream.
    Completed,
    /// The client hung up, as planned.
    ClosedByClient,
    /// 429 or 503.
    Rejected(u16),
    /// Anything else; says what.
    Violation(String),
    /// Never sent: as many requests were in flight as may be.
    Dropped,
}

/// What was seen of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Number of the model asked.
    pub model: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// From sending to the first chunk with text.
    pub ttft: Option<Duration>,
    /// Between successive chunks with text.
    pub gaps: Vec<Duration>,
    /// From sending to the end.
    pub e2e: Duration,
    /// Chunks with text.
    pub chunks: u32,
    /// The server's own count; `None` when the stream did not come to its end.
    pub usage: Option<Usage>,
    /// How long the server asked a rejected client to wait.
    pub retry_after: Option<Duration>,
}

impl Sample {
    /// Of a request that was never sent.
    #[must_use]
    pub fn dropped(model: usize) -> Self {
        Stream::new(Instant::now()).into_sample(model, Outcome::Dropped)
    }
}

/// Token counts of the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub prompt: u64,
    /// Prompt tokens taken from the prefix cache.
    pub cached: u64,
    /// Tokens made.
    pub output: u64,
}

/// Why a stream is not a whole one.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Sse(#[from] SseError),
    #[error("{0}")]
    Wire(String),
}

/// Sends one planned request and watches it to its end.
pub async fn run(target: &Target, path: &str, planned: &Planned, timeout: Duration) -> Sample {
    let started = Instant::now();
    let mut stream = Stream::new(started);
    let (hang_up_after, hang_up_chunks) = match planned.disconnect {
        Some(Disconnect::AfterMillis(ms)) => (Some(Duration::from_millis(ms)), None),
        Some(Disconnect::AfterChunks(n)) => (None, Some(n)),
        None => (None, None),
    };
    let exchange = exchange(target, path, planned, hang_up_chunks, &mut stream);
    let outcome = match tokio::time::timeout(hang_up_after.unwrap_or(timeout), exchange).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(broken)) => Outcome::Violation(broken.to_string()),
        Err(_elapsed) if hang_up_after.is_some() => Outcome::ClosedByClient,
        Err(_elapsed) => Outcome::Violation(format!("no end after {} s", timeout.as_secs())),
    };
    stream.into_sample(planned.model, outcome)
}

async fn exchange(
    target: &Target,
    path: &str,
    planned: &Planned,
    hang_up_chunks: Option<u32>,
    stream: &mut Stream,
) -> Result<Outcome, Broken> {
    let mut response = target.post(path, planned.body.to_string()).await?;
    match response.status.as_u16() {
        200 => {}
        code @ (429 | 503) => {
            stream.retry_after = response.retry_after.map(Duration::from_secs);
            return Ok(Outcome::Rejected(code));
        }
        code => {
            let text: String = response.text().await?.chars().take(300).collect();
            return Err(Broken::Wire(format!("status {code}: {text}")));
        }
    }
    let mut decoder = SseDecoder::default();
    while let Some(bytes) = response.next().await? {
        for data in decoder.push(&bytes)? {
            stream.take(&data).map_err(Broken::Wire)?;
        }
        if hang_up_chunks.is_some_and(|n| stream.chunks >= n) && !stream.done {
            return Ok(Outcome::ClosedByClient);
        }
    }
    if !decoder.is_empty() {
        return Err(Broken::Wire("the stream ends within an event".to_owned()));
    }
    stream.check_end(planned.body["max_tokens"].as_u64()).map_err(Broken::Wire)?;
    Ok(Outcome::Completed)
}

/// What came of a stream so far.
#[derive(Debug)]
struct Stream {
    started: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    gaps: Vec<Duration>,
    chunks: u32,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    done: bool,
    retry_after: Option<Duration>,
}

impl Stream {
    fn new(started: Instant) -> Self {
        Self {
            started,
            first: None,
            last: None,
            gaps: Vec::new(),
            chunks: 0,
            usage: None,
            finish_reason: None,
            done: false,
            retry_after: None,
        }
    }

    /// Takes the data of one event.
    fn take(&mut self, data: &str) -> Result<(), String> {
        if self.done {
            return Err("an event after [DONE]".to_owned());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(data).map_err(|error| format!("an event is not JSON: {error}"))?;
        if !chunk["error"].is_null() {
            return Err(format!("error within the stream: {}", chunk["error"]));
        }
        let choice = &chunk["choices"][0];
        let text = choice["text"].as_str().or_else(|| choice["delta"]["content"].as_str()).unwrap_or("");
        if !text.is_empty() {
            self.text_came(Instant::now());
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        let usage = &chunk["usage"];
        if let (Some(prompt), Some(output)) = (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64()) {
            let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
            self.usage = Some(Usage { prompt, cached, output });
        }
        Ok(())
    }

    fn text_came(&mut self, now: Instant) {
        self.chunks += 1;
        match self.last {
            Some(last) => self.gaps.push(now.duration_since(last)),
            None => self.first = Some(now),
        }
        self.last = Some(now);
    }

    fn check_end(&self, max_tokens: Option<u64>) -> Result<(), String> {
        if !self.done {
            return Err("the stream ends without [DONE]".to_owned());
        }
        match self.finish_reason.as_deref() {
            Some("stop" | "length") => {}
            Some(other) => return Err(format!("finish_reason `{other}`")),
            None => return Err("no finish_reason".to_owned()),
        }
        let usage = self.usage.ok_or("no usage although include_usage was asked")?;
        if max_tokens.is_some_and(|most| usage.output > most) {
            return Err(format!("{} tokens made, {max_tokens:?} asked at most", usage.output));
        }
        if usage.cached > usage.prompt || u64::from(self.chunks) > usage.output {
            return Err(format!("usage does not fit: {usage:?}, {} chunks", self.chunks));
        }
        Ok(())
    }

    fn into_sample(self, model: usize, outcome: Outcome) -> Sample {
        Sample {
            model,
            outcome,
            ttft: self.first.map(|first| first.duration_since(self.started)),
            gaps: self.gaps,
            e2e: self.started.elapsed(),
            chunks: self.chunks,
            usage: self.usage,
            retry_after: self.retry_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
    const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}}"#;

    fn check(events: &[&str]) -> Result<Stream, String> {
        let mut stream = Stream::new(Instant::now());
        for event in events {
            stream.take(event)?;
        }
        stream.check_end(Some(2)).map(|()| stream)
    }

    #[test]
    fn a_whole_stream_is_accepted_and_counted() {
        let stream = check(&[TEXT, TEXT, END, USAGE, "[DONE]"]).unwrap();
        assert_eq!((stream.chunks, stream.gaps.len()), (2, 1));
        assert_eq!(stream.usage, Some(Usage { prompt: 5, cached: 3, output: 2 }));
        assert!(check(&[r#"{"choices":[{"text":"b","finish_reason":"stop"}]}"#, USAGE, "[DONE]"]).is_ok());
    }

    #[test]
    fn every_lack_is_a_violation() {
        for (events, says) in [
            (&[TEXT, END, USAGE][..], "without [DONE]"),
            (&[TEXT, USAGE, "[DONE]"], "no finish_reason"),
            (&[TEXT, END, "[DONE]"], "no usage"),
            (&[TEXT, TEXT, TEXT, END, USAGE, "[DONE]"], "does not fit"),
            (&[TEXT, END, USAGE, "[DONE]", TEXT], "after [DONE]"),
            (&["{"], "not JSON"),
            (&[r#"{"error":{"message":"boom"}}"#], "boom"),
            (&[r#"{"choices":[{"finish_reason":"error"}]}"#, USAGE, "[DONE]"], "`error`"),
        ] {
            let error = check(events).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
