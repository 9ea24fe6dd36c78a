//! Stop strings: found byte by byte as tokens are made, whatever the token borders.
//!
//! A stop takes effect at the first byte that completes one of the strings; if several end there, the longest counts,
//! so that the text keeps no part of it. This depends on the bytes alone, never on how they were cut into tokens.

use std::collections::VecDeque;
use std::sync::Arc;

use inference::{Control, TokenId, Verdict};

use crate::pieces::Pieces;

/// One stop string with its failure table (Knuth, Morris, Pratt).
#[derive(Debug)]
struct Pattern {
    bytes: Vec<u8>,
    /// `fallback[n]`: the longest proper border of the first `n + 1` bytes.
    fallback: Vec<usize>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut fallback = vec![0; bytes.len()];
        let mut border = 0;
        for i in 1..bytes.len() {
            while border > 0 && bytes[border] != bytes[i] {
                border = fallback[border - 1];
            }
            border += usize::from(bytes[border] == bytes[i]);
            fallback[i] = border;
        }
        Self { bytes, fallback }
    }

    /// How much of the pattern the text ends with after one more byte; `matched` was so before it and is not whole.
    fn advance(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.bytes[matched] != byte {
            matched = self.fallback[matched - 1];
        }
        matched + usize::from(self.bytes[matched] == byte)
    }
}

/// The stop strings of a request.
#[derive(Debug, Default)]
pub(crate) struct StopSet(Vec<Pattern>);

impl StopSet {
    /// Empty strings are left out: they would match everywhere.
    pub(crate) fn new(stops: &[String]) -> Self {
        Self(stops.iter().filter(|stop| !stop.is_empty()).map(|stop| Pattern::new(stop)).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Follows one candidate's bytes.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    set: Arc<StopSet>,
    /// For each pattern, how much of it the text ends with.
    matched: Vec<usize>,
    /// Bytes taken.
    position: u64,
}

impl StopMatcher {
    pub(crate) fn new(set: Arc<StopSet>) -> Self {
        Self { matched: vec![0; set.0.len()], set, position: 0 }
    }

    /// Takes one byte. When it completes a stop string: the position of that string's first byte. Nothing may be
    /// pushed after that.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u64> {
        self.position += 1;
        let mut longest = None;
        for (pattern, matched) in self.set.0.iter().zip(&mut self.matched) {
            *matched = pattern.advance(*matched, byte);
            if *matched == pattern.bytes.len() {
                longest = longest.max(Some(*matched));
            }
        }
        longest.map(|len| self.position - count(len))
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Where the part begins that could still become a stop string; everything before it is safe.
    pub(crate) fn safe(&self) -> u64 {
        self.position - count(self.matched.iter().copied().max().unwrap_or(0))
    }
}

/// Bytes and how they were cut into tokens, as far as a stop string may still reach back.
#[derive(Debug, Default)]
struct Recent(VecDeque<(u64, u64)>);

impl Recent {
    /// How many of the last tokens lie wholly in the part cut off at `cut`.
    fn wholly_cut(&self, cut: u64) -> usize {
        self.0.iter().filter(|&&(start, end)| is_cut(start, end, cut)).count()
    }
}

/// Ends a candidate in the step that completes a stop string.
pub(crate) struct StopControl {
    pieces: Arc<dyn Pieces>,
    matcher: StopMatcher,
    recent: Recent,
}

impl StopControl {
    pub(crate) fn new(pieces: Arc<dyn Pieces>, set: Arc<StopSet>) -> Self {
        Self { pieces, matcher: StopMatcher::new(set), recent: Recent::default() }
    }
}

impl Control for StopControl {
    fn commit(&mut self, id: TokenId) -> Verdict {
        let bytes = self.pieces.answer_bytes(id);
        let start = self.matcher.position();
        self.recent.0.push_back((start, start + count(bytes.len())));
        for &byte in bytes.iter() {
            if let Some(cut) = self.matcher.push(byte) {
                let drop = u32::try_from(self.recent.wholly_cut(cut)).unwrap_or(u32::MAX);
                return Verdict::Stop { drop };
            }
        }
        let safe = self.matcher.safe();
        while self.recent.0.front().is_some_and(|&(_, end)| end <= safe) {
            self.recent.0.pop_front();
        }
        Verdict::Continue
    }
}

/// Whether the token of bytes `start .. end` lies wholly in the part cut off at `cut`. A token without bytes that stands
/// right before the cut stays.
pub(crate) fn is_cut(start: u64, end: u64, cut: u64) -> bool {
    start >= cut && end > cut
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
