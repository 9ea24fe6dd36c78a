//! What only a shared database can show.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::{StoreError, verify};

use super::*;

/// Three gateways spend from one account; each has its own chain, and together they keep the floor.
pub(crate) fn writers_share_a_database(spec: &StoreSpec) {
    const WRITERS: u32 = 3;
    let first = Ledger::open(spec, &options(0)).unwrap();
    let bank = open_account(&first, "bank", None);
    let acme = open_account(&first, "acme", Some(0));
    submit(&first, vec![grant(1, bank, acme, 500)]).unwrap();
    assert!(
        matches!(Ledger::open(spec, &options(0)), Err(OpenError::Store(StoreError::Failed(why))) if why.contains("in use"))
    );
    drop(first);
    let (passed, refused) = (&AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let ledger = &Ledger::open(spec, &options(writer)).unwrap();
                std::thread::scope(|scope| {
                    for thread in 0..4_u64 {
                        scope.spawn(move || {
                            for step in 0..25 {
                                let number = 1_000 * (1 + u64::from(writer)) + 100 * thread + step;
                                match submit(ledger, vec![hold(number, acme, 10)]) {
                                    Ok(_) => submit(ledger, vec![settle(number, acme, bank, 3)]).map(drop).unwrap(),
                                    Err(Refusal::Insufficient { .. }) => {
                                        refused.fetch_add(1, Ordering::Relaxed);
                                        continue;
                                    }
                                    Err(other) => panic!("{other}"),
                                }
                                passed.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                });
            });
        }
    });
    let passed = i64::try_from(passed.load(Ordering::Relaxed)).unwrap();
    // 500 give way to at most 164 settlements of 3, with 10 needed to begin.
    assert!(passed > 0 && passed <= 164, "{passed}");
    let ledger = Ledger::open(spec, &options(0)).unwrap();
    let balance = ledger.balance(acme).unwrap().unwrap();
    assert_eq!((balance.posted, balance.held), (500 - 3 * passed, 0));
    let report = ledger.verify().unwrap();
    assert_eq!(report.heads.len(), usize::try_from(WRITERS).unwrap());
    assert_eq!(report.entries, 3 + u64::try_from(passed).unwrap());
}

pub(crate) fn what_was_changed_is_found(spec: &StoreSpec) {
    let StoreSpec::Postgres(url) = spec else { panic!("a PostgreSQL store") };
    let open = || Ledger::open(spec, &options(0));
    {
        let ledger = open().unwrap();
        let bank = open_account(&ledger, "bank", None);
        let acme = open_account(&ledger, "acme", Some(0));
        submit(&ledger, vec![grant(1, bank, acme, 100), hold(2, acme, 10)]).unwrap();
        submit(&ledger, vec![grant(3, bank, acme, 1)]).unwrap();
    }
    let execute = |script: &str| {
        postgres::Client::connect(url, postgres::NoTls).unwrap().batch_execute(script).unwrap();
    };
    verify(spec, Some(&ByKind)).unwrap();
    let cases = [
        ("account SET posted = posted + 1 WHERE id = 1", "account SET posted = posted - 1 WHERE id = 1", "seal"),
        (
            "entry SET body = body || '\\x00'::bytea WHERE seq = 3",
            "entry SET body = substr(body, 1, length(body) - 1) WHERE seq = 3",
            "entry 3",
        ),
        ("tally SET sums = '\\x0202'::bytea || sums", "tally SET sums = substr(sums, 3)", "tally"),
        ("hold SET body = substr(body, 2)", "", "hold"),
    ];
    for (change, back, expected) in cases {
        execute(&format!("UPDATE {change}"));
        let fault = verify(spec, Some(&ByKind)).unwrap_err().to_string();
        assert!(fault.contains(expected), "{change}: {fault}");
        if !back.is_empty() {
            execute(&format!("UPDATE {back}"));
            verify(spec, Some(&ByKind)).unwrap();
        }
    }
    execute("DELETE FROM entry WHERE seq = 4");
    assert!(matches!(open(), Err(OpenError::Store(StoreError::Damaged(_)))));
    execute("UPDATE meta SET value = 99 WHERE name = 'schema'");
    assert!(matches!(open(), Err(OpenError::Newer { found: 99, .. })));
}

/// The server is killed under load, twice; whoever was answered finds its settlement, once.
pub(crate) fn a_server_that_dies_loses_nothing(cluster: &Cluster, spec: &StoreSpec) {
    let ledger = &Ledger::open(spec, &options(0)).unwrap();
    let bank = open_account(ledger, "bank", None);
    let acme = open_account(ledger, "acme", None);
    let (stop, count) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let answered: HashSet<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut answered = Vec::new();
                    for step in 0.. {
                        let number = 1_000_000 * (1 + thread) + step;
                        // As a caller does: the same again until there is an answer.
                        while let Err(refusal) = submit(ledger, vec![grant(number, bank, acme, 1)]) {
                            assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal}");
                        }
                        answered.push(number);
                        count.fetch_add(1, Ordering::SeqCst);
                        if stop.load(Ordering::SeqCst) == 1 {
                            break;
                        }
                    }
                    answered
                })
            })
            .collect();
        let wait = |until: u64| {
            while count.load(Ordering::SeqCst) < until {
                std::thread::yield_now()
            }
        };
        for round in 1..=2 {
            wait(round * 200);
            cluster.kill();
            cluster.begin();
        }
        wait(600);
        stop.store(1, Ordering::SeqCst);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ledger.balance(acme).unwrap().unwrap().posted, i64::try_from(answered.len()).unwrap());
    let report = ledger.verify().unwrap();
    assert_eq!(report.entries, 2 + answered.len() as u64);
}
