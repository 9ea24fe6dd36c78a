//! Blocks found again by their content.
//!
//! A published block is known by its parent (the block before it) and its own tokens. Both are kept and compared in
//! full, so no false hit is possible. The index is ordered: an exact lookup takes O(log n), and the block with the
//! longest common beginning is a neighbour of the place where the looked-up tokens would stand.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use inference::TokenId;
use model::{BLOCK_TOKENS, BlockId};

use super::{Origin, Parent};

/// Serial number of a published block, never used again.
type Serial = u64;
type Key = (Above, Arc<[TokenId]>);

/// What a block is looked for under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Above {
    Start(Origin),
    Block(Serial),
}

#[derive(Debug)]
struct Node {
    serial: Serial,
    parent: Option<BlockId>,
    key: Key,
    /// Published blocks whose parent this is.
    children: u32,
    referenced: bool,
    /// When it was last given up; the order of eviction.
    stamp: u64,
}

/// What became of a block offered to the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    New,
    Exists(BlockId),
}

/// The published blocks, and those among them that nobody holds in the order in which they can be evicted.
#[derive(Debug)]
pub(super) struct PrefixCache {
    nodes: Vec<Option<Node>>,
    index: BTreeMap<Key, BlockId>,
    /// Unreferenced leaves by stamp.
    evictable: BTreeMap<u64, BlockId>,
    unreferenced: usize,
    last_serial: Serial,
    last_stamp: u64,
}

impl PrefixCache {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            nodes: std::iter::repeat_with(|| None).take(blocks).collect(),
            index: BTreeMap::new(),
            evictable: BTreeMap::new(),
            unreferenced: 0,
            last_serial: 0,
            last_stamp: 0,
        }
    }

    pub(super) fn unreferenced(&self) -> usize {
        self.unreferenced
    }

    fn node(&self, block: BlockId) -> Option<&Node> {
        self.nodes.get(block as usize)?.as_ref()
    }

    fn node_mut(&mut self, block: BlockId) -> Option<&mut Node> {
        self.nodes.get_mut(block as usize)?.as_mut()
    }

    /// What to look under, or `None` when the parent is not published.
    fn above(&self, parent: Parent) -> Option<Above> {
        match parent {
            Parent::Start(origin) => Some(Above::Start(origin)),
            Parent::Block(block) => self.node(block).map(|node| Above::Block(node.serial)),
        }
    }

    pub(super) fn find(&self, parent: Parent, tokens: &[TokenId]) -> Option<BlockId> {
        debug_assert_eq!(tokens.len(), BLOCK_TOKENS);
        self.index.get(&(self.above(parent)?, Arc::from(tokens))).copied()
    }

    pub(super) fn find_partial(&mut self, parent: Parent, tokens: &[TokenId]) -> Option<(BlockId, usize)> {
        let above = self.above(parent)?;
        let tokens = &tokens[..tokens.len().min(BLOCK_TOKENS)];
        let key: Key = (above, Arc::from(tokens));
        let before = self.index.range(..=&key).next_back();
        let after = self.index.range((Bound::Excluded(&key), Bound::Unbounded)).next();
        let (block, common) = [before, after]
            .into_iter()
            .flatten()
            .filter(|((other, _), _)| *other == above)
            .map(|((_, known), block)| (*block, known.iter().zip(tokens).take_while(|(a, b)| a == b).count()))
            .max_by_key(|(_, common)| *common)?;
        if common == 0 {
            return None;
        }
        self.touch(block);
        Some((block, common))
    }

    /// Publishes a referenced block.
    pub(super) fn publish(&mut self, parent: Parent, tokens: &[TokenId], block: BlockId) -> Published {
        let Some(above) = self.above(parent) else {
            debug_assert!(false, "parent {parent:?} of block {block} is not published");
            return Published::New;
        };
        let key: Key = (above, Arc::from(tokens));
        if let Some(other) = self.index.get(&key) {
            return Published::Exists(*other);
        }
        let parent = match parent {
            Parent::Start(_) => None,
            Parent::Block(block) => Some(block),
        };
        if let Some(node) = parent.and_then(|parent| self.node_mut(parent)) {
            node.children += 1;
        }
        self.last_serial += 1;
        self.index.insert(key.clone(), block);
        let node = Node { serial: self.last_serial, parent, key, children: 0, referenced: true, stamp: 0 };
        self.nodes[block as usize] = Some(node);
        Published::New
    }

    pub(super) fn mark_referenced(&mut self, block: BlockId) {
        let Some(node) = self.node_mut(block) else { return };
        node.referenced = true;
        let stamp = node.stamp;
        self.unreferenced -= 1;
        self.evictable.remove(&stamp);
    }

    /// Keeps a block that nobody holds any more; false when it was not published.
    pub(super) fn mark_unreferenced(&mut self, block: BlockId) -> bool {
        self.last_stamp += 1;
        let stamp = self.last_stamp;
        let Some(node) = self.node_mut(block) else { return false };
        node.referenced = false;
        node.stamp = stamp;
        let leaf = node.children == 0;
        self.unreferenced += 1;
        if leaf {
            self.evictable.insert(stamp, block);
        }
        true
    }

    /// Makes an evictable block the last to go.
    fn touch(&mut self, block: BlockId) {
        let stamp = self.last_stamp + 1;
        let Some(node) = self.node_mut(block) else { return };
        let old = node.stamp;
        if self.evictable.get(&old) == Some(&block) {
            self.last_stamp = stamp;
            self.evictable.remove(&old);
            self.evictable.insert(stamp, block);
            if let Some(node) = self.node_mut(block) {
                node.stamp = stamp;
            }
        }
    }

    /// Forgets the least recently used leaf that nobody holds, and gives its block.
    pub(super) fn evict(&mut self) -> Option<BlockId> {
        let (_, block) = self.evictable.pop_first()?;
        let node = self.nodes[block as usize].take()?;
        self.unreferenced -= 1;
        self.index.remove(&node.key);
        if let Some(parent) = node.parent
            && let Some(above) = self.node_mut(parent)
        {
            above.children -= 1;
            if above.children == 0 && !above.referenced {
                let stamp = above.stamp;
                self.evictable.insert(stamp, parent);
            }
        }
        Some(block)
    }

    #[cfg(test)]
    pub(super) fn check(&self, references: &[u32]) {
        let mut children = vec![0; self.nodes.len()];
        let mut unreferenced = 0;
        let mut evictable = 0;
        for (block, node) in (0_u32..).zip(&self.nodes) {
            let Some(node) = node else { continue };
            assert_eq!(self.index.get(&node.key), Some(&block), "index entry of block {block}");
            assert_eq!(node.referenced, references[block as usize] > 0, "block {block} marked as referenced");
            unreferenced += usize::from(!node.referenced);
            if let Some(parent) = node.parent {
                children[parent as usize] += 1;
                let above = self.node(parent).expect("a parent is published as long as its children");
                assert_eq!(Above::Block(above.serial), node.key.0, "parent of block {block}");
                assert!(above.referenced || !node.referenced, "block {block} is held without its parent");
            }
        }
        for (block, node) in (0_u32..).zip(&self.nodes) {
            let Some(node) = node else { continue };
            assert_eq!(node.children, children[block as usize], "children of block {block}");
            let leaf = !node.referenced && node.children == 0;
            assert_eq!(self.evictable.get(&node.stamp) == Some(&block), leaf, "block {block} evictable");
            evictable += usize::from(leaf);
        }
        assert_eq!(self.unreferenced, unreferenced);
        assert_eq!(self.evictable.len(), evictable);
        assert_eq!(self.index.len(), self.nodes.iter().flatten().count());
    }
}
