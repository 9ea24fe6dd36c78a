//! One request as it went.

use std::fmt;

use inference::Timeline;
use metering::UsageRecord;
use serde::{Deserialize, Serialize};

/// Most bytes that are kept of a prompt, and of the answers of a request together.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most bytes that are kept of an error.
const MAX_ERROR_BYTES: usize = 1024;

/// Whose request it was. Each is empty where nobody knows: without books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The organisation's id.
    pub organisation: String,
    /// The project's id.
    pub project: String,
    /// The key's id; empty without a key.
    pub key: String,
}

/// What a request read and was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The prompt as the model read it, special tokens in their written form.
    pub prompt: Excerpt,
    /// The answers as they were delivered, by candidate.
    pub answers: Vec<Excerpt>,
}

/// A text, or its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// At most [`MAX_TEXT_BYTES`] of it.
    pub text: String,
    /// There was more.
    pub cut: bool,
}

impl Excerpt {
    /// At most `most` bytes of a text, whole characters.
    #[must_use]
    pub fn of(mut text: String, most: usize) -> Self {
        let cut = text.len() > most;
        if cut {
            text.truncate(text.floor_char_boundary(most));
        }
        Self { text, cut }
    }
}

impl Content {
    /// At most [`MAX_TEXT_BYTES`] of the prompt, and as many of all answers together.
    #[must_use]
    pub fn bounded(prompt: String, answers: Vec<String>) -> Self {
        let mut left = MAX_TEXT_BYTES;
        let answer = |text| {
            let excerpt = Excerpt::of(text, left);
            left -= excerpt.text.len();
            excerpt
        };
        Self { answers: answers.into_iter().map(answer).collect(), prompt: Excerpt::of(prompt, MAX_TEXT_BYTES) }
    }
}

/// A request that has ended, on its way into the file.
pub struct Trace {
    /// When it was received, in milliseconds since the epoch.
    pub received_ms: i64,
    /// Whose it was.
    pub owner: Owner,
    /// Candidates asked for.
    pub candidates: u32,
    /// What it used.
    pub record: UsageRecord,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Its life in the engine.
    pub timeline: Timeline,
    /// Makes its texts, on the thread that writes them; `None`: its project keeps none.
    pub content: Option<Box<dyn FnOnce() -> Content + Send>>,
}

impl Trace {
    /// At most [`MAX_ERROR_BYTES`] of the error.
    pub(crate) fn shown_error(&self) -> Option<String> {
        self.error.clone().map(|error| Excerpt::of(error, MAX_ERROR_BYTES).text)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("record", &self.record).finish_non_exhaustive()
    }
}

/// A request in the file, without its timeline and its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its place among all that were ever kept, from 1, in the order of their ends.
    pub number: u64,
    /// When it was received, in milliseconds since the epoch.
    pub received_ms: i64,
    /// Whose it was.
    pub owner: Owner,
    /// Candidates asked for.
    pub candidates: u32,
    /// What it used.
    pub record: UsageRecord,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Whether prompt and answers are kept.
    pub has_content: bool,
}

/// All that is kept of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// What the list shows.
    pub kept: Kept,
    /// Its life in the engine.
    pub timeline: Timeline,
    /// Its texts, if they are kept.
    pub content: Option<Content>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_whole_characters_and_say_so() {
        let content = Content::bounded("é".repeat(MAX_TEXT_BYTES), vec!["a".repeat(MAX_TEXT_BYTES - 1), "éé".into()]);
        assert_eq!((content.prompt.text.len(), content.prompt.cut), (MAX_TEXT_BYTES, true));
        assert_eq!((content.answers[0].text.len(), content.answers[0].cut), (MAX_TEXT_BYTES - 1, false));
        assert_eq!(content.answers[1], Excerpt { text: String::new(), cut: true });
        let whole = Content::bounded("a".into(), vec!["b".into()]);
        assert!(!whole.prompt.cut && !whole.answers[0].cut);
    }
}
