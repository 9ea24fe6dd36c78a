//! The documents that outcomes are shown by.

use economics::Nano;
use economics::outcome::Valuation;
use serde::Serialize;
use utoipa::ToSchema;

/// A page of outcomes, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeList {
    /// `list`.
    pub(super) object: &'static str,
    /// Of this page.
    pub(super) data: Vec<OutcomeEntry>,
    /// There are more.
    pub(super) has_more: bool,
    /// How many are kept aside.
    pub(super) aside: i64,
}

/// An entry of the ledger that tells an outcome. Of one that cannot be read nothing else is there.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeEntry {
    /// `outcome`.
    pub(super) object: &'static str,
    /// Its place in the ledger.
    pub(super) entry: u64,
    /// `counted`, `aside` until its requests are in the books, or `unreadable`.
    pub(super) status: &'static str,
    /// What it tells.
    #[serde(flatten)]
    pub(super) told: Option<ToldOutcome>,
    /// In the list of those kept aside: what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) waits_for: Option<OutcomeWaitsFor>,
}

/// What somebody told of answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ToldOutcome {
    /// The caller's, unique in the project.
    pub(super) id: String,
    /// From 1; a later one takes the place of the one before.
    pub(super) revision: u32,
    /// The entry of the revision before, which counts no more.
    #[schema(required = true)]
    pub(super) replaces: Option<u64>,
    /// What kind of work was done, or `feedback`.
    pub(super) kind: String,
    /// Whose it is.
    pub(super) organisation: String,
    /// The project that told it.
    pub(super) project: String,
    /// What it was worth, in units of `currency`.
    pub(super) value: Nano,
    /// The book currency.
    pub(super) currency: String,
    /// How the value is known.
    pub(super) valuation: Valuation,
    /// Whether the output was used.
    pub(super) accepted: bool,
    /// When it occurred, in Unix seconds.
    pub(super) occurred_at: i64,
    /// When it was told, in Unix seconds.
    pub(super) told_at: i64,
    /// Days after a request in which outcomes of this kind come.
    pub(super) maturity_days: u16,
    /// The requests that brought it about; `null` while it is kept aside.
    #[schema(required = true)]
    pub(super) requests: Option<Vec<OutcomePart>>,
    /// The unit of an experiment that it is an outcome of.
    #[schema(required = true)]
    pub(super) member: Option<OutcomeMember>,
    /// A number, as it was written; may be empty, as what follows.
    pub(super) number: String,
    /// A word for what was right or wrong.
    pub(super) category: String,
    /// In their own words; `null`: the caller may not read it.
    #[schema(required = true)]
    pub(super) comment: Option<String>,
    /// What the answer should have been; `null`: the caller may not read it.
    #[schema(required = true)]
    pub(super) demonstration: Option<String>,
}

/// A request's part of an outcome.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OutcomePart {
    /// The id of the request's entry.
    pub(super) request: String,
    /// Thousandths of the outcome.
    pub(super) weight: u16,
    /// Its part of the value.
    pub(super) value: Nano,
}

/// A unit of an experiment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeMember {
    /// The experiment.
    pub(super) experiment: String,
    /// The unit.
    pub(super) unit: String,
}

/// What an outcome that is kept aside waits for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeWaitsFor {
    /// The episode whose requests are not in the books.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) episode: Option<String>,
    /// The ids of requests that are not in the books.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) requests: Option<Vec<String>>,
}

/// An outcome as it was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutcomeReceipt {
    /// `outcome`.
    pub(super) object: &'static str,
    /// Its id.
    pub(super) id: String,
    /// Its revision.
    pub(super) revision: u32,
    /// Its kind.
    pub(super) kind: String,
    /// `counted`, or `aside` until its requests are in the books.
    pub(super) status: &'static str,
    /// What it was worth, in units of the book currency.
    pub(super) value: Nano,
    /// Its place in the ledger.
    pub(super) entry: u64,
    /// It was told before: nothing is changed.
    pub(super) replayed: bool,
}
