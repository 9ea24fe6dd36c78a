//! The header of a GGUF file: metadata and tensor descriptions, checked against each other and against the file's length.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use super::source::Source;
use super::tensor::{TensorInfo, TensorType, Unreadable};
use super::value::Value;
use crate::FormatError;
use crate::error::shown;

const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;
const KEYS_MAX: u64 = 1 << 16;
pub(crate) const TENSORS_MAX: u64 = 1 << 20;
const KEY_BYTES_MAX: u64 = 65_535;
pub(crate) const TENSOR_NAME_BYTES_MAX: u64 = 256;
pub(crate) const DIMS_MAX: u32 = 4;
/// Key length, value type, one byte of value.
const KEY_ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;
/// Name length, number of sizes, one size, type, offset.
const TENSOR_ENTRY_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

/// What a file's header says; every tensor in it lies inside the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
    /// Where the data section starts, in bytes from the file's start.
    pub(super) data_start: u64,
}

impl Header {
    /// Reads a header from `reader`, the start of a file of `file_len` bytes.
    pub(super) fn read(reader: impl Read, file_len: u64) -> Result<Self, FormatError> {
        let mut source = Source::new(reader, file_len);
        let version = read_version(&mut source)?;
        let tensor_count = count(&mut source, "number of tensors", TENSORS_MAX)?;
        let key_count = count(&mut source, "number of metadata keys", KEYS_MAX)?;
        source.check_room("the metadata", key_count, KEY_ENTRY_BYTES_MIN)?;
        let metadata = read_metadata(&mut source, key_count)?;
        let alignment = alignment(&metadata)?;
        let capacity = source.check_room("the tensor descriptions", tensor_count, TENSOR_ENTRY_BYTES_MIN)?;
        let mut tensors = Vec::with_capacity(capacity);
        let mut names = HashSet::with_capacity(capacity);
        for number in 0..tensor_count {
            let tensor = read_tensor_info(&mut source, number, alignment)?;
            if !names.insert(tensor.name.clone()) {
                return Err(FormatError::Duplicate { what: format!("tensor \"{}\"", shown(&tensor.name)) });
            }
            tensors.push(tensor);
        }
        let data_start = source.position().next_multiple_of(alignment);
        check_places(&tensors, file_len.saturating_sub(data_start))?;
        Ok(Self { version, metadata, tensors, data_start })
    }
}

fn read_version<R: Read>(source: &mut Source<R>) -> Result<u32, FormatError> {
    match &source.magic()? {
        b"GGUF" => {}
        b"FUGG" => return Err(FormatError::BigEndian),
        _ => return Err(FormatError::Magic),
    }
    let version = source.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        swapped if swapped != 0 && swapped & 0xffff == 0 => Err(FormatError::BigEndian),
        _ => Err(FormatError::Version { version }),
    }
}

fn count<R: Read>(source: &mut Source<R>, what: &str, limit: u64) -> Result<u64, FormatError> {
    let actual = source.u64(what)?;
    if actual > limit {
        return Err(FormatError::Limit { what: what.to_owned(), actual, limit });
    }
    Ok(actual)
}

fn read_metadata<R: Read>(source: &mut Source<R>, keys: u64) -> Result<BTreeMap<String, Value>, FormatError> {
    let mut metadata = BTreeMap::new();
    for number in 0..keys {
        let key = source.string(&format!("the name of metadata key number {number}"), KEY_BYTES_MAX)?;
        if metadata.contains_key(&key) {
            return Err(FormatError::Duplicate { what: format!("metadata key \"{}\"", shown(&key)) });
        }
        let value = source.value(&key)?;
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, FormatError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else { return Ok(ALIGNMENT_DEFAULT) };
    match value.integer().and_then(|value| u64::try_from(value).ok()) {
        Some(alignment) if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX => Ok(alignment),
        _ => Err(FormatError::WrongType {
            key: KEY.to_owned(),
            expected: "a power of two up to 1048576",
            actual: value.describe(),
        }),
    }
}

fn read_tensor_info<R: Read>(source: &mut Source<R>, number: u64, alignment: u64) -> Result<TensorInfo, FormatError> {
    let name = source.string(&format!("the name of tensor number {number}"), TENSOR_NAME_BYTES_MAX)?;
    let what = format!("the description of tensor \"{}\"", shown(&name));
    let wrong = |reason: String| FormatError::Tensor { tensor: shown(&name), reason };
    let dim_count = source.u32(&what)?;
    if dim_count == 0 || dim_count > DIMS_MAX {
        return Err(wrong(format!("it has {dim_count} dimensions instead of 1 to {DIMS_MAX}")));
    }
    let dims = (0..dim_count).map(|_| source.u64(&what)).collect::<Result<Vec<u64>, _>>()?;
    let type_id = source.u32(&what)?;
    let offset = source.u64(&what)?;
    let ty = TensorType::from_id(type_id).map_err(|unreadable| match unreadable {
        Unreadable::Known(type_name) => FormatError::UnsupportedType { tensor: shown(&name), type_name },
        Unreadable::Unknown => FormatError::UnknownType { tensor: shown(&name), id: type_id },
    })?;
    let byte_len = byte_len(ty, &dims).map_err(wrong)?;
    if !offset.is_multiple_of(alignment) {
        return Err(wrong(format!("its offset {offset} is not a multiple of the alignment {alignment}")));
    }
    Ok(TensorInfo { name, ty, dims, offset, byte_len })
}

/// Bytes of a tensor of this type and shape, or what is wrong with the shape.
pub(crate) fn byte_len(ty: TensorType, dims: &[u64]) -> Result<u64, String> {
    let (&row_len, others) = dims.split_first().ok_or_else(|| "it has no dimensions".to_owned())?;
    if dims.contains(&0) {
        return Err(format!("its dimensions {dims:?} hold a 0"));
    }
    if !row_len.is_multiple_of(ty.block_len()) {
        return Err(format!("its row length {row_len} is not a multiple of {} ({ty})", ty.block_len()));
    }
    // Elements are checked too, so that products of sizes never overflow for those who use them later.
    let elements = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    let bytes = ty
        .row_bytes(row_len)
        .and_then(|row_bytes| others.iter().try_fold(row_bytes, |product, &dim| product.checked_mul(dim)));
    match (elements, bytes) {
        (Some(elements), Some(bytes)) if i64::try_from(elements).is_ok() && i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(format!("its dimensions {dims:?} overflow")),
    }
}

/// Checks that every tensor lies inside the `data_len` bytes of data and none share bytes.
pub(crate) fn check_places(tensors: &[TensorInfo], data_len: u64) -> Result<(), FormatError> {
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset);
    let mut previous: Option<(&TensorInfo, u64)> = None;
    for tensor in by_offset {
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(&tensor.name), reason };
        let end = tensor.offset.checked_add(tensor.byte_len).filter(|&end| end <= data_len).ok_or_else(|| {
            wrong(format!(
                "its {} bytes at offset {} reach past the {data_len} bytes of data that the file has (truncated?)",
                tensor.byte_len, tensor.offset
            ))
        })?;
        if let Some((before, before_end)) = previous
            && tensor.offset < before_end
        {
            return Err(wrong(format!("its bytes overlap those of tensor \"{}\"", shown(&before.name))));
        }
        previous = Some((tensor, end));
    }
    Ok(())
}
