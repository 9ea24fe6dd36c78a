//! A process that is killed in the middle of its work loses nothing that it was told to be on the disk.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test's own helper may fail the test")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use ledger::{
    AccountId, AccountKind, AccountSpec, Batch, Command, EntryId, Ledger, Leg, Options, Reserve, StoreSpec, Unit,
};

/// Set for the process that is to be killed: the folder of its ledger, and its number.
const CHILD: &str = "LEDGER_TEST_CHILD";
const WAIT: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 8;

fn open(path: &Path) -> Ledger {
    let ledger = Ledger::open(&StoreSpec::Sqlite(path.to_owned()), &Options::default()).unwrap();
    let account = |name: &str, floor| {
        let name = name.to_owned();
        Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit: Unit(0), floor })
    };
    let bank_and_customer = vec![account("bank", None), account("customer", Some(0))];
    let legs =
        vec![Leg { account: AccountId(0), amount: -1_000_000 }, Leg { account: AccountId(1), amount: 1_000_000 }];
    let grant = Command::Post { id: EntryId([0; 16]), kind: 1, legs, detail: Vec::new() };
    ledger.submit(&Batch { at_ms: 0, commands: bank_and_customer }).unwrap();
    ledger.submit(&Batch { at_ms: 0, commands: vec![grant] }).unwrap().wait_durable(WAIT).unwrap();
    ledger
}

/// Holds and settles for ever, on four threads, and prints the number of each settlement that is on the disk.
fn child(path: &Path, round: u64) {
    let ledger = &open(path);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for step in 1_u64.. {
                    let number = (round << 48) | (thread << 40) | step;
                    let id = EntryId((u128::from(number) << 64).to_be_bytes());
                    let reserves = vec![Reserve { account: AccountId(1), amount: 10 }];
                    let hold = Command::Hold { id, reserves, expires_ms: 0, detail: Vec::new() };
                    ledger.submit(&Batch { at_ms: 0, commands: vec![hold] }).unwrap();
                    let legs =
                        vec![Leg { account: AccountId(1), amount: -1 }, Leg { account: AccountId(0), amount: 1 }];
                    let settle = Command::Settle { id, kind: 2, legs, detail: number.to_be_bytes().to_vec() };
                    let receipt = ledger.submit(&Batch { at_ms: 0, commands: vec![settle] }).unwrap();
                    receipt.wait_durable(WAIT).unwrap();
                    println!("durable {number}");
                }
            });
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_durable() {
    if let Some((path, round)) = std::env::var(CHILD).ok().as_deref().and_then(|child| child.split_once('|')) {
        return child(Path::new(path), round.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let mut durable = HashSet::new();
    for round in 1..=ROUNDS {
        let mut process = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_loses_nothing_durable", "--nocapture"])
            .env(CHILD, format!("{}|{round}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let before = durable.len();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(number) = line.strip_prefix("durable ") {
                // The kill may cut the last line.
                durable.extend(number.parse::<u64>().ok().filter(|number| number >> 48 == round));
            }
            if durable.len() - before == usize::try_from(100 + round * 37).unwrap() {
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
        check(&path, &durable);
    }
}

fn check(path: &Path, durable: &HashSet<u64>) {
    let ledger = open(path);
    let report = ledger.verify().unwrap();
    let mut found = HashSet::new();
    let mut next = 1;
    loop {
        let page = ledger.entries(next, 10_000).unwrap();
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        for entry in page.iter().filter(|entry| entry.kind == 2) {
            let number = u64::from_be_bytes(entry.detail.as_slice().try_into().unwrap());
            assert!(found.insert(number), "settlement {number} is there twice");
        }
    }
    let lost: Vec<_> = durable.difference(&found).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let spent = 1_000_000 - ledger.balance(AccountId(1)).unwrap().unwrap().posted;
    assert_eq!(usize::try_from(spent).unwrap(), found.len());
    let mut out = std::io::stdout();
    writeln!(out, "{} acknowledged, {} found, {} open holds", durable.len(), found.len(), report.holds).unwrap();
}
