//! Writes one tiny model of each architecture and variant, with F32 weights, to a folder: `tiny_models FOLDER [enlarged]`.

use std::error::Error;
use std::path::PathBuf;

use test_support::TinyModel;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: tiny_models FOLDER [enlarged]";
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map(PathBuf::from).ok_or(usage)?;
    let enlarged = match arguments.next() {
        None => false,
        Some(word) if word == "enlarged" => true,
        Some(_) => return Err(usage.into()),
    };
    std::fs::create_dir_all(&folder)?;
    for (name, model) in TinyModel::variants() {
        let model = if enlarged { model.enlarged() } else { model };
        let model = if enlarged { model.enlarged() } else { model };
        model.write(folder.join(format!("{name}.gguf")))?;
    }
    Ok(())
}
