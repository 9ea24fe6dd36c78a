//! Finding a token's id by its text: an open-addressing table of ids, beside which the texts are stored only once.

use std::hash::{BuildHasher, Hasher, RandomState};

use formats::gguf::StringArray;

const EMPTY: u32 = u32::MAX;

/// Ids of some of a vocabulary's texts. The texts themselves stay in the vocabulary and are passed to each call.
#[derive(Clone, Debug)]
pub(crate) struct TextIndex {
    slots: Vec<u32>,
    /// Random for each table, so that a file cannot be made to collide.
    seed: u64,
    longest: usize,
}

impl TextIndex {
    /// An index of those texts; of equal texts the last wins.
    pub(crate) fn new(texts: &StringArray, ids: impl Iterator<Item = u32> + Clone) -> Self {
        let slot_count = (ids.clone().count() * 2).next_power_of_two();
        let mut index = Self { slots: vec![EMPTY; slot_count], seed: RandomState::new().hash_one(0_u8), longest: 0 };
        for id in ids {
            let Some(text) = texts.get(id as usize) else { continue };
            index.longest = index.longest.max(text.len());
            let position = index.find(texts, text.as_bytes());
            if let Some(slot) = index.slots.get_mut(position) {
                *slot = id;
            }
        }
        index
    }

    /// The id of a text.
    pub(crate) fn get(&self, texts: &StringArray, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        self.slots.get(self.find(texts, text)).copied().filter(|&id| id != EMPTY)
    }

    /// The slot that holds this text, or the empty one where it would go.
    fn find(&self, texts: &StringArray, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let mut position = hash(self.seed, text) as usize & mask;
        // At most half the slots are taken, so an empty one is always met.
        while let Some(&id) = self.slots.get(position) {
            if id == EMPTY || texts.get(id as usize).is_some_and(|other| other.as_bytes() == text) {
                break;
            }
            position = (position + 1) & mask;
        }
        position
    }
}

/// A fast hash of a short text.
fn hash(seed: u64, text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks::<8>();
    let mut hash = seed ^ text.len() as u64;
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let tail = rest.iter().fold(0, |tail, &byte| tail << 8 | u64::from(byte));
    mix(hash, tail)
}

/// Both halves of a product, folded: each bit of the inputs reaches the low bits.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// A fast hasher for pairs of ids packed in a `u64`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(value, 0xa076_1d64_78bd_642f);
    }
}
