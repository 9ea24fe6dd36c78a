//! Invoices: what an organisation pays for one window, line by line.

use ledger::EntryId;

use crate::rollup::{Credit, InvoiceModel, Statement};
use crate::{Currency, Meter, Nano, PriceBook, Quantities, Rate, Window};

/// Whether an invoice can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The window is not over, or a request of it still runs.
    Open,
    /// Nothing will be added to it; later credit notes stand on later invoices.
    Final,
}

/// The invoice of one organisation for one window.
///
/// The amounts of the lines add up to the total exactly: `sum(lines.amount) = total`. The total is in whole minor units
/// of the currency; a rounding line of at most half a minor unit, the last of them, makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The organisation's id.
    pub organisation: String,
    /// Its name at the end of the window.
    pub name: String,
    /// The window; its label is the invoice's id.
    pub window: Window,
    /// Whether it can still change.
    pub state: State,
    /// Charges by price and meter, then the discount, credit notes, the rounding.
    pub lines: Vec<Line>,
    /// What is to be paid.
    pub total: Nano,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is for.
    pub item: Item,
    /// What it adds to the total; negative where it takes off.
    pub amount: Nano,
}

/// A version of a model's price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// The price list.
    pub list: String,
    /// The model.
    pub model: String,
    /// The version of its price in the list.
    pub version: u32,
}

/// What a line is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Tokens at one rate. Each request's part of the amount is rounded to nano-units, so it can differ from tokens
    /// times rate by half a nano-unit for each request.
    Usage {
        /// What they are tokens of.
        product: Product,
        /// What was counted.
        meter: Meter,
        /// Index of the price's tier.
        tier: u8,
        /// How many.
        tokens: u64,
        /// Their price.
        rate: Rate,
    },
    /// Tokens that the plan's pool paid.
    Included {
        /// What they are tokens of.
        product: Product,
        /// What was counted.
        meter: Meter,
        /// How many.
        tokens: u64,
    },
    /// What the plan takes off.
    Discount,
    /// A credit note.
    Credit {
        /// When it was given.
        at_ms: i64,
        /// The request it is for.
        request: EntryId,
        /// Why.
        reason: String,
    },
    /// To whole minor units of the currency.
    Rounding,
}

/// A charge names a version of a price that the price book does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price of `{}` in list `{}` has no version {}", .0.model, .0.list, .0.version)]
pub struct UnknownVersion(pub Product);

/// The number of the invoice of an organisation and a window.
pub(crate) fn number(organisation: &str, window: &str) -> String {
    format!("{organisation}-{window}")
}

impl Invoice {
    /// Unique within the plant: no two organisations share an id, and labels of windows are all of the same length.
    #[must_use]
    pub fn number(&self) -> String {
        number(&self.organisation, &self.window.label)
    }

    /// The charges at list price.
    #[must_use]
    pub fn subtotal(&self) -> Nano {
        let charges = self.lines.iter().filter(|line| matches!(line.item, Item::Usage { .. }));
        charges.fold(Nano::ZERO, |sum, line| sum.saturating_add(line.amount))
    }
}

/// The lines of what windows cost, rounding included, and their sum.
pub(crate) fn lines(
    statements: &[Statement],
    credits: Vec<Credit>,
    prices: &PriceBook,
    currency: &Currency,
) -> Result<(Vec<Line>, Nano), UnknownVersion> {
    let mut lines = Vec::new();
    for model in statements.iter().flat_map(|statement| &statement.models) {
        usage(model, prices, &mut lines)?;
    }
    let discount = statements.iter().fold(Nano::ZERO, |sum, statement| sum.saturating_add(statement.sums.discount));
    if discount != Nano::ZERO {
        lines.push(Line { item: Item::Discount, amount: Nano(discount.0.saturating_neg()) });
    }
    lines.extend(credits.into_iter().map(|Credit { at_ms, request, reason, amount }| Line {
        item: Item::Credit { at_ms, request, reason },
        amount: Nano(amount.0.saturating_neg()),
    }));
    let exact = Nano::saturating(lines.iter().map(|line| i128::from(line.amount.0)).sum());
    let total = exact.rounded(currency);
    if total != exact {
        lines.push(Line { item: Item::Rounding, amount: total.saturating_sub(exact) });
    }
    Ok((lines, total))
}

/// The charged tokens of one price, and the rest of its tokens, which the pool paid.
fn usage(model: &InvoiceModel, prices: &PriceBook, lines: &mut Vec<Line>) -> Result<(), UnknownVersion> {
    let product = Product { list: model.list.clone(), model: model.model.clone(), version: model.price_version };
    let price = prices.version(&product.list, &product.model, product.version);
    let mut charged = Quantities::default();
    for line in &model.lines {
        let (meter, tier, tokens) = (line.meter, line.tier, u64::try_from(line.tokens).unwrap_or(0));
        let rate = price.as_ref().and_then(|price| price.tier(tier)).map(|tier| tier.rate(meter));
        let rate = rate.ok_or_else(|| UnknownVersion(product.clone()))?;
        *charged.get_mut(meter) = charged.get(meter).saturating_add(tokens);
        lines.push(Line {
            item: Item::Usage { product: product.clone(), meter, tier, tokens, rate },
            amount: line.nano,
        });
    }
    let included = model.sums.quantities.minus(&charged);
    lines.extend(Meter::ALL.into_iter().filter(|meter| included.get(*meter) > 0).map(|meter| Line {
        item: Item::Included { product: product.clone(), meter, tokens: included.get(meter) },
        amount: Nano::ZERO,
    }));
    Ok(())
}

#[cfg(test)]
mod tests;
