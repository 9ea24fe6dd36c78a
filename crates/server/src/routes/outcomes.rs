//! What became of answers: outcomes and feedback, told by the application that asked for them.

mod document;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::Uri;
use economics::books::outcome_detail::{Aside, Owner, Part, UnitPart, Valued};
use economics::books::{Books, OutcomeError, Told};
use economics::directory::record::Scope;
use economics::outcome::{
    Attribution, FEEDBACK, MATURITY_DAYS, Outcome, Remarks, Rule, TimeSaved, Valuation, WHOLE_PERMILLE,
};
use economics::plant::largest_remainder;
use economics::{Invalid, Nano};
use ledger::{Entry, EntryId};
use serde_json::Value;
use service::entry_id;
use sha2::{Digest, Sha256};

use super::read;
use crate::app::{App, in_turn, new_id, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::{Fields, missing, wrong};
use crate::idempotency;
use crate::query::Query;
use crate::routes::admin::{invalid, unreadable};

pub(super) use document::OutcomeEntry;
use document::{OutcomeList, OutcomeMember, OutcomePart, OutcomeReceipt, OutcomeWaitsFor, ToldOutcome};

type Answer = Result<Json<OutcomeReceipt>, ApiError>;

const TEXT: &str = "a string";
const AMOUNT: &str = "a decimal number, best as a string, e.g. \"12.50\"";
const REQUESTS: &str = "a list of ids of answers, or of objects with `id` and `weight` (permille)";
/// Thousandths of a minute have so many nano-units.
const NANO_PER_MILLI: i64 = 1_000_000;
const MAX_LIMIT: i128 = 100;

/// Tells what an answer, or several, brought about: what it was worth and whether it was used.
#[utoipa::path(
    post,
    path = "/v1/outcomes",
    operation_id = "createOutcome",
    tag = "value",
    request_body(content = Object, description = "`id` (the same again changes nothing), `kind`, `requests` (or `request`, or \
        `episode` with `rule`: `last`, `first`, `even`, or `experiment` with `unit`), `value` with `currency` or `minutes_saved` with `rate_per_hour` and \
        `currency`, `valuation` (`measured`, `contracted`, `estimated`, `proxy`), `accepted`, `occurred_at` (Unix seconds), `maturity_days`, \
        `revision` (a later one takes the place of the one before), `category`, `comment`, `demonstration`",
        example = json!({"id": "ticket-4711", "kind": "ticket_resolved", "requests": ["chatcmpl-…"], "value": "12.50",
        "currency": "USD", "valuation": "measured", "accepted": true})),
    responses(
        (status = 200, body = OutcomeReceipt, description = "It is taken"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong; `param` names it"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not ask models, or there are no books"),
        (status = 409, body = protocol::ErrorBody, description = "The id or the revision contradicts what was told before")
    )
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (_ticket, caller, fields) = read(&app, request).await?;
    let teller = Teller::of(&app, &caller)?;
    let outcome = outcome(fields, &teller.books.currency().code)?;
    teller.tell(&app, outcome).await
}

/// Tells what somebody thinks of an answer.
#[utoipa::path(
    post,
    path = "/v1/feedback",
    operation_id = "createFeedback",
    tag = "value",
    request_body(content = Object, description = "`request` (or `requests`, or `episode` with `rule`), and some of `boolean` \
        (whether the answer was accepted), `number`, `category`, `comment`, `demonstration`; `id`, or an `Idempotency-Key`, makes a retry safe",
        example = json!({"request": "chatcmpl-…", "boolean": true, "comment": "solved it"})),
    responses(
        (status = 200, body = OutcomeReceipt, description = "It is taken"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong; `param` names it"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not ask models, or there are no books"),
        (status = 409, body = protocol::ErrorBody, description = "The id or the revision contradicts what was told before")
    )
)]
pub(crate) async fn feedback(State(app): State<Arc<App>>, request: Request) -> Answer {
    let retried = idempotency::key(request.headers())?.map(id_of_key);
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let teller = Teller::of(&app, &caller)?;
    let id = fields.string("id")?.or(retried).unwrap_or_else(|| new_id("feedback-"));
    let boolean = fields.boolean("boolean")?;
    let number = fields.take("number").map(|value| match value {
        Value::Number(number) => Ok(number.to_string()),
        other => Err(wrong("number", "a number", &other)),
    });
    let remarks = Remarks { number: number.transpose()?.unwrap_or_default(), ..remarks(&mut fields)? };
    if boolean.is_none() && remarks == Remarks::default() {
        return Err(missing("boolean", "a boolean, or give `number`, `category`, `comment` or `demonstration`"));
    }
    let feedback = Outcome {
        id,
        revision: revision(&mut fields)?,
        kind: FEEDBACK.to_owned(),
        value: Nano::ZERO,
        saved: None,
        valuation: Valuation::Proxy,
        accepted: boolean.unwrap_or(false),
        occurred_ms: occurred_ms(&mut fields)?,
        attribution: attribution(&mut fields)?,
        maturity_days: maturity_days(&mut fields)?,
        remarks,
    };
    fields.finish()?;
    teller.tell(&app, feedback).await
}

/// The id of feedback that is named by an `Idempotency-Key` alone: the same for each try.
fn id_of_key(key: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(key).into();
    hash.first_chunk().map_or_else(String::new, |half| format!("feedback-{}", EntryId(*half)))
}

/// The outcomes of the caller's project (of the plant, for keys with the scope `plant`), oldest first.
#[utoipa::path(
    get,
    path = "/v1/outcomes",
    operation_id = "listOutcomes",
    tag = "value",
    params(
        ("status" = Option<String>, Query, description = "`counted` (the default), or `aside`: those whose requests are not in the books"),
        ("after" = Option<u64>, Query, description = "The `entry` of the last one of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100 [default: 20]")
    ),
    responses(
        (status = 200, body = OutcomeList, description = "A page; `waits_for` of those kept aside: requests that are not in the books, or their `episode`"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong; `param` names it"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not ask models, or there are no books")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<OutcomeList>, ApiError> {
    let Teller { books, owner } = Teller::of(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let aside = query.word("status", &["counted", "aside"])?.as_deref() == Some("aside");
    let after: Option<u64> = query.integer("after", "the `entry` of an outcome", 0..=i128::from(i64::MAX))?;
    let limit: Option<usize> = query.integer("limit", "from 1 to 100", 1..=MAX_LIMIT)?;
    query.finish()?;
    let (after, limit) = (after.unwrap_or(0), limit.unwrap_or(20));
    let read = move || {
        books.match_outcomes(unix_ms()).map_err(refused)?;
        let owner = (!owner.any).then_some(&owner);
        let mut entries = books.outcomes(owner, (aside, after), limit + 1).map_err(|error| unreadable(&error))?;
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let data = entries.iter().map(|entry| {
            let mut told = shown(entry, &books.currency().code);
            if let Some(aside) = Aside::read(entry) {
                let missing = books.missing_requests(&aside).map_err(|error| unreadable(&error))?;
                told.waits_for = Some(match aside.outcome.attribution {
                    Attribution::Episode { episode, .. } => OutcomeWaitsFor { episode: Some(episode), requests: None },
                    _ => OutcomeWaitsFor {
                        episode: None,
                        requests: Some(missing.iter().map(EntryId::to_string).collect()),
                    },
                });
            }
            Ok(told)
        });
        let data = data.collect::<Result<Vec<_>, ApiError>>()?;
        let own = |part: fn(&Owner) -> &str| owner.map(part);
        let aside = books.outcomes_aside(own(|owner| &owner.organisation), own(|owner| &owner.project));
        let aside = aside.map_err(|error| unreadable(&error))?;
        Ok(Json(OutcomeList { object: "list", data, has_more, aside }))
    };
    in_turn(Arc::clone(&app.books_turns), read).await
}

/// Who tells outcomes.
struct Teller {
    books: Arc<Books>,
    owner: Owner,
}

impl Teller {
    fn of(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let books = app.books()?;
        let may = |scope| caller.identity.as_ref().filter(|identity| identity.scopes.contains(&scope));
        let identity = may(Scope::Inference).or_else(|| may(Scope::Plant)).ok_or_else(|| {
            let message = "outcomes need a key with the scope `inference`, of the project that asked";
            ApiError::forbidden(message, "not_allowed")
        })?;
        let owner = Owner {
            organisation: identity.organisation.id.clone(),
            project: identity.project.clone(),
            any: may(Scope::Plant).is_some(),
        };
        Ok(Self { books, owner })
    }

    async fn tell(self, app: &App, outcome: Outcome) -> Answer {
        let Self { books, owner } = self;
        let tell = move || {
            let now_ms = unix_ms();
            books.match_outcomes(now_ms).map_err(refused)?;
            let Told { entry, aside, replayed } = books.tell_outcome(&owner, &outcome, now_ms).map_err(refused)?;
            Ok(Json(OutcomeReceipt {
                object: "outcome",
                id: outcome.id,
                revision: outcome.revision,
                kind: outcome.kind,
                status: if aside { "aside" } else { "counted" },
                value: outcome.value,
                entry,
                replayed,
            }))
        };
        in_turn(Arc::clone(&app.books_turns), tell).await
    }
}

/// 409 for what contradicts what was told before.
pub(super) fn refused(error: OutcomeError) -> ApiError {
    match error {
        OutcomeError::Conflict(error) => {
            ApiError::idempotency(error.to_string(), "outcome_conflict").with_param(error.field)
        }
        OutcomeError::Post(error) => error.into(),
    }
}

fn outcome(mut fields: Fields, currency: &str) -> Result<Outcome, ApiError> {
    let id = fields.string("id")?.ok_or_else(|| missing("id", "a string that names the outcome in your project"))?;
    let kind = fields.string("kind")?.ok_or_else(|| missing("kind", "a word, e.g. `ticket_resolved`"))?;
    if kind == FEEDBACK {
        return Err(ApiError::field("kind", "`kind` is `feedback`; send that to /v1/feedback"));
    }
    let (value, saved) = worth(&mut fields, currency)?;
    let valuation = word(&mut fields, "valuation", Valuation::WORDS)?;
    let valuation = valuation.ok_or_else(|| missing("valuation", &one_of(Valuation::WORDS)))?;
    let outcome = Outcome {
        id,
        revision: revision(&mut fields)?,
        kind,
        value,
        saved,
        valuation: Valuation::from_word(&valuation).unwrap_or(Valuation::Proxy),
        accepted: fields
            .boolean("accepted")?
            .ok_or_else(|| missing("accepted", "a boolean: whether the output was used"))?,
        occurred_ms: occurred_ms(&mut fields)?,
        attribution: attribution(&mut fields)?,
        maturity_days: maturity_days(&mut fields)?,
        remarks: remarks(&mut fields)?,
    };
    fields.finish()?;
    Ok(outcome)
}

/// What it was worth: money, or time at a rate. Both are in the currency of the books, and say so.
fn worth(fields: &mut Fields, book_currency: &str) -> Result<(Nano, Option<TimeSaved>), ApiError> {
    let (value, minutes) = (decimal(fields, "value")?, decimal(fields, "minutes_saved")?);
    let (rate, currency) = (decimal(fields, "rate_per_hour")?, fields.string("currency")?);
    let book = format!("`{book_currency}`, the currency of the books");
    match currency {
        None if value.or(rate).is_some() => return Err(missing("currency", &book)),
        Some(other) if other != book_currency => return Err(wrong("currency", &book, &Value::String(other))),
        _ => {}
    }
    match (value, minutes, rate) {
        (Some(_), Some(_), _) => {
            Err(ApiError::field("minutes_saved", "`minutes_saved` is beside `value`; give one of them"))
        }
        (value, None, None) => Ok((value.unwrap_or(Nano::ZERO), None)),
        (_, Some(_), None) => Err(missing("rate_per_hour", "what an hour costs, beside `minutes_saved`")),
        (_, None, Some(_)) => Err(missing("minutes_saved", "a number of minutes, beside `rate_per_hour`")),
        (None, Some(minutes), Some(rate_per_hour)) => {
            let milli = u64::try_from(minutes.0 / NANO_PER_MILLI).ok();
            let milli = milli.filter(|_| minutes.0 % NANO_PER_MILLI == 0);
            let milli_minutes = milli.ok_or_else(|| {
                let expected = "a number of minutes, 0 or more, with at most 3 decimals";
                wrong("minutes_saved", expected, &Value::String(minutes.to_string()))
            })?;
            if rate_per_hour < Nano::ZERO {
                return Err(wrong("rate_per_hour", "0 or more", &Value::String(rate_per_hour.to_string())));
            }
            let saved = TimeSaved { milli_minutes, rate_per_hour };
            if saved.value() == Nano(i64::MAX) {
                let expected = "less: with this `rate_per_hour` it is worth more than the books can hold";
                return Err(wrong("minutes_saved", expected, &Value::String(minutes.to_string())));
            }
            Ok((saved.value(), Some(saved)))
        }
    }
}

fn decimal(fields: &mut Fields, name: &str) -> Result<Option<Nano>, ApiError> {
    let text = match fields.take(name) {
        None => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(wrong(name, AMOUNT, &other)),
    };
    text.parse().map(Some).map_err(|error: Invalid| invalid(&error.within(name)))
}

fn one_of(words: &[&str]) -> String {
    format!("one of {}", words.join(", "))
}

fn word(fields: &mut Fields, name: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
    match fields.string(name)? {
        Some(other) if !words.contains(&other.as_str()) => Err(wrong(name, &one_of(words), &Value::String(other))),
        word => Ok(word),
    }
}

fn revision(fields: &mut Fields) -> Result<u32, ApiError> {
    Ok(fields.integer("revision", "an integer from 1", 1..)?.unwrap_or(1))
}

fn occurred_ms(fields: &mut Fields) -> Result<Option<i64>, ApiError> {
    let seconds: Option<i64> = fields.integer("occurred_at", "Unix seconds", ..)?;
    Ok(seconds.map(|seconds| seconds.saturating_mul(1000)))
}

fn maturity_days(fields: &mut Fields) -> Result<u16, ApiError> {
    Ok(fields.integer("maturity_days", "an integer from 0 to 365", 0..=365)?.unwrap_or(MATURITY_DAYS))
}

fn remarks(fields: &mut Fields) -> Result<Remarks, ApiError> {
    let mut text = |name| fields.string(name).map(Option::unwrap_or_default);
    Ok(Remarks {
        number: String::new(),
        category: text("category")?,
        comment: text("comment")?,
        demonstration: text("demonstration")?,
    })
}

fn attribution(fields: &mut Fields) -> Result<Attribution, ApiError> {
    let (request, requests) = (fields.string("request")?, fields.take("requests"));
    let (episode, rule) = (fields.string("episode")?, word(fields, "rule", Rule::WORDS)?);
    let (experiment, unit) = (fields.string("experiment")?, fields.string("unit")?);
    let given = [request.is_some(), requests.is_some(), episode.is_some(), experiment.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(ApiError::field("requests", "give one of `request`, `requests`, `episode` and `experiment`"));
    }
    match (experiment, unit) {
        (Some(experiment), Some(unit)) if rule.is_none() => return Ok(Attribution::Unit { experiment, unit }),
        (Some(_), None) => return Err(missing("unit", "the unit of the `experiment` that this is an outcome of")),
        (None, Some(_)) => return Err(missing("experiment", "the experiment that `unit` belongs to")),
        _ => {}
    }
    if rule.is_some() && episode.is_none() {
        return Err(missing("episode", "the `metadata.episode` that `rule` is for"));
    }
    match (request, requests, episode) {
        (Some(request), ..) => Ok(Attribution::Requests(vec![(EntryId(entry_id(&request)), WHOLE_PERMILLE)])),
        (_, Some(Value::Array(list)), _) => list_of_requests(list).map(Attribution::Requests),
        (_, Some(other), _) => Err(wrong("requests", REQUESTS, &other)),
        (.., Some(episode)) => {
            let rule = rule.as_deref().and_then(Rule::from_word).unwrap_or(Rule::Even);
            Ok(Attribution::Episode { episode, rule })
        }
        _ => Err(missing("requests", &format!("{REQUESTS}; or give `episode`, or `experiment` and `unit`"))),
    }
}

/// Weights are of all or of none; of none: all alike.
fn list_of_requests(list: Vec<Value>) -> Result<Vec<(EntryId, u16)>, ApiError> {
    let even = largest_remainder(WHOLE_PERMILLE.into(), &vec![1; list.len()]);
    let all_plain = list.iter().all(Value::is_string);
    let read = |(place, (value, even)): (usize, (Value, u64))| match value {
        Value::String(id) if all_plain => Ok((EntryId(entry_id(&id)), u16::try_from(even).unwrap_or(0))),
        Value::Object(object) => {
            let mut fields = Fields::inside(object, &format!("requests[{place}]"));
            let id = fields.string("id")?.ok_or_else(|| missing(&fields.path("id"), TEXT))?;
            let weight = fields.integer("weight", "an integer from 1 to 1000, permille", 1..=1000)?;
            let weight =
                weight.ok_or_else(|| missing(&fields.path("weight"), "an integer from 1 to 1000, permille"))?;
            fields.finish()?;
            Ok((EntryId(entry_id(&id)), weight))
        }
        other => Err(wrong(&format!("requests[{place}]"), REQUESTS, &other)),
    };
    list.into_iter().zip(even).enumerate().map(read).collect()
}

/// An entry of the list.
pub(super) fn shown(entry: &Entry, currency: &str) -> OutcomeEntry {
    let aside = Aside::read(entry);
    let status = if aside.is_some() { "aside" } else { "counted" };
    let told = match aside {
        Some(Aside { owner, outcome }) => Some(told(entry, currency, (owner, outcome))),
        None => Valued::read(entry).map(|Valued { owner, outcome, counted, undone, .. }| {
            let part = |part: &Part| OutcomePart {
                request: EntryId(part.request).to_string(),
                weight: part.weight,
                value: part.value,
            };
            let member = |UnitPart { member, .. }: UnitPart| OutcomeMember {
                experiment: member.joined.experiment,
                unit: member.unit,
            };
            ToldOutcome {
                replaces: undone.map(|(seq, _)| seq),
                requests: Some(counted.parts.iter().map(part).collect()),
                member: counted.unit_part.map(member),
                ..told(entry, currency, (owner, outcome))
            }
        }),
    };
    let status = if told.is_some() { status } else { "unreadable" };
    OutcomeEntry { object: "outcome", entry: entry.seq, status, told, waits_for: None }
}

/// What an entry tells, as if it were kept aside.
fn told(entry: &Entry, currency: &str, (owner, outcome): (Owner, Outcome)) -> ToldOutcome {
    let Remarks { number, category, comment, demonstration } = outcome.remarks;
    ToldOutcome {
        id: outcome.id,
        revision: outcome.revision,
        replaces: None,
        kind: outcome.kind,
        organisation: owner.organisation,
        project: owner.project,
        value: outcome.value,
        currency: currency.to_owned(),
        valuation: outcome.valuation,
        accepted: outcome.accepted,
        occurred_at: outcome.occurred_ms.unwrap_or(entry.at_ms).div_euclid(1000),
        told_at: entry.at_ms.div_euclid(1000),
        maturity_days: outcome.maturity_days,
        requests: None,
        member: None,
        number,
        category,
        comment: Some(comment),
        demonstration: Some(demonstration),
    }
}

/// Takes what people wrote out of an outcome that is shown.
pub(super) fn hide_texts(shown: &mut OutcomeEntry) {
    if let Some(told) = &mut shown.told {
        (told.comment, told.demonstration) = (None, None);
    }
}
