//! What `tokenizer.json` holds, and the checks that its vocabulary is one: every id once, every part of a merge there.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use formats::gguf::StringArray;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::fault;
use crate::TokenizerError;
use crate::error::shown;
use crate::vocabulary::{Spelling, TokenKind, Trim, Vocabulary, named_byte};

/// So many ids may be without a token.
const HOLES_MAX: usize = 1 << 16;

/// The file. Fields that say how to fill or cut batches are not read.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerFile {
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    pub(super) decoder: Option<Value>,
    pub(super) model: Model,
}

/// A token beside the model's own, or one of these that is found before the model sees the text.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// The model: the fields of all kinds, each of which has some.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) vocab: Vocab,
    #[serde(default)]
    pub(super) merges: Vec<Merge>,
    pub(super) unk_token: Option<String>,
    unk_id: Option<u32>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) max_input_chars_per_word: Option<u64>,
    pub(super) dropout: Option<f64>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
}

/// Kinds of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelKind {
    Bpe,
    WordPiece,
    Unigram,
}

/// The model's own tokens.
#[derive(Debug)]
pub(super) enum Vocab {
    /// Text and id.
    Ids(Vec<(String, u32)>),
    /// Text and score, in the order of ids.
    Scores(Vec<(String, f64)>),
}

/// Two tokens that become one; earlier ones first.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a merge such as \"a b\" or [\"a\", \"b\"]")]
pub(super) enum Merge {
    Line(String),
    Pair(String, String),
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;

        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = Vocab;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of ids by token, or a list of tokens with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut ids = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    ids.push(entry);
                }
                Ok(Vocab::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                let mut scores = Vec::new();
                while let Some(entry) = list.next_element()? {
                    scores.push(entry);
                }
                Ok(Vocab::Scores(scores))
            }
        }

        deserializer.deserialize_any(VocabVisitor)
    }
}

impl Vocab {
    fn len(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Scores(scores) => scores.len(),
        }
    }

    /// Texts and ids; a list so long that ids end before it is refused with the other ids.
    fn iter(&self) -> Box<dyn Iterator<Item = (&str, u32)> + '_> {
        match self {
            Self::Ids(ids) => Box::new(ids.iter().map(|(text, id)| (text.as_str(), *id))),
            Self::Scores(scores) => Box::new(scores.iter().map(|(text, _)| text.as_str()).zip(0..)),
        }
    }
}

impl Merge {
    /// Whether it is the first line of a file of merges, which old files took over.
    pub(super) fn is_version(&self) -> bool {
        matches!(self, Self::Line(line) if line.starts_with("#version"))
    }

    /// Left and right part; `None` where a line has no two.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Line(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' ')),
            Self::Pair(left, right) => Some((left.as_str(), right.as_str())),
        }
    }
}

impl Model {
    /// What the file says, or what old files, which do not, must mean.
    pub(super) fn kind(&self) -> Result<ModelKind, TokenizerError> {
        match (self.kind.as_deref(), &self.vocab) {
            (Some("BPE"), _) => Ok(ModelKind::Bpe),
            (Some("WordPiece"), _) => Ok(ModelKind::WordPiece),
            (Some("Unigram"), _) | (None, Vocab::Scores(_)) => Ok(ModelKind::Unigram),
            (None, _) if !self.merges.is_empty() => Ok(ModelKind::Bpe),
            (None, _) => Ok(ModelKind::WordPiece),
            (Some(other), _) => {
                let reason = format!("\"{}\" is not supported (BPE, WordPiece and Unigram are)", shown(other));
                Err(fault("model.type", reason))
            }
        }
    }
}

/// Which token has an id, and where that is said.
#[derive(Clone, Copy)]
struct Slot<'a> {
    text: &'a str,
    added: Option<&'a AddedToken>,
}

impl TokenizerFile {
    /// The tokens by id, with their kinds.
    pub(super) fn vocabulary(&self, spelling: Spelling) -> Result<Vocabulary, TokenizerError> {
        let slots = self.slots()?;
        let unknown = self.unknown(&slots)?;
        let mut texts = StringArray::new();
        let mut kinds = Vec::with_capacity(slots.len());
        let mut trims = BTreeMap::new();
        for (slot, id) in slots.iter().zip(0..) {
            // What no text can be, and no text can come from.
            let (text, kind) = slot.map_or(("", TokenKind::Unused), |slot| {
                let kind = match slot.added {
                    _ if unknown == Some(id) => TokenKind::Unknown,
                    Some(added) if added.special => TokenKind::Control,
                    Some(_) => TokenKind::UserDefined,
                    None if self.model.byte_fallback == Some(true) && named_byte(slot.text).is_some() => {
                        TokenKind::Byte
                    }
                    None => TokenKind::Normal,
                };
                (slot.text, kind)
            });
            if !texts.push(text) {
                return Err(fault("model.vocab", "its tokens have more than 4 GiB of text"));
            }
            kinds.push(kind);
            if let Some(added) = slot.and_then(|slot| slot.added).filter(|added| added.lstrip || added.rstrip) {
                trims.insert(id, Trim { left: added.lstrip, right: added.rstrip });
            }
        }
        let mut vocabulary = Vocabulary::new(texts, kinds, spelling).map_err(|reason| fault("model.vocab", reason))?;
        vocabulary.set_trims(trims);
        Ok(vocabulary)
    }

    /// The model's tokens and the added ones, by id.
    fn slots(&self) -> Result<Vec<Option<Slot<'_>>>, TokenizerError> {
        let vocab = &self.model.vocab;
        let count = vocab.len() + self.added_tokens.len();
        let listed = vocab.iter().map(|(_, id)| id).chain(self.added_tokens.iter().map(|token| token.id));
        let Some(highest) = listed.max().map(|id| id as usize) else {
            return Err(fault("model.vocab", "it is empty"));
        };
        if highest >= count + HOLES_MAX {
            return Err(fault("model.vocab", format!("id {highest} is too high for {count} tokens")));
        }
        let mut slots: Vec<Option<Slot<'_>>> = vec![None; highest + 1];
        let mut ids = HashMap::with_capacity(count);
        for (text, id) in vocab.iter() {
            let slot = slots.get_mut(id as usize).and_then(|slot| slot.replace(Slot { text, added: None }));
            if let Some(other) = slot {
                let reason = format!("id {id} belongs to \"{}\" and to \"{}\"", shown(other.text), shown(text));
                return Err(fault("model.vocab", reason));
            }
            // A list may hold a text twice: only the last can be found.
            if let Some(other) = ids.insert(text, id)
                && matches!(vocab, Vocab::Ids(_))
            {
                return Err(fault("model.vocab", format!("\"{}\" has the ids {other} and {id}", shown(text))));
            }
        }
        for (number, token) in self.added_tokens.iter().enumerate() {
            let refuse = |reason: String| Err(fault(format!("added_tokens[{number}]"), reason));
            let text = token.content.as_str();
            if token.single_word {
                return refuse(format!("single_word, as \"{}\" has it, is not supported", shown(text)));
            }
            if let Some(&other) = ids.get(text)
                && other != token.id
            {
                return refuse(format!("\"{}\" has the ids {other} and {}", shown(text), token.id));
            }
            ids.insert(text, token.id);
            let slot = slots.get_mut(token.id as usize);
            let slot = slot.and_then(|slot| slot.replace(Slot { text, added: Some(token) }));
            if let Some(other) = slot.filter(|other| other.text != text) {
                let reason = format!("id {} belongs to \"{}\" and to \"{}\"", token.id, shown(other.text), shown(text));
                return refuse(reason);
            }
        }
        Ok(slots)
    }

    /// The token for what the model does not know.
    fn unknown(&self, slots: &[Option<Slot<'_>>]) -> Result<Option<u32>, TokenizerError> {
        if let Some(id) = self.model.unk_id {
            let known = (id as usize) < self.model.vocab.len();
            return known
                .then_some(Some(id))
                .ok_or_else(|| fault("model.unk_id", format!("{id} is not an id of the model's tokens")));
        }
        // Some files write an empty text for none.
        let Some(text) = self.model.unk_token.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let position = slots.iter().position(|slot| slot.is_some_and(|slot| slot.text == text));
        position
            .and_then(|position| u32::try_from(position).ok())
            .map(Some)
            .ok_or_else(|| fault("model.unk_token", format!("\"{}\" is not in the vocabulary", shown(text))))
    }
}
