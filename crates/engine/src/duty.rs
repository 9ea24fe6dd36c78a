//! For how much of the time the plant computes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Longest time to the next step, in nanoseconds: a step so slow that it would have to be followed by more (a machine that
/// swaps, a process that was stopped) is forgiven what is beyond. At a limit of 50 that is one of more than 3 s, at 300 of 25 s.
const MAX_REST_NS: u64 = 60_000_000_000;

/// The share of time in which the engines that hold it may compute, all together, in thousandths. Clones share it; it may be
/// changed while they run.
///
/// Each nanosecond of a step is a debt, and each nanosecond that passes pays `permille / 1000` of one. No step begins before
/// the debt is paid, so whatever the lengths of the steps, and however many engines take part, the busy time of a long while
/// is that share of it; it is ahead by one step of each engine at most. The account is one for all, and not part of the
/// compute threads' reservation: an engine that rested with the reservation in its hands would keep the others from noticing
/// that a request was cancelled or that they are to end.
///
/// Meant for engines that take turns on the same compute threads: where several compute at once, their times add up.
#[derive(Clone, Debug)]
pub struct DutyLimit(Arc<Account>);

#[derive(Debug)]
struct Account {
    /// Where all engines' clocks start, since they write into one account.
    epoch: Instant,
    permille: AtomicU32,
    debt: Mutex<Debt>,
}

/// What is owed, in thousandths of a nanosecond of busy time, and until when it is paid.
#[derive(Debug, Default)]
struct Debt {
    owed: u64,
    paid_ns: u64,
}

impl Debt {
    fn pay(&mut self, permille: u32, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.paid_ns);
        self.owed = self.owed.saturating_sub(passed_ns.saturating_mul(u64::from(permille)));
        self.paid_ns = self.paid_ns.max(now_ns);
    }
}

impl Default for DutyLimit {
    fn default() -> Self {
        Self::new(Self::NO_LIMIT)
    }
}

impl DutyLimit {
    /// Thousandths that are all of the time: nothing ever rests.
    pub const NO_LIMIT: u32 = 1000;

    /// A limit of so many thousandths of the time; see [`set`](Self::set).
    #[must_use]
    pub fn new(permille: u32) -> Self {
        let account = Account { epoch: Instant::now(), permille: AtomicU32::default(), debt: Mutex::default() };
        let limit = Self(Arc::new(account));
        limit.set(permille);
        limit
    }

    /// Changes the limit. Less than 1 counts as 1, more than [`NO_LIMIT`](Self::NO_LIMIT) as that. Engines that rest take note
    /// at once, or nearly so.
    pub fn set(&self, permille: u32) {
        self.0.permille.store(permille.clamp(1, Self::NO_LIMIT), Ordering::Relaxed);
    }

    /// The limit, from 1 to 1000.
    #[must_use]
    pub fn permille(&self) -> u32 {
        self.0.permille.load(Ordering::Relaxed)
    }

    /// Where the clocks of all engines start.
    pub(crate) fn epoch(&self) -> Instant {
        self.0.epoch
    }

    /// How long there may be no step from `now_ns` on; 0: it may begin.
    pub(crate) fn rest_ns(&self, now_ns: u64) -> u64 {
        let permille = self.permille();
        if permille == Self::NO_LIMIT {
            return 0;
        }
        let mut debt = self.debt();
        debt.pay(permille, now_ns);
        debt.owed.div_ceil(u64::from(permille)).min(MAX_REST_NS)
    }

    /// A step of `busy_ns` began at `start_ns`.
    pub(crate) fn charge(&self, start_ns: u64, busy_ns: u64) {
        let permille = self.permille();
        let mut debt = self.debt();
        if permille == Self::NO_LIMIT {
            *debt = Debt::default();
            return;
        }
        // What passed before it pays for what was before it only.
        debt.pay(permille, start_ns);
        debt.owed = debt.owed.saturating_add(busy_ns.saturating_mul(u64::from(Self::NO_LIMIT)));
        debt.pay(permille, start_ns.saturating_add(busy_ns));
        debt.owed = debt.owed.min(MAX_REST_NS * u64::from(permille));
    }

    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.0.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_from_the_step_and_the_share() {
        for (permille, rest) in [(1000, 0), (999, 2), (500, 1000), (250, 3000), (50, 19_000), (1, 999_000)] {
            let limit = DutyLimit::new(permille);
            assert_eq!(limit.rest_ns(77), 0, "nothing was done yet");
            limit.charge(77, 1000);
            assert_eq!(limit.rest_ns(1077), rest, "{permille}");
            assert_eq!(limit.rest_ns(1077 + rest), 0);
        }
        assert_eq!(DutyLimit::new(0).permille(), 1);
        assert_eq!(DutyLimit::new(5000).permille(), 1000);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let limit = DutyLimit::new(500);
        limit.charge(1_000_000, 1000);
        assert_eq!(limit.rest_ns(1_001_000), 1000);
    }

    #[test]
    fn steps_of_several_engines_add_up() {
        for (order, rest) in [([(0, 1000), (1000, 500)], 1500), ([(0, 1000), (0, 1000)], 2500)] {
            let limit = DutyLimit::new(500);
            order.into_iter().for_each(|(start, busy)| limit.charge(start, busy));
            assert_eq!(limit.rest_ns(1500), rest, "one after the other, and both at once");
        }
        let limit = DutyLimit::new(500);
        [(1000, 500), (0, 1000)].into_iter().for_each(|(start, busy)| limit.charge(start, busy));
        assert!(limit.rest_ns(1500) >= 1500, "told late, it may take longer, never less");
    }

    #[test]
    fn a_stalled_step_does_not_stop_the_plant_for_long() {
        let limit = DutyLimit::new(50);
        let day_ns = 86_400_000_000_000;
        limit.charge(0, day_ns);
        assert_eq!(limit.rest_ns(day_ns), MAX_REST_NS);
    }

    #[test]
    fn a_change_counts_at_once() {
        let limit = DutyLimit::new(50);
        limit.charge(0, 1000);
        assert_eq!(limit.rest_ns(1000), 19_000);
        limit.clone().set(500);
        assert_eq!(limit.rest_ns(1000), 1900);
        limit.set(DutyLimit::NO_LIMIT);
        assert_eq!(limit.rest_ns(1000), 0);
        limit.charge(1000, 1000);
        limit.set(50);
        assert_eq!(limit.rest_ns(2000), 0, "what was done without a limit is not made up for");
    }
}
