//! How many tokens a request may make, decided outside the engine and changed while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug)]
struct State {
    left: AtomicU64,
    closed: AtomicBool,
}

/// Tokens that the candidates of one request may still make, all together. Whoever pays grants more in time; the
/// engine takes one for each token it makes, and lets a sequence wait (not for ever) while there is none. Cloning
/// shares the count.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<State>);

impl Allowance {
    /// An allowance of `tokens`, to which more may be granted.
    #[must_use]
    pub fn new(tokens: u64) -> Self {
        Self(Arc::new(State { left: AtomicU64::new(tokens), closed: AtomicBool::new(false) }))
    }

    /// Adds tokens. Nothing may be granted after [`close`](Self::close).
    pub fn grant(&self, tokens: u64) {
        // The sum of all grants is bounded by what a request may make at most, far below the type's end.
        self.0.left.fetch_add(tokens, Ordering::AcqRel);
    }

    /// Says that no more will be granted: the request ends with the last token left.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Tokens left now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.left.load(Ordering::Acquire)
    }

    /// Whether no more will be granted.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Whether nothing is left and nothing will come.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        // In this order: a grant before the close is seen with it.
        self.is_closed() && self.left() == 0
    }

    /// Takes one token, if there is one.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_can_be_taken_once() {
        let allowance = Allowance::new(1);
        assert!(allowance.take() && !allowance.take());
        assert!(!allowance.is_exhausted());
        allowance.clone().grant(2);
        assert_eq!(allowance.left(), 2);
        allowance.close();
        assert!(!allowance.is_exhausted() && allowance.take() && allowance.take());
        assert!(allowance.is_exhausted() && !allowance.take());
    }
}
