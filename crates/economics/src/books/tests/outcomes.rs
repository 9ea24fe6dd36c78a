//! Outcomes in the books: counted once, corrected by revisions, kept aside until their requests come, and what the roll-ups
//! make of them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::books::outcome_detail::{Aside, Owner, Valued};
use crate::outcome::{Attribution, FEEDBACK, Outcome, Remarks, Rule, TimeSaved, Valuation};
use crate::rollup::{self, TfpAsk, TfpBy, TfpRow, TfpTable, ValueSums};

fn owner() -> Owner {
    Owner { organisation: "acme".into(), project: "web".into(), any: false }
}

/// Of all that there is, without anything told apart.
pub(super) fn ask() -> TfpAsk<'static> {
    static ACME: LazyLock<[String; 1]> = LazyLock::new(|| ["acme".to_owned()]);
    static NO_TEAMS: LazyLock<HashMap<String, String>> = LazyLock::new(HashMap::new);
    TfpAsk {
        organisations: &*ACME,
        span_ms: (0, NOW + 400 * DAY_MS),
        by: TfpBy::default(),
        now_ms: NOW,
        top: 100,
        teams: &NO_TEAMS,
        weigh: None,
    }
}

/// Worth so many units, of one request.
pub(super) fn outcome(id: &str, request: EntryId, units: i64) -> Outcome {
    Outcome {
        id: id.into(),
        revision: 1,
        kind: "ticket_resolved".into(),
        value: Nano(units * 1_000_000_000),
        saved: None,
        valuation: Valuation::Measured,
        accepted: true,
        occurred_ms: None,
        attribution: Attribution::Requests(vec![(request, 1000)]),
        maturity_days: 7,
        remarks: Remarks::default(),
    }
}

impl Plant {
    /// A request that has ended.
    pub(super) fn ended(&self, id: EntryId, metadata: &Metadata, tokens: (u64, u64), now_ms: i64) {
        self.ended_for("", id, metadata, tokens, now_ms);
    }

    /// The same of an end user.
    pub(super) fn ended_for(
        &self,
        user: &str,
        id: EntryId,
        metadata: &Metadata,
        (input, output): (u64, u64),
        now_ms: i64,
    ) {
        let identity = self.books.identify("tw_one", "", now_ms).unwrap();
        let (identity, max_output) = (&identity, output);
        let (model, base, tag) = (MODEL, None, "");
        let admission = Admission { id, identity, model, base, input, max_output, tag, user, metadata, now_ms };
        let mut ticket = self.books.admit(admission).unwrap();
        while ticket.allowance() < output {
            assert!(matches!(ticket.extend(now_ms), Extension::Granted(_)));
        }
        ticket.settle(&used(input, output), End::Stop, now_ms).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    }

    pub(super) fn tell(&self, outcome: &Outcome) -> Result<Told, OutcomeError> {
        self.books.tell_outcome(&owner(), outcome, NOW)
    }

    /// The day's rows.
    fn tfp(&self, by: TfpBy) -> Vec<TfpRow> {
        self.tfp_at(by, NOW)
    }

    /// As they are later.
    fn tfp_at(&self, by: TfpBy, now_ms: i64) -> Vec<TfpRow> {
        let span_ms = (NOW - NOW % DAY_MS, NOW + DAY_MS);
        self.table(&TfpAsk { span_ms, by, now_ms, ..ask() }).rows
    }

    pub(super) fn table(&self, ask: &TfpAsk<'_>) -> TfpTable {
        rollup::tfp(self.books.ledger(), ask).unwrap()
    }

    fn sums(&self) -> ValueSums {
        self.tfp(TfpBy::default()).first().map(TfpRow::sums).unwrap_or_default()
    }

    fn value_of(&self, name: &str) -> i64 {
        let owner = if name == "outcomes" { "" } else { "acme/" };
        self.balance(&format!("plant/value/{owner}{name}")).posted
    }
}

fn conflict(result: Result<Told, OutcomeError>) -> String {
    match result.unwrap_err() {
        OutcomeError::Conflict(invalid) => invalid.field,
        other => panic!("{other:?}"),
    }
}

fn invalid(result: Result<Told, OutcomeError>) -> String {
    match result.unwrap_err() {
        OutcomeError::Post(PostError::Invalid(invalid)) => invalid.field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_outcome_is_counted_once_and_a_revision_takes_its_place() {
    let plant = plant(Bounds::default());
    let metadata = Metadata { task: "triage".into(), prompt_version: "v2".into(), ..Metadata::default() };
    let (first, second) = (next_id(), next_id());
    plant.ended(first, &metadata, (100, 10), NOW);
    plant.ended(second, &metadata, (50, 30), NOW);
    let split = Outcome {
        attribution: Attribution::Requests(vec![(first, 333), (second, 667)]),
        value: Nano(10),
        ..outcome("o1", first, 0)
    };
    let told = plant.tell(&split).unwrap();
    assert_eq!(plant.tell(&split).unwrap(), Told { replayed: true, ..told });
    assert_eq!(conflict(plant.tell(&Outcome { value: Nano(11), ..split.clone() })), "id");
    assert_eq!((plant.value_of("measured"), plant.value_of("contra"), plant.value_of("outcomes")), (10, -10, 1));
    let sums = plant.sums();
    assert_eq!((sums.requests, sums.tokens(), sums.output, sums.covered), (2, 190, 40, 2));
    assert_eq!((sums.of(Valuation::Measured), sums.outcomes_milli, sums.adopted_output), (Nano(10), 1000, 40));
    assert_eq!(sums.price, Nano(150 * IN + 40 * OUT));
    let by = TfpBy { prompt_version: true, ..TfpBy::default() };
    for (days, matured) in [(7, 0), (8, 2)] {
        let rows = plant.tfp_at(by, NOW + days * DAY_MS);
        assert_eq!((rows.len(), rows[0].subject.prompt_version.as_str(), rows[0].matured), (1, "v2", matured));
        assert_eq!((rows[0].subject.task.as_str(), rows[0].sums()), ("", sums), "what is not told apart is empty");
    }

    // Of another kind of value, and only of the second request; not accepted.
    let corrected = Outcome {
        revision: 2,
        value: Nano(4),
        valuation: Valuation::Proxy,
        accepted: false,
        attribution: Attribution::Requests(vec![(second, 1000)]),
        ..split.clone()
    };
    assert_eq!(conflict(plant.tell(&Outcome { revision: 3, ..split.clone() })), "revision");
    plant.tell(&corrected).unwrap();
    assert_eq!((plant.value_of("measured"), plant.value_of("proxy"), plant.value_of("contra")), (0, 4, -4));
    let sums = plant.sums();
    assert_eq!((sums.total_value(), sums.of(Valuation::Proxy)), (Nano::ZERO, Nano(4)), "never added up");
    assert_eq!((sums.covered, sums.adopted_output, sums.outcomes_milli, sums.accepted_milli), (1, 0, 1000, 0));
    let entries = plant.books.outcomes(Some(&owner()), (false, 0), 10).unwrap();
    let read: Vec<Valued> = entries.iter().map(|entry| Valued::read(entry).unwrap()).collect();
    assert_eq!(read[1].undone.as_ref().map(|(seq, _)| *seq), Some(told.entry), "it names what it replaces");

    // A second opinion on the same request covers nothing anew.
    let liked = Outcome { kind: FEEDBACK.into(), valuation: Valuation::Proxy, ..outcome("f1", second, 0) };
    plant.tell(&liked).unwrap();
    plant.tell(&Outcome { id: "f2".into(), ..liked }).unwrap();
    let sums = plant.sums();
    assert_eq!((sums.covered, sums.adopted_output, sums.outcomes_milli), (1, 30, 1000), "feedback is no unit of work");
    plant.check();
}

#[test]
fn what_makes_no_sense_is_refused_by_its_field() {
    let plant = plant(Bounds::default());
    let id = next_id();
    plant.ended(id, Metadata::NONE, (1, 1), NOW);
    let good = outcome("o", id, 1);
    let weights = |weights: &[(EntryId, u16)]| Attribution::Requests(weights.to_vec());
    for (field, bad) in [
        ("id", Outcome { id: String::new(), ..good.clone() }),
        ("kind", Outcome { kind: "a\nb".into(), ..good.clone() }),
        ("value", Outcome { value: Nano(-1), ..good.clone() }),
        ("revision", Outcome { revision: 0, ..good.clone() }),
        ("maturity_days", Outcome { maturity_days: 366, ..good.clone() }),
        ("occurred_at", Outcome { occurred_ms: Some(NOW + 6 * 60_000), ..good.clone() }),
        ("occurred_at", Outcome { occurred_ms: Some(NOW - 11 * 366 * DAY_MS), ..good.clone() }),
        ("requests", Outcome { attribution: weights(&[(id, 999)]), ..good.clone() }),
        ("requests", Outcome { attribution: weights(&[]), ..good.clone() }),
        ("requests[1].id", Outcome { attribution: weights(&[(id, 500), (id, 500)]), ..good.clone() }),
        ("comment", Outcome { remarks: Remarks { comment: "x".repeat(4097), ..Remarks::default() }, ..good.clone() }),
    ] {
        assert_eq!(invalid(plant.tell(&bad)), field, "{bad:?}");
    }
    assert_eq!(plant.books.outcomes(None, (false, 0), 10).unwrap(), []);
    let late = Outcome { occurred_ms: Some(NOW + 4 * 60_000), ..good };
    plant.tell(&late).unwrap();
    let saved = TimeSaved { milli_minutes: 90_500, rate_per_hour: "40".parse().unwrap() };
    assert_eq!(saved.value().to_string(), "60.333333333");
}

#[test]
fn an_outcome_of_an_unknown_request_waits_for_it_within_its_maturity() {
    let plant = plant(Bounds::default());
    let (late, never, foreign) = (next_id(), next_id(), next_id());
    assert!(plant.tell(&outcome("late", late, 5)).unwrap().aside);
    assert!(plant.tell(&outcome("late", late, 5)).unwrap().replayed);
    assert!(plant.tell(&outcome("never", never, 5)).unwrap().aside);
    let other = Owner { project: "other".into(), ..owner() };
    plant.ended(foreign, Metadata::NONE, (1, 1), NOW);
    let theirs = plant.books.tell_outcome(&other, &outcome("o", foreign, 5), NOW).unwrap();
    assert!(theirs.aside, "a request of another project is not known");
    let correction = Outcome { revision: 2, ..outcome("late", late, 6) };
    assert_eq!(conflict(plant.tell(&correction)), "revision", "while the first is kept aside");
    assert_eq!(plant.value_of("contra"), 0);
    let aside = |plant: &Plant| {
        let entries = plant.books.outcomes(Some(&owner()), (true, 0), 10).unwrap();
        entries.iter().map(|entry| Aside::read(entry).unwrap().outcome.id).collect::<Vec<_>>()
    };
    assert_eq!(aside(&plant), ["late", "never"]);

    plant.ended(late, Metadata::NONE, (10, 5), NOW);
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 1);
    assert_eq!((aside(&plant), plant.value_of("measured")), (vec!["never".to_owned()], 5_000_000_000));
    assert!(!plant.tell(&outcome("late", late, 5)).unwrap().aside, "the same again is the counted one");
    plant.tell(&correction).unwrap();

    // After a start they are looked for again, and too late they stay aside.
    plant.ended(never, Metadata::NONE, (10, 5), NOW + 8 * DAY_MS);
    let Plant { books, folder } = plant;
    drop(books);
    let books = Books::open(settings(&folder.path().join("books.db")), NOW).unwrap();
    let plant = Plant { books, folder };
    assert_eq!(plant.books.match_outcomes(NOW + 8 * DAY_MS).unwrap(), 0);
    assert_eq!(aside(&plant), ["never"]);
    let before = Plant { books: Arc::clone(&plant.books), folder: tempfile::tempdir().unwrap() };
    assert_eq!(before.value_of("measured"), 6_000_000_000);
    plant.check();
}

#[test]
fn an_outcome_of_an_unknown_episode_waits_for_its_first_request() {
    let plant = plant(Bounds::default());
    let attribution = Attribution::Episode { episode: "ticket 9".into(), rule: Rule::Even };
    let early = Outcome { attribution, ..outcome("early", next_id(), 5) };
    assert!(plant.tell(&early).unwrap().aside);
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 0);
    let counts = |plant: &Plant| {
        let count = |project| plant.books.outcomes_aside(Some("acme"), project).unwrap();
        (plant.books.outcomes_aside(None, None).unwrap(), count(None), count(Some("web")), count(Some("other")))
    };
    assert_eq!(counts(&plant), (1, 1, 1, 0));
    let of = |episode: &str| Metadata { episode: episode.into(), ..Metadata::default() };
    plant.ended(next_id(), &of("ticket 8"), (10, 1), NOW);
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 0, "that was another one");
    // Also after a start.
    let Plant { books, folder } = plant;
    drop(books);
    let plant = Plant { books: Books::open(settings(&folder.path().join("books.db")), NOW).unwrap(), folder };
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 0);
    plant.ended(next_id(), &of("ticket 9"), (10, 1), NOW);
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 1);
    assert_eq!((plant.value_of("measured"), counts(&plant)), (5_000_000_000, (0, 0, 0, 0)));
    plant.check();
}

#[test]
fn an_episode_is_attributed_by_rule_and_its_requests_are_one_cluster() {
    let plant = plant(Bounds::default());
    let metadata = Metadata { episode: "ticket 7".into(), ..Metadata::default() };
    let ids = [next_id(), next_id(), next_id()];
    for (id, minute) in ids.iter().zip(0..) {
        plant.ended(*id, &metadata, (10, 1), NOW + minute * 60_000);
    }
    for (rule, weights) in [(Rule::Even, vec![334, 333, 333]), (Rule::First, vec![1000]), (Rule::Last, vec![1000])] {
        let attribution = Attribution::Episode { episode: "ticket 7".into(), rule };
        let told = plant.tell(&Outcome { attribution, ..outcome(rule.as_str(), ids[0], 3) }).unwrap();
        let entry = plant.books.ledger().entries(told.entry, 1).unwrap().pop().unwrap();
        let parts = Valued::read(&entry).unwrap().counted.parts;
        assert_eq!(parts.iter().map(|part| part.weight).collect::<Vec<_>>(), weights);
        let first = if rule == Rule::Last { ids[2] } else { ids[0] };
        assert_eq!(parts[0].request, first.0, "{rule:?}");
        let values: Vec<i64> = parts.iter().map(|part| part.value.0).collect();
        assert_eq!(values, vec![3_000_000_000 / parts.len() as i64; parts.len()], "alike to the nano-unit");
    }
    let rows = plant.tfp(TfpBy::default());
    assert_eq!(rows[0].groups.iter().filter(|group| group.sums.requests > 0).count(), 1);
    plant.check();
}

/// The source's user: $200 a month, 1.7 billion tokens of it, for $100,000 a year.
#[test]
fn the_sources_user_gets_41_7_dollars_per_dollar_and_4_90_per_million_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let steps = Steps { first: 1 << 30, next: 1 << 30 };
    let books = Books::open(Settings { steps, ..settings(&folder.path().join("books.db")) }, NOW).unwrap();
    let tier = Tier::flat("0.1 per 1M".parse().unwrap(), "0.3 per 1M".parse().unwrap());
    furnish(&books, vec![tier], Plan::plain("basic"), Bounds::default());
    let plant = Plant { books, folder };
    // Of the tokens 1.55e9 are prompts, at $0.1 a million, the others answers, at $0.3: $155 + $45.
    let ids: Vec<EntryId> = (0..10).map(|_| next_id()).collect();
    for id in &ids {
        plant.ended(*id, Metadata::NONE, (155_000_000, 15_000_000), NOW);
    }
    let attribution = Attribution::Requests(ids.iter().map(|id| (*id, 100)).collect());
    let month = Outcome { value: "8333.333333333".parse().unwrap(), attribution, ..outcome("salary", ids[0], 0) };
    plant.tell(&month).unwrap();
    let sums = plant.sums();
    assert_eq!((sums.tokens(), sums.price), (1_700_000_000, "200".parse().unwrap()));
    let (value, cent) = (i128::from(sums.total_value().0), 10_000_000);
    let tenths_per_dollar = crate::money::divide_half_even(value * 10, i128::from(sums.price.0));
    let cents_per_million = crate::money::divide_half_even(value * 1_000_000, i128::from(sums.tokens()) * cent);
    assert_eq!((tenths_per_dollar, cents_per_million), (417, 490));
    plant.check();
}

#[test]
fn an_outcome_that_cannot_be_counted_is_in_nobodys_way() {
    let plant = plant(Bounds::default());
    let ids: Vec<EntryId> = (0..50).map(|_| next_id()).collect();
    let attribution = Attribution::Requests(ids.iter().map(|id| (*id, 20)).collect());
    let remarks = Remarks { comment: "x".repeat(4096), ..Remarks::default() };
    let wide = Outcome { attribution, remarks, ..outcome("wide", ids[0], 5) };
    assert!(plant.tell(&wide).unwrap().aside);
    // Each is for something else: together more than fits into an entry.
    for (id, n) in ids.iter().zip(0..) {
        let (task, prompt_version) = (format!("{n:0120}"), format!("v{n:0119}"));
        plant.ended(*id, &Metadata { task, prompt_version, ..Metadata::default() }, (1, 1), NOW);
    }
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 0);
    plant.tell(&outcome("small", ids[0], 1)).unwrap();
    assert_eq!(plant.books.match_outcomes(NOW).unwrap(), 0);
    let aside = plant.books.outcomes(None, (true, 0), 10).unwrap();
    assert_eq!((aside.len(), plant.value_of("measured")), (1, 1_000_000_000));
    plant.check();
}
