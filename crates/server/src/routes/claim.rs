//! `/admin/claim/TOKEN`: a page with one button, which makes the plant's first admin key.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use economics::books::{Books, Expected};
use economics::directory::HOUSE;
use economics::directory::authority::Authority;
use economics::directory::key::shown_prefix;
use economics::directory::record::{Bounds, Key, Record, Scope};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use utoipa::ToSchema;

use super::admin::keys::new_text;
use crate::app::{App, unix_ms};
use crate::auth::{hex, unidentified};
use crate::body;
use crate::claim::Token;
use crate::error::ApiError;

/// Who the audit says made the key. No id of a key holds a `/`.
const ACTOR: &str = "server/claim";
const KEY_ID: &str = "admin";

/// The last part of the path.
type TokenPath = Result<Path<String>, PathRejection>;

/// The page behind the link that `serve` prints while nobody administers the plant. Looking at it changes nothing.
#[utoipa::path(
    get,
    path = "/admin/claim/{token}",
    tag = "administration",
    params(("token" = String, Path, description = "From the link that the server printed at its start")),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "A page with a button"),
        (status = 404, body = protocol::ErrorBody, description = "There is no such link"),
        (status = 410, body = protocol::ErrorBody, description = "There is an admin key by now")
    )
)]
pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap, token: TokenPath) -> Response {
    match app.claim.look(&text(token)) {
        Token::Open if !has_administrator(&app) => html(StatusCode::OK, PAGE),
        Token::Open => refused(Token::Used, &headers),
        token => refused(token, &headers),
    }
}

/// The key of the first administrator.
#[derive(Serialize, ToSchema)]
pub(crate) struct FirstKey {
    /// Its id.
    id: String,
    /// Its text, shown this once.
    key: String,
    /// What it may do: everything.
    scopes: [Scope; 4],
}

/// Makes a key with all scopes in the house's project and uses the link up.
#[utoipa::path(
    post,
    path = "/admin/claim/{token}",
    tag = "administration",
    params(("token" = String, Path, description = "From the link that the server printed at its start")),
    responses(
        (status = 200, body = FirstKey, description = "The key, shown this once; a page for browsers"),
        (status = 404, body = protocol::ErrorBody, description = "There is no such link"),
        (status = 410, body = protocol::ErrorBody, description = "The link was used")
    )
)]
pub(crate) async fn take(State(app): State<Arc<App>>, token: TokenPath, request: Request) -> Response {
    let headers = request.headers().clone();
    body::discard(request, &app.limits);
    match make_key(&app, &text(token)).await {
        Ok((id, key)) if wants_html(&headers) => {
            let console = if app.console { CONSOLE } else { "" };
            let made = MADE.replace("{id}", &id).replace("{key}", &key).replace("{console}", console);
            let mut page = html(StatusCode::OK, &made);
            // The key is made: without a session the person can still sign in with it.
            match sign_in(&app, &key, &headers) {
                Ok(cookie) => drop(page.headers_mut().insert(header::SET_COOKIE, cookie)),
                Err(error) => tracing::warn!(message = error.message(), "no session for the first administrator"),
            }
            page
        }
        Ok((id, key)) => private(Json(FirstKey { id, key, scopes: Scope::ALL })),
        Err(Refused::Token(token)) => refused(token, &headers),
        Err(Refused::Failed(error)) => error.into_response(),
    }
}

/// The cookie of a session for the key that was just made.
fn sign_in(app: &App, key: &str, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let books = app.books()?;
    let identity = books.identify(key, "", unix_ms()).map_err(|error| unidentified(&error))?;
    let (_, cookie) = app.sessions.begin(Arc::new(identity).into(), key, Some(&books), headers)?;
    Ok(cookie)
}

enum Refused {
    Token(Token),
    Failed(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// The id and the text of a fresh admin key.
async fn make_key(app: &Arc<App>, token: &str) -> Result<(String, String), Refused> {
    let _ticket = app.admit()?;
    let books = app.books.clone().ok_or(Refused::Token(Token::Unknown))?;
    let (app, text) = (Arc::clone(app), new_text()?);
    match app.claim.look(token) {
        Token::Open if has_administrator(&app) => return Err(Refused::Token(Token::Used)),
        _ => {}
    }
    match app.claim.take(token) {
        Token::Open => {}
        token => return Err(Refused::Token(token)),
    }
    let made = tokio::task::spawn_blocking(move || {
        let made = put_key(&books, &text);
        if made.is_err() {
            app.claim.give_back();
        }
        made.map(|id| (id, text))
    });
    Ok(made.await.map_err(|error| ApiError::internal(format!("the key could not be made: {error}")))??)
}

/// Whether some key administers the plant by now: the link is for the first one only.
fn has_administrator(app: &App) -> bool {
    app.books.as_ref().is_some_and(|books| books.directory().has_plant_key(unix_ms()))
}

fn put_key(books: &Books, text: &str) -> Result<String, ApiError> {
    let anything = (Authority::Plant, &Expected::Anything);
    let (record, _) = books.change_with(anything, ACTOR, unix_ms(), |directory| {
        let free = (1_u32..).map(|number| if number == 1 { KEY_ID.to_owned() } else { format!("{KEY_ID}-{number}") });
        let id = free.into_iter().find(|id| directory.key(id).is_none()).unwrap_or_default();
        Ok(Record::Key(Key {
            id,
            project: HOUSE.to_owned(),
            name: "Admin".to_owned(),
            prefix: shown_prefix(text),
            hash: books.hash_key(text),
            previous: None,
            scopes: Scope::ALL.into(),
            owner: None,
            expires: None,
            revoked: false,
            bounds: Bounds::default(),
            max_priority: 0,
        }))
    })?;
    Ok(record.key())
}

fn text(token: TokenPath) -> String {
    token.map(|Path(token)| token).unwrap_or_default()
}

/// Browsers name HTML; curl takes anything.
fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|text| text.contains("text/html")))
}

/// The same words for every guess.
fn refused(token: Token, headers: &HeaderMap) -> Response {
    let used = token == Token::Used;
    if wants_html(headers) {
        return if used { html(StatusCode::GONE, USED) } else { html(StatusCode::NOT_FOUND, UNKNOWN) };
    }
    let error = if used {
        ApiError::gone(
            "this server has an admin key by now; if its text is lost, `tokenworks keys list` and `keys rotate ID` on its \
             machine give it a new one",
        )
    } else {
        ApiError::not_found("there is no such link; a server without an admin key prints one at its start")
    };
    private(error)
}

/// A page that loads nothing, runs nothing and stays in no cache. Its form sends its origin along, which the rule for
/// callers without keys asks for.
fn html(status: StatusCode, body: &str) -> Response {
    let mut random = [0; 16];
    // Without random numbers the style is ignored, and nothing else.
    let nonce = OsRng.try_fill_bytes(&mut random).map(|()| hex(&random)).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    let page = FRAME.replace("{nonce}", &nonce).replace("{body}", body);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    private((status, headers, page))
}

/// An answer that nobody keeps, nor tells another site about.
fn private(answer: impl IntoResponse) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, answer).into_response()
}

const FRAME: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>Tokenworks</title>
<style nonce="{nonce}">
body { font: 16px/1.6 system-ui, sans-serif; max-width: 36rem; margin: 12vh auto 0; padding: 0 1rem; }
button { font: inherit; padding: 0.5rem 1.25rem; cursor: pointer; }
code { overflow-wrap: anywhere; }
p[lang="zh"] { opacity: 0.8; }
</style>
</head>
<body>
<main>
<h1>Tokenworks</h1>
{body}
</main>
</body>
</html>
"#;

const PAGE: &str = r#"<p>Nobody administers this server yet. The button makes a key that may do everything. It is shown once, and this link
ends with it.</p>
<p lang="zh">此服务器尚无管理员。点击按钮将创建一个拥有全部权限的密钥。密钥只显示一次，此链接随即失效。</p>
<form method="post"><button type="submit">Make the admin key · <span lang="zh">创建管理员密钥</span></button></form>"#;

const MADE: &str = r#"<p>The admin key <code>{id}</code>. Copy it now: only its hash is kept, it can't be shown again.</p>
<p lang="zh">管理员密钥 <code>{id}</code>。请立即复制：服务器只保存其哈希值，之后无法再次显示。</p>
<p><strong><code>{key}</code></strong></p>
{console}
<p>Send it as / <span lang="zh">使用方式</span>: <code>Authorization: Bearer {key}</code></p>"#;

const CONSOLE: &str = r#"<p><a href="/">Open the console · <span lang="zh">打开控制台</span></a></p>"#;

const USED: &str = r#"<p>This server has an admin key by now, so this link has ended. If the key's text is lost,
<code>tokenworks keys list</code> and <code>tokenworks keys rotate ID</code> on the server's machine give it a new one.</p>
<p lang="zh">此服务器已有管理员密钥，此链接已失效。如密钥已丢失，请在服务器本机上运行 <code>tokenworks keys list</code> 和
<code>tokenworks keys rotate ID</code> 以更换。</p>"#;

const UNKNOWN: &str = r#"<p>There is no such link. A server without an admin key prints one at its start.</p>
<p lang="zh">链接无效。尚无管理员密钥的服务器会在启动时打印一个链接。</p>"#;
