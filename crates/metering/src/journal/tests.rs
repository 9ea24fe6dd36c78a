//! What a process that starts again finds, whatever cut the last one off.

use super::*;

const INTERVAL: Duration = Duration::from_millis(5);

fn id(number: u8) -> PageId {
    [number; 16]
}

fn names(folder: &Path) -> Vec<u64> {
    let mut names = segments(folder).unwrap();
    names.sort_unstable();
    names
}

/// What a process that starts now would find; the journal's own files stay.
fn unfinished(folder: &Path) -> Vec<Unfinished> {
    recover(folder, &names(folder)).unwrap().unfinished
}

#[test]
fn what_was_under_way_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert!(recovery.unfinished.is_empty());
    let settled = journal.begin(id(1), b"one").unwrap();
    let delivered = journal.begin(id(2), b"two").unwrap();
    let waiting = journal.begin(id(3), b"three").unwrap();
    settled.progress(b"5").unwrap();
    delivered.progress(b"7").unwrap();
    delivered.progress(b"9").unwrap();
    settled.end();
    assert!(journal.begin(id(2), b"again").is_err());
    assert_eq!(journal.open_pages(), 2);
    // The process ends here, its memory is lost.
    drop((delivered, waiting, journal));
    let expected = [
        Unfinished { id: id(2), start: b"two".to_vec(), progress: Some(b"9".to_vec()) },
        Unfinished { id: id(3), start: b"three".to_vec(), progress: None },
    ];
    let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert_eq!((recovery.unfinished.as_slice(), recovery.torn_bytes), (expected.as_slice(), 0));
    // A crash before it was all settled: found once more.
    drop((journal, recovery));
    let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert_eq!(recovery.unfinished, expected);
    recovery.done(&[]).unwrap();
    drop(journal);
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn a_record_cut_off_anywhere_hides_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    let page = journal.begin(id(1), b"start").unwrap();
    let file = path(folder.path(), 0);
    let first = fs::metadata(&file).unwrap().len();
    page.progress(b"some progress").unwrap();
    let whole = fs::read(&file).unwrap();
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let Recovery { unfinished: found, damaged, .. } = recover(folder.path(), &names(folder.path())).unwrap();
        assert_eq!((found.len(), damaged.len()), (usize::from(cut as u64 >= first), 0), "{cut}");
        assert!(found.iter().all(|unfinished| unfinished.progress.is_none()));
    }
    let first = usize::try_from(first).unwrap();
    for changed in first..whole.len() {
        let mut bytes = whole.clone();
        bytes[changed] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let Recovery { unfinished: found, damaged, .. } = recover(folder.path(), &names(folder.path())).unwrap();
        // A length that is told larger, but not too large for a record, reads as cut off; all else is damage.
        let longer = changed < first + 2 && bytes[changed] > whole[changed];
        assert_eq!((found[0].progress.as_ref(), damaged.len()), (None, usize::from(!longer)), "{changed}");
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(unfinished(folder.path())[0].progress.as_deref(), Some(&b"some progress"[..]));
}

#[test]
fn damage_before_whole_records_hides_none_of_them_and_the_file_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), 0);
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    let first = journal.begin(id(1), b"first").unwrap();
    let damage = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    first.progress(b"5").unwrap();
    let second = journal.begin(id(2), b"second").unwrap();
    second.progress(b"7").unwrap();
    drop((first, second, journal));
    let mut bytes = fs::read(&file).unwrap();
    bytes[damage + 9] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    let expected = [
        Unfinished { id: id(1), start: b"first".to_vec(), progress: None },
        Unfinished { id: id(2), start: b"second".to_vec(), progress: Some(b"7".to_vec()) },
    ];
    assert_eq!((recovery.unfinished.as_slice(), recovery.torn_bytes), (expected.as_slice(), 0));
    assert_eq!(recovery.damaged, std::slice::from_ref(&file));
    recovery.done(&[]).unwrap();
    drop(journal);
    assert_eq!(fs::read(set_aside(&file)).unwrap(), bytes);
    let (_journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert!(recovery.unfinished.is_empty() && recovery.damaged.is_empty(), "it is read once");
}

/// Torn bytes, and whether the only file counts as damaged.
fn read_as(folder: &Path, bytes: &[u8]) -> (u64, bool) {
    fs::write(path(folder, 0), bytes).unwrap();
    let recovery = recover(folder, &[0]).unwrap();
    (recovery.torn_bytes, !recovery.damaged.is_empty())
}

#[test]
fn only_the_beginning_of_a_record_counts_as_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let record = Frame { kind: Kind::Start, id: id(1), payload: b"start" }.encode().unwrap();
    let zeros = vec![0; 5000];
    assert_eq!(read_as(folder.path(), &zeros), (5000, false), "room that was looked for");
    assert_eq!(read_as(folder.path(), &[&record, &zeros[..]].concat()), (5000, false));
    assert_eq!(read_as(folder.path(), &record[..20]), (20, false));
    assert_eq!(read_as(folder.path(), &[&record, &record[..7]].concat()), (7, false));
    let garbage: Vec<u8> = (0..5000_u32).map(|n| (n * 37 + 90).to_le_bytes()[0] | 1).collect();
    for bad in [&garbage[..], &[&record, &garbage[..]].concat(), b"no journal at all"] {
        assert_eq!(read_as(folder.path(), bad), (0, true));
    }
    let mut unknown = record[..20].to_vec();
    unknown[8] = 9;
    assert_eq!(read_as(folder.path(), &unknown), (0, true), "no record has this kind");
    // Nothing of it can be read, so nothing is deleted.
    fs::write(path(folder.path(), 0), &garbage).unwrap();
    let (_journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    recovery.done(&[]).unwrap();
    assert_eq!(fs::read(set_aside(&path(folder.path(), 0))).unwrap(), garbage);
}

#[test]
fn a_journal_without_any_record_is_told_from_one_that_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let missing = || {
        let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
        let page = journal.begin(id(1), b"start").unwrap();
        page.end();
        recovery.without_records
    };
    assert!(missing());
    assert!(!missing());
    for file in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::write(file.unwrap().path(), "").unwrap();
    }
    assert!(missing());
}

#[test]
fn files_are_deleted_when_no_open_page_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    let long = journal.begin(id(0), b"long").unwrap();
    let payload = vec![7; 60 << 10];
    let fill = |number| {
        let page = journal.begin(id(number), b"").unwrap();
        for _ in 0..SEGMENT_BYTES / (60 << 10) + 1 {
            page.progress(&payload).unwrap();
        }
        page
    };
    for number in 1..4 {
        fill(number).end();
    }
    assert_eq!(names(folder.path()), [0, 1, 2, 3], "the first page needs all");
    let later = fill(9);
    long.end();
    assert_eq!(names(folder.path()), [3, 4]);
    later.end();
    assert_eq!(names(folder.path()), [4]);
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert!(journal.begin(id(1), &vec![0; 1 << 20]).is_err());
    assert_eq!(journal.open_pages(), 0);
    let page = journal.begin(id(1), b"a").unwrap();
    assert!(page.progress(&vec![0; 1 << 20]).is_err());
    page.progress(b"b").unwrap();
    assert_eq!(unfinished(folder.path())[0].progress.as_deref(), Some(&b"b"[..]));
}

#[test]
fn a_second_opener_does_not_take_a_running_journal_for_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    let page = journal.begin(id(1), b"a").unwrap();
    page.progress(b"x").unwrap();
    let refused = Journal::open(folder.path(), INTERVAL).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    let text = refused.to_string();
    assert!(text.contains(&folder.path().display().to_string()) && text.contains("data folder of its own"), "{text}");
    // A page writes on after its journal: it keeps others out as well.
    drop(journal);
    assert!(Journal::open(folder.path(), INTERVAL).is_err());
    drop(page);
    let (_journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
    assert_eq!(recovery.unfinished.len(), 1);
}

#[test]
fn files_that_tell_of_a_kept_request_stay() {
    let folder = tempfile::tempdir().unwrap();
    let payload = vec![7; 60 << 10];
    {
        let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
        let (kept, other) = (journal.begin(id(1), b"kept").unwrap(), journal.begin(id(2), b"other").unwrap());
        kept.progress(b"5").unwrap();
        for _ in 0..3 * SEGMENT_BYTES / (60 << 10) {
            other.progress(&payload).unwrap();
        }
    }
    assert_eq!(names(folder.path()), [0, 1, 2]);
    for _ in 0..2 {
        let (journal, recovery) = Journal::open(folder.path(), INTERVAL).unwrap();
        assert_eq!(recovery.unfinished[0].progress.as_deref(), Some(&b"5"[..]));
        recovery.done(&[id(1)]).unwrap();
        drop(journal);
        let last = names(folder.path()).pop().unwrap();
        assert_eq!(names(folder.path()), [0, last], "it does not pile up");
    }
}

#[test]
fn a_next_file_that_was_left_half_made_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    fs::write(path(folder.path(), 1), b"left").unwrap();
    let page = journal.begin(id(1), b"").unwrap();
    for _ in 0..SEGMENT_BYTES / (60 << 10) + 2 {
        page.progress(&vec![7; 60 << 10]).unwrap();
    }
    page.progress(b"last").unwrap();
    assert_eq!(names(folder.path()), [0, 1]);
    assert_eq!(unfinished(folder.path())[0].progress.as_deref(), Some(&b"last"[..]));
}

#[test]
fn an_end_that_cannot_be_written_keeps_its_page_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    // In the way of the next file.
    let next = path(folder.path(), 1);
    fs::create_dir(&next).unwrap();
    let (settled, withheld) = (journal.begin(id(1), b"settled").unwrap(), journal.begin(id(2), b"withheld").unwrap());
    while settled.progress(&vec![7; 60 << 10]).is_ok() {}
    settled.end();
    let (withheld, _) = withheld.try_end().err().unwrap();
    std::thread::sleep(10 * INTERVAL);
    assert_eq!((journal.open_pages(), journal.is_open(&id(1))), (2, true));
    assert_eq!(recover(folder.path(), &[0]).unwrap().unfinished.len(), 2);
    fs::remove_dir(&next).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while journal.is_open(&id(1)) && Instant::now() < patience {
        std::thread::sleep(INTERVAL);
    }
    let found = unfinished(folder.path());
    assert_eq!(found, [Unfinished { id: id(2), start: b"withheld".to_vec(), progress: None }]);
    assert!(withheld.try_end().is_ok());
    assert_eq!((journal.open_pages(), names(folder.path())), (0, vec![1]), "the first file goes with its last page");
}

/// A journal that cannot be written, by a file that takes nothing.
fn fill_up(journal: &Journal) -> Arc<File> {
    let full = Arc::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
    std::mem::replace(&mut journal.shared.lock().file, full)
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_of_and_forgotten_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path(), INTERVAL).unwrap();
    let page = journal.begin(id(1), b"a").unwrap();
    assert_eq!(journal.trouble(), None);
    // Too long is the caller's fault, not the disk's.
    assert!(page.progress(&vec![0; 1 << 20]).is_err());
    assert_eq!(journal.trouble(), None);
    // The thread has ended, so that this test alone decides when there is room.
    journal.shared.lock().end = true;
    journal.shared.ended.notify_all();
    journal.syncing.take().unwrap().join().unwrap();
    let file = fill_up(&journal);
    assert_eq!(page.progress(b"b").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(journal.trouble().is_some() && journal.begin(id(2), b"").is_err());
    {
        let mut state = journal.shared.lock();
        // A device cannot be cut back as a file can.
        (state.file, state.broken) = (file, None);
        state.look_for_room();
        assert_eq!(state.file.metadata().unwrap().len(), state.bytes, "what it tried is taken back");
    }
    assert_eq!(journal.trouble(), None);
    page.progress(b"c").unwrap();
    assert_eq!(unfinished(folder.path())[0].progress.as_deref(), Some(&b"c"[..]));
}
