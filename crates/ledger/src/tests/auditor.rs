//! A second, naive ledger: everything is recomputed from lists each time. It shares only the words with the real one.

use std::collections::BTreeMap;

use crate::types::{AccountId, AccountSpec, Batch, Command, EntryId, Leg, Outcome, Reserve};

/// Why the auditor would refuse, in one word.
pub(super) type Why = &'static str;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Posted {
    pub(super) kind: u16,
    pub(super) legs: Vec<(u64, i64)>,
    pub(super) detail: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
struct Open {
    asked: Vec<(u64, i64)>,
    expires_ms: i64,
    detail: Vec<u8>,
    taken: Vec<(u64, i64)>,
}

/// State after some batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Auditor {
    specs: Vec<AccountSpec>,
    floors: Vec<Option<i64>>,
    holds: BTreeMap<EntryId, Open>,
    ended: BTreeMap<EntryId, Posted>,
    versions: BTreeMap<(u16, String), u64>,
    /// Entries so far.
    pub(super) seq: u64,
}

impl Auditor {
    pub(super) fn posted(&self, account: u64) -> i128 {
        let legs = self.ended.values().flat_map(|entry| &entry.legs);
        legs.filter(|(other, _)| *other == account).map(|(_, amount)| i128::from(*amount)).sum()
    }

    pub(super) fn held(&self, account: u64) -> i128 {
        let taken = self.holds.values().flat_map(|hold| &hold.taken);
        taken.filter(|(other, _)| *other == account).map(|(_, amount)| i128::from(*amount)).sum()
    }

    pub(super) fn accounts(&self) -> u64 {
        self.specs.len() as u64
    }

    pub(super) fn floor(&self, account: u64) -> Option<i64> {
        self.floors[place(account)]
    }

    pub(super) fn hold_ids(&self) -> Vec<EntryId> {
        self.holds.keys().copied().collect()
    }

    /// The same batch on a copy; the copy when all passed.
    pub(super) fn judge(&self, batch: &Batch) -> (Self, Result<Vec<Outcome>, (usize, Why)>) {
        let mut next = self.clone();
        let mut outcomes = Vec::new();
        for (index, command) in batch.commands.iter().enumerate() {
            match next.command(batch.at_ms, command) {
                Ok(outcome) => outcomes.push(outcome),
                Err(why) => return (self.clone(), Err((index, why))),
            }
        }
        (next, Ok(outcomes))
    }

    fn command(&mut self, at_ms: i64, command: &Command) -> Result<Outcome, Why> {
        match command {
            Command::Open(spec) => {
                if let Some(place) = self.specs.iter().position(|other| other.name == spec.name) {
                    let same = self.specs[place] == *spec;
                    return if same { Ok(Outcome::Opened(AccountId(place as u64))) } else { Err("differs") };
                }
                self.specs.push(spec.clone());
                self.floors.push(spec.floor);
                self.seq += 1;
                Ok(Outcome::Opened(AccountId(self.accounts() - 1)))
            }
            Command::SetFloor { account, floor } => {
                self.known(account.0)?;
                self.floors[place(account.0)] = *floor;
                self.seq += 1;
                Ok(Outcome::Applied { seq: self.seq })
            }
            Command::Post { id, kind, legs, detail } => {
                if self.holds.contains_key(id) {
                    return Err("conflict");
                }
                self.post(*id, posted(*kind, legs, detail))
            }
            Command::Settle { id, kind, legs, detail } => {
                let entry = posted(*kind, legs, detail);
                match self.holds.contains_key(id) || self.ended.contains_key(id) {
                    true => self.post(*id, entry),
                    false => Err("unknown hold"),
                }
            }
            Command::Hold { id, reserves, expires_ms, detail } => {
                if self.ended.contains_key(id) {
                    return Err("conflict");
                }
                let asked = pairs(reserves);
                let hold =
                    Open { asked: asked.clone(), expires_ms: *expires_ms, detail: detail.clone(), taken: vec![] };
                if let Some(open) = self.holds.get(id) {
                    let same = Open { taken: vec![], ..open.clone() } == hold;
                    return if same { Ok(Outcome::Replayed) } else { Err("conflict") };
                }
                self.take(*id, hold, asked).map(|()| Outcome::Held)
            }
            Command::Extend { id, reserves } => {
                let hold = self.holds.get(id).cloned().ok_or("unknown hold")?;
                self.take(*id, hold, pairs(reserves)).map(|()| Outcome::Extended)
            }
            Command::Void { id } => self.end(*id, 0xff03, at_ms),
            Command::Expire { id } => self.end(*id, 0xff04, at_ms),
            Command::Put { id, kind, key, version, actor, body } => {
                if self.holds.contains_key(id) {
                    return Err("conflict");
                }
                let detail = format!("{kind} {key} {version} {actor} {body:?}").into_bytes();
                let entry = Posted { kind: 0xff05, legs: vec![], detail };
                if let Some(old) = self.ended.get(id) {
                    return if *old == entry { Ok(Outcome::Replayed) } else { Err("conflict") };
                }
                let current = self.versions.entry((*kind, key.clone())).or_default();
                if *version != *current + 1 {
                    return Err("version");
                }
                *current = *version;
                self.write(*id, entry)
            }
            Command::Expect { account, posted } => {
                self.known(account.0)?;
                if self.posted(account.0) == i128::from(*posted) { Ok(Outcome::Matched) } else { Err("changed") }
            }
        }
    }

    fn post(&mut self, id: EntryId, entry: Posted) -> Result<Outcome, Why> {
        if let Some(old) = self.ended.get(&id) {
            return if *old == entry { Ok(Outcome::Replayed) } else { Err("conflict") };
        }
        for (account, _) in &entry.legs {
            self.known(*account)?;
        }
        for (account, _) in &entry.legs {
            let unit = self.specs[place(*account)].unit;
            let of_unit = entry.legs.iter().filter(|(other, _)| self.specs[place(*other)].unit == unit);
            if of_unit.map(|(_, amount)| i128::from(*amount)).sum::<i128>() != 0 {
                return Err("unbalanced");
            }
        }
        let before = self.clone();
        self.holds.remove(&id);
        let outcome = self.write(id, entry);
        before.allows(self)?;
        outcome
    }

    fn take(&mut self, id: EntryId, mut hold: Open, more: Vec<(u64, i64)>) -> Result<(), Why> {
        if more.iter().any(|(_, amount)| *amount < 0) {
            return Err("invalid");
        }
        for (account, _) in &more {
            self.known(*account)?;
        }
        let before = self.clone();
        hold.taken.extend(more);
        self.holds.insert(id, hold);
        before.allows(self)
    }

    fn end(&mut self, id: EntryId, kind: u16, at_ms: i64) -> Result<Outcome, Why> {
        let Some(hold) = self.holds.get(&id) else {
            let old = self.ended.get(&id).ok_or("unknown hold")?;
            return if old.kind == kind { Ok(Outcome::Replayed) } else { Err("conflict") };
        };
        if kind == 0xff04 && at_ms < hold.expires_ms {
            return Err("not expired");
        }
        let detail = hold.detail.clone();
        self.holds.remove(&id);
        self.write(id, Posted { kind, legs: vec![], detail })
    }

    fn write(&mut self, id: EntryId, entry: Posted) -> Result<Outcome, Why> {
        self.ended.insert(id, entry);
        self.seq += 1;
        Ok(Outcome::Applied { seq: self.seq })
    }

    fn known(&self, account: u64) -> Result<(), Why> {
        if account < self.accounts() { Ok(()) } else { Err("unknown account") }
    }

    /// Whether the step from here to `after` leaves every account in range and takes none further below its floor.
    fn allows(&self, after: &Self) -> Result<(), Why> {
        let fits = |value: i128| i64::try_from(value).is_ok();
        for account in 0..self.accounts() {
            if !fits(after.posted(account)) || !fits(after.held(account)) {
                return Err("overflow");
            }
            let free = |state: &Self| state.posted(account) - state.held(account);
            if let Some(floor) = self.floor(account)
                && free(after) < floor.into()
                && free(after) < free(self)
            {
                return Err("insufficient");
            }
        }
        Ok(())
    }
}

fn posted(kind: u16, legs: &[Leg], detail: &[u8]) -> Posted {
    Posted { kind, legs: legs.iter().map(|leg| (leg.account.0, leg.amount)).collect(), detail: detail.to_vec() }
}

fn pairs(reserves: &[Reserve]) -> Vec<(u64, i64)> {
    reserves.iter().map(|reserve| (reserve.account.0, reserve.amount)).collect()
}

fn place(account: u64) -> usize {
    usize::try_from(account).unwrap()
}
