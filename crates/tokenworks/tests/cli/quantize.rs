//! `quantize`: files that work as models, figures that say what was lost, and nothing half done.

use std::collections::BTreeMap;

use formats::gguf::{Gguf, TensorType};
use serde_json::{Map, Value, json};
use test_support::TinyModel;

use crate::support::{Sandbox, ended, text};

/// A sandbox with `tiny.gguf` (rows of 256 in F32) and a text.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    model(TensorType::F32).write(sandbox.path("tiny.gguf")).unwrap();
    sandbox.write("book.txt", "The plant makes tokens. It meters every one, and prices them. ".repeat(40));
    sandbox
}

fn model(ty: TensorType) -> TinyModel {
    TinyModel { hidden: 256, feed_forward: 256, context_len: 256, separate_head: true, ..TinyModel::llama() }
        .with_weights(ty)
}

#[test]
fn each_type_gives_a_model_that_is_nearly_the_same() {
    let sandbox = sandbox();
    let (mut divergences, mut sizes) = (Vec::new(), Vec::new());
    for (to, ty, head, most) in [
        ("q4_0", TensorType::Q4_0, TensorType::Q6_K, 0.4),
        ("q4_1", TensorType::Q4_1, TensorType::Q6_K, 0.4),
        ("q4_k", TensorType::Q4_K, TensorType::Q6_K, 0.4),
        ("Q5_0", TensorType::Q5_0, TensorType::Q6_K, 0.2),
        ("q5_k", TensorType::Q5_K, TensorType::Q6_K, 0.1),
        ("q6_k", TensorType::Q6_K, TensorType::Q6_K, 0.03),
        ("q8_0", TensorType::Q8_0, TensorType::Q8_0, 0.005),
    ] {
        let out = format!("tiny-{ty}.gguf");
        let arguments = ["quantize", "tiny.gguf", "--to", to, "--evaluate", "book.txt", "--ctx", "64", "--chunks", "4"];
        let report = sandbox.run(&[&arguments[..], &["--json"]].concat()).json();
        assert_eq!(report["out"], *out, "{report}");
        let gguf = Gguf::open(sandbox.path(&out)).unwrap();
        assert_eq!(gguf.tensor("blk.1.ffn_up.weight").unwrap().ty, ty);
        assert_eq!(gguf.tensor("output.weight").unwrap().ty, head);
        assert_eq!(gguf.tensor("blk.1.ffn_norm.weight").unwrap().ty, TensorType::F32);
        let evaluation = &report["evaluation"];
        // The second halves of four windows, without the position that foresees the next window.
        assert_eq!(evaluation["positions"], 4 * 31);
        let divergence = evaluation["kl_divergence_mean"].as_f64().unwrap();
        assert!(divergence > 0.0 && divergence < most, "{to}: {evaluation}");
        let shares = ["before", "after"].map(|side| evaluation[side]["perplexity"].as_f64().unwrap());
        assert!((shares[0] / shares[1]).ln().abs() < most.sqrt(), "{to}: {evaluation}");
        divergences.push(divergence);
        sizes.push(report["bytes_after"].as_u64().unwrap());
        sandbox.run(&["run", "--raw", "a", "--model", &format!("./{out}"), "--max-tokens", "3"]).good();
    }
    assert!(divergences[6] < divergences[5] && divergences[5] < divergences[3] && divergences[3] < divergences[0]);
    assert!(sizes[0] < sizes[3] && sizes[3] < sizes[5] && sizes[5] < sizes[6]);
}

#[test]
fn a_person_reads_what_became_of_it() {
    let sandbox = sandbox();
    let shown = sandbox.run(&["quantize", "tiny.gguf", "--to", "q5_0", "--out", "small.gguf"]).good();
    for part in ["FROM", "Q5_0", "small.gguf: ", "bits a weight"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("perplexity"));
    let perplexity = ["eval", "perplexity", "./tiny.gguf", "book.txt", "--ctx", "64", "--chunks", "3", "--json"];
    let before = sandbox.run(&perplexity).json();
    let both = ["quantize", "tiny.gguf", "--to", "q8_0", "--evaluate", "book.txt", "--ctx", "64", "--chunks", "3"];
    let report = sandbox.run(&[&both[..], &["--json"]].concat()).json();
    let difference =
        before["perplexity"].as_f64().unwrap() - report["evaluation"]["before"]["perplexity"].as_f64().unwrap();
    assert!(difference.abs() < 1e-3, "both commands measure the same: {difference}");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_written() {
    let sandbox = sandbox();
    model(TensorType::Q8_0).write(sandbox.path("eight.gguf")).unwrap();
    sandbox.write("there.gguf", "mine");
    sandbox.write("short.txt", "few");
    std::fs::hard_link(sandbox.path("tiny.gguf"), sandbox.path("twin.gguf")).unwrap();
    for (arguments, code, part) in [
        (&["eight.gguf", "--to", "q4_0"][..], 2, "is quantized already: \"token_embd.weight\" is Q8_0"),
        (&["eight.gguf", "--to", "q8_0"], 2, "nothing to do"),
        (&["tiny.gguf", "--to", "q8_0", "--out", "there.gguf"], 2, "there.gguf is there already"),
        (&["tiny.gguf", "--to", "q8_0", "--out", "twin.gguf", "--force"], 2, "twin.gguf is a file of the model itself"),
        (&["tiny.gguf", "--to", "q8_0", "--out", ".", "--force"], 2, "no regular file"),
        (
            &["tiny.gguf", "--to", "q8_0", "--out", "book.txt", "--force", "--evaluate", "./book.txt", "--ctx", "64"],
            2,
            "book.txt is the text that --evaluate reads",
        ),
        (
            &["tiny.gguf", "--to", "q9_0"],
            2,
            "[possible values: q8_0, q5_0, q4_0, q4_1, q4_k, q5_k, q6_k, f16, bf16, f32]",
        ),
        (&["tiny.gguf", "--to", "q8_0", "--out", "-"], 2, "--out - would not write to standard output"),
        (&["tiny.gguf", "--to", "q8_0", "--ctx", "64"], 2, "--ctx does nothing without --evaluate"),
        (&["tiny.gguf", "--to", "q8_0", "--chunks", "1"], 2, "--chunks does nothing without --evaluate"),
        (&["tiny.gguf", "--to", "q8_0", "--evaluate", "gone.txt", "--ctx", "64"], 2, "cannot read the text gone.txt"),
        (&["tiny.gguf", "--to", "q8_0", "--evaluate", "short.txt"], 2, "the model has a context of 256"),
        (&["tiny.gguf", "--to", "q8_0", "--evaluate", "short.txt", "--ctx", "64"], 2, "fewer than one window of 64"),
        (&["tiny.gguf", "--to", "q8_0", "--out", "no/folder.gguf"], 1, "cannot write no/folder.gguf"),
        (&["gone.gguf", "--to", "q8_0"], 1, "there is no file"),
        (&["book.txt", "--to", "q8_0"], 1, "not a GGUF file"),
    ] {
        let error = sandbox.run(&[&["quantize"], arguments].concat()).bad(code);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    assert_eq!(std::fs::read_to_string(sandbox.path("there.gguf")).unwrap(), "mine");
    assert_eq!(files(&sandbox), 6, "nothing was left behind");
    let again = ["quantize", "eight.gguf", "--to", "q4_0", "--allow-requantize", "--out", "there.gguf", "--force"];
    sandbox.run(&again).good();
    assert_eq!(
        Gguf::open(sandbox.path("there.gguf")).unwrap().tensor("blk.0.ffn_up.weight").unwrap().ty,
        TensorType::Q4_0
    );
    assert_eq!(files(&sandbox), 6);
}

#[test]
fn a_file_that_cannot_be_finished_leaves_nothing() {
    let sandbox = sandbox();
    // As on a full disk: a file may have 64 KiB at most.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" quantize tiny.gguf --to q8_0 --out out.gguf";
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_tokenworks")]).env("HOME", sandbox.folder.path());
    let error = ended(shell.current_dir(sandbox.folder.path()).output().unwrap()).bad(1);
    assert!(error.contains("cannot write out.gguf") && error.contains("see that there is room"), "{error}");
    assert_eq!(files(&sandbox), 2);
}

/// Files in the sandbox, but for those that every run makes.
fn files(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(sandbox.folder.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count()
}

/// The files of a folder that tell the same tokenizer as the file does.
fn write_tokenizer(sandbox: &Sandbox, gguf: &Gguf, folder: &str) {
    let strings = |key| Vec::from_iter(gguf.get_str_array(key).unwrap().unwrap().iter());
    let tokens = strings("tokenizer.ggml.tokens");
    let types = gguf.get_u32_array("tokenizer.ggml.token_type").unwrap().unwrap();
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for ((id, token), ty) in (0..).zip(&tokens).zip(types) {
        if ty == 1 {
            vocab.insert((*token).to_owned(), json!(id));
        } else {
            added.push(json!({"id": id, "content": token, "special": ty == 3}));
        }
    }
    let words = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let file = json!({
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, words]},
        "decoder": words,
        "model": {"type": "BPE", "vocab": vocab, "merges": strings("tokenizer.ggml.merges")},
    });
    sandbox.write(&format!("{folder}/tokenizer.json"), file.to_string());
    let config = json!({
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": false,
        "chat_template": gguf.get_str("tokenizer.chat_template").unwrap(),
    });
    sandbox.write(&format!("{folder}/tokenizer_config.json"), config.to_string());
}

/// A sandbox with the same model as `tiny.gguf` and as the folder `tiny`.
fn twins(ty: TensorType) -> Sandbox {
    let sandbox = Sandbox::new();
    model(ty).write(sandbox.path("tiny.gguf")).unwrap();
    std::fs::create_dir(sandbox.path("tiny")).unwrap();
    model(ty).write_folder(sandbox.path("tiny")).unwrap();
    write_tokenizer(&sandbox, &Gguf::open(sandbox.path("tiny.gguf")).unwrap(), "tiny");
    sandbox
}

/// Tensors and tokenizer keys of two files are the same.
#[track_caller]
fn assert_same(a: &Gguf, b: &Gguf) {
    let sorted = |gguf: &Gguf| {
        let bytes = |tensor| {
            let mut bytes = Vec::new();
            gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes).unwrap();
            bytes
        };
        let tensors = gguf.tensors().iter().map(|t| (t.name.clone(), (t.ty, t.dims.clone(), bytes(t))));
        tensors.collect::<BTreeMap<_, _>>()
    };
    let (a_tensors, b_tensors) = (sorted(a), sorted(b));
    assert!(a_tensors.keys().eq(b_tensors.keys()));
    for (name, tensor) in &a_tensors {
        assert!(*tensor == b_tensors[name], "{name}");
    }
    for (key, value) in a.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        assert_eq!(b.get(key), Some(value), "{key}");
    }
}

#[test]
fn a_folder_becomes_the_file_of_the_same_model() {
    let sandbox = twins(TensorType::F32);
    let original = Gguf::open(sandbox.path("tiny.gguf")).unwrap();
    sandbox.run(&["quantize", "./tiny", "--to", "f32"]).good();
    let whole = Gguf::open(sandbox.path("tiny-F32.gguf")).unwrap();
    assert_same(&original, &whole);
    assert_eq!(whole.get("llama.rope.order"), None);
    for key in ["llama.context_length", "llama.attention.head_count_kv", "llama.rope.freq_base", "general.architecture"]
    {
        assert_eq!(original.get(key), whole.get(key), "{key}");
    }
    sandbox.run(&["quantize", "./tiny", "--to", "q5_0", "--out", "of-folder.gguf"]).good();
    sandbox.run(&["quantize", "tiny.gguf", "--to", "q5_0", "--out", "of-file.gguf"]).good();
    let [of_file, of_folder] = ["of-file.gguf", "of-folder.gguf"].map(|name| Gguf::open(sandbox.path(name)).unwrap());
    assert_same(&of_file, &of_folder);
    for (command, more) in [("tokenize", &[][..]), ("run", &["--raw", "--max-tokens", "8", "--temperature", "0"])] {
        let said =
            |model| sandbox.run(&[&[command, "hello the world 123 <|im_end|>", "-m", model], more].concat()).good();
        assert_eq!(said("./tiny"), said("./tiny-F32.gguf"), "{command}");
    }
    sandbox.write("book.txt", "The plant makes tokens. It meters every one, and prices them. ".repeat(40));
    let evaluate = ["quantize", "./tiny", "--to", "f32", "--force", "--evaluate", "book.txt", "--ctx", "64", "--json"];
    let report = sandbox.run(&evaluate).json();
    assert_eq!(report["evaluation"]["kl_divergence_max"], 0.0, "{report}");
}

#[test]
fn what_stands_in_a_models_folder_is_never_replaced() {
    let sandbox = twins(TensorType::F32);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let out = format!("tiny/{name}");
        let before = std::fs::read(sandbox.path(&out)).unwrap();
        let error = sandbox.run(&["quantize", "./tiny", "--to", "q8_0", "--out", &out, "--force"]).bad(2);
        assert!(error.contains(&format!("{out} is a file of the model itself")), "{error}");
        assert_eq!(std::fs::read(sandbox.path(&out)).unwrap(), before);
    }
    for _ in 0..2 {
        sandbox.run(&["quantize", "./tiny", "--to", "q8_0", "--out", "tiny/small.gguf", "--force"]).good();
    }
}

#[test]
fn small_tensors_of_a_folder_become_f32() {
    let sandbox = twins(TensorType::BF16);
    let path = sandbox.path("tiny/model.safetensors");
    // Norms as BF16, as real folders have them: the upper halves of the floats.
    let bytes = std::fs::read(&path).unwrap();
    let (header, data) =
        bytes[8..].split_at(usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap());
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let mut writer = formats::safetensors::Writer::new();
    for (name, tensor) in &header {
        let at = |i: usize| usize::try_from(tensor["data_offsets"][i].as_u64().unwrap()).unwrap();
        let shape: Vec<u64> = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let mut own = data[at(0)..at(1)].to_vec();
        if tensor["dtype"] == "F32" {
            own = own.as_chunks::<4>().0.iter().flat_map(|float| [float[2], float[3]]).collect();
        }
        writer.tensor(name, TensorType::BF16, &shape, &own).unwrap();
    }
    std::fs::write(&path, writer.to_bytes()).unwrap();
    sandbox.run(&["quantize", "./tiny", "--to", "bf16"]).good();
    let gguf = Gguf::open(sandbox.path("tiny-BF16.gguf")).unwrap();
    let norm = gguf.tensor("blk.1.ffn_norm.weight").unwrap();
    assert_eq!(norm.ty, TensorType::F32);
    let mut bytes = Vec::new();
    gguf.read_tensor(norm, 0..1, &mut bytes).unwrap();
    let name = "model.layers.1.post_attention_layernorm.weight";
    let start = usize::try_from(header[name]["data_offsets"][0].as_u64().unwrap()).unwrap();
    assert_eq!((&bytes[..2], &bytes[2..4]), (&[0, 0][..], &data[start + 2..start + 4]));
    assert_eq!(gguf.tensor("blk.1.ffn_up.weight").unwrap().ty, TensorType::BF16);
}

#[test]
fn tokenizers_that_gguf_has_no_words_for_are_named() {
    let sandbox = twins(TensorType::F32);
    let good: Value = serde_json::from_slice(&std::fs::read(sandbox.path("tiny/tokenizer.json")).unwrap()).unwrap();
    let quantize = ["quantize", "./tiny", "--to", "q8_0", "--out", "out.gguf", "--force"];
    for (pointer, value, words) in [
        ("/normalizer", json!({"type": "Lowercase"}), "normalizer: \"Lowercase\" cannot be written"),
        ("/pre_tokenizer", json!({"type": "WhitespaceSplit"}), "pre_tokenizer: GGUF has no name"),
        ("/decoder", json!({"type": "ByteFallback"}), "model.type: BPE that is not byte-level"),
        ("/model/ignore_merges", json!(true), "with model.ignore_merges"),
    ] {
        let mut file = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap()[name] = value;
        sandbox.write("tiny/tokenizer.json", file.to_string());
        let error = sandbox.run(&quantize).bad(1);
        assert!(error.contains("tokenizer.json: ") && error.contains(words), "{error}");
    }
    let model = json!({"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0, "<|im_start|>": 1, "<|im_end|>": 2}});
    sandbox.write("tiny/tokenizer.json", json!({ "model": model }).to_string());
    assert!(sandbox.run(&quantize).bad(1).contains("WordPiece cannot be written into a GGUF file"));
    std::fs::remove_file(sandbox.path("tiny/tokenizer.json")).unwrap();
    assert!(sandbox.run(&quantize).bad(1).contains("tokenizer.json"));
    assert!(!sandbox.path("out.gguf").exists());
    let mut file = good;
    file["normalizer"] = json!({"type": "NFC"});
    file["added_tokens"][1]["rstrip"] = json!(true);
    sandbox.write("tiny/tokenizer.json", file.to_string());
    let ended = sandbox.run(&quantize);
    for part in ["no place for the normalizer NFC", "tokens such as \"<|im_start|>\" swallow"] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    ended.good();
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let sandbox = sandbox();
    let path = sandbox.path("tiny.gguf");
    let mut bytes = std::fs::read(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let tensor = gguf.tensor("blk.0.attn_k.weight").unwrap();
    let data: u64 = gguf.tensors().iter().map(|tensor| tensor.byte_len.next_multiple_of(32)).sum();
    let at = bytes.len() - usize::try_from(data - tensor.offset).unwrap();
    bytes[at + 8..at + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    let broken = sandbox.write("broken.gguf", bytes);
    let error = sandbox.run(&["quantize", text(&broken), "--to", "q8_0", "--out", "out.gguf"]).bad(1);
    assert!(
        error.contains("cannot quantize tensor \"blk.0.attn_k.weight\"") && error.contains("row 0 (from 0) holds"),
        "{error}"
    );
    assert!(!sandbox.path("out.gguf").exists());
}

/// A file as llama-perplexity writes it: one window of eight tokens, all tokens equally likely at its scored positions.
fn stored_log_probabilities(vocab: u32) -> Vec<u8> {
    let mut bytes = b"_logits_".to_vec();
    for number in [8, vocab, 1, 20, 21, 22, 23, 24, 25, 26, 27] {
        bytes.extend(number.to_le_bytes());
    }
    for _ in 4..7 {
        bytes.extend(0f32.to_le_bytes());
        bytes.extend((-(vocab as f32).ln()).to_le_bytes());
        bytes.extend(vec![0; 2 * vocab.next_multiple_of(2) as usize]);
    }
    bytes
}

#[test]
fn divergence_from_stored_log_probabilities() {
    let sandbox = sandbox();
    let vocab = u32::try_from(model(TensorType::F32).vocab_size()).unwrap();
    let whole = stored_log_probabilities(vocab);
    sandbox.write("uniform.logits", &whole);
    let report = sandbox.run(&["eval", "divergence", "./tiny.gguf", "uniform.logits", "--json"]).json();
    assert_eq!(report["positions"], 3);
    let before = report["before"]["perplexity"].as_f64().unwrap();
    assert!((before / f64::from(vocab) - 1.0).abs() < 1e-5, "{report}");
    // From the uniform distribution to one that is far from it.
    assert!(report["kl_divergence_mean"].as_f64().unwrap() > 0.3, "{report}");
    sandbox.write("short.logits", &whole[..whole.len() - 1]);
    sandbox.write("other.logits", stored_log_probabilities(vocab + 1));
    let damaged = |from: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[from..].fill(byte);
        bytes
    };
    sandbox.write("numbers.logits", damaged(52, 0xff));
    sandbox.write("zeros.logits", damaged(52, 0));
    sandbox.write("token.logits", [&whole[..20], &99_999_u32.to_le_bytes(), &whole[24..]].concat());
    for (file, part) in [
        ("short.logits", "bytes, but"),
        ("other.logits", "it has 274 tokens, the model 273"),
        ("book.txt", "does not begin with"),
        ("numbers.logits", "add up to NaN"),
        ("zeros.logits", "add up to 273.000"),
        ("token.logits", "it has a token 99999, the model 273"),
        ("gone.logits", "cannot read gone.logits"),
    ] {
        let error = sandbox.run(&["eval", "divergence", "./tiny.gguf", file]).bad(2);
        assert!(error.contains(part), "{file}: {error}");
    }
}
