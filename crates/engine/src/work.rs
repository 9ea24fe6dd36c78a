//! Machine time by request: how a step is shared, and what is kept of it until it is asked for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use inference::{MachineTime, RequestId, StepWork, Work};

/// Most requests kept apart between two calls of [`WorkLog::take`]; the time of further ones is nobody's.
const MAX_REQUESTS: usize = 100_000;

/// Splits `total` by `weights` into parts that add up to it: borders between parts are rounded down. Without any weight
/// all parts are alike.
pub(crate) fn split(total: u64, weights: &[f64]) -> Vec<u64> {
    let whole: f64 = weights.iter().sum();
    let alike = !(whole.is_finite() && whole > 0.0);
    let (mut before, mut sum) = (0, 0.0);
    let last = weights.len().saturating_sub(1);
    let part = |(i, weight): (usize, &f64)| {
        sum += if alike { 1.0 / weights.len() as f64 } else { weight / whole };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the total")]
        let border = if i == last { total } else { ((total as f64 * sum) as u64).clamp(before, total) };
        let part = border - before;
        before = border;
        part
    };
    weights.iter().enumerate().map(part).collect()
}

/// Written by the engine's thread, taken by whoever keeps the plant's accounts.
#[derive(Debug, Default)]
pub(crate) struct WorkLog(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Somebody asked.
    wanted: bool,
    step_since_ns: Option<u64>,
    first: Option<StepWork>,
    others: HashMap<RequestId, MachineTime>,
}

impl WorkLog {
    /// No change of what it holds can panic half way.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step with work in it begins.
    pub(crate) fn begin(&self, start_ns: u64) {
        self.lock().step_since_ns = Some(start_ns);
    }

    /// It has ended.
    pub(crate) fn end(&self, step: StepWork) {
        let mut kept = self.lock();
        kept.step_since_ns = None;
        if !kept.wanted || step.shares.is_empty() {
            return;
        }
        if kept.first.is_none() {
            kept.first = Some(step);
            return;
        }
        for (request, time) in step.shares {
            if kept.others.len() < MAX_REQUESTS || kept.others.contains_key(&request) {
                kept.others.entry(request).or_default().add(&time);
            }
        }
    }

    /// No step is under way.
    pub(crate) fn rest(&self) {
        self.lock().step_since_ns = None;
    }

    /// What was done since the last time.
    pub(crate) fn take(&self, now_ns: u64) -> Work {
        let mut kept = self.lock();
        kept.wanted = true;
        let others = std::mem::take(&mut kept.others).into_iter().collect();
        Work { now_ns, step_since_ns: kept.step_since_ns, first: kept.first.take(), others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        assert_eq!(split(10, &[1.0, 2.0, 1.0]), [2, 5, 3]);
        assert_eq!(split(10, &[0.0, 0.0]), [5, 5]);
        assert_eq!(split(7, &[f64::NAN, 1.0, 1.0]), [2, 2, 3]);
        assert_eq!(split(u64::MAX, &[1.0, 1e-30, 3.0]).iter().sum::<u64>(), u64::MAX);
        assert_eq!(split(5, &[]), [0; 0]);
        assert_eq!(split(9, &[0.0, 1.0, 0.0]), [0, 9, 0]);
    }

    #[test]
    fn work_is_kept_once_somebody_asks() {
        let log = WorkLog::default();
        let step = |start_ns, id, ns| StepWork {
            start_ns,
            end_ns: start_ns + ns,
            shares: vec![(RequestId(id), MachineTime([0, ns, 0, 0]))],
        };
        log.end(step(0, 1, 5));
        assert_eq!(log.take(9), Work { now_ns: 9, ..Work::default() });
        log.begin(10);
        assert_eq!(log.take(12).step_since_ns, Some(10));
        log.end(step(10, 1, 5));
        log.end(step(15, 1, 5));
        log.end(step(20, 1, 2));
        let work = log.take(30);
        assert_eq!((work.step_since_ns, work.first), (None, Some(step(10, 1, 5))));
        assert_eq!(work.others, [(RequestId(1), MachineTime([0, 7, 0, 0]))]);
        assert_eq!(log.take(31), Work { now_ns: 31, ..Work::default() });
    }
}
