//! Models split into several GGUF files, as llama.cpp's gguf-split writes them: the first holds the metadata, each some of
//! the tensors, and the keys `split.*` of each say which shard it is.

use std::io;
use std::path::Path;

use super::header::Header;
use super::value::Value;
use super::{Gguf, Origin};
use crate::data_file::DataFile;
use crate::error::shown;
use crate::{FormatError, ShardName};

/// Shards of one model that are opened; each takes a file handle.
const SHARDS_MAX: u64 = 1024;
const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// What a file says of its place in a split model.
#[derive(Clone, Copy)]
struct Place {
    /// From 0.
    number: u64,
    count: u64,
    /// Tensors of all shards.
    tensors: u64,
}

impl Place {
    /// `None`: the file is not split.
    fn of(header: &Header) -> Result<Option<Self>, FormatError> {
        if !header.metadata.contains_key(COUNT_KEY) {
            return Ok(None);
        }
        let read = |key: &str| {
            let value = header.metadata.get(key);
            let number = value.and_then(Value::integer).and_then(|number| u64::try_from(number).ok());
            number.ok_or_else(|| FormatError::WrongType {
                key: key.to_owned(),
                expected: "an integer of at least 0",
                actual: value.map_or_else(|| "nothing".to_owned(), Value::describe),
            })
        };
        Ok(Some(Self { number: read(NUMBER_KEY)?, count: read(COUNT_KEY)?, tensors: read(TENSORS_KEY)? }))
    }
}

/// A file and what its header says.
type Shard = (DataFile, Header);

/// A model of the file that was opened, with the other shards beside it if it is split.
pub(super) fn open(path: &Path, file: DataFile, header: Header) -> Result<Gguf, FormatError> {
    let origin = Origin::Gguf { version: header.version };
    let place = Place::of(&header)?;
    let shards = match place {
        Some(place) if place.count != 1 => open_others(path, (file, header), place)?,
        _ => vec![(file, header)],
    };
    if let Some(place) = place {
        check(&shards, place)?;
    }
    join(path, origin, shards)
}

/// All shards in order. The others are files beside `path` with the same name but for the number.
fn open_others(path: &Path, opened: Shard, place: Place) -> Result<Vec<Shard>, FormatError> {
    let file_name = opened.0.name.clone();
    let name = checked_name(&file_name, place)?;
    let mut opened = Some(opened);
    (1..=name.count)
        .map(|number| match opened.take_if(|_| number == name.number) {
            Some(shard) => Ok(shard),
            None => open_shard(path, name, number),
        })
        .collect()
}

/// The file's name, which must say what the file does.
fn checked_name(file_name: &str, place: Place) -> Result<ShardName<'_>, FormatError> {
    let Place { number, count, .. } = place;
    let wrong = |reason| FormatError::Shard { shard: shown(file_name), reason };
    if number >= count {
        return Err(wrong(format!("says that it is number {number}, from 0, of {count}")));
    }
    if count > SHARDS_MAX {
        return Err(FormatError::Limit { what: "number of shards".to_owned(), actual: count, limit: SHARDS_MAX });
    }
    ShardName::parse(file_name, "gguf")
        .filter(|name| u64::from(name.number) == number + 1 && u64::from(name.count) == count)
        .ok_or_else(|| {
            let number = number + 1;
            wrong(format!("is shard {number} of {count}: its name must end in -{number:05}-of-{count:05}.gguf"))
        })
}

fn open_shard(path: &Path, name: ShardName<'_>, number: u32) -> Result<Shard, FormatError> {
    let file_name = name.of(number);
    let file = DataFile::open(&path.with_file_name(&file_name)).map_err(|error| match error {
        FormatError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => FormatError::Shard {
            shard: shown(&file_name),
            reason: format!("is missing: it should be beside {}", shown(&name.of(name.number))),
        },
        other => other,
    })?;
    let header = Header::read(file.reader(), file.len).map_err(|error| error.in_file(&file_name))?;
    Ok((file, header))
}

/// Checks that the shards are those of one model, as the opened one described it.
fn check(shards: &[Shard], place: Place) -> Result<(), FormatError> {
    let mut tensors = 0;
    for (number, (file, header)) in (0..).zip(shards) {
        let wrong = |reason| FormatError::Shard { shard: shown(&file.name), reason };
        match Place::of(header).map_err(|error| error.in_file(&file.name))? {
            Some(own) if own.number == number && own.count == place.count && own.tensors == place.tensors => {}
            Some(own) => {
                return Err(wrong(format!(
                    "says that it is number {}, from 0, of {} with {} tensors, but stands as number {number} of {} with {}",
                    own.number, own.count, own.tensors, place.count, place.tensors
                )));
            }
            None => return Err(wrong(format!("has no \"{COUNT_KEY}\""))),
        }
        // Shards but the first have few other keys; what they have must be said of the same model.
        for (key, value) in header.metadata.iter().filter(|(key, _)| key.as_str() != NUMBER_KEY) {
            if let Some(first) = shards.first().and_then(|(_, first)| first.metadata.get(key)).filter(|&f| f != value) {
                let (key, own, first) = (shown(key), value.describe(), first.describe());
                return Err(wrong(format!("is of another model: \"{key}\" holds {own}, in the first shard {first}")));
            }
        }
        tensors += header.tensors.len() as u64;
    }
    if tensors == place.tensors {
        return Ok(());
    }
    let shard = shards.first().map(|(file, _)| shown(&file.name)).unwrap_or_default();
    let reason = format!("promises {} tensors, but all shards together have {tensors}", place.tensors);
    Err(FormatError::Shard { shard, reason })
}

/// One model of all shards; the keys that tell of the split go.
fn join(path: &Path, origin: Origin, mut shards: Vec<Shard>) -> Result<Gguf, FormatError> {
    let mut metadata = shards.first_mut().map(|(_, header)| std::mem::take(&mut header.metadata)).unwrap_or_default();
    metadata.retain(|key, _| ![NUMBER_KEY, COUNT_KEY, TENSORS_KEY].contains(&key.as_str()));
    let mut gguf = Gguf::new(path, origin, metadata);
    for (file, header) in shards {
        if let Some(twice) = header.tensors.iter().find(|tensor| gguf.tensor(&tensor.name).is_some()) {
            let reason = format!("has the tensor \"{}\", which a shard before it has too", shown(&twice.name));
            return Err(FormatError::Shard { shard: shown(&file.name), reason });
        }
        gguf.add_shard(file, header)?;
    }
    Ok(gguf)
}
