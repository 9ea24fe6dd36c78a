//! Experiments in the books: a unit's first arm is kept for good, what counts for it is counted once, and is verified.

use serde_json::{Value, json};

use super::*;
use crate::books::detail::{Joined, entry_kind};
use crate::books::outcome_detail::{Counted, Owner, Valued};
use crate::outcome::{Attribution, Outcome, Remarks, Valuation};
use crate::rollup::{UnitRow, UnitSums, experiment_units};

const CALLER: (&str, &str) = ("acme", "web");

/// Of two arms alike, and one without answers.
fn experiment(change: &Value) -> Record {
    let mut value = json!({"id": "tone", "organisation": "acme", "unit": "user", "window_days": 2, "arms": [
        {"name": "plain", "weight": 450}, {"name": "warm", "weight": 450, "model": MODEL},
        {"name": "none", "weight": 100, "held_out": true}]});
    for (name, new) in change.as_object().unwrap() {
        value[name] = new.clone();
    }
    Record::parse(Kind::Experiment, value).unwrap()
}

fn weights(plain: u16, warm: u16) -> Value {
    json!([{"name": "plain", "weight": plain}, {"name": "warm", "weight": warm, "model": MODEL},
        {"name": "none", "weight": 100, "held_out": true}])
}

fn outcome(id: &str, units: i64, attribution: Attribution) -> Outcome {
    Outcome {
        id: id.into(),
        revision: 1,
        kind: "ticket_resolved".into(),
        value: Nano(units),
        saved: None,
        valuation: Valuation::Measured,
        accepted: true,
        occurred_ms: None,
        attribution,
        maturity_days: 7,
        remarks: Remarks::default(),
    }
}

fn of_unit(unit: &str) -> Attribution {
    Attribution::Unit { experiment: "tone".into(), unit: unit.into() }
}

impl Plant {
    fn place(&self, unit: &str, arm: usize, now_ms: i64) -> (usize, Result<Joined, NotCounted>) {
        let placed = self.books.assign(CALLER, ("tone", unit), |_| Ok(arm), now_ms).unwrap();
        (placed.arm, placed.joined)
    }

    /// A request of an end user that has ended.
    fn asked(&self, user: &str, joined: Joined, tokens: (u64, u64), now_ms: i64) -> EntryId {
        let id = next_id();
        self.asks(id, user, joined, tokens, now_ms);
        id
    }

    fn asks(&self, id: EntryId, user: &str, joined: Joined, (input, output): (u64, u64), now_ms: i64) {
        let metadata = Metadata { joined: Some(joined), ..Metadata::default() };
        let identity = self.books.identify("tw_one", "", now_ms).unwrap();
        let (identity, max_output, metadata) = (&identity, output, &metadata);
        let (model, base, tag) = (MODEL, None, "");
        let admission = Admission { id, identity, model, base, input, max_output, tag, user, metadata, now_ms };
        let mut ticket = self.books.admit(admission).unwrap();
        ticket.settle(&used(input, output), End::Stop, now_ms).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    }

    fn tells(&self, outcome: &Outcome, now_ms: i64) -> Result<Told, OutcomeError> {
        let owner = Owner { organisation: "acme".into(), project: "web".into(), any: false };
        self.books.tell_outcome(&owner, outcome, now_ms)
    }

    fn units(&self) -> Vec<UnitRow> {
        let mut rows = Vec::new();
        experiment_units(self.books.ledger(), "tone", |row| {
            rows.push(row);
            true
        })
        .unwrap();
        rows
    }

    fn unit(&self, unit: &str) -> UnitSums {
        self.units().into_iter().find(|row| row.unit == unit).unwrap().sums
    }
}

fn field(error: impl Into<PostError>) -> String {
    match error.into() {
        PostError::Invalid(error) => error.field,
        other => panic!("{other:?}"),
    }
}

fn told_field(result: Result<Told, OutcomeError>) -> String {
    match result.unwrap_err() {
        OutcomeError::Post(error) => field(error),
        OutcomeError::Conflict(error) => error.field,
    }
}

#[test]
fn the_first_arm_of_a_unit_stays_over_weights_replays_and_restarts() {
    let mut plant = plant(Bounds::default());
    plant.books.change(experiment(&json!({})), "admin", NOW).unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("user {n}")).collect();
    let arm = |n: usize| n % 3;
    let first: Vec<_> = names.iter().enumerate().map(|(n, unit)| plant.place(unit, arm(n), NOW)).collect();
    for (n, (at, joined)) in first.iter().enumerate() {
        let joined = joined.as_ref().unwrap();
        assert_eq!((*at, joined.stretch, joined.until_ms), (arm(n), 1, NOW + 2 * DAY_MS));
        assert_eq!(joined.propensity_permille, [450, 450, 100][arm(n)]);
    }
    plant.books.change(experiment(&json!({"arms": weights(100, 800)})), "admin", NOW + 5).unwrap();
    for round in 0..2 {
        for (n, unit) in names.iter().enumerate() {
            // Whatever is drawn now.
            assert_eq!(plant.place(unit, (arm(n) + 1) % 3, NOW + 10), first[n], "round {round}");
        }
        let Plant { books, folder } = plant;
        drop(books);
        let books = Books::open(settings(&folder.path().join("books.db")), NOW + 10).unwrap();
        plant = Plant { books, folder };
    }
    let late = plant.place("late", 1, NOW + 20).1.unwrap();
    assert_eq!((late.stretch, late.propensity_permille), (2, 800));
    let known = plant.books.experiment_weights("tone").unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [(1, vec![450, 450, 100]), (2, vec![100, 800, 100])]);
    assert_eq!((plant.units().len(), plant.balance("plant/experiments/tone").posted), (41, 41));

    plant
        .books
        .change(
            experiment(&json!({"arms": weights(100, 800), "state": "stopped", "winner": "warm"})),
            "admin",
            NOW + 30,
        )
        .unwrap();
    assert_eq!(plant.place(&names[0], 0, NOW + 40), (1, Err(NotCounted::Stopped)));
    assert_eq!(plant.place("new", 0, NOW + 40), (1, Err(NotCounted::Stopped)));
    assert_eq!(plant.units().len(), 41);
    plant.check();
}

#[test]
fn many_requests_of_a_unit_at_one_time_agree_on_its_arm() {
    let plant = plant(Bounds::default());
    plant.books.change(experiment(&json!({})), "admin", NOW).unwrap();
    let arms: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn({
                    let plant = &plant;
                    move || plant.place("ann", n % 2, NOW).0
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(arms.iter().all(|arm| *arm == arms[0]), "{arms:?}");
    assert_eq!((plant.units().len(), plant.balance("plant/experiments/tone").posted), (1, 1));
    plant.check();
}

#[test]
fn a_unit_has_what_its_requests_used_and_their_outcomes_within_its_days() {
    let plant = plant(Bounds::default());
    plant.books.change(experiment(&json!({})), "admin", NOW).unwrap();
    let joined = plant.place("ann", 1, NOW).1.unwrap();
    let (first, second) =
        (plant.asked("ann", joined.clone(), (100, 10), NOW), plant.asked("ann", joined.clone(), (50, 5), NOW + DAY_MS));
    let after = plant.asked("ann", joined.clone(), (7, 7), NOW + 3 * DAY_MS);
    let sums = plant.unit("ann");
    assert_eq!((sums.units, sums.requests, sums.input, sums.output), (1, 2, 150, 15), "the last came after its days");

    let both = outcome("o1", 10, Attribution::Requests(vec![(first, 300), (second, 700)]));
    let told = plant.tells(&both, NOW + DAY_MS).unwrap();
    assert_eq!(plant.tells(&both, NOW + DAY_MS).unwrap(), Told { replayed: true, ..told });
    let sums = plant.unit("ann");
    assert_eq!((sums.value, sums.outcomes_milli, sums.accepted_milli), (Nano(10), 1000, 1000));
    let entry = plant.books.ledger().entries(told.entry, 1).unwrap().pop().unwrap();
    let read = Valued::read(&entry).unwrap();
    assert_eq!(
        (read.pack(), read.counted.parts[0].member.as_ref().map(|member| member.unit.as_str())),
        (entry.detail.clone(), Some("ann"))
    );
    for to in 0..entry.detail.len() {
        assert!(
            Valued::read(&ledger::Entry { detail: entry.detail[..to].to_vec(), ..entry.clone() }).is_none(),
            "{to}"
        );
    }

    // Corrected: less, a proxy, not accepted.
    let (revision, valuation, accepted) = (2, Valuation::Proxy, false);
    plant.tells(&Outcome { revision, valuation, accepted, value: Nano(4), ..both.clone() }, NOW + DAY_MS).unwrap();
    let sums = plant.unit("ann");
    assert_eq!((sums.value, sums.proxy, sums.outcomes_milli, sums.accepted_milli), (Nano::ZERO, Nano(4), 1000, 0));
    // What came or occurred after its days is TFP's concern only.
    plant.tells(&outcome("o2", 5, Attribution::Requests(vec![(after, 1000)])), NOW + 3 * DAY_MS).unwrap();
    plant.tells(&outcome("o3", 5, Attribution::Requests(vec![(first, 1000)])), NOW + 3 * DAY_MS).unwrap();
    assert_eq!(plant.unit("ann"), sums);
    // Told late, of what occurred in time.
    let late =
        Outcome { occurred_ms: Some(NOW + DAY_MS), ..outcome("o4", 6, Attribution::Requests(vec![(first, 1000)])) };
    plant.tells(&late, NOW + 3 * DAY_MS).unwrap();
    assert_eq!(plant.unit("ann").value, Nano(6));
    // Told in time of a request that was not in the books yet, and matched when its days were over.
    let coming = next_id();
    let early = outcome("o5", 3, Attribution::Requests(vec![(coming, 1000)]));
    assert!(plant.tells(&early, NOW + DAY_MS).unwrap().aside);
    plant.asks(coming, "ann", joined, (1, 1), NOW + DAY_MS);
    assert_eq!(plant.books.match_outcomes(NOW + 3 * DAY_MS).unwrap(), 1);
    assert_eq!(plant.unit("ann").value, Nano(9));
    assert_eq!(plant.units().len(), 1);
    plant.check();
}

#[test]
fn a_unit_without_requests_has_outcomes_which_are_no_value_of_tokens() {
    let plant = plant(Bounds::default());
    plant.books.change(experiment(&json!({})), "admin", NOW).unwrap();
    assert_eq!(told_field(plant.tells(&outcome("o", 5, of_unit("bob")), NOW)), "unit");
    plant.place("bob", 2, NOW).1.unwrap();
    let told = plant.tells(&outcome("o", 5, of_unit("bob")), NOW).unwrap();
    assert!(!told.aside);
    assert_eq!(plant.tells(&outcome("o", 5, of_unit("bob")), NOW).unwrap(), Told { replayed: true, ..told });
    assert_eq!(told_field(plant.tells(&outcome("o", 6, of_unit("bob")), NOW)), "id");
    let corrected = Outcome { revision: 2, ..outcome("o", 7, of_unit("bob")) };
    plant.tells(&corrected, NOW).unwrap();
    let sums = plant.unit("bob");
    assert_eq!((sums.value, sums.outcomes_milli, sums.requests), (Nano(7), 1000, 0));
    assert_eq!(plant.balance("plant/value/acme/measured").posted, 0, "nothing of it comes from tokens");
    let entry = plant.books.ledger().entries(told.entry, 1).unwrap().pop().unwrap();
    assert_eq!(Valued::read(&entry).unwrap().pack(), entry.detail);
    for (occurred_ms, at) in [(NOW - 3_600_000, "occurred_at"), (NOW + 2 * DAY_MS + 1, "occurred_at")] {
        let outside = Outcome { occurred_ms: Some(occurred_ms), ..outcome("x", 5, of_unit("bob")) };
        assert_eq!(told_field(plant.tells(&outside, NOW + 3 * DAY_MS)), at);
    }
    for attribution in [
        Attribution::Unit { experiment: "other".into(), unit: "bob".into() },
        Attribution::Unit { experiment: String::new(), unit: "bob".into() },
    ] {
        assert_eq!(told_field(plant.tells(&outcome("y", 5, attribution), NOW)), "experiment");
    }
    plant.check();
}

#[test]
fn other_projects_and_unknown_experiments_are_refused() {
    let plant = plant(Bounds::default());
    plant.books.change(experiment(&json!({"project": "web"})), "admin", NOW).unwrap();
    let assign = |caller, named| plant.books.assign(caller, named, |_| Ok(0), NOW).map(drop).map_err(field);
    assert_eq!(assign(("acme", "web"), ("tone", "ann")), Ok(()));
    for (caller, named, expected) in [
        (("acme", "shop"), ("tone", "ann"), "experiment"),
        (("other", "web"), ("tone", "ann"), "experiment"),
        (CALLER, ("none", "ann"), "experiment"),
        (CALLER, ("tone", ""), "unit"),
        (CALLER, ("tone", "a\nb"), "unit"),
    ] {
        assert_eq!(assign(caller, named), Err(expected.to_owned()), "{caller:?} {named:?}");
    }
    let change = |value: Value| match plant.books.change(experiment(&value), "admin", NOW).unwrap_err() {
        ChangeError::Invalid(error) => error.field,
        other => panic!("{other:?}"),
    };
    let unknown = json!([{"name": "a", "weight": 500}, {"name": "b", "weight": 500, "model": "gpt-9"}]);
    assert_eq!(change(json!({"id": "new", "arms": unknown})), "arms[1].model");
    assert_eq!(change(json!({"id": "new", "organisation": "nobody"})), "organisation");
    assert_eq!(change(json!({"id": "new", "project": "nobody"})), "project");
    assert_eq!(change(json!({"unit": "episode", "project": "web"})), "unit");
    // The audit has what is done.
    let acts =
        plant.books.acts(ActsAfter { organisation: Some("acme"), after: None, newest_first: true, limit: 1 }).unwrap();
    assert_eq!((acts[0].record.as_str(), acts[0].actor.as_str()), ("experiment tone", "admin"));
}

/// As entries are written that have nothing to do with experiments.
#[test]
fn outcomes_without_a_unit_have_the_form_without_one() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(10, 2).unwrap();
    ticket.settle(&used(10, 2), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    let told = plant.tells(&outcome("o", 5, Attribution::Requests(vec![(ticket.id(), 1000)])), NOW).unwrap();
    let entry = plant.books.ledger().entries(told.entry, 1).unwrap().pop().unwrap();
    assert_eq!((entry.kind, entry.detail[0]), (entry_kind::VALUED, 2), "the form without units");
    let Valued { counted: Counted { parts, unit_part, .. }, .. } = Valued::read(&entry).unwrap();
    assert_eq!((parts.len(), unit_part, &parts[0].member), (1, None, &None));
    assert_eq!(parts[0].request, ticket.id().0);
    plant.check();
}
