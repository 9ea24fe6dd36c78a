//! Folders with safetensors files. The input is the folder's files.

use formats::gguf::Gguf;

use crate::files::{Folder, parts};
use crate::models;

/// The only names that are written: an input must not get out of its folder by its own means.
const NAMES: [&str; 8] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model-00001-of-00003.safetensors",
    "a.safetensors",
    "b.safetensors",
];

/// Opens the folder and loads its weights.
pub(crate) fn target(input: &[u8]) -> bool {
    let folder = Folder::new();
    for (name, content) in parts(input).into_iter().filter(|(name, _)| NAMES.contains(name)) {
        folder.write_part(name, content);
    }
    Gguf::open(folder.path()).is_ok_and(|gguf| models::run(&gguf))
}
