//! A reservation while its request runs.

use std::sync::Arc;

use super::ring::Mark;
use super::{Demand, Limiter, Standings, Subject};

/// Where a subject's counts were last counted.
pub(super) type Marks = (Subject, [Option<Mark>; 4]);

/// A reservation. Dropping it ends the running request; what was counted stays unless [`Admitted::settle`] corrects it.
pub struct Admitted {
    limiter: Arc<Limiter>,
    marks: Vec<Marks>,
    /// All that was counted.
    counted: [u64; 4],
    /// What was counted at the marks: the most that can be given back.
    marked: [u64; 4],
    /// How the bounds stood with this request.
    pub standings: Standings,
}

impl Admitted {
    pub(super) fn new(limiter: Arc<Limiter>, marks: Vec<Marks>, counted: [u64; 4], standings: Standings) -> Self {
        Self { limiter, marks, counted, marked: counted, standings }
    }

    /// Counts further answer tokens of the running request. They are never refused: what was begun is finished, and
    /// later requests wait for it.
    pub fn count_output(&mut self, now_ms: i64, tokens: u64) {
        self.mark(now_ms, [0, 0, tokens, tokens]);
    }

    /// Corrects what was counted to what was used; what was too much is free again at once.
    pub fn settle(&mut self, now_ms: i64, actual: Demand) {
        self.correct(now_ms, actual.counts());
    }

    /// Takes everything back: the request was refused elsewhere and never ran.
    pub fn cancel(mut self) {
        self.correct(0, [0; 4]);
    }

    fn mark(&mut self, now_ms: i64, more: [u64; 4]) {
        let mut state = self.limiter.lock();
        for (subject, marks) in &mut self.marks {
            let Some(counts) = state.subjects.get_mut(subject) else { continue };
            for ((ring, mark), more) in counts.rings.iter_mut().zip(marks).zip(more) {
                if let (Some(ring), true) = (ring, mark.is_some() && more > 0) {
                    *mark = Some(ring.add(now_ms, more));
                }
            }
        }
        drop(state);
        for ((counted, marked), more) in self.counted.iter_mut().zip(&mut self.marked).zip(more) {
            *counted = counted.saturating_add(more);
            *marked = if more > 0 { more } else { *marked };
        }
    }

    fn correct(&mut self, now_ms: i64, to: [u64; 4]) {
        let more: [u64; 4] = std::array::from_fn(|i| to[i].saturating_sub(self.counted[i]));
        let less: [u64; 4] = std::array::from_fn(|i| self.counted[i].saturating_sub(to[i]).min(self.marked[i]));
        let mut state = self.limiter.lock();
        for (subject, marks) in &self.marks {
            let Some(counts) = state.subjects.get_mut(subject) else { continue };
            for ((ring, mark), less) in counts.rings.iter_mut().zip(marks).zip(less) {
                if let (Some(ring), Some(mark)) = (ring, mark) {
                    ring.take_back(*mark, less);
                }
            }
        }
        drop(state);
        (self.counted, self.marked) = (to, [0; 4]);
        if more != [0; 4] {
            let settled = self.counted;
            self.mark(now_ms, more);
            self.counted = settled;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        for (subject, _) in &self.marks {
            if let Some(counts) = state.subjects.get_mut(subject) {
                counts.running = counts.running.saturating_sub(1);
            }
        }
    }
}
