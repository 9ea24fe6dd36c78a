//! `/admin/v1`: customers, keys, plans, prices, payments. Every change is one document of the ledger, with its author.
//!
//! Records go in and come out as the directory keeps them (`economics::directory::record`). A key needs the scope
//! `plant`, which the keys of the configuration have.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::Uri;
use economics::books::{Books, ChangeError, PostError};
use economics::directory::key::{secret_text, shown_prefix};
use economics::directory::record::{Key, Record, Scope};
use economics::{Invalid, Nano};
use ledger::EntryId;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde_json::{Map, Value, json};
use service::entry_id;

use super::read;
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::{Fields, missing};

/// The kind of keys.
const KEY: u16 = 4;
/// Kinds of records by their word in the path.
const KINDS: [(&str, u16); 8] = [
    ("organisations", 1),
    ("teams", 2),
    ("projects", 3),
    ("keys", KEY),
    ("end-users", 5),
    ("members", 6),
    ("plans", 7),
    ("prices", 8),
];
const REFERENCE: &str = "a string that names this act; the same one again changes nothing";

pub(super) type Answer = Result<Json<Value>, ApiError>;

/// The books, and who changes them.
pub(super) struct Admin {
    pub(super) books: Arc<Books>,
    actor: String,
}

impl Admin {
    pub(super) fn of(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let books = app.books.clone().ok_or_else(|| ApiError::forbidden("this server keeps no books", "no_books"))?;
        let identity = caller.identity.as_ref().filter(|identity| identity.scopes.contains(&Scope::Plant));
        let identity = identity.ok_or_else(|| {
            let message = "administration needs a key with the scope `plant`: those of the configuration have it \
                           (`tokenworks keys new NAME`)";
            ApiError::forbidden(message, "not_allowed")
        })?;
        let actor = identity.key_name.clone().unwrap_or_default();
        Ok(Self { books, actor })
    }

    /// Runs what waits for the disk, off the runtime's threads.
    pub(super) async fn run<T: Send + 'static>(
        self,
        act: impl FnOnce(&Books, &str) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = tokio::task::spawn_blocking(move || act(&self.books, &self.actor));
        done.await.map_err(|error| ApiError::internal(format!("an act of administration failed: {error}")))?
    }
}

fn invalid(error: Invalid) -> ApiError {
    ApiError::field(error.field.clone(), error.to_string())
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid(error) => invalid(error),
            error => Self::unavailable(error.to_string(), "books_closed"),
        }
    }
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Invalid(error) => invalid(error),
            PostError::Refused(refused) => Self::bad_request(refused.to_string()).with_code("refused"),
            error => Self::unavailable(error.to_string(), "books_closed"),
        }
    }
}

pub(super) fn shown(value: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| ApiError::internal(error.to_string()))
}

/// The number of a kind of records.
fn kind_of(uri: &Uri, word: Result<Path<String>, PathRejection>) -> Result<u16, ApiError> {
    let known = word.ok().and_then(|Path(word)| KINDS.iter().find(|(known, _)| *known == word).copied());
    known.map(|(_, kind)| kind).ok_or_else(|| ApiError::route_not_found(uri.path()))
}

/// All records of a kind.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    word: Result<Path<String>, PathRejection>,
) -> Answer {
    records(&app, &caller, kind_of(&uri, word)?)
}

/// All keys, without their hashes.
pub(crate) async fn keys(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    records(&app, &caller, KEY)
}

fn records(app: &App, caller: &Caller, kind: u16) -> Answer {
    let admin = Admin::of(app, caller)?;
    let directory = admin.books.directory();
    let data = directory.records().filter(|record| record.kind() == kind).map(record_json);
    Ok(Json(json!({"object": "list", "data": data.collect::<Result<Vec<_>, _>>()?})))
}

/// A record as it is shown: without hashes of keys.
fn record_json(record: Record) -> Result<Value, ApiError> {
    let mut value: Value =
        serde_json::from_slice(&record.body()).map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("hash");
        fields.remove("previous");
    }
    Ok(value)
}

/// Creates or replaces a record; a price: adds a version.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    uri: Uri,
    word: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer {
    let kind = kind_of(&uri, word)?;
    let (_ticket, caller, fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    if kind == KEY {
        return Err(ApiError::bad_request("keys are made with POST /admin/v1/keys, rotated and revoked below it"));
    }
    let body = Value::Object(fields.into_object()).to_string();
    let record = Record::read(kind, "", body.as_bytes()).map_err(invalid)?;
    let shown = record_json(record.clone())?;
    let version = admin.run(move |books, actor| Ok(books.change(record, actor, unix_ms())?)).await?;
    Ok(Json(json!({"version": version, "record": shown})))
}

/// A fresh text, and its hash.
fn new_text() -> Result<String, ApiError> {
    let mut random = [0; 32];
    OsRng.try_fill_bytes(&mut random).map_err(|error| ApiError::internal(format!("no random numbers: {error}")))?;
    Ok(secret_text(&random))
}

/// Makes a key: its text is in the answer and nowhere else.
pub(crate) async fn create_key(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (_ticket, caller, fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    let mut fields: Map<String, Value> = fields.into_object();
    let text = new_text()?;
    for own in ["prefix", "hash", "previous", "revoked"] {
        if fields.contains_key(own) {
            return Err(ApiError::field(own, format!("`{own}` is the server's; leave it out")));
        }
    }
    fields.insert("prefix".into(), shown_prefix(&text).into());
    fields.insert("hash".into(), admin.books.hash_key(&text).to_string().into());
    if !fields.contains_key("scopes") {
        fields.insert("scopes".into(), json!(["inference", "usage"]));
    }
    let record = Record::read(KEY, "", Value::Object(fields).to_string().as_bytes()).map_err(invalid)?;
    let shown = record_json(record.clone())?;
    if admin.books.directory().key(&record.key()).is_some() {
        let problem = format!("there is a key `{}` already; choose another id, or rotate it", record.key());
        return Err(ApiError::field("id", problem));
    }
    admin.run(move |books, actor| Ok(books.change(record, actor, unix_ms())?)).await?;
    Ok(Json(json!({"key": text, "record": shown})))
}

/// The key of a path.
fn known_key(books: &Books, id: &str) -> Result<Key, ApiError> {
    let key = books.directory().key(id).cloned();
    key.ok_or_else(|| ApiError::field("id", format!("there is no key `{id}`; GET /admin/v1/keys lists them")))
}

/// Gives a key a new text; the old one is valid for `grace_seconds` more.
pub(crate) async fn rotate_key(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Answer {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    let month = 31 * 86_400;
    let grace: i64 = fields.integer("grace_seconds", "an integer from 0 to 2678400", 0..=month)?.unwrap_or(0);
    fields.finish()?;
    let text = new_text()?;
    let until = unix_ms().saturating_add(grace.saturating_mul(1000));
    let key = known_key(&admin.books, &id)?;
    let key = key.rotated(shown_prefix(&text), admin.books.hash_key(&text), until);
    admin.run(move |books, actor| Ok(books.change(Record::Key(key), actor, unix_ms())?)).await?;
    Ok(Json(json!({"key": text, "id": id})))
}

/// Revokes a key, at once and for good.
pub(crate) async fn revoke_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let admin = Admin::of(&app, &caller)?;
    let key = Key { revoked: true, ..known_key(&admin.books, &id)? };
    admin.run(move |books, actor| Ok(books.change(Record::Key(key), actor, unix_ms())?)).await?;
    Ok(Json(json!({"id": id, "revoked": true})))
}

fn amount(fields: &mut Fields) -> Result<Nano, ApiError> {
    let expected = "a decimal number as a string, e.g. \"12.50\"";
    let text = fields.string("amount")?.ok_or_else(|| missing("amount", expected))?;
    text.parse().map_err(|error: Invalid| ApiError::field("amount", error.to_string()))
}

fn text(fields: &mut Fields, name: &str, expected: &str) -> Result<String, ApiError> {
    fields.string(name)?.ok_or_else(|| missing(name, expected))
}

/// Books a payment of a customer.
pub(crate) async fn pay(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    let organisation = text(&mut fields, "organisation", "the id of an organisation")?;
    let (amount, reference) = (amount(&mut fields)?, text(&mut fields, "reference", REFERENCE)?);
    fields.finish()?;
    let entry =
        admin.run(move |books, actor| Ok(books.pay(&organisation, amount, (&reference, actor), unix_ms())?)).await?;
    Ok(Json(json!({"entry": entry.to_string()})))
}

/// Gives back what a request was charged, or a part of it.
pub(crate) async fn credit(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    let request = text(&mut fields, "request", "the id of an answer, e.g. `chatcmpl-…`")?;
    let (amount, reference) = (amount(&mut fields)?, text(&mut fields, "reference", REFERENCE)?);
    let reason = fields.string("reason")?.unwrap_or_default();
    fields.finish()?;
    let request = EntryId(entry_id(&request));
    let entry = admin
        .run(move |books, actor| Ok(books.credit(request, amount, (&reference, &reason, actor), unix_ms())?))
        .await?;
    Ok(Json(json!({"entry": entry.to_string()})))
}

/// What an organisation has now.
pub(crate) async fn standing(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let admin = Admin::of(&app, &caller)?;
    let standing = admin.run(move |books, _| Ok(books.standing(&id, unix_ms())?)).await?;
    Ok(Json(shown(standing)?))
}

/// Who changed what, when: the last acts, at most 1,000 of them.
pub(crate) async fn audit(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    const ACTS: usize = 1_000;
    let admin = Admin::of(&app, &caller)?;
    let acts = admin
        .run(move |books, _| {
            let all = books.acts(0, usize::MAX)?;
            Ok(all.get(all.len().saturating_sub(ACTS)..).unwrap_or_default().to_vec())
        })
        .await?;
    Ok(Json(json!({"object": "list", "data": shown(acts)?})))
}

/// Recomputes the ledger's chain, balances and roll-ups.
pub(crate) async fn verify(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let admin = Admin::of(&app, &caller)?;
    let report = admin
        .run(|books, _| books.ledger().verify().map_err(|error| ApiError::internal(format!("the ledger: {error}"))))
        .await?;
    Ok(Json(json!({
        "entries": report.entries, "accounts": report.accounts, "holds": report.holds, "tallies": report.tallies,
    })))
}
