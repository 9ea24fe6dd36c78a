//! Tensor types and descriptions.

use std::fmt;

/// Element types of tensors that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "the field's names of the block formats")]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// Upper half of a 32-bit float.
    BF16,
    /// Blocks of 32: scale, 4-bit values.
    Q4_0,
    /// Blocks of 32: scale, minimum, 4-bit values.
    Q4_1,
    /// Blocks of 32: scale, 5-bit values.
    Q5_0,
    /// Blocks of 32: scale, minimum, 5-bit values.
    Q5_1,
    /// Blocks of 32: scale, 8-bit values.
    Q8_0,
    /// Super-blocks of 256: 2-bit values with 4-bit scales and minimums.
    Q2_K,
    /// Super-blocks of 256: 3-bit values with 6-bit scales.
    Q3_K,
    /// Super-blocks of 256: 4-bit values with 6-bit scales and minimums.
    Q4_K,
    /// Super-blocks of 256: 5-bit values with 6-bit scales and minimums.
    Q5_K,
    /// Super-blocks of 256: 6-bit values with 8-bit scales.
    Q6_K,
    /// Blocks of 32: scale, 4-bit codes of 16 uneven values.
    IQ4_NL,
    /// Super-blocks of 256: 4-bit codes of 16 uneven values with 6-bit scales.
    IQ4_XS,
    /// Blocks of 32: an exponent, 4-bit floats.
    MXFP4,
}

/// What a type number in a file stands for, when it is not a [`TensorType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Known(&'static str),
    Unknown,
}

impl TensorType {
    /// Every type that can be read.
    pub const ALL: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    /// Elements in one block (1 for plain floats).
    pub const fn block_len(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL | Self::MXFP4 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
        }
    }

    /// Bytes in one block.
    pub const fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::MXFP4 => 17,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::IQ4_XS => 136,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// The number of this type in a GGUF file.
    pub const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2_K => 10,
            Self::Q3_K => 11,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::IQ4_NL => 20,
            Self::IQ4_XS => 23,
            Self::BF16 => 30,
            Self::MXFP4 => 39,
        }
    }

    /// The usual name, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::MXFP4 => "MXFP4",
        }
    }

    /// Bytes of a row of `elements`, or `None` when it is not a whole number of blocks or overflows.
    pub const fn row_bytes(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    pub(crate) fn from_id(id: u32) -> Result<Self, Unreadable> {
        if let Some(ty) = Self::ALL.into_iter().find(|ty| ty.id() == id) {
            return Ok(ty);
        }
        let name = match id {
            4 => "Q4_2",
            5 => "Q4_3",
            9 => "Q8_1",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            31 => "Q4_0_4_4",
            32 => "Q4_0_4_8",
            33 => "Q4_0_8_8",
            34 => "TQ1_0",
            35 => "TQ2_0",
            36 => "IQ4_NL_4_4",
            37 => "IQ4_NL_4_8",
            38 => "IQ4_NL_8_8",
            40 => "NVFP4",
            _ => return Err(Unreadable::Unknown),
        };
        Err(Unreadable::Known(name))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor is and what it looks like. As given out by [`super::Gguf`], it lies wholly inside its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Unique in its model.
    pub name: String,
    /// Element type.
    pub ty: TensorType,
    /// Sizes in GGUF order: `dims[0]` is the row length in elements; 1 to 4 entries, none 0.
    pub dims: Vec<u64>,
    /// Bytes from the start of its file's data section; 0 when it is put together from several.
    pub offset: u64,
    /// Bytes of the whole tensor.
    pub byte_len: u64,
}

impl TensorInfo {
    /// Elements in one row.
    pub fn row_len(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Number of rows: the product of all sizes but the first.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).fold(1, |rows: u64, &dim| rows.saturating_mul(dim))
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.ty.row_bytes(self.row_len()).unwrap_or(0)
    }
}
