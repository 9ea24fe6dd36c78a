//! Seeded interleavings of everything that happens to requests (with crashes, duplicates, changed budgets, answers that
//! are taken back, credit notes and a jumping clock), judged by an auditor that reads nothing but the ledger's entries and
//! its own list of what happened outside.

use std::collections::{HashMap, HashSet};

use ledger::Entry;
use metering::Unfinished;

use super::*;
use crate::books::detail::{CreditNote, Settlement, entry_kind};
use crate::directory::record::Team;
use crate::limits::Limits;

/// Seeds run without asking; `TOKENWORKS_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 100;
const STEPS: u64 = 160;
const THREADS: usize = 4;
/// Nano a token: of the prompt, of the answer; the second model costs less after 150 tokens of it.
const PLAIN: (i64, i64) = (7, 20);
const TIERED: [(u64, i64); 2] = [(0, 9), (150, 4)];
const POOL_TOKENS: i64 = 300;
const BUDGETS: [(&str, i64); 4] =
    [("key/k1", 9_000), ("project/web", 14_000), ("team/red", 15_000), ("organisation/acme", 16_000)];

const END_USERS: [&str; 3] = ["", "ann", "bob"];
const END_USER_BUDGET: i64 = 2_500;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Running {
    ticket: Ticket,
    made: u64,
}

struct Simulation {
    random: Random,
    plant: Plant,
    now_ms: i64,
    running: Vec<Running>,
    /// Pages of the journal without an end.
    pages: HashMap<[u8; 16], Unfinished>,
    /// Requests that were settled here.
    settled: Vec<[u8; 16]>,
    outside: Outside,
    counts: Counts,
}

/// What customers and administrators know.
struct Outside {
    /// What clients received, by request.
    received: HashMap<[u8; 16], Quantities>,
    /// Answers that had not left after all.
    undone: HashSet<[u8; 16]>,
    /// Sums of the credit notes.
    credited: HashMap<[u8; 16], i64>,
    /// The budgets, as [`BUDGETS`].
    bounds: [Bound; 4],
}

/// A budget as it is now, and the largest it ever was; `None`: once it was soft.
#[derive(Clone, Copy)]
struct Bound {
    amount: i64,
    soft: bool,
    largest: Option<i64>,
}

#[derive(Default)]
struct Counts {
    crashes: u64,
    limited: u64,
    charged: u64,
    changes: u64,
    undone: u64,
    credited: u64,
}

impl Counts {
    fn add(&mut self, more: &Self) {
        let Self { crashes, limited, charged, changes, undone, credited } = more;
        self.crashes += crashes;
        self.limited += limited;
        self.charged += charged;
        self.changes += changes;
        self.undone += undone;
        self.credited += credited;
    }
}

fn monthly(amount: i64, soft: bool) -> Budget {
    Budget { amount: Nano(amount), period: Period::Month, soft, alert_percent: vec![80] }
}

fn bounded(amount: i64) -> Bounds {
    Bounds { budget: Some(monthly(amount, false)), ..Bounds::default() }
}

/// What differs between worlds.
#[derive(Clone, Copy, Debug)]
struct Offer {
    then: PoolEnd,
    discount_permille: u16,
}

impl Offer {
    fn of(seed: u64) -> Self {
        let then = if seed.is_multiple_of(4) { PoolEnd::Stop } else { PoolEnd::Overage };
        Self { then, discount_permille: [0, 75, 0, 333][usize::try_from(seed % 4).unwrap()] }
    }

    /// What a list price comes to, halves to even.
    fn discount_on(self, list: i64) -> i64 {
        let taken = list * i64::from(self.discount_permille);
        let (whole, rest) = (taken / 1_000, taken % 1_000);
        whole + i64::from(rest > 500 || (rest == 500 && whole % 2 == 1))
    }
}

fn world(offer: Offer) -> Plant {
    let rate = |nano: i64| Rate::from_pico(nano * 1_000).unwrap();
    let tiers = TIERED.map(|(volume_from, nano)| Tier { volume_from, ..Tier::flat(rate(nano), rate(nano)) });
    let weights = Weights { output: 2_000, ..Weights::default() };
    let tokens = u64::try_from(POOL_TOKENS).unwrap();
    let Offer { then, discount_permille } = offer;
    let pool = Some(Pool { tokens, weights, then });
    let plan = Plan { pool, discount_permille, ..Plan::plain("basic") };
    let plant = plant_with(vec![Tier::flat(rate(PLAIN.0), rate(PLAIN.1))], plan, bounded(BUDGETS[0].1));
    let team =
        Team { id: "red".into(), organisation: "acme".into(), name: "Red".into(), bounds: bounded(BUDGETS[2].1) };
    let project = Project {
        team: Some("red".into()),
        bounds: Bounds {
            limits: Limits { concurrent_requests: Some(9), output_tokens_per_minute: Some(400), ..Limits::default() },
            ..bounded(BUDGETS[1].1)
        },
        ..plant.books.directory().project("web").unwrap().clone()
    };
    for record in [
        Record::Price(PriceSpec {
            tiers: tiers.to_vec(),
            ..PriceSpec::flat("standard", "tiered", Rate::ZERO, Rate::ZERO)
        }),
        Record::Team(team),
        Record::Project(project),
        Record::Organisation(Organisation {
            bounds: bounded(BUDGETS[3].1),
            end_user_bounds: bounded(END_USER_BUDGET),
            ..organisation(None)
        }),
    ] {
        plant.books.change(record, "admin", NOW).unwrap();
    }
    plant
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let bounds = BUDGETS.map(|(_, amount)| Bound { amount, soft: false, largest: Some(amount) });
        let (received, undone, credited) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self {
            random: Random(seed),
            plant: world(Offer::of(seed)),
            now_ms: NOW,
            running: Vec::new(),
            pages: HashMap::new(),
            settled: Vec::new(),
            outside: Outside { received, undone, credited, bounds },
            counts: Counts::default(),
        }
    }

    fn step(&mut self) {
        // Within the month, since pool and budgets of one window are audited.
        self.now_ms = NOW + i64::try_from(self.random.below(14 * 86_400_000)).unwrap() - 7 * 86_400_000;
        match self.random.below(24) {
            0..6 => self.admit(),
            6..13 => self.stream(),
            13..17 => self.end(),
            17 => self.duplicate(),
            18 => drop(self.pick()),
            19..21 => self.change(),
            21 => self.undo(),
            22 => self.credit(),
            _ if self.random.below(4) == 0 => self.crash(),
            _ => self.plant.books.ledger().flush(DURABLE_WAIT).unwrap(),
        }
    }

    fn pick(&mut self) -> Option<Running> {
        let count = u64::try_from(self.running.len()).unwrap();
        (count > 0).then(|| self.running.swap_remove(usize::try_from(self.random.below(count)).unwrap()))
    }

    fn admit(&mut self) {
        let identity = self.plant.books.identify("tw_one", "", self.now_ms).unwrap();
        let model = if self.random.below(2) == 0 { MODEL } else { "tiered" };
        let (input, max_output) = (self.random.below(40), self.random.below(80));
        let (id, identity) = (next_id(), &identity);
        let user = END_USERS[usize::try_from(self.random.below(3)).unwrap()];
        let admission = Admission {
            id,
            identity,
            model,
            base: None,
            input,
            max_output,
            tag: "",
            user,
            metadata: Metadata::NONE,
            now_ms: self.now_ms,
        };
        match self.plant.books.admit(admission) {
            Ok(ticket) => {
                self.pages.insert(id.0, Unfinished { id: id.0, start: ticket.page(), progress: None });
                self.running.push(Running { ticket, made: 0 });
            }
            Err(AdmitError::Limited(_)) => self.counts.limited += 1,
            Err(AdmitError::Held | AdmitError::Spent { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// One piece: journaled, then delivered.
    fn stream(&mut self) {
        let Some(mut running) = self.pick() else { return };
        if running.made == running.ticket.allowance() {
            let _granted = running.ticket.extend(self.now_ms);
        }
        let most = running.ticket.allowance() - running.made;
        running.made += self.random.below(most + 1);
        self.deliver(&mut running);
        self.running.push(running);
    }

    fn deliver(&mut self, running: &mut Running) {
        let id = running.ticket.id().0;
        let input = running.ticket.held.ask.input;
        let quantities = Quantities { in_uncached: input / 2, in_cached: input - input / 2, ..used(0, running.made) };
        let bytes = running.ticket.progress(&quantities);
        self.pages.get_mut(&id).unwrap().progress = Some(bytes);
        self.outside.received.insert(id, quantities);
    }

    fn end(&mut self) {
        let Some(mut running) = self.pick() else { return };
        let id = running.ticket.id().0;
        if self.random.below(5) == 0 && !self.outside.received.contains_key(&id) {
            running.ticket.void(self.now_ms).unwrap();
        } else {
            self.deliver(&mut running);
            let settled = running.ticket.settle(&self.outside.received[&id], End::Stop, self.now_ms).unwrap();
            self.settled.push(id);
            if self.random.below(2) == 0 {
                settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
                self.pages.remove(&id);
            }
        }
    }

    /// The id of a request that runs or ended, with the same or another body.
    fn duplicate(&mut self) {
        let identity = self.plant.books.identify("tw_one", "", self.now_ms).unwrap();
        let Some(id) = self.outside.received.keys().min().copied() else { return };
        let (id, identity) = (EntryId(id), &identity);
        let input = self.random.below(3);
        let admission = Admission {
            id,
            identity,
            model: MODEL,
            base: None,
            input,
            max_output: 1,
            tag: "",
            user: "",
            metadata: Metadata::NONE,
            now_ms: self.now_ms,
        };
        // When a limit is reached or the money is spent, that is said first.
        let refused = self.plant.books.admit(admission).map(drop).unwrap_err();
        let known = matches!(
            refused,
            AdmitError::Duplicate | AdmitError::Limited(_) | AdmitError::Held | AdmitError::Spent { .. }
        );
        assert!(known, "{refused}");
    }

    /// Another amount for a budget, near what is spent, now soft, now hard. Project and organisation stay hard, for the
    /// auditor's sake.
    fn change(&mut self) {
        let level = usize::try_from(self.random.below(4)).unwrap();
        let (name, most) = BUDGETS[level];
        let ledger = self.plant.books.ledger();
        let account = ledger.account(&format!("budget/{name}/month/2026-11-01")).unwrap();
        let spent = account.map_or(0, |account| -ledger.balance(account).unwrap().unwrap().posted);
        let more = i64::try_from(self.random.below(most.cast_unsigned() / 3)).unwrap();
        let (amount, soft) = ((spent + more - 300).max(0), level.is_multiple_of(2) && !self.outside.bounds[level].soft);
        let record = {
            let directory = self.plant.books.directory();
            let with = |bounds: &Bounds| Bounds { budget: Some(monthly(amount, soft)), ..bounds.clone() };
            match level {
                0 => {
                    let key = directory.key("k1").unwrap().clone();
                    Record::Key(Key { bounds: with(&key.bounds), ..key })
                }
                1 => {
                    let project = directory.project("web").unwrap().clone();
                    Record::Project(Project { bounds: with(&project.bounds), ..project })
                }
                2 => {
                    let team = directory.teams("acme").next().unwrap().clone();
                    Record::Team(Team { bounds: with(&team.bounds), ..team })
                }
                _ => {
                    let acme = directory.organisation("acme").unwrap().clone();
                    Record::Organisation(Organisation { bounds: with(&acme.bounds), ..acme })
                }
            }
        };
        self.plant.books.change(record, "admin", self.now_ms).unwrap();
        let bound = &mut self.outside.bounds[level];
        let largest = bound.largest.filter(|_| !soft).map(|largest| largest.max(amount));
        *bound = Bound { amount, soft, largest };
        self.counts.changes += 1;
    }

    fn any_settled(&mut self) -> Option<[u8; 16]> {
        let count = u64::try_from(self.settled.len()).unwrap();
        (count > 0).then(|| self.settled[usize::try_from(self.random.below(count)).unwrap()])
    }

    /// An answer does not leave: of a request that runs, and of one that was settled.
    fn undo(&mut self) {
        if let Some(mut running) = self.pick() {
            let id = running.ticket.id().0;
            if self.outside.received.contains_key(&id) {
                self.running.push(running);
            } else {
                running.ticket.undo(self.now_ms).unwrap();
                self.pages.remove(&id);
            }
        }
        let Some(id) = self.any_settled() else { return };
        let undone = self.plant.books.undo(EntryId(id), self.now_ms);
        if self.outside.credited.contains_key(&id) {
            assert!(undone.is_err_and(|error| !error.is_temporary()), "more than was charged");
        } else {
            undone.unwrap();
            self.outside.undone.insert(id);
        }
    }

    /// A part of a charge is given back.
    fn credit(&mut self) {
        let Some(id) = self.any_settled().filter(|id| !self.outside.undone.contains(id)) else { return };
        let charge = self.plant.books.charge_of(EntryId(id)).unwrap().unwrap();
        let given = self.outside.credited.get(&id).copied().unwrap_or(0);
        let left = (charge.list().0 - charge.discount.0 - given).cast_unsigned();
        if left > 0 {
            let amount = i64::try_from(1 + self.random.below(left)).unwrap();
            let reference = format!("after {given}");
            self.plant.books.credit(EntryId(id), Nano(amount), (&reference, "", "admin"), self.now_ms).unwrap();
            self.outside.credited.insert(id, given + amount);
        }
    }

    fn crash(&mut self) {
        self.counts.crashes += 1;
        let after = crash::image(&self.plant);
        let pages: Vec<Unfinished> = self.pages.drain().map(|(_, page)| page).collect();
        let recovered = after.books.recover(&pages, self.now_ms).unwrap();
        assert!(recovered.failed.is_empty(), "{recovered:?}");
        self.running.clear();
        self.plant = after;
    }

    fn finish(mut self, offer: Offer) -> Counts {
        self.running.clear();
        self.plant.check();
        let entries = self.plant.books.ledger().entries(1, 10_000).unwrap();
        audit((&self.plant, offer), &entries, &self.outside);
        let Outside { received, undone, credited, .. } = &self.outside;
        let [charged, undone, credited] =
            [received.len(), undone.len(), credited.len()].map(|count| u64::try_from(count).unwrap());
        Counts { charged, undone, credited, ..self.counts }
    }
}

/// What the auditor finds of one charge.
struct Charged {
    quantities: Quantities,
    pool: i64,
    money: i64,
    user: String,
}

/// All charges, recomputed from the entries in their order with arithmetic of its own; and the tokens of the tiered model.
fn charges(offer: Offer, entries: &[Entry]) -> (HashMap<[u8; 16], Charged>, i64) {
    let (mut volume, mut charged) = (0, HashMap::new());
    for entry in entries.iter().filter(|entry| entry.kind == entry_kind::SETTLED) {
        let settled = Settlement::read(entry).unwrap();
        let all = settled.quantities;
        let (input, output) = (i64::try_from(all.input()).unwrap(), i64::try_from(all.output()).unwrap());
        let pooled_in = i64::try_from(settled.pooled.input()).unwrap();
        let pooled_out = i64::try_from(settled.pooled.output()).unwrap();
        assert!(pooled_out == 0 || pooled_in == input, "input counts first");
        assert_eq!(settled.pool_units, pooled_in * 1_000 + pooled_out * 2_000);
        let rest = (input - pooled_in, output - pooled_out);
        let price = if settled.context.model == MODEL {
            rest.0 * PLAIN.0 + rest.1 * PLAIN.1
        } else {
            let from = volume + pooled_in + pooled_out;
            volume += input + output;
            let tiered = |at: i64| if at < 150 { TIERED[0].1 } else { TIERED[1].1 };
            (from..from + rest.0 + rest.1).map(tiered).sum()
        };
        assert!(offer.then == PoolEnd::Overage || rest == (0, 0), "a plan that stops charges no money");
        assert_eq!(settled.list(), Nano(price), "{settled:?}");
        assert_eq!(settled.discount.0, offer.discount_on(price));
        let (pool, money, user) = (settled.pool_units, price - settled.discount.0, settled.context.user);
        let charge = Charged { quantities: all, pool, money, user };
        assert!(charged.insert(entry.id.unwrap().0, charge).is_none(), "charged twice");
    }
    (charged, volume)
}

fn audit((plant, offer): (&Plant, Offer), entries: &[Entry], outside: &Outside) {
    let (charged, volume) = charges(offer, entries);
    let received = &outside.received;
    // Every client's tokens are charged, and only those.
    for (id, quantities) in received {
        assert_eq!(charged.get(id).map(|charge| &charge.quantities), Some(quantities), "received {quantities:?}");
    }
    assert!(charged.keys().all(|id| received.contains_key(id)));
    // What was given back is what was asked for.
    let mut given = HashMap::<[u8; 16], i64>::new();
    for note in entries.iter().filter_map(CreditNote::read) {
        *given.entry(note.request).or_default() += note.amount.0;
    }
    for (id, charge) in &charged {
        let undone = if outside.undone.contains(id) { charge.money } else { 0 };
        let due = outside.credited.get(id).copied().unwrap_or(0) + undone;
        assert_eq!(given.get(id).copied().unwrap_or(0), due);
    }
    let back: i64 = given.values().sum();
    // A credit note gives money back, an undone request leaves nothing but its volume.
    let (mut pool, mut money, mut by_user) = (0, 0, HashMap::<&str, i64>::new());
    for (_, charge) in charged.iter().filter(|(id, _)| !outside.undone.contains(*id)) {
        pool += charge.pool;
        money += charge.money;
        *by_user.entry(&charge.user).or_default() += charge.money;
    }
    if charged.is_empty() {
        return;
    }
    let gross: i64 = charged.values().map(|charge| charge.money).sum();
    assert_eq!(plant.balance("org/acme/money").posted, back - gross);
    assert_eq!(plant.balance("plant/volume").posted, -volume);
    assert!(pool <= POOL_TOKENS * 1_000);
    assert_eq!(plant.balance("plant/pool").posted, pool);
    for (user, money) in by_user.iter().filter(|(user, _)| !user.is_empty()) {
        let spent = -plant.balance(&format!("budget/end-user/acme/{user}/month/2026-11-01")).posted;
        assert_eq!(spent, *money, "{user}");
        assert!(spent <= END_USER_BUDGET, "{user}: {spent}");
    }
    for ((level, _), bound) in BUDGETS.into_iter().zip(outside.bounds) {
        let balance = plant.balance(&format!("budget/{level}/month/2026-11-01"));
        assert_eq!(-balance.posted, money, "{level}");
        assert_eq!(balance.floor, (!bound.soft).then_some(-bound.amount), "{level}");
        assert!(bound.largest.is_none_or(|largest| money <= largest), "{level}: {money}");
    }
}

/// Names the seed of a test that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.0);
        }
    }
}

fn simulate(seed: u64) -> Counts {
    let named = Seed(seed);
    let mut simulation = Simulation::new(named.0);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.finish(Offer::of(seed))
}

#[test]
fn every_interleaving_leaves_right_books() {
    let seeds = std::env::var("TOKENWORKS_SIMULATION_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let next = AtomicU64::new(0);
    // Most of the time goes by in waits for the disk.
    let work = || {
        let mut sum = Counts::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < seeds => sum.add(&simulate(seed)),
                _ => return sum,
            }
        }
    };
    let mut sum = Counts::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| sum.add(&thread.join().unwrap()));
    });
    let Counts { crashes, limited, charged, changes, undone, credited } = sum;
    println!(
        "books simulated: {seeds} seeds, {STEPS} steps each, {crashes} crashes, {limited} refused by limits, {changes} budgets \
         changed, {charged} charged requests, {undone} undone, {credited} credited, all right"
    );
    assert!(crashes > seeds / 2 && charged > 10 * seeds && limited > seeds / 4);
    assert!(changes > seeds && undone > seeds && credited > seeds / 3);
}
