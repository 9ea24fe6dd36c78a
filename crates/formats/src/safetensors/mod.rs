//! safetensors files: eight bytes that say how long the header is, a header of JSON, the data. Of the element types F32,
//! F16 and BF16 are read.
//!
//! A safetensors file says nothing of its model; with a `config.json` beside it, [`Gguf`](crate::gguf::Gguf) opens the folder.

mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

pub use self::writer::Writer;
use crate::FormatError;
use crate::data_file::DataFile;
use crate::error::shown;
use crate::gguf::{DIMS_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX, TensorInfo, TensorType, byte_len, check_places};

/// Longest header that is read: the limit of the format's own library.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes before the header.
const LENGTH_BYTES: u64 = 8;
/// The header's entry that is no tensor.
const METADATA: &str = "__metadata__";

/// An open file whose header has been read and checked.
#[derive(Debug)]
pub(crate) struct Safetensors {
    pub(crate) file: DataFile,
    pub(crate) header: Header,
}

/// What a file's header says; every tensor in it lies inside the file.
#[derive(Debug)]
pub(crate) struct Header {
    /// In the order of the header, with dimensions in GGUF's order.
    pub(crate) tensors: Vec<TensorInfo>,
    /// Where the data starts, in bytes from the file's start.
    pub(crate) data_start: u64,
}

impl Safetensors {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let file = DataFile::open(path)?;
        let header = Header::read(file.reader(), file.len).map_err(|error| error.in_file(&file.name))?;
        Ok(Self { file, header })
    }
}

impl Header {
    /// Reads a header from `reader`, the start of a file of `file_len` bytes.
    fn read(mut reader: impl Read, file_len: u64) -> Result<Self, FormatError> {
        const WHAT: &str = "the header";
        let io = |offset| move |source| FormatError::Io { what: WHAT.to_owned(), offset, source };
        let room = |needed: u64, offset: u64| match file_len.checked_sub(offset) {
            Some(left) if needed <= left => Ok(()),
            _ => Err(FormatError::Truncated { what: WHAT.to_owned(), offset, needed, file_len }),
        };
        room(LENGTH_BYTES, 0)?;
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(io(0))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            let what = "length of the header in the first eight bytes (of a safetensors file)".to_owned();
            return Err(FormatError::Limit { what, actual: length, limit: HEADER_BYTES_MAX });
        }
        room(length, LENGTH_BYTES)?;
        let mut bytes = Vec::new();
        reader.take(length).read_to_end(&mut bytes).map_err(io(LENGTH_BYTES))?;
        if (bytes.len() as u64) < length {
            // It shrank since its length was asked.
            return Err(FormatError::Truncated {
                what: WHAT.to_owned(),
                offset: LENGTH_BYTES,
                needed: length,
                file_len,
            });
        }
        let Entries(entries) = serde_json::from_slice(&bytes).map_err(|error| FormatError::Invalid {
            what: WHAT.to_owned(),
            offset: LENGTH_BYTES,
            reason: error.to_string(),
        })?;
        let mut names = HashSet::with_capacity(entries.len());
        let mut tensors = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            if !names.insert(name.clone()) {
                return Err(FormatError::Duplicate { what: format!("tensor \"{}\"", shown(&name)) });
            }
            tensors.push(entry.into_tensor(name)?);
        }
        let data_start = LENGTH_BYTES + length;
        check_places(&tensors, file_len - data_start)?;
        Ok(Self { tensors, data_start })
    }
}

/// The entries of a header but its metadata, as they stand there: an ordinary map would hide that a name is there twice.
struct Entries(Vec<(String, Entry)>);

/// What a header says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    /// The row length is the last.
    shape: Vec<u64>,
    /// First byte and the one after the last, from the start of the data.
    data_offsets: [u64; 2],
}

impl Entry {
    fn into_tensor(self, name: String) -> Result<TensorInfo, FormatError> {
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(&name), reason };
        let ty = match self.dtype.as_str() {
            "F32" => TensorType::F32,
            "F16" => TensorType::F16,
            "BF16" => TensorType::BF16,
            other => {
                return Err(wrong(format!("its type {} is not supported (F32, F16 and BF16 are)", shown(other))));
            }
        };
        if self.shape.is_empty() || self.shape.len() > DIMS_MAX as usize {
            return Err(wrong(format!("it has {} dimensions instead of 1 to {DIMS_MAX}", self.shape.len())));
        }
        let dims: Vec<u64> = self.shape.into_iter().rev().collect();
        let byte_len = byte_len(ty, &dims).map_err(wrong)?;
        let [start, end] = self.data_offsets;
        if end.checked_sub(start) != Some(byte_len) {
            return Err(wrong(format!("its shape takes {byte_len} bytes, its offsets are {start} to {end}")));
        }
        Ok(TensorInfo { name, ty, dims, offset: start, byte_len })
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if name.len() as u64 > TENSOR_NAME_BYTES_MAX {
                let (len, name) = (name.len(), shown(&name));
                return Err(A::Error::custom(format!(
                    "the name \"{name}\" has {len} bytes, more than the limit of {TENSOR_NAME_BYTES_MAX}"
                )));
            }
            if entries.len() as u64 == TENSORS_MAX {
                return Err(A::Error::custom(format!("there are more than {TENSORS_MAX} tensors")));
            }
            let entry =
                map.next_value().map_err(|error| A::Error::custom(format!("tensor \"{}\": {error}", shown(&name))))?;
            entries.push((name, entry));
        }
        Ok(Entries(entries))
    }
}
