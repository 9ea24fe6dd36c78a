//! Inputs that are several files, and the folders that they are written to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The data that a header of a seed may describe: zeros behind it that take no room in the corpus.
pub(crate) const DATA_BYTES: u64 = 1 << 20;

/// What GGUF files begin with.
pub(crate) const GGUF: &[u8] = b"GGUF";

/// Begins the line that names a part.
const MARK: &[u8] = b"--- ";

/// The files of an input: each begins with a line `--- NAME` and ends before the next such line. Bytes before the first are
/// none's.
pub(crate) fn parts(input: &[u8]) -> Vec<(&str, &[u8])> {
    let mut parts = Vec::new();
    let mut starts = input.windows(MARK.len()).enumerate().filter_map(|(at, window)| {
        let at_line = at == 0 || input.get(at - 1) == Some(&b'\n');
        (at_line && window == MARK).then_some(at)
    });
    let mut start = starts.next();
    while let Some(at) = start {
        start = starts.next();
        // Without the end of the line before the next part.
        let end = start.map_or(input.len(), |next| next - 1).max(at);
        let part = input.get(at + MARK.len()..end).unwrap_or_default();
        let line = part.iter().position(|&byte| byte == b'\n').unwrap_or(part.len());
        let (name, content) = part.split_at(line);
        if let Ok(name) = std::str::from_utf8(name) {
            parts.push((name, content.get(1..).unwrap_or_default()));
        }
    }
    parts
}

/// The input of these files.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, content) in parts {
        if !input.is_empty() {
            input.push(b'\n');
        }
        input.extend_from_slice(&[MARK, name.as_bytes(), b"\n", content].concat());
    }
    input
}

/// The part of this name.
pub(crate) fn part<'a>(parts: &[(&str, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    parts.iter().find(|(own, _)| *own == name).map(|&(_, content)| content)
}

/// A folder for one input.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// # Panics
    /// The system gives none.
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "nothing can be tried without it")]
        Self(tempfile::tempdir().expect("a folder for temporary files"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, which becomes at least `len_min` bytes long by zeros that take no room.
    ///
    /// # Panics
    /// It cannot be written.
    pub(crate) fn write(&self, name: &str, content: &[u8], len_min: u64) -> PathBuf {
        let path = self.path().join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(content)?;
            file.set_len(len_min.max(content.len() as u64))
        };
        #[expect(clippy::expect_used, reason = "nothing can be tried without it")]
        write().expect("room for temporary files");
        path
    }

    /// Writes a file of a folder of transformers. Of a safetensors file the header is enough: its length goes in front then, and
    /// zeros for the data behind.
    pub(crate) fn write_part(&self, name: &str, content: &[u8]) {
        if name.ends_with(".safetensors") && content.starts_with(b"{") {
            let file = [&(content.len() as u64).to_le_bytes(), content].concat();
            self.write(name, &file, DATA_BYTES);
        } else {
            self.write(name, content, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let files: [(&str, &[u8]); 3] = [("a", b"one\n--two"), ("b.json", b""), ("c", b"\n")];
        assert_eq!(parts(&joined(files)), files);
        assert_eq!(parts(b"--- a"), [("a", b"".as_slice())]);
        assert_eq!(parts(b"before\n--- a\nx\n--- a\n"), [("a", b"x".as_slice()), ("a", b"")]);
        assert_eq!(parts(b"no --- a\nx"), []);
        assert_eq!(parts(b"--- \xff\nx\n--- b\ny"), [("b", b"y".as_slice())]);
    }
}
