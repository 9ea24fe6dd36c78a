//! Models that are more than one file: split GGUF files, folders of transformers.

use formats::gguf::{Gguf, Value, Writer};
use test_support::TinyModel;

use crate::support::Sandbox;
use crate::tiny_model::sandbox;

/// Writes `tiny.gguf` of the sandbox again as two shards, `half-0000N-of-00002.gguf` in `shards`.
fn split(sandbox: &Sandbox) {
    let gguf = Gguf::open(sandbox.path("tiny.gguf")).unwrap();
    let middle = gguf.tensors().len() / 2;
    for (number, tensors) in [&gguf.tensors()[..middle], &gguf.tensors()[middle..]].into_iter().enumerate() {
        let mut writer = Writer::new();
        for (name, value) in gguf.metadata().iter().filter(|_| number == 0) {
            writer.key(name, value.clone());
        }
        let count = i32::try_from(gguf.tensors().len()).unwrap();
        writer.key("split.no", Value::U16(u16::try_from(number).unwrap()));
        writer.key("split.count", Value::U16(2)).key("split.tensors.count", count);
        for tensor in tensors {
            let mut bytes = Vec::new();
            gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes).unwrap();
            writer.tensor(&tensor.name, tensor.ty, &tensor.dims, bytes).unwrap();
        }
        sandbox.write(&format!("shards/half-0000{}-of-00002.gguf", number + 1), writer.to_bytes());
    }
}

#[test]
fn any_shard_is_the_whole_model() {
    let sandbox = sandbox();
    split(&sandbox);
    let answer = |model| {
        let json =
            sandbox.run(&["run", "hello", "-m", model, "--temperature", "0", "--max-tokens", "5", "--json"]).json();
        (json["text"].clone(), json["model"].clone())
    };
    let (whole, _) = answer("tiny.gguf");
    for shard in ["shards/half-00001-of-00002.gguf", "shards/half-00002-of-00002.gguf"] {
        assert_eq!(answer(shard), (whole.clone(), "half".into()), "{shard}");
    }
    std::fs::remove_file(sandbox.path("shards/half-00001-of-00002.gguf")).unwrap();
    let error = sandbox.run(&["run", "hello", "-m", "shards/half-00002-of-00002.gguf"]).bad(1);
    assert!(error.contains("half-00001-of-00002.gguf is missing") && error.contains("hint:"), "{error}");
}

#[test]
fn a_folder_of_transformers() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("llama")).unwrap();
    TinyModel { context_len: 512, ..TinyModel::llama() }.write_folder(sandbox.path("llama")).unwrap();
    let small = ["--prompt", "8", "--decode-tokens", "2", "--repetitions", "1", "--json"];
    let report = sandbox.run(&[&["bench", "./llama/"], &small[..]].concat()).json();
    assert_eq!((&report["model"], &report["architecture"]), (&"llama".into(), &"llama".into()));
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    for command in [vec!["run", "x", "-m", "llama"], vec!["serve", "llama", "--port", "0"]] {
        let error = sandbox.run(&command).bad(1);
        assert!(error.contains("tokenizer.json"), "{error}");
    }
    std::fs::remove_file(sandbox.path("llama/config.json")).unwrap();
    for command in [vec!["run", "x", "-m", "llama"], vec!["serve", "llama", "--port", "0"], vec!["bench", "llama"]] {
        let error = sandbox.run(&command).bad(1);
        assert!(error.contains("has no config.json"), "{error}");
    }
}
