//! SentencePiece-style byte-pair encoding: the pair whose token has the best score merges first; what is no token becomes
//! bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use formats::gguf::Gguf;

use crate::TokenizerError;
use crate::vocabulary::{TokenKind, Vocabulary};

const SCORES_KEY: &str = "tokenizer.ggml.scores";
const NO_SYMBOL: usize = usize::MAX;

/// The scores of a model.
#[derive(Debug)]
pub(crate) struct Spm {
    scores: Vec<f32>,
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
}

/// Part of a text: a list linked in both directions.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// In bytes.
    start: usize,
    /// In bytes; 0 when merged away.
    len: usize,
    previous: usize,
    next: usize,
    id: Option<u32>,
}

/// Two neighbours whose text together is a token.
#[derive(Clone, Copy, Debug)]
struct Pair {
    score: f32,
    left: usize,
    /// Bytes of both together, to see whether one of them has changed since.
    len: usize,
    id: u32,
}

impl Ord for Pair {
    /// Best score is greatest, then leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl Spm {
    pub(crate) fn from_gguf(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let scores = gguf.get_f32_array(SCORES_KEY)?.ok_or(TokenizerError::Missing { key: SCORES_KEY })?;
        let invalid = |reason: String| TokenizerError::Invalid { key: SCORES_KEY, reason };
        if scores.len() != vocabulary.len() {
            return Err(invalid(format!("it has {} entries for {} tokens", scores.len(), vocabulary.len())));
        }
        if let Some(position) = scores.iter().position(|score| score.is_nan()) {
            return Err(invalid(format!("the score of token {position} is not a number")));
        }
        // 0.0 and -0.0 are the same score.
        let scores = scores.iter().map(|score| score + 0.0).collect();
        let unknown = vocabulary.specials().find(|(_, _, kind)| *kind == TokenKind::Unknown).map(|(id, _, _)| id);
        Ok(Self { scores, byte_tokens: vocabulary.byte_tokens(), unknown })
    }

    /// Appends the ids of a text in which special tokens have been found already.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        let escaped = text.replace(' ', "▁");
        let mut symbols: Vec<Symbol> = Vec::with_capacity(escaped.len().min(1 << 20));
        for (start, char) in escaped.char_indices() {
            let position = symbols.len();
            let len = char.len_utf8();
            let next = if start + len < escaped.len() { position + 1 } else { NO_SYMBOL };
            let id = escaped.as_bytes().get(start..start + len).and_then(|text| vocabulary.plain(text));
            symbols.push(Symbol { start, len, previous: position.wrapping_sub(1), next, id });
        }
        let mut queue = BinaryHeap::new();
        for left in 0..symbols.len() {
            self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, left, &mut queue);
        }
        while let Some(pair) = queue.pop() {
            if let Some(previous) = merge(&mut symbols, pair) {
                self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, previous, &mut queue);
                self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, pair.left, &mut queue);
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            match symbol.id {
                Some(id) => ids.push(id),
                None => self.push_bytes(escaped.as_bytes(), symbol, ids),
            }
        }
    }

    fn queue_pair(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        symbols: &[Symbol],
        left: usize,
        queue: &mut BinaryHeap<Pair>,
    ) {
        let Some(left_symbol) = symbols.get(left) else { return };
        let Some(right_symbol) = symbols.get(left_symbol.next) else { return };
        let len = left_symbol.len + right_symbol.len;
        let Some(id) = text.get(left_symbol.start..left_symbol.start + len).and_then(|text| vocabulary.plain(text))
        else {
            return;
        };
        let score = self.scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        queue.push(Pair { score, left, len, id });
    }

    /// A symbol that is no token, byte by byte.
    fn push_bytes(&self, text: &[u8], symbol: &Symbol, ids: &mut Vec<u32>) {
        for &byte in text.get(symbol.start..symbol.start + symbol.len).unwrap_or_default() {
            let id = self.byte_tokens.get(usize::from(byte)).copied().flatten();
            match id {
                Some(id) => ids.push(id),
                None => {
                    ids.extend(self.unknown);
                    break;
                }
            }
        }
    }
}

/// Does a queued merge and gives the position before it; `None` when one of its symbols has changed since.
fn merge(symbols: &mut [Symbol], pair: Pair) -> Option<usize> {
    let left = *symbols.get(pair.left)?;
    let right = *symbols.get(left.next)?;
    if left.len == 0 || left.len + right.len != pair.len {
        return None;
    }
    let merged = symbols.get_mut(pair.left)?;
    merged.len = pair.len;
    merged.id = Some(pair.id);
    merged.next = right.next;
    symbols.get_mut(left.next)?.len = 0;
    if let Some(next) = symbols.get_mut(right.next) {
        next.previous = pair.left;
    }
    Some(left.previous)
}
