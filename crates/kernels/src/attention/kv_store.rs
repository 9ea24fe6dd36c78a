//! Keys and values of all layers in blocks of 32 tokens.

use std::fmt;
use std::ops::Range;

use super::element::{KvElement, KvType, SCALE_DIMS, Scales, WriteToken};
use super::zeroed::Zeroed;
use crate::Isa;
use crate::elementwise::lanes::{LANES, dispatch};

/// Tokens in a block.
pub const KV_BLOCK_TOKENS: usize = 32;
/// Head dimensions of values that stand together for all tokens of a block: one vector.
pub(crate) const VALUE_DIMS: usize = LANES;

/// Why a store could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvStoreError {
    /// A dimension is zero or the size does not fit the address space.
    Shape,
    /// The system has not enough memory.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

impl fmt::Display for KvStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => {
                write!(f, "a KV cache needs at least one layer, head and block, and a size that fits memory")
            }
            Self::OutOfMemory { bytes } => write!(f, "not enough memory for a KV cache of {bytes} bytes"),
        }
    }
}

impl std::error::Error for KvStoreError {}

/// Keys and values: `[block][layer][kv head]`, and in each the keys as `[head_dim][32 tokens]` (sixteen tokens stand
/// in the lanes of a vector, so that scores need no horizontal sums) and the values as `[head_dim / 16][32 tokens][16]`.
/// Scales, where the type has them, stand apart: `[block][layer][kv head][head_dim / 64][keys, values][32 tokens]`.
pub struct KvStore {
    memory: Memory,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    blocks: usize,
}

enum Memory {
    F16(Zeroed<u16>),
    Q8_0 { codes: Zeroed<i8>, scales: Zeroed<f32> },
}

/// All blocks, by type.
pub(super) enum KvBlocks<'a> {
    F16(Blocks<'a, u16>),
    Q8_0(Blocks<'a, i8>),
}

/// All blocks of a type.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a, E> {
    store: &'a KvStore,
    data: &'a [E],
    /// By block, layer, KV head and head dimensions; empty when there are none.
    scales: &'a [Scales],
}

/// All numbers and scales (if any) for writing, by type.
#[derive(PartialEq)]
pub(super) enum KvMemory<'a> {
    F16(&'a mut [u16]),
    Q8_0(&'a mut [i8], &'a mut [Scales]),
}

/// One dimension of a block's keys.
pub(super) type KeyDim<E> = [[E; LANES]; KV_BLOCK_TOKENS / LANES];
/// Sixteen dimensions of a block's values.
pub(super) type ValueDims<E> = [[E; VALUE_DIMS]; KV_BLOCK_TOKENS];

/// One block of one KV head.
#[derive(Clone, Copy)]
pub(super) struct KvBlock<'a, E> {
    pub(super) keys: &'a [KeyDim<E>],
    pub(super) values: &'a [ValueDims<E>],
    /// What keys and values are to be multiplied by, by head dimensions; empty when by nothing.
    pub(super) scales: &'a [Scales],
}

impl<'a, E: KvElement> Blocks<'a, E> {
    pub(super) fn block(self, layer: usize, block: usize, kv_head: usize) -> KvBlock<'a, E> {
        assert!(kv_head < self.store.kv_heads, "KV head {kv_head}");
        let (head, len) = (self.store.first_head(layer, block) + kv_head, self.store.head_len());
        let (keys, values) = self.data[head * len..(head + 1) * len].split_at(self.store.head_dim * KV_BLOCK_TOKENS);
        KvBlock {
            keys: keys.as_chunks().0.as_chunks().0,
            values: values.as_chunks().0.as_chunks().0,
            scales: self.scales.get(self.store.scales_of(head..head + 1)).unwrap_or(&[]),
        }
    }
}

impl KvStore {
    /// An empty store for `blocks` blocks. Memory that is never written costs nothing.
    ///
    /// # Errors
    /// Impossible sizes, or no memory.
    pub fn new(
        kv_type: KvType,
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        blocks: usize,
    ) -> Result<Self, KvStoreError> {
        let heads = layers.checked_mul(kv_heads).and_then(|heads| heads.checked_mul(blocks));
        let heads = heads.filter(|&heads| heads > 0 && blocks < u32::MAX as usize).ok_or(KvStoreError::Shape)?;
        let len = head_len(head_dim).and_then(|len| len.checked_mul(heads)).ok_or(KvStoreError::Shape)?;
        let memory = match kv_type {
            KvType::F16 => Memory::F16(Zeroed::new(len)?),
            KvType::Q8_0 => {
                let scales = heads.checked_mul(head_scales(head_dim) * SCALES).ok_or(KvStoreError::Shape)?;
                Memory::Q8_0 { codes: Zeroed::new(len)?, scales: Zeroed::new(scales)? }
            }
        };
        Ok(Self { memory, layers, kv_heads, head_dim, blocks })
    }

    /// Bytes of one block over all layers, if that fits the address space.
    #[must_use]
    pub fn block_bytes(kv_type: KvType, layers: usize, kv_heads: usize, head_dim: usize) -> Option<usize> {
        let head = match kv_type {
            KvType::F16 => head_len(head_dim)?.checked_mul(size_of::<u16>())?,
            KvType::Q8_0 => head_len(head_dim)?.checked_add(head_scales(head_dim) * size_of::<Scales>())?,
        };
        layers.checked_mul(kv_heads)?.checked_mul(head)
    }

    /// How keys and values are kept.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        match self.memory {
            Memory::F16(_) => KvType::F16,
            Memory::Q8_0 { .. } => KvType::Q8_0,
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// KV heads of each layer.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Values per head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Numbers of one KV head of a block: its keys, then its values.
    pub(super) fn head_len(&self) -> usize {
        (self.head_dim + self.head_dim.next_multiple_of(VALUE_DIMS)) * KV_BLOCK_TOKENS
    }

    /// Where a block's KV heads of one layer begin, counted in heads.
    pub(super) fn first_head(&self, layer: usize, block: usize) -> usize {
        assert!(layer < self.layers && block < self.blocks, "block {block} of layer {layer}");
        (block * self.layers + layer) * self.kv_heads
    }

    /// Where the scales of KV heads stand, where there are scales.
    pub(super) fn scales_of(&self, heads: Range<usize>) -> Range<usize> {
        let each = head_scales(self.head_dim);
        heads.start * each..heads.end * each
    }

    /// All blocks.
    pub(super) fn view(&self) -> KvBlocks<'_> {
        match &self.memory {
            Memory::F16(halves) => KvBlocks::F16(Blocks { store: self, data: halves.as_slice(), scales: &[] }),
            Memory::Q8_0 { codes, scales } => {
                let scales = scales.as_slice().as_chunks().0.as_chunks().0;
                KvBlocks::Q8_0(Blocks { store: self, data: codes.as_slice(), scales })
            }
        }
    }

    /// All blocks' memory.
    pub(super) fn memory(&mut self) -> KvMemory<'_> {
        match &mut self.memory {
            Memory::F16(halves) => KvMemory::F16(halves.as_mut_slice()),
            Memory::Q8_0 { codes, scales } => {
                let scales = scales.as_mut_slice().as_chunks_mut().0.as_chunks_mut().0;
                KvMemory::Q8_0(codes.as_mut_slice(), scales)
            }
        }
    }

    /// Writes keys and values (`[kv_heads * head_dim]` each) of one token, rounded to the store's type.
    ///
    /// # Panics
    /// When layer, block, slot or a length is wrong.
    pub fn write(&mut self, layer: usize, block: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let (first, head_dim, head_len) = (self.first_head(layer, block), self.head_dim, self.head_len());
        let heads = first..first + self.kv_heads;
        let numbers = heads.start * head_len..heads.end * head_len;
        let of_heads = self.scales_of(heads);
        match self.memory() {
            KvMemory::F16(halves) => {
                let heads = &mut halves[numbers];
                dispatch(Isa::best(), WriteToken { head_dim, heads, scales: &mut [], slot, keys, values });
            }
            KvMemory::Q8_0(codes, scales) => {
                let (heads, scales) = (&mut codes[numbers], &mut scales[of_heads]);
                dispatch(Isa::best(), WriteToken { head_dim, heads, scales, slot, keys, values });
            }
        }
    }

    /// Copies a whole block, all layers.
    ///
    /// # Panics
    /// When a block is outside the store.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        assert!(from < self.blocks && to < self.blocks, "copy of block {from} to {to} of {}", self.blocks);
        let heads = self.layers * self.kv_heads;
        let len = heads * self.head_len();
        match &mut self.memory {
            Memory::F16(halves) => halves.copy_part(from, to, len),
            Memory::Q8_0 { codes, scales } => {
                codes.copy_part(from, to, len);
                scales.copy_part(from, to, heads * head_scales(self.head_dim) * SCALES);
            }
        }
    }
}

/// Numbers of [`Scales`].
const SCALES: usize = 2 * KV_BLOCK_TOKENS;

/// How many [`Scales`] a KV head of a block has.
fn head_scales(head_dim: usize) -> usize {
    head_dim.div_ceil(SCALE_DIMS)
}

/// Numbers of one KV head of a block, if there are any and the address space holds them.
fn head_len(head_dim: usize) -> Option<usize> {
    let dims = head_dim.checked_next_multiple_of(VALUE_DIMS)?.checked_add(head_dim)?;
    dims.checked_mul(KV_BLOCK_TOKENS).filter(|&len| len > 0)
}
