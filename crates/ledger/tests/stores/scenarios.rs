//! What every store must do.

use ledger::Format;

use super::*;

type Scenario = fn(&Place);

pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("a life of a request", life),
    ("reopened as it was", reopened),
    ("same id", same_id),
    ("all or none", all_or_none),
    ("documents", documents),
    ("tallies", tallies),
    ("callbacks", callbacks),
    ("export", export),
    ("many at once never overspend", many_at_once),
];

fn life(place: &Place) {
    let ledger = place.open();
    let bank = open_account(&ledger, "bank", None);
    let acme = open_account(&ledger, "org/acme/money", Some(0));
    assert_eq!((bank, acme), (AccountId(0), AccountId(1)));
    assert_eq!(submit(&ledger, vec![grant(1, bank, acme, 100)]), Ok(vec![Outcome::Applied { seq: 3 }]));
    assert_eq!(submit(&ledger, vec![hold(2, acme, 70)]), Ok(vec![Outcome::Held]));
    let refused = Refusal::Insufficient { account: acme, name: "org/acme/money".to_owned(), available: 30, needed: 31 };
    assert_eq!(submit(&ledger, vec![hold(3, acme, 31)]), Err(refused.clone()));
    let more = |amount| Command::Extend { id: id(2), reserves: vec![reserve(acme, amount)] };
    assert_eq!(submit(&ledger, vec![more(31)]), Err(refused));
    assert_eq!(submit(&ledger, vec![more(30)]), Ok(vec![Outcome::Extended]));
    let balance = ledger.balance(acme).unwrap().unwrap();
    assert_eq!((balance.posted, balance.held, balance.floor), (100, 100, Some(0)));
    assert_eq!(submit(&ledger, vec![settle(2, acme, bank, 40)]), Ok(vec![Outcome::Applied { seq: 4 }]));
    let balance = ledger.balance(acme).unwrap().unwrap();
    assert_eq!((balance.posted, balance.held), (60, 0));
    submit(&ledger, vec![hold(4, acme, 10), hold(5, acme, 10)]).unwrap();
    let early = Refusal::NotExpired { id: id(5), expires_ms: 5_000 };
    assert_eq!(submit(&ledger, vec![Command::Void { id: id(4) }, Command::Expire { id: id(5) }]), Err(early));
    submit(&ledger, vec![Command::Void { id: id(4) }]).unwrap();
    let late = Batch { at_ms: 5_000, commands: vec![Command::Expire { id: id(5) }] };
    ledger.submit(&late).unwrap().wait_durable(WAIT).unwrap();
    assert!(ledger.holds().unwrap().is_empty());
    assert_eq!(ledger.balance(acme).unwrap().unwrap().held, 0);
    let both = [bank, acme].map(|account| (account, ledger.balance(account).unwrap().unwrap()));
    let mut found = ledger.balances(&[acme, AccountId(9_999), bank]).unwrap();
    found.sort_by_key(|(account, _)| *account);
    assert_eq!(found, both, "one that is not there is left out");
    let kinds: Vec<u16> = ledger.entries(1, 100).unwrap().iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [0xff01, 0xff01, 1, 2, 0xff03, 0xff04]);
    assert_eq!(ledger.entry_by_id(id(5)).unwrap().unwrap().detail, b"request 5");
    assert_eq!(ledger.account_spec(acme).unwrap().unwrap().floor, Some(0));
    submit(&ledger, vec![Command::SetFloor { account: acme, floor: Some(55) }]).unwrap();
    assert!(matches!(submit(&ledger, vec![hold(6, acme, 6)]), Err(Refusal::Insufficient { available: 5, .. })));
    let report = ledger.verify().unwrap();
    assert_eq!((report.entries, report.accounts, report.holds), (7, 2, 0));
}

fn reopened(place: &Place) {
    let (bank, acme, before);
    {
        let ledger = place.open();
        bank = open_account(&ledger, "bank", None);
        acme = open_account(&ledger, "acme", Some(0));
        submit(&ledger, vec![grant(1, bank, acme, 100), hold(2, acme, 20), hold(3, acme, 30)]).unwrap();
        submit(&ledger, vec![settle(2, acme, bank, 5), put(9, "plan", 1, "x")]).unwrap();
        let more = Command::Extend { id: id(3), reserves: vec![reserve(acme, 1), reserve(bank, 2)] };
        submit(&ledger, vec![more, Command::SetFloor { account: bank, floor: Some(-1_000) }]).unwrap();
        before = (ledger.balance(bank).unwrap(), ledger.balance(acme).unwrap(), ledger.verify().unwrap());
    }
    let ledger = place.open();
    assert_eq!((ledger.balance(bank).unwrap(), ledger.balance(acme).unwrap(), ledger.verify().unwrap()), before);
    assert_eq!(ledger.account("acme").unwrap(), Some(acme));
    assert_eq!(ledger.account("nobody").unwrap(), None);
    let holds = ledger.holds().unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[0].reserves, [reserve(acme, 31), reserve(bank, 2)]);
    assert_eq!((holds[0].asked.as_slice(), holds[0].detail.as_slice()), (&[reserve(acme, 30)][..], &b"request 3"[..]));
    // The account's first spec still opens it, though its floor has moved.
    assert_eq!(open_account(&ledger, "bank", None), bank);
    submit(&ledger, vec![settle(3, acme, bank, 31), put(10, "plan", 2, "y")]).unwrap();
    assert_eq!(ledger.balance(acme).unwrap().unwrap().posted, 64);
    ledger.verify().unwrap();
}

fn same_id(place: &Place) {
    let ledger = place.open();
    let bank = open_account(&ledger, "bank", None);
    let acme = open_account(&ledger, "acme", Some(0));
    let conflict = |number| Err(Refusal::Conflict(id(number)));
    let replayed = || Ok(vec![Outcome::Replayed]);
    submit(&ledger, vec![grant(1, bank, acme, 100)]).unwrap();
    for _ in 0..2 {
        // Once with the entries fresh, once with them read from the store.
        assert_eq!(submit(&ledger, vec![grant(1, bank, acme, 100)]), replayed());
        assert_eq!(submit(&ledger, vec![grant(1, bank, acme, 101)]), conflict(1));
        assert_eq!(submit(&ledger, vec![hold(1, acme, 1)]), conflict(1));
        assert_eq!(submit(&ledger, vec![settle(1, acme, bank, 1)]), conflict(1));
        assert_eq!(submit(&ledger, vec![put(1, "k", 1, "")]), conflict(1));
    }
    submit(&ledger, vec![hold(2, acme, 10)]).unwrap();
    assert_eq!(submit(&ledger, vec![hold(2, acme, 10)]), replayed());
    assert_eq!(submit(&ledger, vec![hold(2, acme, 11)]), conflict(2));
    assert_eq!(submit(&ledger, vec![grant(2, bank, acme, 1)]), conflict(2));
    submit(&ledger, vec![settle(2, acme, bank, 10)]).unwrap();
    assert_eq!(submit(&ledger, vec![settle(2, acme, bank, 10)]), replayed());
    assert_eq!(submit(&ledger, vec![settle(2, acme, bank, 9)]), conflict(2));
    assert_eq!(submit(&ledger, vec![hold(2, acme, 10)]), conflict(2));
    assert_eq!(submit(&ledger, vec![Command::Void { id: id(2) }]), conflict(2));
    submit(&ledger, vec![hold(3, acme, 10)]).unwrap();
    submit(&ledger, vec![Command::Void { id: id(3) }]).unwrap();
    assert_eq!(submit(&ledger, vec![Command::Void { id: id(3) }]), replayed());
    assert_eq!(submit(&ledger, vec![Command::Expire { id: id(3) }]), conflict(3));
    for command in [settle(4, acme, bank, 1), Command::Void { id: id(4) }, Command::Expire { id: id(4) }] {
        assert_eq!(submit(&ledger, vec![command]), Err(Refusal::UnknownHold(id(4))));
    }
    let other = Command::Open(spec("acme", Some(1)));
    assert_eq!(submit(&ledger, vec![other]), Err(Refusal::AccountDiffers("acme".to_owned())));
    assert_eq!(ledger.balance(acme).unwrap().unwrap().posted, 90);
    assert_eq!(ledger.verify().unwrap().entries, 5);
}

fn all_or_none(place: &Place) {
    let ledger = place.open();
    let bank = open_account(&ledger, "bank", None);
    let before = ledger.verify().unwrap();
    let (fresh, nobody) = (AccountId(1), AccountId(99));
    let commands = vec![
        Command::Open(spec("fresh", Some(0))),
        grant(1, bank, fresh, 5),
        hold(2, fresh, 5),
        put(3, "k", 1, "v"),
        Command::SetFloor { account: bank, floor: Some(0) },
        settle(2, fresh, bank, 4),
        grant(4, bank, nobody, 1),
    ];
    let batch = Batch { at_ms: 0, commands };
    let refused = ledger.submit(&batch).unwrap_err();
    assert_eq!((refused.index, &refused.refusal), (6, &Refusal::UnknownAccount(nobody)));
    assert_eq!(ledger.balance(bank).unwrap().unwrap().floor, None);
    assert_eq!(ledger.account("fresh").unwrap(), None);
    ledger.flush(WAIT).unwrap();
    assert_eq!(ledger.verify().unwrap(), before);
    // Without the last one it passes, and the ids are free.
    submit(&ledger, batch.commands[..6].to_vec()).unwrap();
    assert_eq!(ledger.balance(fresh).unwrap().unwrap().posted, 1);
    let stale = vec![Command::Expect { account: fresh, posted: 5 }, grant(5, fresh, bank, 1)];
    assert_eq!(submit(&ledger, stale), Err(Refusal::Changed { account: fresh, posted: 1 }));
    let right = vec![Command::Expect { account: fresh, posted: 1 }, grant(5, fresh, bank, 1)];
    assert_eq!(submit(&ledger, right).unwrap()[0], Outcome::Matched);
    ledger.verify().unwrap();
}

fn documents(place: &Place) {
    let ledger = place.open();
    submit(&ledger, vec![put(1, "plan/a", 1, "one")]).unwrap();
    let stale = Refusal::BadVersion { key: "plan/a".to_owned(), current: 1, given: 1 };
    assert_eq!(submit(&ledger, vec![put(2, "plan/a", 1, "two")]), Err(stale));
    submit(&ledger, vec![put(2, "plan/b", 1, "b"), put(3, "plan/a", 2, "two")]).unwrap();
    assert_eq!(submit(&ledger, vec![put(3, "plan/a", 2, "two")]), Ok(vec![Outcome::Replayed]));
    let latest: Vec<_> =
        ledger.documents(3).unwrap().into_iter().map(|document| (document.key, document.body)).collect();
    assert_eq!(latest, [("plan/b".to_owned(), b"b".to_vec()), ("plan/a".to_owned(), b"two".to_vec())]);
    let history = ledger.document_history(3, "plan/a").unwrap();
    assert_eq!(history.iter().map(|document| document.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((history[0].actor.as_str(), history[0].at_ms, history[0].id), ("admin", 1_000, id(1)));
    assert!(ledger.documents(4).unwrap().is_empty());
    let after = |seq, limit| -> Vec<u64> {
        ledger.documents_after(seq, limit).unwrap().iter().map(|document| document.seq).collect()
    };
    assert_eq!((after(0, 9), after(0, 2), after(1, 9), after(3, 9)), (vec![1, 2, 3], vec![1, 2], vec![2, 3], vec![]));
    assert_eq!(ledger.last_seq(), Ok(3));
    let report = ledger.verify().unwrap();
    assert_eq!((report.entries, report.documents), (3, 3));
}

fn tallies(place: &Place) {
    {
        let ledger = place.open();
        let bank = open_account(&ledger, "bank", None);
        let acme = open_account(&ledger, "acme", Some(0));
        submit(&ledger, vec![grant(1, bank, acme, 100), hold(2, acme, 9), settle(2, acme, bank, 7)]).unwrap();
        submit(&ledger, vec![grant(3, bank, acme, i64::MAX - 100)]).unwrap();
    }
    let ledger = place.open();
    let found: Vec<_> =
        ledger.tallies(&[0, 0], &[0, 9], 10).unwrap().into_iter().map(|tally| (tally.key, tally.sums)).collect();
    assert_eq!(found, [(vec![0, 1], vec![2, i128::from(i64::MAX)]), (vec![0, 2], vec![1, 7])]);
    assert_eq!(ledger.tallies(&[0, 2], &[0, 9], 10).unwrap().len(), 1);
    assert_eq!(ledger.tallies(&[], &[255, 255], 1).unwrap().len(), 1);
    let last: Vec<_> = ledger.last_tallies(&[0, 0], &[0, 9], 1).unwrap().into_iter().map(|tally| tally.key).collect();
    assert_eq!(last, [[0, 2]]);
    // Parts that came in different transactions stand side by side.
    let mut parts = Vec::new();
    let mut each = |tally: &ledger::Tally| {
        parts.extend(tally.parts().map(|(part, sums)| (part, sums.to_vec())));
        true
    };
    ledger.visit_tallies(b"legs", b"legt", &mut each).unwrap();
    let most = i128::from(i64::MAX);
    assert_eq!(parts, [(0, vec![3, 7 - most]), (1, vec![3, most - 7])]);
    let mut seen = 0;
    let mut first = |_: &ledger::Tally| {
        seen += 1;
        false
    };
    ledger.visit_tallies(&[], &[255], &mut first).unwrap();
    assert_eq!(seen, 1);
    assert_eq!(ledger.verify().unwrap().tallies, 4);
}

fn callbacks(place: &Place) {
    let ledger = place.open();
    let bank = open_account(&ledger, "bank", None);
    let acme = open_account(&ledger, "acme", Some(0));
    let (send, receive) = std::sync::mpsc::channel();
    for number in 1..=50 {
        let batch = Batch { at_ms: 0, commands: vec![grant(number, bank, acme, 1)] };
        let send = send.clone();
        ledger.submit(&batch).unwrap().on_durable(Box::new(move |result| send.send((number, result)).unwrap()));
    }
    let mut seen: Vec<u64> = (0..50)
        .map(|_| receive.recv_timeout(WAIT).unwrap())
        .map(|(number, result)| {
            result.unwrap();
            number
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    assert_eq!(ledger.verify().unwrap().entries, 52);
    // The last handle may go away inside a callback.
    let batch = Batch { at_ms: 0, commands: vec![grant(51, bank, acme, 1)] };
    let receipt = ledger.submit(&batch).unwrap();
    let send = send.clone();
    receipt.on_durable(Box::new(move |_| {
        drop(ledger);
        send.send((0, Ok(()))).unwrap();
    }));
    receive.recv_timeout(WAIT).unwrap().1.unwrap();
}

fn many_at_once(place: &Place) {
    const THREADS: u64 = 8;
    const EACH: u64 = 50;
    let ledger = place.open();
    let bank = open_account(&ledger, "bank", None);
    let acme = open_account(&ledger, "acme", Some(0));
    submit(&ledger, vec![grant(1, bank, acme, 1_000)]).unwrap();
    let (ledger, passed) = (&ledger, &std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for step in 0..EACH {
                    let number = 100 + thread * EACH + step;
                    match submit(ledger, vec![hold(number, acme, 10)]) {
                        Ok(_) => {}
                        Err(Refusal::Insufficient { .. }) => continue,
                        Err(other) => panic!("{other}"),
                    }
                    assert!(ledger.balance(acme).unwrap().unwrap().posted >= 0);
                    submit(ledger, vec![settle(number, acme, bank, 5)]).unwrap();
                    passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let passed = passed.load(std::sync::atomic::Ordering::Relaxed);
    // 1,000 are enough for 199 holds of 10 one after the other, settled with 5 each.
    assert!((1..=200).contains(&passed), "{passed}");
    let balance = ledger.balance(acme).unwrap().unwrap();
    assert_eq!((balance.posted, balance.held), (1_000 - 5 * i64::try_from(passed).unwrap(), 0));
    assert!(balance.posted >= 0);
    ledger.verify().unwrap();
}

fn export(place: &Place) {
    let ledger = place.open();
    let bank = open_account(&ledger, "=bank \"1\", main", None);
    let acme = open_account(&ledger, "acme", Some(0));
    submit(&ledger, vec![grant(1, bank, acme, 100), hold(2, acme, 9), Command::Void { id: id(2) }]).unwrap();
    submit(&ledger, vec![put(3, "plan/\u{4e2d}", 1, "{}\n")]).unwrap();
    let write = |format| {
        let mut out = Vec::new();
        assert_eq!(ledger.export(format, &mut out), Ok(5));
        String::from_utf8(out).unwrap()
    };
    let csv = write(Format::Csv);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "seq,writer,at_ms,kind,id,account,account_kind,unit,amount,detail,hash");
    assert_eq!(lines.len(), 1 + 2 + 2 + 1 + 1);
    let id1 = "00000000000000010000000000000000";
    let start = format!("3,0,1000,1,{id1},\"'=bank \"\"1\"\", main\",customer,0,-100,6772616e74,");
    assert!(lines[3].starts_with(&start), "{}", lines[3]);
    assert!(lines[4].starts_with(&format!("3,0,1000,1,{id1},\"acme\",customer,0,100,")), "{}", lines[4]);
    assert!(lines[5].starts_with("4,0,1000,void,"), "{}", lines[5]);
    let json: Vec<serde_json::Value> =
        write(Format::JsonLines).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[2]["legs"][0]["account"], "=bank \"1\", main");
    assert_eq!(json[2]["legs"][1]["amount"], 100);
    assert_eq!(json[3]["kind"], "void");
    assert_eq!(json[4]["document"]["key"], "plan/\u{4e2d}");
    assert_eq!(json[4]["document"]["body"], "{}\n");
    let head = ledger.verify().unwrap().heads[0].1;
    let head = head.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(json[4]["hash"].as_str(), Some(head.as_str()));
}
