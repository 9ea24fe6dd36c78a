//! Finding special tokens in text: the longest ones first, each from the left, as llama.cpp does.

use crate::vocabulary::{TokenKind, Vocabulary};

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'a> {
    /// Text to be tokenized.
    Text(&'a str),
    /// A token that stood in the text.
    Token(u32),
}

/// Which tokens are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Control, unknown and user-defined tokens: in trusted text.
    All,
    /// User-defined tokens, which are ordinary text: in any text.
    UserDefined,
    /// Control and unknown tokens: what must not arise from untrusted text.
    Guarded,
}

impl Wanted {
    fn includes(self, kind: TokenKind) -> bool {
        match self {
            Self::All => matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined),
            Self::UserDefined => kind == TokenKind::UserDefined,
            Self::Guarded => matches!(kind, TokenKind::Control | TokenKind::Unknown),
        }
    }
}

/// A set of tokens to look for.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    /// One group for each length, longest first.
    groups: Vec<Group>,
    wanted: Wanted,
}

/// The tokens of one length.
#[derive(Debug)]
struct Group {
    /// In bytes, at least 1.
    len: usize,
    /// First and last bytes that occur: most places are passed over by these alone.
    first: [bool; 256],
    last: [bool; 256],
}

impl SpecialTokens {
    pub(crate) fn new(vocabulary: &Vocabulary, wanted: Wanted) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (_, text, kind) in vocabulary.specials() {
            let (Some(&first), Some(&last)) = (text.as_bytes().first(), text.as_bytes().last()) else { continue };
            if !wanted.includes(kind) {
                continue;
            }
            let position = match groups.binary_search_by(|group| text.len().cmp(&group.len)) {
                Ok(position) => position,
                Err(position) => {
                    groups.insert(position, Group { len: text.len(), first: [false; 256], last: [false; 256] });
                    position
                }
            };
            if let Some(group) = groups.get_mut(position) {
                set(&mut group.first, first);
                set(&mut group.last, last);
            }
        }
        Self { groups, wanted }
    }

    /// Cuts a text at the tokens of the set, which swallow the spaces around them where they are told to. Texts among the
    /// fragments are not empty.
    pub(crate) fn split<'a>(&self, vocabulary: &Vocabulary, text: &'a str) -> Vec<Fragment<'a>> {
        let mut fragments = vec![Fragment::Text(text)];
        for group in &self.groups {
            if group.len > text.len() {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len());
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text) => self.split_by_group(vocabulary, group, text, &mut cut),
                    Fragment::Token(_) => cut.push(fragment),
                }
            }
            fragments = cut;
        }
        // Guarded tokens stand in texts that must come through as they are.
        if self.wanted != Wanted::Guarded {
            trim(vocabulary, &mut fragments);
        }
        fragments.retain(|fragment| *fragment != Fragment::Text(""));
        fragments
    }

    fn split_by_group<'a>(
        &self,
        vocabulary: &Vocabulary,
        group: &Group,
        text: &'a str,
        fragments: &mut Vec<Fragment<'a>>,
    ) {
        let mut rest = text;
        while let Some((start, id)) = self.find(vocabulary, group, rest) {
            fragments.push(Fragment::Text(rest.get(..start).unwrap_or_default()));
            fragments.push(Fragment::Token(id));
            rest = rest.get(start + group.len..).unwrap_or_default();
        }
        fragments.push(Fragment::Text(rest));
    }

    /// The first token of this group: where it starts, and its id.
    fn find(&self, vocabulary: &Vocabulary, group: &Group, text: &str) -> Option<(usize, u32)> {
        let bytes = text.as_bytes();
        bytes.windows(group.len).enumerate().find_map(|(start, window)| {
            let (&[first, ..], &[.., last]) = (window, window) else { return None };
            if !get(&group.first, first) || !get(&group.last, last) {
                return None;
            }
            let id = vocabulary.special(window)?;
            vocabulary.kind(id).is_some_and(|kind| self.wanted.includes(kind)).then_some((start, id))
        })
    }
}

/// Takes away the spaces that tokens swallow.
fn trim(vocabulary: &Vocabulary, fragments: &mut [Fragment<'_>]) {
    for at in 0..fragments.len() {
        let Some(&Fragment::Token(id)) = fragments.get(at) else { continue };
        let trim = vocabulary.trim(id);
        if trim.left
            && let Some(Fragment::Text(before)) = at.checked_sub(1).and_then(|before| fragments.get_mut(before))
        {
            *before = before.trim_end();
        }
        if trim.right
            && let Some(Fragment::Text(after)) = fragments.get_mut(at + 1)
        {
            *after = after.trim_start();
        }
    }
}

/// Starts and ends of guarded tokens, to see whether a text's edge could become part of one.
#[derive(Debug)]
pub(crate) struct Edges {
    /// Written forms, sorted.
    forward: Vec<Box<[u8]>>,
    /// Written forms back to front, sorted.
    backward: Vec<Box<[u8]>>,
    longest: usize,
}

impl Edges {
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let guarded = || vocabulary.specials().filter(|(_, _, kind)| Wanted::Guarded.includes(*kind));
        let mut forward: Vec<Box<[u8]>> = guarded().map(|(_, text, _)| text.as_bytes().into()).collect();
        let mut backward: Vec<Box<[u8]>> = guarded().map(|(_, text, _)| text.bytes().rev().collect()).collect();
        forward.sort_unstable();
        backward.sort_unstable();
        let longest = forward.iter().map(|text| text.len()).max().unwrap_or(0);
        Self { forward, backward, longest }
    }

    /// Whether the text starts with the end of a guarded token.
    pub(crate) fn opens(&self, text: &str) -> bool {
        let mut start: Vec<u8> = text.bytes().take(self.longest).collect();
        start.reverse();
        (0..start.len()).any(|cut| start.get(cut..).is_some_and(|part| begins_one(&self.backward, part)))
    }

    /// Whether the text ends with the start of a guarded token.
    pub(crate) fn closes(&self, text: &str) -> bool {
        let end = text.as_bytes().get(text.len().saturating_sub(self.longest)..).unwrap_or_default();
        (0..end.len()).any(|cut| end.get(cut..).is_some_and(|part| begins_one(&self.forward, part)))
    }
}

/// Whether one of the sorted texts begins with `part`.
fn begins_one(sorted: &[Box<[u8]>], part: &[u8]) -> bool {
    let position = sorted.partition_point(|text| **text < *part);
    sorted.get(position).is_some_and(|text| text.starts_with(part))
}

fn set(bytes: &mut [bool; 256], byte: u8) {
    if let Some(flag) = bytes.get_mut(usize::from(byte)) {
        *flag = true;
    }
}

fn get(bytes: &[bool; 256], byte: u8) -> bool {
    bytes.get(usize::from(byte)).is_some_and(|&flag| flag)
}
