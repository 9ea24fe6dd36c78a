//! Units of experiments: what an assignment says, and what the details of requests and outcomes repeat of it.

use ledger::Entry;

use super::{FORM, entry_kind};
use crate::experiment::Unit;
use crate::pack::{Pack, Unpack};

/// Where a unit, and with it its requests, belongs in an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The experiment.
    pub experiment: String,
    /// The place of the arm.
    pub arm: u8,
    /// The version of the experiment under whose weights it was assigned.
    pub stretch: u64,
    /// With which chance it got this arm, in permille.
    pub propensity_permille: u16,
    /// What is assigned as a whole.
    pub unit: Unit,
    /// Until when it counts; `i64::MAX`: without an end.
    pub until_ms: i64,
}

impl Joined {
    pub(in crate::books) fn pack(&self, pack: &mut Pack) {
        let Self { experiment, arm, stretch, propensity_permille, unit, until_ms } = self;
        pack.text(experiment).byte(*arm).u64(*stretch).u64((*propensity_permille).into());
        pack.byte(u8::from(*unit == Unit::Episode)).i64(*until_ms);
    }

    pub(in crate::books) fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        Some(Self {
            experiment: from.text()?,
            arm: from.byte()?,
            stretch: from.u64()?,
            propensity_permille: u16::try_from(from.u64()?).ok()?,
            unit: match from.byte()? {
                0 => Unit::User,
                1 => Unit::Episode,
                _ => return None,
            },
            until_ms: from.i64()?,
        })
    }
}

/// A unit of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it belongs.
    pub joined: Joined,
    /// Its name.
    pub unit: String,
}

impl Member {
    pub(in crate::books) fn pack(&self, pack: &mut Pack) {
        self.joined.pack(pack);
        pack.text(&self.unit);
    }

    pub(in crate::books) fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        Some(Self { joined: Joined::unpack(from)?, unit: from.text()? })
    }

    /// Whether what happens at `at_ms` counts.
    #[must_use]
    pub fn counts(&self, at_ms: i64) -> bool {
        at_ms <= self.joined.until_ms
    }
}

/// Detail of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Whose experiment it is.
    pub organisation: String,
    /// The unit and its arm.
    pub member: Member,
}

impl Assigned {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(FORM).text(&self.organisation);
        self.member.pack(&mut pack);
        pack.0
    }

    /// From the detail of an entry; `None` when it is no assignment of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        let mut from = Unpack(&entry.detail);
        if entry.kind != entry_kind::ASSIGNED || from.byte()? != FORM {
            return None;
        }
        let assigned = Self { organisation: from.text()?, member: Member::unpack(&mut from)? };
        from.end(assigned)
    }
}
