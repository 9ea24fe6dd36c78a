//! The safetensors files of a folder: one, those that an index names, or shards by their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value as Json;

use super::read_json;
use crate::error::shown;
use crate::safetensors::Safetensors;
use crate::{FormatError, ShardName};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A hundred bytes for each of the tensors that a model may have.
const INDEX_BYTES_MAX: u64 = 100_000_000;
/// Shards of one model that are opened; each takes a file handle.
const SHARDS_MAX: usize = 1024;
/// Files of a folder that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// Opens all files; no name of a tensor is in two of them.
pub(super) fn open(folder: &Path) -> Result<Vec<Safetensors>, FormatError> {
    match (folder.join(SINGLE).exists(), folder.join(INDEX).exists()) {
        (true, true) => {
            let reason = format!("has both {SINGLE} and {INDEX}: remove the one that is not the model's");
            Err(FormatError::Folder { path: folder.to_owned(), reason })
        }
        (true, false) => Ok(vec![Safetensors::open(&folder.join(SINGLE))?]),
        (false, true) => open_indexed(folder),
        (false, false) => {
            let files = open_all(folder, numbered(folder)?)?;
            check_unique(&files)?;
            Ok(files)
        }
    }
}

fn open_all(folder: &Path, names: impl IntoIterator<Item = String>) -> Result<Vec<Safetensors>, FormatError> {
    names.into_iter().map(|name| Safetensors::open(&folder.join(name))).collect()
}

/// The shards that the index names. Each tensor must be where the index puts it, and nowhere else.
fn open_indexed(folder: &Path) -> Result<Vec<Safetensors>, FormatError> {
    let json = read_json(folder, INDEX, INDEX_BYTES_MAX)?;
    let wrong = |reason: String| FormatError::Json { file: INDEX.to_owned(), reason };
    let map = json.get("weight_map").and_then(Json::as_object);
    let map = map.ok_or_else(|| wrong("it has no object \"weight_map\"".to_owned()))?;
    let mut left: HashMap<&str, &str> = HashMap::with_capacity(map.len());
    for (tensor, file) in map {
        let file = file.as_str().filter(|file| is_plain(file)).ok_or_else(|| {
            let name = file.as_str().map(|name| format!("\"{}\"", shown(name)));
            let (tensor, file) = (shown(tensor), name.unwrap_or_else(|| shown(&file.to_string())));
            wrong(format!(
                "\"weight_map\" puts tensor \"{tensor}\" in {file}, which is no plain name of a safetensors file"
            ))
        })?;
        left.insert(tensor, file);
    }
    let names: BTreeSet<String> = left.values().map(|&file| file.to_owned()).collect();
    if names.len() > SHARDS_MAX {
        let (actual, limit) = (names.len() as u64, SHARDS_MAX as u64);
        return Err(FormatError::Limit { what: format!("number of files in {INDEX}"), actual, limit });
    }
    let files = open_all(folder, names)?;
    for Safetensors { file, header } in &files {
        for tensor in &header.tensors {
            let reason = match left.remove(tensor.name.as_str()) {
                Some(told) if told == file.name => continue,
                Some(told) => format!("it is in {}, but {INDEX} puts it in {}", shown(&file.name), shown(told)),
                None if map.contains_key(&tensor.name) => format!("it is in {} and in another file", shown(&file.name)),
                None => format!("it is in {}, but not in {INDEX}", shown(&file.name)),
            };
            return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
        }
    }
    match left.into_iter().min() {
        None => Ok(files),
        Some((tensor, file)) => {
            let reason = format!("{INDEX} puts it in {}, which does not have it", shown(file));
            Err(FormatError::Tensor { tensor: shown(tensor), reason })
        }
    }
}

/// Whether it is the name of a file in the folder itself.
fn is_plain(name: &str) -> bool {
    !name.contains(['/', '\\', '\0']) && name.strip_suffix(".safetensors").is_some_and(|stem| !stem.is_empty())
}

/// The names `model-00001-of-0000N.safetensors` of all shards, each of which must be there.
fn numbered(folder: &Path) -> Result<Vec<String>, FormatError> {
    let wrong = |reason: String| FormatError::Folder { path: folder.to_owned(), reason };
    let entries = std::fs::read_dir(folder).map_err(|source| FormatError::Open { path: folder.to_owned(), source })?;
    let mut found = BTreeMap::new();
    for entry in entries.take(ENTRIES_MAX) {
        let entry = entry.map_err(|source| FormatError::Open { path: folder.to_owned(), source })?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(shard) = ShardName::parse(&name, "safetensors").filter(|shard| shard.prefix == "model") {
            found.insert((shard.count, shard.number), name);
        }
    }
    let Some((&(count, _), first)) = found.first_key_value() else {
        return Err(wrong(format!(
            "has no {SINGLE}, no {INDEX} and no model-00001-of-0000N.safetensors (shards count from 1)"
        )));
    };
    if let Some((_, other)) = found.iter().find(|((other, _), _)| *other != count) {
        return Err(wrong(format!("has shards of two models: {first} and {other}")));
    }
    let Some(shard) = ShardName::parse(first, "safetensors") else { return Err(wrong("has no shards".to_owned())) };
    let from_zero = folder.join(shard.of(0)).exists();
    let missing: Vec<u32> = (1..=count).filter(|&number| !found.contains_key(&(count, number))).collect();
    shard.check_all(&missing, from_zero)?;
    if found.len() > SHARDS_MAX {
        let (actual, limit) = (found.len() as u64, SHARDS_MAX as u64);
        return Err(FormatError::Limit { what: "number of shards".to_owned(), actual, limit });
    }
    Ok(found.into_values().collect())
}

fn check_unique(files: &[Safetensors]) -> Result<(), FormatError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for Safetensors { file, header } in files {
        for tensor in &header.tensors {
            if let Some(other) = seen.insert(&tensor.name, &file.name) {
                let reason = format!("it is in {} and in {}", shown(other), shown(&file.name));
                return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
            }
        }
    }
    Ok(())
}
