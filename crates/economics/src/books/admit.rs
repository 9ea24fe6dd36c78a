//! Admission: may this request run, and under which terms?

use std::sync::Arc;

use ledger::{AccountSpec, EntryId, Refusal, StoreError};

use super::Books;
use super::accounts::{AccountError, TRIES, Wanted, Watch, spoken};
use super::detail::{Accounts, Context, Metadata, Opening};
use super::funds::{Held, Short};
use super::ticket::Ticket;
use crate::directory::record::Scope;
use crate::directory::{Directory, Identity, Unidentified};
use crate::limits::{Demand, Limited, most_output};
use crate::price::UnknownPrice;
use crate::terms::Ask;
use crate::window::Period;
use crate::{FrozenPrice, Invalid, Meter, Nano, Quantities, Rate, Terms, Window};

/// A hold that nobody ended is void after this long (its request cannot run any more).
pub const HOLD_MS: i64 = 24 * 3_600_000;
/// Longest tag.
const TAG_BYTES: usize = 64;
/// Longest word for what a request is for.
pub const METADATA_BYTES: usize = 120;
/// Longest name of an end user.
pub const USER_BYTES: usize = 256;
/// Longest detail of a hold. The settlement repeats most of it and adds its lines, and always has to fit into the ledger.
const OPENING_BYTES: usize = 8 * 1024;

/// A request that wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// The request's id; its charge has the same. Ids that begin with the time keep the ledger quick.
    pub id: EntryId,
    /// Who asks.
    pub identity: &'a Identity,
    /// The model; of an adapter its full name, `BASE:ADAPTER`.
    pub model: &'a str,
    /// The model that an adapter changes: where the full name has no price, the base's is paid, and the books name the
    /// base. `None`: it is no adapter.
    pub base: Option<&'a str>,
    /// Prompt tokens, exactly.
    pub input: u64,
    /// Most answer tokens, all candidates together.
    pub max_output: u64,
    /// For reports; may be empty.
    pub tag: &'a str,
    /// The end user; may be empty.
    pub user: &'a str,
    /// What it is for.
    pub metadata: &'a Metadata,
    /// Now.
    pub now_ms: i64,
}

impl Admission<'_> {
    /// What is wrong with its fields.
    fn check(&self) -> Result<(), Invalid> {
        let Self { input, max_output, tag, user, metadata, .. } = *self;
        Quantities { in_uncached: input, out_visible: max_output, ..Quantities::default() }.check()?;
        let words = metadata.words().map(|(field, text)| (field, text, METADATA_BYTES));
        for (field, text, most) in [("tag", tag, TAG_BYTES), ("user", user, USER_BYTES)].into_iter().chain(words) {
            if text.len() > most || text.chars().any(char::is_control) {
                let problem = format!("longer than {most} bytes or with control characters");
                return Err(Invalid::new(field, problem, "shorten it"));
            }
        }
        Ok(())
    }
}

/// Why a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The caller is no longer known, or was shut out since it was.
    #[error(transparent)]
    Unidentified(#[from] Unidentified),
    /// The key may not ask models.
    #[error("this key may not ask models")]
    Forbidden,
    /// The plan does not include the model.
    #[error("the plan does not include the model `{0}`")]
    NotInPlan(String),
    /// The model has no price for this customer.
    #[error(transparent)]
    UnknownPrice(#[from] UnknownPrice),
    /// A rate limit: try again later.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// A budget, the pool or the account is spent: waiting does not help.
    #[error("{} does not pay for this request: {left} is left", spoken(account))]
    Spent {
        /// The name of the account that is spent.
        account: String,
        /// What is left of it.
        left: Nano,
    },
    /// What is left is held by running requests: it may be free again in a moment.
    #[error("what is left of the budget is held by running requests")]
    Held,
    /// A request with this id was admitted before.
    #[error("a request with this id was admitted before")]
    Duplicate,
    /// A field makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The books take no new work.
    #[error("the books take no new work: {0}")]
    Unavailable(String),
}

impl From<AccountError> for AdmitError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Invalid(invalid) => Self::Invalid(invalid),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<StoreError> for AdmitError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Short> for AdmitError {
    fn from(short: Short) -> Self {
        match short {
            Short::Spent { later: false, account, left } => Self::Spent { account, left },
            Short::Spent { later: true, .. } => Self::Held,
            Short::Refused(Refusal::Conflict(_)) => Self::Duplicate,
            Short::Refused(refusal) => Self::Unavailable(refusal.to_string()),
            Short::Store(error) => error.into(),
        }
    }
}

/// What a request would run under, by the directory as it is.
struct Asked {
    identity: Identity,
    price: FrozenPrice,
    window: Window,
    wanted: Wanted,
}

impl Asked {
    fn terms(&self) -> Terms {
        Terms::new(self.price.clone(), &self.identity.plan)
    }
}

/// A request whose hold is taken.
struct Paid {
    opening: Opening,
    terms: Terms,
    watches: Vec<Watch>,
    held: Held,
}

/// The price of a model in a list; where an adapter has none of its own, its base's.
fn frozen(
    directory: &Directory,
    list: &str,
    (model, base): (&str, Option<&str>),
    now_ms: i64,
) -> Result<FrozenPrice, UnknownPrice> {
    let price = |model: &str| directory.prices().freeze(list, model, now_ms);
    price(model).or_else(|unknown| base.map_or(Err(unknown), price))
}

/// What a prompt costs by the price book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputQuote {
    /// The price list of the customer's plan.
    pub list: String,
    /// The version of the model's price in it.
    pub version: u32,
    /// The price of each token.
    pub rate: Rate,
    /// Of all of them, rounded to the nano-unit as charges are.
    pub amount: Nano,
}

impl Books {
    /// What a prompt of `tokens` costs `identity` at list price, none of it cached: before volume, pool and discount. `model`
    /// and `base` as in [`Admission`].
    ///
    /// # Errors
    /// [`UnknownPrice`] when the model has no price for the customer.
    pub fn quote_input(
        &self,
        identity: &Identity,
        (model, base): (&str, Option<&str>),
        tokens: u64,
        now_ms: i64,
    ) -> Result<InputQuote, UnknownPrice> {
        let price = frozen(&self.directory(), &identity.plan.price_list, (model, base), now_ms)?;
        let rate = price.first_rate(tokens, Meter::InUncached);
        let (list, version) = (price.list().to_owned(), price.version());
        Ok(InputQuote { list, version, rate, amount: Nano::from_pico(rate.times(tokens)) })
    }

    /// Admits a request: looks up anew what its caller may do now, freezes the price, reserves within all rate limits,
    /// and takes one hold over money, pool and every budget for the whole prompt and the first answer tokens (fewer, if
    /// less is paid for or others share it, but one at least). Only what is admitted opens accounts: the first request of
    /// a customer's (or an end user's) window waits for the disk, the others for nothing.
    ///
    /// # Errors
    /// Names what refuses it; nothing is reserved then.
    pub fn admit(self: &Arc<Self>, admission: Admission<'_>) -> Result<Ticket, AdmitError> {
        admission.check()?;
        let asked = self.asked(&admission)?;
        let (input, limits) = (admission.input, &asked.identity.limits);
        let output = admission.max_output.min(self.steps.first).min(most_output(limits, input));
        let limit = self.limiter.reserve(admission.now_ms, limits, Demand { input, output })?;
        match self.take_hold(&admission, asked, Ask { input, output }) {
            Ok(Paid { opening, terms, watches, held }) => {
                let (parts, held) = ((admission.id, opening, terms), (held, admission.max_output));
                Ok(Ticket::new(Arc::clone(self), parts, watches, held, limit).at(admission.now_ms))
            }
            Err(error) => {
                limit.cancel();
                Err(error)
            }
        }
    }

    /// What the directory says of a request now.
    fn asked(&self, admission: &Admission<'_>) -> Result<Asked, AdmitError> {
        let Admission { model, base, user, now_ms, .. } = *admission;
        let directory = self.directory();
        let identity = directory.identify_again(admission.identity, user, now_ms)?;
        if !identity.scopes.contains(&Scope::Inference) {
            return Err(AdmitError::Forbidden);
        }
        let plan = &identity.plan;
        if !plan.names(model) {
            return Err(AdmitError::NotInPlan(model.to_owned()));
        }
        let price = frozen(&directory, &plan.price_list, (model, base), now_ms)?;
        drop(directory);
        let window = plan.calendar.window(Period::Month, now_ms)?;
        let wanted = Wanted::new(&identity, &price, &window, now_ms)?;
        Ok(Asked { identity, price, window, wanted })
    }

    fn take_hold(&self, admission: &Admission<'_>, asked: Asked, ask: Ask) -> Result<Paid, AdmitError> {
        let Admission { id, input, max_output, tag, user, metadata, now_ms, .. } = *admission;
        let least = max_output.min(1);
        let (asked, accounts) = self.request_accounts(admission, asked, (ask, least))?;
        let terms = asked.terms();
        let context = Context {
            organisation: asked.identity.organisation.id.clone(),
            project: asked.identity.project.clone(),
            key: asked.identity.key.clone().unwrap_or_default(),
            list: asked.price.list().to_owned(),
            model: asked.price.model().to_owned(),
            price_version: asked.price.version(),
            window_ms: asked.window.start_ms,
            tag: tag.to_owned(),
            user: user.to_owned(),
            metadata: metadata.clone(),
        };
        let (pool, discount_permille) = (terms.pool, terms.discount_permille);
        let watches = asked.wanted.watches(&asked.identity, &accounts);
        let opening = Opening { writer: self.writer, context, input, pool, discount_permille, accounts };
        let detail = opening.pack();
        if detail.len() > OPENING_BYTES {
            let problem = format!("its names take {} bytes, more than {OPENING_BYTES}", detail.len());
            return Err(Invalid::new("request", problem, "use shorter names of keys and models").into());
        }
        let new = Some((detail, now_ms.saturating_add(HOLD_MS)));
        let held = self.hold((id, &opening.accounts, &terms), Held::default(), (ask, least), &new, now_ms)?;
        Ok(Paid { opening, terms, watches, held })
    }

    /// The accounts of a request. Missing ones are opened if it is otherwise admitted.
    fn request_accounts(
        &self,
        admission: &Admission<'_>,
        mut asked: Asked,
        (ask, least): (Ask, u64),
    ) -> Result<(Asked, Accounts), AdmitError> {
        for _ in 0..TRIES {
            if let Some(accounts) = self.known_accounts(&asked.wanted.accounts)? {
                return Ok((asked, accounts));
            }
            let mut turn = self.turn()?;
            // Read again in turn: a floor never goes back to what the directory said before.
            asked = self.asked(admission)?;
            self.check_paid(&asked.wanted.accounts, &asked.terms(), (ask, least))?;
            let organisation = &asked.identity.organisation.id;
            let newcomer = match asked.wanted.end_user(&asked.identity) {
                Some((account, window)) if self.ledger.account(&account.name)?.is_none() => Some(window),
                _ => None,
            };
            if let Some(window) = newcomer {
                turn.check(organisation, window, admission.now_ms)?;
            }
            let wanted: Vec<&AccountSpec> = asked.wanted.accounts.all().collect();
            let underway = self.change_accounts(&turn, &wanted, true, admission.now_ms)?;
            if let Some(window) = newcomer {
                turn.add(organisation, window);
            }
            drop(turn);
            underway.wait().map_err(AccountError::from)?;
        }
        Err(AccountError::Changing.into())
    }
}
