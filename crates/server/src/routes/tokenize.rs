//! `/tokenize` and `/detokenize`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use protocol::{
    DetokenizeReply, DetokenizeRequest, ErrorBody, InputPrice, MergeStep, MergedWord, TokenMerges, TokenizeReply,
    TokenizeRequest,
};
use service::{Lease, Line, LineError, MergeOrder, Merges, TokenText};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::tokens::token_text;
use super::{find_line, read};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::request::{Extras, Tokenize, parse_detokenize, parse_tokenize};

/// Most bytes of text in one call: tokens take some tens of times the memory of their text.
const TEXT_BYTES_MAX: usize = 2 << 20;
/// Most bytes of a text whose merges are shown: the pieces after each of them grow with the square of it.
const MERGES_BYTES_MAX: usize = 512;
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
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let line = find_line(&app, &mut fields, true).await?;
    let (asked, Extras { strings, bytes, price }) = parse_tokenize(fields)?;
    let (tokens, merges): (Vec<TokenText>, Option<Merges>) = match asked {
        Tokenize::Text { text, add_special, parse_special, merges } => {
            check_text("prompt", text.len())?;
            if merges && text.len() > MERGES_BYTES_MAX {
                let message = format!(
                    "`merges` is for texts of at most {MERGES_BYTES_MAX} bytes; `prompt` has {}: send less of it, or leave \
                     `merges` out",
                    text.len()
                );
                return Err(ApiError::field("merges", message));
            }
            let work = move |line: &dyn Line| {
                let merges = merges.then(|| line.merges(&text, parse_special)).transpose()?;
                Ok((line.tokenize(&text, add_special, parse_special)?, merges))
            };
            off_thread(&line, work).await?
        }
        Tokenize::Chat { messages, add_generation_prompt } => {
            check_text("messages", messages.iter().map(|message| message.content.len()).sum())?;
            (line.tokenize_chat(messages, add_generation_prompt).await?, None)
        }
    };
    Ok(Json(TokenizeReply {
        count: tokens.len(),
        max_model_len: line.card().context_len,
        token_strs: strings.then(|| tokens.iter().map(|token| token_text(&token.bytes, "")).collect()),
        price: if price { input_price(&app, &caller, &line, tokens.len()) } else { None },
        merges: merges.map(wire_merges),
        tokens: tokens.iter().map(|token| token.id).collect(),
        token_bytes: bytes.then(|| tokens.into_iter().map(|token| token.bytes).collect()),
    }))
}

/// What so many tokens of input cost the caller, if the books have a price for them.
fn input_price(app: &App, caller: &Caller, line: &Lease, tokens: usize) -> Option<InputPrice> {
    let (books, identity, card) = (app.books.as_ref()?, caller.identity.as_ref()?, line.card());
    let quote = books.quote_input(identity, (&card.id, card.base.as_deref()), tokens as u64, unix_ms()).ok()?;
    Some(InputPrice {
        amount: quote.amount.to_string(),
        currency: books.currency().code.clone(),
        rate: quote.rate.to_string(),
        list: quote.list,
        version: quote.version,
    })
}

fn wire_merges(merges: Merges) -> TokenMerges {
    let texts = |pieces: Vec<Vec<u8>>| pieces.iter().map(|piece| token_text(piece, "")).collect();
    let step = |step: service::MergeStep| {
        let (rank, score) = match step.order {
            MergeOrder::Rank(rank) => (Some(rank), None),
            MergeOrder::Score(score) => (None, Some(score)),
        };
        MergeStep { rank, score, at: step.at, pieces: texts(step.pieces) }
    };
    let word = |word: service::MergedWord| MergedWord {
        start: texts(word.start),
        steps: word.steps.into_iter().map(step).collect(),
        tokens: word.ids,
    };
    let none_because = merges.words.is_none().then(|| {
        let because = match merges.algorithm {
            "word_piece" => {
                "WordPiece merges nothing: it takes the longest token that a word begins with, again and again"
            }
            "unigram" => "Unigram merges nothing: of all ways to cut a text into tokens it takes the likeliest",
            "word_level" => "this tokenizer merges nothing: each word is a token, or unknown",
            _ => {
                "the encoder of this tokenizer (of a tokenizer.json) does not show its merges; that of a GGUF file does"
            }
        };
        because.to_owned()
    });
    TokenMerges {
        algorithm: merges.algorithm.to_owned(),
        none_because,
        words: merges.words.unwrap_or_default().into_iter().map(word).collect(),
    }
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
