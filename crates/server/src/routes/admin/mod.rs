//! `/admin/v1`: customers, keys, plans, prices, payments, models, and what became of them. Every change is one entry of the
//! ledger, with its author.
//!
//! Records go in and come out as the directory keeps them (`economics::directory::record`). A key with the scope `plant`
//! may do everything, one with `manage` what concerns its own organisation (`economics::directory::authority`).

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod calibration;
pub(crate) mod comparison;
mod condition;
pub(crate) mod costs;
pub(crate) mod entries;
pub(crate) mod experiments;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod live;
pub(crate) mod models;
pub(crate) mod money;
pub(crate) mod plan;
pub(crate) mod records;
pub(crate) mod report;
pub(crate) mod requests;
pub(crate) mod settings;
pub(crate) mod statement;
pub(crate) mod tfp_index;

use std::sync::Arc;

use ::ledger::{Refusal, Refused, StoreError};
use economics::Invalid;
use economics::books::{Books, ChangeError, PostError};
use economics::directory::Identity;
use economics::directory::authority::Authority;
use tokio::sync::Semaphore;

use crate::app::{App, in_turn};
use crate::auth::Caller;
use crate::error::ApiError;

/// The books, and who reads or changes them.
struct Admin {
    books: Arc<Books>,
    identity: Arc<Identity>,
    turns: Arc<Semaphore>,
}

impl Admin {
    /// A caller who may administer something.
    fn of(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let books = app.books()?;
        let identity = caller.identity.clone().filter(|identity| Authority::of(identity).is_some());
        let identity = identity.ok_or_else(|| {
            let message = "administration needs a key with the scope `plant` (those of the configuration have it: \
                           `tokenworks keys new NAME`), or with `manage` for its own organisation";
            ApiError::forbidden(message, "not_allowed")
        })?;
        Ok(Self { books, identity, turns: Arc::clone(&app.books_turns) })
    }

    /// A caller who may administer the plant.
    fn of_plant(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let admin = Self::of(app, caller)?;
        match admin.authority().organisation() {
            None => Ok(admin),
            Some(own) => {
                let message = format!("this key administers `{own}`; this needs one with the scope `plant`");
                Err(ApiError::forbidden(message, "not_allowed"))
            }
        }
    }

    fn authority(&self) -> Authority<'_> {
        // Looked at in `of`: who has neither scope never gets here.
        Authority::of(&self.identity).unwrap_or(Authority::Organisation(&self.identity))
    }

    /// Who acts, for the audit. Names of keys are not unique, ids are.
    fn actor(&self) -> &str {
        self.identity.key.as_deref().unwrap_or_default()
    }

    /// Runs what waits for the disk, off the runtime's threads.
    async fn run<T: Send + 'static>(
        self,
        act: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(Arc::clone(&self.turns), move || act(&self)).await
    }
}

/// 400 that names the field.
pub(crate) fn invalid(error: &Invalid) -> ApiError {
    let answer = ApiError::bad_request(error.to_string());
    if error.field.is_empty() { answer } else { answer.with_param(error.field.clone()) }
}

/// 503 while the store takes nothing, 400 for what the ledger's rules forbid.
fn refused(refused: &Refused) -> ApiError {
    match &refused.refusal {
        Refusal::Unavailable { .. } => ApiError::unavailable(refused.refusal.to_string(), "books_closed"),
        refusal => ApiError::bad_request(refusal.to_string()).with_code("refused"),
    }
}

/// 503 while the books are recomputed since the start, 500 for what cannot be read.
pub(crate) fn unreadable(error: &StoreError) -> ApiError {
    match error {
        StoreError::Unaudited => ApiError::unavailable(error.to_string(), "books_closed"),
        error => ApiError::internal(format!("the books could not be read: {error}")),
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid(error) => invalid(&error),
            ChangeError::Forbidden(error) => {
                let answer = Self::forbidden(error.to_string(), "not_allowed");
                if error.field.is_empty() { answer } else { answer.with_param(error.field) }
            }
            error @ ChangeError::Stale { .. } => Self::precondition_failed(error.to_string()),
            ChangeError::Refused(error) => refused(&error),
            ChangeError::Store(error) => unreadable(&error),
            error @ ChangeError::NotDurable(_) => Self::unavailable(error.to_string(), "books_closed"),
        }
    }
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Invalid(error) => invalid(&error),
            PostError::Refused(error) => refused(&error),
            PostError::Store(error) => unreadable(&error),
            error @ PostError::NotDurable(_) => Self::unavailable(error.to_string(), "books_closed"),
        }
    }
}
