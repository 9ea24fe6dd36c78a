//! LoRA adapters. The input is a GGUF file, or the files of a folder of PEFT.

use std::sync::LazyLock;

use formats::adapter::Adapter;
use formats::gguf::Gguf;
use model::Model;

use crate::files::{DATA_BYTES, Folder, GGUF, parts};
use crate::models;

/// The model that they are loaded for: a seed of the target `gguf`, whose weights are zeros.
const BASE: &[u8] = include_bytes!("../../../fuzz/corpus/gguf/whole-llama");
/// The only names that are written.
const NAMES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

#[expect(clippy::expect_used, reason = "it is a constant")]
static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let folder = Folder::new();
    let gguf = Gguf::open(folder.write("m.gguf", BASE, DATA_BYTES)).expect("a model's file");
    Model::load(&gguf, &models::POOL).expect("a model")
});

/// Opens the adapter, loads it for a tiny Llama, and runs a few tokens with it beside others without.
///
/// # Panics
/// An open adapter lacks what it says to have, or a loaded one cannot run.
pub(crate) fn target(input: &[u8]) -> bool {
    let folder = Folder::new();
    let opened = if input.starts_with(GGUF) {
        Adapter::open(folder.write("adapter.gguf", input, DATA_BYTES))
    } else {
        for (name, content) in parts(input).into_iter().filter(|(name, _)| NAMES.contains(name)) {
            folder.write_part(name, content);
        }
        Adapter::open(folder.path())
    };
    let Ok(file) = opened else { return false };
    for change in file.changes() {
        assert!(change.rank > 0 && change.scale.is_finite(), "{change:?}");
        assert!([change.a(), change.b()].iter().all(|half| file.tensors().tensor(half).is_some()), "{change:?}");
    }
    MODEL.load_adapter(&file).is_ok_and(|adapter| models::pass(&MODEL, Some(&adapter)))
}
