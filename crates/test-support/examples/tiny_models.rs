//! Writes one tiny model of each architecture and variant, with F32 weights, to a folder, and adapters of some to its folder
//! `lora`: `tiny_models FOLDER [enlarged]`; with `wide` only a mixture with layers of a real one's sizes.

use std::error::Error;
use std::path::PathBuf;

use test_support::{TinyAdapter, TinyModel};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: tiny_models FOLDER [enlarged | wide]";
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map(PathBuf::from).ok_or(usage)?;
    let models = match arguments.next() {
        None => TinyModel::variants(),
        Some(word) if word == "enlarged" => {
            TinyModel::variants().into_iter().map(|(name, model)| (name, model.enlarged())).collect()
        }
        Some(word) if word == "wide" => vec![("qwen3moe-wide", TinyModel::wide_mixture())],
        Some(_) => return Err(usage.into()),
    };
    let adapters = folder.join("lora");
    std::fs::create_dir_all(&adapters)?;
    for (name, model) in models {
        let file = format!("{name}.gguf");
        model.write(folder.join(&file))?;
        if ["llama", "phi3"].contains(&name) {
            TinyAdapter::reference().writer(&model)?.write(adapters.join(&file))?;
        }
    }
    Ok(())
}
