//! `/v1/next-token`: what the next token is drawn from.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use protocol::{DrawnToken, NextToken, NextTokenChance, NextTokenRequest, NextTokenRest, Usage};
use service::{Chances, TokenBytes, TokenText};

use super::answer::{Choice, Ending, Form, Head, Key, Refusals, answer};
use super::tokens::{finite, token_text};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::{Context, Job, parse_next_token};

/// The model's distribution of the next token, raw and as the sampler's settings leave it, over the whole vocabulary: the
/// likeliest tokens one by one, the others together. It is read off the draw of one token, which is made and charged like
/// that of any answer.
#[utoipa::path(
    post,
    path = "/v1/next-token",
    operation_id = "createNextToken",
    tag = "tokens",
    params(Key),
    request_body = NextTokenRequest,
    responses((status = 200, body = NextToken, description = "The answer"), Refusals)
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    answer::<Distribution>(&app, request).await
}

/// Never streamed.
struct Distribution(Head);

impl Form for Distribution {
    const ROUTE: &'static str = "/v1/next-token";
    const ID_PREFIX: &'static str = "next-";
    const PROMPT: &'static str = "prompt";
    const SETS_LENGTH: bool = false;
    type Whole = NextToken;
    type Frame = ();

    fn parse(fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
        parse_next_token(fields, context)
    }

    fn new(head: Head) -> Self {
        Self(head)
    }

    fn head(&self) -> &Head {
        &self.0
    }

    fn opening(&self, _index: u32) -> Option<()> {
        None
    }

    fn text(&mut self, _index: u32, _text: String, _tokens: Vec<TokenText>) {}

    fn end(&self, _index: u32, _ending: Ending) {}

    fn usage(&self, _usage: Usage) {}

    fn whole(self, choices: Vec<Choice>, usage: Usage) -> Option<NextToken> {
        let Self(head) = self;
        let Chances { chosen, best, distribution } = *choices.into_iter().find_map(|choice| choice.chances)?;
        let rest = NextTokenRest {
            tokens: head.vocab_size.saturating_sub(best.len()),
            raw: distribution.rest_raw,
            drawn: distribution.rest_drawn,
        };
        let tokens = best.into_iter().zip(distribution.best).map(|(token, chance)| {
            let DrawnToken { id, token, bytes } = wire(token);
            NextTokenChance { id, token, bytes, logit: finite(chance.logit), raw: chance.raw, drawn: chance.drawn }
        });
        Some(NextToken {
            object: "next_token".to_owned(),
            created: head.created,
            drawn: wire(chosen),
            tokens: tokens.collect(),
            rest,
            possible: distribution.possible,
            usage,
            tokenworks: head.note,
            system_fingerprint: Some(head.fingerprint),
            model: head.model,
            id: head.id,
        })
    }
}

fn wire(TokenBytes { id, bytes }: TokenBytes) -> DrawnToken {
    DrawnToken { id, token: token_text(&bytes, ""), bytes }
}
