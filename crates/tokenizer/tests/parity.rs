//! Each algorithm on GGUF vocabularies against the crate `tokenizers` on the same vocabulary: an independent reference. The
//! same vocabulary as a `tokenizer.json` goes the whole way through this crate as well.
#![expect(clippy::unwrap_used, reason = "a test binary")]

use formats::gguf::{Gguf, Writer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokenizer::{Tokenizer, TokenizerFiles};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// The same tokenizer three times: from GGUF metadata, from JSON, and as the reference reads the JSON.
struct Three {
    gguf: Tokenizer,
    json: Tokenizer,
    reference: tokenizers::Tokenizer,
}

impl Three {
    fn new(writer: &Writer, json: &Value) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        writer.write(file.path()).unwrap();
        let bytes = serde_json::to_vec(json).unwrap();
        Self {
            gguf: Tokenizer::from_gguf(&Gguf::open(file.path()).unwrap()).unwrap(),
            json: Tokenizer::from_json(&TokenizerFiles { tokenizer: &bytes, ..TokenizerFiles::default() }).unwrap(),
            reference: tokenizers::Tokenizer::from_bytes(&bytes).unwrap(),
        }
    }

    fn agree(&self, text: &str) -> Result<(), TestCaseError> {
        let expected = self.reference.encode(text, false).unwrap();
        prop_assert_eq!(self.json.encode(text, false, false), expected.get_ids(), "JSON: {:?}", text);
        prop_assert_eq!(self.gguf.encode(text, false, false), expected.get_ids(), "GGUF: {:?}", text);
        prop_assert_eq!(self.json.decode(expected.get_ids()), self.gguf.decode(expected.get_ids()));
        Ok(())
    }

    fn agree_on(&self, texts: impl Strategy<Value = String>) {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
        TestRunner::new(config).run(&texts, |text| self.agree(&text)).unwrap();
    }
}

/// GPT-2's characters for bytes.
fn byte_chars() -> Vec<String> {
    let mut next = 0x100;
    let char_of = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap()
        }
    };
    (0..=u8::MAX).map(char_of).map(String::from).collect()
}

const MERGES: &[&str] = &[
    "h e",
    "l l",
    "he ll",
    "hell o",
    "o r",
    "Ġ w",
    "Ġw or",
    "l d",
    "Ġwor ld",
    "i n",
    "in g",
    "t h",
    "Ġ t",
    "Ġt h",
    "Ġth e",
    "th e",
    "1 2",
    "12 3",
    "Ċ Ċ",
    "Ġ Ġ",
    "ĠĠ ĠĠ",
    "Ã ©",
    "' s",
    "A B",
    "e Ã©",
    "c h",
    "ch or",
    "0 0",
    "Ġ 1",
];

fn byte_level(pre: &str, pre_tokenizer: &Value, whole_words: bool) -> Three {
    let mut tokens = byte_chars();
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    // In no merge: only a model that keeps whole words finds it.
    tokens.push("world".to_owned());
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "gpt2")
        .key("tokenizer.ggml.pre", pre)
        .key("tokenizer.ggml.tokens", tokens.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
        .key("tokenizer.ggml.token_type", vec![NORMAL; tokens.len()])
        .key("tokenizer.ggml.merges", MERGES);
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, text)| (text.clone(), Value::from(id))).collect();
    let json = json!({
        "version": "1.0",
        "pre_tokenizer": pre_tokenizer,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": MERGES, "ignore_merges": whole_words},
    });
    Three::new(&writer, &json)
}

fn split(expression: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
}

fn sequence(mut parts: Vec<Value>) -> Value {
    parts.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
    json!({"type": "Sequence", "pretokenizers": parts})
}

#[test]
fn byte_level_merges_agree() {
    let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let smollm = json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, gpt2]});
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    for (pre, pre_tokenizer, whole_words) in [
        ("gpt-2", gpt2.clone(), false),
        ("smollm", smollm, false),
        ("llama-bpe", sequence(vec![split(llama3)]), true),
        ("dbrx", sequence(vec![split(llama3)]), false),
        ("tekken", sequence(vec![split(tekken)]), true),
    ] {
        let three = byte_level(pre, &pre_tokenizer, whole_words);
        three.agree("hello world, the chorus 123  things: hello's ABc\n\n").unwrap();
        three.agree("world worlds").unwrap();
        three.agree_on(prop_oneof![
            "(hello| world|the| the|ing|123|00|é|'s|AB|\\n\\n| {1,5}|[a-zA-Z]){0,20}",
            "[a-zA-Z0-9 '\\n.,!éñ黑\u{301}]{0,40}",
            "\\PC{0,30}",
        ]);
        assert_eq!(three.json.decode(&three.json.encode("é黑 ok", false, false)), "é黑 ok".as_bytes());
    }
}

#[test]
fn scored_merges_agree() {
    // Each token can come about in one way only, so that the order of scores is that of ranks.
    let merged = [("▁", "a", -1.0_f32), ("b", "c", -2.0), ("▁a", "bc", -3.0), ("c", "d", -4.0), ("d", "é", -5.0)];
    let mut entries: Vec<(String, i32, f32)> =
        vec![("<unk>".to_owned(), UNKNOWN, 0.0), ("<s>".to_owned(), CONTROL, 0.0), ("</s>".to_owned(), CONTROL, 0.0)];
    entries.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), BYTE, 0.0)));
    entries.extend(["▁", "a", "b", "c", "d", "é"].map(|text| (text.to_owned(), NORMAL, -20.0)));
    entries.extend(merged.iter().map(|(left, right, score)| (format!("{left}{right}"), NORMAL, *score)));
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.tokens", entries.iter().map(|entry| entry.0.as_str()).collect::<Vec<_>>().as_slice())
        .key("tokenizer.ggml.token_type", entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
        .key("tokenizer.ggml.scores", entries.iter().map(|entry| entry.2).collect::<Vec<_>>());
    let vocab: serde_json::Map<String, Value> =
        entries.iter().enumerate().map(|(id, entry)| (entry.0.clone(), Value::from(id))).collect();
    let json = json!({
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "vocab": vocab, "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "merges": merged.map(|(left, right, _)| [left, right]),
        },
    });
    let three = Three::new(&writer, &json);
    three.agree("abc dé ab cd x黑\n").unwrap();
    three.agree_on(prop_oneof!["[a-dé ]{0,40}", "[a-dé x▁黑\\n]{0,20}"]);
}

#[test]
fn word_pieces_agree() {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "un", "##aff", "##able", "cafe", "##s", "!", "黑", "a", "##a", "[",
        "]",
    ];
    let kinds = words.map(|word| match word {
        "[UNK]" => UNKNOWN,
        "[PAD]" | "[CLS]" | "[SEP]" => CONTROL,
        _ => NORMAL,
    });
    let phantom: Vec<String> = words
        .iter()
        .zip(kinds)
        .map(|(word, kind)| match word.strip_prefix("##") {
            _ if kind != NORMAL => (*word).to_owned(),
            Some(rest) => rest.to_owned(),
            None => format!("▁{word}"),
        })
        .collect();
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "bert")
        .key("tokenizer.ggml.tokens", phantom.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
        .key("tokenizer.ggml.token_type", kinds.to_vec())
        .key("tokenizer.ggml.unknown_token_id", 1_u32);
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), Value::from(id))).collect();
    let added = |id: u32| json!({"id": id, "content": words[id as usize], "special": true});
    let json = json!({
        "version": "1.0",
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    });
    // The reference reads special tokens in any text: its file has none for this.
    let three = Three::new(&writer, &json);
    three.agree("The unaffable CAFÉS! 黑黑 xyz a").unwrap();
    three.agree_on(prop_oneof![
        "(the|un|aff|able|café|s|!|黑|a| |x){0,20}",
        "[a-zA-ZÀ-ÿ !\\n\u{301}]{0,30}",
        "\\PC{0,20}"
    ]);
    three.agree(&"a".repeat(100)).unwrap();
    three.agree(&"a".repeat(101)).unwrap();
    assert_eq!(three.gguf.encode("the", true, false), [2, 4, 3]);
    assert_eq!(three.json.encode("the", true, false), [2, 4, 3]);
    assert_eq!((three.gguf.bos(), three.gguf.encode("[CLS]", false, false)), (Some(2), vec![14, 1, 15]));
    let mut with_added = json;
    with_added["added_tokens"] = json!([added(1), added(2), added(3)]);
    let bytes = serde_json::to_vec(&with_added).unwrap();
    let tokenizer = Tokenizer::from_json(&TokenizerFiles { tokenizer: &bytes, ..TokenizerFiles::default() }).unwrap();
    assert_eq!(tokenizer.encode("[CLS]", false, false), [14, 1, 15], "spelled out");
    assert_eq!(tokenizer.encode("the[CLS]the", false, true), [4, 2, 4]);
    assert_eq!(String::from_utf8_lossy(&tokenizer.decode(&[4, 5, 6, 7])), " the unaffable");
}

#[test]
fn best_paths_agree() {
    let pieces: &[(&str, i32, f64)] = &[
        ("<pad>", CONTROL, 0.0),
        ("</s>", CONTROL, 0.0),
        ("<unk>", UNKNOWN, 0.0),
        ("▁", NORMAL, -2.5),
        ("a", NORMAL, -3.0),
        ("b", NORMAL, -3.25),
        ("c", NORMAL, -3.5),
        ("ab", NORMAL, -4.0),
        ("bc", NORMAL, -3.75),
        ("abc", NORMAL, -8.0),
        ("▁a", NORMAL, -3.0),
        ("▁ab", NORMAL, -6.5),
        ("caa", NORMAL, -5.0),
        ("é", NORMAL, -6.0),
        ("<", NORMAL, -7.0),
        ("/", NORMAL, -7.0),
        ("s", NORMAL, -7.0),
        (">", NORMAL, -7.0),
        ("</", NORMAL, -8.0),
    ];
    let mut writer = Writer::new();
    #[expect(clippy::cast_possible_truncation, reason = "scores that are the same in both")]
    writer
        .key("tokenizer.ggml.model", "t5")
        .key("tokenizer.ggml.tokens", pieces.iter().map(|piece| piece.0).collect::<Vec<_>>().as_slice())
        .key("tokenizer.ggml.token_type", pieces.iter().map(|piece| piece.1).collect::<Vec<_>>())
        .key("tokenizer.ggml.scores", pieces.iter().map(|piece| piece.2 as f32).collect::<Vec<_>>())
        .key("tokenizer.ggml.eos_token_id", 1_u32)
        .key("tokenizer.ggml.unknown_token_id", 2_u32);
    let json = json!({
        "version": "1.0",
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": " +"}, "behavior": "Removed", "invert": false},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces.iter().map(|piece| (piece.0, piece.2)).collect::<Vec<_>>()},
    });
    let three = Three::new(&writer, &json);
    three.agree("abc  abcaab é xyz黑 b").unwrap();
    three.agree_on(prop_oneof!["[abcé x]{0,40}", "[abcé x\\n▁黑 ]{0,20}"]);
    assert_eq!(three.gguf.encode("a", true, false), [10, 1]);
    assert_eq!(three.json.encode("a", true, false), [10, 1]);
    // The reference takes the end token for text; this crate must not.
    assert_eq!(three.gguf.encode("a</s>", false, false), [10, 18, 16, 17]);
    assert_eq!(three.gguf.encode("a</s>", false, true), [10, 1]);
}
