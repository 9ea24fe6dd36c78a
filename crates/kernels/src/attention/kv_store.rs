//! Keys and values of all layers in blocks of 32 tokens, as half floats.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use crate::Isa;
use crate::elementwise::lanes::{Kernel, LANES, Lanes, dispatch};

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
pub struct KvStore {
    data: ZeroedHalves,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    blocks: usize,
}

/// One dimension of a block's keys, by their bits.
pub(crate) type KeyDim = [[u16; LANES]; KV_BLOCK_TOKENS / LANES];
/// Sixteen dimensions of a block's values, by their bits.
pub(crate) type ValueDims = [[u16; VALUE_DIMS]; KV_BLOCK_TOKENS];

/// One block of one KV head.
#[derive(Clone, Copy)]
pub(crate) struct KvBlock<'a> {
    pub(crate) keys: &'a [KeyDim],
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
        KvBlock { keys: keys.as_chunks().0.as_chunks().0, values: values.as_chunks().0.as_chunks().0 }
    }

    /// Writes keys and values (`[kv_heads * head_dim]` each) of one token, rounded to half floats.
    ///
    /// # Panics
    /// When layer, block, slot or a length is wrong.
    pub fn write(&mut self, layer: usize, block: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let place = self.place(layer, block);
        let heads = &mut self.data.as_mut_slice()[place];
        dispatch(Isa::best(), WriteToken { head_dim: self.head_dim, heads, slot, keys, values });
    }

    /// Where a block's KV heads of one layer stand in [`KvStore::data`].
    pub(super) fn place(&self, layer: usize, block: usize) -> Range<usize> {
        let (keys, values) = self.head_halves();
        let start = self.head_start(layer, block, 0);
        start..start + self.kv_heads * (keys + values)
    }

    /// All halves by their bits.
    pub(super) fn data(&mut self) -> &mut [u16] {
        self.data.as_mut_slice()
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

/// Writes one token to all KV heads of a block and layer.
pub(super) struct WriteToken<'a> {
    pub(super) head_dim: usize,
    /// The block's part of the store.
    pub(super) heads: &'a mut [u16],
    pub(super) slot: usize,
    /// `[kv heads][head_dim]`.
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
}

impl Kernel for WriteToken<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { head_dim, heads, slot, keys, values } = self;
        let key_len = head_dim * KV_BLOCK_TOKENS;
        let head_len = key_len + head_dim.next_multiple_of(VALUE_DIMS) * KV_BLOCK_TOKENS;
        let width = heads.len() / head_len * head_dim;
        assert!(slot < KV_BLOCK_TOKENS && keys.len() == width && values.len() == width, "one token's keys and values");
        let rows = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (head, (keys, values)) in heads.chunks_exact_mut(head_len).zip(rows) {
            let (to_keys, to_values) = head.split_at_mut(key_len);
            let to_keys = to_keys.as_chunks_mut::<KV_BLOCK_TOKENS>().0;
            for (keys, to) in keys.chunks(LANES).zip(to_keys.chunks_mut(LANES)) {
                for (half, row) in halves(lanes, keys).iter().zip(to) {
                    row[slot] = *half;
                }
            }
            let to_values = to_values.as_chunks_mut::<VALUE_DIMS>().0.as_chunks_mut::<KV_BLOCK_TOKENS>().0;
            for (values, to) in values.chunks(VALUE_DIMS).zip(to_values) {
                to[slot] = halves(lanes, values);
            }
        }
    }
}

/// Up to sixteen values as half floats, then zeros.
#[inline(always)]
fn halves<L: Lanes>(lanes: L, x: &[f32]) -> [u16; LANES] {
    let mut out = [0; LANES];
    if let Some(x) = x.first_chunk() {
        lanes.store_f16(lanes.load(x), &mut out);
    } else {
        let mut last = [0.0; LANES];
        last[..x.len()].copy_from_slice(x);
        lanes.store_f16(lanes.load(&last), &mut out);
    }
    out
}

fn key_halves(head_dim: usize) -> Option<usize> {
    head_dim.checked_mul(KV_BLOCK_TOKENS)
}

fn value_halves(head_dim: usize) -> Option<usize> {
    head_dim.checked_next_multiple_of(VALUE_DIMS)?.checked_mul(KV_BLOCK_TOKENS)
}

/// Zeroed memory straight from the system, so that pages that nobody touches are never backed. It begins at a cache
/// line.
struct ZeroedHalves {
    memory: NonNull<u16>,
    /// Values before the first cache line.
    skip: usize,
    len: usize,
}

/// Values of a cache line.
const LINE_HALVES: usize = 32;

// SAFETY: it owns its memory like a `Vec<u16>` does.
unsafe impl Send for ZeroedHalves {}
// SAFETY: shared access only reads.
unsafe impl Sync for ZeroedHalves {}

impl ZeroedHalves {
    fn new(len: usize) -> Result<Self, KvStoreError> {
        // An allocation of larger alignment would be zeroed by hand, and thus backed; so the line is looked for here.
        let layout = Self::layout(len).filter(|_| len > 0).ok_or(KvStoreError::Shape)?;
        // SAFETY: the layout's size is above zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory.cast::<u16>()).ok_or(KvStoreError::OutOfMemory { bytes: layout.size() })?;
        large_pages(memory.cast(), layout.size());
        let skip = memory.as_ptr().align_offset(LINE_HALVES * size_of::<u16>()).min(LINE_HALVES);
        Ok(Self { memory, skip, len })
    }

    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<u16>(len.checked_add(LINE_HALVES)?).ok()
    }

    fn as_slice(&self) -> &[u16] {
        // SAFETY: `skip + len` values, initialized (zeroed), that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.skip), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u16] {
        // SAFETY: as above, and exclusive through `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(self.skip), self.len) }
    }
}

/// Asks the system for large pages: blocks lie at random places, and each small page costs a walk through the tables.
fn large_pages(start: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let skip = start.as_ptr().align_offset(PAGE);
        if let Some(len) = bytes.checked_sub(skip).filter(|len| *len >= PAGE) {
            // SAFETY: whole pages inside the allocation; the advice changes no content.
            // A system without large pages refuses, which is as good as not asking.
            unsafe { libc::madvise(start.as_ptr().add(skip).cast(), len / PAGE * PAGE, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

impl Drop for ZeroedHalves {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.memory.as_ptr().cast(), layout) };
        }
    }
}
