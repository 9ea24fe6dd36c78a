//! How byte-pair encoding gets from a word to its tokens, told by the encoders themselves while they work.

/// Why a pair merged before the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MergeOrder {
    /// The rank of the merge in the model's list: lower ones first.
    Rank(u32),
    /// The score of the token that it makes: higher ones first.
    Score(f32),
}

/// One merge of two neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeStep {
    /// Why it was this pair's turn.
    pub order: MergeOrder,
    /// Which piece the merge made, counted from 0.
    pub at: usize,
    /// The word's pieces after it, as bytes.
    pub pieces: Vec<Vec<u8>>,
}

/// A word on its way to tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergedWord {
    /// The pieces that it begins as. One alone, and no steps: the word is a token of its own, taken whole.
    pub start: Vec<Vec<u8>>,
    /// The merges in their order; the pieces after the last one are the tokens' (bytes that the vocabulary lacks aside).
    pub steps: Vec<MergeStep>,
    /// Its tokens.
    pub ids: Vec<u32>,
}

/// Looks on while text is encoded. Pieces are given by where they end in the word; where nobody looks on (`()`), nothing is
/// worked out.
pub(crate) trait Watcher {
    /// A word begins, as these pieces.
    fn begin(&mut self, word: &[u8], ends: impl Iterator<Item = usize>);
    /// Two pieces of it became one, which starts at byte `start`.
    fn merged(&mut self, order: MergeOrder, start: usize, ends: impl Iterator<Item = usize>);
    /// The word's tokens are there.
    fn end(&mut self, ids: &[u32]);
}

impl Watcher for () {
    fn begin(&mut self, _word: &[u8], _ends: impl Iterator<Item = usize>) {}
    fn merged(&mut self, _order: MergeOrder, _start: usize, _ends: impl Iterator<Item = usize>) {}
    fn end(&mut self, _ids: &[u32]) {}
}

/// Writes down what happens.
#[derive(Debug, Default)]
pub(crate) struct Record {
    word: Vec<u8>,
    pub(crate) words: Vec<MergedWord>,
}

impl Record {
    /// The pieces of the word, and which of them starts at byte `start`.
    fn cut(&self, ends: impl Iterator<Item = usize>, start: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut from, mut at, mut pieces) = (0, 0, Vec::new());
        for end in ends {
            if from == start {
                at = pieces.len();
            }
            pieces.push(self.word.get(from..end).unwrap_or_default().to_vec());
            from = end;
        }
        (pieces, at)
    }
}

impl Watcher for Record {
    fn begin(&mut self, word: &[u8], ends: impl Iterator<Item = usize>) {
        self.word = word.to_vec();
        let (start, _) = self.cut(ends, 0);
        self.words.push(MergedWord { start, ..MergedWord::default() });
    }

    fn merged(&mut self, order: MergeOrder, start: usize, ends: impl Iterator<Item = usize>) {
        let (pieces, at) = self.cut(ends, start);
        if let Some(word) = self.words.last_mut() {
            word.steps.push(MergeStep { order, at, pieces });
        }
    }

    fn end(&mut self, ids: &[u32]) {
        if let Some(word) = self.words.last_mut() {
            word.ids = ids.to_vec();
        }
    }
}
