//! Bookkeeping of KV blocks: which are free, held, or kept for their content. No memory, no arithmetic.

mod block_pool;
mod prefix_cache;
#[cfg(test)]
mod tests;

use inference::TokenId;
use model::{BLOCK_TOKENS, BlockId};

use block_pool::BlockPool;
use prefix_cache::{PrefixCache, Published};

/// What a block comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Nothing: it begins a sequence. Sequences of different origin never have a block in common.
    Start(Origin),
    /// Another block.
    Block(BlockId),
}

/// What a sequence is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// With whom it is shared: see `inference::Request`.
    pub(crate) cache_salt: u64,
    /// The number of its adapter, 0: without one. What is computed with an adapter is of no use to others.
    pub(crate) adapter: u64,
}

/// A copy the runner has to make before the next forward pass; copies are made in the order they were planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockCopy {
    pub(crate) from: BlockId,
    pub(crate) to: BlockId,
    pub(crate) tokens: usize,
}

/// All KV blocks: each is free, referenced by tables, or cached (unreferenced, kept for its content). Or states: then a block
/// stands for all positions of one sequence, and none is cached.
///
/// Whoever holds a published block holds all its ancestors too, so cached blocks always form whole subtrees and each
/// of them can be taken back, leaves first.
#[derive(Debug)]
pub(crate) struct KvBlocks {
    pool: BlockPool,
    cache: PrefixCache,
    caching: bool,
    block_tokens: usize,
}

impl KvBlocks {
    pub(crate) fn new(blocks: usize, caching: bool) -> Self {
        Self { pool: BlockPool::new(blocks), cache: PrefixCache::new(blocks), caching, block_tokens: BLOCK_TOKENS }
    }

    /// Blocks that are states. The copy that a shared block needs before it is written is a copy of the state.
    pub(crate) fn states(count: usize) -> Self {
        Self { block_tokens: usize::MAX, ..Self::new(count, false) }
    }

    /// Positions that a block stands for.
    pub(crate) fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// Blocks that hold `tokens` positions.
    pub(crate) fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens)
    }

    pub(crate) fn total(&self) -> usize {
        self.pool.total()
    }

    /// Blocks referenced by at least one table.
    pub(crate) fn used(&self) -> usize {
        self.pool.referenced()
    }

    /// Blocks kept only for their content.
    pub(crate) fn cached(&self) -> usize {
        self.cache.unreferenced()
    }

    /// Blocks that can be had now: free or cached.
    pub(crate) fn available(&self) -> usize {
        self.pool.free() + self.cache.unreferenced()
    }

    pub(crate) fn references(&self, block: BlockId) -> u32 {
        self.pool.references(block)
    }

    /// A block with undefined content, held once; the least recently used cached leaf is taken when none is free.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        if self.pool.free() == 0 {
            let evicted = self.cache.evict()?;
            self.pool.put_back(evicted);
        }
        self.pool.take()
    }

    /// Holds a block once more.
    pub(crate) fn share(&mut self, block: BlockId) {
        if self.pool.retain(block) == 1 {
            self.cache.mark_referenced(block);
        }
    }

    /// Gives up one reference. Tables release from their last block to their first.
    pub(crate) fn release(&mut self, block: BlockId) {
        if self.pool.release(block) == 0 && !self.cache.mark_unreferenced(block) {
            self.pool.put_back(block);
        }
    }

    /// The published block that holds exactly `tokens` (a whole block) after `parent`.
    pub(crate) fn find(&self, parent: Parent, tokens: &[TokenId]) -> Option<BlockId> {
        if self.caching { self.cache.find(parent, tokens) } else { None }
    }

    /// The published block after `parent` that shares the most first tokens with `tokens`, and how many.
    pub(crate) fn find_partial(&mut self, parent: Parent, tokens: &[TokenId]) -> Option<(BlockId, usize)> {
        if self.caching { self.cache.find_partial(parent, tokens) } else { None }
    }

    /// Publishes a computed whole block under its parent. When an equal one exists already, the caller's reference
    /// moves to that one. Gives the block the table must hold from now on, or `None` when nothing is cached.
    pub(crate) fn publish(&mut self, parent: Parent, tokens: &[TokenId], block: BlockId) -> Option<BlockId> {
        if !self.caching {
            return None;
        }
        match self.cache.publish(parent, tokens, block) {
            Published::New => Some(block),
            Published::Exists(other) => {
                self.share(other);
                self.release(block);
                Some(other)
            }
        }
    }

    /// Publishes the partly filled last block of a table about to be released, unless its content is known already.
    pub(crate) fn publish_tail(&mut self, parent: Parent, tokens: &[TokenId], block: BlockId) {
        if !self.caching || tokens.is_empty() || self.pool.references(block) != 1 {
            return;
        }
        let known = self.cache.find_partial(parent, tokens).is_some_and(|(_, common)| common == tokens.len());
        if !known {
            self.cache.publish(parent, tokens, block);
        }
    }

    /// Forgets all cached content. Only when no table holds a block.
    pub(crate) fn clear_cache(&mut self) {
        while let Some(block) = self.cache.evict() {
            self.pool.put_back(block);
        }
    }

    /// Checks everything that must hold; `tables` are all tables there are.
    #[cfg(test)]
    pub(crate) fn check<'a>(&self, tables: impl Iterator<Item = &'a [BlockId]>) {
        let mut counts = vec![0_u32; self.total()];
        for block in tables.flatten() {
            counts[*block as usize] += 1;
        }
        for (block, count) in (0_u32..).zip(&counts) {
            assert_eq!(self.references(block), *count, "references of block {block}");
        }
        assert_eq!(self.used(), counts.iter().filter(|count| **count > 0).count());
        assert_eq!(self.pool.free() + self.used() + self.cached(), self.total(), "free + used + cached = total");
        self.pool.check();
        self.cache.check(&counts);
    }
}
