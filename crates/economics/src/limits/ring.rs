//! One count over the last minute, by seconds.

/// A minute and the second that is partly in it.
pub(super) const SLOTS: usize = 61;
const SPAN_S: i64 = 61;

/// Where something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    second: i64,
    epoch: u32,
}

pub(super) struct Ring {
    counts: [u64; SLOTS],
    newest: i64,
    /// Counts up when the clock was set back and old marks lost their meaning.
    epoch: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Self { counts: [0; SLOTS], newest: i64::MIN, epoch: 0 }
    }
}

impl Ring {
    fn slot(&mut self, second: i64) -> &mut u64 {
        // The rest is below SLOTS, so the fallback is never taken.
        let index = usize::try_from(second.rem_euclid(SPAN_S)).unwrap_or(0) % SLOTS;
        &mut self.counts[index]
    }

    /// Moves to the time `now_ms`. A clock set back a little stays at the newest second; one set back by more than a
    /// minute takes the whole count with it, so that the limit holds and is free again after a minute.
    fn advance(&mut self, now_ms: i64) {
        let now = now_ms.div_euclid(1_000);
        if now >= self.newest {
            if now.saturating_sub(self.newest) >= SPAN_S {
                self.counts = [0; SLOTS];
            } else {
                for second in self.newest + 1..=now {
                    *self.slot(second) = 0;
                }
            }
            self.newest = now;
        } else if self.newest.saturating_sub(now) >= SPAN_S {
            let sum = self.total();
            self.counts = [0; SLOTS];
            *self.slot(now) = sum;
            self.newest = now;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn sum(&mut self, now_ms: i64) -> u64 {
        self.advance(now_ms);
        self.total()
    }

    pub(super) fn add(&mut self, now_ms: i64, count: u64) -> Mark {
        self.advance(now_ms);
        let second = self.newest;
        let slot = self.slot(second);
        *slot = slot.saturating_add(count);
        Mark { second, epoch: self.epoch }
    }

    /// Takes back `count`, counted at `mark`, if that second still counts.
    pub(super) fn take_back(&mut self, mark: Mark, count: u64) {
        if mark.epoch == self.epoch && self.newest.saturating_sub(mark.second) < SPAN_S {
            let slot = self.slot(mark.second);
            *slot = slot.saturating_sub(count);
        }
    }

    /// Milliseconds until the count is at most `most`; `None` when it is now.
    pub(super) fn wait_until(&mut self, now_ms: i64, most: u64) -> Option<u64> {
        let mut sum = self.sum(now_ms);
        let (newest, mut wait) = (self.newest, None);
        for second in newest.saturating_sub(SPAN_S - 1)..=newest {
            if sum <= most {
                break;
            }
            let count = *self.slot(second);
            if count > 0 {
                sum -= count;
                let free_ms = second.saturating_add(SPAN_S).saturating_mul(1_000);
                wait = u64::try_from(free_ms.saturating_sub(now_ms)).ok();
            }
        }
        wait
    }
}
