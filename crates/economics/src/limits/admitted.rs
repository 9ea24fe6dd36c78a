//! A reservation while its request runs.

use std::sync::Arc;

use super::ring::{Mark, SLOTS};
use super::{Demand, Limiter, Standings, Subject};

/// Where each count of a subject was counted.
pub(super) type Marks = [Option<Mark>; 4];

/// What was counted at one time.
struct Layer {
    /// Of each count, what can still be given back.
    counted: [u64; 4],
    /// For each subject.
    marks: Vec<Marks>,
}

/// A reservation. Dropping it ends the running request; what was counted stays unless [`Admitted::settle`] corrects it.
pub struct Admitted {
    limiter: Arc<Limiter>,
    subjects: Vec<Subject>,
    /// All that was counted.
    counted: [u64; 4],
    /// When it was counted, oldest first; only what the last minute can hold.
    layers: Vec<Layer>,
    /// How the bounds stood with this request.
    pub standings: Standings,
}

impl Admitted {
    pub(super) fn new(
        limiter: Arc<Limiter>,
        marked: Vec<(Subject, Marks)>,
        counted: [u64; 4],
        standings: Standings,
    ) -> Self {
        let (subjects, marks) = marked.into_iter().unzip();
        Self { limiter, subjects, counted, layers: vec![Layer { counted, marks }], standings }
    }

    /// Counts further answer tokens of the running request. They are never refused: what was begun is finished, and
    /// later requests wait for it.
    pub fn count_output(&mut self, now_ms: i64, tokens: u64) {
        self.add(now_ms, [0, 0, tokens, tokens]);
    }

    /// Corrects what was counted to what was used; what was too much is free again at once.
    pub fn settle(&mut self, now_ms: i64, actual: Demand) {
        self.correct(now_ms, actual.counts());
    }

    /// Takes everything back: the request was refused elsewhere and never ran.
    pub fn cancel(mut self) {
        self.correct(0, [0; 4]);
    }

    fn add(&mut self, now_ms: i64, more: [u64; 4]) {
        let Some(known) = self.layers.last().map(|layer| layer.marks.clone()) else { return };
        let mut state = self.limiter.lock();
        let marks = self.subjects.iter().zip(known).map(|(subject, mut marks)| {
            let Some(counts) = state.counts(subject) else { return marks };
            for ((ring, mark), more) in counts.rings.iter_mut().zip(&mut marks).zip(more) {
                if let (Some(ring), true) = (ring, mark.is_some()) {
                    *mark = Some(ring.add(now_ms, more));
                }
            }
            marks
        });
        let marks: Vec<Marks> = marks.collect();
        drop(state);
        add(&mut self.counted, more);
        match self.layers.last_mut() {
            Some(last) if last.marks == marks => add(&mut last.counted, more),
            _ => self.layers.push(Layer { counted: more, marks }),
        }
        // Each layer is of another second: older ones count no more.
        let old = self.layers.len().saturating_sub(SLOTS);
        self.layers.drain(..old);
    }

    /// Takes back from what was counted last, as that counts longest.
    fn correct(&mut self, now_ms: i64, to: [u64; 4]) {
        let more: [u64; 4] = std::array::from_fn(|i| to[i].saturating_sub(self.counted[i]));
        let mut less: [u64; 4] = std::array::from_fn(|i| self.counted[i].saturating_sub(to[i]));
        let mut state = self.limiter.lock();
        for Layer { counted, marks } in self.layers.iter_mut().rev() {
            let back: [u64; 4] = std::array::from_fn(|i| less[i].min(counted[i]));
            less = std::array::from_fn(|i| less[i] - back[i]);
            *counted = std::array::from_fn(|i| counted[i] - back[i]);
            for (subject, marks) in self.subjects.iter().zip(marks) {
                let Some(counts) = state.counts(subject) else { continue };
                for ((ring, mark), back) in counts.rings.iter_mut().zip(marks).zip(back) {
                    if let (Some(ring), Some(mark)) = (ring, mark) {
                        ring.take_back(*mark, back);
                    }
                }
            }
        }
        drop(state);
        if more != [0; 4] {
            self.add(now_ms, more);
        }
        self.counted = to;
    }
}

fn add(to: &mut [u64; 4], more: [u64; 4]) {
    for (sum, more) in to.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        for subject in &self.subjects {
            if let Some(counts) = state.counts(subject) {
                counts.running = counts.running.saturating_sub(1);
            }
        }
    }
}
