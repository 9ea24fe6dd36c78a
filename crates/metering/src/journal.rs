//! What requests under way have used so far, written before it is delivered, so that a crash charges what was sent.
//!
//! Each request opens a [`Page`] with what is needed to charge it, adds its progress before each delivery and closes it
//! once it is settled. A write reaches the operating system before the call returns, so it survives the end of the
//! process by any signal. A sync begins at most the sync interval after the one before has ended, so what is written is
//! on the disk within the interval and the time of two syncs. Bytes are the caller's: nothing here knows what they mean.
//! Files grow up to [`SEGMENT_BYTES`], then a next one begins; those that no open page needs are deleted.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod frame;

use frame::{Frame, Kind};

/// A file that has grown beyond this is followed by a next one.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// Identifies a request in the journal and in what is made of it.
pub type PageId = [u8; 16];

/// After a full disk this much must be free before new requests are taken: with less it would be full again at once.
const ROOM_BYTES: usize = 1 << 20;

/// Held by the process that writes the journal.
const LOCK: &str = "lock";

/// A sync that takes longer is told of: a power loss may then take more than was promised.
const SLOW_SYNC: Duration = Duration::from_secs(1);

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
    /// Bytes at the ends of files that are the beginning of a record (a write cut off).
    pub torn_bytes: u64,
    /// Files with other bytes that cannot be read: no crash leaves that. What is whole counts all the same.
    pub damaged: Vec<PathBuf>,
    /// There was no file, or nothing in any: the first start in this folder, nothing was asked since the last one, or the
    /// journal is lost.
    pub without_records: bool,
    /// The files, each with the unfinished requests that it tells of.
    segments: Vec<(PathBuf, HashSet<PageId>)>,
}

impl Recovery {
    /// Deletes the files it was read from, except those that tell of a request in `kept`; damaged ones are set aside. To be
    /// called once all others are settled: before, a further crash reads them again.
    ///
    /// # Errors
    /// A file that can't be deleted or renamed.
    pub fn done(self, kept: &[PageId]) -> io::Result<()> {
        let needed = |ids: &HashSet<PageId>| kept.iter().any(|id| ids.contains(id));
        self.segments.iter().filter(|(_, ids)| !needed(ids)).try_for_each(|(path, _)| {
            if self.damaged.contains(path) { fs::rename(path, set_aside(path)) } else { fs::remove_file(path) }
        })
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
    /// Held until the last page is gone; the operating system drops it when the process dies, whatever way.
    _lock: File,
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
    /// Why the last record could not be written.
    failing: Option<String>,
    /// Open pages, each with the file it began in.
    open: HashMap<PageId, u64>,
    /// Those of the open pages whose end is still to be written: it found no room.
    unended: Vec<PageId>,
    end: bool,
}

impl Journal {
    /// Opens the journal of a folder (made if missing). Writes are on the disk after `sync_interval` at the latest.
    ///
    /// # Errors
    /// The folder or a file in it can't be read or written; [`io::ErrorKind::ResourceBusy`]: another process writes it.
    pub fn open(folder: &Path, sync_interval: Duration) -> io::Result<(Self, Recovery)> {
        fs::create_dir_all(folder)?;
        let lock = lock(folder)?;
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
            failing: None,
            open: HashMap::new(),
            unended: Vec::new(),
            end: false,
        };
        let (folder, state, ended) = (folder.to_owned(), Mutex::new(state), Condvar::new());
        let shared = Arc::new(Shared { folder, state, ended, _lock: lock });
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

    /// Whether this request's page is open.
    #[must_use]
    pub fn is_open(&self, id: &PageId) -> bool {
        self.shared.lock().open.contains_key(id)
    }

    /// Why nothing can be written now; `None` when all is well. A full disk ends by itself, a failed sync with the process.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        state.broken.clone().or_else(|| state.failing.clone())
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

    /// The request is settled. When this can't be written now, the page stays open until there is room again; after a
    /// crash before that the request is found unfinished, and settling it again must change nothing.
    pub fn end(self) {
        let mut state = self.shared.lock();
        if let Err(error) = state.end_page(&self.shared.folder, &self.id) {
            tracing::warn!("the journal could not note the end of a request yet: {error}");
            state.unended.push(self.id);
        }
    }

    /// As [`Page::end`], but now or not at all.
    ///
    /// # Errors
    /// It could not be written: what depends on it must not be done. The page is as it was.
    pub fn try_end(self) -> Result<(), (Self, io::Error)> {
        let ended = self.shared.lock().end_page(&self.shared.folder, &self.id);
        ended.map_err(|error| (self, error))
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
            if state.failing.is_some() && !end {
                // Nobody writes while new requests are refused: this finds out when there is room again.
                state.look_for_room();
            }
            if state.failing.is_none() || end {
                state.end_late(&self.folder);
            }
            if std::mem::take(&mut state.dirty) {
                let file = Arc::clone(&state.file);
                drop(state);
                let begun = Instant::now();
                let synced = file.sync_data();
                if begun.elapsed() > SLOW_SYNC {
                    tracing::warn!("the disk took {:?} to sync the journal", begun.elapsed());
                }
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
        let record = Frame { kind, id: *id, payload }.encode()?;
        let written = self.append(folder, &record);
        self.failing = written.as_ref().err().map(io::Error::to_string);
        written
    }

    fn end_page(&mut self, folder: &Path, id: &PageId) -> io::Result<()> {
        self.write(folder, Kind::End, id, &[])?;
        self.open.remove(id);
        self.delete_old(folder);
        Ok(())
    }

    /// Writes the ends that found no room, as far as there is some now.
    fn end_late(&mut self, folder: &Path) {
        while let Some(id) = self.unended.pop() {
            if self.end_page(folder, &id).is_err() {
                self.unended.push(id);
                return;
            }
        }
    }

    fn append(&mut self, folder: &Path, record: &[u8]) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            self.turn_over(folder)?;
        }
        let file = &mut &*self.file;
        if let Err(error) = file.write_all(record) {
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

    /// After a failed write: writes something to see whether there is room again, and takes it back.
    fn look_for_room(&mut self) {
        let file = &mut &*self.file;
        let written = file.write_all(&vec![0; ROOM_BYTES]);
        if let Err(error) = self.file.set_len(self.bytes) {
            self.broken = Some(error.to_string());
        }
        self.failing = written.err().map(|error| error.to_string());
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

/// Where a damaged file is kept for a person to look at.
#[must_use]
pub fn set_aside(file: &Path) -> PathBuf {
    file.with_extension("journal.damaged")
}

fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:010}.journal"))
}

/// Keeps other processes from the folder: they would take what is under way here for what a crash left.
fn lock(folder: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = file.take(100).read_to_string(&mut by);
            let (folder, by) = (folder.display(), by.trim());
            let text = format!("{folder} is in use by {by}; stop it, or give this server a data folder of its own");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}", std::process::id())?;
    Ok(file)
}

/// Appends always: a file cut back after a failed write goes on at its end. One that is there already is what an earlier
/// try left that failed half way.
fn create(folder: &Path, segment: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path(folder, segment))?;
    file.set_len(0)?;
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

/// Reads all files, in order. Bytes that are no record are passed over.
fn recover(folder: &Path, numbers: &[u64]) -> io::Result<Recovery> {
    let mut recovery = Recovery { without_records: true, ..Recovery::default() };
    let mut open: HashMap<PageId, Unfinished> = HashMap::new();
    let mut order = Vec::new();
    for &number in numbers {
        let path = path(folder, number);
        let bytes = fs::read(&path)?;
        recovery.without_records &= bytes.is_empty();
        let (mut told, mut damaged) = (HashSet::new(), false);
        let mut rest = bytes.as_slice();
        while let Some(skipped) = Frame::find(rest) {
            damaged |= skipped > 0;
            let Some((Frame { kind, id, payload }, after)) = Frame::decode(&rest[skipped..]) else { break };
            rest = after;
            told.insert(id);
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
        if Frame::is_cut_off(rest) {
            recovery.torn_bytes += rest.len() as u64;
        } else {
            damaged = true;
        }
        recovery.damaged.extend(damaged.then(|| path.clone()));
        recovery.segments.push((path, told));
    }
    for (_, told) in &mut recovery.segments {
        told.retain(|id| open.contains_key(id));
    }
    recovery.unfinished = order.iter().filter_map(|id| open.remove(id)).collect();
    Ok(recovery)
}

#[cfg(test)]
mod tests;
