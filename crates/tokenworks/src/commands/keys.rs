//! `keys new`: makes an API key. The key is shown once; only its hash is kept.

use std::io::Write;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;

use super::Context;
use crate::error::{Error, Result};

/// Bytes of a new secret.
const SECRET_BYTES: usize = 32;
/// No secret file is longer.
const MAX_SECRET_BYTES: u64 = 4096;

/// As `keys new --json` prints it.
#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    key: String,
    hash: String,
    secret_file: String,
}

/// Runs `keys new`.
///
/// # Errors
/// A name that cannot be, or the secret cannot be read or made.
pub fn new(context: &Context, name: &str, json: bool) -> Result<()> {
    if name.trim().is_empty() || name.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(Error::usage("the name of a key is plain text").hint("for example: tokenworks keys new team-a"));
    }
    if context.settings.server.keys.iter().any(|k| k.name == name) {
        return Err(Error::usage(format!("the configuration has a key named \"{name}\" already"))
            .hint("choose another name, or remove the old entry first"));
    }
    let file = &context.settings.server.key_secret_file;
    let secret = secret(file)?;
    let key = server::generate_key().map_err(|e| Error::failure("the system gives no random numbers").because(e))?;
    let hash = server::hash_key(&secret, &key);
    if json {
        let secret_file = file.to_string_lossy().into_owned();
        return context.output.json(&NewKey { name, key, hash, secret_file });
    }
    context.output.note("The key, shown only now:");
    context.output.line(&key)?;
    context.output.note("\nIts entry for tokenworks.toml:\n");
    context.output.line(format_args!("[[server.keys]]\nname = \"{name}\"\nhash = \"{hash}\""))?;
    context.output.note(format_args!("\nThe hash works with the secret in {}; keep that file.", file.display()));
    Ok(())
}

/// This installation's secret; made when there is none yet.
///
/// # Errors
/// It cannot be read or written, or is too short.
pub fn secret(file: &Path) -> Result<Vec<u8>> {
    if let Some(secret) = existing_secret(file)? {
        return Ok(secret);
    }
    let refuse = |e: std::io::Error| {
        Error::failure(format!("cannot write the secret to {}", file.display()))
            .because(e)
            .hint("set server.key_secret_file or data_dir to a place you can write")
    };
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(refuse)?;
    let mut random = [0_u8; SECRET_BYTES];
    OsRng.try_fill_bytes(&mut random).map_err(|e| refuse(std::io::Error::other(e)))?;
    let secret = crate::catalogue::hex(&random);
    // Temporary files are readable by their owner only, and the name appears with the whole content or not at all.
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(refuse)?;
    temporary.write_all(secret.as_bytes()).map_err(refuse)?;
    temporary.as_file().sync_all().map_err(refuse)?;
    match temporary.persist_noclobber(file) {
        Ok(_) => Ok(secret.into_bytes()),
        // Another process was faster: its secret counts.
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => read(file).map_err(refuse),
        Err(e) => Err(refuse(e.error)),
    }
}

/// This installation's secret, if it was made already.
///
/// # Errors
/// It cannot be read, or is too short.
pub fn existing_secret(file: &Path) -> Result<Option<Vec<u8>>> {
    match read(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::failure(format!("cannot read the secret in {}", file.display()))
            .because(e)
            .hint("let this user read it, or set server.key_secret_file or data_dir to another place")),
        Ok(secret) if secret.len() >= 16 => Ok(Some(secret)),
        Ok(_) => Err(Error::usage(format!("the secret in {} is shorter than 16 bytes", file.display()))
            .hint("remove the file; `tokenworks keys new` makes a good one (then all keys must be made anew)")),
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_SECRET_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub").join("key-secret");
        let first = secret(&file).unwrap();
        assert_eq!(first.len(), 2 * SECRET_BYTES);
        assert_eq!(secret(&file).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
        }
        std::fs::write(&file, "short").unwrap();
        assert!(secret(&file).is_err());
    }
}
