//! The load test itself: N clients take requests from one plan until it is empty, or requests arrive at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::args::{LoadArgs, MetricsCheck, RuleArgs};
use crate::http::{HttpError, Target};
use crate::memory::resident_bytes;
use crate::plan::Plan;
use crate::report::{Memory, Report};
use crate::request::{self, Sample};
use crate::settle;

/// Longest pause of a rejected client; a test need not wait as politely as a real client.
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// How often memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server could not be asked.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// Nobody listens there.
    #[error("{0}; start the server (tokenworks serve), or name where it listens with --url")]
    Unreachable(HttpError),
    /// `/v1/models` names no model.
    #[error("/v1/models names no model (status {0}); give one with --model")]
    NoModel(u16),
    /// The process is not there.
    #[error("--pid {0}: no such process, or the system does not tell its memory")]
    NoProcess(u32),
    /// A client ended in a panic.
    #[error("a client failed: {0}")]
    Client(#[from] tokio::task::JoinError),
}

/// Runs a load test to its end.
///
/// # Errors
/// When nothing could be measured; broken rules are in the report instead.
pub async fn run(args: LoadArgs) -> Result<Report, LoadError> {
    let target = Target::parse(&args.url, args.api_key.clone())?;
    let models = if args.models.is_empty() { vec![first_model(&target).await?] } else { args.models.clone() };
    let watch = args.rules.pid.map(MemoryWatch::start).transpose()?;
    let plan = Arc::new(Plan::new(&args.work, models.clone()));
    let started = Instant::now();
    let samples = match args.work.rate {
        Some(rate) => arrive(&args, rate.0, &target, &plan, watch.as_ref()).await?,
        None => drive(&args, &target, &plan, watch.as_ref()).await?,
    };
    let mut report = Report::new(&models, &samples, started.elapsed(), args.rules.slo);
    report.rate = args.work.rate.map(|rate| rate.0);
    report.clients = report.rate.is_none().then_some(args.work.clients);
    report.seed = args.work.seed;
    if args.rules.metrics == MetricsCheck::Required {
        match settle::wait(&target, Duration::from_secs(args.rules.settle)).await {
            Ok(settled) => {
                if !settled.at_rest() {
                    report.violations.push(format!("not at rest after {} s: {settled:?}", args.rules.settle));
                }
                report.settled = Some(settled);
            }
            Err(error) => report.violations.push(error.to_string()),
        }
    }
    if let Some(watch) = watch {
        judge_memory(&mut report, watch, &args.rules);
    }
    Ok(report)
}

pub(crate) async fn first_model(target: &Target) -> Result<String, LoadError> {
    let mut response = target.get("/v1/models").await.map_err(|error| match error {
        HttpError::Connect(..) => LoadError::Unreachable(error),
        other => LoadError::Http(other),
    })?;
    let models: serde_json::Value = serde_json::from_str(&response.text().await?).unwrap_or_default();
    let id = models["data"][0]["id"].as_str();
    id.map(str::to_owned).ok_or(LoadError::NoModel(response.status.as_u16()))
}

async fn drive(
    args: &LoadArgs,
    target: &Target,
    plan: &Arc<Plan>,
    watch: Option<&MemoryWatch>,
) -> Result<Vec<Sample>, LoadError> {
    let next = Arc::new(AtomicU32::new(0));
    let ended = Arc::new(AtomicU32::new(0));
    let (requests, timeout) = (args.work.requests, args.rules.timeout());
    let mut clients = JoinSet::new();
    for client in 0..args.work.clients.min(requests) {
        let (target, plan, next, ended) = (target.clone(), Arc::clone(plan), Arc::clone(&next), Arc::clone(&ended));
        let middle = watch.map(MemoryWatch::middle_marker);
        clients.spawn(async move {
            let mut samples = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= requests {
                    return samples;
                }
                if let Some(middle) = &middle
                    && index == requests / 2
                {
                    middle.mark();
                }
                let sample = request::run(&target, plan.path(), &plan.request(index, client), timeout).await;
                if let request::Outcome::Rejected(_) = sample.outcome {
                    tokio::time::sleep(sample.retry_after.unwrap_or(MAX_PAUSE).min(MAX_PAUSE)).await;
                }
                samples.push(sample);
                if let Some(middle) = &middle
                    && ended.fetch_add(1, Ordering::Relaxed) == requests / 2
                {
                    middle.mark();
                }
            }
        });
    }
    let mut all = Vec::new();
    while let Some(samples) = clients.join_next().await {
        all.extend(samples?);
    }
    Ok(all)
}

/// Open loop: a request is sent when it arrives, whatever became of those before. Nobody waits after a 429: the next
/// arrival is another client.
async fn arrive(
    args: &LoadArgs,
    rate: f64,
    target: &Target,
    plan: &Arc<Plan>,
    watch: Option<&MemoryWatch>,
) -> Result<Vec<Sample>, LoadError> {
    let (most, timeout) = (args.work.max_in_flight as usize, args.rules.timeout());
    let started = tokio::time::Instant::now();
    let mut in_flight = JoinSet::new();
    let mut all = Vec::new();
    for (index, arrival) in (0..args.work.requests).zip(plan.arrivals(rate)) {
        tokio::time::sleep_until(started + arrival).await;
        while let Some(sample) = in_flight.try_join_next() {
            all.push(sample?);
        }
        if let Some(watch) = watch
            && index == args.work.requests / 2
        {
            watch.middle_marker().mark();
        }
        if in_flight.len() >= most {
            all.push(Sample::dropped(plan.request(index, index).model));
            continue;
        }
        let (target, plan) = (target.clone(), Arc::clone(plan));
        in_flight.spawn(async move { request::run(&target, plan.path(), &plan.request(index, index), timeout).await });
    }
    while let Some(sample) = in_flight.join_next().await {
        all.push(sample?);
    }
    Ok(all)
}

fn judge_memory(report: &mut Report, watch: MemoryWatch, rules: &RuleArgs) {
    let Some(memory) = watch.stop() else {
        report.violations.push("the watched process is gone".to_owned());
        return;
    };
    if rules.rss_limit.is_some_and(|limit| memory.peak > limit << 20) {
        report.violations.push(format!("resident memory reached {} MiB", memory.peak >> 20));
    }
    let growth = memory.after.saturating_sub(memory.middle);
    if rules.rss_growth_limit.is_some_and(|limit| growth > limit << 20) {
        report.violations.push(format!("resident memory grew by {} MiB in the second half", growth >> 20));
    }
    report.memory = Some(memory);
}

/// Looks at a process's memory all the time.
struct MemoryWatch {
    pid: u32,
    before: u64,
    middle: Arc<AtomicU64>,
    peak: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// Notes the memory in the middle of the run.
struct MiddleMarker {
    pid: u32,
    middle: Arc<AtomicU64>,
}

impl MiddleMarker {
    fn mark(&self) {
        self.middle.store(resident_bytes(self.pid).unwrap_or(0), Ordering::Relaxed);
    }
}

impl MemoryWatch {
    fn start(pid: u32) -> Result<Self, LoadError> {
        let before = resident_bytes(pid).ok_or(LoadError::NoProcess(pid))?;
        let peak = Arc::new(AtomicU64::new(before));
        let seen = Arc::clone(&peak);
        let task = tokio::spawn(async move {
            while let Some(bytes) = resident_bytes(pid) {
                seen.fetch_max(bytes, Ordering::Relaxed);
                tokio::time::sleep(MEMORY_INTERVAL).await;
            }
        });
        Ok(Self { pid, before, middle: Arc::default(), peak, task })
    }

    fn middle_marker(&self) -> MiddleMarker {
        MiddleMarker { pid: self.pid, middle: Arc::clone(&self.middle) }
    }

    fn stop(self) -> Option<Memory> {
        self.task.abort();
        let after = resident_bytes(self.pid)?;
        let peak = self.peak.load(Ordering::Relaxed).max(after);
        Some(Memory { before: self.before, middle: self.middle.load(Ordering::Relaxed), after, peak })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::args::{Cli, Command};

    const EVENTS: &str = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}]}\n\n\
                          data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n\
                          data: [DONE]\n\n";

    /// Answers each request with a whole stream, half a second after it came.
    async fn slow_server() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                    stream.write_all(format!("{head}{EVENTS}").as_bytes()).await.unwrap();
                });
            }
        });
        url
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{free}");
        let cli = Cli::try_parse_from(["tokenworks-bench", "serve-load", "--url", &url]).unwrap();
        let Command::ServeLoad(args) = cli.command else { panic!("another command") };
        let error = runtime.block_on(run(*args)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot connect to {url}: ")) && error.contains("with --url"), "{error}");
    }

    #[test]
    fn arrivals_wait_for_nobody_and_too_many_are_dropped() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let report = runtime.block_on(async {
            let url = slow_server().await;
            let words = ["tokenworks-bench", "serve-load", "--url", &url, "--model", "m", "--rate", "1000"];
            let more = ["--requests", "20", "--max-in-flight", "3", "--disconnect", "0", "--metrics", "off"];
            let cli = Cli::try_parse_from([&words[..], &more].concat()).unwrap();
            let Command::ServeLoad(args) = cli.command else { panic!("another command") };
            run(*args).await.unwrap()
        });
        assert_eq!((report.rate, report.clients), (Some(1000.0), None));
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        // Three are in flight before the first answer can come.
        assert!(report.outcomes.completed >= 3 && report.outcomes.dropped > 0, "{:?}", report.outcomes);
        assert_eq!(report.outcomes.completed + report.outcomes.dropped, 20);
    }
}
