//! Tokenizers of model folders, made for each test: what the files say, and faults in them.
#![expect(clippy::unwrap_used, reason = "a test binary")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokenizer::{ChatMessage, ChatTemplate, StreamDecoder, Tokenizer, TokenizerError, TokenizerFiles};

/// Bytes of `a` to `c`, a space, both bytes of `é`, and what stands beside them.
fn byte_level() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            {"id": 8, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 9, "content": "<|end|>", "special": true},
            {"id": 10, "content": "<think>", "special": false},
            {"id": 11, "content": "</think>", "special": false},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "Ã": 4, "©": 5, "ab": 6, "Ġab": 7},
            "merges": ["a b", ["Ġ", "ab"]],
        },
    })
}

fn word_piece() -> Value {
    json!({
        "added_tokens": [{"id": 1, "content": "[CLS]", "special": true}, {"id": 2, "content": "[SEP]", "special": true}],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "ab": 3, "##c": 4, "[": 5, "##]": 6, "##cls": 7},
        },
    })
}

fn unigram() -> Value {
    json!({
        "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 1, "content": "</s>", "special": true}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
        "model": {
            "type": "Unigram", "unk_id": 2, "byte_fallback": true,
            "vocab": [
                ["<s>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["<0xC3>", 0.0], ["<0xA9>", 0.0], ["▁", -3.0], ["a", -3.0],
                ["b", -3.5], ["▁ab", -2.0], ["<", -6.0], ["s", -6.0], [">", -6.0],
            ],
        },
    })
}

fn load(tokenizer: &Value) -> Result<Tokenizer, TokenizerError> {
    load_with(tokenizer, None, None)
}

fn load_with(tokenizer: &Value, config: Option<Value>, generation: Option<Value>) -> Result<Tokenizer, TokenizerError> {
    let [config, generation] = [config, generation].map(|file| file.map(|file| file.to_string()));
    Tokenizer::from_json(&TokenizerFiles {
        tokenizer: tokenizer.to_string().as_bytes(),
        tokenizer_config: config.as_deref().map(str::as_bytes),
        generation_config: generation.as_deref().map(str::as_bytes),
        chat_template: None,
    })
}

/// The same with one value replaced.
fn with(mut file: Value, pointer: &str, value: Value) -> Value {
    *file.pointer_mut(pointer).unwrap() = value;
    file
}

#[test]
fn bytes_come_through() {
    let tokenizer = load(&byte_level()).unwrap();
    assert_eq!(tokenizer.encode("ab ab cé", false, false), [6, 7, 3, 2, 4, 5]);
    assert_eq!(tokenizer.encode("ax", false, false), [0], "no token for x: left out");
    assert_eq!(tokenizer.decode(&[6, 7, 3, 2, 4, 5]), "ab ab cé".as_bytes());
    assert_eq!((tokenizer.vocab_size(), tokenizer.text(7), tokenizer.piece(12)), (12, Some("Ġab"), None));
    let mut decoder = StreamDecoder::new();
    let pieces: Vec<String> = [2, 4, 5].iter().map(|&id| decoder.push(&tokenizer.piece(id).unwrap())).collect();
    assert_eq!(pieces, ["c", "", "é"]);
    let tokenizer = load(&unigram()).unwrap();
    assert_eq!(tokenizer.encode("é", false, false), [5, 3, 4]);
    assert_eq!(tokenizer.decode(&[8, 3, 4]), " abé".as_bytes());
}

#[test]
fn special_tokens_are_read_only_where_asked() {
    let tokenizer = load(&byte_level()).unwrap();
    assert_eq!(tokenizer.encode("a<|end|>b", false, true), [0, 9, 1]);
    assert_eq!(tokenizer.encode("a<|end|>b", false, false), [0, 1]);
    assert_eq!(tokenizer.encode("a<think>b", false, false), [0, 10, 1], "ordinary text of the model");
    assert!(tokenizer.is_special(9) && !tokenizer.is_special(10));
    assert_eq!(tokenizer.reasoning_markers(), Some((10, 11)));
    assert_eq!(tokenizer.end_ids(), [9]);
    // These models have special tokens in their own vocabularies, and find them in text.
    let tokenizer = load(&word_piece()).unwrap();
    assert_eq!(tokenizer.encode("[CLS]", false, true), [1]);
    assert_eq!(tokenizer.encode("[CLS]", false, false), [5, 7, 6], "lower case");
    let upper = with(word_piece(), "/normalizer", Value::Null);
    assert_eq!(load(&upper).unwrap().encode("[CLS] [UNK] ab", false, false), [5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 3]);
    let tokenizer = load(&unigram()).unwrap();
    assert_eq!(tokenizer.encode("ab<s>a", false, false), [8, 9, 10, 11, 6]);
    assert_eq!(tokenizer.encode("ab<s>a", false, true), [8, 0, 6]);
    assert!(
        !tokenizer
            .encode("<0xC3><unk></s>", false, false)
            .iter()
            .any(|&id| id == 3 || tokenizer.is_special(id) && id != 2)
    );
    // A merge to a special token, and one that is a whole word.
    let mut file = byte_level();
    file["added_tokens"][0] = json!({"id": 6, "content": "ab", "special": true});
    file["model"]["ignore_merges"] = json!(true);
    assert_eq!(load(&file).unwrap().encode("ab", false, false), [0, 1]);
}

#[test]
fn a_space_goes_in_front_of_the_first_word_only() {
    let tokenizer = load(&unigram()).unwrap();
    assert_eq!(tokenizer.encode("ab", false, false), [8]);
    assert_eq!(tokenizer.encode("<s>ab", false, true), [0, 6, 7]);
    let always = with(unigram(), "/pre_tokenizer/prepend_scheme", json!("always"));
    assert_eq!(load(&always).unwrap().encode("<s>ab", false, true), [0, 8]);
}

#[test]
fn tokens_swallow_spaces_where_they_are_told_to() {
    let mut file = byte_level();
    file["added_tokens"][1]["rstrip"] = json!(true);
    file["added_tokens"][0]["lstrip"] = json!(true);
    let tokenizer = load(&file).unwrap();
    assert_eq!(tokenizer.encode("a  <s> a<|end|> \n ab", false, true), [0, 8, 3, 0, 9, 6]);
    assert_eq!(tokenizer.encode(" <s>", false, true), [8]);
    // Messages come through as they are.
    let template = ChatTemplate::compile("{{ messages[0].content }}<|end|> ab").unwrap();
    let messages = [ChatMessage { role: "user".to_owned(), content: "a <s> ab".to_owned(), name: None }];
    let ids = tokenizer.encode_chat(&template, &messages, true, &BTreeMap::new()).unwrap();
    assert_eq!(ids, [0, 3, 7, 9, 6]);
}

#[test]
fn start_and_end_tokens_come_from_all_files() {
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "<|end|>", "lstrip": false}});
    let tokenizer = load_with(&byte_level(), Some(config.clone()), None).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(8), Some(9)));
    assert_eq!(tokenizer.encode("a", true, false), [0], "nothing says that they are added");
    let mut added = config.clone();
    added["add_bos_token"] = json!(true);
    added["add_eos_token"] = json!(true);
    assert_eq!(load_with(&byte_level(), Some(added), None).unwrap().encode("a", true, false), [8, 0, 9]);
    for (eos, ends) in [(json!(2), vec![2, 9]), (json!([9, 1]), vec![1, 9]), (json!([]), vec![9])] {
        let tokenizer = load_with(&byte_level(), Some(config.clone()), Some(json!({"eos_token_id": eos}))).unwrap();
        assert_eq!((tokenizer.end_ids(), tokenizer.eos()), (ends.as_slice(), Some(9)));
    }
    let generation = json!({"bos_token_id": 8, "eos_token_id": [1, 2]});
    let tokenizer = load_with(&byte_level(), None, Some(generation)).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.end_ids()), (Some(8), Some(1), [1, 2, 9].as_slice()));
    let template = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [8], "tokens": ["<s>"]}},
        },
    ]});
    let file = with(byte_level(), "/post_processor", template);
    assert_eq!(load(&file).unwrap().encode("a", true, false), [8, 0]);
    let mut without = config;
    without["add_bos_token"] = json!(false);
    assert_eq!(load_with(&file, Some(without), None).unwrap().encode("a", true, false), [0]);
    assert_eq!(load(&word_piece()).unwrap().encode("abc", true, false), [1, 3, 4, 2]);
    // Of a chat, a template that writes the start token itself.
    let tokenizer = load(&file).unwrap();
    let messages = [ChatMessage { role: "user".to_owned(), content: "a<s>".to_owned(), name: None }];
    for source in ["{{ messages[0].content }}", "<s>{{ messages[0].content }}"] {
        let template = ChatTemplate::compile(source).unwrap();
        assert_eq!(tokenizer.encode_chat(&template, &messages, true, &BTreeMap::new()).unwrap(), [8, 0], "{source}");
    }
}

#[test]
fn chat_templates_come_from_three_places() {
    let templates = |config: Value| load_with(&byte_level(), Some(config), None).unwrap();
    assert_eq!(templates(json!({})).chat_template(), None);
    assert_eq!(templates(json!({"chat_template": "x"})).chat_template(), Some("x"));
    let named = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(templates(json!({"chat_template": named})).chat_template(), Some("d"));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let missing = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json"), "{missing}");
    write("tokenizer.json", &byte_level().to_string());
    assert_eq!(Tokenizer::from_folder(folder.path()).unwrap().chat_template(), None);
    write("tokenizer_config.json", r#"{"chat_template": "x", "bos_token": "<s>"}"#);
    write("generation_config.json", r#"{"eos_token_id": 1}"#);
    write("chat_template.jinja", "{{ bos_token }}");
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.chat_template(), Some("{{ bos_token }}"));
    assert_eq!((tokenizer.bos(), tokenizer.end_ids()), (Some(8), [1, 9].as_slice()));
    write("generation_config.json", &" ".repeat((16 << 20) + 1));
    let message = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(message.contains("generation_config.json") && message.contains("16 MiB"), "{message}");
    std::fs::remove_file(folder.path().join("generation_config.json")).unwrap();
    std::fs::create_dir(folder.path().join("generation_config.json")).unwrap();
    assert!(matches!(Tokenizer::from_folder(folder.path()), Err(TokenizerError::Read { .. })));
    // A pipe without a writer is not waited for.
    let path = folder.path().join("tokenizer.json");
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let message = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(&message, TokenizerError::Read { source, .. } if source.to_string().contains("no regular file")));
}

#[track_caller]
fn refused(loaded: Result<Tokenizer, TokenizerError>, words: &[&str]) {
    let message = loaded.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

#[test]
fn faulty_files_are_refused_by_field() {
    let bytes = |bytes: &[u8]| Tokenizer::from_json(&TokenizerFiles { tokenizer: bytes, ..TokenizerFiles::default() });
    refused(bytes(b""), &["tokenizer.json", "EOF"]);
    refused(bytes(b"{}"), &["tokenizer.json", "model"]);
    refused(bytes(b"[1]"), &["tokenizer.json"]);
    refused(bytes(b"{\"model\": {\"type\": \"BPE\"}}"), &["model", "vocab"]);
    refused(bytes(b"{\"model\": {\"vocab\": 3}}"), &["model.vocab", "an object of ids"]);
    refused(bytes("[".repeat(100_000).as_bytes()), &["tokenizer.json"]);
    let bpe = |pointer: &str, value: Value| load(&with(byte_level(), pointer, value));
    refused(bpe("/version", json!("2.0")), &["version", "2.0"]);
    refused(bpe("/model/type", json!("WordLevel")), &["model.type", "WordLevel"]);
    refused(bpe("/model/vocab", json!({})), &["model.merges[0]", "vocabulary"]);
    refused(bpe("/model/vocab/b", json!(-1)), &["model.vocab.b", "-1"]);
    refused(bpe("/model/vocab/b", json!(4_294_967_296_u64)), &["model.vocab.b"]);
    refused(bpe("/model/vocab/b", json!(4_000_000_000_u32)), &["model.vocab", "4000000000", "too high"]);
    refused(bpe("/model/vocab/b", json!(0)), &["model.vocab", "id 0", "\"a\"", "\"b\""]);
    refused(bpe("/model/vocab/b", json!("1")), &["model.vocab.b"]);
    refused(bpe("/model/merges", json!(["a b", "a"])), &["model.merges[1]", "two parts"]);
    refused(bpe("/model/merges", json!(["a b c"])), &["model.merges[0]", "two parts"]);
    refused(bpe("/model/merges", json!(["a c"])), &["model.merges[0]", "vocabulary"]);
    refused(bpe("/model/merges", json!([["ab", "Ġab"]])), &["model.merges[0]", "vocabulary"]);
    refused(bpe("/model/merges", json!([3])), &["model.merges[0]", "a merge such as"]);
    refused(bpe("/model/unk_token", json!("<unk>")), &["model.unk_token", "<unk>"]);
    refused(bpe("/model/dropout", json!(0.5)), &["model.dropout"]);
    refused(bpe("/model/end_of_word_suffix", json!("</w>")), &["model.end_of_word_suffix", "</w>"]);
    refused(bpe("/added_tokens/0/id", json!(3)), &["added_tokens[0]", "id 3", "Ġ"]);
    refused(bpe("/added_tokens/1/id", json!(8)), &["added_tokens[1]", "id 8", "<s>"]);
    refused(bpe("/added_tokens/0/content", json!("a")), &["added_tokens[0]", "ids 0 and 8"]);
    refused(bpe("/added_tokens/0/id", json!(90_000)), &["90000", "too high"]);
    refused(bpe("/added_tokens/0/single_word", json!(true)), &["added_tokens[0]", "single_word"]);
    refused(bpe("/added_tokens/0", json!({"id": 8})), &["added_tokens[0]", "content"]);
    refused(
        bpe(
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
        &["pre_tokenizer"],
    );
    refused(bpe("/normalizer", json!({"type": "Nonsense"})), &["normalizer"]);
    refused(bpe("/decoder", json!({"type": "CTC"})), &["decoder", "CTC"]);
    refused(bpe("/post_processor", json!({"type": "Nonsense"})), &["post_processor", "Nonsense"]);
    let table = |bytes: &[u8]| {
        use base64::Engine as _;
        json!({"type": "Precompiled", "precompiled_charsmap": base64::engine::general_purpose::STANDARD.encode(bytes)})
    };
    refused(bpe("/normalizer", table(&[1])), &["precompiled_charsmap", "too few"]);
    refused(bpe("/normalizer", table(&[0xff, 0xff, 0xff, 0xfc, 0])), &["precompiled_charsmap"]);
    let template = json!({"type": "BertProcessing", "sep": ["x", 99], "cls": ["y", 0]});
    refused(bpe("/post_processor", template), &["post_processor", "99"]);
    let tokens = json!({"<s>": {"id": "<s>", "ids": vec![8; 20], "tokens": []}});
    let many = json!({"type": "TemplateProcessing", "single": vec![json!({"SpecialToken": {"id": "<s>"}}); 20], "special_tokens": tokens});
    refused(bpe("/post_processor", many), &["post_processor", "more than 256 tokens"]);
    let pieces = |pointer: &str, value: Value| load(&with(word_piece(), pointer, value));
    refused(pieces("/model/unk_token", Value::Null), &["model.unk_token"]);
    refused(pieces("/model/max_input_chars_per_word", json!(u64::MAX)), &["max_input_chars_per_word"]);
    refused(pieces("/model/continuing_subword_prefix", json!("@@")), &["continuing_subword_prefix"]);
    refused(pieces("/model/vocab", json!([["[UNK]", 1.0]])), &["model.vocab", "a list"]);
    let best = |pointer: &str, value: Value| load(&with(unigram(), pointer, value));
    refused(best("/model/unk_id", json!(12)), &["model.unk_id", "12"]);
    refused(best("/model/unk_id", Value::Null), &["model.unk_id"]);
    refused(best("/model/vocab/5", json!(["", 1.0])), &["model.vocab[5]", "empty"]);
    refused(best("/model/vocab/5", json!(["x"])), &["model.vocab"]);
    refused(best("/model/vocab/5/1", json!("x")), &["model.vocab"]);
    let config = |config: Value| load_with(&byte_level(), Some(config), None);
    refused(config(json!({"bos_token": "<bos>"})), &["tokenizer_config.json", "bos_token", "<bos>"]);
    refused(config(json!({"eos_token": 3})), &["tokenizer_config.json", "eos_token"]);
    refused(config(json!({"chat_template": 3})), &["tokenizer_config.json", "chat_template"]);
    let generation = |eos: Value| load_with(&byte_level(), None, Some(json!({"eos_token_id": eos})));
    refused(generation(json!([1, 12])), &["generation_config.json", "eos_token_id", "12"]);
    refused(generation(json!(1e99)), &["generation_config.json", "eos_token_id"]);
}

/// Nine steps would make a gigabyte of one letter.
#[test]
fn steps_that_multiply_a_text_are_refused() {
    let steps = |step: Value, count: usize| {
        load(&with(byte_level(), "/normalizer", json!({"type": "Sequence", "normalizers": vec![step; count]})))
    };
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let refused = |step: Value, count: usize| {
        let message = steps(step, count).unwrap_err().to_string();
        assert!(message.contains("normalizer") && message.contains("more than 1024 times longer"), "{message}");
    };
    refused(replace(json!({"String": "a"}), "aaaaaaaaaa"), 9);
    refused(replace(json!({"String": ""}), "a"), 11);
    refused(replace(json!({"Regex": "a*"}), "aa"), 7);
    refused(json!({"type": "Prepend", "prepend": "a".repeat(2000)}), 1);
    refused(json!({"type": "ByteLevel"}), 11);
    for (step, count) in [
        (replace(json!({"String": "``"}), "\""), 60),
        (replace(json!({"String": " "}), "▁"), 2),
        (json!({"type": "NFKC"}), 64),
    ] {
        steps(step, count).unwrap();
    }
    let message = steps(json!({"type": "NFC"}), 65).unwrap_err().to_string();
    assert!(message.contains("65 steps are more than 64"), "{message}");
    let words =
        json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "ByteLevel", "use_regex": false}); 30]});
    let message = load(&with(byte_level(), "/pre_tokenizer", words)).unwrap_err().to_string();
    assert!(message.contains("pre_tokenizer") && message.contains("\"ByteLevel\""), "{message}");
}

#[test]
fn a_table_of_replacements_that_leads_nowhere_stops_nothing() {
    use base64::Engine as _;
    // One unit, whose children all lie beyond the end.
    let mut table = 4_u32.to_le_bytes().to_vec();
    table.extend(0xffff_ffff_u32.to_le_bytes());
    let table = base64::engine::general_purpose::STANDARD.encode(table);
    let file = with(byte_level(), "/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": table}));
    let tokenizer = load(&file).unwrap();
    for text in ["a", "ab", "é"] {
        assert!(tokenizer.encode(&text.repeat(1000), true, true).len() <= 2000);
    }
}

#[test]
fn a_megabyte_of_one_kind_is_no_trouble() {
    for file in [byte_level(), word_piece(), unigram()] {
        let tokenizer = load(&file).unwrap();
        for unit in ["a", "ab", " ", "\n", "é", "<", "<s>", "[CLS]", "a "] {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = tokenizer.encode(&text, true, false);
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{unit:?}");
        }
    }
}

/// All places in a JSON document.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{pointer}/{}", escaped(name)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| places(value, &format!("{pointer}/{at}"), found));
        }
        _ => {}
    }
}

#[test]
fn no_file_and_no_text_do_harm() {
    let files = [byte_level(), word_piece(), unigram()];
    let values = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u32..16).prop_map(Value::from),
        "[a-c<>sĠ▁#\\[\\]]{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!({"type": "Sequence", "pretokenizers": [], "normalizers": [], "processors": [], "decoders": []})),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), values), 0..3);
    let texts = prop_oneof![
        "[abcé<>s/\\[\\] ▁|en\\n]{0,30}",
        "(<s>|</s>|\\[CLS\\]|<\\|end\\|>|<unk>|<0xC3>|ab| ){0,8}",
        "\\PC{0,20}"
    ];
    let cut = prop::option::weighted(0.05, any::<prop::sample::Index>());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) };
    let loaded = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&(0..files.len(), changes, cut, texts), |(file, changes, cut, text)| {
            let mut file = files[file].clone();
            for (place, value) in changes {
                let mut all = Vec::new();
                places(&file, "", &mut all);
                if let Some(slot) = file.pointer_mut(place.get::<String>(&all)) {
                    *slot = value;
                }
            }
            let mut bytes = file.to_string().into_bytes();
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let files = TokenizerFiles { tokenizer: &bytes, ..TokenizerFiles::default() };
            let Ok(tokenizer) = Tokenizer::from_json(&files) else { return Ok(()) };
            loaded.set(loaded.get() + 1);
            let ids = tokenizer.encode(&text, false, false);
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            // The unknown token may arise, but no other that is special.
            let special: BTreeSet<u32> = ids.iter().copied().filter(|&id| tokenizer.is_special(id)).collect();
            prop_assert!(special.len() <= 1, "{ids:?} {file}");
            let _ = tokenizer.decode(&tokenizer.encode(&text, true, true));
            Ok(())
        })
        .unwrap();
    assert!(loaded.get() > 300, "{}", loaded.get());
}
