//! What a start finds of the requests that were under way: pages that must stay, a journal that is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use economics::books::{Admission, Books, Metadata, Settings, Steps, Ticket};
use economics::{Currency, Quantities};
use ledger::{EntryId, StoreSpec};
use metering::Journal;

use crate::books::customer;
use crate::serving::Serving;
use crate::support::Sandbox;
use crate::tiny_model::sandbox;

const DURABLE_WAIT: Duration = Duration::from_secs(60);
/// A request whose page nobody can read.
const UNREADABLE: [u8; 16] = [0xee; 16];

fn data(sandbox: &Sandbox) -> PathBuf {
    sandbox.path(".local/share/tokenworks")
}

fn now_ms() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis().try_into().unwrap()
}

/// The books of a sandbox as a server with this number has them.
fn books(sandbox: &Sandbox, writer: u32) -> Arc<Books> {
    let settings = Settings {
        store: StoreSpec::Sqlite(data(sandbox).join("books.db")),
        writer,
        currency: Currency::of("USD").unwrap(),
        secret: std::fs::read(data(sandbox).join("key-secret")).unwrap().trim_ascii().to_vec(),
        bootstrap: Vec::new(),
        steps: Steps::default(),
    };
    Books::open(settings, now_ms()).unwrap()
}

/// A request under way, whose hold is on the disk.
fn admitted(books: &Arc<Books>, key: &str, id: u8) -> Ticket {
    let identity = books.identify(key, "", now_ms()).unwrap();
    let admission = Admission {
        id: EntryId([id; 16]),
        identity: &identity,
        model: "tiny",
        base: None,
        input: 20,
        max_output: 10,
        tag: "",
        user: "",
        metadata: Metadata::NONE,
        now_ms: now_ms(),
    };
    let mut ticket = books.admit(admission).unwrap();
    ticket.leave();
    books.ledger().flush(DURABLE_WAIT).unwrap();
    ticket
}

fn balance(sandbox: &Sandbox) -> String {
    let shown = sandbox.run(&["customers", "show", "acme"]).json();
    shown["standing"]["balance"].as_str().unwrap().to_owned()
}

/// Starts a server and ends it; gives its log.
fn log_of_a_start(sandbox: &Sandbox) -> String {
    Serving::start(sandbox, &["tiny.gguf", "--kv-memory", "1MiB"]).terminate().1
}

#[test]
fn pages_that_cannot_be_charged_here_stay_over_every_start() {
    let sandbox = sandbox();
    let key = customer(&sandbox);
    let used = Quantities { in_uncached: 20, out_visible: 5, ..Quantities::default() };
    let (start, progress) = {
        let other = books(&sandbox, 7);
        let mut ticket = admitted(&other, &key, 1);
        (ticket.page(), ticket.progress(&used))
    };
    {
        let (journal, _) = Journal::open(&data(&sandbox).join("journal"), Duration::from_millis(5)).unwrap();
        for (id, start, progress) in [([1; 16], &start, &progress), (UNREADABLE, &vec![1, 2, 3], &vec![4])] {
            journal.begin(id, start).unwrap().progress(progress).unwrap();
        }
    }
    for start in 1..=2 {
        let log = log_of_a_start(&sandbox);
        for part in
            ["begun under another books.writer", "could not be settled", "its page in the journal cannot be read"]
        {
            assert!(log.contains(part), "start {start}: {part} in {log}");
        }
        assert_eq!(balance(&sandbox), "5.00", "start {start}");
    }
    // 20 tokens at 10 and 5 at 30 per million.
    sandbox.write("tokenworks.toml", "[books]\nwriter = 7\n");
    for (start, note) in [(1, true), (2, false)] {
        let log = log_of_a_start(&sandbox);
        assert!(!log.contains("books.writer") && log.contains("could not be settled"), "start {start}: {log}");
        assert_eq!(log.contains("1 charged (0.00035)"), note, "start {start}: {log}");
        assert_eq!(balance(&sandbox), "4.99965", "start {start}");
    }
}

#[test]
fn a_journal_that_is_gone_is_told_of_with_what_it_costs() {
    let sandbox = sandbox();
    let key = customer(&sandbox);
    assert!(!log_of_a_start(&sandbox).contains("journal"));
    let under_way = || {
        let own = books(&sandbox, 0);
        [2, 3].map(|id| admitted(&own, &key, id)).into_iter().for_each(drop);
    };
    under_way();
    std::fs::remove_dir_all(data(&sandbox).join("journal")).unwrap();
    let log = log_of_a_start(&sandbox);
    assert!(log.contains("the journal is gone") && log.contains("2 requests that were under way"), "{log}");
    assert!(!log_of_a_start(&sandbox).contains("journal"), "told once");
}

#[test]
fn a_journal_that_cannot_be_read_is_kept() {
    let sandbox = sandbox();
    customer(&sandbox);
    log_of_a_start(&sandbox);
    let folder = data(&sandbox).join("journal");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let journal = entries.into_iter().find(|path| path.extension().is_some_and(|end| end == "journal")).unwrap();
    std::fs::write(&journal, "whatever this was, it is no journal").unwrap();
    let log = log_of_a_start(&sandbox);
    assert!(log.contains("is damaged"), "{log}");
    let kept = std::fs::read_to_string(metering::set_aside(&journal)).unwrap();
    assert!(kept.starts_with("whatever this was"));
    assert!(!log_of_a_start(&sandbox).contains("is damaged"), "told once");
}
