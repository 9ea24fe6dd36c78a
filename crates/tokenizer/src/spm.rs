//! SentencePiece-style byte-pair encoding: the pair whose token has the best score merges first; what is no token becomes
//! bytes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::iter;

use formats::gguf::Gguf;

use crate::TokenizerError;
use crate::merges::{MergeOrder, Watcher};
use crate::vocabulary::{TokenKind, Vocabulary};

const SCORES_KEY: &str = "tokenizer.ggml.scores";
const NO_SYMBOL: u32 = u32::MAX;
const NO_TOKEN: u32 = u32::MAX;

/// The scores of a model.
#[derive(Debug)]
pub(crate) struct Spm {
    scores: Vec<f32>,
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
}

/// Part of a text, which is shorter than 4 GiB: a list linked in both directions.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    /// In bytes.
    start: u32,
    /// In bytes; 0 when merged away.
    len: u32,
    previous: u32,
    next: u32,
    id: u32,
}

/// Two neighbours whose text together is a token.
#[derive(Clone, Copy, Debug)]
struct Pair {
    score: f32,
    left: u32,
    /// Bytes of both together, to see whether one of them has changed since.
    len: u32,
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
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, watcher: &mut impl Watcher, ids: &mut Vec<u32>) {
        let before = ids.len();
        let escaped = text.replace(' ', "▁");
        let mut symbols = split_chars(vocabulary, &escaped);
        let mut queue = BinaryHeap::new();
        for (left, _) in (0..).zip(&symbols) {
            self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, left, &mut queue);
        }
        watcher.begin(escaped.as_bytes(), ends(&symbols));
        while let Some(pair) = queue.pop() {
            if let Some(previous) = merge(&mut symbols, pair) {
                let start = symbols.get(pair.left as usize).map_or(0, |symbol| symbol.start as usize);
                watcher.merged(MergeOrder::Score(pair.score), start, ends(&symbols));
                self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, previous, &mut queue);
                self.queue_pair(vocabulary, escaped.as_bytes(), &symbols, pair.left, &mut queue);
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            match symbol.id {
                NO_TOKEN => self.push_bytes(symbol.text(escaped.as_bytes()), ids),
                id => ids.push(id),
            }
        }
        watcher.end(ids.get(before..).unwrap_or_default());
    }

    fn queue_pair(
        &self,
        vocabulary: &Vocabulary,
        text: &[u8],
        symbols: &[Symbol],
        left: u32,
        queue: &mut BinaryHeap<Pair>,
    ) {
        let Some(left_symbol) = symbols.get(left as usize) else { return };
        let Some(right_symbol) = symbols.get(left_symbol.next as usize) else { return };
        let both = Symbol { len: left_symbol.len + right_symbol.len, ..*left_symbol };
        let Some(id) = vocabulary.plain(both.text(text)) else { return };
        let score = self.scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        queue.push(Pair { score, left, len: both.len, id });
    }

    /// A character that is no token, byte by byte; one unknown token where the model has no tokens for bytes.
    fn push_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        let tokens = bytes.iter().map(|&byte| self.byte_tokens.get(usize::from(byte)).copied().flatten());
        match tokens.collect::<Option<Vec<u32>>>() {
            Some(tokens) => ids.extend(tokens),
            None => ids.extend(self.unknown),
        }
    }
}

impl Symbol {
    fn text(self, text: &[u8]) -> &[u8] {
        let start = self.start as usize;
        text.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// Where the pieces end in the text.
fn ends(symbols: &[Symbol]) -> impl Iterator<Item = usize> {
    iter::successors(symbols.first(), |symbol| symbols.get(symbol.next as usize))
        .map(|symbol| (symbol.start + symbol.len) as usize)
}

/// One symbol for each character.
fn split_chars(vocabulary: &Vocabulary, text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut start = 0;
    let mut previous = NO_SYMBOL;
    for (position, char) in (0..).zip(text.chars()) {
        let id = vocabulary.plain(char.encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(NO_TOKEN);
        #[expect(clippy::cast_possible_truncation, reason = "at most 4")]
        let len = char.len_utf8() as u32;
        symbols.push(Symbol { start, len, previous, next: position + 1, id });
        start += len;
        previous = position;
    }
    if let Some(last) = symbols.last_mut() {
        last.next = NO_SYMBOL;
    }
    symbols
}

/// Does a queued merge and gives the position before it; `None` when one of its symbols has changed since.
fn merge(symbols: &mut [Symbol], pair: Pair) -> Option<u32> {
    let left = *symbols.get(pair.left as usize)?;
    let right = *symbols.get(left.next as usize)?;
    if left.len == 0 || left.len + right.len != pair.len {
        return None;
    }
    let merged = symbols.get_mut(pair.left as usize)?;
    merged.len = pair.len;
    merged.id = pair.id;
    merged.next = right.next;
    symbols.get_mut(left.next as usize)?.len = 0;
    if let Some(next) = symbols.get_mut(right.next as usize) {
        next.previous = pair.left;
    }
    Some(left.previous)
}
