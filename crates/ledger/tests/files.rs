//! The embedded store as a file: in use, of another program, newer, damaged, full.

#![expect(clippy::unwrap_used, reason = "a test's own helper may fail the test")]

use std::path::Path;
use std::time::Duration;

use ledger::{
    AccountId, AccountKind, AccountSpec, Batch, Command, EntryId, Fault, Format, Ledger, Leg, OpenError, Options,
    Outcome, StoreError, StoreSpec, Unit, backup, export, restore, verify,
};

const WAIT: Duration = Duration::from_secs(60);

fn open(path: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(&StoreSpec::Sqlite(path.to_owned()), &Options::default())
}

/// Counts postings, all together and by number; the version is what each counts for.
struct Count(u32);

impl ledger::Summary for Count {
    fn version(&self) -> u32 {
        self.0
    }

    fn tally(&self, entry: &ledger::Entry, add: &mut ledger::Add<'_>) {
        if entry.kind == 1 {
            add(b"posts", 0, &[i64::from(self.0)]);
            add(&[b"post ", &entry.seq.to_be_bytes()[..]].concat(), 0, &[i64::from(self.0), 7]);
        }
    }
}

fn open_counting(path: &Path, version: u32) -> Result<Ledger, OpenError> {
    let options = Options { summary: Some(std::sync::Arc::new(Count(version))), ..Options::default() };
    Ledger::open(&StoreSpec::Sqlite(path.to_owned()), &options)
}

fn submit(ledger: &Ledger, command: Command) -> Vec<Outcome> {
    let receipt = ledger.submit(&Batch { at_ms: 0, commands: vec![command] }).unwrap();
    receipt.wait_durable(WAIT).unwrap();
    receipt.outcomes
}

fn post(number: u8, amount: i64) -> Command {
    let legs = vec![Leg { account: AccountId(0), amount: -amount }, Leg { account: AccountId(1), amount }];
    Command::Post { id: EntryId([number; 16]), kind: 1, legs, detail: vec![number; 500] }
}

fn fill(path: &Path) {
    let ledger = open(path).unwrap();
    for name in ["bank", "customer"] {
        let name = name.to_owned();
        submit(&ledger, Command::Open(AccountSpec { name, kind: AccountKind::Contra, unit: Unit(0), floor: None }));
    }
    for number in 0..100 {
        submit(&ledger, post(number, 1 + i64::from(number)));
    }
}

fn execute(path: &Path, script: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(script).unwrap();
}

#[test]
fn the_second_opener_is_refused_and_told_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let first = open(&path).unwrap();
    match open(&path) {
        Err(OpenError::InUse { by, .. }) => assert_eq!(by, format!("process {}", std::process::id())),
        other => panic!("{:?}", other.err()),
    }
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_newer_or_foreign_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    execute(&path, "UPDATE meta SET value = 99 WHERE name = 'schema'");
    assert!(matches!(open(&path), Err(OpenError::Newer { found: 99, known: 3 })));
    let why = open(&path).err().unwrap().to_string();
    let (spec, other) = (StoreSpec::Sqlite(path.clone()), folder.path().join("other.db"));
    assert_eq!(verify(&spec, None).unwrap_err().to_string(), why);
    assert_eq!(export(&spec, Format::Csv, &mut Vec::new()).unwrap_err().to_string(), why);
    assert_eq!(backup(&spec, &other).unwrap_err().to_string(), why);
    assert_eq!(restore(&path, &other, None).unwrap_err().to_string(), why);
    assert!(!other.exists());
    let foreign = folder.path().join("foreign.db");
    execute(&foreign, "CREATE TABLE notes (text TEXT)");
    assert!(matches!(open(&foreign), Err(OpenError::Store(StoreError::Damaged(_)))));
    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database".repeat(1_000)).unwrap();
    assert!(matches!(open(&text), Err(OpenError::Store(StoreError::Damaged(_)))));
}

/// What a person with a database tool could do, and what says so.
#[test]
fn changed_rows_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.db");
    fill(&good);
    let cases = [
        (
            "UPDATE account SET posted = posted + 1 WHERE id = 1",
            "account 1 (\"customer\") does not match its seal",
            true,
        ),
        ("DELETE FROM account WHERE id = 0", "account 0 is missing", true),
        ("UPDATE entry SET body = CAST(body || X'01' AS BLOB) WHERE seq = 50", "entry 50", true),
        ("DELETE FROM entry WHERE seq = 102", "chain does not end where it should", true),
        (
            "DELETE FROM entry WHERE seq = 102; UPDATE meta SET value = 101 WHERE name = 'seq'",
            "chain does not end where it should",
            true,
        ),
        ("DELETE FROM entry WHERE seq = 7", "entry 7", true),
        ("UPDATE writer SET hash = zeroblob(32)", "chain does not end where it should", true),
        ("INSERT INTO tally VALUES (X'01', X'02')", "", false),
        ("INSERT INTO document VALUES (1, 'x', 1, 5)", "document", true),
        ("UPDATE meta SET value = 5 WHERE name = 'holds'", "holds", true),
    ];
    for (script, expected, refused) in cases {
        let path = folder.path().join("changed.db");
        std::fs::copy(&good, &path).unwrap();
        execute(&path, script);
        let found = match open(&path) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        assert_eq!(found.is_some(), refused, "{script}: {found:?}");
        assert!(found.is_none_or(|found| found.contains(expected)), "{script}");
        match verify(&StoreSpec::Sqlite(path), None) {
            Ok(_) => assert_eq!(expected, "", "{script}"),
            Err(fault) => assert!(!expected.is_empty() && !fault.to_string().is_empty(), "{script}: {fault}"),
        }
    }
    assert!(matches!(verify(&StoreSpec::Sqlite(folder.path().join("none.db")), None), Err(Fault::Store(_))));
}

/// What a crash leaves of a store in use: a log that holds the latest entries.
fn crashed(path: &Path) {
    let before = tempfile::tempdir().unwrap();
    let store = before.path().join("books.db");
    fill(&store);
    let ledger = open(&store).unwrap();
    for number in 100..120 {
        submit(&ledger, post(number, 1));
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for name in ["books.db", "books.db-wal", "books.db-mark"] {
        std::fs::copy(store.with_file_name(name), path.with_file_name(name)).unwrap();
    }
}

#[test]
fn a_log_that_is_cut_off_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |wal: &Path| std::fs::read(wal).unwrap();
    type Harm<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: [(&str, Harm<'_>); 5] = [
        ("nothing", Box::new(|_| ())),
        ("deleted", Box::new(|wal| std::fs::remove_file(wal).unwrap())),
        ("emptied", Box::new(|wal| std::fs::write(wal, "").unwrap())),
        ("cut", Box::new(|wal| std::fs::write(wal, &bytes(wal)[..bytes(wal).len() / 2]).unwrap())),
        (
            "damaged",
            Box::new(|wal| {
                let mut bytes = bytes(wal);
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(wal, bytes).unwrap();
            }),
        ),
    ];
    for (case, harm) in cases {
        let (path, other) = (folder.path().join(case).join("books.db"), folder.path().join(format!("{case}.db")));
        let wal = path.with_file_name("books.db-wal");
        crashed(&path);
        harm(&wal);
        let left = std::fs::read(&wal).unwrap_or_default();
        let spec = StoreSpec::Sqlite(path.clone());
        if case == "nothing" {
            assert_eq!(verify(&spec, None).unwrap().entries, 122);
            open(&path).unwrap();
            continue;
        }
        let faults = [
            verify(&spec, None).unwrap_err().to_string(),
            export(&spec, Format::Csv, &mut Vec::new()).unwrap_err().to_string(),
            backup(&spec, &other).unwrap_err().to_string(),
            open(&path).err().unwrap().to_string(),
            open(&path).err().unwrap().to_string(),
        ];
        for fault in faults {
            assert!(fault.contains("and once it had entry 122 on the disk"), "{case}: {fault}");
        }
        // What is there of it can still be looked at.
        assert_eq!(std::fs::read(&wal).unwrap_or_default(), left, "{case}");
        // Who takes the loss says so.
        std::fs::remove_file(path.with_file_name("books.db-mark")).unwrap();
        assert!(open(&path).unwrap().verify().unwrap().entries < 122, "{case}");
    }
}

#[test]
fn an_older_copy_is_not_taken_for_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let [path, old, mark] = ["books.db", "old.db", "books.db-mark"].map(|name| folder.path().join(name));
    fill(&path);
    backup(&StoreSpec::Sqlite(path.clone()), &old).unwrap();
    submit(&open(&path).unwrap(), post(200, 5));
    std::fs::copy(&old, &path).unwrap();
    let fault = open(&path).err().unwrap().to_string();
    assert!(fault.contains("ends at entry 102, and once it had entry 103"), "{fault}");
    std::fs::remove_file(&path).unwrap();
    assert!(open(&path).err().unwrap().to_string().contains("ends at entry 0"));
    assert!(!path.exists());
    // To restore it is to know.
    std::fs::remove_file(folder.path().join("books.db-wal")).unwrap();
    restore(&old, &path, None).unwrap();
    assert_eq!(open(&path).unwrap().verify().unwrap().entries, 102);
    // Another history of the same length.
    let other = folder.path().join("other.db");
    fill(&other);
    submit(&open(&path).unwrap(), post(201, 6));
    submit(&open(&other).unwrap(), post(202, 7));
    std::fs::copy(folder.path().join("other.db-mark"), &mark).unwrap();
    assert!(open(&path).err().unwrap().to_string().contains("entry 103 is not the one that was marked"));
    let mut bytes = std::fs::read(&mark).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&mark, &bytes).unwrap();
    assert!(matches!(open(&path), Err(OpenError::Store(StoreError::Unmarked(_)))));
    std::fs::write(&mark, "").unwrap();
    assert!(matches!(open(&path), Err(OpenError::Store(StoreError::Unmarked(_)))));
    std::fs::remove_file(&mark).unwrap();
    open(&path).unwrap();
}

#[test]
fn another_name_of_the_file_is_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let [path, link] = ["books.db", "link.db"].map(|name| folder.path().join(name));
    fill(&path);
    std::fs::hard_link(&path, &link).unwrap();
    let first = open(&path).unwrap();
    assert!(matches!(open(&link), Err(OpenError::InUse { .. })));
    submit(&first, post(200, 5));
    assert_eq!(first.verify().unwrap().entries, 103);
}

/// A large store is used at once; what is wrong with it is found soon and closes it.
#[test]
fn what_is_found_later_closes_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    let large = Options { audit_at_once: 10, ..Options::default() };
    let spec = StoreSpec::Sqlite(path.clone());
    let ledger = Ledger::open(&spec, &large).unwrap();
    let begun = std::time::Instant::now();
    // What money is reported by waits until all is known to be right.
    loop {
        match ledger.tallies(b"", b"z", 10) {
            Err(StoreError::Unaudited) if begun.elapsed() < WAIT => std::thread::sleep(Duration::from_millis(1)),
            tallies => break assert!(tallies.unwrap().is_empty()),
        }
    }
    ledger.sound().unwrap();
    drop(ledger);
    execute(&path, "INSERT INTO document VALUES (1, 'x', 1, 5)");
    let ledger = Ledger::open(&spec, &large).unwrap();
    let begun = std::time::Instant::now();
    while ledger.sound().is_ok() && begun.elapsed() < WAIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let fault = ledger.sound().unwrap_err().to_string();
    assert!(fault.contains("document"), "{fault}");
    let refused = ledger.submit(&Batch { at_ms: 0, commands: vec![post(200, 5)] }).unwrap_err();
    assert!(matches!(refused.refusal, ledger::Refusal::Unavailable { reason } if reason == fault));
    assert_eq!(ledger.balance(AccountId(0)).unwrap_err().to_string(), fault);
    assert_eq!(ledger.entries(1, 10).unwrap_err().to_string(), fault);
}

#[test]
fn what_verification_finds_closes_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    let ledger = open(&path).unwrap();
    ledger.verify().unwrap();
    ledger.sound().unwrap();
    execute(&path, "INSERT INTO document VALUES (1, 'x', 1, 5)");
    let fault = ledger.verify().unwrap_err().to_string();
    assert!(ledger.sound().unwrap_err().to_string().contains(&fault), "{fault}");
}

/// Entries are written as they are found, but not without a word.
#[test]
fn an_export_of_damaged_entries_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    let spec = StoreSpec::Sqlite(path.clone());
    let lines = |text: &[u8]| text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    let export = |out: &mut Vec<u8>| export(&spec, Format::JsonLines, out);
    let mut whole = Vec::new();
    assert_eq!(export(&mut whole).unwrap(), 102);
    assert_eq!(lines(&whole), 102);
    for (script, left, whole) in [
        ("UPDATE entry SET body = (SELECT body FROM entry WHERE seq = 51) WHERE seq = 50", 102, 49),
        ("DELETE FROM entry WHERE seq = 60", 101, 49),
        ("DELETE FROM entry WHERE seq = 102", 0, 0),
    ] {
        execute(&path, script);
        let mut out = Vec::new();
        let fault = export(&mut out).unwrap_err();
        assert!(matches!(&fault, StoreError::Damaged(what) if what.contains("entr")), "{script}: {fault}");
        assert_eq!(lines(&out), left, "{script}");
        let mut seen = 0;
        let visit = |entry: &ledger::Entry| -> Result<(), StoreError> {
            seen = entry.seq;
            Ok(())
        };
        assert!(ledger::each_entry(&spec, visit).is_err());
        assert_eq!(seen, whole, "{script}: nothing damaged is shown");
    }
}

/// No row is wrong, but one is not found by its id any more.
#[test]
fn a_damaged_index_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    let spec = StoreSpec::Sqlite(path.clone());
    verify(&spec, None).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // As SQLite writes it: three bytes that say what follows, the id, and the entry's number.
    let row = [[3, 0x2c, 1].as_slice(), &[50; 16], &[53]].concat();
    let places: Vec<_> = (0..bytes.len() - row.len()).filter(|&place| bytes[place..].starts_with(&row)).collect();
    let [place] = places[..] else { panic!("{places:?}") };
    bytes[place + 18] += 1;
    std::fs::write(&path, bytes).unwrap();
    let fault = verify(&spec, None).unwrap_err();
    assert!(matches!(&fault, Fault::Store(StoreError::Damaged(what)) if what.contains("index")), "{fault}");
}

/// Whatever byte is wrong: either the ledger says so or all of it is right.
#[test]
fn damaged_bytes_are_told_of_or_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.db");
    fill(&good);
    drop(open_counting(&good, 1).unwrap());
    let bytes = std::fs::read(&good).unwrap();
    let (mut refused, mut unharmed) = (0, 0);
    // A prime step visits each page at many places.
    for place in (0..bytes.len()).step_by(307) {
        let path = folder.path().join("damaged.db");
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        std::fs::write(&path, damaged).unwrap();
        match open_counting(&path, 1) {
            Err(_) => refused += 1,
            Ok(ledger) => {
                let balances = [0, 1].map(|id| ledger.balance(AccountId(id)).unwrap().unwrap().posted);
                assert_eq!(balances, [-5050, 5050], "byte {place}");
                assert_eq!(ledger.verify().unwrap().entries, 102, "byte {place}");
                unharmed += 1;
            }
        }
    }
    println!("{refused} refused, {unharmed} unharmed");
    assert!(refused > 50, "{refused} refused, {unharmed} unharmed");
}

#[test]
fn a_backup_under_load_restores_to_a_ledger_that_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let [path, backup, restored] = ["books.db", "backup.db", "restored.db"].map(|name| folder.path().join(name));
    fill(&path);
    let ledger = &open(&path).unwrap();
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let writer = scope.spawn(move || {
            for number in 100..200 {
                submit(ledger, post(number, 1));
                send.send(number).unwrap();
            }
        });
        assert_eq!(receive.recv(), Ok(100));
        ledger.backup(&backup).unwrap();
        writer.join().unwrap();
    });
    assert!(ledger.backup(&backup).unwrap_err().to_string().contains("exists already"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600, "others may read it");
    }
    let report = restore(&backup, &restored, None).unwrap();
    assert!((103..=202).contains(&report.entries), "{report:?}");
    let copy = open(&restored).unwrap();
    assert_eq!(copy.verify().unwrap(), report);
    // The copy goes on by itself, and does not overwrite.
    submit(&copy, post(250, 1));
    assert!(restore(&backup, &restored, None).unwrap_err().to_string().contains("in use"));
    drop(copy);
    assert!(restore(&backup, &restored, None).unwrap_err().to_string().contains("exists already"));
    execute(&backup, "UPDATE account SET posted = 0");
    let other = folder.path().join("other.db");
    assert!(restore(&backup, &other, None).unwrap_err().to_string().contains("seal"));
    assert!(!other.exists());
}

#[test]
fn tallies_are_made_anew_for_another_summary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    fill(&path);
    for version in [1, 2, 2, 1] {
        let ledger = open_counting(&path, version).unwrap();
        let found = ledger.tallies(b"posts", b"z", 10).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].sums, [100 * i128::from(version)]);
        ledger.verify().unwrap();
    }
    assert!(open(&path).unwrap().tallies(b"", b"z", 10).unwrap().is_empty());
}
