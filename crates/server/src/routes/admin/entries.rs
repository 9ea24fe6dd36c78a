//! The ledger's entries and accounts, a page at a time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ::ledger::{AccountId, AccountKind, AccountSpec, Balance, Entry, EntryId};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::{Books, EntriesBefore, EntryPage, entry_kind_of, entry_word, unit};
use serde::Serialize;
use service::entry_id;
use utoipa::ToSchema;

use super::{Admin, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::short;
use crate::query::Query;

/// Entries or accounts of a page.
const LIMIT: u32 = 50;
/// Most of a page.
const MAX_LIMIT: u32 = 500;
/// Accounts looked at for one page.
const MAX_LOOKED_AT: u64 = 20_000;

/// A page of entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerEntries {
    /// `list`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// The entries.
    data: Vec<LedgerEntry>,
    /// `before` of the next page; `null`: this was the last.
    next_before: Option<u64>,
    /// Entries that were looked at for this page: a filter that few pass takes several pages, some of them empty.
    looked_at: u64,
}

/// One entry. Its legs add up to 0 in each unit.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LedgerEntry {
    /// Its place in the ledger, from 1 without gaps.
    seq: u64,
    /// Which server's chain of hashes it belongs to.
    writer: u32,
    /// When it was written, in milliseconds since the epoch.
    at_ms: i64,
    /// `charge`, `credit_note`, `payment`, `plant_cost`, `request_cost`, `outcome`, `outcome_aside`, `assignment`, `opened`,
    /// `floor`, `void`, `expired`, `document`; a number where it is another.
    kind: String,
    /// Its id in hexadecimal; of a charge the end of the answer's id. `null` of accounts opened and floors set.
    id: Option<String>,
    /// The postings.
    legs: Vec<LedgerLeg>,
    /// The document that it put.
    document: Option<LedgerDocument>,
}

/// One posting: more or less on an account.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LedgerLeg {
    /// The account's name.
    account: String,
    /// What the account is for.
    account_kind: &'static str,
    /// What is counted: `money`, `budget` and `value` in units of the book currency, `pool_tokens`, `tokens`, `joules`,
    /// `outcomes`, `experiment_units`.
    unit: &'static str,
    /// Exact decimal text; negative: less.
    amount: String,
}

/// Which version of a document an entry put.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LedgerDocument {
    /// Its key.
    key: String,
    /// Its version, from 1.
    version: u64,
    /// Who put it.
    actor: String,
}

/// A page of accounts, in the order in which they were opened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerAccounts {
    /// `list`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// The accounts.
    data: Vec<LedgerAccount>,
    /// `after` of the next page; `null`: this was the last.
    next_after: Option<u64>,
}

/// An account and what it stands at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerAccount {
    /// Its number, from 0.
    id: u64,
    /// Its name.
    name: String,
    /// What it is for: `customer`, `pool`, `budget`, `revenue`, `discount`, `refund`, `rounding`, `idle`, `cost`, `contra`,
    /// `value`.
    kind: &'static str,
    /// What it counts, as of postings.
    unit: &'static str,
    /// Sum of its postings.
    posted: String,
    /// What running requests hold of it.
    held: String,
    /// The lowest that it may be left at; `null`: as low as it goes.
    floor: Option<String>,
}

/// The ledger's entries with their postings, newest first.
#[utoipa::path(
    get,
    path = "/admin/v1/ledger/entries",
    operation_id = "listLedgerEntries",
    tag = "administration",
    params(
        ("before" = Option<u64>, Query, description = "Only entries before this number: `next_before` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when not given"),
        ("account" = Option<String>, Query, description = "Only entries with a posting on the account of this name"),
        ("kind" = Option<String>, Query, description = "Only entries of this kind, e.g. `charge`"),
        ("request" = Option<String>, Query, description = "Only what the ledger has of one request, by the id of its answer or that of an entry: its charge, what it cost, what was given back undelivered; all on one page, and with no other parameter"),
        ("start_time" = Option<i64>, Query, description = "Unix seconds"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive")
    ),
    responses(
        (status = 200, body = LedgerEntries, description = "A page. At most 20,000 entries are looked at for it"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there is no such account"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn entries(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<LedgerEntries>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let asked = Asked::read(&mut query)?;
    query.finish()?;
    admin.run(move |admin| admin.entries(asked)).await.map(Json)
}

/// What is asked for.
enum Asked {
    /// All entries of the request of this id.
    Request(String),
    Page(Filters),
}

/// Which entries come on a page.
struct Filters {
    before: Option<u64>,
    limit: u32,
    account: Option<String>,
    kind: Option<u16>,
    span_ms: (i64, i64),
}

impl Asked {
    fn read(query: &mut Query) -> Result<Self, ApiError> {
        let Some(request) = query.text("request") else { return Filters::read(query).map(Self::Page) };
        let others = ["before", "limit", "account", "kind", "start_time", "end_time"];
        match others.into_iter().find(|name| query.text(name).is_some()) {
            None => Ok(Self::Request(request)),
            Some(name) => {
                let message =
                    format!("`{name}` does not go with `request`, which gives all of one request; leave it out");
                Err(ApiError::field(name, message))
            }
        }
    }
}

impl Filters {
    fn read(query: &mut Query) -> Result<Self, ApiError> {
        let before = query.integer("before", "the `seq` of an entry", 1..=i128::from(i64::MAX))?;
        let limit = limit(query)?;
        let account = query.text("account");
        let kind = match query.text("kind") {
            None => None,
            Some(word) => Some(entry_kind_of(&word).ok_or_else(|| {
                let message =
                    "`kind` must be one of the words of /openapi.json, e.g. `charge`, `payment` or `document`";
                ApiError::field("kind", format!("{message}; got `{}`", short(&word)))
            })?),
        };
        let (start, end) = (query.time("start_time")?, query.time("end_time")?);
        let ms = |second: i64| second.saturating_mul(1000);
        let span_ms = (start.map_or(i64::MIN, ms), end.map_or(i64::MAX, ms));
        if span_ms.1 < span_ms.0 {
            return Err(ApiError::field("start_time", "`start_time` must be at or before `end_time`"));
        }
        Ok(Self { before, limit, account, kind, span_ms })
    }
}

fn limit(query: &mut Query) -> Result<u32, ApiError> {
    let limit = query.integer("limit", "a number from 1 to 500", 1..=i128::from(MAX_LIMIT))?;
    Ok(limit.unwrap_or(LIMIT))
}

impl Admin {
    fn entries(&self, asked: Asked) -> Result<LedgerEntries, ApiError> {
        let failed = |error| unreadable(&error);
        let page = match asked {
            Asked::Request(request) => {
                let mut entries = self.books.request_entries(EntryId(entry_id(&request))).map_err(failed)?;
                entries.reverse();
                EntryPage { looked_at: entries.len() as u64, entries, next_before: None }
            }
            Asked::Page(Filters { before, limit, account, kind, span_ms }) => {
                let account = account.as_deref().map(|name| self.account(name)).transpose()?;
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let asked = EntriesBefore { before, account, kind, span_ms, limit };
                self.books.entries_before(&asked).map_err(failed)?
            }
        };
        let data = documents(&self.books, &page.entries)?;
        let currency = self.books.currency().code.clone();
        let EntryPage { next_before, looked_at, .. } = page;
        Ok(LedgerEntries { object: "list", currency, data, next_before, looked_at })
    }

    fn account(&self, name: &str) -> Result<AccountId, ApiError> {
        let found = self.books.ledger().account(name).map_err(|error| unreadable(&error))?;
        found.ok_or_else(|| {
            let message = format!("there is no account `{}`; GET /admin/v1/ledger/accounts lists them", short(name));
            ApiError::field("account", message)
        })
    }
}

/// Entries as they are shown.
pub(super) fn documents(books: &Books, entries: &[Entry]) -> Result<Vec<LedgerEntry>, ApiError> {
    let named: BTreeSet<AccountId> = entries.iter().flat_map(|entry| &entry.legs).map(|leg| leg.account).collect();
    let named: Vec<AccountId> = named.into_iter().collect();
    let accounts = books.ledger().accounts(&named).map_err(|error| unreadable(&error))?;
    let specs: HashMap<AccountId, Arc<AccountSpec>> = accounts.into_iter().map(|(id, spec, _)| (id, spec)).collect();
    entries.iter().map(|entry| shown(entry, &specs)).collect()
}

fn shown(entry: &Entry, specs: &HashMap<AccountId, Arc<AccountSpec>>) -> Result<LedgerEntry, ApiError> {
    let mut legs = Vec::with_capacity(entry.legs.len());
    for leg in &entry.legs {
        let spec = specs.get(&leg.account);
        let spec = spec.ok_or_else(|| ApiError::internal(format!("entry {} names no account", entry.seq)))?;
        legs.push(LedgerLeg {
            account: spec.name.clone(),
            account_kind: spec.kind.as_str(),
            unit: unit::word(spec.unit).0,
            amount: unit::text(spec.unit, leg.amount),
        });
    }
    let document = entry.document();
    Ok(LedgerEntry {
        seq: entry.seq,
        writer: entry.writer,
        at_ms: entry.at_ms,
        kind: entry_word(entry.kind).map_or_else(|| entry.kind.to_string(), str::to_owned),
        id: entry.id.map(|id| id.to_string()),
        legs,
        document: document.map(|found| LedgerDocument { key: found.key, version: found.version, actor: found.actor }),
    })
}

/// The ledger's accounts with their balances.
#[utoipa::path(
    get,
    path = "/admin/v1/ledger/accounts",
    operation_id = "listLedgerAccounts",
    tag = "administration",
    params(
        ("after" = Option<u64>, Query, description = "Only accounts that were opened after this one: `next_after` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when not given"),
        ("kind" = Option<String>, Query, description = "Only accounts of this kind, e.g. `customer`"),
        ("name" = Option<String>, Query, description = "Only accounts with this in their names")
    ),
    responses(
        (status = 200, body = LedgerAccounts, description = "A page. At most 20,000 accounts are looked at for it"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn accounts(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<LedgerAccounts>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let after: Option<u64> = query.integer("after", "the `id` of an account", 0..=i128::from(i64::MAX))?;
    let limit = limit(&mut query)?;
    let words = AccountKind::ALL.map(AccountKind::as_str);
    let (kind, name) = (query.word("kind", &words)?, query.text("name").unwrap_or_default());
    query.finish()?;
    let first = after.map_or(0, |after| after.saturating_add(1));
    let takes = move |spec: &AccountSpec| {
        kind.as_deref().is_none_or(|kind| spec.kind.as_str() == kind) && spec.name.contains(&name)
    };
    admin.run(move |admin| admin.accounts(first, limit, takes)).await.map(Json)
}

impl Admin {
    /// Accounts from number `first` on: they are numbered without gaps.
    fn accounts(
        &self,
        first: u64,
        limit: u32,
        takes: impl Fn(&AccountSpec) -> bool,
    ) -> Result<LedgerAccounts, ApiError> {
        let currency = self.books.currency().code.clone();
        let mut answer = LedgerAccounts { object: "list", currency, data: Vec::new(), next_after: None };
        let (mut next, end) = (first, first.saturating_add(MAX_LOOKED_AT));
        while next < end {
            let last = next.saturating_add(u64::from(MAX_LIMIT)).min(end);
            let ids: Vec<AccountId> = (next..last).map(AccountId).collect();
            let mut found = self.books.ledger().accounts(&ids).map_err(|error| unreadable(&error))?;
            found.sort_unstable_by_key(|(id, ..)| *id);
            let is_last = found.len() < ids.len();
            for account in found.iter().filter(|(_, spec, _)| takes(spec)) {
                if answer.data.len() >= limit as usize {
                    answer.next_after = answer.data.last().map(|last| last.id);
                    return Ok(answer);
                }
                answer.data.push(account_json(account));
            }
            if is_last {
                return Ok(answer);
            }
            next = last;
        }
        answer.next_after = Some(end.saturating_sub(1));
        Ok(answer)
    }
}

fn account_json((id, spec, balance): &(AccountId, Arc<AccountSpec>, Balance)) -> LedgerAccount {
    let text = |amount| unit::text(spec.unit, amount);
    LedgerAccount {
        id: id.0,
        name: spec.name.clone(),
        kind: spec.kind.as_str(),
        unit: unit::word(spec.unit).0,
        posted: text(balance.posted),
        held: text(balance.held),
        floor: balance.floor.map(text),
    }
}
