//! The tokens of a model: their text in the file, the bytes they stand for, and their kinds.

use std::collections::BTreeMap;

use formats::gguf::{Gguf, StringArray};

use crate::TokenizerError;
use crate::text_index::TextIndex;

pub(crate) const TOKENS_KEY: &str = "tokenizer.ggml.tokens";
pub(crate) const TYPES_KEY: &str = "tokenizer.ggml.token_type";

/// In front of a WordPiece token that continues a word.
pub(crate) const CONTINUES: &str = "##";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// As GGUF files have it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }

    fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// How the text of ordinary tokens in the file stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each byte as a printable character (GPT-2's table).
    ByteLevel,
    /// As it is, but `▁` for a space; byte tokens as `<0xAB>`.
    SentencePiece,
    /// As it is, but `##` in front of what continues a word; a space before all others.
    WordPiece,
}

/// Which spaces around it a special token swallows when it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trim {
    pub(crate) left: bool,
    pub(crate) right: bool,
}

/// All tokens of a model. Fewer than `u32::MAX`.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    texts: StringArray,
    kinds: Vec<TokenKind>,
    /// Bytes of all tokens one after another, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Ordinary text of the model: never control, unknown or byte tokens, so that no text can become one.
    plain: TextIndex,
    /// Control, unknown and user-defined tokens.
    special: TextIndex,
    /// Special tokens that swallow spaces; others are not there.
    trims: BTreeMap<u32, Trim>,
}

impl Vocabulary {
    pub(crate) fn from_gguf(gguf: &Gguf, spelling: Spelling) -> Result<Self, TokenizerError> {
        let texts = gguf.get_str_array(TOKENS_KEY)?.ok_or(TokenizerError::Missing { key: TOKENS_KEY })?.clone();
        let invalid = |key, reason: String| TokenizerError::Invalid { key, reason };
        let kinds = match gguf.get_array(TYPES_KEY)? {
            None => vec![TokenKind::Normal; texts.len()],
            Some(types) if types.len() == texts.len() => (0..types.len())
                .map(|index| types.integer(index).map(TokenKind::from_number))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| invalid(TYPES_KEY, "it does not hold integers".to_owned()))?,
            Some(types) => {
                let reason = format!("it has {} entries for {} tokens", types.len(), texts.len());
                return Err(invalid(TYPES_KEY, reason));
            }
        };
        Self::new(texts, kinds, spelling).map_err(|reason| invalid(TOKENS_KEY, reason))
    }

    /// The tokens of these texts, each of its kind.
    ///
    /// # Errors
    /// What is wrong with them: none, or too many.
    pub(crate) fn new(texts: StringArray, kinds: Vec<TokenKind>, spelling: Spelling) -> Result<Self, String> {
        let count = u32::try_from(texts.len()).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("it is empty".to_owned());
        }
        let mut bytes = Vec::with_capacity(texts.text_len());
        let mut ends = Vec::with_capacity(texts.len());
        for (text, kind) in texts.iter().zip(&kinds) {
            append_bytes(text, *kind, spelling, &mut bytes);
            ends.push(u32::try_from(bytes.len()).map_err(|error| error.to_string())?);
        }
        let of_kinds = |wanted: &'static [TokenKind]| {
            (0..count).zip(&kinds).filter(|(_, kind)| wanted.contains(kind)).map(|(id, _)| id)
        };
        let plain = TextIndex::new(&texts, of_kinds(&[TokenKind::Normal, TokenKind::UserDefined, TokenKind::Unused]));
        let special =
            TextIndex::new(&texts, of_kinds(&[TokenKind::Control, TokenKind::Unknown, TokenKind::UserDefined]));
        Ok(Self { texts, kinds, bytes, ends, plain, special, trims: BTreeMap::new() })
    }

    /// Lets special tokens swallow the spaces around them, by id.
    pub(crate) fn set_trims(&mut self, trims: BTreeMap<u32, Trim>) {
        self.trims = trims;
    }

    /// Special tokens that swallow spaces.
    pub(crate) fn trims(&self) -> &BTreeMap<u32, Trim> {
        &self.trims
    }

    /// Which spaces around it a special token swallows.
    pub(crate) fn trim(&self, id: u32) -> Trim {
        self.trims.get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// All tokens in order: text, kind and id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, TokenKind, u32)> {
        self.texts.iter().zip(&self.kinds).zip(0..).map(|((text, kind), id)| (text, *kind, id))
    }

    /// The token's text as the file writes it.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    /// The bytes it stands for; special tokens: their written form.
    pub(crate) fn piece(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(previous) => *self.ends.get(previous)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The ordinary token with this text (in the file's spelling).
    pub(crate) fn plain(&self, text: &[u8]) -> Option<u32> {
        self.plain.get(&self.texts, text)
    }

    /// The control, unknown or user-defined token with this text.
    pub(crate) fn special(&self, text: &[u8]) -> Option<u32> {
        self.special.get(&self.texts, text)
    }

    /// All tokens that `special` finds, with their kinds.
    pub(crate) fn specials(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        self.iter().filter_map(|(text, kind, id)| {
            matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined).then_some((id, text, kind))
        })
    }

    /// The ids of byte tokens such as `<0x0A>`, by byte.
    pub(crate) fn byte_tokens(&self) -> [Option<u32>; 256] {
        let mut ids = [None; 256];
        for (text, kind, id) in self.iter() {
            if kind == TokenKind::Byte
                && let Some(slot) = named_byte(text).and_then(|byte| ids.get_mut(usize::from(byte)))
            {
                *slot = Some(id);
            }
        }
        ids
    }
}

fn append_bytes(text: &str, kind: TokenKind, spelling: Spelling, bytes: &mut Vec<u8>) {
    match (kind, spelling) {
        (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => {
            bytes.extend_from_slice(text.as_bytes())
        }
        (TokenKind::Byte, _) => match named_byte(text) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(text.as_bytes()),
        },
        (TokenKind::Normal | TokenKind::Unused, Spelling::SentencePiece) => {
            for (number, part) in text.split('▁').enumerate() {
                if number > 0 {
                    bytes.push(b' ');
                }
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        (TokenKind::Normal | TokenKind::Unused, Spelling::WordPiece) => match text.strip_prefix(CONTINUES) {
            Some(rest) => bytes.extend_from_slice(rest.as_bytes()),
            None if text.is_empty() => {}
            None => {
                bytes.push(b' ');
                bytes.extend_from_slice(text.as_bytes());
            }
        },
        (TokenKind::Normal | TokenKind::Unused, Spelling::ByteLevel) => {
            for char in text.chars() {
                match byte_of_char(char) {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
    }
}

/// `0xAB` of `<0xAB>`.
pub(crate) fn named_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's table: printable bytes stand for themselves, the others for U+0100 and on, in order.
pub(crate) fn char_of_byte(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count();
    u32::try_from(before).ok().and_then(|before| char::from_u32(0x100 + before)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The inverse of [`char_of_byte`].
fn byte_of_char(char: char) -> Option<u8> {
    match char {
        '!'..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => u8::try_from(char).ok(),
        '\u{100}'..='\u{120}' => u8::try_from(u32::from(char) - 0x100).ok(),
        '\u{121}'..='\u{142}' => u8::try_from(u32::from(char) - 0x121 + 0x7f).ok(),
        '\u{143}' => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of_char(char_of_byte(byte)), Some(byte), "{byte:#x}");
        }
        assert_eq!((char_of_byte(b' '), char_of_byte(b'\n'), char_of_byte(0xad)), ('Ġ', 'Ċ', '\u{143}'));
        assert_eq!(byte_of_char('\u{144}'), None);
    }

    #[test]
    fn byte_tokens_are_named_in_hexadecimal() {
        assert_eq!(named_byte("<0x0A>"), Some(10));
        for other in ["<0x0A", "<0x>", "<0x+1>", "<0x100>", "0x0A"] {
            assert_eq!(named_byte(other), None, "{other}");
        }
    }
}
