//! Seeded interleavings of everything that happens to requests (with crashes, duplicates and a jumping clock), judged by
//! an auditor that reads nothing but the ledger's entries and its own list of what clients received.

use std::collections::HashMap;

use ledger::Entry;
use metering::Unfinished;

use super::*;
use crate::books::detail::{Settlement, entry_kind};
use crate::directory::record::Team;
use crate::limits::Limits;

/// Seeds run without asking; `TOKENWORKS_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 16;
const STEPS: u64 = 160;
/// Nano a token: of the prompt, of the answer; the second model costs less after 300 tokens of it.
const PLAIN: (i64, i64) = (7, 20);
const TIERED: [(u64, i64); 2] = [(0, 9), (300, 4)];
const POOL_TOKENS: i64 = 900;
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
    /// What clients received, by request.
    received: HashMap<[u8; 16], Quantities>,
    crashes: u64,
    limited: u64,
}

fn bounded(amount: i64) -> Bounds {
    let budget = Budget { amount: Nano(amount), period: Period::Month, soft: false, alert_percent: vec![80] };
    Bounds { budget: Some(budget), ..Bounds::default() }
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
    fn step(&mut self) {
        // Within the month, since pool and budgets of one window are audited.
        self.now_ms = NOW + i64::try_from(self.random.below(14 * 86_400_000)).unwrap() - 7 * 86_400_000;
        match self.random.below(20) {
            0..6 => self.admit(),
            6..13 => self.stream(),
            13..17 => self.end(),
            17 => self.duplicate(),
            18 => drop(self.pick()),
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
        let admission = Admission { id, identity, model, input, max_output, tag: "", user, now_ms: self.now_ms };
        match self.plant.books.admit(admission) {
            Ok(ticket) => {
                self.pages.insert(id.0, Unfinished { id: id.0, start: ticket.page(), progress: None });
                self.running.push(Running { ticket, made: 0 });
            }
            Err(AdmitError::Limited(_)) => self.limited += 1,
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
        self.received.insert(id, quantities);
    }

    fn end(&mut self) {
        let Some(mut running) = self.pick() else { return };
        let id = running.ticket.id().0;
        if self.random.below(5) == 0 && !self.received.contains_key(&id) {
            running.ticket.void(self.now_ms).unwrap();
        } else {
            self.deliver(&mut running);
            let settled = running.ticket.settle(&self.received[&id], End::Stop, self.now_ms).unwrap();
            if self.random.below(2) == 0 {
                settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
                self.pages.remove(&id);
            }
        }
    }

    /// The id of a request that runs or ended, with the same or another body.
    fn duplicate(&mut self) {
        let identity = self.plant.books.identify("tw_one", "", self.now_ms).unwrap();
        let Some(id) = self.received.keys().min().copied() else { return };
        let (id, identity) = (EntryId(id), &identity);
        let input = self.random.below(3);
        let admission =
            Admission { id, identity, model: MODEL, input, max_output: 1, tag: "", user: "", now_ms: self.now_ms };
        // When a limit is reached or the money is spent, that is said first.
        let refused = self.plant.books.admit(admission).map(drop).unwrap_err();
        let known = matches!(
            refused,
            AdmitError::Duplicate | AdmitError::Limited(_) | AdmitError::Held | AdmitError::Spent { .. }
        );
        assert!(known, "{refused}");
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let after = crash::image(&self.plant);
        let pages: Vec<Unfinished> = self.pages.drain().map(|(_, page)| page).collect();
        let recovered = after.books.recover(&pages, self.now_ms).unwrap();
        assert!(recovered.failed.is_empty(), "{recovered:?}");
        self.running.clear();
        self.plant = after;
    }

    fn finish(mut self, offer: Offer) -> (u64, u64) {
        self.running.clear();
        self.plant.check();
        let entries = self.plant.books.ledger().entries(1, 10_000).unwrap();
        audit((&self.plant, offer), &entries, &self.received);
        (self.crashes, self.limited)
    }
}

/// Everything is recomputed from the entries in their order, with arithmetic of its own.
fn audit((plant, offer): (&Plant, Offer), entries: &[Entry], received: &HashMap<[u8; 16], Quantities>) {
    let (mut volume, mut pool, mut money) = (0, 0, 0);
    let (mut charged, mut by_user) = (HashMap::new(), HashMap::<String, i64>::new());
    for entry in entries.iter().filter(|entry| entry.kind == entry_kind::SETTLED) {
        let settled = Settlement::read(entry).unwrap();
        let id = entry.id.unwrap().0;
        assert!(charged.insert(id, settled.quantities).is_none(), "charged twice");
        let all = settled.quantities;
        let (input, output) = (i64::try_from(all.input()).unwrap(), i64::try_from(all.output()).unwrap());
        let pooled_in = i64::try_from(settled.pooled.input()).unwrap();
        let pooled_out = i64::try_from(settled.pooled.output()).unwrap();
        assert!(pooled_out == 0 || pooled_in == input, "input counts first");
        assert_eq!(settled.pool_units, pooled_in * 1_000 + pooled_out * 2_000);
        pool += settled.pool_units;
        let rest = (input - pooled_in, output - pooled_out);
        let price = if settled.context.model == MODEL {
            rest.0 * PLAIN.0 + rest.1 * PLAIN.1
        } else {
            let from = volume + pooled_in + pooled_out;
            volume += input + output;
            let tiered = |at: i64| if at < 300 { TIERED[0].1 } else { TIERED[1].1 };
            (from..from + rest.0 + rest.1).map(tiered).sum()
        };
        assert!(offer.then == PoolEnd::Overage || rest == (0, 0), "a plan that stops charges no money");
        assert_eq!(settled.list(), Nano(price), "{settled:?}");
        assert_eq!(settled.discount.0, offer.discount_on(price));
        money += price - settled.discount.0;
        *by_user.entry(settled.context.user).or_default() += price - settled.discount.0;
    }
    // Every client's tokens are charged, and only those.
    for (id, quantities) in received {
        assert_eq!(charged.get(id), Some(quantities), "received {quantities:?}");
    }
    for (id, quantities) in &charged {
        assert_eq!(received.get(id), Some(quantities));
    }
    assert!(pool <= POOL_TOKENS * 1_000);
    if pool > 0 {
        assert_eq!(plant.balance("org/acme/pool/2026-11-01").posted, -pool);
    }
    for (user, money) in by_user.iter().filter(|(user, _)| !user.is_empty()) {
        let spent = -plant.balance(&format!("budget/end-user/acme/{user}/month/2026-11-01")).posted;
        assert_eq!(spent, *money, "{user}");
        assert!(spent <= END_USER_BUDGET, "{user}: {spent}");
    }
    for (level, amount) in BUDGETS.into_iter().filter(|_| !charged.is_empty()) {
        let spent = -plant.balance(&format!("budget/{level}/month/2026-11-01")).posted;
        assert_eq!(spent, money, "{level}");
        assert!(spent <= amount, "{level}: {spent} of {amount}");
    }
}

#[test]
fn every_interleaving_leaves_right_books() {
    let (mut crashes, mut limited, mut charged) = (0, 0, 0);
    let seeds = std::env::var("TOKENWORKS_SIMULATION_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let offer = Offer::of(seed);
        let plant = world(offer);
        let (pages, received) = (HashMap::new(), HashMap::new());
        let random = Random(seed);
        let mut simulation =
            Simulation { random, plant, now_ms: NOW, running: Vec::new(), pages, received, crashes: 0, limited: 0 };
        for _ in 0..STEPS {
            simulation.step();
        }
        charged += simulation.received.len();
        let (crashed, refused) = simulation.finish(offer);
        (crashes, limited) = (crashes + crashed, limited + refused);
    }
    println!(
        "books simulated: {seeds} seeds, {STEPS} steps each, {crashes} crashes, {limited} refused by limits, {charged} charged \
         requests, all right"
    );
    assert!(crashes > seeds / 2 && charged > 300 && limited > seeds);
}
