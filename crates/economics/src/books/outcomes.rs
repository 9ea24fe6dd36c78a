//! Outcomes: told, attributed to the requests that brought them about, counted, corrected by revisions; kept aside while
//! their requests are not in the books.

mod accounts;
mod waiting;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{Batch, Command, Entry, EntryId, Outcome as Done, Refusal, Refused, StoreError};

use super::detail::{Context, Settlement, entry_kind};
use super::outcome_detail::{Aside, Counted, Owner, Part, Subject, UnitPart, Valued};
use super::{Books, DURABLE_WAIT, PostError, id_of};
use crate::outcome::{Attribution, MAX_REQUESTS, Outcome, Rule, WHOLE_PERMILLE};
use crate::plant::largest_remainder;
use crate::rollup;
use crate::window::DAY_MS;
use crate::{Invalid, Nano};

use accounts::Accounts;
use waiting::{Awaited, MAX_WAITING, Waiting};

/// Of those that other servers' requests may have answered, how many are looked at each time.
const LOOKED_AT: usize = 100;
/// How often an outcome is tried while others are posted.
const TRIES: u32 = 16;
/// Longest detail of an entry.
const DETAIL_BYTES: usize = ledger::limit::DETAIL;

/// What became of an outcome that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The number of its entry.
    pub entry: u64,
    /// Whether it is kept aside: some of its requests are not in the books.
    pub aside: bool,
    /// Whether it was told before.
    pub replayed: bool,
}

/// Why an outcome was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// It contradicts what was told before.
    #[error(transparent)]
    Conflict(Invalid),
    /// A field is wrong, or the ledger does not take it.
    #[error(transparent)]
    Post(#[from] PostError),
}

impl From<Invalid> for OutcomeError {
    fn from(error: Invalid) -> Self {
        Self::Post(error.into())
    }
}

impl From<StoreError> for OutcomeError {
    fn from(error: StoreError) -> Self {
        Self::Post(error.into())
    }
}

impl From<Refused> for OutcomeError {
    fn from(error: Refused) -> Self {
        Self::Post(error.into())
    }
}

/// What the books keep for outcomes beside the ledger.
#[derive(Default)]
pub(super) struct OutcomeDesk {
    /// Opened with the first outcome of an organisation. Locked while one is posted, until it is on the disk: what the next one changes depends
    /// on the roll-ups.
    accounts: Mutex<HashMap<String, Accounts>>,
    waiting: Mutex<Waiting>,
    /// How many wait: whoever finds none looks no further.
    count: AtomicUsize,
}

impl OutcomeDesk {
    /// A request is in the books now.
    pub(super) fn settled(&self, request: EntryId, context: &Context) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut waiting = self.waiting();
        waiting.come(&Awaited::Request(request));
        if !context.metadata.episode.is_empty() {
            let Context { organisation, project, metadata, .. } = context;
            let words = [organisation, project, &metadata.episode].map(String::clone);
            waiting.come(&Awaited::Episode(words));
        }
    }

    /// No change of it can panic half way.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_waiting(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting();
        change(&mut waiting);
        self.count.store(waiting.entries.len(), Ordering::Release);
    }
}

/// The requests of an outcome with their parts, before it is known what they change.
enum Attributed {
    /// Or a unit of an experiment in place of them.
    Known(Vec<Part>, Option<UnitPart>),
    /// Some are not in the books, or not the owner's concern.
    Unknown,
}

/// An outcome on its way into the books.
struct Posting<'a> {
    owner: &'a Owner,
    outcome: &'a Outcome,
    /// The entry that kept it aside.
    aside: u64,
    /// When it was told.
    told_ms: i64,
    now_ms: i64,
}

impl Posting<'_> {
    /// Of the entry that counts it, or that keeps it aside.
    fn id(&self, aside: bool) -> EntryId {
        entry_id(self.owner, (&self.outcome.id, self.outcome.revision), aside)
    }

    fn occurred_ms(&self) -> i64 {
        self.outcome.occurred_ms.unwrap_or(self.told_ms)
    }
}

fn entry_id(owner: &Owner, (id, revision): (&str, u32), aside: bool) -> EntryId {
    let kind = if aside { "outcome aside" } else { "outcome" };
    id_of(&[kind, &owner.organisation, &owner.project, id, &revision.to_string()])
}

impl Books {
    /// Takes an outcome: counts it for its requests, or keeps it aside while some are not in the books. It is on the disk
    /// when this returns. The same outcome again changes nothing.
    ///
    /// # Errors
    /// Names the field that is wrong, or what was told before.
    pub fn tell_outcome(&self, owner: &Owner, outcome: &Outcome, now_ms: i64) -> Result<Told, OutcomeError> {
        let posting = Posting { owner, outcome, aside: 0, told_ms: now_ms, now_ms };
        let mut accounts = self.outcomes.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = self.told_before(&posting)? {
            return Ok(told);
        }
        outcome.check(now_ms)?;
        let accounts = self.outcome_accounts(&mut accounts, &owner.organisation, now_ms)?;
        self.decide(&accounts, &posting)
    }

    /// Posts it, unless it was told before; again where others were posted meanwhile.
    fn decide(&self, accounts: &Accounts, posting: &Posting<'_>) -> Result<Told, OutcomeError> {
        // The roll-ups that it is decided on know only what is on the disk.
        self.ledger.flush(DURABLE_WAIT).map_err(PostError::from)?;
        for _ in 0..TRIES {
            if let Some(told) = self.told_before(posting)? {
                return Ok(told);
            }
            match self.post_outcome(accounts, posting) {
                Err(OutcomeError::Post(PostError::Refused(Refused {
                    refusal: Refusal::Changed { .. } | Refusal::Conflict(_),
                    ..
                }))) => {}
                other => return other,
            }
        }
        let refusal = Refusal::Unavailable { reason: "others tell outcomes all the time".to_owned() };
        Err(Refused { index: 0, refusal }.into())
    }

    /// Counts the outcomes that were kept aside and whose requests have come since, within their maturity. Gives how many.
    ///
    /// # Errors
    /// The ledger's; those left are looked at the next time.
    pub fn match_outcomes(&self, now_ms: i64) -> Result<usize, OutcomeError> {
        self.load_waiting()?;
        let mut matched = 0;
        loop {
            // One at a time: what is not looked at stays due.
            let Some(seq) = self.outcomes.waiting().due.pop_first() else { return Ok(matched) };
            match self.match_one(seq, now_ms) {
                Ok(true) => matched += 1,
                Ok(false) => {}
                Err(OutcomeError::Post(error)) if error.is_temporary() => {
                    self.outcomes.waiting().due.insert(seq);
                    return Err(error.into());
                }
                // It must not be in the way of others: it stays aside.
                Err(error) => {
                    tracing::warn!("the outcome of entry {seq} stays aside: {error}");
                    self.outcomes.change_waiting(|waiting| waiting.remove(seq));
                }
            }
        }
    }

    fn match_one(&self, seq: u64, now_ms: i64) -> Result<bool, OutcomeError> {
        let entry = self.ledger.entries(seq, 1)?.pop();
        let Some((told_ms, Aside { owner, outcome })) =
            entry.and_then(|entry| Some((entry.at_ms, Aside::read(&entry)?)))
        else {
            return Ok(false);
        };
        let maturity_ms = i64::from(outcome.maturity_days).saturating_mul(DAY_MS);
        if now_ms > told_ms.saturating_add(maturity_ms) {
            self.outcomes.change_waiting(|waiting| waiting.remove(seq));
            return Ok(false);
        }
        let posting = Posting { owner: &owner, outcome: &outcome, aside: seq, told_ms, now_ms };
        let mut accounts = self.outcomes.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = self.outcome_accounts(&mut accounts, &owner.organisation, now_ms)?;
        let told = self.decide(&accounts, &posting)?;
        if !told.aside {
            self.outcomes.change_waiting(|waiting| waiting.remove(seq));
        }
        Ok(!told.aside && !told.replayed)
    }

    /// Reads once which outcomes wait, and marks those that other servers' requests may have answered.
    fn load_waiting(&self) -> Result<(), OutcomeError> {
        if !self.outcomes.waiting().loaded {
            let mut found = Vec::new();
            for seq in rollup::last_asides(&self.ledger, MAX_WAITING)? {
                let aside = self.ledger.entries(seq, 1)?.pop().as_ref().and_then(Aside::read);
                found.extend(aside.map(|aside| (seq, awaited(&aside.owner, &aside.outcome))));
            }
            self.outcomes.change_waiting(|waiting| {
                found.into_iter().for_each(|(seq, awaited)| waiting.insert(seq, awaited));
                waiting.loaded = true;
            });
        }
        if self.ledger.is_shared() {
            self.outcomes.change_waiting(|waiting| {
                let from = waiting.looked_at.saturating_add(1);
                let next: Vec<u64> = waiting.entries.range(from..).map(|(seq, _)| *seq).take(LOOKED_AT).collect();
                waiting.looked_at = if next.len() < LOOKED_AT { 0 } else { next.last().copied().unwrap_or(0) };
                waiting.due.extend(next);
            });
        }
        Ok(())
    }

    /// What became of it if it was told before; it has to be the same then.
    fn told_before(&self, posting: &Posting<'_>) -> Result<Option<Told>, OutcomeError> {
        // What was kept aside is to be counted now.
        let places: &[bool] = if posting.aside > 0 { &[false] } else { &[false, true] };
        for &aside in places {
            let Some(entry) = self.ledger.entry_by_id(posting.id(aside))? else { continue };
            let known = if aside {
                Aside::read(&entry).map(|aside| aside.outcome)
            } else {
                Valued::read(&entry).map(|valued| valued.outcome)
            };
            if known.as_ref() != Some(posting.outcome) {
                let problem =
                    format!("revision {} of it was told before and said something else", posting.outcome.revision);
                let fix = "correct an outcome by its next `revision`, or name another one by another id";
                return Err(OutcomeError::Conflict(Invalid::new("id", problem, fix)));
            }
            self.ledger.flush(DURABLE_WAIT).map_err(PostError::from)?;
            return Ok(Some(Told { entry: entry.seq, aside, replayed: true }));
        }
        Ok(None)
    }

    /// The revision before, which has to be counted.
    fn revision_before(&self, posting: &Posting<'_>) -> Result<Option<(u64, Counted)>, OutcomeError> {
        let Some(before) = posting.outcome.revision.checked_sub(1).filter(|before| *before > 0) else {
            return Ok(None);
        };
        let named = (posting.outcome.id.as_str(), before);
        let entry = self.ledger.entry_by_id(entry_id(posting.owner, named, false))?;
        if let Some((seq, valued)) = entry.and_then(|entry| Some((entry.seq, Valued::read(&entry)?))) {
            return Ok(Some((seq, valued.counted)));
        }
        let aside = self.ledger.entry_by_id(entry_id(posting.owner, named, true))?.is_some();
        let (problem, fix) = if aside {
            (format!("revision {before} is kept aside"), "send it again once its requests have ended")
        } else {
            (format!("there is no revision {before}"), "count revisions from 1, one by one")
        };
        Err(OutcomeError::Conflict(Invalid::new("revision", problem, fix)))
    }

    /// Posts it as counted, or, where its requests are unknown, as kept aside.
    fn post_outcome(&self, accounts: &Accounts, posting: &Posting<'_>) -> Result<Told, OutcomeError> {
        let Posting { owner, outcome, aside, now_ms, .. } = *posting;
        let posted = self.ledger.balance(accounts.outcomes)?.map_or(0, |balance| balance.posted);
        let undone = self.revision_before(posting)?;
        let attributed = self.attribute(posting)?;
        let unknown = matches!(attributed, Attributed::Unknown);
        let waits_for = awaited(owner, outcome);
        let owner = owner.clone();
        let (kind, legs, detail) = match attributed {
            Attributed::Unknown if aside > 0 => return Ok(Told { entry: aside, aside: true, replayed: true }),
            Attributed::Unknown if undone.is_some() => {
                let fix = "name requests of this project that have ended";
                return Err(Invalid::new("requests", "some of them are not in the books", fix).into());
            }
            Attributed::Unknown => {
                let aside = Aside { owner, outcome: outcome.clone() };
                (entry_kind::ASIDE, accounts.legs(None, None), aside.pack())
            }
            Attributed::Known(parts, unit_part) => {
                let (valuation, accepted, unit) = (outcome.valuation, outcome.accepted, outcome.is_unit());
                let kind = outcome.kind.clone();
                let counted = Counted { kind, valuation, accepted, unit, parts, unit_part };
                let mut valued = Valued { owner, outcome: outcome.clone(), aside, counted, undone };
                self.mark_changes(&mut valued)?;
                let legs = accounts.legs(Some(&valued.counted), valued.undone.as_ref().map(|(_, counted)| counted));
                (entry_kind::VALUED, legs, valued.pack())
            }
        };
        if detail.len() > DETAIL_BYTES {
            let fix = "name fewer requests, or shorten comment and demonstration";
            return Err(Invalid::new("requests", "more than fits into one entry of the books", fix).into());
        }
        let expect = Command::Expect { account: accounts.outcomes, posted };
        let post = Command::Post { id: posting.id(unknown), kind, legs, detail };
        let receipt = self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![expect, post] })?;
        receipt.wait_durable(DURABLE_WAIT).map_err(PostError::from)?;
        let entry = receipt.outcomes.iter().find_map(|done| match done {
            Done::Applied { seq } => Some(*seq),
            _ => None,
        });
        let entry = entry.ok_or_else(|| StoreError::Damaged("an outcome was not written".to_owned()))?;
        if unknown {
            self.outcomes.change_waiting(|waiting| waiting.insert(entry, waits_for));
        }
        Ok(Told { entry, aside: unknown, replayed: false })
    }

    /// The requests of an outcome, with the parts of it that they have brought about.
    fn attribute(&self, posting: &Posting<'_>) -> Result<Attributed, OutcomeError> {
        let requests = match &posting.outcome.attribution {
            Attribution::Requests(requests) => requests.clone(),
            Attribution::Episode { episode, rule } => self.requests_of_episode(posting.owner, episode, *rule)?,
            Attribution::Unit { experiment, unit } => {
                let member = self.told_unit(posting.owner, (experiment, unit), posting.occurred_ms())?;
                return Ok(Attributed::Known(Vec::new(), Some(UnitPart { member, value: posting.outcome.value })));
            }
        };
        if requests.is_empty() {
            return Ok(Attributed::Unknown);
        }
        let occurred_ms = posting.occurred_ms();
        let mut weights: Vec<u64> = requests.iter().map(|(_, weight)| u64::from(*weight)).collect();
        let alike = vec![1; weights.len()];
        // Parts that are alike but for what a permille cannot say are alike to the nano-unit.
        if weights == largest_remainder(WHOLE_PERMILLE.into(), &alike) {
            weights = alike;
        }
        let whole = u64::try_from(posting.outcome.value.0).unwrap_or(0);
        let mut parts = Vec::with_capacity(requests.len());
        for ((id, weight), value) in requests.iter().zip(largest_remainder(whole, &weights)) {
            let Some((entry, settled)) = self.own_charge(posting.owner, *id)? else { return Ok(Attributed::Unknown) };
            parts.push(Part {
                request: id.0,
                weight: *weight,
                value: Nano(i64::try_from(value).unwrap_or(i64::MAX)),
                subject: Subject::of(&settled.context),
                day: rollup::day_of(entry.at_ms),
                bucket: rollup::bucket(&settled.context, entry.id.unwrap_or(*id)),
                output: settled.quantities.output(),
                covers: false,
                adopts: false,
                member: settled
                    .context
                    .member()
                    .filter(|member| member.counts(entry.at_ms) && member.counts(occurred_ms)),
            });
        }
        Ok(Attributed::Known(parts, None))
    }

    /// The charge of a request, if it is in the books and its owner's.
    fn own_charge(&self, owner: &Owner, request: EntryId) -> Result<Option<(Entry, Settlement)>, StoreError> {
        Ok(self.charging_entry(request)?.filter(|(_, settled)| owner.reaches(&settled.context)))
    }

    /// The requests that an outcome names and that are not in the books, or not its owner's.
    ///
    /// # Errors
    /// The store's.
    pub fn missing_requests(&self, aside: &Aside) -> Result<Vec<EntryId>, StoreError> {
        let Attribution::Requests(requests) = &aside.outcome.attribution else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for (id, _) in requests {
            if self.own_charge(&aside.owner, *id)?.is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    /// None: no request of it has ended.
    fn requests_of_episode(
        &self,
        owner: &Owner,
        episode: &str,
        rule: Rule,
    ) -> Result<Vec<(EntryId, u16)>, OutcomeError> {
        let most = if rule == Rule::Even { MAX_REQUESTS + 1 } else { 1 };
        let found = rollup::episode(
            &self.ledger,
            owner,
            episode,
            (rule == Rule::Last, u32::try_from(most).unwrap_or(u32::MAX)),
        )?;
        if found.len() > MAX_REQUESTS {
            let fix = "use the rule `first` or `last`, or name `requests` with weights";
            return Err(Invalid::new("rule", format!("`{episode}` has more than {MAX_REQUESTS} requests"), fix).into());
        }
        let weights = largest_remainder(WHOLE_PERMILLE.into(), &vec![1; found.len()]);
        Ok(found.into_iter().zip(weights).map(|(id, weight)| (id, u16::try_from(weight).unwrap_or(0))).collect())
    }

    /// Marks which requests have an outcome, or accepted output, only now, and which no more. First the revision before is
    /// undone.
    fn mark_changes(&self, valued: &mut Valued) -> Result<(), StoreError> {
        let mut standing: HashMap<[u8; 16], (i64, i64)> = HashMap::new();
        let undone = valued.undone.as_mut().map(|(_, counted)| (-1, counted));
        for (sign, counted) in undone.into_iter().chain([(1, &mut valued.counted)]) {
            let accepted = i64::from(counted.accepted);
            for part in &mut counted.parts {
                let mut now = match standing.get(&part.request) {
                    Some(known) => *known,
                    None => rollup::outcomes_of(&self.ledger, part.request)?,
                };
                let before = now;
                now = (now.0 + sign, now.1 + sign * accepted);
                part.covers = (before.0 > 0) != (now.0 > 0);
                part.adopts = (before.1 > 0) != (now.1 > 0);
                standing.insert(part.request, now);
            }
        }
        Ok(())
    }

    fn outcome_accounts(
        &self,
        known: &mut HashMap<String, Accounts>,
        organisation: &str,
        now_ms: i64,
    ) -> Result<Accounts, OutcomeError> {
        if let Some(accounts) = known.get(organisation) {
            return Ok(*accounts);
        }
        let accounts = Accounts::open(self, organisation, now_ms)?;
        known.insert(organisation.to_owned(), accounts);
        Ok(accounts)
    }

    /// How many outcomes are kept aside, of one organisation or (`None`) of all. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn outcomes_aside(&self, organisation: Option<&str>, project: Option<&str>) -> Result<i64, StoreError> {
        rollup::asides(&self.ledger, organisation, project)
    }

    /// The outcomes of an owner (`None`: all), or those that are kept aside, after an entry; each with its entry.
    ///
    /// # Errors
    /// The store's.
    pub fn outcomes(
        &self,
        owner: Option<&Owner>,
        (aside, after): (bool, u64),
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let found = rollup::outcomes(&self.ledger, owner, (aside, after), limit)?;
        let read = |seq: u64| {
            let entry = self.ledger.entries(seq, 1)?.pop();
            entry.ok_or_else(|| StoreError::Damaged(format!("there is no entry {seq}")))
        };
        found.into_iter().map(read).collect()
    }
}

/// What an outcome may wait for: the requests that it names, or the first one of an episode.
fn awaited(owner: &Owner, outcome: &Outcome) -> Vec<Awaited> {
    match &outcome.attribution {
        Attribution::Requests(requests) => requests.iter().map(|(id, _)| Awaited::Request(*id)).collect(),
        Attribution::Episode { episode, .. } => {
            vec![Awaited::Episode([&owner.organisation, &owner.project, episode].map(String::clone))]
        }
        Attribution::Unit { .. } => Vec::new(),
    }
}
