//! Bounds, age and damage of the file of kept answers.

use super::*;

const HOUR: i64 = 3600 * 1000;

fn asked(number: u8, caller: &str) -> Asked {
    Asked { name: [number; 32], body: [7; 32], caller: caller.into() }
}

fn memory(caps: Caps) -> Store {
    Store::open(None, caps).unwrap()
}

fn state(store: &Store, number: u8, now_ms: i64) -> Option<State> {
    store.find(&[number; 32], now_ms).unwrap().map(|row| row.state)
}

/// Begins and keeps an answer of 100 bytes.
fn kept(store: &mut Store, number: u8, now_ms: i64) {
    assert!(store.begin(&asked(number, "a"), ("cmpl-1", 1), now_ms).unwrap());
    store.keep(&[number; 32], true, &[number; 100]).unwrap();
}

/// What is counted is what is there.
fn check(store: &Store) {
    let found = Holdings::count(&store.connection).unwrap();
    assert_eq!((found.bytes, found.keys), (store.holdings.bytes, store.holdings.keys));
    assert_eq!(found.callers, store.holdings.callers);
}

#[test]
fn a_key_goes_from_begun_to_its_end() {
    let mut store = memory(Caps::default());
    assert_eq!(store.find(&[1; 32], 0).unwrap(), None);
    assert!(store.begin(&asked(1, "a"), ("cmpl-1", 1), 0).unwrap());
    let row = Row { body: [7; 32], answer: "cmpl-1".into(), state: State::Begun { generations: Some(1) } };
    assert_eq!(store.find(&[1; 32], 0).unwrap(), Some(row));
    store.keep(&[1; 32], true, b"answer").unwrap();
    assert_eq!(state(&store, 1, 0), Some(State::Kept { size: 6, streamed: true }));
    assert_eq!(store.bytes(&[1; 32]).unwrap().unwrap(), b"answer");
    // Only what never ran is freed.
    store.free(&[1; 32]).unwrap();
    assert!(state(&store, 1, 0).is_some());
    for (number, end) in [(2, State::Failed("it broke".into())), (3, State::TooLarge)] {
        assert!(store.begin(&asked(number, "a"), ("cmpl-2", 1), 0).unwrap());
        match &end {
            State::Failed(why) => store.fail(&[number; 32], why).unwrap(),
            _ => store.too_large(&[number; 32]).unwrap(),
        }
        assert_eq!(state(&store, number, 0), Some(end));
        assert_eq!(store.bytes(&[number; 32]).unwrap(), None);
    }
    assert!(store.begin(&asked(4, "a"), ("cmpl-4", 1), 0).unwrap());
    store.free(&[4; 32]).unwrap();
    assert_eq!(state(&store, 4, 0), None);
    check(&store);
}

#[test]
fn the_oldest_answers_make_room_and_their_keys_stay_known() {
    let mut store = memory(Caps { bytes: 350, ..Caps::default() });
    for number in 1..=5 {
        kept(&mut store, number, 0);
    }
    let dropped = (1..=5).map(|number| state(&store, number, 0) == Some(State::Dropped));
    assert_eq!(dropped.collect::<Vec<_>>(), [true, true, false, false, false]);
    assert_eq!((store.holdings.bytes, store.bytes(&[1; 32]).unwrap()), (300, None));
    assert_eq!(store.bytes(&[5; 32]).unwrap().unwrap(), [5; 100]);
    check(&store);
}

#[test]
fn keys_too_many_are_refused_and_nobody_takes_all_of_them() {
    let mut store = memory(Caps { keys: 5, keys_of_one: 3, ..Caps::default() });
    for number in 1..=3 {
        assert!(store.begin(&asked(number, "a"), ("x", 1), 0).unwrap());
    }
    assert!(!store.begin(&asked(4, "a"), ("x", 1), 0).unwrap(), "one caller's share");
    assert!(store.begin(&asked(5, "b"), ("x", 1), HOUR).unwrap());
    assert!(store.begin(&asked(6, "b"), ("x", 1), HOUR).unwrap());
    assert!(!store.begin(&asked(7, "c"), ("x", 1), HOUR).unwrap(), "all");
    assert_eq!(state(&store, 1, HOUR), Some(State::Begun { generations: Some(1) }), "no key is forgotten for another");
    check(&store);
    // A day later the first three are forgotten.
    assert!(store.begin(&asked(4, "a"), ("x", 1), KEPT_MS).unwrap());
    assert_eq!(store.holdings.keys, 3);
    check(&store);
}

#[test]
fn a_key_is_known_for_a_day() {
    let mut store = memory(Caps::default());
    kept(&mut store, 1, 0);
    kept(&mut store, 2, HOUR);
    assert!(state(&store, 1, KEPT_MS - 1).is_some());
    assert_eq!(state(&store, 1, KEPT_MS), None);
    // It is as good as new, even when nothing was forgotten yet.
    assert!(store.begin(&asked(1, "b"), ("cmpl-2", 1), KEPT_MS).unwrap());
    assert_eq!(state(&store, 1, KEPT_MS), Some(State::Begun { generations: Some(1) }));
    assert_eq!(store.forget_old(KEPT_MS + HOUR).unwrap(), 1);
    assert_eq!((store.holdings.bytes, store.holdings.keys), (0, 1));
    check(&store);
}

#[test]
fn the_file_is_kept_private_and_used_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.db");
    let open = || Store::open(Some(path.clone()), Caps::default());
    let mut store = open().unwrap();
    kept(&mut store, 1, 0);
    #[cfg(unix)]
    for file in ["answers.db", "answers.db-wal"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = folder.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(matches!(open(), Err(OpenError::InUse)));
    drop(store);
    let store = open().unwrap();
    assert_eq!(store.bytes(&[1; 32]).unwrap().unwrap(), [1; 100]);
    check(&store);
    store.connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
    drop(store);
    assert!(matches!(open(), Err(OpenError::Newer)));
}

#[test]
fn damage_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.db");
    let open = || Store::open(Some(path.clone()), Caps::default()).unwrap();
    let mut store = open();
    for number in 0..100 {
        kept(&mut store, number, 0);
    }
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let mut torn = good.clone();
    torn[4096..12_288].fill(0x5a);
    for bad in [b"no database at all, and long enough to be read as one".to_vec(), torn, good[..5000].to_vec()] {
        std::fs::write(&path, &bad).unwrap();
        let mut store = open();
        assert_eq!(state(&store, 1, 0), None);
        kept(&mut store, 1, 0);
        drop(store);
        assert_eq!(std::fs::read(beside(&path, ".damaged")).unwrap().len(), bad.len());
        assert_eq!(state(&open(), 1, 0), Some(State::Kept { size: 100, streamed: true }));
    }
}

#[test]
fn damage_that_shows_later_is_set_aside_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.db");
    let mut store = Store::open(Some(path.clone()), Caps::default()).unwrap();
    kept(&mut store, 1, 0);
    let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
    store.mend(&full).unwrap();
    assert!(state(&store, 1, 0).is_some(), "a full disk is no damage");
    let torn = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
    store.mend(&torn).unwrap();
    assert_eq!(state(&store, 1, 0), None);
    kept(&mut store, 2, 0);
    assert!(beside(&path, ".damaged").exists());
    check(&store);
}

#[test]
fn an_answer_that_changed_on_the_disk_is_not_given_out() {
    let mut store = memory(Caps::default());
    kept(&mut store, 1, 0);
    store.connection.execute("UPDATE contents SET bytes = zeroblob(100)", []).unwrap();
    assert_eq!(store.bytes(&[1; 32]).unwrap(), None);
}

/// A file and its log, as a process leaves them that is killed.
fn killed(folder: &Path, numbers: std::ops::Range<u8>) -> (Vec<u8>, Vec<u8>) {
    let path = folder.join("killed.db");
    let mut store = Store::open(Some(path.clone()), Caps::default()).unwrap();
    let half = numbers.start + (numbers.end - numbers.start) / 2;
    (numbers.start..half).for_each(|number| kept(&mut store, number, 0));
    store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    (half..numbers.end).for_each(|number| kept(&mut store, number, 0));
    let image = (std::fs::read(&path).unwrap(), std::fs::read(beside(&path, "-wal")).unwrap());
    drop(store);
    std::fs::remove_file(&path).unwrap();
    image
}

#[test]
fn a_file_beside_the_log_of_another_gives_no_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.db");
    let (own, log) = killed(folder.path(), 0..100);
    let (other, _) = killed(folder.path(), 100..180);
    let (older, _) = killed(folder.path(), 0..10);
    for file in [own, other, older, Vec::new()] {
        std::fs::write(&path, &file).unwrap();
        std::fs::write(beside(&path, "-wal"), &log).unwrap();
        let _ = std::fs::remove_file(beside(&path, ".damaged-wal"));
        let mut store = Store::open(Some(path.clone()), Caps::default()).unwrap();
        for number in 0..=255 {
            let bytes = store.bytes(&[number; 32]).unwrap();
            assert!(bytes.is_none_or(|bytes| bytes == [number; 100]), "{number} of {} bytes", file.len());
        }
        kept(&mut store, 255, 0);
        check(&store);
        assert!(!file.is_empty() || beside(&path, ".damaged-wal").exists(), "the log is set aside");
    }
}

#[test]
fn an_answer_under_another_key_is_not_given_out() {
    let mut store = memory(Caps::default());
    kept(&mut store, 1, 0);
    assert!(store.begin(&asked(2, "b"), ("cmpl-2", 1), 0).unwrap());
    store.connection.execute("UPDATE contents SET id = 2", []).unwrap();
    store.connection.execute("UPDATE requests SET state = ?1", [State::KEPT]).unwrap();
    assert_eq!(store.bytes(&[2; 32]).unwrap(), None);
}
