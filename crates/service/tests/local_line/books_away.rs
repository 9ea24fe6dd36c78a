//! What becomes of answers while the ledger or the journal takes nothing.

use std::path::Path;
use std::time::Duration;

use economics::Nano;
use inference::{Engine, FinishReason};
use ledger::StoreSpec;
use metering::{Journal, SEGMENT_BYTES};
use service::{ErrorKind, Line, LineError, LineEvent, Reply, Waits};
use test_support::Cluster;

use crate::charged::{Charged, IN, OUT, balance, flat, now_ms, open, read, records};
use crate::plant::Script;

const WAIT: Duration = Duration::from_millis(200);
const WAITS: Waits = Waits { extension: WAIT, held: WAIT, settlement: WAIT };

/// Holds the store's lock, as a disk does that does not answer.
struct Stuck(rusqlite::Connection);

impl Stuck {
    fn of(folder: &Path) -> Self {
        let other = rusqlite::Connection::open(folder.join("books.db")).unwrap();
        other.busy_timeout(Duration::from_secs(30)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(other)
    }

    fn end(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// Writes the journal's file so full that the next one begins with the first record after `spare` bytes.
fn fill(journal: &Journal, spare: u64) {
    const FRAME: u64 = 8 + 1 + 16;
    let page = journal.begin([7; 16], b"").unwrap();
    let mut left = SEGMENT_BYTES - spare - 2 * FRAME;
    while left > 0 {
        let bytes = (left - FRAME).min(60 << 10);
        // No rest that is too short for a record.
        let bytes = if left - FRAME - bytes < 2 * FRAME { (left - FRAME).min(64 << 10) } else { bytes };
        page.progress(&vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        left -= FRAME + bytes;
    }
    page.end();
}

/// The journal can't begin its next file.
fn block(folder: &Path) {
    std::fs::create_dir(folder.join("journal/0000000001.journal")).unwrap();
}

fn unblock(folder: &Path) {
    std::fs::remove_dir(folder.join("journal/0000000001.journal")).unwrap();
}

fn embedded(script: Script, prepare: impl FnOnce(&Journal)) -> Charged {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreSpec::Sqlite(folder.path().join("books.db"));
    Charged::with(script, records(flat(), None), (folder, store), (WAITS, prepare))
}

/// The text received, and the failure.
async fn broken(reply: &mut Reply) -> (String, Option<LineError>) {
    let mut text = String::new();
    while let Some(event) = reply.next().await {
        match event {
            LineEvent::Text { text: more, .. } => text.push_str(&more),
            LineEvent::Failed(error, _) => return (text, Some(error)),
            LineEvent::Finished { reason, .. } => assert_ne!(reason, FinishReason::Allowance, "it is no spent budget"),
            _ => {}
        }
    }
    (text, None)
}

#[tokio::test]
async fn an_answer_leaves_though_the_disk_is_slow() {
    let charged = embedded(Script::default(), |_| {});
    let due = 4 * IN + 5 * OUT;
    read(&mut charged.plant.submit(charged.asked(1, 5, false)).await.unwrap()).await;
    for (number, streamed) in [(2, false), (3, true)] {
        let stuck = Stuck::of(charged.folder.path());
        let mut reply = charged.plant.submit(charged.asked(number, 5, streamed)).await.unwrap();
        let (text, end, charge) = read(&mut reply).await;
        assert_eq!((text.len(), end), (5, Some(FinishReason::Length)));
        assert_eq!(charge.unwrap().total().0, due);
        assert_eq!(charged.charging.open_requests(), 1, "the journal vouches for it");
        stuck.end();
        charged.check();
    }
    assert_eq!(charged.balance(), -3 * due);
}

#[tokio::test]
async fn an_answer_that_another_server_took_for_gone_ends_and_is_charged() {
    let charged = embedded(Script { step: Duration::from_millis(5), ..Script::default() }, |_| {});
    let mut reply = charged.plant.submit(charged.asked(1, 400, true)).await.unwrap();
    let Some(LineEvent::Text { text: first, .. }) = reply.next().await else { panic!("no text") };
    let far = now_ms() + 48 * 3_600_000;
    assert_eq!(charged.charging.books().expire(|_| false, far).unwrap(), 1);
    let (rest, failure) = broken(&mut reply).await;
    assert!(failure.is_some_and(|error| error.kind() == ErrorKind::BooksClosed));
    let made = i64::try_from(first.len() + rest.len()).unwrap();
    charged.check();
    assert!(made < 400, "{made}");
    assert_eq!(charged.balance(), -(4 * IN + made * OUT));
}

#[tokio::test]
async fn an_answer_that_leaves_before_it_is_settled_is_charged_after_a_crash() {
    let charged = embedded(Script::default(), |_| {});
    read(&mut charged.plant.submit(charged.asked(1, 5, false)).await.unwrap()).await;
    charged.check();
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    let take = |name: &str| {
        let from = charged.folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).unwrap();
        }
    };
    let stuck = Stuck::of(charged.folder.path());
    // The ledger as it is on the disk, then the journal once the answer has left.
    ["books.db", "books.db-wal"].into_iter().for_each(take);
    read(&mut charged.plant.submit(charged.asked(2, 5, false)).await.unwrap()).await;
    take("journal/0000000000.journal");
    stuck.end();
    let (books, _journal, recovery) = open(copy.path());
    let recovered = books.recover(&recovery.unfinished, now_ms()).unwrap();
    assert_eq!((recovered.settled, balance(&books)), (1, -2 * (4 * IN + 5 * OUT)));
}

#[tokio::test]
async fn an_answer_that_is_not_given_costs_nothing() {
    // The last record that the journal takes is the one that opens the page.
    let charged = embedded(Script::default(), |journal| fill(journal, 1));
    charged.charging.books().pay("acme", Nano(7), ("1", "test"), now_ms()).unwrap();
    block(charged.folder.path());
    let stuck = Stuck::of(charged.folder.path());
    let mut reply = charged.plant.submit(charged.asked(1, 5, false)).await.unwrap();
    let (_, failure) = broken(&mut reply).await;
    assert_eq!(failure.unwrap().kind(), ErrorKind::BooksClosed);
    stuck.end();
    unblock(charged.folder.path());
    charged.check();
    assert_eq!(charged.balance(), 7);
    let settled = charged.charging.books().ledger().entries(1, 1_000).unwrap();
    assert!(settled.iter().any(|entry| entry.kind == 1) && settled.iter().any(|entry| entry.kind == 2), "and back");
}

/// Else it would have left, and the next start would take the open page for an answer that has not.
#[tokio::test]
async fn an_answer_whose_end_cannot_be_noted_is_not_given_and_costs_nothing() {
    // The last record that the journal takes is the one that opens the page.
    let charged = embedded(Script::default(), |journal| fill(journal, 1));
    charged.charging.books().pay("acme", Nano(7), ("1", "test"), now_ms()).unwrap();
    block(charged.folder.path());
    let mut reply = charged.plant.submit(charged.asked(1, 5, false)).await.unwrap();
    let (_, failure) = broken(&mut reply).await;
    assert_eq!(failure.unwrap().kind(), ErrorKind::BooksClosed);
    // What a process that starts now would find.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for name in ["journal/0000000000.journal", "books.db", "books.db-wal"] {
        std::fs::copy(charged.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let (books, _journal, recovery) = open(copy.path());
    let recovered = books.recover(&recovery.unfinished, now_ms()).unwrap();
    assert_eq!((recovered.given_back, balance(&books)), (1, 7));
    // It goes on instead.
    charged.plant.until(|_| charged.balance() == 7).await;
    assert_eq!(charged.charging.open_requests(), 1, "its end waits for room");
    unblock(charged.folder.path());
    charged.check();
    assert_eq!(charged.balance(), 7);
}

#[tokio::test]
async fn a_full_journal_refuses_new_work_and_loses_nothing() {
    let script = Script { step: Duration::from_millis(1), ..Script::default() };
    let charged = embedded(script, |journal| fill(journal, 1_000));
    // Before the request, for there is room for it and some of its tokens: how soon they come does not matter then.
    block(charged.folder.path());
    let mut reply = charged.plant.submit(charged.asked(1, 400, true)).await.unwrap();
    let (text, failure) = broken(&mut reply).await;
    let received = i64::try_from(text.len()).unwrap();
    assert!(received > 0);
    assert_eq!(failure.unwrap().kind(), ErrorKind::BooksClosed);
    assert!(!charged.plant.line.status().ready && charged.charging.trouble().is_some());
    let refused = charged.plant.submit(charged.asked(2, 5, true)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BooksClosed);
    drop(reply);
    charged.plant.idle().await;
    charged.plant.until(|_| charged.balance() < 0).await;
    assert_eq!(charged.charging.open_requests(), 1, "its end waits for room");
    unblock(charged.folder.path());
    charged.plant.until(|plant| plant.line.status().ready).await;
    charged.check();
    assert_eq!(charged.balance(), -(4 * IN + received * OUT), "what was delivered, and no more");
    read(&mut charged.plant.submit(charged.asked(3, 5, true)).await.unwrap()).await;
    charged.check();
}

/// Over a server that dies and comes back. The test asks the ledger from outside of the runtime, as it must.
#[test]
fn a_database_that_goes_away_costs_nobody_anything() {
    let cluster = Cluster::start();
    let script = Script { step: Duration::from_millis(10), ..Script::default() };
    let store = StoreSpec::Postgres(cluster.database("books"));
    let folder = tempfile::tempdir().unwrap();
    let charged = Charged::with(script, records(flat(), None), (folder, store), (WAITS, |_| {}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let submit =
        |number, tokens, streamed| runtime.block_on(charged.plant.submit(charged.asked(number, tokens, streamed)));
    let mut due = 4 * IN + 5 * OUT;
    runtime.block_on(read(&mut submit(1, 5, false).unwrap()));
    charged.check();
    assert_eq!(charged.balance(), -due);

    // It cannot be settled: the answer leaves all the same, and is settled later.
    let mut whole = submit(2, 8, false).unwrap();
    cluster.kill();
    let (text, end, charge) = runtime.block_on(read(&mut whole));
    assert_eq!((text.len(), end, charge), (8, Some(FinishReason::Length), None));
    due += 4 * IN + 8 * OUT;
    // A hold that nobody knows of.
    assert_eq!(submit(3, 5, true).unwrap_err().kind(), ErrorKind::BooksClosed);
    cluster.begin();
    charged.check();
    assert_eq!(charged.balance(), -due);

    // It cannot be asked for more: an error and no spent budget, and what was delivered is charged.
    let mut long = submit(4, 100, true).unwrap();
    cluster.kill();
    let (text, failure) = runtime.block_on(broken(&mut long));
    assert_eq!(failure.unwrap().kind(), ErrorKind::BooksClosed);
    assert_eq!(text.len(), 8, "all that was paid for");
    due += 4 * IN + 8 * OUT;
    cluster.begin();
    charged.check();
    assert_eq!(charged.balance(), -due);

    // Whoever lets go of a request on a thread of the runtime does not wait for the database.
    charged.plant.engine.close();
    assert_eq!(submit(5, 5, true).unwrap_err().kind(), ErrorKind::Closed);
    charged.check();
    assert_eq!(charged.balance(), -due);
}
