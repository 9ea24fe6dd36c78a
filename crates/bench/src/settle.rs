//! After the last request: nothing may run, wait or hold a KV block.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::http::{HttpError, Target};

/// Gauges that must be zero at rest, under the names that vLLM gave them.
pub const GAUGES: [&str; 3] = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"];

/// How the server came to rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settled {
    /// The values of [`GAUGES`] at the last look.
    pub running: f64,
    /// See `running`.
    pub waiting: f64,
    /// Share of KV blocks that a sequence refers to; blocks kept only for the prefix cache do not count.
    pub kv_usage: f64,
    /// Seconds from the last request's end.
    pub seconds: f64,
}

impl Settled {
    /// Whether nothing is left.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.running == 0.0 && self.waiting == 0.0 && self.kv_usage == 0.0
    }
}

/// Why the gauges could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// No answer.
    #[error("/metrics: {0}")]
    Http(#[from] HttpError),
    /// Not 200.
    #[error("/metrics: status {0}")]
    Status(u16),
    /// A gauge is missing.
    #[error("/metrics has no {0}")]
    Missing(&'static str),
}

/// Reads /metrics until all gauges are zero, for at most `limit`; gives the last values either way.
///
/// # Errors
/// See [`SettleError`].
pub async fn wait(target: &Target, limit: Duration) -> Result<Settled, SettleError> {
    let started = Instant::now();
    loop {
        let mut response = target.get("/metrics").await?;
        if response.status.as_u16() != 200 {
            return Err(SettleError::Status(response.status.as_u16()));
        }
        let text = response.text().await?;
        let [running, waiting, kv_usage] = GAUGES.map(|name| sum_of(&text, name).ok_or(SettleError::Missing(name)));
        let settled = Settled {
            running: running?,
            waiting: waiting?,
            kv_usage: kv_usage?,
            seconds: started.elapsed().as_secs_f64(),
        };
        if settled.at_rest() || started.elapsed() >= limit {
            return Ok(settled);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sum of a metric over its labels in the Prometheus text format; `None` when it does not occur.
pub(crate) fn sum_of(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse().ok()
        })
        .reduce(|a: f64, b: f64| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE a gauge\na{model=\"x} y\"} 2\na{model=\"z\"} 1 1700000000\na_b 5\nc 4\n";
        assert_eq!(sum_of(text, "a"), Some(3.0));
        assert_eq!(sum_of(text, "c"), Some(4.0));
        assert_eq!(sum_of(text, "d"), None);
    }
}
