//! One of the two servers: its start, its answers, and what it counts.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::SpeculationError;
use super::args::SpeculationArgs;
use super::figures::{Answer, Columns};
use super::prompts::Kind;
use crate::http::Target;
use crate::load;
use crate::process::{Invocation, Running};
use crate::settle::sum_of;

const PATH: &str = "/v1/chat/completions";
/// How long a server may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How often a starting server is asked.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// A server at work, with a data folder that goes with it.
pub(super) struct Server {
    setting: &'static str,
    running: Option<Running>,
    target: Target,
    model: String,
    data: PathBuf,
    max_tokens: u32,
    timeout: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl Server {
    /// Starts a server with this value of `engine.speculation`, and waits until it knows its model.
    pub(super) async fn start(
        setting: &'static str,
        program: &Path,
        model: &Path,
        logs: &Path,
        args: &SpeculationArgs,
    ) -> Result<Self, SpeculationError> {
        let error = |text: String| SpeculationError::Server(setting, text);
        let port = free_port().map_err(|e| error(format!("no free port: {e}")))?;
        let data = std::env::temp_dir().join(format!("tokenworks-speculation-{}-{setting}", std::process::id()));
        let target = Target::parse(&format!("http://127.0.0.1:{port}"), None).map_err(|e| error(e.to_string()))?;
        let words = [
            "serve",
            &model.to_string_lossy(),
            "--port",
            &port.to_string(),
            "--threads",
            &args.threads.to_string(),
            "--data-dir",
            &data.to_string_lossy(),
            "--log-level",
            "warn",
        ]
        .map(str::to_owned);
        let run = Invocation {
            program: program.to_owned(),
            arguments: words.to_vec(),
            environment: vec![("TOKENWORKS_ENGINE_SPECULATION", setting.to_owned())],
            log: logs.join(format!("serve-{setting}")),
        };
        let (max_tokens, timeout) = (args.max_tokens, args.timeout());
        let running = Some(run.start().map_err(error)?);
        let mut server = Self { setting, running, target, model: String::new(), data, max_tokens, timeout };
        let started = Instant::now();
        loop {
            if let Ok(name) = load::first_model(&server.target).await {
                server.model = name;
                return Ok(server);
            }
            server.running.as_mut().map_or(Ok(()), Running::check).map_err(error)?;
            if started.elapsed() > READY_LIMIT {
                return Err(error(format!("no answer within {} s", READY_LIMIT.as_secs())));
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// Asks a question and waits for the whole answer.
    pub(super) async fn ask(&mut self, kind: Kind, index: u32) -> Result<Answer, SpeculationError> {
        let body = kind.body(index, &self.model, self.max_tokens).to_string();
        let started = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.exchange(body)).await;
        let seconds = started.elapsed().as_secs_f64();
        let answer = answer.unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", self.timeout.as_secs())));
        match answer.and_then(|reply| read(&reply)) {
            Ok((text, tokens)) => Ok(Answer { text, tokens, seconds }),
            Err(error) => {
                // That it died says more than that it does not answer.
                let died = self.running.as_mut().and_then(|running| running.check().err());
                Err(SpeculationError::Server(self.setting, died.unwrap_or(error)))
            }
        }
    }

    async fn exchange(&self, body: String) -> Result<String, String> {
        let mut response = self.target.post(PATH, body).await.map_err(|e| e.to_string())?;
        let text = response.text().await.map_err(|e| e.to_string())?;
        match response.status.as_u16() {
            200 => Ok(text),
            code => Err(format!("status {code}: {}", text.chars().take(300).collect::<String>())),
        }
    }

    /// What it has counted so far.
    pub(super) async fn columns(&self) -> Result<Columns, SpeculationError> {
        let read = async {
            let mut response = self.target.get("/metrics").await.map_err(|e| e.to_string())?;
            let text = response.text().await.map_err(|e| e.to_string())?;
            let value = |name| sum_of(&text, name).ok_or_else(|| format!("/metrics has no {name}"));
            Ok(Columns {
                decode: value("tokenworks_decode_columns_total")?,
                accepted: value("tokenworks_draft_accepted_tokens_total")?,
                rejected: value("tokenworks_draft_rejected_tokens_total")?,
            })
        };
        read.await.map_err(|error: String| SpeculationError::Server(self.setting, error))
    }
}

/// What the program says of its version.
pub(super) fn version(program: &Path, logs: &Path, timeout: Duration) -> Result<String, String> {
    let run = Invocation {
        program: program.to_owned(),
        arguments: vec!["--version".to_owned()],
        environment: Vec::new(),
        log: logs.join("version"),
    };
    run.run(timeout).map(|(out, _)| out.trim().to_owned())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Text and number of tokens of an answer.
fn read(reply: &str) -> Result<(String, u64), String> {
    let reply: Value = serde_json::from_str(reply).map_err(|e| format!("the answer is not JSON: {e}"))?;
    let text = reply["choices"][0]["message"]["content"].as_str().ok_or("the answer has no text")?;
    let tokens = reply["usage"]["completion_tokens"].as_u64().ok_or("the answer has no usage")?;
    Ok((text.to_owned(), tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let reply = r#"{"choices":[{"message":{"content":"a"}}],"usage":{"completion_tokens":2}}"#;
        assert_eq!(read(reply), Ok(("a".to_owned(), 2)));
        assert!(read("{}").unwrap_err().contains("no text"));
        assert!(read(r#"{"choices":[{"message":{"content":"a"}}]}"#).unwrap_err().contains("no usage"));
        assert!(read("<").unwrap_err().contains("not JSON"));
    }
}
