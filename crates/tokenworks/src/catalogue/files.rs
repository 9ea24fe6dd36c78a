//! Files on their way to their final name: checksums, locks, sizes, clear words when the disk is full.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How long one pull waits for another of the same model.
const LOCK_WAIT: Duration = Duration::from_secs(3600);

/// What to do about a full disk.
pub(super) const FULL_DISK: &str =
    "free some space, or set cache_dir to a folder on a larger disk, for example --cache-dir /srv/tokenworks/cache";

/// An input or output error with the file's name; a full disk gets its own words.
pub(super) fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    let wrapped = Error::failure(format!("cannot {what} {}", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => wrapped.hint(FULL_DISK),
        io::ErrorKind::PermissionDenied => wrapped.hint("check who owns the folder, or set cache_dir to another one"),
        _ => wrapped,
    }
}

/// The SHA-256 of a file in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| io_error("open", path, &e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io_error("read", path, &e)),
        }
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

/// Makes a rename survive a power cut; where folders cannot be synced there is nothing to do.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// Takes the lock of a pull, waiting for another process's pull. It is released when the file is dropped, and by the
/// system when the process ends.
pub(super) fn lock(path: &Path, on_wait: impl FnOnce()) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| io_error("create the lock", path, &e))?;
    let mut on_wait = Some(on_wait);
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                if let Some(on_wait) = on_wait.take() {
                    on_wait();
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::failure(format!("another pull has held {} for an hour", path.display()))
                    .hint("end that process and try again"));
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", path, &e)),
        }
    }
}

/// Bytes of all files under a folder, as far as they can be seen; bounded in depth and number.
#[must_use]
pub(super) fn folder_size(path: &Path) -> u64 {
    let mut total = 0;
    let mut open = vec![(path.to_owned(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > 10_000 {
                return total;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() && depth < 8 => open.push((entry.path(), depth + 1)),
                Ok(meta) if meta.is_file() => total += meta.len(),
                _ => {}
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(folder_size(folder.path()), 3);
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = io_error("write", Path::new("/x"), &io::ErrorKind::StorageFull.into());
        assert!(error.hint.unwrap().contains("free some space"));
    }

    #[test]
    fn the_second_lock_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let first = lock(&path, || panic!("free")).unwrap();
        let (told, waits) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || lock(&path, move || told.send(()).unwrap()).is_ok()
        });
        waits.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        assert!(second.join().unwrap());
    }
}
