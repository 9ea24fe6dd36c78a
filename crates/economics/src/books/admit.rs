//! Admission: may this request run, and under which terms?

use std::sync::Arc;

use ledger::{EntryId, Refusal, StoreError};

use super::Books;
use super::accounts::AccountError;
use super::detail::{Context, Opening};
use super::funds::{Held, Short};
use super::ticket::Ticket;
use crate::directory::Identity;
use crate::directory::record::Scope;
use crate::limits::{Demand, Limited};
use crate::price::UnknownPrice;
use crate::terms::Ask;
use crate::window::Period;
use crate::{Invalid, Nano, Quantities, Terms};

/// A hold that nobody ended is void after this long (its request cannot run any more).
const HOLD_MS: i64 = 24 * 3_600_000;
/// Longest tag.
const TAG_BYTES: usize = 64;

/// A request that wants to run.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// The request's id; its charge has the same. Ids that begin with the time keep the ledger quick.
    pub id: EntryId,
    /// Who asks.
    pub identity: &'a Identity,
    /// The model.
    pub model: &'a str,
    /// Prompt tokens, exactly.
    pub input: u64,
    /// Most answer tokens, all candidates together.
    pub max_output: u64,
    /// For reports; may be empty.
    pub tag: &'a str,
    /// The end user; may be empty.
    pub user: &'a str,
    /// Now.
    pub now_ms: i64,
}

/// Why a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
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
    #[error("`{account}` does not pay for this request: {left} is left")]
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

impl Books {
    /// Admits a request: checks what its key may do, freezes the price, reserves within all rate limits, and takes one
    /// hold over money, pool and every budget for the whole prompt and the first answer tokens (fewer, if less is paid
    /// for, but one at least). The first request of a customer's window waits for the disk, the others for nothing.
    ///
    /// # Errors
    /// Names what refuses it; nothing is reserved then.
    pub fn admit(self: &Arc<Self>, admission: Admission<'_>) -> Result<Ticket, AdmitError> {
        let Admission { id, identity, input, now_ms, .. } = admission;
        let ask = Ask { input, output: admission.max_output.min(self.steps.first) };
        let (opening, terms, watches) = self.open_account(&admission)?;
        let demand = Demand { input, output: ask.output };
        let limit = self.limiter.reserve(now_ms, &identity.limits, demand)?;
        let new = Some((opening.pack(), now_ms.saturating_add(HOLD_MS)));
        let least = admission.max_output.min(1);
        match self.hold((id, &opening.accounts, &terms), Held::default(), (ask, least), &new, now_ms) {
            Ok(held) => {
                Ok(Ticket::new(Arc::clone(self), (id, opening, terms), watches, (held, admission.max_output), limit)
                    .at(now_ms))
            }
            Err(short) => {
                limit.cancel();
                Err(short.into())
            }
        }
    }

    /// The terms and accounts of a request.
    fn open_account(
        &self,
        admission: &Admission<'_>,
    ) -> Result<(Opening, Terms, Vec<super::accounts::Watch>), AdmitError> {
        let Admission { identity, model, input, max_output, tag, user, now_ms, .. } = *admission;
        Quantities { in_uncached: input, out_visible: max_output, ..Quantities::default() }.check()?;
        if tag.len() > TAG_BYTES || tag.chars().any(char::is_control) {
            let problem = format!("longer than {TAG_BYTES} bytes or with control characters");
            return Err(Invalid::new("tag", problem, "shorten it").into());
        }
        if !identity.scopes.contains(&Scope::Inference) {
            return Err(AdmitError::Forbidden);
        }
        let plan = &identity.plan;
        if plan.models.as_ref().is_some_and(|models| models.iter().all(|known| known != model)) {
            return Err(AdmitError::NotInPlan(model.to_owned()));
        }
        let price = self.directory().prices().freeze(&plan.price_list, model, now_ms)?;
        let window = plan.calendar.window(Period::Month, now_ms)?;
        let (accounts, watches) = self.accounts(identity, &price, &window, now_ms)?;
        let context = Context {
            organisation: identity.organisation.id.clone(),
            project: identity.project.clone(),
            key: identity.key.clone().unwrap_or_default(),
            list: price.list().to_owned(),
            model: model.to_owned(),
            price_version: price.version(),
            window_ms: window.start_ms,
            tag: tag.to_owned(),
            user: user.to_owned(),
        };
        let terms = Terms::new(price, plan);
        let (pool, discount_permille) = (terms.pool, terms.discount_permille);
        Ok((Opening { writer: self.writer, context, input, pool, discount_permille, accounts }, terms, watches))
    }
}
