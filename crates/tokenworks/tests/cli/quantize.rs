//! `quantize`: files that work as models, figures that say what was lost, and nothing half done.

use formats::gguf::{Gguf, TensorType};
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
        (&["tiny.gguf", "--to", "q9_0"], 2, "[possible values: q8_0, q5_0, q4_0, q4_1, q4_k, q5_k, q6_k]"),
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
    assert!(error.contains("cannot quantize tensor \"blk.0.attn_k.weight\"") && error.contains("value 2 "), "{error}");
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
