//! The states of all layers, one for each sequence.

use super::{Group, SsmShape};
use crate::attention::KvStoreError;
use crate::attention::zeroed::Zeroed;
use crate::elementwise::lanes::LANES;

/// States of sequences, in F32: `[slot][layer][inner / 16][conv - 1 + state][16]`. The first rows of sixteen channels are
/// what went into the convolution at the last positions, the oldest first; the others are what the scan remembers.
pub struct StateStore {
    memory: Zeroed<f32>,
    shape: SsmShape,
    layers: usize,
    slots: usize,
}

impl StateStore {
    /// A store for the states of `slots` sequences. Memory that is never written costs nothing.
    ///
    /// # Errors
    /// Impossible sizes, or no memory.
    pub fn new(shape: SsmShape, layers: usize, slots: usize) -> Result<Self, KvStoreError> {
        let len = Self::slot_len(shape, layers).and_then(|len| len.checked_mul(slots)).filter(|&len| len > 0);
        let len = len.filter(|_| slots < u32::MAX as usize).ok_or(KvStoreError::Shape)?;
        Ok(Self { memory: Zeroed::new(len)?, shape, layers, slots })
    }

    /// Bytes of the state of one sequence over all layers, if that fits the address space.
    #[must_use]
    pub fn slot_bytes(shape: SsmShape, layers: usize) -> Option<usize> {
        Self::slot_len(shape, layers)?.checked_mul(size_of::<f32>())
    }

    fn slot_len(shape: SsmShape, layers: usize) -> Option<usize> {
        let rows = shape.state.checked_add(shape.conv)?.checked_sub(1)?;
        shape.inner.checked_next_multiple_of(LANES)?.checked_mul(rows)?.checked_mul(layers)
    }

    /// What a layer looks like.
    #[must_use]
    pub fn shape(&self) -> SsmShape {
        self.shape
    }

    /// Layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Sequences that it has room for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Copies a whole state, all layers.
    ///
    /// # Panics
    /// When a slot is outside the store.
    pub fn copy(&mut self, from: usize, to: usize) {
        assert!(from < self.slots && to < self.slots, "copy of state {from} to {to} of {}", self.slots);
        self.memory.copy_part(from, to, self.layers * self.layer_groups() * LANES);
    }

    /// Rows of sixteen channels that a layer of one state has.
    fn layer_groups(&self) -> usize {
        self.shape.groups() * self.shape.rows()
    }

    /// Where the state of a layer begins in [`Self::groups_mut`].
    pub(super) fn start(&self, slot: usize, layer: usize) -> usize {
        assert!(layer < self.layers && slot < self.slots, "state {slot} of layer {layer}");
        (slot * self.layers + layer) * self.layer_groups()
    }

    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        self.memory.as_mut_slice().as_chunks_mut().0
    }
}
