//! Limits per minute and on requests at one time, for every level at once: all are reserved or none.
//!
//! Each count keeps one slot per second. What is counted for a second leaves only when the whole second lies a minute
//! back, so that no window of sixty seconds ever lets more than its limit through (a refilled bucket would let up to
//! twice as much).

mod admitted;
mod ring;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Invalid;
pub use admitted::Admitted;
use ring::Ring;

/// Most end users of one organisation that are counted at one time; idle ones are dropped first. Other subjects are as
/// many as the directory has.
pub const MAX_END_USERS: usize = 16_384;
/// Most end users of all organisations that are counted at one time: about 2 KiB of memory each.
const MAX_ALL_END_USERS: usize = 16 * MAX_END_USERS;
/// What to say in `Retry-After` when too many requests run at one time.
const CONCURRENCY_RETRY_MS: u64 = 1_000;

/// Bounds of one subject; `None` = no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub requests_per_minute: Option<u64>,
    /// Prompt tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub input_tokens_per_minute: Option<u64>,
    /// Answer tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub output_tokens_per_minute: Option<u64>,
    /// All tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub total_tokens_per_minute: Option<u64>,
    /// Requests at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub concurrent_requests: Option<u32>,
}

impl Limits {
    fn per_minute(&self) -> [Option<u64>; 4] {
        [
            self.requests_per_minute,
            self.input_tokens_per_minute,
            self.output_tokens_per_minute,
            self.total_tokens_per_minute,
        ]
    }

    /// Refuses bounds that let nothing through.
    ///
    /// # Errors
    /// Names the field and the fix.
    pub fn check(&self) -> Result<(), Invalid> {
        let zero = Counted::ALL.into_iter().zip(self.per_minute()).find(|(_, limit)| *limit == Some(0));
        let field = zero.map(|(counted, _)| counted.field());
        let field = field.or_else(|| (self.concurrent_requests == Some(0)).then_some("concurrent_requests"));
        field.map_or(Ok(()), |field| {
            Err(Invalid::new(field, "0 lets nothing through", "suspend the customer or revoke the key instead"))
        })
    }
}

/// Who is limited, from the whole to its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BudgetLevel)]
pub enum Level {
    /// An organisation.
    Organisation,
    /// A team.
    Team,
    /// A project.
    Project,
    /// One key.
    Key,
    /// An end user of an organisation.
    EndUser,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 5] = [Self::Organisation, Self::Team, Self::Project, Self::Key, Self::EndUser];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Project => "project",
            Self::Team => "team",
            Self::Organisation => "organisation",
            Self::EndUser => "end user",
        }
    }
}

/// One limited party.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Its level.
    pub level: Level,
    /// Its id, unique within the level.
    pub id: Arc<str>,
}

impl Subject {
    /// The organisation of an end user, whose ids are `organisation/user`.
    fn end_user_of(&self) -> Option<&str> {
        let (organisation, _) = self.id.split_once('/')?;
        (self.level == Level::EndUser).then_some(organisation)
    }
}

/// What is counted per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Requests.
    Requests,
    /// Prompt tokens.
    Input,
    /// Answer tokens.
    Output,
    /// All tokens.
    Total,
}

impl Counted {
    const ALL: [Self; 4] = [Self::Requests, Self::Input, Self::Output, Self::Total];

    /// The field of [`Limits`] that bounds it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Input => "input_tokens_per_minute",
            Self::Output => "output_tokens_per_minute",
            Self::Total => "total_tokens_per_minute",
        }
    }
}

/// Tokens of a request, expected or actual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Prompt tokens.
    pub input: u64,
    /// Answer tokens.
    pub output: u64,
}

impl Demand {
    fn counts(self) -> [u64; 4] {
        [1, self.input, self.output, self.input.saturating_add(self.output)]
    }
}

/// What the `x-ratelimit-*` headers say: the bound nearest to being reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The bound.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// Milliseconds until all of it is there again.
    pub reset_ms: u64,
}

/// Standings for requests and for tokens; `None` where nothing is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Requests a minute.
    pub requests: Option<Standing>,
    /// Tokens a minute, of whichever bound is nearest.
    pub tokens: Option<Standing>,
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limited {
    /// A bound per minute is reached.
    #[error("the {} limit {} of {limit} is reached", subject.level.as_str(), counted.field())]
    Rate {
        /// Whose bound.
        subject: Subject,
        /// Which one.
        counted: Counted,
        /// The bound.
        limit: u64,
        /// When enough is free again, if nobody else takes it.
        retry_after_ms: u64,
        /// For the headers.
        standings: Standings,
    },
    /// The request alone is larger than a bound: waiting does not help.
    #[error("the request needs {needed}, more than the {} limit {} of {limit}", subject.level.as_str(), counted.field())]
    TooLarge {
        /// Whose bound.
        subject: Subject,
        /// Which one.
        counted: Counted,
        /// The bound.
        limit: u64,
        /// What the request needs.
        needed: u64,
    },
    /// Too many requests run at one time.
    #[error("this {} may run {limit} requests at one time, of which each prompt is one", subject.level.as_str())]
    Concurrency {
        /// Whose bound.
        subject: Subject,
        /// The bound.
        limit: u32,
        /// A wait worth trying.
        retry_after_ms: u64,
    },
    /// Too many different end users ask: those of one organisation never stand in the way of its keys and projects, nor
    /// of other organisations.
    #[error("no more than {limit} end users with bounds of their own are served in this time")]
    Crowded {
        /// How many are.
        limit: usize,
        /// A wait worth trying.
        retry_after_ms: u64,
    },
}

impl Limited {
    /// When to try again; `None` where waiting does not help.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Rate { retry_after_ms, .. }
            | Self::Concurrency { retry_after_ms, .. }
            | Self::Crowded { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::TooLarge { .. } => None,
        }
    }

    /// How the bounds stand, where they are known.
    #[must_use]
    pub fn standings(&self) -> Standings {
        match self {
            Self::Rate { standings, .. } => *standings,
            _ => Standings::default(),
        }
    }
}

#[derive(Default)]
struct Counts {
    /// A ring for each bounded count.
    rings: [Option<Box<Ring>>; 4],
    running: u32,
}

impl Counts {
    fn is_idle(&mut self, now_ms: i64) -> bool {
        self.running == 0 && self.rings.iter_mut().flatten().all(|ring| ring.sum(now_ms) == 0)
    }
}

#[derive(Default)]
struct State {
    /// Keys, projects, teams, organisations.
    subjects: HashMap<Subject, Counts>,
    /// End users, by their organisation.
    end_users: HashMap<Box<str>, EndUsers>,
    /// The second in which all organisations' idle end users were looked for.
    swept_s: Option<i64>,
}

#[derive(Default)]
struct EndUsers {
    counts: HashMap<Subject, Counts>,
    swept_s: Option<i64>,
}

impl EndUsers {
    /// Drops the idle ones, at most once a second.
    fn sweep(&mut self, now_ms: i64) {
        if self.swept_s.replace(now_ms.div_euclid(1_000)) != Some(now_ms.div_euclid(1_000)) {
            self.counts.retain(|_, counts| !counts.is_idle(now_ms));
        }
    }
}

impl State {
    fn counts(&mut self, subject: &Subject) -> Option<&mut Counts> {
        match subject.end_user_of() {
            Some(organisation) => self.end_users.get_mut(organisation)?.counts.get_mut(subject),
            None => self.subjects.get_mut(subject),
        }
    }

    fn counts_or_new(&mut self, subject: &Subject) -> &mut Counts {
        match subject.end_user_of() {
            Some(organisation) => {
                self.end_users.entry(organisation.into()).or_default().counts.entry(subject.clone()).or_default()
            }
            None => self.subjects.entry(subject.clone()).or_default(),
        }
    }

    /// Makes room for one more end user of an organisation.
    fn make_room(&mut self, organisation: &str, now_ms: i64) -> Result<(), Limited> {
        let crowded = |limit| Err(Limited::Crowded { limit, retry_after_ms: CONCURRENCY_RETRY_MS });
        if let Some(own) = self.end_users.get_mut(organisation).filter(|own| own.counts.len() >= MAX_END_USERS) {
            own.sweep(now_ms);
            if own.counts.len() >= MAX_END_USERS {
                return crowded(MAX_END_USERS);
            }
        }
        let second = Some(now_ms.div_euclid(1_000));
        if self.all_end_users() >= MAX_ALL_END_USERS && self.swept_s != second {
            self.swept_s = second;
            self.end_users.retain(|_, own| {
                own.sweep(now_ms);
                !own.counts.is_empty()
            });
        }
        if self.all_end_users() >= MAX_ALL_END_USERS { crowded(MAX_ALL_END_USERS) } else { Ok(()) }
    }

    fn all_end_users(&self) -> usize {
        self.end_users.values().map(|own| own.counts.len()).sum()
    }
}

/// The most answer tokens, beside `input` prompt tokens, that no bound of `subjects` refuses for good; one at least.
#[must_use]
pub fn most_output(subjects: &[(Subject, Limits)], input: u64) -> u64 {
    let of = |(_, limits): &(Subject, Limits)| {
        let total = limits.total_tokens_per_minute.map(|total| total.saturating_sub(input));
        limits.output_tokens_per_minute.into_iter().chain(total).min()
    };
    subjects.iter().filter_map(of).min().unwrap_or(u64::MAX).max(1)
}

/// Counts of all subjects.
#[derive(Default)]
pub struct Limiter {
    state: Mutex<State>,
}

impl Limiter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `demand` and one running request for every subject, or nothing.
    ///
    /// # Errors
    /// The first bound that is reached.
    pub fn reserve(
        self: &Arc<Self>,
        now_ms: i64,
        subjects: &[(Subject, Limits)],
        demand: Demand,
    ) -> Result<Admitted, Limited> {
        let bounded: Vec<&(Subject, Limits)> = subjects.iter().filter(|(_, l)| *l != Limits::default()).collect();
        let mut state = self.lock();
        for (subject, _) in &bounded {
            if let Some(organisation) = subject.end_user_of().filter(|_| state.counts(subject).is_none()) {
                state.make_room(organisation, now_ms)?;
            }
        }
        let standings = standings(&mut state, &bounded, now_ms);
        for (subject, limits) in &bounded {
            if let Some(counts) = state.counts(subject) {
                check_running(subject, limits, counts)?;
            }
            check_rates(subject, limits, state.counts(subject), demand, (now_ms, standings))?;
        }
        let mut marks = Vec::with_capacity(bounded.len());
        for (subject, limits) in &bounded {
            let counts = state.counts_or_new(subject);
            counts.running = counts.running.saturating_add(1);
            let mut mark = [None; 4];
            let places = counts.rings.iter_mut().zip(limits.per_minute()).zip(demand.counts()).zip(&mut mark);
            for (((ring, limit), count), place) in places {
                if limit.is_some() {
                    *place = Some(ring.get_or_insert_default().add(now_ms, count));
                }
            }
            marks.push((subject.clone(), mark));
        }
        let standings = self::standings(&mut state, &bounded, now_ms);
        let counted = demand.counts();
        Ok(Admitted::new(Arc::clone(self), marks, counted, standings))
    }

    /// How many subjects are counted now.
    #[must_use]
    pub fn subjects(&self) -> usize {
        let state = self.lock();
        state.subjects.len() + state.all_end_users()
    }
}

fn check_running(subject: &Subject, limits: &Limits, counts: &Counts) -> Result<(), Limited> {
    match limits.concurrent_requests {
        Some(limit) if counts.running >= limit => {
            Err(Limited::Concurrency { subject: subject.clone(), limit, retry_after_ms: CONCURRENCY_RETRY_MS })
        }
        _ => Ok(()),
    }
}

fn check_rates(
    subject: &Subject,
    limits: &Limits,
    mut counts: Option<&mut Counts>,
    demand: Demand,
    (now_ms, standings): (i64, Standings),
) -> Result<(), Limited> {
    for (index, counted) in Counted::ALL.into_iter().enumerate() {
        let (Some(Some(limit)), Some(needed)) =
            (limits.per_minute().get(index).copied(), demand.counts().get(index).copied())
        else {
            continue;
        };
        if needed == 0 {
            continue; // A request that takes none of it need not wait for it.
        }
        if needed > limit {
            return Err(Limited::TooLarge { subject: subject.clone(), counted, limit, needed });
        }
        let ring = counts.as_mut().and_then(|counts| counts.rings.get_mut(index)).and_then(Option::as_mut);
        let wait = ring.and_then(|ring| ring.wait_until(now_ms, limit - needed));
        if let Some(retry_after_ms) = wait {
            return Err(Limited::Rate { subject: subject.clone(), counted, limit, retry_after_ms, standings });
        }
    }
    Ok(())
}

fn standings(state: &mut State, bounded: &[&(Subject, Limits)], now_ms: i64) -> Standings {
    let mut nearest = Standings::default();
    for (subject, limits) in bounded {
        let mut counts = state.counts(subject);
        for (index, limit) in limits.per_minute().into_iter().enumerate() {
            let Some(limit) = limit else { continue };
            let ring = counts.as_mut().and_then(|counts| counts.rings.get_mut(index)).and_then(Option::as_mut);
            let (used, reset_ms) =
                ring.map_or((0, 0), |ring| (ring.sum(now_ms), ring.wait_until(now_ms, 0).unwrap_or(0)));
            let standing = Standing { limit, remaining: limit.saturating_sub(used), reset_ms };
            let place = if index == 0 { &mut nearest.requests } else { &mut nearest.tokens };
            if place.is_none_or(|known| standing.remaining < known.remaining) {
                *place = Some(standing);
            }
        }
    }
    nearest
}

#[cfg(test)]
mod tests;
