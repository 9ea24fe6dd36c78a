//! After a crash: images of the store's files, opened elsewhere.

use std::time::Duration;

use metering::{Journal, Unfinished};

use super::*;

/// What a crash would leave now: the files of the store as they are.
pub(super) fn image(plant: &Plant) -> Plant {
    image_of(plant, 0)
}

/// The same, opened by a writer of another number.
pub(super) fn image_of(plant: &Plant, writer: u32) -> Plant {
    let folder = tempfile::tempdir().unwrap();
    for name in ["books.db", "books.db-wal"] {
        let from = plant.folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
    }
    let books = Books::open(Settings { writer, ..settings(&folder.path().join("books.db")) }, NOW).unwrap();
    Plant { books, folder }
}

pub(super) fn page(ticket: &Ticket, progress: Option<Vec<u8>>) -> Unfinished {
    Unfinished { id: ticket.id().0, start: ticket.page(), progress }
}

#[test]
fn delivered_tokens_are_charged_once_and_nothing_else() {
    let plant = plant(budget(1_000_000 * OUT));
    let mut pages = Vec::new();
    // Settled before the crash, but its page was not closed.
    let mut settled = plant.admit(10, 10).unwrap();
    let progress = settled.progress(&used(10, 9));
    pages.push(page(&settled, Some(progress)));
    settled.settle(&used(10, 10), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    // Half delivered; nothing delivered; admitted without a page.
    let mut half = plant.admit(20, 50).unwrap();
    let _first = half.progress(&used(20, 5));
    let progress = half.progress(&used(20, 11));
    pages.push(page(&half, Some(progress)));
    let silent = plant.admit(30, 50).unwrap();
    pages.push(page(&silent, None));
    let pageless = plant.admit(40, 50).unwrap();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    // Its page was written, its hold did not come to the disk.
    let mut lost = plant.admit(5, 50).unwrap();
    let progress = lost.progress(&used(5, 2));
    pages.push(page(&lost, Some(progress)));

    let recovered = after.books.recover(&pages, NOW + 1_000).unwrap();
    let charged = Nano(20 * IN + 11 * OUT + 5 * IN + 2 * OUT);
    assert_eq!((recovered.settled, recovered.charged, recovered.already), (2, charged, 1));
    assert_eq!((recovered.voided, recovered.failed.as_slice()), (2, [].as_slice()));
    let spent = -(10 * IN + 10 * OUT) - charged.0;
    assert_eq!(after.balance("org/acme/money").posted, spent);
    assert_eq!(
        after.balance("budget/key/k1/month/2026-11-01"),
        ledger::Balance { posted: spent, held: 0, floor: Some(-1_000_000 * OUT) }
    );
    after.check();
    // A crash during recovery: the same pages again change nothing.
    let again = after.books.recover(&pages, NOW + 2_000).unwrap();
    assert_eq!((again.settled, again.voided, again.already), (0, 0, 4));
    assert_eq!(after.balance("org/acme/money").posted, spent);
    drop((half, silent, pageless, lost));
}

#[test]
fn a_lost_hold_is_charged_even_when_it_lived_on_what_others_gave_back() {
    // The budget pays for 20 answer tokens. On the disk: one hold over 16. Lost: its settlement with 2 tokens, and a
    // second request that made 16 of what was left.
    let plant = plant(budget(20 * OUT));
    let mut first = plant.admit(0, 16).unwrap();
    let progress = first.progress(&used(0, 2));
    let first_page = page(&first, Some(progress));
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    first.settle(&used(0, 2), End::Stop, NOW).unwrap();
    let mut second = plant.admit(0, 16).unwrap();
    let progress = second.progress(&used(0, 16));
    let second_page = page(&second, Some(progress));
    let recovered = after.books.recover(&[second_page, first_page], NOW).unwrap();
    assert_eq!((recovered.settled, recovered.charged, recovered.failed.len()), (2, Nano(18 * OUT), 0));
    after.check();
}

#[test]
fn a_lost_hold_gets_the_pool_that_it_held() {
    let pool = Pool { tokens: 10, weights: Weights::default(), then: PoolEnd::Overage };
    let plan = Plan { pool: Some(pool), ..Plan::plain("basic") };
    let plant = plant_with(vec![example_tier()], plan, Bounds::default());
    let poor = Key { id: "k2".into(), hash: KeyHash::of(b"plant", "tw_two"), ..key(budget(0)) };
    plant.books.change(Record::Key(poor), "admin", NOW).unwrap();
    // The first takes the pool and gives nine tokens of it back; the second, in between, holds money.
    let mut first = plant.admit(0, 10).unwrap();
    let mut second = plant.admit(0, 10).unwrap();
    first.settle(&used(0, 1), End::Stop, NOW).unwrap();
    // The third has no money: it lives on the nine tokens of the pool. Its accounts are known, its hold is lost.
    drop(plant.admit_with("tw_two", 0, 9).unwrap());
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    let mut third = plant.admit_with("tw_two", 0, 9).unwrap();
    let pages = [&mut second, &mut third].map(|ticket| {
        let progress = ticket.progress(&used(0, 9));
        page(ticket, Some(progress))
    });
    let recovered = after.books.recover(&pages, NOW).unwrap();
    assert_eq!((recovered.charged, recovered.failed.as_slice()), (Nano(9 * OUT), [].as_slice()));
    after.check();
}

#[test]
fn pages_that_cannot_be_charged_are_named_and_stop_nothing() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(10, 10).unwrap();
    let progress = ticket.progress(&used(10, 3));
    let good = page(&ticket, Some(progress.clone()));
    let damaged = Unfinished { id: [1; 16], start: vec![9, 9], progress: Some(progress.clone()) };
    let torn = Unfinished { id: [2; 16], start: ticket.page(), progress: Some(vec![1]) };
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    // They are kept, and every start names them.
    for settled in [1, 0] {
        let recovered = after.books.recover(&[damaged.clone(), torn.clone(), good.clone()], NOW).unwrap();
        assert_eq!((recovered.settled, recovered.already), (settled, 1 - settled));
        assert_eq!(recovered.kept().collect::<Vec<_>>(), [[1; 16], [2; 16]].map(EntryId));
    }
    after.check();
}

/// The tokens of the answer that a request is charged for in the end.
fn charged(plant: &Plant, id: EntryId) -> u64 {
    let entry = plant.books.ledger().entry_by_id(id).unwrap();
    entry.and_then(|entry| detail::Settlement::read(&entry)).map_or(0, |settled| settled.quantities.out_visible)
}

#[test]
fn whatever_a_power_loss_takes_nobody_is_charged_twice_or_for_more_than_was_noted() {
    let plant = plant(budget(1_000_000 * OUT));
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path(), Duration::from_millis(5)).unwrap();
    let mut done = plant.admit(10, 10).unwrap();
    let mut running = plant.admit(10, 10).unwrap();
    let pages = [&done, &running].map(|ticket| journal.begin(ticket.id().0, &ticket.page()).unwrap());
    for (number, tokens) in [(1, 3), (0, 5), (1, 7)] {
        pages[number].progress(&progress(&used(10, tokens))).unwrap();
    }
    let (first, second) = (done.id(), running.id());
    // The ledger without and with the settlement.
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let early = || image(&plant);
    let file = folder.path().join("0000000000.journal");
    let cut = |plant: Plant, settled: bool, bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0000000000.journal"), bytes).unwrap();
        let (_journal, recovery) = Journal::open(folder.path(), Duration::from_millis(5)).unwrap();
        let noted = |id: EntryId| {
            let page = recovery.unfinished.iter().find(|page| page.id == id.0)?;
            page.progress.as_deref().and_then(detail::unpack_progress).map(|used| used.out_visible)
        };
        // The second time is after a crash within the recovery.
        for _ in 0..2 {
            let recovered = plant.books.recover(&recovery.unfinished, NOW).unwrap();
            assert!(recovered.failed.is_empty(), "{recovered:?}");
            let expected = if settled { 6 } else { noted(first).unwrap_or(0) };
            assert_eq!(charged(&plant, first), expected);
            assert_eq!(charged(&plant, second), noted(second).unwrap_or(0));
            // Of what was settled either the page has ended or is gone, or it says what was delivered; else it is given back.
            let opened = recovery.unfinished.iter().any(|page| page.id == first.0);
            let back = settled && opened && noted(first).is_none();
            let due = [first, second].map(|id| match charged(&plant, id) {
                0 => 0,
                tokens => 10 * IN + i64::try_from(tokens).unwrap() * OUT,
            });
            let due = due[1] + if back { 0 } else { due[0] };
            assert_eq!(plant.balance("budget/key/k1/month/2026-11-01").posted, -due);
        }
        plant.check();
    };
    let bytes = std::fs::read(&file).unwrap();
    for at in (0..bytes.len()).step_by(41) {
        cut(early(), false, &bytes[..at]);
    }
    cut(early(), false, &bytes);
    done.settle(&used(10, 6), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    for at in (0..bytes.len()).step_by(41) {
        cut(image(&plant), true, &bytes[..at]);
    }
    let [page, _running] = pages;
    page.end();
    cut(image(&plant), true, &std::fs::read(&file).unwrap());
    running.leave();
}
