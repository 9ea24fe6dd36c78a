//! Models that are more than one file: split GGUF files, folders of transformers.

use std::path::Path;

use formats::gguf::{Gguf, Value, Writer};
use serde_json::json;
use test_support::TinyModel;

use crate::support::{Sandbox, text};
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

/// What every command that takes a model says of this one; all say the same of what is wrong.
#[track_caller]
fn refused(sandbox: &Sandbox, model: &Path, words: &[&str]) {
    let model = text(model);
    for command in [vec!["run", "x", "-m", model], vec!["serve", model, "--port", "0"], vec!["bench", model]] {
        let error = sandbox.run(&command).bad(1);
        for word in words.iter().chain(&["hint:"]) {
            assert!(error.contains(word), "{command:?}: {error:?} lacks {word:?}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
}

/// Sets the offset of a tensor's data in the tiny model's file.
fn with_offset(sandbox: &Sandbox, tensor: &str, value: u64) {
    let mut bytes = std::fs::read(sandbox.path("tiny.gguf")).unwrap();
    let name = bytes.windows(tensor.len()).position(|window| window == tensor.as_bytes()).unwrap();
    // Behind the name: number of sizes, sizes, type.
    let sizes = usize::from(bytes[name + tensor.len()]);
    let offset = name + tensor.len() + 4 + 8 * sizes + 4;
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    sandbox.write("tiny.gguf", bytes);
}

#[test]
fn shards_that_do_not_belong_together() {
    let sandbox = sandbox();
    split(&sandbox);
    let [first, second] = [1, 2].map(|number| sandbox.path(&format!("shards/half-0000{number}-of-00002.gguf")));
    let whole = std::fs::read(&second).unwrap();
    std::fs::copy(&first, &second).unwrap();
    let stands = "half-00002-of-00002.gguf says that it is number 0, from 0, of 2";
    refused(&sandbox, &first, &[stands, "stands as number 1"]);
    // Under another number it is no shard of this model.
    let third = sandbox.write("shards/half-00003-of-00003.gguf", whole);
    refused(&sandbox, &third, &["half-00003-of-00003.gguf is shard 2 of 2", "-00002-of-00002.gguf"]);
}

#[test]
fn tensors_that_share_bytes() {
    let sandbox = sandbox();
    with_offset(&sandbox, "output_norm.weight", 0);
    refused(&sandbox, &sandbox.path("tiny.gguf"), &["overlap", "token_embd.weight", "output_norm.weight"]);
    with_offset(&sandbox, "output_norm.weight", 1 << 40);
    refused(&sandbox, &sandbox.path("tiny.gguf"), &["\"output_norm.weight\"", "reach past"]);
    let folder = folder(&sandbox);
    let header = json!({ "dtype": "F32", "shape": [64], "data_offsets": [0, 256] });
    let aliased = json!({ "model.norm.weight": header, "model.layers.0.input_layernorm.weight": header });
    let aliased = aliased.to_string();
    let file = [&(aliased.len() as u64).to_le_bytes()[..], aliased.as_bytes(), &[0; 256]].concat();
    sandbox.write("llama/model.safetensors", file);
    refused(&sandbox, &folder, &["model.safetensors: ", "overlap", "model.norm.weight"]);
}

/// A folder of transformers, without a tokenizer.
fn folder(sandbox: &Sandbox) -> std::path::PathBuf {
    let folder = sandbox.path("llama");
    std::fs::create_dir_all(&folder).unwrap();
    TinyModel::llama().write_folder(&folder).unwrap();
    folder
}

#[test]
fn experts_that_cannot_be() {
    let sandbox = Sandbox::new();
    for (count, used, words) in [
        (0, 2, "\"llama.expert_count\" should be from 1 to 4096, but is 0"),
        (5, 6, "\"llama.expert_used_count\" should be at most the 5 experts, but is 6"),
        (5, 0, "\"llama.expert_used_count\" should be from 1"),
    ] {
        let whole = TinyModel::llama().with_experts();
        whole.write(sandbox.path("whole.gguf")).unwrap();
        let gguf = Gguf::open(sandbox.path("whole.gguf")).unwrap();
        let mut writer = Writer::new();
        for (key, value) in gguf.metadata() {
            let changed = match key.as_str() {
                "llama.expert_count" => Value::U32(count),
                "llama.expert_used_count" => Value::U32(used),
                _ => value.clone(),
            };
            writer.key(key, changed);
        }
        for tensor in gguf.tensors() {
            let mut bytes = Vec::new();
            gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes).unwrap();
            writer.tensor(&tensor.name, tensor.ty, &tensor.dims, bytes).unwrap();
        }
        refused(&sandbox, &sandbox.write("experts.gguf", writer.to_bytes()), &[words]);
    }
    let folder = folder(&sandbox);
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    for (count, used, words) in [
        (0, 1, "config.json: \"num_local_experts\" should be an integer from 1"),
        (2, 3, "config.json: \"num_experts_per_tok\" should be at most num_local_experts, 2"),
    ] {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["architectures"] = json!(["MixtralForCausalLM"]);
        config["num_local_experts"] = json!(count);
        config["num_experts_per_tok"] = json!(used);
        sandbox.write("llama/config.json", config.to_string());
        refused(&sandbox, &folder, &[words]);
    }
}

#[test]
fn vocabularies_that_disagree_with_the_weights() {
    let sandbox = Sandbox::new();
    let mut writer = TinyModel::llama().writer().unwrap();
    writer.key("llama.vocab_size", Value::U32(7));
    let told = "\"llama.vocab_size\" should be 273, the rows of \"token_embd.weight\", but is 7";
    refused(&sandbox, &sandbox.write("told.gguf", writer.to_bytes()), &[told]);

    folder(&sandbox);
    let tokenizer = |tokens: usize, added: serde_json::Value| {
        let vocab: serde_json::Map<String, serde_json::Value> =
            (0..tokens).map(|id| (format!("t{id}"), json!(id))).collect();
        let model = json!({ "type": "WordPiece", "unk_token": "t0", "vocab": vocab });
        let file = json!({ "added_tokens": added, "pre_tokenizer": { "type": "Whitespace" }, "model": model });
        sandbox.write("llama/tokenizer.json", file.to_string());
    };
    let run = || sandbox.run(&["run", "t1 t2", "-m", "llama", "--max-tokens", "2"]);
    let tokenize = || sandbox.run(&["tokenize", "t1 t2", "-m", "llama"]);
    tokenizer(274, json!([]));
    for error in [run().bad(1), tokenize().bad(1)] {
        let words = ["token \"t273\" of id 273", "the weights have 273 rows", "hint:", "from the same model"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // Rows without tokens are usual, and so are special tokens that no text becomes.
    tokenizer(200, json!([]));
    run().good();
    tokenizer(273, json!([{ "id": 273, "content": "<image>", "special": true }]));
    run().good();
    tokenize().good();
    tokenizer(273, json!([{ "id": 273, "content": "<tool>", "special": false }]));
    assert!(run().bad(1).contains("token \"<tool>\" of id 273"));
}

#[test]
fn names_that_lead_out_of_the_folder() {
    let sandbox = Sandbox::new();
    let folder = folder(&sandbox);
    std::fs::rename(folder.join("model.safetensors"), sandbox.path("out.safetensors")).unwrap();
    let absolute = sandbox.path("out.safetensors");
    for name in ["../out.safetensors", "./../out.safetensors", text(&absolute), "sub/../../out.safetensors", ".."] {
        let index = json!({ "weight_map": { "model.norm.weight": name } });
        sandbox.write("llama/model.safetensors.index.json", index.to_string());
        refused(&sandbox, &folder, &["model.safetensors.index.json", "\"model.norm.weight\"", name, "no plain name"]);
    }
}

/// A link is no name in a file: whoever owns the folder has put it there. The cache of the Hugging Face hub consists of them.
#[cfg(unix)]
#[test]
fn links_out_of_a_folder_are_followed() {
    let sandbox = Sandbox::new();
    let folder = folder(&sandbox);
    std::fs::create_dir(sandbox.path("blobs")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::rename(folder.join(name), sandbox.path("blobs").join(name)).unwrap();
        std::os::unix::fs::symlink(Path::new("../blobs").join(name), folder.join(name)).unwrap();
    }
    let small = ["--prompt", "8", "--decode-tokens", "2", "--repetitions", "1", "--json"];
    sandbox.run(&[&["bench", "llama"], &small[..]].concat()).json();
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.join("model.safetensors")).unwrap();
    refused(&sandbox, &folder, &["model.safetensors", "not a regular file"]);
}
