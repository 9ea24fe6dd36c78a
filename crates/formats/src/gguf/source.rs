//! Reading a header little by little, with each length checked against the file's end before anything is allocated.

use std::io::Read;

use super::value::{Array, StringArray, Value, id};
use crate::FormatError;
use crate::error::shown;

/// Longest header (keys, values, tensor descriptions) that is read: real ones are under 32 MiB.
const HEADER_BYTES_MAX: u64 = 1 << 30;

/// A reader that knows where it is and where the file ends.
pub(super) struct Source<R> {
    inner: R,
    position: u64,
    file_len: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R, file_len: u64) -> Self {
        Self { inner, position: 0, file_len }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn remaining(&self) -> u64 {
        self.file_len.saturating_sub(self.position)
    }

    /// Checks that `count` items of at least `item_bytes` each can still follow; gives the count as a size.
    pub(super) fn check_room(&self, what: &str, count: u64, item_bytes: u64) -> Result<usize, FormatError> {
        let needed = count.saturating_mul(item_bytes);
        if needed > self.remaining() {
            return Err(FormatError::Truncated {
                what: what.to_owned(),
                offset: self.position,
                needed,
                file_len: self.file_len,
            });
        }
        let end = self.position.saturating_add(needed);
        match usize::try_from(count) {
            Ok(count) if end <= HEADER_BYTES_MAX => Ok(count),
            _ => Err(FormatError::Limit {
                what: format!("size in bytes of the header with {what}"),
                actual: end,
                limit: HEADER_BYTES_MAX,
            }),
        }
    }

    fn fill(&mut self, what: &str, buffer: &mut [u8]) -> Result<(), FormatError> {
        let needed = buffer.len() as u64;
        self.check_room(what, needed, 1)?;
        match self.inner.read_exact(buffer) {
            Ok(()) => {
                self.position += needed;
                Ok(())
            }
            Err(source) => Err(FormatError::Io { what: what.to_owned(), offset: self.position, source }),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn magic(&mut self) -> Result<[u8; 4], FormatError> {
        self.array("the magic number")
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string of at most `limit` bytes.
    pub(super) fn string(&mut self, what: &str, limit: u64) -> Result<String, FormatError> {
        let mut bytes = Vec::new();
        self.string_bytes(what, limit, &mut bytes)?;
        let offset = self.position - bytes.len() as u64;
        String::from_utf8(bytes).map_err(|error| not_utf8(what, offset, error.utf8_error()))
    }

    /// Reads a length and so many bytes into `bytes`, which is used again and again by callers.
    fn string_bytes(&mut self, what: &str, limit: u64, bytes: &mut Vec<u8>) -> Result<(), FormatError> {
        let len = self.u64(what)?;
        if len > limit && len <= self.remaining() {
            return Err(FormatError::Limit { what: format!("length of {what}"), actual: len, limit });
        }
        let len = self.check_room(what, len, 1)?;
        bytes.resize(len, 0);
        self.fill(what, bytes)
    }

    /// The value of metadata key `key`.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, FormatError> {
        let what = format!("metadata key \"{}\"", shown(key));
        let type_id = self.u32(&what)?;
        Ok(match type_id {
            id::U8 => Value::U8(u8::from_le_bytes(self.array(&what)?)),
            id::I8 => Value::I8(i8::from_le_bytes(self.array(&what)?)),
            id::U16 => Value::U16(u16::from_le_bytes(self.array(&what)?)),
            id::I16 => Value::I16(i16::from_le_bytes(self.array(&what)?)),
            id::U32 => Value::U32(u32::from_le_bytes(self.array(&what)?)),
            id::I32 => Value::I32(i32::from_le_bytes(self.array(&what)?)),
            id::F32 => Value::F32(f32::from_le_bytes(self.array(&what)?)),
            id::U64 => Value::U64(u64::from_le_bytes(self.array(&what)?)),
            id::I64 => Value::I64(i64::from_le_bytes(self.array(&what)?)),
            id::F64 => Value::F64(f64::from_le_bytes(self.array(&what)?)),
            id::BOOL => {
                let [byte] = self.array(&what)?;
                Value::Bool(boolean(byte).ok_or_else(|| self.invalid(&what, format!("{byte} is not a bool")))?)
            }
            id::STRING => Value::String(self.string(&what, HEADER_BYTES_MAX)?),
            id::ARRAY => Value::Array(self.value_array(&what)?),
            other => return Err(self.invalid(&what, format!("unknown value type {other}"))),
        })
    }

    fn value_array(&mut self, what: &str) -> Result<Array, FormatError> {
        let type_id = self.u32(what)?;
        let count = self.u64(what)?;
        Ok(match type_id {
            id::U8 => Array::U8(self.numbers(what, count, u8::from_le_bytes)?),
            id::I8 => Array::I8(self.numbers(what, count, i8::from_le_bytes)?),
            id::U16 => Array::U16(self.numbers(what, count, u16::from_le_bytes)?),
            id::I16 => Array::I16(self.numbers(what, count, i16::from_le_bytes)?),
            id::U32 => Array::U32(self.numbers(what, count, u32::from_le_bytes)?),
            id::I32 => Array::I32(self.numbers(what, count, i32::from_le_bytes)?),
            id::F32 => Array::F32(self.numbers(what, count, f32::from_le_bytes)?),
            id::U64 => Array::U64(self.numbers(what, count, u64::from_le_bytes)?),
            id::I64 => Array::I64(self.numbers(what, count, i64::from_le_bytes)?),
            id::F64 => Array::F64(self.numbers(what, count, f64::from_le_bytes)?),
            id::BOOL => {
                let bytes = self.numbers(what, count, u8::from_le_bytes)?;
                let bools: Option<Vec<bool>> = bytes.into_iter().map(boolean).collect();
                Array::Bool(bools.ok_or_else(|| self.invalid(what, "an element is not a bool".to_owned()))?)
            }
            id::STRING => Array::String(self.strings(what, count)?),
            id::ARRAY => return Err(self.invalid(what, "arrays of arrays are not supported".to_owned())),
            other => return Err(self.invalid(what, format!("unknown array element type {other}"))),
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        what: &str,
        count: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, FormatError> {
        let mut left = self.check_room(what, count, N as u64)?;
        let mut numbers = Vec::with_capacity(left);
        let mut buffer = [0; 4096];
        while left > 0 {
            let now = left.min(buffer.len() / N);
            let Some(bytes) = buffer.get_mut(..now * N) else { break };
            self.fill(what, bytes)?;
            numbers.extend(bytes.as_chunks::<N>().0.iter().map(|bytes| decode(*bytes)));
            left -= now;
        }
        Ok(numbers)
    }

    fn strings(&mut self, what: &str, count: u64) -> Result<StringArray, FormatError> {
        /// Room taken ahead for text; more is taken as strings really arrive.
        const AHEAD_BYTES_MAX: usize = 4 << 20;
        let count = self.check_room(what, count, size_of::<u64>() as u64)?;
        let mut strings = StringArray::with_capacity(count, count.saturating_mul(8).min(AHEAD_BYTES_MAX));
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.string_bytes(what, HEADER_BYTES_MAX, &mut bytes)?;
            let offset = self.position - bytes.len() as u64;
            let string = std::str::from_utf8(&bytes).map_err(|error| not_utf8(what, offset, error))?;
            if !strings.push(string) {
                return Err(self.invalid(what, "more than 4 GiB of text".to_owned()));
            }
        }
        Ok(strings)
    }

    pub(super) fn invalid(&self, what: &str, reason: String) -> FormatError {
        FormatError::Invalid { what: what.to_owned(), offset: self.position, reason }
    }
}

fn boolean(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn not_utf8(what: &str, offset: u64, error: std::str::Utf8Error) -> FormatError {
    FormatError::Invalid { what: what.to_owned(), offset, reason: format!("not UTF-8: {error}") }
}
