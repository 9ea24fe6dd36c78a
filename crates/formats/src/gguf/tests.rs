//! Files that are whole, files with one fault, and files of noise.

use std::io::Write as _;

use proptest::prelude::*;

use super::header::Header;
use super::*;

fn small() -> Writer {
    let mut writer = Writer::new();
    writer
        .key("general.architecture", "llama")
        .key("llama.block_count", 2_u32)
        .key("llama.rope.freq_base", 10_000.0_f32)
        .key("flag", true)
        .key("tokens", ["<s>", "", "a", "黑"].as_slice())
        .key("scores", vec![0.5_f32, -1.0])
        .key("types", vec![1_i32, 3]);
    writer.tensor("a.weight", TensorType::F32, &[3, 2], (0..24).collect()).unwrap();
    writer.tensor("b.weight", TensorType::Q4_0, &[64, 2, 1], vec![7; 72]).unwrap();
    writer
}

fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
    Header::read(bytes, bytes.len() as u64)
}

fn open(bytes: &[u8]) -> (tempfile::NamedTempFile, Gguf) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let gguf = Gguf::open(file.path()).unwrap();
    (file, gguf)
}

#[test]
fn what_was_written_is_read_back() {
    let (_file, gguf) = open(&small().to_bytes());
    assert_eq!(gguf.origin(), Origin::Gguf { version: 3 });
    assert_eq!(gguf.get_str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.get_u32("llama.block_count").unwrap(), Some(2));
    assert_eq!(gguf.get_f32("llama.rope.freq_base").unwrap(), Some(10_000.0));
    assert_eq!(gguf.get_bool("flag").unwrap(), Some(true));
    assert_eq!(gguf.get_u32("absent").unwrap(), None);
    assert_eq!(gguf.get_u32_array("types").unwrap(), Some(vec![1, 3]));
    assert_eq!(gguf.get_f32_array("scores").unwrap(), Some([0.5, -1.0].as_slice()));
    let tokens = gguf.get_str_array("tokens").unwrap().unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), ["<s>", "", "a", "黑"]);
    assert_eq!(tokens.get(3), Some("黑"));
    assert_eq!(tokens.get(4), None);
    let tensor = gguf.tensor("b.weight").unwrap();
    assert_eq!((tensor.rows(), tensor.row_bytes(), tensor.byte_len), (2, 36, 72));
    let mut bytes = Vec::new();
    gguf.read_tensor(gguf.tensor("a.weight").unwrap(), 1..2, &mut bytes).unwrap();
    assert_eq!(bytes, (12..24).collect::<Vec<u8>>());
    gguf.read_tensor(tensor, 0..2, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 72]);
}

#[test]
fn every_kind_of_value_survives() {
    let values = [
        Value::U8(1),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(-2),
        Value::U64(u64::MAX),
        Value::I64(-4),
        Value::F64(0.25),
        Value::Array(Array::U8(vec![1])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![1])),
        Value::Array(Array::I16(vec![-3])),
        Value::Array(Array::U64(vec![u64::MAX; 2000])),
        Value::Array(Array::I64(vec![-1])),
        Value::Array(Array::F64(vec![0.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::U32(Vec::new())),
    ];
    let mut writer = Writer::new();
    for (number, value) in values.iter().enumerate() {
        writer.key(&format!("key.{number}"), value.clone());
    }
    let (_file, gguf) = open(&writer.to_bytes());
    for (number, value) in values.iter().enumerate() {
        assert_eq!(gguf.get(&format!("key.{number}")), Some(value));
    }
    assert_eq!(gguf.get_u64("key.4").unwrap(), Some(u64::MAX));
    assert!(gguf.get_u32("key.5").is_err(), "negative");
}

#[test]
fn a_wrong_type_is_named() {
    let (_file, gguf) = open(&small().to_bytes());
    let message = gguf.get_u32("general.architecture").unwrap_err().to_string();
    assert!(message.contains("general.architecture") && message.contains("the string \"llama\""), "{message}");
    assert!(gguf.get_array("flag").is_err());
    assert!(gguf.get_str_array("types").is_err());
}

#[test]
fn rows_outside_the_tensor_are_refused() {
    let (_file, gguf) = open(&small().to_bytes());
    let tensor = gguf.tensor("a.weight").unwrap();
    let mut bytes = Vec::new();
    for rows in [0..3, 3..4, Range { start: 2, end: 1 }, 0..u64::MAX] {
        assert!(gguf.read_tensor(tensor, rows, &mut bytes).is_err());
    }
    let elsewhere = TensorInfo { offset: u64::MAX - 100, ..tensor.clone() };
    assert!(gguf.read_tensor(&elsewhere, 0..1, &mut bytes).is_err());
}

#[test]
fn a_file_that_shrinks_gives_an_error_naming_the_tensor() {
    let (file, gguf) = open(&small().to_bytes());
    file.as_file().set_len(100).unwrap();
    let error = gguf.read_tensor(gguf.tensor("b.weight").unwrap(), 0..2, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FormatError::TensorTruncated { ref tensor, .. } if tensor == "b.weight"), "{error}");
}

/// Each fault, and words that its message must have.
#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let message = parse(bytes).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

fn header(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    bytes
}

fn put_str(bytes: &mut Vec<u8>, string: &str) {
    bytes.extend((string.len() as u64).to_le_bytes());
    bytes.extend(string.as_bytes());
}

/// A file of one tensor with 4096 bytes of data behind it.
fn one_tensor(dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = header(3, 1, 0);
    put_str(&mut bytes, "w");
    bytes.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
    for dim in dims {
        bytes.extend(dim.to_le_bytes());
    }
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 4096, 0);
    bytes
}

#[test]
fn other_files_are_refused_by_kind() {
    refused(b"PK\x03\x04 and more", &["not a GGUF file", "GGUF"]);
    let told = parse(b"root:x:0").unwrap_err().to_string();
    assert!(!told.contains("root"), "what is in a file that is something else is not told: {told}");
    refused(b"GG", &["magic", "truncated"]);
    refused(&header(1, 0, 0), &["version 1"]);
    refused(&header(4, 0, 0), &["version 4"]);
    refused(&header(3_u32.swap_bytes(), 0, 0), &["big-endian"]);
    assert!(parse(&header(2, 0, 0)).is_ok());
    assert!(parse(&header(3, 0, 0)).is_ok());
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    refused(&header(3, u64::MAX, 0), &["number of tensors", "limit"]);
    refused(&header(3, 0, u64::MAX), &["number of metadata keys", "limit"]);
    refused(&header(3, 1000, 0), &["tensor descriptions", "truncated"]);
    refused(&header(3, 0, 1000), &["metadata", "truncated"]);
    for type_id in [0_u32, 4, 8, 10] {
        for count in [u64::MAX, 1 << 60, 1 << 40] {
            let mut bytes = header(3, 0, 1);
            put_str(&mut bytes, "list");
            bytes.extend(9_u32.to_le_bytes());
            bytes.extend(type_id.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            refused(&bytes, &["list", "truncated"]);
        }
    }
    // A sparse file can be as large as it claims; the header may still not be.
    let mut bytes = header(3, 0, 1);
    put_str(&mut bytes, "list");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend((1_u64 << 40).to_le_bytes());
    let message = Header::read(bytes.as_slice(), 1 << 50).unwrap_err().to_string();
    assert!(message.contains("limit"), "{message}");
}

#[test]
fn faulty_metadata_is_refused() {
    let mut bytes = header(3, 0, 1);
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend([0; 64]);
    refused(&bytes, &["metadata key number 0", "truncated"]);

    let entry = |rest: &[u8]| {
        let mut bytes = header(3, 0, 1);
        put_str(&mut bytes, "k");
        bytes.extend(rest);
        bytes.extend([0; 32]);
        bytes
    };
    refused(&entry(&13_u32.to_le_bytes()), &["\"k\"", "unknown value type 13"]);
    refused(&entry(&[9, 0, 0, 0, 9, 0, 0, 0]), &["\"k\"", "arrays of arrays"]);
    refused(&entry(&[9, 0, 0, 0, 99, 0, 0, 0]), &["\"k\"", "element type 99"]);
    refused(&entry(&[7, 0, 0, 0, 2]), &["\"k\"", "2 is not a bool"]);
    refused(&entry(&[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff]), &["\"k\"", "UTF-8"]);

    let mut writer = Writer::new();
    writer.key("twice", 1_u32).key("twice", 2_u32);
    refused(&writer.to_bytes(), &["\"twice\"", "appears twice"]);
    for wrong in [0_u32, 3, 1 << 21] {
        let mut writer = Writer::new();
        writer.key("general.alignment", wrong);
        refused(&writer.to_bytes(), &["general.alignment", "power of two"]);
    }
}

#[test]
fn faulty_tensors_are_refused() {
    refused(&one_tensor(&[256], 16, 0), &["\"w\"", "IQ2_XXS is not supported"]);
    refused(&one_tensor(&[256], 40, 0), &["\"w\"", "NVFP4 is not supported"]);
    refused(&one_tensor(&[256], 777, 0), &["\"w\"", "type number 777"]);
    refused(&one_tensor(&[], 0, 0), &["\"w\"", "0 dimensions"]);
    refused(&one_tensor(&[1; 5], 0, 0), &["\"w\"", "5 dimensions"]);
    refused(&one_tensor(&[4, 0], 0, 0), &["\"w\"", "hold a 0"]);
    refused(&one_tensor(&[33], 2, 0), &["\"w\"", "not a multiple of 32"]);
    refused(&one_tensor(&[1 << 32, 1 << 32], 0, 0), &["\"w\"", "overflow"]);
    refused(&one_tensor(&[1 << 62], 0, 0), &["\"w\"", "overflow"]);
    refused(&one_tensor(&[8], 0, 16), &["\"w\"", "alignment 32"]);
    refused(&one_tensor(&[1025], 0, 0), &["\"w\"", "reach past"]);
    refused(&one_tensor(&[8], 0, 4096), &["\"w\"", "reach past"]);
    refused(&one_tensor(&[8], 0, u64::MAX - 31), &["\"w\"", "reach past"]);
    assert!(parse(&one_tensor(&[1024], 0, 0)).is_ok());

    let mut writer = small();
    writer.tensor("a.weight", TensorType::F32, &[1], vec![0; 4]).unwrap();
    refused(&writer.to_bytes(), &["\"a.weight\"", "appears twice"]);
    // The second tensor's offset, made that of the first.
    let mut bytes = small().to_bytes();
    let name = bytes.windows(8).position(|window| window == b"b.weight").unwrap();
    let offset = name + 8 + 4 + 3 * 8 + 4;
    bytes[offset..offset + 8].fill(0);
    refused(&bytes, &["overlap", "a.weight", "b.weight"]);
}

#[test]
fn the_writer_checks_shapes() {
    let mut writer = Writer::new();
    assert!(writer.tensor("w", TensorType::Q8_0, &[31], vec![0; 34]).is_err());
    assert!(writer.tensor("w", TensorType::Q8_0, &[32], vec![0; 33]).is_err());
    assert!(writer.tensor("w", TensorType::Q8_0, &[32], vec![0; 34]).is_ok());
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = small().to_bytes();
    let whole = parse(&bytes).unwrap();
    let data_end = whole.tensors.iter().map(|tensor| whole.data_start + tensor.offset + tensor.byte_len).max().unwrap();
    for len in 0..bytes.len() {
        assert_eq!(parse(&bytes[..len]).is_ok(), len as u64 >= data_end, "{len} bytes");
    }
    // The same, when the file claims a length that it does not have.
    for len in 0..usize::try_from(whole.data_start).unwrap() - 32 {
        assert!(Header::read(&bytes[..len], bytes.len() as u64).is_err(), "{len} bytes");
    }
}

/// Whatever was read, it must be inside the file.
fn consistent(header: &Header, file_len: usize) -> bool {
    header.tensors.iter().all(|tensor| {
        tensor.rows().checked_mul(tensor.row_bytes()) == Some(tensor.byte_len)
            && header.data_start + tensor.offset + tensor.byte_len <= file_len as u64
    })
}

#[test]
fn every_byte_flip_is_an_error_or_consistent() {
    let bytes = small().to_bytes();
    for index in 0..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[index] ^= mask;
            if let Ok(header) = parse(&bytes) {
                assert!(consistent(&header, bytes.len()), "byte {index} xor {mask}");
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..512), head in 0_usize..4) {
        let mut bytes = match head {
            0 => Vec::new(),
            1 => header(3, 1, 1),
            2 => header(2, 3, 0),
            _ => small().to_bytes(),
        };
        bytes.extend(&noise);
        if let Ok(header) = parse(&bytes) {
            prop_assert!(consistent(&header, bytes.len()));
        }
    }

    #[test]
    fn several_changes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = small().to_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(header) = parse(&bytes) {
            prop_assert!(consistent(&header, bytes.len()));
        }
    }
}
