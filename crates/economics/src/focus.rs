//! Charges and credit notes as a FOCUS dataset: the FinOps Open Cost and Usage Specification, version [`VERSION`], in CSV.
//!
//! One row is one line of one request's charge (a model, a meter, a tier); pooled tokens have rows of their own that cost
//! nothing; a credit note is a row of the category `Credit`. `BilledCost` is what the ledger posted, so the rows of one
//! billing period of one billing account sum to its invoice before rounding. `ListCost` and `ContractedCost` are exact
//! products of unit price and quantity, as the specification wants them; each differs by less than a nano-unit from what
//! was posted.
//!
//! Names and calendars are those of the time of the charge: the directory is folded from the same entries on the way.

mod row;

use std::collections::HashMap;
use std::io::{self, Write};

use ledger::{Entry, StoreError, StoreSpec};

use crate::books::detail::{Context, CreditNote, Settlement, entry_kind};
use crate::books::{CURRENCY_KIND, unknown};
use crate::directory::record::{Kind, Record};
use crate::money::divide_half_even;
use crate::window::{Calendar, Period};
use crate::{Directory, Invalid, Meter, Nano, Window};
use row::{Basis, Price, Row, Use};

/// The version of the specification.
pub const VERSION: &str = "1.2";

/// What is exported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Who sells: provider, publisher and issuer of the invoices.
    pub seller: &'a str,
    /// Only this organisation.
    pub organisation: Option<&'a str>,
    /// Only charges posted at this time or later, in milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// Only charges posted before this time.
    pub to_ms: Option<i64>,
}

/// Why there is no (whole) export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The selection is wrong, or a document cannot be read.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store cannot be read, or what it says is damaged, or `out` takes no more.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the selected charges of a store, open or not, from one state of it, and gives the number of rows. Memory grows
/// with customers and their windows, not with charges.
///
/// # Errors
/// See [`ExportError`].
pub fn export(spec: &StoreSpec, selection: &Selection<'_>, out: &mut dyn Write) -> Result<u64, ExportError> {
    if selection.seller.trim().is_empty() {
        return Err(Invalid::new("seller", "there is none", "give the name that stands on invoices").into());
    }
    if let (Some(from), Some(to)) = (selection.from_ms, selection.to_ms)
        && to <= from
    {
        return Err(Invalid::new("to", "it is not after the begin", "give a later end, or none").into());
    }
    let mut export = Export { selection, out, folded: Folded::default(), rows: 0 };
    ledger::each_entry(spec, |entry| export.take(entry))?;
    // No row is of an organisation that there never was: nothing is written yet then.
    if let Some(organisation) = selection.organisation
        && export.folded.directory.organisation(organisation).is_none()
    {
        return Err(unknown(organisation).into());
    }
    if export.rows == 0 {
        row::header(export.out).map_err(unwritten)?;
    }
    export.out.flush().map_err(unwritten)?;
    Ok(export.rows)
}

fn unwritten(error: io::Error) -> ExportError {
    StoreError::Failed(format!("the export cannot be written: {error}")).into()
}

fn damaged(entry: &Entry, what: &str) -> ExportError {
    StoreError::Damaged(format!("entry {}: {what}", entry.seq)).into()
}

/// What the entries so far say about customers.
#[derive(Default)]
struct Folded {
    directory: Directory,
    currency: String,
    /// The windows in which something was charged, by organisation and start.
    windows: HashMap<(String, i64), Window>,
}

impl Folded {
    /// The window in which a charge is invoiced. Its end is that of the calendar at the first charge in it.
    fn window(&mut self, context: &Context) -> Result<Window, Invalid> {
        let key = (context.organisation.clone(), context.window_ms);
        if let Some(window) = self.windows.get(&key) {
            return Ok(window.clone());
        }
        let plan = self.directory.organisation(&context.organisation).map(|organisation| organisation.plan.as_str());
        let plan = self.directory.plans().find(|candidate| Some(candidate.id.as_str()) == plan);
        let calendar = plan.map_or_else(Calendar::default, |plan| plan.calendar.clone());
        let window = Window { start_ms: context.window_ms, ..calendar.window(Period::Month, context.window_ms)? };
        self.windows.insert(key, window.clone());
        Ok(window)
    }
}

struct Export<'a> {
    selection: &'a Selection<'a>,
    out: &'a mut dyn Write,
    folded: Folded,
    rows: u64,
}

impl Export<'_> {
    fn take(&mut self, entry: &Entry) -> Result<(), ExportError> {
        if let Some(document) = entry.document() {
            if document.kind == CURRENCY_KIND {
                self.folded.currency = String::from_utf8_lossy(&document.body).into_owned();
            } else if Kind::from_code(document.kind).is_some() {
                self.folded.directory.insert(Record::read(document.kind, &document.key, &document.body)?)?;
            }
            return Ok(());
        }
        match entry.kind {
            entry_kind::SETTLED => {
                let settled = Settlement::read(entry).ok_or_else(|| damaged(entry, "its charge cannot be read"))?;
                self.settlement(entry, &settled)
            }
            entry_kind::CREDITED => {
                let note = CreditNote::read(entry).ok_or_else(|| damaged(entry, "its credit note cannot be read"))?;
                self.write(entry, &note.billed(), &[Basis::Credit(&note)])
            }
            _ => Ok(()),
        }
    }

    fn settlement(&mut self, entry: &Entry, settled: &Settlement) -> Result<(), ExportError> {
        let context = &settled.context;
        let prices = self.folded.directory.prices();
        let price = prices.version(&context.list, &context.model, context.price_version);
        let price = price.ok_or_else(|| damaged(entry, "it names a price that is not there"))?;
        let mut uses = Vec::new();
        let mut rated = settled.pooled;
        let permille = permille(settled);
        for (line, billed) in settled.lines.iter().zip(billed(settled)) {
            let tier = price.tier(line.tier).ok_or_else(|| damaged(entry, "it names a tier that is not there"))?;
            let count = rated.get_mut(line.meter);
            *count = count.saturating_add(line.tokens);
            uses.push(Use::charged(line, tier, permille, billed));
        }
        let beyond = settled.quantities.minus(&rated);
        for meter in Meter::ALL {
            uses.push(Use::free(meter, settled.pooled.get(meter), Price::Included));
            uses.push(Use::free(meter, beyond.get(meter), Price::Unbilled));
        }
        let used = uses.iter().filter(|used| used.tokens > 0);
        let bases: Vec<Basis<'_>> = used.map(|used| Basis::Use(used, settled.end)).collect();
        self.write(entry, context, &bases)
    }

    fn write(&mut self, entry: &Entry, context: &Context, bases: &[Basis<'_>]) -> Result<(), ExportError> {
        // Also of what is left out: later rows of the same window must have the same end.
        let window = self.folded.window(context)?;
        let Selection { seller, organisation, from_ms, to_ms } = *self.selection;
        if organisation.is_some_and(|wanted| wanted != context.organisation)
            || from_ms.is_some_and(|from| entry.at_ms < from)
            || to_ms.is_some_and(|to| entry.at_ms >= to)
        {
            return Ok(());
        }
        let Folded { directory, currency, .. } = &self.folded;
        for &basis in bases {
            if self.rows == 0 {
                row::header(self.out).map_err(unwritten)?;
            }
            Row { seller, currency, directory, entry, context, window: &window, basis }
                .write(self.out)
                .map_err(unwritten)?;
            self.rows += 1;
        }
        Ok(())
    }
}

/// The discount in thousandths: the one that makes this discount of this list price. (Below a thousand nano-units several
/// do, and one of them is given.)
fn permille(settled: &Settlement) -> i128 {
    match settled.list().0 {
        0 => 0,
        list => divide_half_even(i128::from(settled.discount.0) * 1_000, i128::from(list)),
    }
}

/// What each line costs after its part of the discount. The parts are whole nano-units and sum to the discount.
fn billed(settled: &Settlement) -> impl Iterator<Item = Nano> {
    let (discount, list) = (i128::from(settled.discount.0), i128::from(settled.list().0));
    let (mut before, mut given) = (0_i128, 0_i128);
    settled.lines.iter().map(move |line| {
        before += i128::from(line.nano.0);
        let so_far = if list == 0 { 0 } else { (discount * before).div_euclid(list) };
        let part = Nano::saturating(so_far - std::mem::replace(&mut given, so_far));
        line.nano.saturating_sub(part)
    })
}
