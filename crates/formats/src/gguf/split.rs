//! Models split into several GGUF files, as llama.cpp's gguf-split writes them: the first holds the metadata, each some of
//! the tensors, and the keys `split.*` of each say which shard it is.

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
const KEYS: [&str; 3] = [NUMBER_KEY, COUNT_KEY, TENSORS_KEY];

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
    let exists = |number| path.with_file_name(name.of(number)).exists();
    let missing: Vec<u32> = (1..=name.count).filter(|&number| number != name.number && !exists(number)).collect();
    name.check_all(&missing, exists(0))?;
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
    let file = DataFile::open(&path.with_file_name(&file_name))?;
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
        for (key, value) in header.metadata.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
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
    metadata.retain(|key, _| !KEYS.contains(&key.as_str()));
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

#[cfg(test)]
mod tests {
    use super::super::{TensorType, Writer};
    use super::*;

    const COUNT: u32 = 3;

    fn name(number: u32) -> String {
        ShardName { prefix: "m", number, count: COUNT, extension: "gguf" }.of(number)
    }

    /// Shard `number`, from 1, of a model with a tensor in each; its values are the number.
    fn shard(number: u32) -> Writer {
        let mut writer = Writer::new();
        if number == 1 {
            writer.key("general.architecture", "llama").key("llama.block_count", 2_u32);
        }
        writer.key(NUMBER_KEY, Value::U16(u16::try_from(number - 1).unwrap()));
        writer.key(COUNT_KEY, Value::U16(3)).key(TENSORS_KEY, 3_i32);
        let values = (0..6).flat_map(|_| (number as f32).to_le_bytes()).collect();
        writer.tensor(&format!("t{number}.weight"), TensorType::F32, &[3, 2], values).unwrap();
        writer
    }

    /// A folder with shards; `change` gives what stands as shard `number` instead.
    fn folder(change: impl Fn(u32) -> Option<Writer>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..=COUNT {
            if let Some(writer) = change(number) {
                writer.write(folder.path().join(name(number))).unwrap();
            }
        }
        folder
    }

    /// What opening the first shard says.
    #[track_caller]
    fn refused(change: impl Fn(u32) -> Option<Writer>, words: &[&str]) {
        let folder = folder(change);
        let message = Gguf::open(folder.path().join(name(1))).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }

    /// All shards, the second by `change`.
    fn second(change: impl Fn() -> Writer) -> impl Fn(u32) -> Option<Writer> {
        move |number| Some(if number == 2 { change() } else { shard(number) })
    }

    #[test]
    fn any_shard_opens_all() {
        let folder = folder(|number| Some(shard(number)));
        for opened in 1..=COUNT {
            let gguf = Gguf::open(folder.path().join(name(opened))).unwrap();
            let keys: Vec<&String> = gguf.metadata().keys().collect();
            assert_eq!(keys, ["general.architecture", "llama.block_count"]);
            assert_eq!(gguf.tensors().len(), 3);
            let lens = (1..=COUNT).map(|n| std::fs::metadata(folder.path().join(name(n))).unwrap().len());
            assert_eq!(gguf.file_len(), lens.sum::<u64>());
            for number in 1..=COUNT {
                let mut bytes = Vec::new();
                let tensor = gguf.tensor(&format!("t{number}.weight")).unwrap();
                gguf.read_tensor(tensor, 1..2, &mut bytes).unwrap();
                assert_eq!(bytes, (number as f32).to_le_bytes().repeat(3), "shard {number}");
            }
        }
    }

    #[test]
    fn a_single_shard_may_have_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new();
        writer.key("a", 1_u32).key(NUMBER_KEY, 0_u32).key(COUNT_KEY, 1_u32).key(TENSORS_KEY, 0_u32);
        writer.write(folder.path().join("x.gguf")).unwrap();
        assert_eq!(Gguf::open(folder.path().join("x.gguf")).unwrap().metadata().len(), 1);
        writer.tensor("more", TensorType::F32, &[1], vec![0; 4]).unwrap();
        writer.write(folder.path().join("x.gguf")).unwrap();
        let message = Gguf::open(folder.path().join("x.gguf")).unwrap_err().to_string();
        assert!(message.contains("x.gguf promises 0 tensors, but all shards together have 1"), "{message}");
    }

    #[test]
    fn shards_that_are_missing_or_doubled() {
        refused(|n| (n != 3).then(|| shard(n)), &["m-00003-of-00003.gguf is missing", "beside m-00001-of-00003.gguf"]);
        let folder = folder(|number| (number != 2).then(|| shard(number)));
        shard(1).write(folder.path().join(name(0))).unwrap();
        let message = Gguf::open(folder.path().join(name(1))).unwrap_err().to_string();
        for part in ["m-00002-of-00003.gguf is missing", "there is m-00000-of-00003.gguf, but shards count from 1"] {
            assert!(message.contains(part), "{message}");
        }
        refused(
            second(|| shard(3)),
            &["m-00002-of-00003.gguf says that it is number 2, from 0", "stands as number 1 of 3"],
        );
        let same_tensor = || {
            let mut writer = Writer::new();
            writer.key(NUMBER_KEY, 1_u32).key(COUNT_KEY, 3_u32).key(TENSORS_KEY, 3_u32);
            writer.tensor("t1.weight", TensorType::F32, &[1], vec![0; 4]).unwrap();
            writer
        };
        refused(second(same_tensor), &["m-00002-of-00003.gguf has the tensor \"t1.weight\"", "before it"]);
    }

    #[test]
    fn shards_of_other_models() {
        let with = |keys: &[(&str, Value)]| {
            let mut writer = Writer::new();
            for (key, value) in keys {
                writer.key(key, value.clone());
            }
            writer
        };
        let number = (NUMBER_KEY, Value::U32(1));
        let (count, tensors) = ((COUNT_KEY, Value::U32(3)), (TENSORS_KEY, Value::U32(3)));
        let whole = [number.clone(), count.clone(), tensors.clone()];
        refused(second(|| with(&[])), &["m-00002-of-00003.gguf has no \"split.count\""]);
        refused(second(|| with(&[count.clone(), tensors.clone()])), &["m-00002", "split.no", "nothing"]);
        refused(second(|| with(&[number.clone(), (COUNT_KEY, Value::U32(4)), tensors.clone()])), &["m-00002", "of 4"]);
        refused(
            second(|| with(&[number.clone(), count.clone(), (TENSORS_KEY, Value::U32(9))])),
            &["m-00002", "9 tensors"],
        );
        let other = ("general.architecture", Value::from("qwen2"));
        let other = [whole.as_slice(), &[other]].concat();
        refused(second(|| with(&other)), &["m-00002", "of another model", "\"qwen2\"", "\"llama\""]);
        refused(second(|| with(&whole)), &["promises 3 tensors", "together have 2"]);
    }

    #[test]
    fn names_that_do_not_say_what_the_file_says() {
        let folder = folder(|number| Some(shard(number)));
        for other in ["m.gguf", "m-00001-of-00004.gguf", "m-00003-of-00003.gguf", "m-2-of-3.gguf"] {
            std::fs::copy(folder.path().join(name(2)), folder.path().join(other)).unwrap();
            let message = Gguf::open(folder.path().join(other)).unwrap_err().to_string();
            assert!(message.contains("shard 2 of 3") && message.contains("-00002-of-00003.gguf"), "{message}");
        }
        for (number, count, words) in
            [(3_u32, 3_u32, "number 3, from 0, of 3"), (0, 0, "of 0"), (1, 70_000, "limit of 1024")]
        {
            let mut writer = Writer::new();
            writer.key(NUMBER_KEY, number).key(COUNT_KEY, count).key(TENSORS_KEY, 0_u32);
            writer.write(folder.path().join("x.gguf")).unwrap();
            let message = Gguf::open(folder.path().join("x.gguf")).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn damage_is_told_with_the_shard() {
        let folder = folder(|number| Some(shard(number)));
        let path = folder.path().join(name(2));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 32]).unwrap();
        let message = Gguf::open(folder.path().join(name(1))).unwrap_err().to_string();
        assert!(message.starts_with("m-00002-of-00003.gguf: tensor \"t2.weight\""), "{message}");
    }
}
