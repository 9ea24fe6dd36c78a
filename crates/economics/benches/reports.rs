//! How long reports take of books with many requests: `cargo bench -p economics --bench reports [-- --requests N] [--folder DIR]`.
//!
//! Fills books with N requests (a million unless told otherwise) over 30 days by the program's own ways: admitted, charged,
//! their costs shared by intervals of 10 seconds with work in half of each, one in 500 with an outcome. Of 20 customers with 2
//! projects, 2 models, 4 tags, 3 tasks, 3 versions of the prompt and 200 end users each. Then reads each report three times,
//! of the whole time, and recomputes all sums from the entries. With --folder the books stay there, and are not filled twice
//! (nor when their sums have another form by now: those are made anew when the books are opened).
//!
//! Filling waits for the disk now and then, and takes some 100 s and 0.8 GB a million.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at a fault")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use economics::books::cost_detail::Traffic;
use economics::books::costs::{Accountant, Finished, Interval};
use economics::books::outcome_detail::Owner;
use economics::books::{Admission, Books, End, Metadata, Settings, Steps, verify_costs};
use economics::directory::Identity;
use economics::directory::key::KeyHash;
use economics::directory::record::{Bounds, Key, Organisation, Project, Record, Scope};
use economics::income::income;
use economics::outcome::{Attribution, Outcome, Remarks, Valuation};
use economics::plant::{Plant, PlantSheet};
use economics::price::{PriceSpec, Tier};
use economics::products::products;
use economics::rollup::{self, CostAsk, CostGroups, GroupBy, TfpAsk, TfpBy, Unit, week_of};
use economics::{Currency, Nano, Plan, Quantities};
use ledger::{EntryId, StoreSpec};
use metering::energy::{Energy, EnergySource};
use metering::intervals::{Holder, Taker, Usage};

/// 1 October 2026, UTC.
const START_MS: i64 = 1_790_812_800_000;
const DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
const INTERVAL_MS: i64 = 10_000;
const INTERVAL_NS: u64 = 10_000_000_000;
const CUSTOMERS: u64 = 20;
const PROJECTS: u64 = 2;
const MODELS: [&str; 2] = ["small", "large"];
const TAGS: [&str; 4] = ["", "web", "batch", "test"];
const TASKS: [&str; 3] = ["triage", "answer", "summary"];
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
const END_USERS: usize = 200;
const PER_FLUSH: u64 = 4_096;
const PER_OUTCOME: usize = 500;
const WAIT: Duration = Duration::from_secs(600);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let requests = value("--requests").map_or(1_000_000, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let folder = value("--folder").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("books.db");
    let filled = path.exists();
    let begun = Instant::now();
    let books = open(&path);
    println!("opened in {:.1} s", begun.elapsed().as_secs_f64());
    if !filled {
        fill(&books, requests);
    }
    read(&books);
    drop(books);
    let begun = Instant::now();
    let costs = verify_costs(&StoreSpec::Sqlite(path)).unwrap();
    println!(
        "costs audited in {:.1} s: {} intervals, {} requests",
        begun.elapsed().as_secs_f64(),
        costs.intervals,
        costs.requests
    );
}

fn open(path: &Path) -> Arc<Books> {
    let settings = Settings {
        store: StoreSpec::Sqlite(path.to_owned()),
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: b"plant".to_vec(),
        bootstrap: Vec::new(),
        steps: Steps { first: 64, next: 64 },
    };
    Books::open_audited(settings, START_MS).unwrap()
}

/// Customers with their projects and keys, and what models cost.
fn furnish(books: &Books) -> Vec<Identity> {
    let mut records = Vec::new();
    for model in MODELS {
        let tiers = vec![Tier::flat("1 per 1M".parse().unwrap(), "3 per 1M".parse().unwrap())];
        let flat = PriceSpec::flat("standard", model, economics::Rate::ZERO, economics::Rate::ZERO);
        records.push(Record::Price(PriceSpec { tiers, ..flat }));
    }
    records.push(Record::Plan(Plan::plain("basic")));
    let mut keys = Vec::new();
    for customer in 0..CUSTOMERS {
        let (id, name, plan) = (format!("customer-{customer:02}"), format!("Customer {customer}"), "basic".to_owned());
        let (bounds, end_user_bounds) = (Bounds::default(), Bounds::default());
        records.push(Record::Organisation(Organisation {
            id: id.clone(),
            name,
            plan,
            credit: None,
            bounds,
            end_user_bounds,
            suspended: false,
        }));
        for project in 0..PROJECTS {
            let (text, project) = (format!("tw_{customer}_{project}"), format!("{id}-{project}"));
            records.push(Record::Project(Project {
                id: project.clone(),
                organisation: id.clone(),
                team: None,
                name: project.clone(),
                bounds: Bounds::default(),
                suspended: false,
                store_content: None,
            }));
            records.push(Record::Key(key(&project, books.hash_key(&text))));
            keys.push(text);
        }
    }
    for record in records {
        books.change(record, "bench", START_MS).unwrap();
    }
    keys.iter().map(|text| books.identify(text, "", START_MS).unwrap()).collect()
}

fn key(project: &str, hash: KeyHash) -> Key {
    Key {
        id: format!("{project}-key"),
        project: project.to_owned(),
        name: project.to_owned(),
        prefix: "tw_".to_owned(),
        hash,
        previous: None,
        scopes: [Scope::Inference].into(),
        owner: None,
        expires: None,
        revoked: false,
        bounds: Bounds::default(),
        max_priority: 0,
    }
}

fn fill(books: &Arc<Books>, requests: u64) {
    let begun = Instant::now();
    let identities = furnish(books);
    let sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    let version = books.take_plant_sheet(&sheet, START_MS).unwrap();
    let mut accountant = Accountant::open(books, (Plant::new(sheet).unwrap(), version), START_MS).unwrap();
    let intervals = DAYS * DAY_MS / INTERVAL_MS;
    let (mut number, mut flushed) = (0, 0);
    for interval in 0..intervals {
        let from_ms = START_MS + interval * INTERVAL_MS;
        // As many by now as is its part of all.
        let due = requests * (interval.unsigned_abs() + 1) / intervals.unsigned_abs();
        let finished: Vec<Finished> =
            (number..due).map(|number| request(books, &identities, number, from_ms)).collect();
        number = due;
        let each_ns = INTERVAL_NS / 2 / (finished.len() as u64).max(1);
        let busy = finished.iter().flat_map(|finished| {
            [(0, each_ns / 4), (1, each_ns / 4 * 3)].map(|(purpose, ns)| (Taker::Request(finished.holder, purpose), ns))
        });
        let usage = Usage { busy: busy.collect(), ended: Vec::new() };
        let to_ms = from_ms + INTERVAL_MS;
        let energy = energy(usage.busy_ns());
        for batch in accountant.close(Interval { from_ms, to_ms, energy, usage, finished }) {
            books.ledger().submit(&batch).unwrap();
        }
        if number - flushed >= PER_FLUSH {
            // What is not on the disk yet stands in memory.
            books.ledger().flush(WAIT).unwrap();
            flushed = number;
        }
    }
    books.ledger().flush(WAIT).unwrap();
    tell_outcomes(books, requests);
    println!("{requests} requests in {:.0} s", begun.elapsed().as_secs_f64());
}

fn request(books: &Arc<Books>, identities: &[Identity], number: u64, now_ms: i64) -> Finished {
    // Spread evenly, and the same in each run.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let pick = |count: usize, place: u32| (mixed >> place) as usize % count;
    let identity = &identities[pick(identities.len(), 0)];
    let metadata = Metadata {
        task: TASKS[pick(TASKS.len(), 8)].to_owned(),
        prompt_version: VERSIONS[pick(VERSIONS.len(), 12)].to_owned(),
        ..Metadata::default()
    };
    let user = format!("user-{}", pick(END_USERS, 24));
    let (input, output) = (100 + mixed % 900, 10 + mixed % 54);
    let admission = Admission {
        id: id_of(number),
        identity,
        model: MODELS[pick(MODELS.len(), 16)],
        base: None,
        input,
        max_output: output,
        tag: TAGS[pick(TAGS.len(), 20)],
        user: &user,
        metadata: &metadata,
        now_ms,
    };
    let mut ticket = books.admit(admission).unwrap();
    let quantities = Quantities { in_uncached: input, out_visible: output, ..Quantities::default() };
    let settled = ticket.settle(&quantities, End::Stop, now_ms).unwrap();
    drop(settled);
    let holder = Holder { line: 0, request: number };
    Finished {
        holder,
        id: id_of(number),
        context: ticket.context().clone(),
        quantities,
        traffic: Traffic { received: 400, sent: 900 },
    }
}

/// Begins with the number, as ids of the server do with the time; their last byte tells a request from its cost.
fn id_of(number: u64) -> EntryId {
    EntryId((u128::from(number) << 64).to_be_bytes())
}

/// 8 W idle, 28 W when busy.
fn energy(busy_ns: u64) -> Energy {
    let (idle_uj, active_uj) = (INTERVAL_NS / 125, busy_ns / 50);
    let total_uj = idle_uj + active_uj;
    Energy { total_uj, idle_uj, active_uj, interval_ns: INTERVAL_NS, busy_ns, source: EnergySource::Estimated }
}

fn tell_outcomes(books: &Books, requests: u64) {
    let now_ms = START_MS + DAYS * DAY_MS;
    // Any project's: the plant's own word.
    for number in (0..requests).step_by(PER_OUTCOME) {
        let settled = books.ledger().entry_by_id(id_of(number)).unwrap().unwrap();
        let context = economics::books::detail::Settlement::read(&settled).unwrap().context;
        let owner = Owner { organisation: context.organisation, project: context.project, any: false };
        let outcome = Outcome {
            id: format!("outcome-{number}"),
            revision: 1,
            kind: "ticket_resolved".to_owned(),
            value: Nano(1_000_000_000 + (number % 997).cast_signed() * 1_000_000),
            saved: None,
            valuation: Valuation::Measured,
            accepted: number % 3 != 0,
            occurred_ms: None,
            attribution: Attribution::Requests(vec![(id_of(number), 1000)]),
            maturity_days: 7,
            remarks: Remarks::default(),
        };
        books.tell_outcome(&owner, &outcome, now_ms).unwrap();
    }
}

/// Each report three times, and what all of them rest on.
fn read(books: &Books) {
    let ledger = books.ledger();
    let span = (START_MS, START_MS + DAYS * DAY_MS);
    let customers: Vec<String> = (0..CUSTOMERS).map(|customer| format!("customer-{customer:02}")).collect();
    let now_ms = span.1 + 30 * DAY_MS;
    let teams = HashMap::new();
    let ask =
        |by| TfpAsk { organisations: &customers, span_ms: span, by, now_ms, top: 100, teams: &teams, weigh: None };
    let tfp = |by: TfpBy| rollup::tfp(ledger, &ask(by)).unwrap().rows.len();
    let by_user = TfpBy { end_user: true, ..TfpBy::default() };
    let weeks = week_of(span.1 / DAY_MS) + 1;
    let retained = || rollup::activity(ledger, &customers, weeks, Unit::EndUser).unwrap().unwrap().units as usize;
    let by_version = TfpBy { prompt_version: true, ..TfpBy::default() };
    let by_all = TfpBy { organisation: true, model: true, prompt_version: true, task: true, ..TfpBy::default() };
    let usage = GroupBy { organisation: true, model: true, tag: true, day: true };
    let days = CostGroups { organisation: true, model: true, day: true, ..CostGroups::default() };
    let hours = CostGroups { organisation: true, project: true, hour: true, ..CostGroups::default() };
    let ask = |by| CostAsk { span_ms: span, by, teams: &teams, with_sales: true, now_ms };
    let costs = |by| rollup::grouped_costs(ledger, &ask(by)).unwrap().unwrap().len();
    timed("statement of the plant", || income(ledger, span).unwrap().models.len());
    timed("usage by customer, model, tag, day", || rollup::grouped_report(ledger, span, usage).unwrap().unwrap().len());
    timed("margins by customer, model, day", || costs(days));
    timed("margins by customer, project, hour", || costs(hours));
    timed("TFP of all", || tfp(TfpBy::default()));
    timed("TFP by prompt version", || tfp(by_version));
    timed("TFP by end user", || tfp(by_user));
    timed("products of the plant", || products(ledger, &customers, span, &|_, _| None).unwrap().tokens.len());
    timed("end users by week", retained);
    timed("TFP by customer, model, version, task", || tfp(by_all));
    let begun = Instant::now();
    let verified = ledger.verify().unwrap();
    let (entries, tallies) = (verified.entries, verified.tallies);
    println!("all recomputed in {:.1} s: {entries} entries, {tallies} sums", begun.elapsed().as_secs_f64());
}

fn timed(what: &str, mut report: impl FnMut() -> usize) {
    let mut seconds = [0.0; 3];
    let mut rows = 0;
    for seconds in &mut seconds {
        let begun = Instant::now();
        rows = report();
        *seconds = begun.elapsed().as_secs_f64();
    }
    let [first, second, third] = seconds;
    println!("{what:<40} {rows:>6} rows  {first:.3} {second:.3} {third:.3} s");
}
