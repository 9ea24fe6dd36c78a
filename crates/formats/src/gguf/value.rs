//! Metadata values. Arrays are held compactly: numbers side by side, strings in one buffer.

use std::fmt;

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Rust type it holds")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array; arrays of arrays are refused when a file is read.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Rust type it holds")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one buffer. Holds at most 4 GiB of text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    ends: Vec<u32>,
}

impl StringArray {
    /// No strings yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_capacity(strings: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(strings) }
    }

    /// Appends a string; `false` (and nothing appended) when the buffer would pass 4 GiB.
    #[must_use]
    pub fn push(&mut self, string: &str) -> bool {
        let Some(end) = self.text.len().checked_add(string.len()).and_then(|end| u32::try_from(end).ok()) else {
            return false;
        };
        self.text.push_str(string);
        self.ends.push(end);
        true
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all strings together.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)? as usize,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = self.text.get(start..end as usize).unwrap_or("");
            start = end as usize;
            string
        })
    }
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<&'a str> for StringArray {
    /// Strings that would pass the limit of 4 GiB are left out.
    fn from_iter<I: IntoIterator<Item = &'a str>>(strings: I) -> Self {
        let mut array = Self::new();
        for string in strings {
            if !array.push(string) {
                break;
            }
        }
        array
    }
}

/// Numbers of the value types in a GGUF file.
pub(crate) mod id {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(items) => items.len(),
            Self::I8(items) => items.len(),
            Self::U16(items) => items.len(),
            Self::I16(items) => items.len(),
            Self::U32(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::F32(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::String(items) => items.len(),
            Self::U64(items) => items.len(),
            Self::I64(items) => items.len(),
            Self::F64(items) => items.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index` of an integer array, when there is one and it fits.
    pub fn integer(&self, index: usize) -> Option<i64> {
        Some(match self {
            Self::U8(items) => i64::from(*items.get(index)?),
            Self::I8(items) => i64::from(*items.get(index)?),
            Self::U16(items) => i64::from(*items.get(index)?),
            Self::I16(items) => i64::from(*items.get(index)?),
            Self::U32(items) => i64::from(*items.get(index)?),
            Self::I32(items) => i64::from(*items.get(index)?),
            Self::U64(items) => i64::try_from(*items.get(index)?).ok()?,
            Self::I64(items) => *items.get(index)?,
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) => return None,
        })
    }

    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
        }
    }
}

impl Value {
    /// The value as an integer of any type, when it is one and fits.
    pub fn integer(&self) -> Option<i64> {
        Some(match self {
            Self::U8(value) => i64::from(*value),
            Self::I8(value) => i64::from(*value),
            Self::U16(value) => i64::from(*value),
            Self::I16(value) => i64::from(*value),
            Self::U32(value) => i64::from(*value),
            Self::I32(value) => i64::from(*value),
            Self::U64(value) => i64::try_from(*value).ok()?,
            Self::I64(value) => *value,
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => return None,
        })
    }

    /// What it is, for messages, e.g. `the u32 7`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::U8(value) => format!("the u8 {value}"),
            Self::I8(value) => format!("the i8 {value}"),
            Self::U16(value) => format!("the u16 {value}"),
            Self::I16(value) => format!("the i16 {value}"),
            Self::U32(value) => format!("the u32 {value}"),
            Self::I32(value) => format!("the i32 {value}"),
            Self::U64(value) => format!("the u64 {value}"),
            Self::I64(value) => format!("the i64 {value}"),
            Self::F32(value) => format!("the f32 {value}"),
            Self::F64(value) => format!("the f64 {value}"),
            Self::Bool(value) => format!("the bool {value}"),
            Self::String(value) => format!("the string \"{}\"", crate::error::shown(value)),
            Self::Array(array) => format!("an array of {} values of type {}", array.len(), array.type_name()),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $into:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        })*
    };
}

value_from! {
    u32 => |value| Self::U32(value);
    u64 => |value| Self::U64(value);
    i32 => |value| Self::I32(value);
    f32 => |value| Self::F32(value);
    bool => |value| Self::Bool(value);
    &str => |value| Self::String(value.to_owned());
    String => |value| Self::String(value);
    Vec<u32> => |value| Self::Array(Array::U32(value));
    Vec<i32> => |value| Self::Array(Array::I32(value));
    Vec<f32> => |value| Self::Array(Array::F32(value));
    StringArray => |value| Self::Array(Array::String(value));
    &[&str] => |value| Self::Array(Array::String(value.iter().copied().collect()));
}
