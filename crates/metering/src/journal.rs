//! What requests under way have used so far, written before it is delivered, so that a crash charges what was sent.
//!
//! Each request opens a [`Page`] with what is needed to charge it, adds its progress before each delivery and closes it
//! once it is settled. A write reaches the operating system before the call returns, so it survives the end of the
//! process by any signal; it reaches the disk within the sync interval. Bytes are the caller's: nothing here knows what
//! they mean. Files grow up to [`SEGMENT_BYTES`], then a next one begins; those that no open page needs are deleted.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

mod frame;

use frame::{Frame, Kind};

/// A file that has grown beyond this is followed by a next one.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// Identifies a request in the journal and in what is made of it.
pub type PageId = [u8; 16];

/// A request that was under way when the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its id.
    pub id: PageId,
    /// What its page was opened with.
    pub start: Vec<u8>,
    /// Its last progress; `None` when nothing was delivered.
    pub progress: Option<Vec<u8>>,
}

/// What [`Journal::open`] found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Requests without an end, in the order of their start.
    pub unfinished: Vec<Unfinished>,
    /// Bytes at the ends of files that were no whole record (a write cut off).
    pub torn_bytes: u64,
    segments: Vec<PathBuf>,
}

impl Recovery {
    /// Deletes the files it was read from. To be called once all is settled: before, a further crash reads them again.
    ///
    /// # Errors
    /// A file that can't be deleted.
    pub fn done(self) -> io::Result<()> {
        self.segments.iter().try_for_each(fs::remove_file)
    }
}

/// An append-only journal in a folder of its own.
pub struct Journal {
    shared: Arc<Shared>,
    syncing: Option<JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    file: Arc<File>,
    /// Number of the present file.
    segment: u64,
    /// Number of the first file that still exists.
    oldest: u64,
    bytes: u64,
    dirty: bool,
    /// A failed sync: what was written may not be on the disk, so nothing more is promised.
    broken: Option<String>,
    /// Open pages, each with the file it began in.
    open: HashMap<PageId, u64>,
    end: bool,
}

impl Journal {
    /// Opens the journal of a folder (made if missing). Writes are on the disk after `sync_interval` at the latest.
    ///
    /// # Errors
    /// The folder or a file in it can't be read or written.
    pub fn open(folder: &Path, sync_interval: Duration) -> io::Result<(Self, Recovery)> {
        fs::create_dir_all(folder)?;
        let mut numbers = segments(folder)?;
        numbers.sort_unstable();
        let recovery = recover(folder, &numbers)?;
        let segment = numbers.last().map_or(0, |last| last + 1);
        let state = State {
            file: Arc::new(create(folder, segment)?),
            segment,
            oldest: segment,
            bytes: 0,
            dirty: false,
            broken: None,
            open: HashMap::new(),
            end: false,
        };
        let shared = Arc::new(Shared { folder: folder.to_owned(), state: Mutex::new(state), ended: Condvar::new() });
        let syncing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-sync".to_owned());
        let syncing = thread.spawn(move || syncing.sync_until_end(sync_interval))?;
        Ok((Self { shared, syncing: Some(syncing) }, recovery))
    }

    /// Opens the page of a request.
    ///
    /// # Errors
    /// The page is open already, or it could not be written; nothing is kept of it then.
    pub fn begin(&self, id: PageId, start: &[u8]) -> io::Result<Page> {
        let mut state = self.shared.lock();
        if state.open.contains_key(&id) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this request has an open page"));
        }
        state.write(&self.shared.folder, Kind::Start, &id, start)?;
        let segment = state.segment;
        state.open.insert(id, segment);
        Ok(Page { shared: Arc::clone(&self.shared), id })
    }

    /// Pages that are open.
    #[must_use]
    pub fn open_pages(&self) -> usize {
        self.shared.lock().open.len()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.ended.notify_all();
        if self.syncing.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked");
        }
    }
}

/// The page of one request. Dropping it leaves the request unfinished: the next [`Journal::open`] finds it.
pub struct Page {
    shared: Arc<Shared>,
    id: PageId,
}

impl Page {
    /// Notes what was used so far; replaces what was noted before.
    ///
    /// # Errors
    /// It could not be written: what it stands for must not be delivered.
    pub fn progress(&self, used: &[u8]) -> io::Result<()> {
        self.shared.lock().write(&self.shared.folder, Kind::Progress, &self.id, used)
    }

    /// The request is settled. When even this can't be written the request is found unfinished after a restart, and
    /// settling it again must change nothing.
    pub fn end(self) {
        let mut state = self.shared.lock();
        if let Err(error) = state.write(&self.shared.folder, Kind::End, &self.id, &[]) {
            tracing::warn!("the journal could not note the end of a request: {error}");
        }
        state.open.remove(&self.id);
        state.delete_old(&self.shared.folder);
    }
}

impl Shared {
    /// No change of the state can panic half way, so a poisoned lock holds a good state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync_until_end(&self, interval: Duration) {
        let mut state = self.lock();
        loop {
            let waited = self.ended.wait_timeout_while(state, interval, |state| !state.end);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let end = state.end;
            if std::mem::take(&mut state.dirty) {
                let file = Arc::clone(&state.file);
                drop(state);
                let synced = file.sync_data();
                state = self.lock();
                if let Err(error) = synced {
                    tracing::error!("the journal could not be brought to the disk: {error}");
                    state.broken = Some(error.to_string());
                }
            }
            if end {
                return;
            }
        }
    }
}

impl State {
    /// Appends one record, whole or not at all.
    fn write(&mut self, folder: &Path, kind: Kind, id: &PageId, payload: &[u8]) -> io::Result<()> {
        if let Some(error) = &self.broken {
            return Err(io::Error::other(format!("the journal is out of order since a failed sync: {error}")));
        }
        if self.bytes >= SEGMENT_BYTES {
            self.turn_over(folder)?;
        }
        let record = Frame { kind, id: *id, payload }.encode()?;
        let file = &mut &*self.file;
        if let Err(error) = file.write_all(&record) {
            // Half a record would hide all that follows it.
            if let Err(second) = self.file.set_len(self.bytes) {
                self.broken = Some(second.to_string());
            }
            return Err(error);
        }
        self.bytes = self.bytes.saturating_add(record.len() as u64);
        self.dirty = true;
        Ok(())
    }

    /// Begins the next file. The one before is synced first, since only the present one is from then on.
    fn turn_over(&mut self, folder: &Path) -> io::Result<()> {
        let next = create(folder, self.segment + 1)?;
        self.file.sync_data().inspect_err(|error| self.broken = Some(error.to_string()))?;
        self.file = Arc::new(next);
        self.segment += 1;
        self.bytes = 0;
        self.delete_old(folder);
        Ok(())
    }

    /// Deletes the files before the one in which the oldest open page began.
    fn delete_old(&mut self, folder: &Path) {
        if self.oldest == self.segment {
            return;
        }
        let needed = self.open.values().copied().min().unwrap_or(self.segment);
        while self.oldest < needed {
            if let Err(error) = fs::remove_file(path(folder, self.oldest)) {
                tracing::warn!("an old file of the journal could not be deleted: {error}");
            }
            self.oldest += 1;
        }
    }
}

fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:010}.journal"))
}

/// Appends always: a file cut back after a failed write goes on at its end.
fn create(folder: &Path, segment: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).open(path(folder, segment))?;
    // The name must be on the disk for the content to be found.
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        let number: Option<u64> = stem.and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

/// Reads all files, in order. A file counts up to its first record that is not whole.
fn recover(folder: &Path, numbers: &[u64]) -> io::Result<Recovery> {
    let mut recovery = Recovery::default();
    let mut open: HashMap<PageId, Unfinished> = HashMap::new();
    let mut order = Vec::new();
    for &number in numbers {
        let path = path(folder, number);
        let bytes = fs::read(&path)?;
        recovery.segments.push(path);
        let mut rest = bytes.as_slice();
        while let Some((Frame { kind, id, payload }, after)) = Frame::decode(rest) {
            rest = after;
            match kind {
                Kind::Start => {
                    order.push(id);
                    open.insert(id, Unfinished { id, start: payload.to_vec(), progress: None });
                }
                Kind::Progress => {
                    if let Some(unfinished) = open.get_mut(&id) {
                        unfinished.progress = Some(payload.to_vec());
                    }
                }
                Kind::End => drop(open.remove(&id)),
            }
        }
        recovery.torn_bytes += rest.len() as u64;
    }
    recovery.unfinished = order.iter().filter_map(|id| open.remove(id)).collect();
    Ok(recovery)
}

#[cfg(test)]
mod tests;
