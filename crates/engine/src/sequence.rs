//! One candidate as the scheduler sees it: tokens, and the KV blocks that hold them.

use std::cmp::Reverse;

use inference::{Adapter, TokenId};
use model::BlockId;

use crate::draft::Guess;
use crate::kv_cache::{BlockCopy, KvBlocks, Origin, Parent};

/// Order of sequences, best first, and their identity: priority, then turn, then arrival, then candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rank {
    pub(crate) priority: Reverse<i32>,
    /// See [`Turns`](crate::turns::Turns).
    pub(crate) turn: u64,
    /// Number of the request, unique and growing.
    pub(crate) arrival: u64,
    pub(crate) candidate: u32,
}

/// A sequence of tokens on its way through the engine.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// Prompt and made tokens.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Positions whose KV is in the blocks of `table`.
    pub(crate) computed: usize,
    /// The most positions that were ever computed; columns below it are recomputation.
    pub(crate) peak: usize,
    pub(crate) table: Vec<BlockId>,
    /// How many blocks of `table` are published in the prefix cache.
    published: usize,
    /// Places in the batch it takes: all candidates of the request until the prompt is done, then one.
    pub(crate) slots: usize,
    /// What the model is changed by for it.
    pub(crate) adapter: Option<Adapter>,
    /// With whom it shares what was computed.
    cache_salt: u64,
    /// Positions that may come from the prefix cache (those before have had their prompt log-probabilities reported).
    pub(crate) cache_limit: usize,
    /// Whether it sits this step out, its blocks kept.
    pub(crate) paused: bool,
    /// Tokens that may come next, for this step only.
    pub(crate) guesses: Vec<Guess>,
}

impl Sequence {
    pub(crate) fn new(prompt: Vec<TokenId>, slots: usize, cache_limit: usize) -> Self {
        Self {
            prompt_len: prompt.len(),
            tokens: prompt,
            computed: 0,
            peak: 0,
            table: Vec::new(),
            published: 0,
            slots,
            adapter: None,
            cache_salt: 0,
            cache_limit,
            paused: false,
            guesses: Vec::new(),
        }
    }

    /// The same sequence, with an adapter.
    pub(crate) fn with_adapter(self, adapter: Option<Adapter>) -> Self {
        Self { adapter, ..self }
    }

    /// The same sequence, shared with those of this salt only.
    pub(crate) fn salted(self, cache_salt: u64) -> Self {
        Self { cache_salt, ..self }
    }

    /// The same tokens as a draft model follows them: without the adapter, which changes nothing there, and shared with the
    /// same.
    pub(crate) fn followed(&self) -> Self {
        Self::new(self.tokens.clone(), 1, usize::MAX).salted(self.cache_salt)
    }

    /// Another candidate that goes on from the same computed positions with its own `token`.
    pub(crate) fn fork(&self, token: TokenId, kv: &mut KvBlocks) -> Self {
        debug_assert_eq!(self.computed, self.prompt_len);
        for block in &self.table {
            kv.share(*block);
        }
        let mut tokens = self.tokens[..self.prompt_len].to_vec();
        tokens.push(token);
        Self { tokens, slots: 1, ..self.clone() }
    }

    /// Positions still to be computed.
    pub(crate) fn remaining(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether the next column is the one of the token made last.
    pub(crate) fn decodes(&self) -> bool {
        self.remaining() == 1 && self.tokens.len() > self.prompt_len
    }

    /// Whether prompt positions have log-probabilities to report still; such columns each need a row of logits.
    pub(crate) fn scores(&self) -> bool {
        self.cache_limit < self.prompt_len
    }

    fn parent(&self) -> Parent {
        match self.published.checked_sub(1) {
            None => {
                let adapter = self.adapter.as_ref().map_or(0, Adapter::id);
                Parent::Start(Origin { cache_salt: self.cache_salt, adapter })
            }
            Some(last) => Parent::Block(self.table[last]),
        }
    }

    /// Positions the prefix cache may still provide: the last token is always computed.
    fn readable(&self) -> &[TokenId] {
        let end = self.cache_limit.min(self.tokens.len() - 1).max(self.computed);
        &self.tokens[self.computed..end]
    }

    /// Whole blocks the prefix cache holds for the next positions.
    pub(crate) fn cached_blocks(&self, kv: &KvBlocks) -> Vec<BlockId> {
        let mut found = Vec::new();
        if self.computed != self.published * kv.block_tokens() || self.table.len() != self.published {
            return found;
        }
        let mut parent = self.parent();
        for tokens in self.readable().chunks_exact(kv.block_tokens()) {
            let Some(block) = kv.find(parent, tokens) else { break };
            found.push(block);
            parent = Parent::Block(block);
        }
        found
    }

    /// Takes what the prefix cache has for the next positions: whole blocks shared, a partly common one copied.
    pub(crate) fn take_cached(&mut self, kv: &mut KvBlocks, copies: &mut Vec<BlockCopy>) {
        if self.computed != self.published * kv.block_tokens() || self.table.len() != self.published {
            return;
        }
        for block in self.cached_blocks(kv) {
            kv.share(block);
            self.table.push(block);
            self.published += 1;
            self.computed += kv.block_tokens();
        }
        let Some((from, tokens)) = kv.find_partial(self.parent(), self.readable()) else { return };
        // The new block may be the source itself, evicted just now: then the content stands already where it should.
        let Some(to) = kv.allocate() else { return };
        if from != to {
            copies.push(BlockCopy { from, to, tokens });
        }
        self.table.push(to);
        self.computed += tokens;
    }

    /// Makes room for `columns` more positions, each in a block only this sequence holds. Gives for how many there
    /// is room (fewer when the pool has no more blocks).
    pub(crate) fn extend(&mut self, columns: usize, kv: &mut KvBlocks, copies: &mut Vec<BlockCopy>) -> usize {
        let filled = self.computed % kv.block_tokens();
        if filled != 0 {
            let last = self.computed / kv.block_tokens();
            let from = self.table[last];
            if kv.references(from) > 1 {
                let Some(to) = kv.allocate() else { return 0 };
                copies.push(BlockCopy { from, to, tokens: filled });
                kv.release(from);
                self.table[last] = to;
            }
        }
        while self.table.len() < kv.blocks_for(self.computed + columns) {
            let Some(block) = kv.allocate() else { break };
            self.table.push(block);
        }
        columns.min(self.table.len() * kv.block_tokens() - self.computed)
    }

    /// Notes that the next `columns` positions are computed, and publishes the blocks they filled.
    pub(crate) fn advance(&mut self, columns: usize, kv: &mut KvBlocks) {
        self.computed += columns;
        self.peak = self.peak.max(self.computed);
        while (self.published + 1) * kv.block_tokens() <= self.computed {
            let at = self.published;
            let tokens = &self.tokens[at * kv.block_tokens()..(at + 1) * kv.block_tokens()];
            let Some(block) = kv.publish(self.parent(), tokens, self.table[at]) else { return };
            self.table[at] = block;
            self.published += 1;
        }
    }

    /// Gives up all blocks; what was computed stays in the prefix cache as long as there is room.
    pub(crate) fn release(&mut self, kv: &mut KvBlocks) {
        let whole = self.computed / kv.block_tokens();
        if self.published == whole
            && let Some(last) = self.table.get(whole)
        {
            kv.publish_tail(self.parent(), &self.tokens[whole * kv.block_tokens()..self.computed], *last);
        }
        while let Some(block) = self.table.pop() {
            kv.release(block);
        }
        self.published = 0;
        self.computed = 0;
    }
}
