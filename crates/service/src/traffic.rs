//! Bytes of a request and of its answer, counted where they come in and go out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use economics::books::cost_detail::Traffic;

/// Counts the bytes of one request's bodies. Clones count together; the books wait with the request's cost until the
/// [`TrafficEnd`] is dropped.
#[derive(Clone, Debug)]
pub struct TrafficCount(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    received: u64,
    sent: AtomicU64,
    ended: AtomicBool,
}

/// Held as long as bytes may still be counted.
#[derive(Debug)]
pub struct TrafficEnd(TrafficCount);

impl TrafficCount {
    /// A count for a request of whose body so many bytes came, and what ends it.
    #[must_use]
    pub fn new(received: u64) -> (Self, TrafficEnd) {
        let count = Self(Arc::new(Counts { received, ..Counts::default() }));
        (count.clone(), TrafficEnd(count))
    }

    /// The bytes so far.
    #[must_use]
    pub fn so_far(&self) -> Traffic {
        Traffic { received: self.0.received, sent: self.0.sent.load(Ordering::Acquire) }
    }

    /// Whether no more will be counted.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }
}

impl TrafficEnd {
    /// Bytes of the answer were handed to the connection.
    pub fn sent(&self, bytes: usize) {
        self.0.0.sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::AcqRel);
    }
}

impl Drop for TrafficEnd {
    fn drop(&mut self) {
        self.0.0.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_until_the_end() {
        let (count, end) = TrafficCount::new(70);
        end.sent(5);
        end.sent(6);
        assert_eq!((count.so_far(), count.has_ended()), (Traffic { received: 70, sent: 11 }, false));
        drop(end);
        assert!(count.has_ended() && count.so_far().sent == 11);
    }
}
