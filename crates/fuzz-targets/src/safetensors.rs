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
    for (name, content) in parts(input) {
        if !NAMES.contains(&name) {
            continue;
        }
        match content.first() {
            // Only the header stands there: the length goes in front, and zeros for the data behind.
            Some(b'{') if name.ends_with(".safetensors") => {
                let file = [&(content.len() as u64).to_le_bytes(), content].concat();
                folder.write(name, &file, models::DATA_BYTES);
            }
            _ => drop(folder.write(name, content, 0)),
        }
    }
    Gguf::open(folder.path()).is_ok_and(|gguf| models::run(&gguf))
}
