//! Writes one tiny model of each architecture and variant, with F32 weights, to a folder: `tiny_models FOLDER`.

use std::error::Error;
use std::path::PathBuf;

use test_support::TinyModel;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: tiny_models FOLDER")?;
    std::fs::create_dir_all(&folder)?;
    for (name, model) in TinyModel::variants() {
        model.write(folder.join(format!("{name}.gguf")))?;
    }
    Ok(())
}
