//! Byte-level byte-pair encoding with ranked merges.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::iter;

use formats::gguf::Gguf;

use crate::TokenizerError;
use crate::merges::{MergeOrder, Watcher};
use crate::pretokenizer::PreTokenizer;
use crate::text_index::PairHasher;
use crate::vocabulary::{Vocabulary, char_of_byte};

pub(crate) const MERGES_KEY: &str = "tokenizer.ggml.merges";
/// A symbol that is no token: a byte that the vocabulary lacks, or one merged away.
const NO_TOKEN: u32 = u32::MAX;
const NO_SYMBOL: u32 = u32::MAX;

/// The merges of a model.
#[derive(Debug)]
pub(crate) struct Bpe {
    pre_tokenizer: PreTokenizer,
    /// The token of each single byte.
    byte_tokens: Vec<u32>,
    /// Rank by pair of ids, packed by [`pair`].
    ranks: HashMap<u64, u32, BuildHasherDefault<PairHasher>>,
    /// By rank.
    merges: Vec<Merge>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    left: u32,
    right: u32,
    merged: u32,
}

/// Part of a word, which is shorter than 4 GiB: a list linked in both directions.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
}

/// (rank, position of the left symbol): lowest rank first, then from the left.
type Queue = BinaryHeap<Reverse<(u32, u32)>>;

/// Kept from word to word, so that a text needs few allocations.
#[derive(Debug, Default)]
struct Workspace {
    symbols: Vec<Symbol>,
    queue: Queue,
    spelled: String,
}

const fn pair(left: u32, right: u32) -> u64 {
    (left as u64) << 32 | right as u64
}

impl Bpe {
    pub(crate) fn from_gguf(
        gguf: &Gguf,
        vocabulary: &Vocabulary,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Self, TokenizerError> {
        let texts = gguf.get_str_array(MERGES_KEY)?.ok_or(TokenizerError::Missing { key: MERGES_KEY })?;
        let invalid = |reason: String| TokenizerError::Invalid { key: MERGES_KEY, reason };
        let mut ranks = HashMap::with_capacity_and_hasher(texts.len(), BuildHasherDefault::default());
        let mut merges = Vec::with_capacity(texts.len());
        let mut merged_text = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            // A space as the first character belongs to the left part.
            let space = text.bytes().skip(1).position(|byte| byte == b' ').map(|position| position + 1);
            let parts = space.and_then(|space| Some((text.get(..space)?, text.get(space + 1..)?)));
            let (left, right) = parts.ok_or_else(|| invalid(format!("merge number {number} is not two parts")))?;
            merged_text.clear();
            merged_text.extend_from_slice(left.as_bytes());
            merged_text.extend_from_slice(right.as_bytes());
            let find = |text: &[u8]| vocabulary.plain(text).or_else(|| vocabulary.special(text));
            let (Some(left), Some(right), Some(merged)) =
                (find(left.as_bytes()), find(right.as_bytes()), find(&merged_text))
            else {
                return Err(invalid(format!("merge number {number} has a part that is not in the vocabulary")));
            };
            // Plain text must never become a special token, whatever a file's merges say.
            if vocabulary.plain(&merged_text).is_none() {
                continue;
            }
            let rank = u32::try_from(merges.len()).map_err(|error| invalid(error.to_string()))?;
            ranks.entry(pair(left, right)).or_insert(rank);
            merges.push(Merge { left, right, merged });
        }
        let byte_tokens = (0..=u8::MAX)
            .map(|byte| vocabulary.plain(char_of_byte(byte).encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(NO_TOKEN))
            .collect();
        Ok(Self { pre_tokenizer, byte_tokens, ranks, merges })
    }

    /// Appends the ids of a text in which special tokens have been found already. Bytes that the vocabulary does not have
    /// are left out.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, watcher: &mut impl Watcher, ids: &mut Vec<u32>) {
        let mut workspace = Workspace::default();
        self.pre_tokenizer.split(text, &mut |word| {
            let before = ids.len();
            if self.pre_tokenizer.whole_words
                && let Some(id) = workspace.whole_word(vocabulary, word)
            {
                watcher.begin(word.as_bytes(), iter::once(word.len()));
                ids.push(id);
            } else {
                self.encode_word(word, &mut workspace, watcher, ids);
            }
            watcher.end(ids.get(before..).unwrap_or_default());
        });
    }

    fn encode_word(&self, word: &str, workspace: &mut Workspace, watcher: &mut impl Watcher, ids: &mut Vec<u32>) {
        let Workspace { symbols, queue, .. } = workspace;
        symbols.clear();
        queue.clear();
        let byte_token = |byte: u8| self.byte_tokens.get(usize::from(byte)).copied().unwrap_or(NO_TOKEN);
        let mut previous = NO_SYMBOL;
        for (position, byte) in (0..).zip(word.bytes()) {
            symbols.push(Symbol { id: byte_token(byte), previous, next: position + 1 });
            previous = position;
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NO_SYMBOL;
        }
        for (left, _) in (0..).zip(symbols.iter()) {
            self.queue_pair(symbols, left, queue);
        }
        watcher.begin(word.as_bytes(), ends(symbols));
        while let Some(Reverse((rank, left))) = queue.pop() {
            if self.merge(symbols, rank, left, queue) {
                watcher.merged(MergeOrder::Rank(rank), left as usize, ends(symbols));
            }
        }
        ids.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NO_TOKEN));
    }

    /// Queues the pair that starts at `left`, if there is one and it merges.
    fn queue_pair(&self, symbols: &[Symbol], left: u32, queue: &mut Queue) {
        let Some(left_symbol) = symbols.get(left as usize) else { return };
        let Some(right_symbol) = symbols.get(left_symbol.next as usize) else { return };
        if let Some(&rank) = self.ranks.get(&pair(left_symbol.id, right_symbol.id)) {
            queue.push(Reverse((rank, left)));
        }
    }

    /// Does a queued merge, unless one of its symbols has changed since. Gives whether it did.
    fn merge(&self, symbols: &mut [Symbol], rank: u32, left: u32, queue: &mut Queue) -> bool {
        let Some(merge) = self.merges.get(rank as usize) else { return false };
        let Some(&left_symbol) = symbols.get(left as usize) else { return false };
        let Some(&right_symbol) = symbols.get(left_symbol.next as usize) else { return false };
        if left_symbol.id != merge.left || right_symbol.id != merge.right {
            return false;
        }
        if let Some(dead) = symbols.get_mut(left_symbol.next as usize) {
            dead.id = NO_TOKEN;
            dead.next = NO_SYMBOL;
        }
        if let Some(next) = symbols.get_mut(right_symbol.next as usize) {
            next.previous = left;
        }
        if let Some(merged) = symbols.get_mut(left as usize) {
            merged.id = merge.merged;
            merged.next = right_symbol.next;
        }
        self.queue_pair(symbols, left_symbol.previous, queue);
        self.queue_pair(symbols, left, queue);
        true
    }
}

/// Where the pieces end in the word: a symbol stands at its first byte.
fn ends(symbols: &[Symbol]) -> impl Iterator<Item = usize> {
    let next = |symbol: &Symbol| (symbol.next != NO_SYMBOL).then_some(symbol.next as usize);
    iter::successors((!symbols.is_empty()).then_some(0), move |at| symbols.get(*at).and_then(next))
        .map(move |at| symbols.get(at).and_then(next).unwrap_or(symbols.len()))
}

impl Workspace {
    /// The token that is the whole word, if there is one.
    fn whole_word(&mut self, vocabulary: &Vocabulary, word: &str) -> Option<u32> {
        /// Longer tokens are not worth spelling each long word for.
        const LONGEST: usize = 1024;
        if word.len() > LONGEST {
            return None;
        }
        self.spelled.clear();
        self.spelled.extend(word.bytes().map(char_of_byte));
        vocabulary.plain(self.spelled.as_bytes())
    }
}
