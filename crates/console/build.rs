//! Takes the files of `console/dist` in, as they are and compressed. Without that folder nothing is embedded.

#![expect(clippy::expect_used, reason = "a build that cannot read or write fails")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

fn main() {
    let home = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the crate's folder"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder for results"));
    let dist = home.join("../../console/dist");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    if dist.is_dir() {
        collect(&dist, "", &mut files);
    }
    files.sort();
    let mut table = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    for (index, (name, path)) in files.iter().enumerate() {
        let plain = fs::read(path).expect("a file of console/dist can be read");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain).expect("memory takes what is written");
        let packed = out.join(format!("{index}.gz"));
        fs::write(&packed, encoder.finish().expect("memory takes what is written")).expect("OUT_DIR can be written");
        let tag = Sha256::digest(&plain).iter().take(16).fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
        let path = path.canonicalize().expect("the file is there");
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "    Asset {{ path: {name:?}, tag: \"\\\"{tag}\\\"\", plain: include_bytes!({path:?}), gzip: include_bytes!({packed:?}) }},"
        );
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table).expect("OUT_DIR can be written");
}

/// All files below `folder`, with their paths as a URL has them.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(folder).expect("console/dist can be listed") {
        let entry = entry.expect("console/dist can be listed");
        let name = format!("{prefix}/{}", entry.file_name().to_str().expect("names of built files are ASCII"));
        if entry.path().is_dir() {
            collect(&entry.path(), &name, files);
        } else {
            files.push((name, entry.path()));
        }
    }
}
