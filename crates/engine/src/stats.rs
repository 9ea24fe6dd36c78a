//! Gauges and counters, read from any thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use inference::{ClassTime, Counters, Gauges, StepClass};

use crate::cost::{TERMS, Terms};

/// The engine's thread writes, everyone reads.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) running: AtomicUsize,
    pub(crate) kv_blocks_used: AtomicUsize,
    pub(crate) kv_blocks_cached: AtomicUsize,
    pub(crate) requests: AtomicU64,
    pub(crate) steps: AtomicU64,
    pub(crate) busy_ns: AtomicU64,
    /// The part of it that a draft model took.
    pub(crate) draft_ns: AtomicU64,
    pub(crate) prefill_columns: AtomicU64,
    pub(crate) decode_columns: AtomicU64,
    /// Columns of guessed tokens, and how many of them were right.
    pub(crate) guessed_columns: AtomicU64,
    pub(crate) guessed_right: AtomicU64,
    pub(crate) prefix_queries_tokens: AtomicU64,
    pub(crate) prefix_hits_tokens: AtomicU64,
    pub(crate) preemptions: AtomicU64,
    pub(crate) kv_block_ns: AtomicU64,
    classes: [Class; StepClass::ALL.len()],
    /// By which terms a step's time is predicted, as bits.
    terms: [AtomicU64; TERMS.len()],
}

/// Steps of a class, their predicted and their measured time.
#[derive(Debug, Default)]
struct Class {
    steps: AtomicU64,
    predicted_ns: AtomicU64,
    busy_ns: AtomicU64,
}

impl Stats {
    pub(crate) fn gauges(&self, waiting: usize) -> Gauges {
        Gauges {
            running: self.running.load(Ordering::Acquire),
            waiting,
            kv_blocks_used: self.kv_blocks_used.load(Ordering::Acquire),
            kv_blocks_cached: self.kv_blocks_cached.load(Ordering::Acquire),
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // In this order: what a draft model took is a part of what is read after it.
        let draft_ns = read(&self.draft_ns);
        // In this order: what is right was guessed before.
        let draft_accepted_tokens = read(&self.guessed_right);
        let draft_rejected_tokens = read(&self.guessed_columns) - draft_accepted_tokens;
        Counters {
            steps: read(&self.steps),
            busy_ns: read(&self.busy_ns),
            draft_ns,
            prefill_columns: read(&self.prefill_columns),
            decode_columns: read(&self.decode_columns),
            draft_accepted_tokens,
            draft_rejected_tokens,
            prefix_queries_tokens: read(&self.prefix_queries_tokens),
            prefix_hits_tokens: read(&self.prefix_hits_tokens),
            preemptions: read(&self.preemptions),
            requests: read(&self.requests),
            kv_block_ns: read(&self.kv_block_ns),
            classes: std::array::from_fn(|class| {
                let Class { steps, predicted_ns, busy_ns } = &self.classes[class];
                ClassTime { steps: read(steps), predicted_ns: read(predicted_ns), busy_ns: read(busy_ns) }
            }),
        }
    }

    /// A step was predicted, and has run.
    pub(crate) fn predicted(&self, class: StepClass, predicted_ns: u64, busy_ns: u64) {
        let class = &self.classes[class as usize];
        add(&class.steps, 1);
        add(&class.predicted_ns, predicted_ns);
        add(&class.busy_ns, busy_ns);
    }

    pub(crate) fn set_terms(&self, terms: &Terms) {
        for (kept, ns) in self.terms.iter().zip(terms) {
            kept.store(ns.to_bits(), Ordering::Release);
        }
    }

    pub(crate) fn terms(&self) -> Terms {
        std::array::from_fn(|term| f64::from_bits(self.terms[term].load(Ordering::Acquire)))
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::AcqRel);
}
