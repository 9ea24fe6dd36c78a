//! Records of the directory: listed, shown one by one, created and replaced.

mod document;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::Uri;
use economics::books::ChangeError;
use economics::directory::record::{Kind, Record};
use serde_json::Value;

use super::condition::{Condition, Tagged, tagged};
use super::{Admin, invalid};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::routes::read;
use crate::segments::Segments;

use document::RecordList;
pub(super) use document::{ChangedRecord, ShownRecord};

/// Kinds of records by their word in the path.
const KINDS: [(&str, Kind); 9] = [
    ("organisations", Kind::Organisation),
    ("teams", Kind::Team),
    ("projects", Kind::Project),
    ("keys", Kind::Key),
    ("end-users", Kind::EndUser),
    ("members", Kind::Member),
    ("plans", Kind::Plan),
    ("prices", Kind::Price),
    ("experiments", Kind::Experiment),
];

fn kind_of(uri: &Uri, word: &str) -> Result<Kind, ApiError> {
    let known = KINDS.iter().find(|(known, _)| *known == word);
    known.map(|(_, kind)| *kind).ok_or_else(|| ApiError::route_not_found(uri.path()))
}

/// A record as it may be shown.
pub(super) fn shown_record(record: &Record) -> Result<ShownRecord, ApiError> {
    let shown = Record::shown(record.kind(), &record.body());
    shown
        .map(ShownRecord)
        .ok_or_else(|| ApiError::internal(format!("{} {} has no JSON form", record.kind().word(), record.key())))
}

/// Who may look at records of that kind.
fn reader(app: &App, caller: &Caller, kind: Kind) -> Result<Admin, ApiError> {
    match kind {
        Kind::Plan | Kind::Price => Admin::of_plant(app, caller),
        _ => Admin::of(app, caller),
    }
}

/// All records of a kind that the caller may see; of prices every version.
#[utoipa::path(
    get,
    path = "/admin/v1/{kind}",
    operation_id = "listRecords",
    tag = "administration",
    params(("kind" = String, Path, description = "`organisations`, `teams`, `projects`, `keys`, `end-users`, `members`, `plans`, `prices` or `experiments`")),
    responses(
        (status = 200, body = RecordList, description = "The records"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read them")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Segments(word): Segments<String>,
) -> Result<Json<RecordList>, ApiError> {
    all(&app, &caller, kind_of(&uri, &word)?)
}

/// All keys that the caller may see.
pub(crate) async fn keys(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<RecordList>, ApiError> {
    all(&app, &caller, Kind::Key)
}

fn all(app: &App, caller: &Caller, kind: Kind) -> Result<Json<RecordList>, ApiError> {
    let admin = reader(app, caller, kind)?;
    let directory = admin.books.directory();
    let records = directory.records(kind);
    let seen = records.iter().filter(|record| admin.authority().sees(&directory, record)).map(shown_record);
    Ok(Json(RecordList { object: "list", data: seen.collect::<Result<_, _>>()? }))
}

/// One record; of a price the latest version.
#[utoipa::path(
    get,
    path = "/admin/v1/{kind}/{id}",
    operation_id = "getRecord",
    tag = "administration",
    params(
        ("kind" = String, Path, description = "As in `/admin/v1/{kind}`"),
        ("id" = String, Path, description = "Its id; `ORGANISATION/USER` of end users, `ORGANISATION/PERSON` of members, `LIST/MODEL` of prices")
    ),
    responses(
        (
            status = 200, body = ShownRecord, description = "The record",
            headers(("ETag" = String, description = "Its version, for `If-Match` of a change"))
        ),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see")
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Segments((word, id)): Segments<(String, String)>,
) -> Tagged<ShownRecord> {
    let kind = kind_of(&uri, &word)?;
    let admin = reader(&app, &caller, kind)?;
    admin.shown(kind, &id)
}

/// One key.
pub(crate) async fn key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Tagged<ShownRecord> {
    Admin::of(&app, &caller)?.shown(Kind::Key, &id)
}

impl Admin {
    fn shown(&self, kind: Kind, id: &str) -> Tagged<ShownRecord> {
        let (record, version) = self.known(kind, id)?;
        tagged(version, shown_record(&record)?)
    }

    /// The record of that key which the caller may see, and its version; to others it is as if it were not there.
    pub(super) fn known(&self, kind: Kind, id: &str) -> Result<(Record, u64), ApiError> {
        let directory = self.books.directory();
        let record = directory.record(kind, id).filter(|record| self.authority().sees(&directory, record));
        let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(word, _)| word);
        record.map(|record| (record, directory.version(kind, id))).ok_or_else(|| {
            let id: String = id.chars().take(200).collect();
            ApiError::not_found(format!("there is no {} `{id}`; GET /admin/v1/{word} lists them", kind.word()))
        })
    }
}

/// Creates or replaces a record; a price: adds a version; a key that is there: changes all but its text.
#[utoipa::path(
    put,
    path = "/admin/v1/{kind}",
    operation_id = "putRecord",
    tag = "administration",
    params(
        ("kind" = String, Path, description = "As in GET"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the record as it was read: it is replaced only if nobody has changed it since. `*`: only if it is there"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if it is not there")
    ),
    request_body(
        content = Object,
        description = "The whole record; what is left out takes its default",
        example = json!({"id": "web", "organisation": "acme", "name": "Web", "bounds": {"limits": {"requests_per_minute": 60}, "budget": {"amount": "20", "period": "month"}}})
    ),
    responses(
        (
            status = 200, body = ChangedRecord, description = "The record as it is now, and the version of it",
            headers(("ETag" = String, description = "Its version, for `If-Match` of the next change"))
        ),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong; `param` is its path, e.g. `tiers[0].input`"),
        (status = 403, body = protocol::ErrorBody, description = "More than the key may do"),
        (status = 412, body = protocol::ErrorBody, description = "`If-Match` or `If-None-Match` does not hold; nothing is changed")
    )
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    uri: Uri,
    Segments(word): Segments<String>,
    request: Request,
) -> Tagged<ChangedRecord> {
    let kind = kind_of(&uri, &word)?;
    let condition = Condition::of(request.headers());
    let (_ticket, caller, fields) = read(&app, request).await?;
    let condition = condition?;
    let admin = reader(&app, &caller, kind)?;
    let record = Record::parse(kind, Value::Object(fields.into_object())).map_err(|error| invalid(&error))?;
    let (record, version) = admin.run(move |admin| admin.change(&condition, |_| Ok(record.clone()))).await?;
    ChangedRecord::of(version, &record)
}

impl ChangedRecord {
    /// The answer to a change.
    pub(super) fn of(version: u64, record: &Record) -> Tagged<Self> {
        tagged(version, Self { version, record: shown_record(record)? })
    }
}

impl Admin {
    /// Changes the directory within the caller's authority, if the record that is changed is as the request says.
    pub(super) fn change(
        &self,
        condition: &Condition,
        build: impl Fn(&economics::Directory) -> Result<Record, economics::Invalid>,
    ) -> Result<(Record, u64), ApiError> {
        let expected = (self.authority(), &condition.expected);
        self.books.change_with(expected, self.actor(), unix_ms(), build).map_err(|error| match error {
            ChangeError::Stale { record, present } => condition.failed(&record, present),
            error => error.into(),
        })
    }
}
