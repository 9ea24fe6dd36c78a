//! Tokenizers of a few tokens, made for each test: every setting and fault, and the merges against plain witnesses.
#![expect(clippy::unwrap_used, reason = "a test binary")]

use std::collections::BTreeMap;

use formats::gguf::{Gguf, Writer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokenizer::{ChatMessage, ChatTemplate, MergeOrder, MergedWord, Tokenizer, TokenizerError};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

fn load(writer: &Writer) -> Result<Tokenizer, TokenizerError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    writer.write(file.path()).unwrap();
    Tokenizer::from_gguf(&Gguf::open(file.path()).unwrap())
}

/// Byte-level tokens of `a` to `d` and a space, merges of these, then others.
fn bpe(pre: &str, others: &[(&str, i32)]) -> Writer {
    let merges = ["a b", "b c", "ab c", "c d", "a a", "aa aa", "bc d", "Ġ a", "Ġa b"];
    let mut tokens: Vec<String> = ["a", "b", "c", "d", "Ġ", "dcb"].map(str::to_owned).to_vec();
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut types = vec![NORMAL; tokens.len()];
    for (text, kind) in others {
        tokens.push((*text).to_owned());
        types.push(*kind);
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "gpt2")
        .key("tokenizer.ggml.pre", pre)
        .key("tokenizer.ggml.tokens", tokens.as_slice())
        .key("tokenizer.ggml.token_type", types)
        .key("tokenizer.ggml.merges", merges.as_slice());
    writer
}

fn spm(others: &[(&str, i32, f32)]) -> Writer {
    let mut entries = vec![
        ("<unk>", UNKNOWN, 0.0),
        ("<s>", CONTROL, 0.0),
        ("</s>", CONTROL, 0.0),
        ("<0xC3>", BYTE, 0.0),
        ("<0xA9>", BYTE, 0.0),
        ("▁", NORMAL, -9.0),
        ("a", NORMAL, -10.0),
        ("b", NORMAL, -11.0),
        ("c", NORMAL, -12.0),
        ("ab", NORMAL, -1.0),
        ("bc", NORMAL, -0.5),
        ("abc", NORMAL, -3.0),
        ("▁a", NORMAL, -2.0),
        ("aa", NORMAL, -4.0),
        ("aaa", NORMAL, -2.5),
        ("cc", NORMAL, -4.0),
    ];
    entries.extend(others);
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.tokens", entries.iter().map(|entry| entry.0).collect::<Vec<_>>().as_slice())
        .key("tokenizer.ggml.token_type", entries.iter().map(|entry| entry.1).collect::<Vec<_>>())
        .key("tokenizer.ggml.scores", entries.iter().map(|entry| entry.2).collect::<Vec<_>>())
        .key("tokenizer.ggml.bos_token_id", 1_u32)
        .key("tokenizer.ggml.eos_token_id", 2_u32);
    writer
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, false, false);
    ids.iter().map(|&id| String::from_utf8_lossy(&tokenizer.piece(id).unwrap()).into_owned()).collect()
}

#[test]
fn merges_go_by_rank() {
    let tokenizer = load(&bpe("gpt-2", &[])).unwrap();
    assert_eq!(pieces(&tokenizer, "abcd"), ["abc", "d"]);
    assert_eq!(pieces(&tokenizer, "bcd"), ["bcd"]);
    assert_eq!(pieces(&tokenizer, "aaaaa ab ac"), ["aaaa", "a", " ", "ab", " a", "c"]);
    assert_eq!(pieces(&tokenizer, "dcb"), ["d", "c", "b"]);
    assert_eq!(pieces(&tokenizer, ""), [""; 0]);
    let whole = load(&bpe("llama-bpe", &[])).unwrap();
    assert_eq!(pieces(&whole, "dcb"), ["dcb"], "a word that is a token stays whole there");
}

#[test]
fn scores_go_first_and_bytes_last() {
    let mut writer = spm(&[]);
    writer.key("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = load(&writer).unwrap();
    assert_eq!(pieces(&tokenizer, "abc"), ["abc"]);
    assert_eq!(pieces(&tokenizer, "a ab"), ["a", " ", "ab"]);
    assert_eq!(tokenizer.encode("é", false, false), [3, 4]);
    assert_eq!(tokenizer.decode(&[3, 4]), "é".as_bytes());
    assert_eq!(tokenizer.encode("aéx", false, false), [6, 3, 4, 0], "no bytes for x: unknown");
}

#[test]
fn the_files_flags_are_followed() {
    let tokenizer = load(&spm(&[])).unwrap();
    assert_eq!(tokenizer.encode("a", true, true), [1, 12], "start token and space by default");
    assert_eq!(tokenizer.encode("a<s>b", false, true), [12, 1, 5, 7]);
    assert_eq!(tokenizer.encode("", true, true), [1]);
    let mut writer = spm(&[]);
    writer.key("tokenizer.ggml.add_bos_token", false).key("tokenizer.ggml.add_eos_token", true);
    assert_eq!(load(&writer).unwrap().encode("a", true, true), [12, 2]);
    let mut writer = bpe("gpt-2", &[("<s>", CONTROL)]);
    writer.key("tokenizer.ggml.bos_token_id", 15_u32);
    assert_eq!(load(&writer).unwrap().encode("a", true, false), [0]);
    writer.key("tokenizer.ggml.add_bos_token", true);
    assert_eq!(load(&writer).unwrap().encode("a", true, false), [15, 0]);
}

#[test]
fn special_tokens_are_parsed_only_when_asked_for() {
    let others = [("<a>", CONTROL), ("aab", USER_DEFINED), ("a<a>b", USER_DEFINED), ("<", NORMAL), (">", NORMAL)];
    let tokenizer = load(&bpe("gpt-2", &others)).unwrap();
    assert_eq!(tokenizer.encode("c<a>c", false, true), [2, 15, 2]);
    assert_eq!(tokenizer.encode("c<a>c", false, false), [2, 18, 0, 19, 2]);
    assert_eq!(pieces(&tokenizer, "caabc"), ["c", "aab", "c"], "user-defined tokens are read in any text");
    assert_eq!(tokenizer.encode("a<a>b", false, true), [17], "the longest first");
    assert!(tokenizer.is_special(15) && !tokenizer.is_special(16));
    assert_eq!(
        (tokenizer.token_id("<a>"), tokenizer.token_id("aab"), tokenizer.token_id("a")),
        (Some(15), Some(16), None)
    );
}

#[test]
fn merges_never_make_a_special_token() {
    let mut writer = spm(&[("ca", CONTROL, 9.0), ("<0x61>", BYTE, 9.0)]);
    writer.key("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(load(&writer).unwrap().encode("ca", false, false), [8, 6]);
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "gpt2")
        .key("tokenizer.ggml.pre", "llama-bpe")
        .key("tokenizer.ggml.tokens", ["a", "b", "ab"].as_slice())
        .key("tokenizer.ggml.token_type", vec![NORMAL, NORMAL, CONTROL])
        .key("tokenizer.ggml.merges", ["a b"].as_slice());
    assert_eq!(load(&writer).unwrap().encode("ab", false, false), [0, 1]);
}

#[test]
fn a_chat_gets_its_start_token_once() {
    let writer = spm(&[]);
    let tokenizer = load(&writer).unwrap();
    let messages = [ChatMessage { role: "user".to_owned(), content: "a<s>".to_owned(), name: None }];
    for source in ["{{ messages[0].content }}", "{{ bos_token }}{{ messages[0].content }}"] {
        let template = ChatTemplate::compile(source).unwrap();
        let ids = tokenizer.encode_chat(&template, &messages, true, &BTreeMap::new()).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 1, "{source}");
        assert_eq!(ids.first(), Some(&1));
    }
    let variables = BTreeMap::from([("x".to_owned(), serde_json::json!({"<s>": ["</s>", 1]}))]);
    let template = ChatTemplate::compile("{{ x | tojson }}").unwrap();
    let ids = tokenizer.encode_chat(&template, &messages, true, &variables).unwrap();
    assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id) && id != 0).count(), 1);
}

#[test]
fn phi_3_swallows_spaces_behind_its_tokens() {
    let others = [("<|user|>", CONTROL, 0.0)];
    let mut writer = spm(&others);
    writer.key("general.name", "Phi-3 mini").key("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(load(&writer).unwrap().encode("<|user|>\n a<s> b", false, true), [16, 6, 1, 5, 7]);
    assert_eq!(load(&writer).unwrap().encode("<|user|>", false, true), [16]);
    let mut writer = spm(&others);
    writer.key("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(load(&writer).unwrap().encode("<|user|> a", false, true), [16, 12]);
}

#[test]
fn markers_and_ends_are_found() {
    let others =
        [("<think>", USER_DEFINED), ("</think>", USER_DEFINED), ("<|im_end|>", CONTROL), ("<|eot_id|>", NORMAL)];
    let mut writer = bpe("qwen2", &others);
    writer.key("tokenizer.ggml.eos_token_id", 3_u32).key("tokenizer.ggml.eot_token_id", 17_u32);
    let tokenizer = load(&writer).unwrap();
    assert_eq!(tokenizer.reasoning_markers(), Some((15, 16)));
    assert_eq!(tokenizer.end_ids(), [3, 17]);
    assert_eq!(load(&bpe("qwen2", &others[..1])).unwrap().reasoning_markers(), None);
    assert_eq!(load(&bpe("qwen2", &[("<think>", NORMAL), ("</think>", NORMAL)])).unwrap().reasoning_markers(), None);
}

#[test]
fn faulty_metadata_is_refused_by_name() {
    #[track_caller]
    fn refused(writer: &Writer, words: &[&str]) {
        let message = load(writer).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
    refused(&Writer::new(), &["tokenizer.ggml.model"]);
    refused(Writer::new().key("tokenizer.ggml.model", "rwkv"), &["\"rwkv\"", "not supported"]);
    refused(Writer::new().key("tokenizer.ggml.model", 3_u32), &["tokenizer.ggml.model", "string"]);
    refused(&bpe("kimi-k2", &[]), &["\"kimi-k2\"", "not supported"]);
    refused(Writer::new().key("tokenizer.ggml.model", "gpt2"), &["tokenizer.ggml.tokens"]);
    let tokens = |model: &str, texts: &[&str]| {
        let mut writer = Writer::new();
        writer.key("tokenizer.ggml.model", model).key("tokenizer.ggml.tokens", texts);
        writer
    };
    refused(&tokens("gpt2", &[]), &["empty"]);
    refused(&tokens("gpt2", &["a"]), &["tokenizer.ggml.merges"]);
    refused(tokens("gpt2", &["a"]).key("tokenizer.ggml.merges", ["a"].as_slice()), &["number 0", "two parts"]);
    refused(tokens("gpt2", &["a"]).key("tokenizer.ggml.merges", ["a a"].as_slice()), &["number 0", "vocabulary"]);
    refused(tokens("gpt2", &["a"]).key("tokenizer.ggml.token_type", vec![1, 1]), &["2 entries for 1"]);
    refused(tokens("gpt2", &["a"]).key("tokenizer.ggml.token_type", vec![1.0]), &["integers"]);
    refused(&tokens("llama", &["a"]), &["tokenizer.ggml.scores"]);
    refused(tokens("llama", &["a"]).key("tokenizer.ggml.scores", vec![1.0, 2.0]), &["2 entries for 1"]);
    refused(tokens("llama", &["a"]).key("tokenizer.ggml.scores", vec![f32::NAN]), &["not a number"]);
    refused(bpe("gpt-2", &[]).key("tokenizer.ggml.bos_token_id", 15_u32), &["bos_token_id", "15"]);
}

/// The best pair is merged again and again until none is left: what the queues must come to. `score` is best when lowest.
fn merged_plainly(text: &str, score: impl Fn(&str, &str) -> Option<f32>) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let best = parts
            .windows(2)
            .enumerate()
            .filter_map(|(at, pair)| Some((score(&pair[0], &pair[1])?, at)))
            .min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let Some((_, at)) = best else { return parts };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
}

fn run(texts: impl Strategy<Value = String>, check: impl Fn(String) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) };
    TestRunner::new(config).run(&texts, check).unwrap();
}

#[test]
fn ranked_merges_agree_with_the_plain_way() {
    let tokenizer = load(&bpe("gpt-2", &[])).unwrap();
    let merges = ["a b", "b c", "ab c", "c d", "a a", "aa aa", "bc d"];
    let rank = |left: &str, right: &str| {
        merges.iter().position(|merge| *merge == format!("{left} {right}")).map(|rank| rank as f32)
    };
    run("[a-d]{0,40}", |text| {
        prop_assert_eq!(pieces(&tokenizer, &text), merged_plainly(&text, rank));
        Ok(())
    });
}

#[test]
fn scored_merges_agree_with_the_plain_way() {
    let mut writer = spm(&[]);
    writer.key("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = load(&writer).unwrap();
    let scores = [("ab", -1.0_f32), ("bc", -0.5), ("abc", -3.0), ("aa", -4.0), ("aaa", -2.5), ("cc", -4.0)];
    let score = |left: &str, right: &str| {
        scores.iter().find(|(text, _)| *text == format!("{left}{right}")).map(|(_, score)| -score)
    };
    run("[abc]{0,40}", |text| {
        prop_assert_eq!(pieces(&tokenizer, &text), merged_plainly(&text, score));
        Ok(())
    });
}

/// The steps of all words lead to the tokens that encoding gives, each merging two neighbours into one.
#[track_caller]
fn merges_lead_to_the_tokens(tokenizer: &Tokenizer, text: &str) {
    let words = tokenizer.merges(text, true).unwrap();
    let ids: Vec<u32> = words.iter().flat_map(|word| word.ids.iter().copied()).collect();
    assert_eq!(ids, tokenizer.encode(text, false, true), "{text:?}");
    for word in words {
        let mut pieces = word.start;
        for step in word.steps {
            let merged = [pieces[step.at].clone(), pieces.remove(step.at + 1)].concat();
            pieces[step.at] = merged;
            assert_eq!(pieces, step.pieces, "{text:?}");
        }
        let written: Vec<_> = word.ids.iter().map(|id| tokenizer.piece(*id).unwrap().into_owned()).collect();
        let spaced = |piece: Vec<u8>| String::from_utf8(piece).unwrap().replace('▁', " ").into_bytes();
        assert_eq!(pieces.into_iter().map(spaced).collect::<Vec<_>>(), written, "{text:?}");
    }
}

#[test]
fn merges_are_told_step_by_step() {
    let tokenizer = load(&bpe("gpt-2", &[("<end>", CONTROL)])).unwrap();
    run("( ?[a-d]{0,12}){0,3}", |text| {
        merges_lead_to_the_tokens(&tokenizer, &text);
        Ok(())
    });
    let words = tokenizer.merges("abcd ab<end>", true).unwrap();
    let told = |word: &MergedWord| -> Vec<(MergeOrder, usize, String)> {
        let joined = |pieces: &[Vec<u8>]| String::from_utf8(pieces.join(&b'|')).unwrap();
        word.steps.iter().map(|step| (step.order, step.at, joined(&step.pieces))).collect()
    };
    assert_eq!(
        told(&words[0]),
        [(MergeOrder::Rank(0), 0, "ab|c|d".to_owned()), (MergeOrder::Rank(2), 0, "abc|d".to_owned())]
    );
    assert_eq!(told(&words[1]).last().unwrap().2, " |ab", "`a b` ranks before ` a`, and nothing merges after it");
    assert_eq!((words[2].start.as_slice(), words[2].steps.len()), (&[b"<end>".to_vec()][..], 0), "one piece, no steps");
    assert_eq!((words.len(), tokenizer.algorithm()), (3, "bpe"));

    let mut writer = spm(&[]);
    writer.key("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = load(&writer).unwrap();
    run("[abc ]{0,30}", |text| {
        merges_lead_to_the_tokens(&tokenizer, &text);
        Ok(())
    });
    let words = tokenizer.merges("abc", false).unwrap();
    let orders: Vec<MergeOrder> = words[0].steps.iter().map(|step| step.order).collect();
    assert_eq!(
        (orders, tokenizer.algorithm()),
        (vec![MergeOrder::Score(-0.5), MergeOrder::Score(-3.0)], "sentencepiece_bpe")
    );
}
