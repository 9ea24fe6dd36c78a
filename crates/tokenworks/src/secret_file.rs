//! Files with a secret: made once, readable by their owner only.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// No secret file is longer.
const MAX_BYTES: u64 = 4096;

/// The secret in a file, if the file is there. `key`: the setting that names it.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path, key: &str) -> Result<Option<Vec<u8>>> {
    match content(file) {
        Ok(secret) => Ok(Some(secret)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::failure(format!("cannot read the secret in {}", file.display()))
            .because(e)
            .hint(format!("let this user read it, or set {key} or data_dir to another place"))),
    }
}

/// Makes the file with this secret. Gives the secret that is then there: that of another process, when it was faster.
///
/// # Errors
/// It cannot be written.
pub fn make(file: &Path, secret: &str, key: &str) -> Result<Vec<u8>> {
    let refuse = |e: io::Error| {
        Error::failure(format!("cannot write the secret to {}", file.display()))
            .because(e)
            .hint(format!("set {key} or data_dir to a place you can write"))
    };
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(folder).map_err(refuse)?;
    // Temporary files are readable by their owner only, and the name appears with the whole content or not at all.
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(refuse)?;
    temporary.write_all(secret.as_bytes()).map_err(refuse)?;
    temporary.as_file().sync_all().map_err(refuse)?;
    match temporary.persist_noclobber(file) {
        Ok(_) => Ok(secret.as_bytes().to_vec()),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => content(file).map_err(refuse),
        Err(e) => Err(refuse(e.error)),
    }
}

/// Makes a folder, and those above it, that only its owner may enter. One that is there stays as it is.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn content(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes.trim_ascii().to_vec())
}
