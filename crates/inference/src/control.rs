//! The one hook a sequence has.

use crate::TokenId;

/// A set of token ids, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// `len` bits, all set.
    #[must_use]
    pub fn all(len: usize) -> Self {
        Self { words: vec![u64::MAX; len.div_ceil(64)], len }
    }

    /// Number of bits, set or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the bit is set; false past the end.
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        let i = id as usize;
        i < self.len && self.words[i / 64] & (1 << (i % 64)) != 0
    }

    /// Clears one bit; nothing happens past the end.
    pub fn remove(&mut self, id: TokenId) {
        let i = id as usize;
        if i < self.len {
            self.words[i / 64] &= !(1 << (i % 64));
        }
    }
}

/// What a [`Control`] says of a token just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// End the candidate now ([`FinishReason::Stop`](crate::FinishReason::Stop)).
    Stop {
        /// How many of the last tokens, this one included, are cut off whole.
        drop: u32,
    },
}

/// Steers one candidate. Called on the engine's thread, so both calls must be short and never wait.
pub trait Control: Send {
    /// Whether [`mask`](Self::mask) restricts anything; when false the engine skips it.
    fn masks(&self) -> bool {
        false
    }

    /// Clears the ids that may not come next from `allowed` (all set, one bit for each id of the vocabulary).
    fn mask(&mut self, allowed: &mut Bits) {
        let _ = allowed;
    }

    /// Takes the token just made, in order, once each.
    fn commit(&mut self, id: TokenId) -> Verdict;
}
