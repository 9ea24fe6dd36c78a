//! A tiny byte-level vocabulary: 256 bytes, a few merges, special tokens.

use formats::gguf::{Array, StringArray, Value, Writer};

/// Merges of the vocabulary, as pairs of pieces in the byte-level alphabet (`Ġ` is a space).
const MERGES: [(&str, &str); 12] = [
    ("h", "e"),
    ("l", "l"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġ", "t"),
    ("Ġt", "he"),
    ("Ġ", "w"),
    ("o", "r"),
    ("Ġw", "or"),
    ("i", "n"),
    ("in", "g"),
    ("l", "d"),
];

/// Chat template of the generated models (ChatML).
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Special tokens of the vocabulary, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|endoftext|>`.
    EndOfText,
    /// `<|im_start|>`.
    ImStart,
    /// `<|im_end|>`: ends an answer.
    ImEnd,
    /// `<think>`.
    Think,
    /// `</think>`.
    EndThink,
}

impl Special {
    const ALL: [Self; 5] = [Self::EndOfText, Self::ImStart, Self::ImEnd, Self::Think, Self::EndThink];

    /// Its id.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::EndOfText => 0,
            Self::ImStart => 1,
            Self::ImEnd => 2,
            Self::Think => 3,
            Self::EndThink => 4,
        }
    }

    /// Its written form.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::EndOfText => "<|endoftext|>",
            Self::ImStart => "<|im_start|>",
            Self::ImEnd => "<|im_end|>",
            Self::Think => "<think>",
            Self::EndThink => "</think>",
        }
    }
}

/// Number of tokens.
pub(crate) const VOCAB_SIZE: usize = Special::ALL.len() + 256 + MERGES.len();

/// The byte-level alphabet: printable bytes stand for themselves, the others for characters from 256 on.
fn alphabet() -> impl Iterator<Item = char> {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256u32;
    (0..=255u8).map(move |byte| {
        if printable(byte) {
            return char::from(byte);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or('\u{fffd}')
    })
}

/// Adds the vocabulary's keys.
pub(crate) fn write(writer: &mut Writer, chat_template: Option<&str>) {
    let specials = Special::ALL.iter().map(|s| s.text().to_owned());
    let merged = MERGES.iter().map(|(a, b)| format!("{a}{b}"));
    let tokens: Vec<String> = specials.chain(alphabet().map(String::from)).chain(merged).collect();
    let merges: Vec<String> = MERGES.iter().map(|(a, b)| format!("{a} {b}")).collect();
    let (normal, control) = (1, 3);
    let types = (0..tokens.len()).map(|i| if i < Special::ALL.len() { control } else { normal }).collect();
    let strings = |all: &[String]| Value::Array(Array::String(all.iter().map(String::as_str).collect::<StringArray>()));
    writer
        .key("tokenizer.ggml.model", Value::String("gpt2".to_owned()))
        .key("tokenizer.ggml.pre", Value::String("smollm".to_owned()))
        .key("tokenizer.ggml.tokens", strings(&tokens))
        .key("tokenizer.ggml.token_type", Value::Array(Array::I32(types)))
        .key("tokenizer.ggml.merges", strings(&merges))
        .key("tokenizer.ggml.bos_token_id", Value::U32(Special::ImStart.id()))
        .key("tokenizer.ggml.eos_token_id", Value::U32(Special::ImEnd.id()))
        .key("tokenizer.ggml.add_bos_token", Value::Bool(false));
    if let Some(template) = chat_template {
        writer.key("tokenizer.chat_template", Value::String(template.to_owned()));
    }
}
