//! Bytes of tokens to text, whole characters only.

use std::str;

/// Turns a stream of bytes, cut anywhere, into text. All that it gives, joined, equals `String::from_utf8_lossy` of all the
/// bytes, joined.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The start of a character whose end has not come yet: at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes and gives the text that is now complete. Bytes that cannot be part of any character become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    text.push_str(str::from_utf8(valid).unwrap_or_default());
                    rest = invalid;
                    let Some(len) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = rest.get(len..).unwrap_or_default();
                }
            }
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        text
    }

    /// Whether bytes of an unfinished character are held back.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the stream: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_comes_when_it_is_whole() {
        let mut decoder = StreamDecoder::new();
        assert_eq!(decoder.push(&[0xf0, 0x9f]), "");
        assert!(decoder.has_pending());
        assert_eq!(decoder.push(&[0x99]), "");
        assert_eq!(decoder.push(&[0x82, b'a', 0xe4]), "🙂a");
        assert_eq!(decoder.push(b"b"), "\u{fffd}b");
        assert_eq!(decoder.push(&[0xe4, 0xbd]), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_text_of_the_whole(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<char>().prop_map(|char| char.to_string().into_bytes()),
                    any::<Vec<u8>>(),
                    "\\PC{0,4}".prop_map(String::into_bytes),
                ],
                0..12,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        ) {
            let whole = parts.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            cuts.push(whole.len());
            cuts.sort_unstable();
            let mut decoder = StreamDecoder::new();
            let mut text = String::new();
            let mut start = 0;
            for cut in cuts {
                text.push_str(&decoder.push(&whole[start..cut]));
                prop_assert!(decoder.pending.len() < 4);
                start = cut;
            }
            text.push_str(&decoder.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&whole));
        }
    }
}
