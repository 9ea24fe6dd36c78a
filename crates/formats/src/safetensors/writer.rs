//! Writing small safetensors files: for tests and generated models.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::FormatError;
use crate::error::shown;
use crate::gguf::{TensorType, byte_len};

/// Headers are padded to multiples of this many bytes.
const ALIGNMENT: usize = 8;

/// Gathers tensors, then gives the file's bytes. Everything is held in memory.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// The entries of the header so far, each `"NAME":{…}`.
    entries: Vec<String>,
    data: Vec<u8>,
}

impl Writer {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor from its bytes; the last of `shape` is the row length, unlike in GGUF.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] when the type is none of F32, F16 and BF16, or the shape does not fit the number of bytes.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: TensorType,
        shape: &[u64],
        bytes: &[u8],
    ) -> Result<&mut Self, FormatError> {
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(name), reason };
        if !matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16) {
            return Err(wrong(format!("safetensors has no type {ty}")));
        }
        let dims: Vec<u64> = shape.iter().rev().copied().collect();
        let expected = byte_len(ty, &dims).map_err(wrong)?;
        if bytes.len() as u64 != expected {
            return Err(wrong(format!("{} bytes given instead of {expected}", bytes.len())));
        }
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        let entry = json!({ "dtype": ty.name(), "shape": shape, "data_offsets": [start, self.data.len()] });
        self.entries.push(format!("{}:{entry}", json!(name)));
        Ok(self)
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = format!("{{{}}}", self.entries.join(","));
        while !header.len().is_multiple_of(ALIGNMENT) {
            header.push(' ');
        }
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.data);
        out
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`FormatError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FormatError> {
        let path = path.as_ref();
        fs::write(path, self.to_bytes()).map_err(|source| FormatError::Io {
            what: path.display().to_string(),
            offset: 0,
            source,
        })
    }
}
