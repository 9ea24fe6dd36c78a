//! Weight matrices, repacked once at load into panels of eight interleaved rows.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ThreadPool;
use crate::memory::{Part, WeightMemory};
use crate::panel::{self, LANES, Layout};

/// Panels that one thread packs at a time.
const PANELS_PER_ITEM: usize = 8;

/// How the weights of a GGUF tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (IEEE half).
    F16,
    /// 16-bit floats (the upper half of an F32).
    BF16,
    /// 4 bits, one scale for 32 weights.
    Q4_0,
    /// 4 bits, scale and minimum for 32 weights.
    Q4_1,
    /// 5 bits, one scale for 32 weights.
    Q5_0,
    /// 5 bits, scale and minimum for 32 weights.
    Q5_1,
    /// 8 bits, one scale for 32 weights.
    Q8_0,
    /// 2 bits in super-blocks of 256, 4-bit scale and minimum for 16 weights.
    Q2K,
    /// 3 bits in super-blocks of 256, 6-bit scale for 16 weights.
    Q3K,
    /// 4 bits in super-blocks of 256, 6-bit scale and minimum for 32 weights.
    Q4K,
    /// 5 bits in super-blocks of 256, 6-bit scale and minimum for 32 weights.
    Q5K,
    /// 6 bits in super-blocks of 256, 8-bit scale for 16 weights.
    Q6K,
    /// 4 bits that choose from 16 uneven values, one scale for 32 weights.
    IQ4NL,
    /// The same in super-blocks of 256, 6-bit scale for 32 weights.
    IQ4XS,
    /// 4-bit floats, a power of two as the scale of 32 weights.
    MXFP4,
}

impl WeightType {
    /// All types.
    pub const ALL: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::IQ4NL,
        Self::IQ4XS,
        Self::MXFP4,
    ];

    /// Weights in one GGUF block.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4NL | Self::MXFP4 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::IQ4XS => 256,
        }
    }

    /// Bytes of one GGUF block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::MXFP4 => 17,
            Self::Q4_0 | Self::IQ4NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::IQ4XS => 136,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of one GGUF row of `cols` weights.
    #[must_use]
    pub fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }

    /// Whether the weights are floats, so that products use the unquantized activations.
    #[must_use]
    pub fn is_float(self) -> bool {
        self.block_len() == 1
    }
}

/// Why a matrix could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatrixError {
    /// A dimension is zero, too large, or not a multiple of the type's block length.
    Shape {
        /// The type.
        ty: WeightType,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// The bytes are not a whole number of rows, or more or fewer rows came than promised.
    Rows {
        /// Rows promised.
        expected: usize,
        /// Whole rows received.
        received: usize,
    },
    /// A weight is infinite or no number.
    NotFinite {
        /// Its row.
        row: usize,
    },
    /// The system has not enough memory.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { ty, rows, cols } => write!(
                f,
                "a {ty:?} matrix of {rows} rows x {cols} columns is not possible: both must be above 0 and the columns a multiple of {}",
                ty.block_len()
            ),
            Self::Rows { expected, received } => write!(f, "expected {expected} whole rows, received {received}"),
            Self::NotFinite { row } => {
                write!(f, "row {row} (from 0) holds a weight that is infinite or not a number: the file is damaged")
            }
            Self::OutOfMemory { bytes } => write!(f, "not enough memory for {bytes} bytes of weights"),
        }
    }
}

impl std::error::Error for MatrixError {}

/// A weight matrix `[rows][cols]` in panels: eight rows side by side, so that rows stand in SIMD lanes and one
/// unpacked block serves many activation columns.
pub struct Matrix {
    ty: WeightType,
    rows: usize,
    cols: usize,
    layout: Layout,
    panels: Part,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({:?} {}x{})", self.ty, self.rows, self.cols)
    }
}

impl Matrix {
    /// Rows (outputs of a product).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs of a product).
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the weights are stored.
    #[must_use]
    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Bytes held.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.panels.len()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of panels of eight rows.
    pub(crate) fn panel_count(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        let bytes = self.layout.panel_bytes(self.cols);
        &self.panels[index * bytes..(index + 1) * bytes]
    }

    /// Writes row `row`, dequantized, to `out` (length [`cols`](Self::cols)).
    ///
    /// # Panics
    /// When `row` or the length of `out` is wrong.
    pub fn row_into(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {self:?} into {} values", out.len());
        panel::dequantize_lane(self.layout, self.panel(row / LANES), row % LANES, out);
    }
}

/// Builds a [`Matrix`] from the bytes of a GGUF tensor, any whole number of rows at a time.
pub struct MatrixBuilder {
    matrix: Matrix,
    filled: usize,
}

impl MatrixBuilder {
    /// Room for `rows` x `cols` weights of type `ty`, in `memory`.
    ///
    /// # Errors
    /// Impossible shapes, or no memory.
    pub fn new(memory: &mut WeightMemory, ty: WeightType, rows: usize, cols: usize) -> Result<Self, MatrixError> {
        let shape_error = MatrixError::Shape { ty, rows, cols };
        if rows == 0 || cols == 0 || !cols.is_multiple_of(ty.block_len()) || cols > usize::MAX / 64 {
            return Err(shape_error);
        }
        let layout = Layout::of(ty);
        let bytes = rows.div_ceil(LANES).checked_mul(layout.panel_bytes(cols)).ok_or(shape_error)?;
        let panels = memory.take(bytes).ok_or(MatrixError::OutOfMemory { bytes })?;
        Ok(Self { matrix: Matrix { ty, rows, cols, layout, panels }, filled: 0 })
    }

    /// Appends whole rows in GGUF block bytes, packed on the threads of `pool`.
    ///
    /// # Errors
    /// When the bytes are not whole rows, or too many, or a weight is not finite.
    pub fn push_rows(&mut self, pool: &ThreadPool, bytes: &[u8]) -> Result<(), MatrixError> {
        let (filled, matrix) = (self.filled, &mut self.matrix);
        let row_bytes = matrix.ty.row_bytes(matrix.cols);
        let received = filled + bytes.len().div_ceil(row_bytes);
        if !bytes.len().is_multiple_of(row_bytes) || received > matrix.rows {
            return Err(MatrixError::Rows { expected: matrix.rows, received });
        }
        let (layout, panel_bytes) = (matrix.layout, matrix.layout.panel_bytes(matrix.cols));
        let (first, end) = (filled / LANES, received.div_ceil(LANES));
        let (ty, broken) = (matrix.ty, AtomicUsize::new(usize::MAX));
        let panels = &mut matrix.panels[first * panel_bytes..end * panel_bytes];
        pool.for_each_chunk(panels, PANELS_PER_ITEM * panel_bytes, |item, panels| {
            for (panel, place) in panels.chunks_exact_mut(panel_bytes).zip(first + item * PANELS_PER_ITEM..) {
                for row in filled.max(place * LANES)..received.min((place + 1) * LANES) {
                    let bytes = &bytes[(row - filled) * row_bytes..][..row_bytes];
                    panel::pack_lane(layout, bytes, row % LANES, panel);
                    if !panel::is_finite(ty, bytes) {
                        broken.fetch_min(row, Ordering::Relaxed);
                    }
                }
            }
        });
        let row = broken.into_inner();
        if row < usize::MAX {
            return Err(MatrixError::NotFinite { row });
        }
        self.filled = received;
        Ok(())
    }

    /// The matrix, once all rows are there.
    ///
    /// # Errors
    /// When rows are missing.
    pub fn finish(self) -> Result<Matrix, MatrixError> {
        if self.filled == self.matrix.rows {
            Ok(self.matrix)
        } else {
            Err(MatrixError::Rows { expected: self.matrix.rows, received: self.filled })
        }
    }
}
