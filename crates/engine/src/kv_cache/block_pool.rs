//! Reference counts and the free list.

use model::BlockId;

/// Blocks with reference counts. Blocks with none are on the free list, or with the caller.
#[derive(Debug)]
pub(super) struct BlockPool {
    references: Vec<u32>,
    free: Vec<BlockId>,
    referenced: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        let count = BlockId::try_from(blocks).unwrap_or(BlockId::MAX);
        Self { references: vec![0; count as usize], free: (0..count).rev().collect(), referenced: 0 }
    }

    pub(super) fn total(&self) -> usize {
        self.references.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn referenced(&self) -> usize {
        self.referenced
    }

    pub(super) fn references(&self, block: BlockId) -> u32 {
        self.references[block as usize]
    }

    /// Takes a free block, referenced once.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop()?;
        self.references[block as usize] = 1;
        self.referenced += 1;
        Some(block)
    }

    /// One more reference; gives the new count.
    pub(super) fn retain(&mut self, block: BlockId) -> u32 {
        let count = &mut self.references[block as usize];
        *count += 1;
        if *count == 1 {
            self.referenced += 1;
        }
        *count
    }

    /// One reference less; gives the new count. At 0 the block is the caller's to put back or to keep.
    pub(super) fn release(&mut self, block: BlockId) -> u32 {
        let count = &mut self.references[block as usize];
        debug_assert!(*count > 0, "block {block} released too often");
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.referenced -= 1;
        }
        *count
    }

    /// Puts an unreferenced block on the free list.
    pub(super) fn put_back(&mut self, block: BlockId) {
        debug_assert_eq!(self.references[block as usize], 0);
        self.free.push(block);
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut free = self.free.clone();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), self.free.len(), "a block is on the free list twice");
        assert!(free.iter().all(|block| self.references[*block as usize] == 0), "a free block is referenced");
    }
}
