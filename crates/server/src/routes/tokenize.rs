//! `/tokenize` and `/detokenize`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use protocol::{DetokenizeReply, DetokenizeRequest, ErrorBody, TokenizeReply, TokenizeRequest};
use service::{Lease, Line, LineError, TokenText};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::tokens::token_text;
use super::{find_line, read};
use crate::app::App;
use crate::error::ApiError;
use crate::request::{Tokenize, parse_detokenize, parse_tokenize};

/// Most bytes of text in one call: tokens take some tens of times the memory of their text.
const TEXT_BYTES_MAX: usize = 2 << 20;
/// Calls worked on at a time, for the same reason; the others wait (their number is bounded by the server's requests).
static TURNS: Semaphore = Semaphore::const_new(2);

fn check_text(field: &str, bytes: usize) -> Result<(), ApiError> {
    if bytes <= TEXT_BYTES_MAX {
        return Ok(());
    }
    Err(ApiError::field(field, format!("`{field}` has {bytes} bytes of text; send at most {TEXT_BYTES_MAX} at a time")))
}

/// Work on megabytes of text stays off the threads that serve.
async fn off_thread<T: Send + 'static>(
    line: &Lease,
    work: impl FnOnce(&dyn Line) -> Result<T, LineError> + Send + 'static,
) -> Result<T, ApiError> {
    let line = line.clone();
    // The semaphore is never closed; without a turn the work is done all the same.
    let _turn = TURNS.acquire().await.ok();
    match spawn_blocking(move || work(&*line)).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            tracing::error!(%error, "tokenizing failed");
            Err(ApiError::internal("the server failed on this request; its log says more"))
        }
    }
}

/// The tokens of a text or a chat.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "tokens",
    request_body = TokenizeRequest,
    responses((status = 200, body = TokenizeReply, description = "The answer"), (status = 400, body = ErrorBody, description = "A field is wrong; `param` names it"), (status = 404, body = ErrorBody, description = "The model is not served here"))
)]
pub(crate) async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Json<TokenizeReply>, ApiError> {
    let (_ticket, _, mut fields) = read(&app, request).await?;
    let line = find_line(&app, &mut fields, true).await?;
    let asked = parse_tokenize(fields)?;
    let (tokens, strings): (Vec<TokenText>, bool) = match asked {
        Tokenize::Text { text, add_special, parse_special, strings } => {
            check_text("prompt", text.len())?;
            (off_thread(&line, move |line| line.tokenize(&text, add_special, parse_special)).await?, strings)
        }
        Tokenize::Chat { messages, add_generation_prompt, strings } => {
            check_text("messages", messages.iter().map(|message| message.content.len()).sum())?;
            (line.tokenize_chat(messages, add_generation_prompt).await?, strings)
        }
    };
    Ok(Json(TokenizeReply {
        count: tokens.len(),
        max_model_len: line.card().context_len,
        token_strs: strings.then(|| tokens.iter().map(|token| token_text(&token.bytes, "")).collect()),
        tokens: tokens.into_iter().map(|token| token.id).collect(),
    }))
}

/// The text of token ids.
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "tokens",
    request_body = DetokenizeRequest,
    responses((status = 200, body = DetokenizeReply, description = "The answer"), (status = 400, body = ErrorBody, description = "A field is wrong; `param` names it"), (status = 404, body = ErrorBody, description = "The model is not served here"))
)]
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<DetokenizeReply>, ApiError> {
    let (_ticket, _, mut fields) = read(&app, request).await?;
    let line = find_line(&app, &mut fields, true).await?;
    let ids = parse_detokenize(fields, line.card())?;
    let prompt = off_thread(&line, move |line| line.detokenize(&ids)).await?;
    Ok(Json(DetokenizeReply { prompt }))
}
