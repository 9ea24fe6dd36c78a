//! Files that are whole, files with one fault, and files of noise.

use proptest::prelude::*;

use super::*;

fn small() -> Writer {
    let mut writer = Writer::new();
    writer.tensor("a", TensorType::F32, &[2, 3], &[1; 24]).unwrap();
    writer.tensor("b", TensorType::BF16, &[4], &[2; 8]).unwrap();
    writer
}

fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
    Header::read(bytes, bytes.len() as u64)
}

/// A file of this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let message = parse(bytes).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

#[test]
fn what_was_written_is_read_back() {
    let header = parse(&small().to_bytes()).unwrap();
    let [a, b] = header.tensors.as_slice() else { panic!("two tensors") };
    assert_eq!((a.name.as_str(), a.ty, a.dims.as_slice(), a.offset), ("a", TensorType::F32, [3, 2].as_slice(), 0));
    assert_eq!((b.name.as_str(), b.ty, b.dims.as_slice(), b.offset), ("b", TensorType::BF16, [4].as_slice(), 24));
    assert!(parse(&file("{}", 0)).unwrap().tensors.is_empty());
    let metadata = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}  "#;
    assert_eq!(parse(&file(metadata, 8)).unwrap().tensors.len(), 1, "a hole before it is no fault");
}

#[test]
fn the_writer_checks_shapes() {
    let mut writer = Writer::new();
    assert!(writer.tensor("w", TensorType::F32, &[2], &[0; 7]).is_err());
    assert!(writer.tensor("w", TensorType::Q8_0, &[32], &[0; 34]).is_err());
}

#[test]
fn faulty_headers_are_refused() {
    refused(b"", &["the header", "truncated"]);
    refused(&[0; 7], &["the header", "truncated"]);
    refused(b"this is some text", &["length of the header", "limit of 100000000"]);
    refused(&u64::MAX.to_le_bytes(), &["length of the header", "limit"]);
    refused(&100_u64.to_le_bytes(), &["the header", "truncated"]);
    refused(&file("", 8), &["the header", "EOF"]);
    refused(&file("[]", 8), &["an object of tensors"]);
    refused(&file("{} x", 8), &["trailing"]);
    refused(&file("{\"w\":3}", 8), &["\"w\"", "invalid type"]);
    refused(&file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, 8), &["\"w\"", "data_offsets"]);
    let nested = "[".repeat(100_000);
    refused(&file(&format!("{{\"w\":{nested}"), 8), &["\"w\""]);
    let long = "x".repeat(257);
    refused(&file(&format!(r#"{{"{long}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), 8), &["257 bytes"]);
}

#[test]
fn faulty_tensors_are_refused() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        file(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 64)
    };
    assert!(parse(&one("F32", "[2,8]", "[0,64]")).is_ok());
    for ty in ["F64", "I64", "U8", "F8_E4M3", "BOOL"] {
        refused(&one(ty, "[8]", "[0,8]"), &["\"w\"", ty, "F32, F16 and BF16"]);
    }
    refused(&one("F32", "[]", "[0,4]"), &["\"w\"", "0 dimensions"]);
    refused(&one("F32", "[1,1,1,1,1]", "[0,4]"), &["\"w\"", "5 dimensions"]);
    refused(&one("F32", "[2,0]", "[0,0]"), &["\"w\"", "hold a 0"]);
    refused(&one("F32", "[-1]", "[0,4]"), &["\"w\"", "invalid value"]);
    refused(&one("F32", "[4294967296,4294967296]", "[0,4]"), &["\"w\"", "overflow"]);
    refused(&one("F32", "[2]", "[0,4]"), &["\"w\"", "8 bytes", "0 to 4"]);
    refused(&one("F32", "[2]", "[8,0]"), &["\"w\"", "8 bytes", "8 to 0"]);
    refused(&one("F32", "[2]", "[60,68]"), &["\"w\"", "reach past"]);
    refused(&one("F32", "[2]", "[18446744073709551608,18446744073709551616]"), &["\"w\""]);
    refused(&one("F32", "[2]", "[18446744073709551600,18446744073709551608]"), &["\"w\"", "reach past"]);
    let two = |name: &str, offsets: &str| {
        let of =
            |name: &str, offsets: &str| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        file(&format!("{{{},{}}}", of("w", "[0,8]"), of(name, offsets)), 64)
    };
    assert!(parse(&two("v", "[8,16]")).is_ok());
    refused(&two("v", "[4,12]"), &["\"v\"", "overlap", "\"w\""]);
    refused(&two("v", "[0,8]"), &["overlap"]);
    refused(&two("w", "[8,16]"), &["\"w\"", "appears twice"]);
}

/// Whatever was read, it must be inside the file.
fn consistent(header: &Header, file_len: usize) -> bool {
    header.tensors.iter().all(|tensor| {
        tensor.rows().checked_mul(tensor.row_bytes()) == Some(tensor.byte_len)
            && header.data_start + tensor.offset + tensor.byte_len <= file_len as u64
    })
}

#[test]
fn every_truncation_and_byte_flip_is_an_error_or_consistent() {
    let bytes = small().to_bytes();
    for len in 0..bytes.len() {
        assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
        assert!(Header::read(&bytes[..len], bytes.len() as u64).is_err() || len >= bytes.len() - 32, "{len} bytes");
    }
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
