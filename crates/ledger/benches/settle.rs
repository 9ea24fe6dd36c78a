//! What the books cost: `cargo bench -p ledger --bench settle [-- [--million N] [--random-ids]]`.
//!
//! Each client takes a hold and settles it, waiting for the disk, over and over; a settlement has 6 legs on 4 accounts of
//! its customer, 120 bytes of detail, and counts in 4 tallies. With "2 spinning" two threads burn the cores meanwhile, as
//! an engine does. Then N million settlements are written without waiting for each, and read from. Ids begin with a
//! counter, as a time would, or are random. Figures depend on the disk: they are for this machine.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at a fault")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::{
    AccountId, AccountKind, AccountSpec, Batch, Command, Entry, EntryId, Ledger, Leg, Options, Outcome, Reserve,
    StoreSpec, Summary, Unit,
};

const CUSTOMERS: u64 = 50;
const ACCOUNTS_EACH: u64 = 3;
const WAIT: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;

struct Rollup;

impl Summary for Rollup {
    fn version(&self) -> u32 {
        1
    }

    fn tally(&self, entry: &Entry, add: &mut ledger::Add<'_>) {
        let Some(customer) = entry.detail.first().filter(|_| entry.kind == 1) else { return };
        let day = (entry.at_ms / DAY_MS).to_be_bytes();
        let amount = entry.legs.first().map_or(0, |leg| -leg.amount);
        for (level, part) in [(0, 0), (1, *customer), (2, *customer % 10), (3, *customer % 3)] {
            add(&[&[level, part][..], &day].concat(), 0, &[1, 1_000, 200, 300, 0, 1_500, amount]);
        }
    }
}

struct Books {
    ledger: Ledger,
    random_ids: bool,
}

impl Books {
    fn open(path: &Path, random_ids: bool) -> Self {
        let options = Options { summary: Some(Arc::new(Rollup)), ..Options::default() };
        let ledger = Ledger::open(&StoreSpec::Sqlite(path.to_owned()), &options).unwrap();
        let open =
            |name: String| Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit: Unit(0), floor: None });
        let names = (0..3)
            .map(|n| format!("house/{n}"))
            .chain((0..CUSTOMERS).flat_map(|c| (0..ACCOUNTS_EACH).map(move |n| format!("org/{c}/{n}"))));
        let batch = Batch { at_ms: 0, commands: names.map(open).collect() };
        let outcomes = ledger.submit(&batch).unwrap().outcomes;
        assert_eq!(outcomes[3], Outcome::Opened(AccountId(3)));
        Self { ledger, random_ids }
    }

    fn id(&self, number: u64) -> EntryId {
        let mixed = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let high = if self.random_ids { mixed } else { number.into() };
        EntryId((high << 64 | mixed).to_be_bytes())
    }

    fn accounts(number: u64) -> [AccountId; 3] {
        let first = 3 + number % CUSTOMERS * ACCOUNTS_EACH;
        [AccountId(first), AccountId(first + 1), AccountId(first + 2)]
    }

    fn hold(&self, number: u64) -> Batch {
        let reserves = Self::accounts(number).map(|account| Reserve { account, amount: 5_000 }).to_vec();
        let command = Command::Hold { id: self.id(number), reserves, expires_ms: i64::MAX, detail: vec![7; 60] };
        Batch { at_ms: 0, commands: vec![command] }
    }

    fn settle(&self, number: u64, day: i64) -> Batch {
        let legs = (0..).zip(Self::accounts(number)).flat_map(|(house, account)| {
            [Leg { account, amount: -3_217 }, Leg { account: AccountId(house), amount: 3_217 }]
        });
        let mut detail = vec![7; 120];
        detail[0] = u8::try_from(number % CUSTOMERS).unwrap();
        let command = Command::Settle { id: self.id(number), kind: 1, legs: legs.collect(), detail };
        Batch { at_ms: day * DAY_MS, commands: vec![command] }
    }
}

/// The value below which this share of them is, in microseconds.
fn quantile(times: &mut [u64], share: f64) -> f64 {
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a slice")]
    let place = (times.len().saturating_sub(1) as f64 * share) as usize;
    times[place] as f64 / 1e3
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap()
}

/// Clients that hold and settle for a while; one line of the table.
fn clients(books: &Books, next: &AtomicU64, clients: usize, spin: bool) {
    let (stop, started) = (&AtomicBool::new(false), Instant::now());
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..if spin { 2 } else { 0 } {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(|| client(books, next, stop))).collect();
        while started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let (hold, settle) = thread.join().unwrap();
            holds.extend(hold);
            settles.extend(settle);
        }
    });
    let rate = settles.len() as f64 / started.elapsed().as_secs_f64();
    let [hold50, hold99] = [0.5, 0.99].map(|share| quantile(&mut holds, share));
    let [settle50, settle99] = [0.5, 0.99].map(|share| quantile(&mut settles, share) / 1e3);
    let spin = if spin { "2 spinning" } else { "idle" };
    println!(
        "| {clients:>3} | {spin:<10} | {rate:>8.0} | {hold50:>6.1} | {hold99:>7.1} | {settle50:>6.2} | {settle99:>6.2} |"
    );
}

/// Times of holds and of durable settlements, in nanoseconds.
fn client(books: &Books, next: &AtomicU64, stop: &AtomicBool) -> (Vec<u64>, Vec<u64>) {
    let (mut holds, mut settles) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (hold, settle) = (books.hold(number), books.settle(number, 0));
        let start = Instant::now();
        books.ledger.submit(&hold).unwrap();
        holds.push(nanos(start));
        let start = Instant::now();
        books.ledger.submit(&settle).unwrap().wait_durable(WAIT).unwrap();
        settles.push(nanos(start));
    }
    (holds, settles)
}

/// Many settlements over a year of days, then what reading costs among them.
fn volume(folder: &Path, million: u64, random_ids: bool) {
    let path = folder.join("volume.db");
    let books = Books::open(&path, random_ids);
    let total = million * 1_000_000;
    let start = Instant::now();
    let mut last = None;
    for number in 0..total {
        let day = i64::try_from(number * 365 / total).unwrap();
        books.ledger.submit(&books.hold(number)).unwrap();
        let receipt = books.ledger.submit(&books.settle(number, day)).unwrap();
        // No more than a few thousand wait at a time.
        if number % 4_096 == 0
            && let Some(before) = last.replace(receipt)
        {
            before.wait_durable(WAIT).unwrap();
        }
    }
    books.ledger.flush(WAIT).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("\n{million} million settlements written in {seconds:.1} s: {:.0}/s", total as f64 / seconds);
    let mut lookups: Vec<u64> = (0..10_000_u64)
        .map(|n| {
            let start = Instant::now();
            books.ledger.balance(AccountId(n % (CUSTOMERS * ACCOUNTS_EACH))).unwrap().unwrap();
            nanos(start)
        })
        .collect();
    println!("a balance: p50 {:.1} us, p99 {:.1} us", quantile(&mut lookups, 0.5), quantile(&mut lookups, 0.99));
    let start = Instant::now();
    let mut rows = 0;
    for customer in 0..u8::try_from(CUSTOMERS).unwrap() {
        let key = |day: i64| [&[1, customer][..], &day.to_be_bytes()].concat();
        rows += books.ledger.tallies(&key(30), &key(61), 100).unwrap().len();
    }
    println!("a month's report: {rows} tallies in {:.2} ms", nanos(start) as f64 / 1e6);
    let mut replays: Vec<u64> = (0..10_000_u64)
        .map(|n| {
            let batch = books.settle(n * 7_919 % total, i64::try_from(n * 7_919 % total * 365 / total).unwrap());
            let start = Instant::now();
            assert_eq!(books.ledger.submit(&batch).unwrap().outcomes, [Outcome::Replayed]);
            nanos(start)
        })
        .collect();
    println!("an old id found: p50 {:.1} us, p99 {:.1} us", quantile(&mut replays, 0.5), quantile(&mut replays, 0.99));
    let start = Instant::now();
    let report = books.ledger.verify().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "verified {} entries, {} tallies in {seconds:.1} s: {:.0}/s",
        report.entries,
        report.tallies,
        report.entries as f64 / seconds
    );
    drop(books);
    let size = std::fs::metadata(&path).unwrap().len();
    println!("{} bytes a settlement on disk", size / total);
    let start = Instant::now();
    Books::open(&path, random_ids);
    println!("opened in {:.2} s", start.elapsed().as_secs_f64());
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let random_ids = arguments.iter().any(|argument| argument == "--random-ids");
    let place = arguments.iter().position(|argument| argument == "--million");
    let million = place.and_then(|place| arguments.get(place + 1)).map_or(1, |number| number.parse().unwrap());
    let folder = tempfile::tempdir_in(".").unwrap();
    let (books, next) = (Books::open(&folder.path().join("clients.db"), random_ids), AtomicU64::new(0));
    println!("| clients | cores | durable settlements/s | hold p50 us | p99 | settle p50 ms | p99 |");
    println!("|---|---|---|---|---|---|---|");
    for spin in [false, true] {
        for count in [1, 16, 64, 200] {
            clients(&books, &next, count, spin);
        }
    }
    drop(books);
    volume(folder.path(), million, random_ids);
}
