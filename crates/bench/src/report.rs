//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::args::Slo;
use crate::request::{Outcome, Sample};
use crate::settle::Settled;

/// Most different violations listed; the rest are counted.
const MAX_LISTED: usize = 20;

/// Result of a load test. Times in seconds, memory in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The models asked.
    pub models: Vec<String>,
    /// Clients at work at the same time; none when requests arrived at a rate.
    pub clients: Option<u32>,
    /// Requests that arrived in a second, when they did so on their own.
    pub rate: Option<f64>,
    /// Seed of the plan.
    pub seed: u64,
    /// Length of the run.
    pub wall_seconds: f64,
    /// How requests ended.
    pub outcomes: Outcomes,
    /// Tokens of completed requests, as the server counted them.
    pub tokens: Tokens,
    /// Tokens made for completed requests over the length of the run. What abandoned requests cost is not in it.
    pub output_tokens_per_second: f64,
    /// The same of each model, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_model: Vec<OfModel>,
    /// From sending to the first chunk with text; completed requests.
    pub ttft: Option<Percentiles>,
    /// Between successive chunks with text; completed requests.
    pub itl: Option<Percentiles>,
    /// The longest time between two chunks of any stream, finished or not, in seconds.
    pub worst_gap: Option<f64>,
    /// From sending to the end; completed requests.
    pub e2e: Option<Percentiles>,
    /// Requests that kept the objective, when there is one.
    pub goodput: Option<Goodput>,
    /// The server at rest after the run, when it was looked at.
    pub settled: Option<Settled>,
    /// Resident memory, when a process was watched.
    pub memory: Option<Memory>,
    /// Every broken rule; empty = passed.
    pub violations: Vec<String>,
}

/// What one of several models did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfModel {
    /// Its name.
    pub model: String,
    /// Requests with 200 and a whole stream.
    pub completed: u32,
    /// Tokens made for these over the length of the run.
    pub output_tokens_per_second: f64,
    /// As in the [`Report`].
    pub ttft: Option<Percentiles>,
    /// As in the [`Report`].
    pub itl: Option<Percentiles>,
    /// As in the [`Report`].
    pub worst_gap: Option<f64>,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// 200 and a whole stream.
    pub completed: u32,
    /// Hung up by the client, as planned.
    pub closed_by_client: u32,
    /// 429.
    pub rejected_429: u32,
    /// 503.
    pub rejected_503: u32,
    /// Not sent: as many were in flight as may be (arrivals only).
    pub dropped: u32,
    /// Anything else.
    pub violations: u32,
}

/// Tokens of completed requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Prompts, cached ones included.
    pub prompt: u64,
    /// Of these, from the prefix cache.
    pub cached: u64,
    /// Made.
    pub output: u64,
}

/// Distribution of a time, in seconds (nearest rank).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 of 100 are not above.
    pub p90: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Requests that kept the objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goodput {
    /// The objective.
    pub slo: Slo,
    /// Completed requests within it.
    pub requests: u32,
    /// These per second of the run.
    pub requests_per_second: f64,
    /// Their share of all requests that the client did not abandon.
    pub share: f64,
}

/// Resident memory of the watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Before the first request.
    pub before: u64,
    /// When half of the requests had ended.
    pub middle: u64,
    /// At rest after the run.
    pub after: u64,
    /// The most seen.
    pub peak: u64,
}

impl Report {
    /// Sums up the samples of a run that took `wall`.
    #[must_use]
    pub fn new(models: &[String], samples: &[Sample], wall: Duration, slo: Option<Slo>) -> Self {
        let mut report = Self::of(samples, wall, slo);
        report.models = models.to_vec();
        if models.len() > 1 {
            report.by_model =
                models.iter().enumerate().map(|(i, model)| OfModel::new(model, i, samples, wall)).collect();
        }
        report
    }

    fn of(samples: &[Sample], wall: Duration, slo: Option<Slo>) -> Self {
        let completed: Vec<&Sample> = samples.iter().filter(|s| s.outcome == Outcome::Completed).collect();
        let tokens = completed.iter().filter_map(|s| s.usage).fold(Tokens::default(), |sum, usage| Tokens {
            prompt: sum.prompt + usage.prompt,
            cached: sum.cached + usage.cached,
            output: sum.output + usage.output,
        });
        let wall_seconds = wall.as_secs_f64();
        Self {
            models: Vec::new(),
            clients: None,
            rate: None,
            seed: 0,
            wall_seconds,
            outcomes: count_outcomes(samples),
            tokens,
            output_tokens_per_second: rate(tokens.output, wall_seconds),
            by_model: Vec::new(),
            ttft: Percentiles::of(completed.iter().filter_map(|s| s.ttft)),
            itl: Percentiles::of(completed.iter().flat_map(|s| s.gaps.iter().copied())),
            worst_gap: samples.iter().flat_map(|s| s.gaps.iter()).max().map(Duration::as_secs_f64),
            e2e: Percentiles::of(completed.iter().map(|s| s.e2e)),
            goodput: slo.map(|slo| goodput(samples, slo, wall_seconds)),
            settled: None,
            memory: None,
            violations: list_violations(samples),
        }
    }

    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
    }

    /// As a few lines to read.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let Outcomes { completed, closed_by_client, rejected_429, rejected_503, dropped, violations } = self.outcomes;
        let load = match (self.rate, self.clients) {
            (Some(rate), _) => format!("{rate} requests/s"),
            (None, clients) => format!("{} clients", clients.unwrap_or_default()),
        };
        let _ = writeln!(out, "{}, {load}, seed {}, {:.1} s", self.models.join(", "), self.seed, self.wall_seconds);
        let _ = write!(
            out,
            "outcomes   {completed} completed, {closed_by_client} closed by the client, {rejected_429} x 429, {rejected_503} x 503, "
        );
        if self.rate.is_some() {
            let _ = write!(out, "{dropped} dropped, ");
        }
        let _ = writeln!(out, "{violations} illegal");
        let Tokens { prompt, cached, output } = self.tokens;
        let _ = writeln!(
            out,
            "tokens     {prompt} prompt ({cached} cached), {output} made: {:.1}/s",
            self.output_tokens_per_second
        );
        for of in &self.by_model {
            let [ttft, itl] = [of.ttft, of.itl].map(|value| value.map_or([0.0; 2], |value| [value.p50, value.p99]));
            let _ = writeln!(
                out,
                "  {}: {} completed, {:.1} tokens/s, TTFT p50 {:.3}  p99 {:.3}, ITL p50 {:.3}  p99 {:.3}, worst gap {:.3} s",
                of.model,
                of.completed,
                of.output_tokens_per_second,
                ttft[0],
                ttft[1],
                itl[0],
                itl[1],
                of.worst_gap.unwrap_or_default()
            );
        }
        for (name, value) in [("TTFT", self.ttft), ("ITL", self.itl), ("E2E", self.e2e)] {
            if let Some(Percentiles { mean, p50, p90, p99, max, .. }) = value {
                let _ = writeln!(
                    out,
                    "{name:<10} mean {mean:.3}  p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  max {max:.3} s"
                );
            }
        }
        if let Some(gap) = self.worst_gap {
            let _ = writeln!(out, "worst gap  {gap:.3} s");
        }
        if let Some(good) = self.goodput {
            let _ = writeln!(
                out,
                "goodput    {} requests, {:.2}/s, {:.1} %",
                good.requests,
                good.requests_per_second,
                good.share * 100.0
            );
        }
        if let Some(Settled { running, waiting, kv_usage, seconds }) = self.settled {
            let _ = writeln!(
                out,
                "at rest    running {running}, waiting {waiting}, KV usage {kv_usage} after {seconds:.2} s"
            );
        }
        if let Some(memory) = self.memory {
            let [before, middle, after, peak] =
                [memory.before, memory.middle, memory.after, memory.peak].map(|bytes| bytes >> 20);
            let _ = writeln!(out, "memory     {before} MiB before, {middle} middle, {after} after, {peak} peak");
        }
        for violation in &self.violations {
            let _ = writeln!(out, "VIOLATION  {violation}");
        }
        out.push_str(if self.violations.is_empty() { "passed" } else { "FAILED" });
        out
    }
}

impl OfModel {
    fn new(model: &str, number: usize, samples: &[Sample], wall: Duration) -> Self {
        let own: Vec<Sample> = samples.iter().filter(|sample| sample.model == number).cloned().collect();
        let Report { outcomes, output_tokens_per_second, ttft, itl, worst_gap, .. } = Report::of(&own, wall, None);
        Self { model: model.to_owned(), completed: outcomes.completed, output_tokens_per_second, ttft, itl, worst_gap }
    }
}

impl Percentiles {
    /// `None` when there are no values.
    #[must_use]
    pub fn of(values: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut seconds: Vec<f64> = values.map(|value| value.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let count = seconds.len();
        let max = *seconds.last()?;
        let rank = |hundredths: usize| seconds[(count * hundredths).div_ceil(100).max(1) - 1];
        let mean = seconds.iter().sum::<f64>() / as_f64(count as u64);
        Some(Self { count, mean, p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

fn count_outcomes(samples: &[Sample]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for sample in samples {
        let place = match sample.outcome {
            Outcome::Completed => &mut outcomes.completed,
            Outcome::ClosedByClient => &mut outcomes.closed_by_client,
            Outcome::Rejected(429) => &mut outcomes.rejected_429,
            Outcome::Rejected(_) => &mut outcomes.rejected_503,
            Outcome::Dropped => &mut outcomes.dropped,
            Outcome::Violation(_) => &mut outcomes.violations,
        };
        *place += 1;
    }
    outcomes
}

fn list_violations(samples: &[Sample]) -> Vec<String> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for sample in samples {
        if let Outcome::Violation(what) = &sample.outcome {
            *counts.entry(what).or_default() += 1;
        }
    }
    let rest = counts.len().saturating_sub(MAX_LISTED);
    let mut list: Vec<String> = counts.iter().take(MAX_LISTED).map(|(what, n)| format!("{n} x {what}")).collect();
    if rest > 0 {
        list.push(format!("{rest} more kinds"));
    }
    list
}

fn goodput(samples: &[Sample], slo: Slo, wall_seconds: f64) -> Goodput {
    let within = |value: Option<f64>, limit: Option<f64>| match (value, limit) {
        (Some(value), Some(limit)) => value <= limit,
        (None, Some(_)) => false,
        (_, None) => true,
    };
    let kept = |sample: &&Sample| {
        let tokens_after_first = sample.usage.map_or(0, |usage| usage.output.saturating_sub(1));
        let decode = sample.gaps.iter().sum::<Duration>().as_secs_f64();
        sample.outcome == Outcome::Completed
            && within(sample.ttft.map(|ttft| ttft.as_secs_f64()), slo.ttft)
            && within(Some(decode / as_f64(tokens_after_first.max(1))), slo.tpot)
            && within(Some(sample.e2e.as_secs_f64()), slo.e2e)
    };
    let requests = samples.iter().filter(kept).count() as u64;
    let asked = samples.iter().filter(|s| s.outcome != Outcome::ClosedByClient).count() as u64;
    Goodput {
        slo,
        requests: u32::try_from(requests).unwrap_or(u32::MAX),
        requests_per_second: rate(requests, wall_seconds),
        share: rate(requests, as_f64(asked)),
    }
}

/// `count` per `unit`; 0 when there is nothing to divide by.
fn rate(count: u64, unit: f64) -> f64 {
    if unit > 0.0 { as_f64(count) / unit } else { 0.0 }
}

/// Exact for every count a run can reach.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Usage;

    fn sample(outcome: Outcome, ttft_ms: u64, gap_ms: u64) -> Sample {
        Sample {
            model: 0,
            outcome,
            ttft: Some(Duration::from_millis(ttft_ms)),
            gaps: vec![Duration::from_millis(gap_ms); 4],
            e2e: Duration::from_millis(ttft_ms + 4 * gap_ms),
            chunks: 5,
            usage: Some(Usage { prompt: 10, cached: 4, output: 5 }),
            retry_after: None,
        }
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let p = Percentiles::of((1..=100).map(Duration::from_secs)).unwrap();
        assert_eq!((p.p50, p.p90, p.p99, p.max, p.mean, p.count), (50.0, 90.0, 99.0, 100.0, 50.5, 100));
        let p = Percentiles::of([Duration::from_secs(3)].into_iter()).unwrap();
        assert_eq!((p.p50, p.p99), (3.0, 3.0));
        assert_eq!(Percentiles::of(std::iter::empty()), None);
    }

    #[test]
    fn a_report_adds_up() {
        let samples = [
            sample(Outcome::Completed, 100, 10),
            sample(Outcome::Completed, 3000, 10),
            sample(Outcome::ClosedByClient, 1, 1),
            sample(Outcome::Rejected(429), 1, 1),
            sample(Outcome::Rejected(503), 1, 1),
            Sample::dropped(0),
            sample(Outcome::Violation("status 500".to_owned()), 1, 40),
            sample(Outcome::Violation("status 500".to_owned()), 1, 1),
        ];
        let slo = Slo { ttft: Some(1.0), tpot: Some(0.02), e2e: None };
        let report = Report::new(&["m".to_owned()], &samples, Duration::from_secs(2), Some(slo));
        let expected =
            Outcomes { completed: 2, closed_by_client: 1, rejected_429: 1, rejected_503: 1, dropped: 1, violations: 2 };
        assert_eq!(report.outcomes, expected);
        assert_eq!(report.tokens, Tokens { prompt: 20, cached: 8, output: 10 });
        assert!((report.output_tokens_per_second - 5.0).abs() < 1e-9);
        assert_eq!(report.violations, ["2 x status 500"]);
        let goodput = report.goodput.unwrap();
        assert_eq!(goodput.requests, 1);
        assert!((goodput.share - 1.0 / 7.0).abs() < 1e-9);
        assert_eq!(report.worst_gap, Some(0.04), "of streams that did not complete, too");
        assert!(report.by_model.is_empty() && report.to_text().ends_with("FAILED"));
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["outcomes"]["completed"], 2);
    }

    #[test]
    fn models_have_their_own_figures() {
        let of = |model, ttft_ms| Sample { model, ..sample(Outcome::Completed, ttft_ms, 10) };
        let samples = [of(0, 100), of(1, 300), of(1, 300), Sample { model: 1, ..sample(Outcome::Rejected(429), 1, 1) }];
        let report = Report::new(&["a".to_owned(), "b".to_owned()], &samples, Duration::from_secs(1), None);
        let [a, b] = &report.by_model[..] else { panic!("{report:?}") };
        assert_eq!((a.model.as_str(), a.completed, b.model.as_str(), b.completed), ("a", 1, "b", 2));
        assert_eq!((a.ttft.unwrap().p99, b.ttft.unwrap().p50), (0.1, 0.3));
        assert!((a.output_tokens_per_second - 5.0).abs() < 1e-9 && (b.output_tokens_per_second - 10.0).abs() < 1e-9);
        assert!(report.to_text().contains("\n  b: 2 completed, 10.0 tokens/s, TTFT p50 0.300"), "{}", report.to_text());
    }

    #[test]
    fn a_slow_decode_misses_the_objective() {
        let slo = Slo { ttft: None, tpot: Some(0.02), e2e: None };
        let report = Report::new(&[], &[sample(Outcome::Completed, 1, 30)], Duration::from_secs(1), Some(slo));
        assert_eq!(report.goodput.unwrap().requests, 0);
    }
}
