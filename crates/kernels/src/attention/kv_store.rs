//! Keys and values of all layers in blocks of 32 tokens, as half floats.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ptr::NonNull;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Tokens in a block.
pub const KV_BLOCK_TOKENS: usize = 32;
/// Head dimensions of values that stand together for all tokens of a block: two vectors of eight.
pub(crate) const VALUE_DIMS: usize = 16;

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

/// Keys and values: `[block][layer][kv head]`, and in each the keys as `[head_dim][32 tokens]` (eight tokens stand in
/// the lanes of a vector, so that scores need no horizontal sums) and the values as
/// `[head_dim / 16][32 tokens][16]`.
pub struct KvStore {
    data: ZeroedHalves,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    blocks: usize,
}

/// Sixteen dimensions of a block's values: `[32 tokens][2][8]`, by their bits.
pub(crate) type ValueDims = [[[u16; 8]; 2]; KV_BLOCK_TOKENS];

/// One block of one KV head: `keys` `[head_dim][4][8 tokens]`, `values` `[head_dim / 16]`, by their bits.
#[derive(Clone, Copy)]
pub(crate) struct KvBlock<'a> {
    pub(crate) keys: &'a [[[u16; 8]; 4]],
    pub(crate) values: &'a [ValueDims],
}

impl KvStore {
    /// An empty store for `blocks` blocks. Memory that is never written costs nothing.
    ///
    /// # Errors
    /// Impossible sizes, or no memory.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize, blocks: usize) -> Result<Self, KvStoreError> {
        let halves = Self::block_halves(layers, kv_heads, head_dim).and_then(|block| block.checked_mul(blocks));
        let len = halves.filter(|&len| len > 0 && blocks < u32::MAX as usize).ok_or(KvStoreError::Shape)?;
        Ok(Self { data: ZeroedHalves::new(len)?, layers, kv_heads, head_dim, blocks })
    }

    /// Bytes of one block over all layers, if that fits the address space.
    #[must_use]
    pub fn block_bytes(layers: usize, kv_heads: usize, head_dim: usize) -> Option<usize> {
        Self::block_halves(layers, kv_heads, head_dim)?.checked_mul(2)
    }

    fn block_halves(layers: usize, kv_heads: usize, head_dim: usize) -> Option<usize> {
        let head = key_halves(head_dim)?.checked_add(value_halves(head_dim)?)?;
        layers.checked_mul(kv_heads)?.checked_mul(head)
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

    fn head_halves(&self) -> (usize, usize) {
        let keys = self.head_dim * KV_BLOCK_TOKENS;
        (keys, self.head_dim.next_multiple_of(VALUE_DIMS) * KV_BLOCK_TOKENS)
    }

    fn head_start(&self, layer: usize, block: usize, kv_head: usize) -> usize {
        assert!(
            layer < self.layers && block < self.blocks && kv_head < self.kv_heads,
            "block {block} of layer {layer}"
        );
        let (keys, values) = self.head_halves();
        ((block * self.layers + layer) * self.kv_heads + kv_head) * (keys + values)
    }

    pub(crate) fn block(&self, layer: usize, block: usize, kv_head: usize) -> KvBlock<'_> {
        let start = self.head_start(layer, block, kv_head);
        let (keys, values) = self.head_halves();
        let (keys, values) = self.data.as_slice()[start..start + keys + values].split_at(keys);
        KvBlock { keys: keys.as_chunks().0.as_chunks().0, values: values.as_chunks().0.as_chunks().0.as_chunks().0 }
    }

    /// Writes keys and values (`[kv_heads * head_dim]` each) of one token, rounded to half floats.
    ///
    /// # Panics
    /// When layer, block, slot or a length is wrong.
    pub fn write(&mut self, layer: usize, block: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let width = self.kv_heads * self.head_dim;
        assert!(slot < KV_BLOCK_TOKENS && keys.len() == width && values.len() == width, "one token's keys and values");
        let (key_len, value_len) = self.head_halves();
        for kv_head in 0..self.kv_heads {
            let start = self.head_start(layer, block, kv_head);
            let (to_keys, to_values) =
                self.data.as_mut_slice()[start..start + key_len + value_len].split_at_mut(key_len);
            let head = kv_head * self.head_dim..(kv_head + 1) * self.head_dim;
            let mut halves = [f16::ZERO; VALUE_DIMS];
            for (keys, to) in
                keys[head.clone()].chunks(VALUE_DIMS).zip(to_keys.chunks_mut(VALUE_DIMS * KV_BLOCK_TOKENS))
            {
                halves[..keys.len()].convert_from_f32_slice(keys);
                for (half, row) in halves.iter().zip(to.chunks_exact_mut(KV_BLOCK_TOKENS)) {
                    row[slot] = half.to_bits();
                }
            }
            for (values, to) in
                values[head].chunks(VALUE_DIMS).zip(to_values.chunks_exact_mut(VALUE_DIMS * KV_BLOCK_TOKENS))
            {
                halves[..values.len()].convert_from_f32_slice(values);
                for (half, to) in halves[..values.len()].iter().zip(&mut to[slot * VALUE_DIMS..]) {
                    *to = half.to_bits();
                }
            }
        }
    }

    /// Copies a whole block, all layers.
    ///
    /// # Panics
    /// When a block is outside the store.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        assert!(from < self.blocks && to < self.blocks, "copy of block {from} to {to} of {}", self.blocks);
        let (keys, values) = self.head_halves();
        let len = self.layers * self.kv_heads * (keys + values);
        self.data.as_mut_slice().copy_within(from * len..(from + 1) * len, to * len);
    }
}

fn key_halves(head_dim: usize) -> Option<usize> {
    head_dim.checked_mul(KV_BLOCK_TOKENS)
}

fn value_halves(head_dim: usize) -> Option<usize> {
    head_dim.checked_next_multiple_of(VALUE_DIMS)?.checked_mul(KV_BLOCK_TOKENS)
}

/// Zeroed memory straight from the system, so that pages that nobody touches are never backed.
struct ZeroedHalves {
    start: NonNull<u16>,
    len: usize,
}

// SAFETY: it owns its memory like a `Vec<u16>` does.
unsafe impl Send for ZeroedHalves {}
// SAFETY: shared access only reads.
unsafe impl Sync for ZeroedHalves {}

impl ZeroedHalves {
    fn new(len: usize) -> Result<Self, KvStoreError> {
        let layout = Layout::array::<u16>(len).ok().filter(|l| l.size() > 0).ok_or(KvStoreError::Shape)?;
        // SAFETY: the layout's size is above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start.cast()).ok_or(KvStoreError::OutOfMemory { bytes: layout.size() })?;
        Ok(Self { start, len })
    }

    fn as_slice(&self) -> &[u16] {
        // SAFETY: `len` initialized (zeroed) values that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u16] {
        // SAFETY: as above, and exclusive through `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for ZeroedHalves {
    fn drop(&mut self) {
        if let Ok(layout) = Layout::array::<u16>(self.len) {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}
