//! Writing small GGUF files, version 3: for tests and generated models.

use std::fs;
use std::path::Path;

use super::header::byte_len;
use super::tensor::TensorType;
use super::value::{Array, Value, id};
use crate::FormatError;
use crate::error::shown;

const ALIGNMENT: usize = 32;

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
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(name), reason };
        let expected = byte_len(ty, dims).map_err(wrong)?;
        if bytes.len() as u64 != expected {
            return Err(wrong(format!("{} bytes given instead of {expected}", bytes.len())));
        }
        self.tensors.push(Tensor { name: name.to_owned(), ty, dims: dims.to_vec(), bytes });
        Ok(self)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        put(&mut out, 3_u32.to_le_bytes());
        put_len(&mut out, self.tensors.len());
        put_len(&mut out, self.keys.len());
        for (name, value) in &self.keys {
            put_str(&mut out, name);
            put_value(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_str(&mut out, &tensor.name);
            #[expect(clippy::cast_possible_truncation, reason = "a few dimensions")]
            put(&mut out, (tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                put(&mut out, dim.to_le_bytes());
            }
            put(&mut out, tensor.ty.id().to_le_bytes());
            put_len(&mut out, offset);
            offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
        }
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
