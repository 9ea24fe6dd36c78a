//! Who changed what, when, a page at a time.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::{Act, ActsAfter};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;

/// Acts of a page.
const LIMIT: u32 = 100;
/// Most acts of a page.
const MAX_LIMIT: u32 = 1_000;

/// A page of acts, in the order asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Audit {
    /// `list`.
    object: &'static str,
    /// The acts.
    data: Vec<Act>,
    /// There are more.
    has_more: bool,
    /// `after` of the next page; `null`: there is nothing, and none was given.
    #[schema(required = true)]
    next_after: Option<u64>,
}

/// Who changed what, when: changes of records, payments, credit notes.
#[utoipa::path(
    get,
    path = "/admin/v1/audit",
    tag = "administration",
    params(
        ("after" = Option<u64>, Query, description = "Acts that follow this one in the order asked for: `next_after` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 when not given"),
        ("order" = Option<String>, Query, description = "`asc`: oldest first; `desc`: newest first")
    ),
    responses(
        (status = 200, body = Audit, description = "A page"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn audit(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Audit>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let after: Option<u64> = query.integer("after", "the `seq` of an act", 0..=i128::from(i64::MAX))?;
    let limit = query.integer("limit", "a number from 1 to 1000", 1..=i128::from(MAX_LIMIT))?.unwrap_or(LIMIT);
    let newest_first = query.word("order", &["asc", "desc"])?.is_some_and(|order| order == "desc");
    query.finish()?;
    let read = move |admin: &Admin| {
        let organisation = admin.authority().organisation();
        // One more tells whether there are more.
        let asked = ActsAfter { organisation, after, newest_first, limit: limit.saturating_add(1) };
        admin.books.acts(asked).map_err(|error| unreadable(&error))
    };
    let mut data = admin.run(read).await?;
    let has_more = data.len() > limit as usize;
    data.truncate(limit as usize);
    let next_after = data.last().map(|act| act.seq).or(after);
    Ok(Json(Audit { object: "list", data, has_more, next_after }))
}
