//! Files that tensors are read from, with positioned reads.

use std::fs::{File, Metadata};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::FormatError;
use crate::error::shown;

/// An open file. It is never mapped: one that shrinks while in use gives an error and nothing worse.
#[derive(Debug)]
pub(crate) struct DataFile {
    file: File,
    /// Its name without the folder.
    pub(crate) name: String,
    /// Bytes it had when it was opened.
    pub(crate) len: u64,
}

impl DataFile {
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let open_error = |source| FormatError::Open { path: path.to_owned(), source };
        // Asked before it is opened: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        if !metadata.is_file() {
            return Err(open_error(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(path).map_err(open_error)?;
        let len = file.metadata().map_err(open_error)?.len();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { file, name, len })
    }

    /// Whether this is the file's metadata, whatever names it has.
    pub(crate) fn is(&self, metadata: &Metadata) -> bool {
        self.file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()))
    }

    /// Reads from its start.
    pub(crate) fn reader(&self) -> BufReader<&File> {
        /// Few system calls for a header of some MiB, and small beside a model.
        const BUFFER_BYTES: usize = 256 << 10;
        BufReader::with_capacity(BUFFER_BYTES, &self.file)
    }

    /// Fills `out` with bytes of `tensor` from `offset` on.
    fn read_at(&self, tensor: &str, offset: u64, out: &mut [u8]) -> Result<(), FormatError> {
        let expected = out.len() as u64;
        self.file.read_exact_at(out, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => FormatError::TensorTruncated { tensor: shown(tensor), offset, expected },
            _ => FormatError::Io { what: format!("tensor \"{}\" in {}", shown(tensor), self.name), offset, source },
        })
    }
}

/// Where the bytes of a tensor are.
#[derive(Debug)]
pub(crate) enum TensorData {
    /// In files: these runs, one after another.
    Stored(Vec<Run>),
    /// Here: they were made from other data when the model was opened.
    Made(Vec<u8>),
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Index of the file.
    pub(crate) file: usize,
    /// Bytes from the file's start.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
}

impl TensorData {
    /// Fills `out` with the bytes of `tensor` from its byte `start` on.
    pub(crate) fn read(&self, files: &[DataFile], tensor: &str, start: u64, out: &mut [u8]) -> Result<(), FormatError> {
        let wrong = || FormatError::Tensor { tensor: shown(tensor), reason: "it has fewer bytes".to_owned() };
        match self {
            Self::Made(bytes) => {
                let start = usize::try_from(start).map_err(|_too_large| wrong())?;
                let part = bytes.get(start..).and_then(|rest| rest.get(..out.len())).ok_or_else(wrong)?;
                out.copy_from_slice(part);
                Ok(())
            }
            Self::Stored(runs) => {
                let (mut start, mut rest) = (start, out);
                for run in runs {
                    let left = usize::try_from(run.len.saturating_sub(start)).unwrap_or(usize::MAX);
                    let now = left.min(rest.len());
                    let (part, others) = std::mem::take(&mut rest).split_at_mut(now);
                    if !part.is_empty() {
                        files.get(run.file).ok_or_else(wrong)?.read_at(tensor, run.offset + start, part)?;
                    }
                    start = start.saturating_sub(run.len);
                    rest = others;
                }
                if rest.is_empty() { Ok(()) } else { Err(wrong()) }
            }
        }
    }
}
