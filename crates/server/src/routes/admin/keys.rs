//! Keys: made, changed, rotated, revoked. A key's text is in the answer that makes it and nowhere else.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use economics::directory::key::{KeyHash, secret_text, shown_prefix};
use economics::directory::record::{Key, Kind, Record};
use economics::{Directory, Invalid};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Admin;
use super::condition::{Condition, Tagged, tagged};
use super::records::{ChangedRecord, ShownRecord, shown_record};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::routes::read;
use crate::segments::Segments;

/// Fields of a key's record that nobody writes.
const OWN_FIELDS: [&str; 4] = ["prefix", "hash", "previous", "revoked"];

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeKey {
    /// Its text, shown this once.
    key: String,
    /// Its record.
    #[schema(value_type = Key)]
    record: ShownRecord,
}

/// A key that got a new text.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedKey {
    /// Its new text, shown this once.
    key: String,
    /// Its id.
    id: String,
}

/// A key that is refused for good.
#[derive(Serialize, ToSchema)]
pub(crate) struct RevokedKey {
    /// Its id.
    id: String,
    /// `true`.
    revoked: bool,
}

/// A fresh text.
pub(crate) fn new_text() -> Result<String, ApiError> {
    let mut random = [0; 32];
    OsRng.try_fill_bytes(&mut random).map_err(|error| ApiError::internal(format!("no random numbers: {error}")))?;
    Ok(secret_text(&random))
}

/// A key's record of what the caller wrote and what is the server's.
fn record(mut fields: Map<String, Value>, own: Value) -> Result<Record, Invalid> {
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    Record::parse(Kind::Key, Value::Object(fields))
}

/// Refuses a new end that lies in the past: nobody means it.
fn check_end(record: Record, old: Option<i64>) -> Result<Record, Invalid> {
    match &record {
        Record::Key(Key { expires: Some(expires), .. }) if *expires <= unix_ms() && old != Some(*expires) => {
            Err(Invalid::new("expires", "it lies in the past", "give a later time; a key is ended by revoking it"))
        }
        _ => Ok(record),
    }
}

fn refuse_own_fields(fields: &Map<String, Value>) -> Result<(), ApiError> {
    match OWN_FIELDS.iter().find(|own| fields.contains_key(**own)) {
        Some(own) => Err(ApiError::field(*own, format!("`{own}` is the server's; leave it out"))),
        None => Ok(()),
    }
}

/// Makes a key: its text is in the answer and nowhere else.
#[utoipa::path(
    post,
    path = "/admin/v1/keys",
    tag = "administration",
    request_body(
        content = Object,
        description = "The key's record without `prefix`, `hash`, `previous` and `revoked`; without `scopes` it gets `inference` and `usage`",
        example = json!({"id": "web-1", "project": "web", "name": "web", "scopes": ["inference", "usage"], "expires": "2027-01-01T00:00:00Z"})
    ),
    responses(
        (status = 200, body = MadeKey, description = "Its text, shown this once, and its record"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong, or the id is taken"),
        (status = 403, body = protocol::ErrorBody, description = "More than the caller's own key has")
    )
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Tagged<MadeKey> {
    let (_ticket, caller, fields) = read(&app, request).await?;
    let admin = Admin::of(&app, &caller)?;
    let mut fields = fields.into_object();
    refuse_own_fields(&fields)?;
    fields.entry("scopes").or_insert_with(|| json!(["inference", "usage"]));
    let text = new_text()?;
    let own = json!({"prefix": shown_prefix(&text), "hash": admin.books.hash_key(&text)});
    let made = admin.run(move |admin| {
        admin.change(&Condition::default(), |directory| {
            let record = record(fields.clone(), own.clone())?;
            match admin.key(directory, &record.key()) {
                // One that the caller may not see is refused as any id is that others have.
                Err(_) => check_end(record, None),
                Ok(known) => {
                    let problem = format!("there is a key `{}` already", known.id);
                    Err(Invalid::new("id", problem, "choose another id, or change or rotate it"))
                }
            }
        })
    });
    let (record, version) = made.await?;
    tagged(version, MadeKey { key: text, record: shown_record(&record)? })
}

/// Changes all of a key but its text.
pub(crate) async fn put(State(app): State<Arc<App>>, request: Request) -> Tagged<ChangedRecord> {
    let condition = Condition::of(request.headers());
    let (_ticket, caller, fields) = read(&app, request).await?;
    let condition = condition?;
    let admin = Admin::of(&app, &caller)?;
    let fields = fields.into_object();
    refuse_own_fields(&fields)?;
    let changed = admin.run(move |admin| {
        admin.change(&condition, |directory| {
            let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
            let Key { prefix, hash, previous, revoked, expires, .. } = admin.key(directory, id)?;
            let own = json!({"prefix": prefix, "hash": hash, "previous": previous, "revoked": revoked});
            check_end(record(fields.clone(), own)?, expires)
        })
    });
    let (record, version) = changed.await?;
    ChangedRecord::of(version, &record)
}

impl Admin {
    /// A key that the caller may see, as it is in the midst of a change.
    fn key(&self, directory: &Directory, id: &str) -> Result<Key, Invalid> {
        let seen = |key: &&Key| self.authority().sees(directory, &Record::Key(Key::clone(key)));
        directory.key(id).filter(seen).cloned().ok_or_else(|| {
            let problem = format!("there is no key `{id}`");
            Invalid::new("id", problem, "make it with POST /admin/v1/keys, or see GET /admin/v1/keys")
        })
    }
}

/// Gives a key a new text; the old one is valid for `grace_seconds` more.
#[utoipa::path(
    post,
    path = "/admin/v1/keys/{id}/rotate",
    tag = "administration",
    params(
        ("id" = String, Path, description = "The key's id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key as it was read")
    ),
    request_body(content = Object, description = "`grace_seconds`: how long the old text stays valid, 0 to 2678400", example = json!({"grace_seconds": 3600})),
    responses(
        (status = 200, body = RotatedKey, description = "Its new text, shown this once"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see"),
        (status = 412, body = protocol::ErrorBody, description = "`If-Match` does not hold; nothing is changed")
    )
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Json<RotatedKey>, ApiError> {
    let condition = Condition::of(request.headers());
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let condition = condition?;
    let admin = Admin::of(&app, &caller)?;
    admin.known(Kind::Key, &id)?;
    let month = 31 * 86_400;
    let grace: i64 = fields.integer("grace_seconds", "an integer from 0 to 2678400", 0..=month)?.unwrap_or(0);
    fields.finish()?;
    let text = new_text()?;
    let until = unix_ms().saturating_add(grace.saturating_mul(1000));
    let (prefix, hash): (String, KeyHash) = (shown_prefix(&text), admin.books.hash_key(&text));
    let (record, _) = admin
        .run(move |admin| {
            admin.change(&condition, |directory| {
                let key = admin.key(directory, &id)?;
                if key.revoked {
                    return Err(Invalid::new("id", format!("the key `{id}` was revoked"), "make a new key"));
                }
                Ok(Record::Key(key.rotated(prefix.clone(), hash, until)))
            })
        })
        .await?;
    Ok(Json(RotatedKey { key: text, id: record.key() }))
}

/// Revokes a key, at once and for good.
#[utoipa::path(
    delete,
    path = "/admin/v1/keys/{id}",
    tag = "administration",
    params(
        ("id" = String, Path, description = "The key's id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key as it was read")
    ),
    responses(
        (status = 200, body = RevokedKey, description = "It is revoked"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see"),
        (status = 412, body = protocol::ErrorBody, description = "`If-Match` does not hold; nothing is changed")
    )
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Result<Json<RevokedKey>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    let condition = Condition::of(&headers)?;
    admin.known(Kind::Key, &id)?;
    let revoke = move |admin: &Admin| {
        admin.change(&condition, |directory| Ok(Record::Key(Key { revoked: true, ..admin.key(directory, &id)? })))
    };
    let (record, _) = admin.run(revoke).await?;
    Ok(Json(RevokedKey { id: record.key(), revoked: true }))
}
