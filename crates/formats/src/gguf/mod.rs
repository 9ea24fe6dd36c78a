//! GGUF files, versions 2 and 3, little-endian.

mod header;
mod source;
mod tensor;
mod value;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use self::header::Header;
pub use self::tensor::{TensorInfo, TensorType};
pub use self::value::{Array, StringArray, Value};
pub use self::writer::{TensorHead, Writer, header_bytes};
use crate::FormatError;
use crate::error::shown;

/// An open GGUF file whose header has been read and checked. The data is read on demand with positioned reads, so a file
/// that shrinks while in use gives an error and nothing worse.
#[derive(Debug)]
pub struct Gguf {
    file: File,
    path: PathBuf,
    file_len: u64,
    header: Header,
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`FormatError`] when the file cannot be read, is not GGUF of a supported kind, or contradicts itself.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        /// Few system calls for a header of some MiB, and small beside a model.
        const BUFFER_BYTES: usize = 256 << 10;
        let path = path.as_ref();
        let open_error = |source| FormatError::Open { path: path.to_owned(), source };
        // Asked before it is opened: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        if !metadata.is_file() {
            return Err(open_error(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(open_error)?;
        let file_len = file.metadata().map_err(open_error)?.len();
        let header = Header::read(BufReader::with_capacity(BUFFER_BYTES, &file), file_len)?;
        Ok(Self { file, path: path.to_owned(), file_len, header })
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file when it was opened.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// All metadata, sorted by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensor_index.get(name).and_then(|&index| self.header.tensors.get(index))
    }

    /// Reads some rows of a tensor (see [`TensorInfo::rows`]) as they stand in the file; `out` holds exactly their bytes
    /// afterwards.
    ///
    /// # Errors
    /// [`FormatError`] when the rows are not in the tensor, or the file no longer has them.
    pub fn read_tensor(&self, tensor: &TensorInfo, rows: Range<u64>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(&tensor.name), reason };
        let row_bytes = tensor.row_bytes();
        let (start, len) = rows
            .end
            .checked_sub(rows.start)
            .filter(|_| rows.end <= tensor.rows())
            .and_then(|count| Some((rows.start.checked_mul(row_bytes)?, count.checked_mul(row_bytes)?)))
            .ok_or_else(|| wrong(format!("rows {rows:?} are not among its {} rows", tensor.rows())))?;
        let offset = self
            .header
            .data_start
            .checked_add(tensor.offset)
            .and_then(|offset| offset.checked_add(start))
            .filter(|offset| offset.checked_add(len).is_some_and(|end| end <= self.file_len))
            .ok_or_else(|| wrong("it is not a tensor of this file".to_owned()))?;
        let bytes = usize::try_from(len).map_err(|error| wrong(format!("too large for this machine: {error}")))?;
        out.resize(bytes, 0);
        self.file.read_exact_at(out, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                FormatError::TensorTruncated { tensor: shown(&tensor.name), offset, expected: len }
            }
            _ => FormatError::Io { what: format!("tensor \"{}\"", shown(&tensor.name)), offset, source },
        })
    }
}

/// Typed access to metadata: `None` when the key is absent, an error when it holds something else.
impl Gguf {
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(FormatError::WrongType { key: shown(key), expected, actual: value.describe() }),
        }
    }

    /// An integer of any width that fits.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        self.typed(key, "an integer from 0 to 4294967295", |value| u32::try_from(value.integer()?).ok())
    }

    /// An integer of any width that fits.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>, FormatError> {
        self.typed(key, "an integer of at least 0", |value| match value {
            Value::U64(value) => Some(*value),
            other => u64::try_from(other.integer()?).ok(),
        })
    }

    /// A finite float.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, FormatError> {
        self.typed(key, "a finite float", |value| {
            let float = match value {
                Value::F32(value) => *value,
                #[expect(clippy::cast_possible_truncation, reason = "precision beyond f32 is not needed")]
                Value::F64(value) => *value as f32,
                _ => return None,
            };
            float.is_finite().then_some(float)
        })
    }

    /// A bool.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A string.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        self.typed(key, "a string", |value| match value {
            Value::String(value) => Some(value.as_str()),
            _ => None,
        })
    }

    /// An array of any element type.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_array(&self, key: &str) -> Result<Option<&Array>, FormatError> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_str_array(&self, key: &str) -> Result<Option<&StringArray>, FormatError> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings),
            _ => None,
        })
    }

    /// An array of 32-bit floats.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_f32_array(&self, key: &str) -> Result<Option<&[f32]>, FormatError> {
        self.typed(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(floats)) => Some(floats.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width that all fit.
    ///
    /// # Errors
    /// [`FormatError::WrongType`].
    pub fn get_u32_array(&self, key: &str) -> Result<Option<Vec<u32>>, FormatError> {
        self.typed(key, "an array of integers from 0 to 4294967295", |value| match value {
            Value::Array(array) => (0..array.len()).map(|index| u32::try_from(array.integer(index)?).ok()).collect(),
            _ => None,
        })
    }
}
