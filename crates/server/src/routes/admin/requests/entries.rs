//! What the books say of a request, as it is shown.

use ::ledger::EntryId;
use economics::books::detail::{SettledLine, Settlement};
use economics::books::outcome_detail::Owner;
use economics::books::{Books, unit};

use super::super::entries::{LedgerEntry, documents};
use super::super::unreadable;
use super::document::{RequestCharge, RequestChargeLine};
use crate::error::ApiError;
use crate::routes::outcomes::{self, OutcomeEntry};

/// What the books say of a request.
#[derive(Default)]
pub(super) struct Told {
    pub(super) charge: Option<RequestCharge>,
    pub(super) entries: Vec<LedgerEntry>,
    pub(super) outcomes: Vec<OutcomeEntry>,
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
        entries: documents(books, &entries)?,
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
        pool_tokens: unit::text(unit::POOL, cost.pool_units),
    })
}
