//! Tests of `detail`: what is packed is read again, is short, and nothing else is read.

use ledger::EntryId;

use super::*;

fn context() -> Context {
    Context {
        organisation: "acme-gmbh".into(),
        project: "web-shop".into(),
        key: "k_7f3a9c21".into(),
        list: "standard".into(),
        model: "llama-3.2-1b-instruct-q8_0".into(),
        price_version: 12,
        window_ms: 1_790_000_000_000,
        tag: "search".into(),
        user: "user-4711".into(),
        metadata: Metadata::default(),
    }
}

/// That says what its request is for.
fn told() -> Context {
    let (task, prompt_version, episode) = ("triage".into(), "v7".into(), "ticket 4711".into());
    Context { metadata: Metadata { task, prompt_version, episode, joined: None }, ..context() }
}

/// Of a unit of an experiment.
fn joined() -> Context {
    let joined = Joined {
        experiment: "tone".into(),
        arm: 1,
        stretch: 3,
        propensity_permille: 500,
        unit: Unit::Episode,
        until_ms: 1_790_000_000_000,
    };
    let told = told();
    Context { metadata: Metadata { joined: Some(joined), ..told.metadata.clone() }, ..told }
}

fn settlement() -> Settlement {
    let line = |meter, tokens, nano| SettledLine { meter, tier: 0, tokens, nano: Nano(nano) };
    Settlement {
        service: Service::Met,
        context: context(),
        end: End::Length,
        quantities: Quantities { in_uncached: 3_000, in_cached: 1_024, out_visible: 512, out_reasoning: 0 },
        pooled: Quantities { in_uncached: 1_000, ..Quantities::default() },
        pool_units: 1_000_000,
        lines: vec![
            line(Meter::InUncached, 2_000, 20_000_000),
            line(Meter::InCached, 1_024, 5_120_000),
            line(Meter::OutVisible, 512, 15_360_000),
        ],
        discount: Nano(4_048_000),
    }
}

fn entry(kind: u16, detail: Vec<u8>) -> Entry {
    Entry { seq: 1, writer: 0, at_ms: 0, kind, id: Some(EntryId([7; 16])), legs: Vec::new(), detail }
}

#[test]
fn a_settlement_is_short_and_read_again() {
    let full = settlement();
    let packed = full.pack();
    assert!(packed.len() <= 150, "{} bytes", packed.len());
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, packed.clone())).unwrap(), full);
    assert_eq!(Settlement::read(&entry(entry_kind::CREDITED, packed)), None);
    // A meter of weight 0 is pooled without taking units.
    let free = Settlement { pool_units: 0, end: End::Crashed, ..full.clone() };
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, free.pack())).unwrap(), free);
    let plain = Settlement { pooled: Quantities::default(), pool_units: 0, lines: Vec::new(), ..full };
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, plain.pack())).unwrap(), plain);
}

#[test]
fn what_a_request_is_for_is_read_again_and_costs_nothing_where_it_is_not_said() {
    let settled = Settlement { context: told(), ..settlement() };
    let packed = settled.pack();
    assert_eq!((packed[0], settlement().pack()[0]), (METADATA_FORM, FORM));
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, packed.clone())).unwrap(), settled);
    assert!((0..packed.len()).all(|to| Settlement::read(&entry(entry_kind::SETTLED, packed[..to].to_vec())).is_none()));
    let note = CreditNote { context: told(), window_ms: 5, amount: Nano(5), ..CreditNote::default() };
    assert_eq!(CreditNote::read(&entry(entry_kind::CREDITED, note.pack())).unwrap(), note);
    let opening = Opening { context: told(), input: 77, ..Opening::default() };
    assert_eq!(Opening::unpack(&opening.pack()).unwrap(), opening);
}

#[test]
fn what_belongs_to_an_experiment_is_read_again() {
    let settled = Settlement { context: joined(), ..settlement() };
    let packed = settled.pack();
    assert_eq!(packed[0], JOINED_FORM);
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, packed.clone())).unwrap(), settled);
    assert!((0..packed.len()).all(|to| Settlement::read(&entry(entry_kind::SETTLED, packed[..to].to_vec())).is_none()));
    let note = CreditNote { context: joined(), window_ms: 5, amount: Nano(5), ..CreditNote::default() };
    assert_eq!(CreditNote::read(&entry(entry_kind::CREDITED, note.pack())).unwrap(), note);
    let opening = Opening { context: joined(), input: 77, ..Opening::default() };
    assert_eq!(Opening::unpack(&opening.pack()).unwrap(), opening);
    let member = joined().member().unwrap();
    assert_eq!((member.unit.as_str(), told().member()), ("ticket 4711", None));
    let until_ms = member.joined.until_ms;
    assert!(member.counts(until_ms) && !member.counts(until_ms + 1));
    let assigned = Assigned { organisation: "acme".into(), member };
    let packed = assigned.pack();
    assert_eq!(Assigned::read(&entry(entry_kind::ASSIGNED, packed.clone())).unwrap(), assigned);
    assert!((0..packed.len()).all(|to| Assigned::read(&entry(entry_kind::ASSIGNED, packed[..to].to_vec())).is_none()));
}

#[test]
fn other_forms_and_damaged_bytes_are_not_read() {
    let packed = settlement().pack();
    for length in 0..packed.len() {
        assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, packed[..length].to_vec())), None, "{length} bytes");
    }
    let longer = [packed.as_slice(), &[0]].concat();
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, longer)), None);
    let mut newer = packed;
    newer[0] = FORM + 1;
    assert_eq!(Settlement::read(&entry(entry_kind::SETTLED, newer)), None);
}

#[test]
fn credit_notes_openings_and_progress_are_read_again() {
    let note = CreditNote {
        context: context(),
        window_ms: 1_792_600_000_000,
        request: [9; 16],
        amount: Nano(5),
        reason: "慢".into(),
        actor: "admin".into(),
    };
    assert_eq!(CreditNote::read(&entry(entry_kind::CREDITED, note.pack())).unwrap(), note);
    // As written before notes had a window of their own.
    let mut old = Pack::default();
    old.byte(FORM);
    note.context.pack(&mut old);
    old.0.extend_from_slice(&note.request);
    old.i64(5).text("慢").text("admin");
    let read = CreditNote::read(&entry(entry_kind::CREDITED, old.0)).unwrap();
    assert_eq!(read, CreditNote { window_ms: note.context.window_ms, ..note.clone() });
    let weights = Weights { input: 1_000, cached_input: 0, output: 2_500, reasoning: 3_000 };
    for (pool, volume) in [(None, None), (Some((weights, PoolEnd::Stop)), Some(AccountId(0)))] {
        let accounts = Accounts {
            money: AccountId(300),
            pool: pool.map(|_| AccountId(9)),
            volume,
            budgets: vec![(AccountId(1), true), (AccountId(2), false)],
        };
        let opening = Opening { writer: 3, context: context(), input: 77, pool, discount_permille: 125, accounts };
        let packed = opening.pack();
        assert_eq!(Opening::unpack(&packed).unwrap(), opening);
        assert!((0..packed.len()).all(|length| Opening::unpack(&packed[..length]).is_none()));
    }
    let used = Quantities { in_uncached: 1, in_cached: 2, out_visible: u64::from(u32::MAX), out_reasoning: 4 };
    assert_eq!(unpack_progress(&pack_progress(&used)), Some(used));
    let absurd = Quantities { in_uncached: u64::MAX, ..used };
    assert_eq!(unpack_progress(&pack_progress(&absurd)), None);
}
