//! Writing GGUF files, version 3.

use std::fs;
use std::path::Path;

use super::header::byte_len;
use super::tensor::TensorType;
use super::value::{Array, Value, id};
use crate::FormatError;
use crate::error::shown;

/// Tensors begin at multiples of this many bytes.
const ALIGNMENT: usize = 32;

/// A tensor that a header announces.
#[derive(Clone, Copy, Debug)]
pub struct TensorHead<'a> {
    /// Unique in the file.
    pub name: &'a str,
    /// Element type.
    pub ty: TensorType,
    /// Sizes; `dims[0]` is the row length.
    pub dims: &'a [u64],
}

impl TensorHead<'_> {
    /// Bytes of its data.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] when the shape does not fit the type.
    pub fn byte_len(&self) -> Result<u64, FormatError> {
        byte_len(self.ty, self.dims).map_err(|reason| FormatError::Tensor { tensor: shown(self.name), reason })
    }

    /// Zeros that follow its data.
    ///
    /// # Errors
    /// As [`byte_len`](Self::byte_len).
    pub fn padding(&self) -> Result<usize, FormatError> {
        #[expect(clippy::cast_possible_truncation, reason = "below the alignment")]
        let padding = |len: u64| (len.next_multiple_of(ALIGNMENT as u64) - len) as usize;
        self.byte_len().map(padding)
    }
}

/// The bytes of a file before its data, for files too large for a [`Writer`]: behind them come the tensors' data in this
/// order, each followed by its [padding](TensorHead::padding).
///
/// # Errors
/// As [`TensorHead::byte_len`].
pub fn header_bytes<'a>(
    keys: impl ExactSizeIterator<Item = (&'a str, &'a Value)>,
    tensors: &[TensorHead<'_>],
) -> Result<Vec<u8>, FormatError> {
    let mut out = b"GGUF".to_vec();
    put(&mut out, 3_u32.to_le_bytes());
    put_len(&mut out, tensors.len());
    put_len(&mut out, keys.len());
    for (name, value) in keys {
        put_str(&mut out, name);
        put_value(&mut out, value);
    }
    let mut offset = 0_u64;
    for tensor in tensors {
        put_str(&mut out, tensor.name);
        #[expect(clippy::cast_possible_truncation, reason = "a few dimensions")]
        put(&mut out, (tensor.dims.len() as u32).to_le_bytes());
        for dim in tensor.dims {
            put(&mut out, dim.to_le_bytes());
        }
        put(&mut out, tensor.ty.id().to_le_bytes());
        put(&mut out, offset.to_le_bytes());
        offset = offset.saturating_add(tensor.byte_len()?).saturating_add(tensor.padding()? as u64);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

/// Gathers keys and tensors, then gives the file's bytes. Everything is held in memory.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    keys: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    ty: TensorType,
    dims: Vec<u64>,
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata key. Nothing is checked, so that tests can write files with faults.
    pub fn key(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.keys.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a tensor from its bytes in the file's form; `dims[0]` is the row length.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] when the shape does not fit the type or the number of bytes.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: TensorType,
        dims: &[u64],
        bytes: Vec<u8>,
    ) -> Result<&mut Self, FormatError> {
        let expected = TensorHead { name, ty, dims }.byte_len()?;
        if bytes.len() as u64 != expected {
            let reason = format!("{} bytes given instead of {expected}", bytes.len());
            return Err(FormatError::Tensor { tensor: shown(name), reason });
        }
        self.tensors.push(Tensor { name: name.to_owned(), ty, dims: dims.to_vec(), bytes });
        Ok(self)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let heads: Vec<TensorHead<'_>> =
            self.tensors.iter().map(|t| TensorHead { name: &t.name, ty: t.ty, dims: &t.dims }).collect();
        let keys = self.keys.iter().map(|(name, value)| (name.as_str(), value));
        // Each shape was checked when its tensor was added.
        let mut out = header_bytes(keys, &heads).unwrap_or_default();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend_from_slice(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
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

fn put<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&bytes);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    put(out, (len as u64).to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, string: &str) {
    put_len(out, string.len());
    out.extend_from_slice(string.as_bytes());
}

fn put_all<T: Copy, const N: usize>(out: &mut Vec<u8>, type_id: u32, items: &[T], encode: fn(T) -> [u8; N]) {
    put(out, type_id.to_le_bytes());
    put_len(out, items.len());
    for &item in items {
        put(out, encode(item));
    }
}

fn put_one<const N: usize>(out: &mut Vec<u8>, type_id: u32, bytes: [u8; N]) {
    put(out, type_id.to_le_bytes());
    put(out, bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(value) => put_one(out, id::U8, value.to_le_bytes()),
        Value::I8(value) => put_one(out, id::I8, value.to_le_bytes()),
        Value::U16(value) => put_one(out, id::U16, value.to_le_bytes()),
        Value::I16(value) => put_one(out, id::I16, value.to_le_bytes()),
        Value::U32(value) => put_one(out, id::U32, value.to_le_bytes()),
        Value::I32(value) => put_one(out, id::I32, value.to_le_bytes()),
        Value::F32(value) => put_one(out, id::F32, value.to_le_bytes()),
        Value::U64(value) => put_one(out, id::U64, value.to_le_bytes()),
        Value::I64(value) => put_one(out, id::I64, value.to_le_bytes()),
        Value::F64(value) => put_one(out, id::F64, value.to_le_bytes()),
        Value::Bool(value) => put_one(out, id::BOOL, [u8::from(*value)]),
        Value::String(value) => {
            put(out, id::STRING.to_le_bytes());
            put_str(out, value);
        }
        Value::Array(array) => {
            put(out, id::ARRAY.to_le_bytes());
            put_array(out, array);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(items) => put_all(out, id::U8, items, u8::to_le_bytes),
        Array::I8(items) => put_all(out, id::I8, items, i8::to_le_bytes),
        Array::U16(items) => put_all(out, id::U16, items, u16::to_le_bytes),
        Array::I16(items) => put_all(out, id::I16, items, i16::to_le_bytes),
        Array::U32(items) => put_all(out, id::U32, items, u32::to_le_bytes),
        Array::I32(items) => put_all(out, id::I32, items, i32::to_le_bytes),
        Array::F32(items) => put_all(out, id::F32, items, f32::to_le_bytes),
        Array::U64(items) => put_all(out, id::U64, items, u64::to_le_bytes),
        Array::I64(items) => put_all(out, id::I64, items, i64::to_le_bytes),
        Array::F64(items) => put_all(out, id::F64, items, f64::to_le_bytes),
        Array::Bool(items) => put_all(out, id::BOOL, items, |value| [u8::from(value)]),
        Array::String(items) => {
            put(out, id::STRING.to_le_bytes());
            put_len(out, items.len());
            for string in items.iter() {
                put_str(out, string);
            }
        }
    }
}
