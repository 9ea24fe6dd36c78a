//! Units of experiments: each comes to an arm once, which is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::{AccountId, AccountKind, Batch, Command, Document, Entry, EntryId, Leg, Refusal, Refused, StoreError};

use super::accounts::{open, spec, unit};
use super::detail::{Assigned, Joined, Member, entry_kind};
use super::outcome_detail::Owner;
use super::{Books, DURABLE_WAIT, PostError, id_of};
use crate::Invalid;
use crate::directory::record::{Kind, Record, check_text};
use crate::experiment::{Experiment, MAX_UNITS, State, UNIT_BYTES};
use crate::outcome::CLOCK_SKEW_MS;

/// Why what a unit gets is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// The experiment is over: all get its winner, else its control.
    Stopped,
    /// It has as many units as it can have: others get the control.
    Full,
}

impl NotCounted {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Full => "full",
        }
    }
}

/// What a unit gets.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The experiment as it is.
    pub experiment: Arc<Experiment>,
    /// The place of the arm.
    pub arm: usize,
    /// Where it is counted, or why it is not.
    pub joined: Result<Joined, NotCounted>,
}

/// The entry that keeps a unit's arm. Ids of experiments are unique in the plant.
fn assignment_id(experiment: &str, unit: &str) -> EntryId {
    id_of(&["assignment", experiment, unit])
}

impl Books {
    /// The arm of a unit: the one it got first, whatever weights are now. A unit that has none gets the one that `draw`
    /// says, which is on the disk when this returns.
    ///
    /// # Errors
    /// Names `experiment` where it is none of the project's, `unit`, what `draw` says, or the ledger's.
    pub fn assign(
        &self,
        (organisation, project): (&str, &str),
        (experiment, unit): (&str, &str),
        draw: impl Fn(&Experiment) -> Result<usize, Invalid>,
        now_ms: i64,
    ) -> Result<Placement, PostError> {
        check_text("unit", unit, UNIT_BYTES)?;
        let (experiment, stretch) = self.experiment_of((organisation, project), experiment)?;
        if experiment.state == State::Stopped {
            let arm = experiment.last_arm();
            return Ok(Placement { experiment, arm, joined: Err(NotCounted::Stopped) });
        }
        if let Some(placement) = self.placement(&experiment, unit)? {
            return Ok(placement);
        }
        let (account, contra) = self.unit_accounts(&experiment.id, now_ms)?;
        if self.ledger.balance(account)?.is_some_and(|balance| balance.posted >= MAX_UNITS) {
            return Ok(Placement { experiment, arm: 0, joined: Err(NotCounted::Full) });
        }
        let arm = draw(&experiment)?;
        let drawn = experiment.arms.get(arm).zip(u8::try_from(arm).ok());
        let (propensity_permille, place) = drawn
            .map(|(arm, place)| (arm.weight, place))
            .ok_or_else(|| Invalid::new("arm", format!("there is no arm {arm}"), "draw one of the experiment's"))?;
        let joined = Joined {
            experiment: experiment.id.clone(),
            arm: place,
            stretch,
            propensity_permille,
            unit: experiment.unit,
            until_ms: experiment.until_ms(now_ms),
        };
        let member = Member { joined: joined.clone(), unit: unit.to_owned() };
        let detail = Assigned { organisation: experiment.organisation.clone(), member }.pack();
        let legs = vec![Leg { account, amount: 1 }, Leg { account: contra, amount: -1 }];
        let id = assignment_id(&experiment.id, unit);
        let post = Command::Post { id, kind: entry_kind::ASSIGNED, legs, detail };
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![post] }) {
            Ok(receipt) => {
                receipt.wait_durable(DURABLE_WAIT)?;
                Ok(Placement { experiment, arm, joined: Ok(joined) })
            }
            // Another request of the unit was quicker: what it got stays.
            Err(refused @ Refused { refusal: Refusal::Conflict(_), .. }) => {
                self.placement(&experiment, unit)?.ok_or_else(|| refused.into())
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// What a unit has got, on the disk; `None`: nothing yet.
    fn placement(&self, experiment: &Arc<Experiment>, unit: &str) -> Result<Option<Placement>, PostError> {
        let Some((entry, assigned)) = self.assigned(&experiment.id, unit)? else { return Ok(None) };
        // Whoever assigned it may still wait for the disk.
        if entry.seq > self.ledger.last_seq()? {
            self.ledger.flush(DURABLE_WAIT)?;
        }
        let joined = assigned.member.joined;
        Ok(Some(Placement { experiment: Arc::clone(experiment), arm: joined.arm.into(), joined: Ok(joined) }))
    }

    /// An experiment that requests of a project may join, and its version.
    ///
    /// # Errors
    /// Names `experiment`, where the project has none of this id.
    pub fn experiment_of(
        &self,
        (organisation, project): (&str, &str),
        id: &str,
    ) -> Result<(Arc<Experiment>, u64), Invalid> {
        let directory = self.directory();
        let found = directory.experiment(id).filter(|found| found.takes(organisation, project));
        let found = found.map(|found| (Arc::clone(found), directory.version(Kind::Experiment, id)));
        found.ok_or_else(|| {
            let id: String = id.chars().take(64).flat_map(char::escape_debug).collect();
            let fix = "GET /v1/experiments lists those that there are";
            Invalid::new("experiment", format!("there is no experiment `{id}` for this project"), fix)
        })
    }

    /// The weights of an experiment in permille, by version. Only what is on the disk.
    ///
    /// # Errors
    /// The store's, or a version cannot be read.
    pub fn experiment_weights(&self, id: &str) -> Result<BTreeMap<u64, Vec<u16>>, StoreError> {
        let kind = Kind::Experiment.code();
        let read = |document: Document| match Record::read(kind, id, &document.body) {
            Ok(Record::Experiment(experiment)) => Ok((document.version, experiment.weights())),
            _ => Err(StoreError::Damaged(format!("version {} of experiment `{id}` cannot be read", document.version))),
        };
        self.ledger.document_history(kind, id)?.into_iter().map(read).collect()
    }

    /// The assignment of a unit and its entry.
    fn assigned(&self, experiment: &str, unit: &str) -> Result<Option<(Entry, Assigned)>, StoreError> {
        let Some(entry) = self.ledger.entry_by_id(assignment_id(experiment, unit))? else { return Ok(None) };
        let damaged = || StoreError::Damaged(format!("entry {} should be an assignment", entry.seq));
        let assigned = Assigned::read(&entry).ok_or_else(damaged)?;
        Ok(Some((entry, assigned)))
    }

    /// The unit that an outcome names, if it was assigned before the outcome occurred and counts still.
    pub(super) fn told_unit(
        &self,
        owner: &Owner,
        (experiment, unit): (&str, &str),
        occurred_ms: i64,
    ) -> Result<Member, PostError> {
        if !owner.any {
            self.experiment_of((&owner.organisation, &owner.project), experiment)?;
        }
        let Some((entry, Assigned { member, .. })) = self.assigned(experiment, unit)? else {
            let fix = "assign it first: POST /v1/experiments/ID/assignments, or a request with `metadata.experiment`";
            return Err(Invalid::new("unit", "it was not assigned in this experiment", fix).into());
        };
        if occurred_ms < entry.at_ms.saturating_sub(CLOCK_SKEW_MS) {
            let fix = "tell what a unit brought about after it came to its arm";
            return Err(Invalid::new("occurred_at", "before the unit was assigned", fix).into());
        }
        if !member.counts(occurred_ms) {
            let fix = "units count for the `window_days` of their experiment";
            return Err(Invalid::new("occurred_at", "after the unit's days were over", fix).into());
        }
        Ok(member)
    }

    /// The account that counts the units of an experiment, and its other side.
    fn unit_accounts(&self, experiment: &str, now_ms: i64) -> Result<(AccountId, AccountId), PostError> {
        let units = |name: String, kind| spec(name, kind, unit::EXPERIMENT_UNITS, None);
        let account = units(format!("plant/experiments/{experiment}"), AccountKind::Value);
        let contra = units("plant/experiments-contra".to_owned(), AccountKind::Contra);
        if let Some(known) = self.ledger.account(&account.name)?.zip(self.ledger.account(&contra.name)?) {
            return Ok(known);
        }
        let [account, contra] = open(&self.ledger, [account, contra], now_ms)?;
        Ok((account, contra))
    }
}
