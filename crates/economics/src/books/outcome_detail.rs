//! What the entries of outcomes say beside their amounts, packed. They hold all that the roll-ups count.

use ledger::{Entry, EntryId};

use super::detail::{Context, FORM, Member, entry_kind};
use crate::Nano;
use crate::outcome::{Attribution, Outcome, Remarks, Rule, TimeSaved, Valuation};
use crate::pack::{Pack, Unpack};

/// Whose outcome it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The organisation.
    pub organisation: String,
    /// The project.
    pub project: String,
    /// Whether requests of other projects are its concern too: of a key of the plant.
    pub any: bool,
}

impl Owner {
    /// Whether a request is its concern.
    #[must_use]
    pub fn reaches(&self, context: &Context) -> bool {
        self.any || (self.organisation == context.organisation && self.project == context.project)
    }

    fn pack(&self, pack: &mut Pack) {
        pack.text(&self.organisation).text(&self.project).byte(u8::from(self.any));
    }

    fn unpack(from: &mut Unpack<'_>) -> Option<Self> {
        Some(Self { organisation: from.text()?, project: from.text()?, any: from.byte()? == 1 })
    }
}

/// Outcomes whose parts say their end users, and which say of each way of counting its kind.
const KIND_FORM: u8 = 2;
/// Those that count for units of experiments too.
const MEMBERS_FORM: u8 = 3;

/// What TFP is told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The organisation.
    pub organisation: String,
    /// The project.
    pub project: String,
    /// The model.
    pub model: String,
    /// `metadata.task`.
    pub task: String,
    /// `metadata.prompt_version`.
    pub prompt_version: String,
    /// `metadata.tag`.
    pub tag: String,
    /// The end user: the `user` field.
    pub user: String,
}

impl Subject {
    /// Of a request.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        let Context { organisation, project, model, tag, user, metadata, .. } = context;
        Self {
            organisation: organisation.clone(),
            project: project.clone(),
            model: model.clone(),
            task: metadata.task.clone(),
            prompt_version: metadata.prompt_version.clone(),
            tag: tag.clone(),
            user: user.clone(),
        }
    }

    fn words(&self) -> [&str; 7] {
        let Self { organisation, project, model, task, prompt_version, tag, user } = self;
        [organisation, project, model, task, prompt_version, tag, user].map(String::as_str)
    }

    fn unpack(from: &mut Unpack<'_>, form: u8) -> Option<Self> {
        Some(Self {
            organisation: from.text()?,
            project: from.text()?,
            model: from.text()?,
            task: from.text()?,
            prompt_version: from.text()?,
            tag: from.text()?,
            user: if form == FORM { String::new() } else { from.text()? },
        })
    }
}

/// What of an outcome a request has brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The request.
    pub request: [u8; 16],
    /// Permille of the outcome.
    pub weight: u16,
    /// Its part of the value.
    pub value: Nano,
    /// The request's.
    pub subject: Subject,
    /// The day on which it ended, from the epoch.
    pub day: i64,
    /// Which random group its cluster is in.
    pub bucket: u8,
    /// Its answer's tokens.
    pub output: u64,
    /// Whether by this outcome the request has one, or by undoing it none.
    pub covers: bool,
    /// Whether by this outcome the request's output is accepted, or by undoing it no more.
    pub adopts: bool,
    /// The unit of an experiment that this counts for.
    pub member: Option<Member>,
}

/// An outcome of a unit of an experiment, whether it has requests or not. It is no value of the plant's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPart {
    /// The unit.
    pub member: Member,
    /// All of the outcome's value.
    pub value: Nano,
}

/// An outcome as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its kind.
    pub kind: String,
    /// How its value is known.
    pub valuation: Valuation,
    /// Whether the output was used.
    pub accepted: bool,
    /// Whether it is a unit of work.
    pub unit: bool,
    /// By request.
    pub parts: Vec<Part>,
    /// Of a unit, in place of requests.
    pub unit_part: Option<UnitPart>,
}

impl Counted {
    /// All of its value that requests have brought about.
    #[must_use]
    pub fn value(&self) -> Nano {
        self.parts.iter().fold(Nano::ZERO, |sum, part| sum.saturating_add(part.value))
    }

    /// Whether it counts for an experiment.
    fn has_members(&self) -> bool {
        self.unit_part.is_some() || self.parts.iter().any(|part| part.member.is_some())
    }

    fn pack(&self, pack: &mut Pack, form: u8) {
        pack.text(&self.kind).byte(self.valuation.code()).byte(u8::from(self.accepted)).byte(u8::from(self.unit));
        let mut subjects: Vec<&Subject> = self.parts.iter().map(|part| &part.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        pack.u64(subjects.len() as u64);
        for subject in &subjects {
            subject.words().into_iter().fold(&mut *pack, |pack, word| pack.text(word));
        }
        // Requests of one unit say it once.
        let mut members: Vec<&Member> = Vec::new();
        if form == MEMBERS_FORM {
            for member in self.parts.iter().filter_map(|part| part.member.as_ref()) {
                if !members.contains(&member) {
                    members.push(member);
                }
            }
            pack.u64(members.len() as u64);
            members.iter().for_each(|member| member.pack(pack));
        }
        pack.u64(self.parts.len() as u64);
        for part in &self.parts {
            let place = subjects.binary_search(&&part.subject).unwrap_or(0);
            pack.0.extend_from_slice(&part.request);
            pack.u64(part.weight.into()).i64(part.value.0).u64(place as u64).i64(part.day).byte(part.bucket);
            pack.u64(part.output).byte(u8::from(part.covers)).byte(u8::from(part.adopts));
            if form == MEMBERS_FORM {
                // Shifted by one; 0: none.
                let place = part.member.as_ref().and_then(|own| members.iter().position(|member| *member == own));
                pack.u64(place.map_or(0, |place| place as u64 + 1));
            }
        }
        if form == MEMBERS_FORM {
            pack.byte(u8::from(self.unit_part.is_some()));
            if let Some(UnitPart { member, value }) = &self.unit_part {
                member.pack(pack);
                pack.i64(value.0);
            }
        }
    }

    /// `kind`: where the form says none of its own.
    fn unpack(from: &mut Unpack<'_>, form: u8, kind: &str) -> Option<Self> {
        let kind = if form == FORM { kind.to_owned() } else { from.text()? };
        let valuation = Valuation::from_code(from.byte()?)?;
        let (accepted, unit) = (from.byte()? == 1, from.byte()? == 1);
        let subjects = from.many(|from| Subject::unpack(from, form))?;
        let members = if form == MEMBERS_FORM { from.many(Member::unpack)? } else { Vec::new() };
        let parts = from.many(|from| {
            let request = from.id()?;
            let (weight, value) = (u16::try_from(from.u64()?).ok()?, Nano(from.i64()?));
            let subject = subjects.get(usize::try_from(from.u64()?).ok()?)?.clone();
            let (day, bucket, output) = (from.i64()?, from.byte()?, from.u64()?);
            let (covers, adopts) = (from.byte()? == 1, from.byte()? == 1);
            let place = if form == MEMBERS_FORM { from.u64()?.checked_sub(1) } else { None };
            let member = match place {
                Some(place) => Some(members.get(usize::try_from(place).ok()?)?.clone()),
                None => None,
            };
            Some(Part { request, weight, value, subject, day, bucket, output, covers, adopts, member })
        })?;
        let has_unit = form == MEMBERS_FORM && from.byte()? == 1;
        let unit_part =
            if has_unit { Some(UnitPart { member: Member::unpack(from)?, value: Nano(from.i64()?) }) } else { None };
        Some(Self { kind, valuation, accepted, unit, parts, unit_part })
    }
}

/// Detail of an outcome that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valued {
    /// Whose it is.
    pub owner: Owner,
    /// As it was told.
    pub outcome: Outcome,
    /// The entry that kept it aside before, if one did; 0: none.
    pub aside: u64,
    /// How it is counted.
    pub counted: Counted,
    /// The entry of the revision before and how that was counted, which counts no more.
    pub undone: Option<(u64, Counted)>,
}

impl Valued {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        let has_members =
            self.counted.has_members() || self.undone.as_ref().is_some_and(|(_, counted)| counted.has_members());
        let form = if has_members { MEMBERS_FORM } else { KIND_FORM };
        pack.byte(form);
        self.owner.pack(&mut pack);
        pack_outcome(&self.outcome, &mut pack);
        pack.u64(self.aside);
        self.counted.pack(&mut pack, form);
        pack.byte(u8::from(self.undone.is_some()));
        if let Some((seq, counted)) = &self.undone {
            pack.u64(*seq);
            counted.pack(&mut pack, form);
        }
        pack.0
    }

    /// From the detail of an entry; `None` when it is no outcome of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        let mut from = Unpack(&entry.detail);
        if entry.kind != entry_kind::VALUED {
            return None;
        }
        let form = from.byte().filter(|form| matches!(*form, FORM | KIND_FORM | MEMBERS_FORM))?;
        let (owner, outcome) = (Owner::unpack(&mut from)?, unpack_outcome(&mut from)?);
        let (aside, counted) = (from.u64()?, Counted::unpack(&mut from, form, &outcome.kind)?);
        let undone = match from.byte()? {
            0 => None,
            _ => Some((from.u64()?, Counted::unpack(&mut from, form, &outcome.kind)?)),
        };
        from.end(Self { owner, outcome, aside, counted, undone })
    }
}

/// Detail of an outcome that is kept aside, because some of its requests are not in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Whose it is.
    pub owner: Owner,
    /// As it was told.
    pub outcome: Outcome,
}

impl Aside {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(FORM);
        self.owner.pack(&mut pack);
        pack_outcome(&self.outcome, &mut pack);
        pack.0
    }

    /// From the detail of an entry; `None` when it is no outcome kept aside of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        let mut from = Unpack(&entry.detail);
        if entry.kind != entry_kind::ASIDE || from.byte()? != FORM {
            return None;
        }
        let aside = Self { owner: Owner::unpack(&mut from)?, outcome: unpack_outcome(&mut from)? };
        from.end(aside)
    }
}

fn pack_outcome(outcome: &Outcome, pack: &mut Pack) {
    let Outcome { id, revision, kind, value, saved, valuation, accepted, .. } = outcome;
    pack.text(id).u64((*revision).into()).text(kind).i64(value.0).byte(u8::from(saved.is_some()));
    if let Some(TimeSaved { milli_minutes, rate_per_hour }) = saved {
        pack.u64(*milli_minutes).i64(rate_per_hour.0);
    }
    pack.byte(valuation.code()).byte(u8::from(*accepted)).byte(u8::from(outcome.occurred_ms.is_some()));
    pack.i64(outcome.occurred_ms.unwrap_or(0)).u64(outcome.maturity_days.into());
    match &outcome.attribution {
        Attribution::Requests(requests) => {
            pack.byte(0).u64(requests.len() as u64);
            for (id, weight) in requests {
                pack.0.extend_from_slice(&id.0);
                pack.u64((*weight).into());
            }
        }
        Attribution::Episode { episode, rule } => {
            pack.byte(1).text(episode).byte(rule.code());
        }
        Attribution::Unit { experiment, unit } => {
            pack.byte(2).text(experiment).text(unit);
        }
    }
    let Remarks { number, category, comment, demonstration } = &outcome.remarks;
    pack.text(number).text(category).text(comment).text(demonstration);
}

fn unpack_outcome(from: &mut Unpack<'_>) -> Option<Outcome> {
    let (id, revision, kind, value) = (from.text()?, from.u32()?, from.text()?, Nano(from.i64()?));
    let saved = match from.byte()? {
        0 => None,
        _ => Some(TimeSaved { milli_minutes: from.u64()?, rate_per_hour: Nano(from.i64()?) }),
    };
    let (valuation, accepted) = (Valuation::from_code(from.byte()?)?, from.byte()? == 1);
    let (told, occurred_ms) = (from.byte()? == 1, from.i64()?);
    let maturity_days = u16::try_from(from.u64()?).ok()?;
    let attribution = match from.byte()? {
        0 => Attribution::Requests(from.many(|from| Some((EntryId(from.id()?), u16::try_from(from.u64()?).ok()?)))?),
        1 => Attribution::Episode { episode: from.text()?, rule: Rule::from_code(from.byte()?)? },
        2 => Attribution::Unit { experiment: from.text()?, unit: from.text()? },
        _ => return None,
    };
    let remarks =
        Remarks { number: from.text()?, category: from.text()?, comment: from.text()?, demonstration: from.text()? };
    let occurred_ms = told.then_some(occurred_ms);
    Some(Outcome {
        id,
        revision,
        kind,
        value,
        saved,
        valuation,
        accepted,
        occurred_ms,
        attribution,
        maturity_days,
        remarks,
    })
}
