//! Chat templates. The input is `template`, `variables` (an object of JSON) and `content` of a message.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tokenizer::{ChatMessage, ChatTemplate, Tokenizer, TokenizerFiles};

use crate::files::{part, parts};

/// One that adds no text of its own to contents.
const PLAIN: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}";

const TOKENIZER: &str = r###"{
    "added_tokens": [
        {"id": 0, "content": "<|im_start|>", "special": true}, {"id": 1, "content": "<|im_end|>", "special": true},
        {"id": 2, "content": "</s>", "special": true}, {"id": 3, "content": "<|im", "special": false}
    ],
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {"type": "WordPiece", "unk_token": "?", "vocab": {"?": 4, "user": 5, "a": 6, "##a": 7, "<": 8, "|": 9, "im": 10}}
}"###;

#[expect(clippy::expect_used, reason = "it is a constant")]
static OWN: LazyLock<(Tokenizer, ChatTemplate)> = LazyLock::new(|| {
    let files = TokenizerFiles { tokenizer: TOKENIZER.as_bytes(), ..TokenizerFiles::default() };
    (Tokenizer::from_json(&files).expect("a tokenizer"), ChatTemplate::compile(PLAIN).expect("a template"))
});

/// Compiles and renders the template, and has a plain one render the content.
///
/// # Panics
/// A content becomes a special token.
pub(crate) fn target(input: &[u8]) -> bool {
    let files = parts(input);
    let text = |name| String::from_utf8_lossy(part(&files, name).unwrap_or_default()).into_owned();
    let variables: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text("variables")).unwrap_or_default();
    let message =
        |role: &str, content: &str| ChatMessage { role: role.to_owned(), content: content.to_owned(), name: None };
    let content = text("content");
    let mut messages = vec![message("user", "Hi"), message("assistant", "Hello."), message("user", &content)];
    let (tokenizer, plain) = &*OWN;
    // It is refused where it holds too many private characters.
    if let Ok(ids) = tokenizer.encode_chat(plain, &messages, true, &variables) {
        let marks = ids.iter().filter(|&&id| id < 3).count();
        assert_eq!(marks, 2 * messages.len(), "a content became a token");
    }
    let Ok(template) = ChatTemplate::compile(&text("template")) else { return false };
    let chat = tokenizer.encode_chat(&template, &messages, true, &variables);
    messages.insert(0, message("system", &content));
    messages[1].name = Some(content);
    chat.is_ok() | tokenizer.encode_chat(&template, &messages, false, &BTreeMap::new()).is_ok()
}
