//! What the books say of a request, as it is shown.

use ::ledger::{Entry, EntryId, kind};
use economics::Nano;
use economics::books::detail::{SettledLine, Settlement, entry_kind};
use economics::books::outcome_detail::Owner;
use economics::books::{Books, unit};
use serde_json::Value;

use super::super::unreadable;
use super::document::{RequestCharge, RequestChargeLine, RequestEntry, RequestLeg};
use crate::error::ApiError;
use crate::routes::outcomes;
use crate::usage::pool_tokens;

/// What the books say of a request.
#[derive(Default)]
pub(super) struct Told {
    pub(super) charge: Option<RequestCharge>,
    pub(super) entries: Vec<RequestEntry>,
    pub(super) outcomes: Vec<Value>,
    pub(super) outcomes_complete: bool,
}

/// Reads them; outcomes are those of `owner`'s list, `None`: of the plant's.
pub(super) fn told(books: &Books, request: EntryId, owner: Option<&Owner>) -> Result<Told, ApiError> {
    let entries = books.request_entries(request).map_err(|error| unreadable(&error))?;
    let settled = entries.iter().find_map(|entry| Some((entry.seq, Settlement::read(entry)?)));
    let (mut outcomes, mut outcomes_complete) = (Vec::new(), true);
    if let Some((seq, _)) = &settled {
        let found = books.outcomes_of_request(request, owner, *seq).map_err(|error| unreadable(&error))?;
        outcomes_complete = found.1;
        outcomes = found.0.iter().map(|entry| outcomes::shown(entry, &books.currency().code)).collect();
    }
    Ok(Told {
        charge: settled.map(|(_, settled)| charge(books, request, &settled)).transpose()?,
        entries: entries.iter().map(|entry| shown(books, entry)).collect::<Result<_, _>>()?,
        outcomes,
        outcomes_complete,
    })
}

fn charge(books: &Books, request: EntryId, settled: &Settlement) -> Result<RequestCharge, ApiError> {
    let cost = books.cost(request).map_err(|error| unreadable(&error))?;
    let line = |line: &SettledLine| RequestChargeLine {
        meter: line.meter.as_str(),
        tier: line.tier,
        tokens: line.tokens,
        amount: line.nano.to_string(),
    };
    Ok(RequestCharge {
        currency: books.currency().code.clone(),
        lines: settled.lines.iter().map(line).collect(),
        list: settled.list().to_string(),
        discount: settled.discount.to_string(),
        amount: cost.amount.to_string(),
        pool_tokens: pool_tokens(cost.pool_units),
    })
}

fn shown(books: &Books, entry: &Entry) -> Result<RequestEntry, ApiError> {
    let kind = match entry.kind {
        entry_kind::SETTLED => "charge",
        entry_kind::COSTED => "cost",
        entry_kind::CREDITED => "credit",
        kind::VOID | kind::EXPIRED => "released",
        _ => "other",
    };
    let mut legs = Vec::with_capacity(entry.legs.len());
    for leg in &entry.legs {
        let spec = books.ledger().account_spec(leg.account).map_err(|error| unreadable(&error))?;
        let spec = spec.ok_or_else(|| ApiError::internal(format!("the ledger has no account {}", leg.account.0)))?;
        let (unit, amount) = match spec.unit {
            unit::MONEY => ("money", Nano(leg.amount).to_string()),
            unit::BUDGET => ("budget", Nano(leg.amount).to_string()),
            unit::VALUE => ("value", Nano(leg.amount).to_string()),
            unit::POOL => ("pool", pool_tokens(leg.amount)),
            unit::VOLUME => ("volume", leg.amount.to_string()),
            unit::ENERGY => ("energy", leg.amount.to_string()),
            unit::OUTCOMES => ("outcomes", leg.amount.to_string()),
            _ => ("other", leg.amount.to_string()),
        };
        legs.push(RequestLeg { account: spec.name.clone(), kind: spec.kind.as_str(), unit, amount });
    }
    Ok(RequestEntry { seq: entry.seq, at_ms: entry.at_ms, kind, legs })
}
