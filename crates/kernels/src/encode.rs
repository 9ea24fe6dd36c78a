//! Floats to the blocks of a GGUF tensor: what `quantize` writes.
//!
//! The blocks are those of the format, so any reader of GGUF takes them; which scales they carry is chosen here, by
//! least squares over a few candidates (see [`fit`]).

mod fit;
mod simple;
mod super_block;

use std::fmt;

use crate::{ThreadPool, WeightType};

/// Values that one thread encodes at a time; whole blocks of any type.
const VALUES_PER_ITEM: usize = 4096;

/// Why values could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// Nothing here encodes this type.
    Type(WeightType),
    /// The number of values is not a multiple of the type's block length.
    Length {
        /// The type.
        ty: WeightType,
        /// Values given.
        values: usize,
    },
    /// A value is infinite or not a number.
    NotFinite {
        /// Its index among the values.
        index: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(ty) => write!(f, "there is no encoder for {ty:?}"),
            Self::Length { ty, values } => {
                write!(f, "{values} values are not whole blocks of {} ({ty:?})", ty.block_len())
            }
            Self::NotFinite { index } => write!(f, "value {index} is infinite or not a number"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Encodes one block: its values, and its bytes, which are zeros before.
type Encoder = fn(&[f32], &mut [u8]);

/// Encodes whole blocks of `values` as type `ty` on the threads of `pool`; `out` holds exactly their bytes afterwards.
///
/// # Errors
/// [`EncodeError`]; `out` is unspecified then.
pub fn encode(pool: &ThreadPool, ty: WeightType, values: &[f32], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let encoder: Encoder = match ty {
        WeightType::F32 => simple::f32,
        WeightType::F16 => simple::f16,
        WeightType::BF16 => simple::bf16,
        WeightType::Q4_0 => simple::q4_0,
        WeightType::Q4_1 => simple::q4_1,
        WeightType::Q5_0 => simple::q5_0,
        WeightType::Q5_1 => simple::q5_1,
        WeightType::Q8_0 => simple::q8_0,
        WeightType::Q4K => super_block::q4k,
        WeightType::Q5K => super_block::q5k,
        WeightType::Q6K => super_block::q6k,
        _ => return Err(EncodeError::Type(ty)),
    };
    let (len, bytes) = (ty.block_len(), ty.block_bytes());
    if !values.len().is_multiple_of(len) {
        return Err(EncodeError::Length { ty, values: values.len() });
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(EncodeError::NotFinite { index });
    }
    out.clear();
    out.resize(values.len() / len * bytes, 0);
    pool.for_each_chunk(out, VALUES_PER_ITEM / len * bytes, |item, out| {
        let values = &values[item * VALUES_PER_ITEM..];
        for (block, values) in out.chunks_exact_mut(bytes).zip(values.chunks_exact(len)) {
            encoder(values, block);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
