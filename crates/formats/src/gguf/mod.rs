//! GGUF files, versions 2 and 3, little-endian.

mod header;
mod source;
mod split;
mod tensor;
mod value;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use self::header::Header;
pub(crate) use self::header::{DIMS_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX, byte_len, check_places};
pub use self::tensor::{TensorInfo, TensorType};
pub use self::value::{Array, StringArray, Value};
pub use self::writer::{TensorHead, Writer, header_bytes};
use crate::FormatError;
use crate::data_file::{DataFile, Run, TensorData};
use crate::error::shown;
use crate::huggingface;

/// An open model: its metadata and descriptions of its tensors, read and checked. It comes from a GGUF file, from all
/// shards of a split one, or from a folder of transformers, and looks the same. The data is read on demand with positioned
/// reads, so a file that shrinks while in use gives an error and nothing worse.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    origin: Origin,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    /// Where the bytes of each tensor are, in the same order.
    data: Vec<TensorData>,
    tensor_index: HashMap<String, usize>,
    files: Vec<DataFile>,
}

/// What a model was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A GGUF file or its shards; the tokenizer is in the metadata.
    Gguf {
        /// The format's version, 2 or 3.
        version: u32,
    },
    /// A folder with `config.json` and safetensors files; the tokenizer is a file of its own, `tokenizer.json`.
    HuggingFace,
}

impl Gguf {
    /// Opens a model: a GGUF file; any shard of a split one, whose others stand beside it; or a folder with `config.json`
    /// and safetensors files.
    ///
    /// # Errors
    /// [`FormatError`] when a file cannot be read or is missing, is of no supported kind, or contradicts itself, the
    /// others or `config.json`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        if path.is_dir() {
            return huggingface::open(path);
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let reason = "is what to open: a safetensors file alone does not say what its model is".to_owned();
            return Err(FormatError::Folder { path: folder.to_owned(), reason });
        }
        let file = DataFile::open(path)?;
        let header = Header::read(file.reader(), file.len)?;
        split::open(path, file, header)
    }

    /// A model without tensors.
    pub(crate) fn new(path: &Path, origin: Origin, metadata: BTreeMap<String, Value>) -> Self {
        let (tensors, data, files) = (Vec::new(), Vec::new(), Vec::new());
        Self { path: path.to_owned(), origin, metadata, tensors, data, tensor_index: HashMap::new(), files }
    }

    /// Adds a file; gives its index for the [`Run`]s of tensors.
    pub(crate) fn add_file(&mut self, file: DataFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Adds a tensor, whose `data` must have all its bytes.
    pub(crate) fn add_tensor(&mut self, tensor: TensorInfo, data: TensorData) -> Result<(), FormatError> {
        if self.tensor_index.insert(tensor.name.clone(), self.tensors.len()).is_some() {
            return Err(FormatError::Duplicate { what: format!("tensor \"{}\"", shown(&tensor.name)) });
        }
        self.tensors.push(tensor);
        self.data.push(data);
        Ok(())
    }

    /// Removes a metadata key.
    pub(crate) fn remove(&mut self, key: &str) {
        self.metadata.remove(key);
    }

    /// Changes where the bytes of tensors are.
    pub(crate) fn change_data(
        &mut self,
        mut change: impl FnMut(&TensorInfo, &mut TensorData) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        self.tensors.iter().zip(&mut self.data).try_for_each(|(tensor, data)| change(tensor, data))
    }

    /// The same model with the rows of its tensors in the order of GGUF files, as which it can be written. Only folders have
    /// another.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] for queries or keys that are not whole heads.
    pub fn into_gguf_order(mut self) -> Result<Self, FormatError> {
        huggingface::order::in_gguf_order(&mut self)?;
        Ok(self)
    }

    /// Adds a GGUF file with all its tensors.
    fn add_shard(&mut self, file: DataFile, header: Header) -> Result<(), FormatError> {
        let file = self.add_file(file);
        for tensor in header.tensors {
            let run = Run { file, offset: header.data_start + tensor.offset, len: tensor.byte_len };
            self.add_tensor(tensor, TensorData::Stored(vec![run]))?;
        }
        Ok(())
    }

    /// The files that hold the data, in the order of their indices.
    pub(crate) fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// The path it was opened from: a file or a folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was read from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether a path leads to one of its files.
    pub fn reads_from(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| self.files.iter().any(|file| file.is(&metadata)))
    }

    /// Bytes of all its files with tensors when they were opened.
    pub fn file_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).fold(0, u64::saturating_add)
    }

    /// All metadata, sorted by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The field of a folder's `config.json` that a metadata key comes from. `None` for GGUF files, and for keys that come
    /// from no single field.
    pub fn config_field(&self, key: &str) -> Option<&'static str> {
        (self.origin == Origin::HuggingFace).then(|| huggingface::config::field_of(key))?
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_index.get(name).and_then(|&index| self.tensors.get(index))
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
        let data = self
            .tensor_index
            .get(&tensor.name)
            .filter(|&&index| self.tensors.get(index) == Some(tensor))
            .and_then(|&index| self.data.get(index))
            .ok_or_else(|| wrong("it is not a tensor of this file".to_owned()))?;
        let bytes = usize::try_from(len).map_err(|error| wrong(format!("too large for this machine: {error}")))?;
        out.resize(bytes, 0);
        data.read(&self.files, &tensor.name, start, out)
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
