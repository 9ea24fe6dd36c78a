//! Chats to ids, so that nothing in a message can become a special token.
//!
//! The template writes the model's special tokens itself, and its output is then read with special tokens parsed. So each
//! place where a message (its role and name too, and other variables) holds such a token's text is first broken by a
//! sentinel, a character that occurs nowhere else; it is taken out again before the text around it is tokenized.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::special::Fragment;
use crate::template::{TemplateInput, TemplateRenderer};
use crate::{TemplateError, Tokenizer};

/// One message of a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or what the template knows.
    pub role: String,
    /// The text; special tokens in it are never parsed.
    pub content: String,
    /// The speaker's name, if given.
    pub name: Option<String>,
}

impl Tokenizer {
    /// Renders a chat and gives its ids. Messages and variables add no special token; where the file asks for a start token
    /// and the template writes none, it is put in front.
    ///
    /// # Errors
    /// [`TemplateError`] when the template refuses the messages, fails, or runs or writes too long.
    pub fn encode_chat(
        &self,
        template: &dyn TemplateRenderer,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<u32>, TemplateError> {
        let guard = Guard { tokenizer: self, sentinel: sentinel(template.source(), messages, variables)? };
        let messages: Vec<ChatMessage> = messages
            .iter()
            .map(|message| ChatMessage {
                role: guard.text(&message.role),
                content: guard.content(&message.content),
                name: message.name.as_deref().map(|name| guard.text(name)),
            })
            .collect();
        let variables = variables.iter().map(|(name, value)| (name.clone(), guard.value(value))).collect();
        let rendered = template.render(&TemplateInput {
            messages: &messages,
            add_generation_prompt,
            bos_token: self.written(self.bos()),
            eos_token: self.written(self.eos()),
            variables: &variables,
        })?;
        Ok(self.encode_guarded(&rendered, guard.sentinel))
    }

    /// Renders a chat as text, to be shown. Do not tokenize it: contents are not guarded.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    pub fn render_chat(
        &self,
        template: &dyn TemplateRenderer,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        variables: &BTreeMap<String, Value>,
    ) -> Result<String, TemplateError> {
        template.render(&TemplateInput {
            messages,
            add_generation_prompt,
            bos_token: self.written(self.bos()),
            eos_token: self.written(self.eos()),
            variables,
        })
    }
}

/// A character that neither the template nor anything given to it holds.
fn sentinel(
    source: &str,
    messages: &[ChatMessage],
    variables: &BTreeMap<String, Value>,
) -> Result<char, TemplateError> {
    // Noncharacters, which no text should hold, then private planes, from which a text would have to hold every one.
    let candidates = ('\u{fdd0}'..='\u{fdef}').chain('\u{f0000}'..='\u{ffffd}');
    let mut used = vec![source.to_owned()];
    used.extend(variables.values().map(Value::to_string));
    let in_messages = |char: char| {
        messages.iter().any(|message| {
            message.content.contains(char)
                || message.role.contains(char)
                || message.name.as_ref().is_some_and(|name| name.contains(char))
        })
    };
    candidates
        .take(1024)
        .find(|&char| !used.iter().any(|text| text.contains(char)) && !in_messages(char))
        .ok_or_else(|| TemplateError::Render { message: "the messages hold too many private characters".to_owned() })
}

struct Guard<'a> {
    tokenizer: &'a Tokenizer,
    sentinel: char,
}

impl Guard<'_> {
    /// As [`Guard::text`], with a sentinel also at an edge that the template could complete to a special token. Only for
    /// contents: templates compare the others with words of their own.
    fn content(&self, text: &str) -> String {
        let edges = self.tokenizer.edges();
        let mut guarded = self.text(text);
        if edges.opens(text) {
            guarded.insert(0, self.sentinel);
        }
        if edges.closes(text) {
            guarded.push(self.sentinel);
        }
        guarded
    }

    /// The text with a sentinel before, after and between all characters of every special token's written form: neither it,
    /// nor one that overlaps it, can be found again.
    fn text(&self, text: &str) -> String {
        let mut guarded = String::with_capacity(text.len() + 8);
        for fragment in self.tokenizer.guarded_fragments(text) {
            match fragment {
                Fragment::Text(text) => guarded.push_str(text),
                Fragment::Token(id) => {
                    guarded.push(self.sentinel);
                    for char in self.tokenizer.written(Some(id)).chars() {
                        guarded.extend([char, self.sentinel]);
                    }
                }
            }
        }
        guarded
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (self.text(name), self.value(value))).collect(),
            other => other.clone(),
        }
    }
}
