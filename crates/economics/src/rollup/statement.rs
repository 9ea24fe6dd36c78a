//! Statements: what a window cost, line by line, and the credit notes given in it.

use ledger::{EntryId, Ledger, StoreError};
use serde::Serialize;

use super::Sums;
use super::keys::{CREDITS, INVOICE, Key, Parts, collect};
use crate::books::detail::CreditNote;
use crate::{Meter, Nano};

/// One line of an invoice: tokens of one meter at one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// What was counted.
    pub meter: Meter,
    /// Index of the price's tier.
    pub tier: u8,
    /// How many tokens.
    pub tokens: i64,
    /// The sum of the charges' lines.
    pub nano: Nano,
}

/// What one model cost in one window, under one version of its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceModel {
    /// The price list.
    pub list: String,
    /// The model.
    pub model: String,
    /// The version of its price.
    pub price_version: u32,
    /// All of it; its `list` is the sum of the lines.
    pub sums: Sums,
    /// What was not paid by a pool.
    pub lines: Vec<InvoiceLine>,
}

/// What a window cost. The customer's total is the sum of the models' totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// By list, model and version.
    pub models: Vec<InvoiceModel>,
    /// The sums of the models.
    pub sums: Sums,
}

/// The statement of an organisation for the window that starts at `window_ms`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn statement(ledger: &Ledger, organisation: &str, window_ms: i64) -> Result<Statement, StoreError> {
    let key = |ms: i64| Key::new(INVOICE).text(organisation).number(ms).0;
    let rows = collect(ledger, &key(window_ms), &key(window_ms.saturating_add(1)), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _) = (parts.text()?, parts.number()?);
        let (list, model, version) = (parts.text()?, parts.text()?, parts.number()?);
        Some(((list, model, u32::try_from(version).ok()?), parts.0.to_vec(), tally.clone()))
    })?;
    let mut statement = Statement::default();
    for ((list, model, price_version), line, tally) in rows {
        if let [meter, tier] = line.as_slice() {
            // A line follows the sums of its model.
            let (Some(model), Some(meter)) = (statement.models.last_mut(), Meter::ALL.get(usize::from(*meter))) else {
                return Err(StoreError::Damaged("a line of an invoice has no model".to_owned()));
            };
            let sum = |index: usize| {
                let sum = tally.sums.get(index).copied().unwrap_or(0);
                i64::try_from(sum).unwrap_or(i64::MAX)
            };
            model.lines.push(InvoiceLine { meter: *meter, tier: *tier, tokens: sum(0), nano: Nano(sum(1)) });
        } else {
            let sums = Sums::read(&tally);
            statement.sums.add(&sums);
            statement.models.push(InvoiceModel { list, model, price_version, sums, lines: Vec::new() });
        }
    }
    Ok(statement)
}

/// A credit note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// When it was given.
    pub at_ms: i64,
    /// The request it is for.
    pub request: EntryId,
    /// Why.
    pub reason: String,
    /// What is given back.
    pub amount: Nano,
}

/// The credit notes that an organisation got in the window that starts at `window_ms`, oldest first. Only what is on the
/// disk.
///
/// # Errors
/// The store's.
pub fn credits(ledger: &Ledger, organisation: &str, window_ms: i64) -> Result<Vec<Credit>, StoreError> {
    let key = |ms: i64| Key::new(CREDITS).text(organisation).number(ms).0;
    let entries = collect(ledger, &key(window_ms), &key(window_ms.saturating_add(1)), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _) = (parts.text()?, parts.number()?);
        parts.number()
    })?;
    let read = |seq: i64| {
        let entry = ledger.entries(seq.cast_unsigned(), 1)?.pop();
        let note = entry.as_ref().and_then(|entry| Some((entry.at_ms, CreditNote::read(entry)?)));
        let (at_ms, note) = note.ok_or_else(|| StoreError::Damaged(format!("entry {seq} is no credit note")))?;
        Ok(Credit { at_ms, request: EntryId(note.request), reason: note.reason, amount: note.amount })
    };
    entries.into_iter().map(read).collect()
}

/// Starts of the windows in which an organisation has charges or credit notes, oldest first. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn windows(ledger: &Ledger, organisation: &str) -> Result<Vec<i64>, StoreError> {
    let key = |ms: i64| Key::new(INVOICE).text(organisation).number(ms).0;
    let (mut starts, mut from) = (Vec::new(), i64::MIN);
    while let Some(tally) = ledger.tallies(&key(from), &key(i64::MAX), 1)?.pop() {
        let mut parts = Parts(tally.key.get(1..).unwrap_or_default());
        let start = parts.text().and_then(|_| parts.number());
        let start = start.ok_or_else(|| StoreError::Damaged("a tally cannot be read".to_owned()))?;
        starts.push(start);
        from = start.saturating_add(1);
    }
    Ok(starts)
}
