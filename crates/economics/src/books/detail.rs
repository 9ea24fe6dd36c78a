//! What entries and holds say beside their amounts, packed. The first byte names the form, so that older ones stay
//! readable.

mod joined;

use ledger::{AccountId, Entry};

use crate::experiment::Unit;
use crate::pack::{Pack, Unpack};
use crate::plan::{PoolEnd, Weights};
use crate::terms::ChargeLine;
use crate::{Charge, Meter, Nano, Quantities, Rate, Terms};

pub use joined::{Assigned, Joined, Member};

/// Kinds of the entries that economics posts.
pub mod entry_kind {
    /// The charge of a request; its id is the request's.
    pub const SETTLED: u16 = 1;
    /// A credit note for a request.
    pub const CREDITED: u16 = 2;
    /// A payment of a customer.
    pub const PAID: u16 = 3;
    /// What the plant cost in an interval.
    pub const ACCRUED: u16 = 4;
    /// What a request cost; its id is made of the request's.
    pub const COSTED: u16 = 5;
    /// An outcome that is counted.
    pub const VALUED: u16 = 6;
    /// An outcome that is kept aside until its requests are in the books.
    pub const ASIDE: u16 = 7;
    /// A unit came to an arm of an experiment; its id is made of both.
    pub const ASSIGNED: u16 = 8;
}

pub(super) const FORM: u8 = 1;
/// Credit notes with a window of their own.
const DATED_FORM: u8 = 2;
/// Any of them, of a context that says what its request was for.
const METADATA_FORM: u8 = 3;
/// Any of them, of a context whose request belongs to an experiment.
const JOINED_FORM: u8 = 4;

/// Whether details of charges, costs and holds have this form.
pub(super) fn is_plain_or_told(form: &u8) -> bool {
    matches!(*form, FORM | METADATA_FORM | JOINED_FORM)
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// By itself.
    #[default]
    Stop,
    /// At `max_tokens` or the context's end.
    Length,
    /// At the last token that was paid for.
    Budget,
    /// Cancelled, or the client went away.
    Cancelled,
    /// The plant could not finish it.
    Failed,
    /// The plant ended under way; charged at the next start.
    Crashed,
}

impl End {
    const ALL: [Self; 6] = [Self::Stop, Self::Length, Self::Budget, Self::Cancelled, Self::Failed, Self::Crashed];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Budget => "budget",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }

    fn code(self) -> u8 {
        Self::ALL.iter().zip(0..).find(|(end, _)| **end == self).map_or(0, |(_, code)| code)
    }
}

/// Whether a request met the objectives that were stated for it, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// None were stated.
    #[default]
    Unstated,
    /// Not all, or it was not completed.
    Missed,
    /// All.
    Met,
}

impl Service {
    const ALL: [Self; 3] = [Self::Unstated, Self::Missed, Self::Met];
    /// It stands above the code of [`End`] in one byte.
    const STEP: u8 = 16;
}

/// What a request is for, in its caller's words (`metadata`): TFP is told apart by it. Each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The kind of work.
    pub task: String,
    /// The version of the prompt that it was asked with.
    pub prompt_version: String,
    /// The piece of work that it belongs to, together with other requests.
    pub episode: String,
    /// Where it belongs in an experiment; the server's word.
    pub joined: Option<Joined>,
}

impl Metadata {
    /// Nothing is said.
    pub const NONE: &'static Self =
        &Self { task: String::new(), prompt_version: String::new(), episode: String::new(), joined: None };

    /// Its words with what they are called.
    #[must_use]
    pub fn words(&self) -> [(&'static str, &str); 3] {
        [("task", &self.task), ("prompt_version", &self.prompt_version), ("episode", &self.episode)]
    }
}

/// Who asked for what, under which price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The organisation.
    pub organisation: String,
    /// The project.
    pub project: String,
    /// The key; empty without keys.
    pub key: String,
    /// The price list.
    pub list: String,
    /// The model.
    pub model: String,
    /// The version of its price.
    pub price_version: u32,
    /// The start of the customer's window, in which it is invoiced.
    pub window_ms: i64,
    /// The request's tag; may be empty.
    pub tag: String,
    /// The request's end user; may be empty.
    pub user: String,
    /// What it was for.
    pub metadata: Metadata,
}

impl Context {
    /// The form of a detail with this context: `plain`, if it could be read before there was more to say.
    pub(super) fn form(&self, plain: u8) -> u8 {
        match (&self.metadata.joined, self.metadata == *Metadata::NONE) {
            (Some(_), _) => JOINED_FORM,
            (None, true) => plain,
            (None, false) => METADATA_FORM,
        }
    }

    pub(super) fn pack(&self, pack: &mut Pack) {
        pack.text(&self.organisation).text(&self.project).text(&self.key).text(&self.list).text(&self.model);
        pack.u64(self.price_version.into()).i64(self.window_ms).text(&self.tag).text(&self.user);
        if self.metadata != *Metadata::NONE {
            self.metadata.words().into_iter().fold(&mut *pack, |pack, (_, word)| pack.text(word));
        }
        if let Some(joined) = &self.metadata.joined {
            joined.pack(pack);
        }
    }

    /// From a detail of the form `form`.
    pub(super) fn unpack(from: &mut Unpack<'_>, form: u8) -> Option<Self> {
        let mut context = Self {
            organisation: from.text()?,
            project: from.text()?,
            key: from.text()?,
            list: from.text()?,
            model: from.text()?,
            price_version: from.u32()?,
            window_ms: from.i64()?,
            tag: from.text()?,
            user: from.text()?,
            metadata: Metadata::default(),
        };
        if matches!(form, METADATA_FORM | JOINED_FORM) {
            let (task, prompt_version, episode) = (from.text()?, from.text()?, from.text()?);
            let joined = if form == JOINED_FORM { Some(Joined::unpack(from)?) } else { None };
            context.metadata = Metadata { task, prompt_version, episode, joined };
        }
        Some(context)
    }

    /// The unit of an experiment that the request belongs to.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        let joined = self.metadata.joined.as_ref()?;
        let unit = match joined.unit {
            Unit::User => &self.user,
            Unit::Episode => &self.metadata.episode,
        };
        Some(Member { joined: joined.clone(), unit: unit.clone() })
    }
}

/// One line of a settled charge; its rate is that of the price version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledLine {
    /// What was counted.
    pub meter: Meter,
    /// Index of the price's tier.
    pub tier: u8,
    /// How many tokens.
    pub tokens: u64,
    /// The amount.
    pub nano: Nano,
}

/// Detail of a settlement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Who and what.
    pub context: Context,
    /// How it ended.
    pub end: End,
    /// Whether it met its objectives.
    pub service: Service,
    /// All tokens.
    pub quantities: Quantities,
    /// Those the pool paid.
    pub pooled: Quantities,
    /// Pool units taken.
    pub pool_units: i64,
    /// The rest, line by line.
    pub lines: Vec<SettledLine>,
    /// Taken off the sum of the lines.
    pub discount: Nano,
}

impl Settlement {
    pub(super) fn new(context: Context, (end, service): (End, Service), charge: &Charge) -> Self {
        let line = |line: &ChargeLine| {
            let ChargeLine { meter, tier, tokens, nano, .. } = *line;
            SettledLine { meter, tier, tokens, nano }
        };
        Self {
            context,
            end,
            service,
            quantities: charge.quantities,
            pooled: charge.pooled,
            pool_units: charge.pool_units,
            lines: charge.lines.iter().map(line).collect(),
            discount: charge.discount,
        }
    }

    /// Sum of the lines.
    #[must_use]
    pub fn list(&self) -> Nano {
        self.lines.iter().fold(Nano::ZERO, |sum, line| sum.saturating_add(line.nano))
    }

    /// The charge that it was made of, under the same terms.
    pub(super) fn charge(&self, terms: &Terms) -> Charge {
        let rate = |line: &SettledLine| terms.price.tier(line.tier).map_or(Rate::ZERO, |tier| tier.rate(line.meter));
        let line = |line: &SettledLine| {
            let SettledLine { meter, tier, tokens, nano } = *line;
            ChargeLine { meter, tier, tokens, rate: rate(line), nano }
        };
        Charge {
            quantities: self.quantities,
            pooled: self.pooled,
            pool_units: self.pool_units,
            lines: self.lines.iter().map(line).collect(),
            list: self.list(),
            discount: self.discount,
        }
    }

    fn is_pooled(&self) -> bool {
        self.pooled != Quantities::default()
    }

    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(self.context.form(FORM)).byte(self.end.code() + Service::STEP * self.service as u8);
        self.context.pack(&mut pack);
        pack.quantities(&self.quantities).byte(u8::from(self.is_pooled()));
        if self.is_pooled() {
            pack.i64(self.pool_units).quantities(&self.pooled);
        }
        pack.i64(self.discount.0).u64(self.lines.len() as u64);
        for line in &self.lines {
            let meter = Meter::ALL.iter().zip(0..).find(|(meter, _)| **meter == line.meter).map_or(0, |(_, code)| code);
            pack.byte(meter).byte(line.tier).u64(line.tokens).i64(line.nano.0);
        }
        pack.0
    }

    /// From the detail of an entry; `None` when it is no settlement of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        (entry.kind == entry_kind::SETTLED).then(|| Self::unpack(&entry.detail)).flatten()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut from = Unpack(bytes);
        let form = from.byte().filter(is_plain_or_told)?;
        let ended = from.byte()?;
        let end = *End::ALL.get(usize::from(ended % Service::STEP))?;
        let service = *Service::ALL.get(usize::from(ended / Service::STEP))?;
        let context = Context::unpack(&mut from, form)?;
        let quantities = from.quantities()?;
        let (pool_units, pooled) = match from.byte()? {
            0 => (0, Quantities::default()),
            1 => (from.i64()?, from.quantities()?),
            _ => return None,
        };
        let discount = Nano(from.i64()?);
        let lines = from.many(|from| {
            let meter = *Meter::ALL.get(usize::from(from.byte()?))?;
            Some(SettledLine { meter, tier: from.byte()?, tokens: from.u64()?, nano: Nano(from.i64()?) })
        })?;
        from.end(Self { context, end, service, quantities, pooled, pool_units, lines, discount })
    }
}

/// Detail of a credit note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreditNote {
    /// Who and what, of the request it is for.
    pub context: Context,
    /// The start of the window in which it was given, on whose invoice it stands.
    pub window_ms: i64,
    /// The id of the request it is for.
    pub request: [u8; 16],
    /// What is given back.
    pub amount: Nano,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub actor: String,
}

impl CreditNote {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(self.context.form(DATED_FORM));
        self.context.pack(&mut pack);
        pack.i64(self.window_ms).0.extend_from_slice(&self.request);
        pack.i64(self.amount.0).text(&self.reason).text(&self.actor);
        pack.0
    }

    /// From the detail of an entry; `None` when it is no credit note of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        let mut from = Unpack(&entry.detail);
        let form = (entry.kind == entry_kind::CREDITED).then(|| from.byte()).flatten()?;
        let context = Context::unpack(&mut from, form)?;
        let window_ms = match form {
            FORM => context.window_ms,
            DATED_FORM | METADATA_FORM | JOINED_FORM => from.i64()?,
            _ => return None,
        };
        let (request, amount) = (from.id()?, Nano(from.i64()?));
        let note = Self { context, window_ms, request, amount, reason: from.text()?, actor: from.text()? };
        from.end(note)
    }

    /// Its context, with the window on whose invoice it stands.
    #[must_use]
    pub fn billed(&self) -> Context {
        Context { window_ms: self.window_ms, ..self.context.clone() }
    }
}

/// Detail of a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payment {
    /// Who paid.
    pub organisation: String,
    /// What names it; unique for the organisation.
    pub reference: String,
    /// Who booked it.
    pub actor: String,
}

impl Payment {
    /// The bytes of it.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(FORM).text(&self.organisation).text(&self.reference).text(&self.actor);
        pack.0
    }

    /// From the detail of an entry; `None` when it is no payment of a known form.
    #[must_use]
    pub fn read(entry: &Entry) -> Option<Self> {
        let mut from = Unpack(&entry.detail);
        if entry.kind != entry_kind::PAID || from.byte()? != FORM {
            return None;
        }
        let payment = Self { organisation: from.text()?, reference: from.text()?, actor: from.text()? };
        from.end(payment)
    }
}

/// What a hold (and the journal's page) says: enough to charge the request after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// The ledger's writer that took it.
    pub(super) writer: u32,
    pub(super) context: Context,
    pub(super) input: u64,
    pub(super) pool: Option<(Weights, PoolEnd)>,
    pub(super) discount_permille: u16,
    pub(super) accounts: Accounts,
}

/// The accounts of one request: their numbers, or what they are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accounts<A = AccountId> {
    pub(super) money: A,
    pub(super) pool: Option<A>,
    pub(super) volume: Option<A>,
    /// Each with whether it is a hard bound.
    pub(super) budgets: Vec<(A, bool)>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { money: AccountId(0), pool: None, volume: None, budgets: Vec::new() }
    }
}

impl<A> Accounts<A> {
    pub(super) fn all(&self) -> impl Iterator<Item = &A> {
        let budgets = self.budgets.iter().map(|(account, _)| account);
        [&self.money].into_iter().chain(&self.pool).chain(&self.volume).chain(budgets)
    }

    /// The same with another account for each.
    pub(super) fn try_map<B, E>(&self, mut to: impl FnMut(&A) -> Result<B, E>) -> Result<Accounts<B>, E> {
        Ok(Accounts {
            money: to(&self.money)?,
            pool: self.pool.as_ref().map(&mut to).transpose()?,
            volume: self.volume.as_ref().map(&mut to).transpose()?,
            budgets: self.budgets.iter().map(|(account, hard)| Ok((to(account)?, *hard))).collect::<Result<_, E>>()?,
        })
    }
}

impl Opening {
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.byte(self.context.form(FORM)).u64(self.writer.into());
        self.context.pack(&mut pack);
        pack.u64(self.input).u64(self.discount_permille.into());
        match &self.pool {
            None => pack.byte(0),
            Some((weights, then)) => {
                pack.byte(if *then == PoolEnd::Stop { 2 } else { 1 });
                Meter::ALL.into_iter().fold(&mut pack, |pack, meter| pack.u64(weights.get(meter).into()))
            }
        };
        // Account numbers are shifted by one; 0 = none.
        let optional = |account: Option<AccountId>| account.map_or(0, |account| account.0.saturating_add(1));
        let Accounts { money, pool, volume, budgets } = &self.accounts;
        pack.u64(money.0).u64(optional(*pool)).u64(optional(*volume)).u64(budgets.len() as u64);
        for (account, hard) in budgets {
            pack.byte(u8::from(*hard)).u64(account.0);
        }
        pack.0
    }

    pub(super) fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut from = Unpack(bytes);
        let form = from.byte().filter(is_plain_or_told)?;
        let (writer, context) = (from.u32()?, Context::unpack(&mut from, form)?);
        let (input, discount_permille) = (from.u64()?, u16::try_from(from.u64()?).ok()?);
        let pool = match from.byte()? {
            0 => None,
            then @ (1 | 2) => {
                let (input, cached_input, output, reasoning) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
                let then = if then == 2 { PoolEnd::Stop } else { PoolEnd::Overage };
                Some((Weights { input, cached_input, output, reasoning }, then))
            }
            _ => return None,
        };
        let optional = |number: u64| number.checked_sub(1).map(AccountId);
        let accounts = Accounts {
            money: AccountId(from.u64()?),
            pool: optional(from.u64()?),
            volume: optional(from.u64()?),
            budgets: from.many(|from| {
                let hard = from.byte()? == 1;
                Some((AccountId(from.u64()?), hard))
            })?,
        };
        from.end(Self { writer, context, input, pool, discount_permille, accounts })
    }
}

/// Progress of a request, as journaled.
pub(super) fn pack_progress(used: &Quantities) -> Vec<u8> {
    let mut pack = Pack::default();
    pack.byte(FORM).quantities(used);
    pack.0
}

/// The reverse of [`pack_progress`].
pub(super) fn unpack_progress(bytes: &[u8]) -> Option<Quantities> {
    let mut from = Unpack(bytes);
    let used = (from.byte()? == FORM).then(|| from.quantities()).flatten()?;
    from.end(used)
}

#[cfg(test)]
mod tests;
