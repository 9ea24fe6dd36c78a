//! The state machine, scenario by scenario: one line per command.
//!
//! ```text
//! open A 0               account A with floor 0 (or none)
//! hold 1 A 5 B 3         hold 1 reserves 5 of A and 3 of B
//! settle 1 A -4 R 4      settles hold 1
//! post 2 A 10 R -10      posts at once
//! extend | void | expire | floor | expect | put
//! = A 10 5               A has 10 posted, 5 held
//! { ... }                the lines between are one batch
//! ```
//! After `->` stands what comes of it: nothing for done, else the outcome or refusal.

use std::collections::HashMap;

use crate::book::{Book, History};
use crate::error::{Refusal, StoreError};
use crate::types::{AccountId, AccountKind, AccountSpec, Batch, Command, Entry, EntryId, Leg, Outcome, Reserve, Unit};

struct Nothing;

impl History for Nothing {
    fn entry(&mut self, _: EntryId) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }
}

#[derive(Default)]
struct Scenario {
    book: Book,
    names: HashMap<String, AccountId>,
    batch: Option<Vec<Command>>,
    at_ms: i64,
}

fn check(table: &str) {
    let mut scenario = Scenario::default();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, expected) = line.split_once("->").unwrap_or((line, ""));
        let found = scenario.line(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(found, expected.trim(), "{line}");
    }
}

impl Scenario {
    fn line(&mut self, words: &[&str]) -> String {
        match words {
            ["{"] => self.batch = Some(Vec::new()),
            ["}"] => {
                let commands = self.batch.take().unwrap();
                return self.apply(commands);
            }
            ["at", time] => self.at_ms = time.parse().unwrap(),
            ["=", name, posted, held] => {
                let balance = self.book.accounts[&self.names[*name]].balance;
                assert_eq!((balance.posted.to_string(), balance.held.to_string()), ((*posted).into(), (*held).into()));
            }
            _ => {
                let command = self.command(words);
                match &mut self.batch {
                    Some(batch) => batch.push(command),
                    None => return self.apply(vec![command]),
                }
            }
        }
        String::new()
    }

    fn apply(&mut self, commands: Vec<Command>) -> String {
        let batch = Batch { at_ms: self.at_ms, commands };
        let before = format!("{:?}", self.sorted());
        match self.book.apply(&batch, &mut Nothing) {
            Ok(decision) => {
                let words = decision.outcomes.iter().filter_map(|outcome| match outcome {
                    Outcome::Replayed => Some("replayed"),
                    _ => None,
                });
                words.collect::<Vec<_>>().join(" ")
            }
            Err(refused) => {
                assert_eq!(format!("{:?}", self.sorted()), before, "a refused batch changes nothing");
                let what = match refused.refusal {
                    Refusal::Insufficient { available, needed, .. } => format!("has {available}, needs {needed}"),
                    Refusal::Conflict(_) => "conflict".to_owned(),
                    Refusal::UnknownHold(_) => "no hold".to_owned(),
                    Refusal::UnknownAccount(_) => "no account".to_owned(),
                    Refusal::Unbalanced { unit, sum } => format!("unit {} sums to {sum}", unit.0),
                    Refusal::BadVersion { current, .. } => format!("is at version {current}"),
                    Refusal::NotExpired { expires_ms, .. } => format!("lives until {expires_ms}"),
                    Refusal::Changed { posted, .. } => format!("stands at {posted}"),
                    Refusal::AccountDiffers(_) => "another spec".to_owned(),
                    other => other.to_string(),
                };
                if refused.index == 0 { what } else { format!("{}: {what}", refused.index) }
            }
        }
    }

    /// Everything the book knows, in a fixed order.
    fn sorted(&self) -> impl std::fmt::Debug {
        let book = &self.book;
        let mut all = vec![format!("{} {}", book.seq, book.account_count)];
        all.extend(book.accounts.iter().map(|item| format!("{item:?}")));
        all.extend(book.names.iter().map(|item| format!("{item:?}")));
        all.extend(book.holds.iter().map(|item| format!("{item:?}")));
        all.extend(book.documents.iter().map(|item| format!("{item:?}")));
        all.extend(book.recent.iter().map(|item| format!("{item:?}")));
        all.sort();
        all
    }

    fn command(&mut self, words: &[&str]) -> Command {
        let id = |word: &str| EntryId(word.parse::<u128>().unwrap().to_be_bytes());
        let number = |word: &str| word.parse::<i64>().unwrap();
        let floor = |word: &str| (word != "none").then(|| number(word));
        match words {
            ["open", name, limit, rest @ ..] => {
                let next = AccountId(self.names.len() as u64);
                self.names.entry((*name).to_owned()).or_insert(next);
                let unit = Unit(rest.first().map_or(0, |unit| unit.parse().unwrap()));
                let (name, kind) = ((*name).to_owned(), AccountKind::Customer);
                Command::Open(AccountSpec { name, kind, unit, floor: floor(limit) })
            }
            ["floor", name, limit] => Command::SetFloor { account: self.account(name), floor: floor(limit) },
            ["hold", hold, rest @ ..] => {
                Command::Hold { id: id(hold), reserves: self.reserves(rest), expires_ms: 100, detail: Vec::new() }
            }
            ["extend", hold, rest @ ..] => Command::Extend { id: id(hold), reserves: self.reserves(rest) },
            ["settle", hold, rest @ ..] => {
                Command::Settle { id: id(hold), kind: 1, legs: self.legs(rest), detail: Vec::new() }
            }
            ["post", entry, rest @ ..] => {
                Command::Post { id: id(entry), kind: 1, legs: self.legs(rest), detail: Vec::new() }
            }
            ["void", hold] => Command::Void { id: id(hold) },
            ["expire", hold] => Command::Expire { id: id(hold) },
            ["expect", name, posted] => Command::Expect { account: self.account(name), posted: number(posted) },
            ["put", entry, key, version] => Command::Put {
                id: id(entry),
                kind: 1,
                key: (*key).to_owned(),
                version: version.parse().unwrap(),
                actor: "a".to_owned(),
                body: Vec::new(),
            },
            other => panic!("{other:?}"),
        }
    }

    fn account(&self, name: &str) -> AccountId {
        self.names.get(name).copied().unwrap_or(AccountId(999))
    }

    fn legs(&self, words: &[&str]) -> Vec<Leg> {
        let pair = |pair: &[&str]| Leg { account: self.account(pair[0]), amount: pair[1].parse().unwrap() };
        words.chunks(2).map(pair).collect()
    }

    fn reserves(&self, words: &[&str]) -> Vec<Reserve> {
        self.legs(words).into_iter().map(|leg| Reserve { account: leg.account, amount: leg.amount }).collect()
    }
}

#[test]
fn a_hold_is_taken_extended_and_settled() {
    check(
        "open A 0
         open R none
         post 1 A 10 R -10
         hold 2 A 7
         = A 10 7
         hold 3 A 4                   -> has 3, needs 4
         extend 2 A 4                 -> has 3, needs 4
         extend 2 A 3
         = A 10 10
         settle 2 A -8 R 8
         = A 2 0
         = R -2 0",
    );
}

#[test]
fn a_settlement_may_exceed_its_hold_down_to_the_floor() {
    check(
        "open A 0
         open R none
         post 1 A 10 R -10
         hold 2 A 3
         hold 3 A 4
         settle 2 A -7 R 7            -> has 6, needs 7
         settle 2 A -6 R 6
         = A 4 4
         settle 3 A -4 R 4
         = A 0 0",
    );
}

#[test]
fn a_settlement_within_its_hold_passes_even_when_the_floor_has_risen() {
    check(
        "open A 0
         open R none
         post 1 A 10 R -10
         hold 2 A 5
         hold 3 A 5
         floor A 8
         settle 2 A -5 R 5
         settle 3 A -6 R 6            -> has 5, needs 6
         settle 3 A -5 R 5
         = A 0 0
         post 4 A -1 R 1              -> has 0, needs 1
         hold 5 A 0
         post 6 A 3 R -3
         void 5",
    );
}

#[test]
fn reserves_are_all_or_none() {
    check(
        "open A 0
         open B -5
         hold 1 B 5 A 1               -> has 0, needs 1
         = B 0 0
         hold 1 B 3 B 3               -> has 5, needs 6
         hold 1 B 2 B 3
         = B 0 5
         hold 2 B -1                  -> a reserve must not be negative
         hold 2 X 1                   -> no account
         extend 2 B 1                 -> no hold",
    );
}

#[test]
fn legs_sum_to_zero_in_each_unit() {
    check(
        "open A none
         open R none
         open P none 1
         open Q none 1
         post 1 A 5 R -4              -> unit 0 sums to 1
         post 1 A 5 P -5              -> unit 0 sums to 5
         post 1 A 5 R -5 P 1 Q -2     -> unit 1 sums to -1
         post 1 A 5 R -5 P 2 Q -2
         post 2                       -> a posting needs a leg
         post 2 A 0 A 0
         hold 3 A 1
         settle 3
         = A 5 0
         = P 2 0",
    );
}

#[test]
fn legs_on_one_account_count_together() {
    check(
        "open A 0
         open R none
         post 1 A -5 A 5 R 0
         post 2 A -5 A 4 R 1          -> has 0, needs 1
         = A 0 0",
    );
}

#[test]
fn an_id_is_used_once() {
    check(
        "open A 0
         open R none
         post 1 A 10 R -10
         post 1 A 10 R -10            -> replayed
         post 1 A 11 R -11            -> conflict
         hold 1 A 1                   -> conflict
         put 1 k 1                    -> conflict
         hold 2 A 1
         hold 2 A 1                   -> replayed
         hold 2 A 2                   -> conflict
         post 2 A 1 R -1              -> conflict
         put 2 k 1                    -> conflict
         settle 2 A -1 R 1
         settle 2 A -1 R 1            -> replayed
         settle 2                     -> conflict
         hold 2 A 1                   -> conflict
         void 2                       -> conflict
         expire 2                     -> conflict
         hold 3 A 1
         void 3
         void 3                       -> replayed
         settle 3 A -1 R 1            -> conflict
         void 4                       -> no hold
         = A 9 0",
    );
}

#[test]
fn a_hold_expires_after_its_time() {
    check(
        "open A 0
         open R none
         post 1 A 10 R -10
         at 99
         hold 2 A 1
         expire 2                     -> lives until 100
         at 100
         expire 2
         expire 2                     -> replayed
         at -5
         hold 3 A 1
         expire 3                     -> lives until 100
         = A 10 1",
    );
}

#[test]
fn a_batch_is_all_or_none() {
    check(
        "open A 0
         open R none
         {
           post 1 A 10 R -10
           open B 0
           hold 2 A 10
           put 3 k 1
           floor R 0
           settle 2 A -5 B 5
           void 2
         }                            -> 6: conflict
         = A 0 0
         {
           post 1 A 10 R -10
           hold 2 A 10
           settle 2 A -5 R 5
           hold 4 A 5
         }
         = A 5 5
         {
           expect A 5
           post 5 A 1 R -1
         }
         {
           expect A 5
           post 6 A 1 R -1
         }                            -> stands at 6",
    );
}

#[test]
fn documents_have_versions_in_order() {
    check(
        "put 1 k 0                    -> is at version 0
         put 1 k 2                    -> is at version 0
         put 1 k 1
         put 1 k 1                    -> replayed
         put 2 k 1                    -> is at version 1
         put 2 k 2
         put 3 other 1",
    );
}

#[test]
fn accounts_are_opened_once() {
    check(
        "open A 0
         open A 0
         open A 1                     -> another spec
         open A 0 1                   -> another spec
         floor A 5
         open A 0
         floor X 1                    -> no account
         expect X 1                   -> no account",
    );
}

#[test]
fn the_range_of_64_bits_is_kept() {
    check(
        "open A none
         open R none
         post 1 A 9223372036854775807 R -9223372036854775807
         post 2 A 1 R -1              -> a balance would leave the range of 64 bits
         post 3 A -9223372036854775808 R 9223372036854775807 R 1
         hold 4 A 9223372036854775807
         hold 5 A 1                   -> a balance would leave the range of 64 bits
         extend 4 A 1                 -> a balance would leave the range of 64 bits
         void 4
         = A -1 0",
    );
}
