//! A mark beside an embedded store: how far it was on the disk for certain.
//!
//! SQLite ends its log at the first frame that does not fit, so a log that was damaged, cut or deleted after a crash is
//! taken for one that ended there: what came after would be gone without a word. The mark is kept outside: after each
//! commit it says which transaction and which entry that was, and whoever opens or reads the store compares. It is
//! written after the store is synced and not synced itself, so after a power loss it may be older than the store, and
//! never newer.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::sqlite::{Sqlite, beside, new_private, sync_folder};
use crate::store::{self, Head, damaged};

const MAGIC: &[u8; 4] = b"TwLm";
/// More than a mark has.
const READ_MAX: u64 = 256;

/// A writer's last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    writer: u32,
    head: Head,
}

/// The file, as the one who writes has it.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    /// Open once it is there.
    file: Option<File>,
}

impl Mark {
    /// Opens the mark of the store at `path`, if there is one. What it says stands until [`Mark::set`].
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let path = mark_path(path);
        match File::options().write(true).open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path, file: None }),
            Err(error) => Err(StoreError::Failed(format!("{}: {error}", path.display()))),
        }
    }

    /// Notes a commit.
    pub(crate) fn set(&mut self, writer: u32, head: &Head) -> io::Result<()> {
        let bytes = Marked { writer, head: *head }.pack();
        match &mut self.file {
            Some(file) => {
                file.rewind()?;
                file.write_all(&bytes)
            }
            // A mark is whole from the beginning, so that one that is not was damaged.
            None => {
                let part = beside(&self.path, ".part");
                let mut file =
                    new_private(&part).or_else(|_| File::options().write(true).truncate(true).open(&part))?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                std::fs::rename(&part, &self.path)?;
                sync_folder(&self.path)?;
                self.file = Some(file);
                Ok(())
            }
        }
    }
}

impl Marked {
    /// What is marked beside the store at `path`; `None`: nothing yet.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let mark = mark_path(path);
        let failed = |error: io::Error| StoreError::Failed(format!("{}: {error}", mark.display()));
        let mut bytes = Vec::new();
        match File::open(&mark) {
            Ok(file) => file.take(READ_MAX).read_to_end(&mut bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        Self::unpack(&bytes).map(Some).ok_or(StoreError::Unmarked(mark))
    }

    /// That the store has what is marked.
    pub(crate) fn check(&self, sql: &mut Sqlite) -> Result<(), StoreError> {
        let Self { writer, head } = *self;
        let heads = if sql.is_new()? { Vec::new() } else { store::heads(sql)? };
        let stored = heads.into_iter().find(|(id, _)| *id == writer).map(|(_, head)| head).unwrap_or_default();
        if stored.turn < head.turn || stored.seq < head.seq {
            return Err(self.cut_off(&stored));
        }
        let same = head.seq == 0 || store::entries(sql, head.seq, 1)?.iter().any(|entry| entry.hash == head.hash);
        if same { Ok(()) } else { Err(damaged(format!("entry {} is not the one that was marked", head.seq))) }
    }

    /// The store ends at `stored`.
    pub(crate) fn cut_off(&self, stored: &Head) -> StoreError {
        let turns = self.head.turn.saturating_sub(stored.turn);
        StoreError::CutOff { last: stored.seq, marked: self.head.seq, turns }
    }

    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(self.writer.to_be_bytes());
        out.extend(self.head.seq.to_be_bytes());
        out.extend(self.head.turn.to_be_bytes());
        out.extend(self.head.hash);
        let seal = crate::pack::seal(&out);
        out.extend(seal.to_be_bytes());
        out
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (writer, rest) = rest.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (turn, rest) = rest.split_first_chunk()?;
        let hash = rest.first_chunk()?;
        let head = Head { seq: u64::from_be_bytes(*seq), turn: u64::from_be_bytes(*turn), hash: *hash };
        let marked = Self { writer: u32::from_be_bytes(*writer), head };
        (marked.pack() == bytes).then_some(marked)
    }
}

/// Forgets the mark of a store that was replaced.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(mark_path(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn mark_path(path: &Path) -> PathBuf {
    beside(path, "-mark")
}
