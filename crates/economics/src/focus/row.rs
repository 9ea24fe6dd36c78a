//! One row: the columns, each with where its value comes from.

use std::io::{self, Write};

use ledger::{Entry, EntryId, csv_text};
use serde_json::json;

use crate::books::detail::{Context, CreditNote, End, SettledLine};
use crate::money::decimal;
use crate::price::Tier;
use crate::window::to_rfc3339;
use crate::{Directory, Meter, Nano, Rate, Window, invoice};

/// Prices are written per so many tokens.
const PRICING_UNIT: &str = "1000000 Tokens";
const SECOND_MS: i64 = 1_000;

/// Which of a model's prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Price {
    /// A tier, and where it begins.
    Tier { index: u8, prompt_from: u64, volume_from: u64 },
    /// Nothing: the pool paid.
    Included,
    /// Nothing: the plan stops at the pool's end and more was delivered.
    Unbilled,
}

/// Tokens of one meter at one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    meter: Meter,
    pub(super) tokens: u64,
    rate: Rate,
    /// The discount.
    permille: i128,
    billed: Nano,
    price: Price,
}

impl Use {
    pub(super) fn charged(line: &SettledLine, tier: &Tier, permille: i128, billed: Nano) -> Self {
        let SettledLine { meter, tokens, tier: index, .. } = *line;
        let price = Price::Tier { index, prompt_from: tier.prompt_from, volume_from: tier.volume_from };
        Self { meter, tokens, rate: tier.rate(meter), permille, billed, price }
    }

    pub(super) fn free(meter: Meter, tokens: u64, price: Price) -> Self {
        Self { meter, tokens, rate: Rate::ZERO, permille: 0, billed: Nano::ZERO, price }
    }

    fn list_cost(&self) -> String {
        decimal(self.rate.times(self.tokens), 12, 2)
    }

    fn contracted_unit_price(&self) -> String {
        decimal(i128::from(self.rate.pico()) * (1_000 - self.permille), 9, 0)
    }

    fn contracted_cost(&self) -> String {
        decimal(self.rate.times(self.tokens) * (1_000 - self.permille), 15, 2)
    }

    fn words(&self) -> String {
        let what = match self.price {
            Price::Included => "included in the plan's pool".to_owned(),
            Price::Unbilled => "beyond the plan's pool, not billed".to_owned(),
            Price::Tier { .. } if self.permille > 0 => {
                format!("{} less {}%", self.rate, decimal(self.permille, 1, 0))
            }
            Price::Tier { .. } => self.rate.to_string(),
        };
        format!("{}, {what}", words(self.meter))
    }
}

/// A meter in words.
fn words(meter: Meter) -> &'static str {
    match meter {
        Meter::InUncached => "Prompt tokens",
        Meter::InCached => "Cached prompt tokens",
        Meter::OutVisible => "Answer tokens",
        Meter::OutReasoning => "Reasoning tokens",
    }
}

/// What a row is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Basis<'a> {
    Use(&'a Use, End),
    Credit(&'a CreditNote),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) seller: &'a str,
    pub(super) currency: &'a str,
    pub(super) directory: &'a Directory,
    pub(super) entry: &'a Entry,
    pub(super) context: &'a Context,
    /// The billing period.
    pub(super) window: &'a Window,
    pub(super) basis: Basis<'a>,
}

/// The value of a column.
enum Cell {
    Null,
    /// A number, a time or a word of the specification.
    Plain(String),
    /// What people wrote.
    Text(String),
}

impl Cell {
    fn word(word: &str) -> Self {
        Self::Plain(word.to_owned())
    }

    /// Null when empty.
    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Null } else { Self::Text(text) }
    }

    fn second(at_ms: i64) -> Self {
        Self::Plain(to_rfc3339(at_ms))
    }
}

/// Its name, and its value in a row.
type Column = (&'static str, fn(&Row<'_>) -> Cell);

/// The columns of the specification by name, then our own. What it makes conditional and what has no meaning here
/// (regions, commitment discounts, other currencies) is left out.
const COLUMNS: &[Column] = &[
    ("BilledCost", |row| Cell::Plain(row.billed().to_string())),
    ("BillingAccountId", |row| Cell::text(&row.context.organisation)),
    ("BillingAccountName", |row| {
        let known = row.directory.organisation(&row.context.organisation);
        Cell::text(known.map_or(&row.context.organisation, |known| &known.name))
    }),
    ("BillingCurrency", |row| Cell::word(row.currency)),
    ("BillingPeriodEnd", |row| Cell::second(row.window.end_ms)),
    ("BillingPeriodStart", |row| Cell::second(row.window.start_ms)),
    ("ChargeCategory", |row| Cell::word(if row.used().is_some() { "Usage" } else { "Credit" })),
    ("ChargeClass", |row| {
        let corrects = matches!(row.basis, Basis::Credit(note) if note.window_ms != note.context.window_ms);
        if corrects { Cell::word("Correction") } else { Cell::Null }
    }),
    ("ChargeDescription", |row| Cell::text(row.description())),
    ("ChargeFrequency", |row| Cell::word(if row.used().is_some() { "Usage-Based" } else { "One-Time" })),
    ("ChargePeriodEnd", |row| Cell::second(row.second().saturating_add(SECOND_MS))),
    ("ChargePeriodStart", |row| Cell::second(row.second())),
    ("ConsumedQuantity", |row| row.of_use(|used| Cell::Plain(used.tokens.to_string()))),
    ("ConsumedUnit", |row| row.of_use(|_| Cell::word("Tokens"))),
    ("ContractedCost", |row| Cell::Plain(row.cost(Use::contracted_cost))),
    ("ContractedUnitPrice", |row| row.of_use(|used| Cell::Plain(used.contracted_unit_price()))),
    ("EffectiveCost", |row| Cell::Plain(row.billed().to_string())),
    ("InvoiceId", |row| Cell::text(invoice::number(&row.context.organisation, &row.window.label))),
    ("InvoiceIssuerName", |row| Cell::text(row.seller)),
    ("ListCost", |row| Cell::Plain(row.cost(Use::list_cost))),
    ("ListUnitPrice", |row| row.of_use(|used| Cell::Plain(decimal(used.rate.pico().into(), 6, 0)))),
    ("PricingCategory", |row| row.of_use(|_| Cell::word("Standard"))),
    ("PricingQuantity", |row| row.of_use(|used| Cell::Plain(decimal(used.tokens.into(), 6, 0)))),
    ("PricingUnit", |row| row.of_use(|_| Cell::word(PRICING_UNIT))),
    ("ProviderName", |row| Cell::text(row.seller)),
    ("PublisherName", |row| Cell::text(row.seller)),
    ("ResourceId", |row| Cell::text(&row.context.key)),
    ("ResourceName", |row| {
        let name = row.directory.key(&row.context.key).map(|key| key.name.as_str());
        Cell::text(name.or_else(|| row.context.key.strip_prefix("config/")).unwrap_or_default())
    }),
    ("ResourceType", |row| if row.context.key.is_empty() { Cell::Null } else { Cell::word("API Key") }),
    ("ServiceCategory", |_| Cell::word("AI and Machine Learning")),
    ("ServiceName", |_| Cell::word("Language Model Inference")),
    ("ServiceSubcategory", |_| Cell::word("Generative AI")),
    ("SkuId", |row| row.of_use(|used| Cell::text(format!("{}/{}", row.context.model, used.meter.as_str())))),
    ("SkuMeter", |row| row.of_use(|used| Cell::word(words(used.meter)))),
    ("SkuPriceDetails", |row| row.of_use(|used| row.price_details(used))),
    ("SkuPriceId", |row| row.of_use(|used| Cell::text(row.price_id(used)))),
    ("SubAccountId", |row| Cell::text(&row.context.project)),
    ("SubAccountName", |row| {
        let known = row.directory.project(&row.context.project);
        Cell::text(known.map_or(&row.context.project, |known| &known.name))
    }),
    ("Tags", |row| {
        let tag = &row.context.tag;
        if tag.is_empty() { Cell::Null } else { Cell::text(json!({ "tag": tag }).to_string()) }
    }),
    ("x_EndUser", |row| Cell::text(&row.context.user)),
    ("x_LedgerEntry", |row| Cell::Plain(row.entry.seq.to_string())),
    ("x_RequestEnd", |row| match row.basis {
        Basis::Use(_, end) => Cell::word(end.as_str()),
        Basis::Credit(_) => Cell::Null,
    }),
    ("x_RequestId", |row| Cell::Plain(row.request())),
];

/// Writes the line of names.
pub(super) fn header(out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    writeln!(out, "{}", names.join(","))
}

impl Row<'_> {
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (index, (_, cell)) in COLUMNS.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match cell(self) {
                Cell::Null => write!(out, "{comma}")?,
                Cell::Plain(plain) => write!(out, "{comma}{plain}")?,
                Cell::Text(text) => write!(out, "{comma}{}", csv_text(&text))?,
            }
        }
        writeln!(out)
    }

    fn used(&self) -> Option<&Use> {
        match self.basis {
            Basis::Use(used, _) => Some(used),
            Basis::Credit(_) => None,
        }
    }

    fn of_use(&self, cell: impl FnOnce(&Use) -> Cell) -> Cell {
        self.used().map_or(Cell::Null, cell)
    }

    fn billed(&self) -> Nano {
        match self.basis {
            Basis::Use(used, _) => used.billed,
            Basis::Credit(note) => Nano::ZERO.saturating_sub(note.amount),
        }
    }

    /// A credit is of no price: all its costs are the same.
    fn cost(&self, of_use: fn(&Use) -> String) -> String {
        self.used().map_or_else(|| self.billed().to_string(), of_use)
    }

    /// The second in which it was posted.
    fn second(&self) -> i64 {
        self.entry.at_ms.saturating_sub(self.entry.at_ms.rem_euclid(SECOND_MS))
    }

    fn request(&self) -> String {
        match self.basis {
            Basis::Use(..) => self.entry.id.map(|id| id.to_string()).unwrap_or_default(),
            Basis::Credit(note) => EntryId(note.request).to_string(),
        }
    }

    fn description(&self) -> String {
        match self.basis {
            Basis::Use(used, _) => format!("{}: {}", self.context.model, used.words()),
            Basis::Credit(note) => format!("Credit for request {}: {}", self.request(), note.reason),
        }
    }

    fn price_id(&self, used: &Use) -> String {
        let Context { list, model, price_version, .. } = self.context;
        let price = match used.price {
            Price::Tier { index, .. } => format!("tier{index}"),
            Price::Included => "included".to_owned(),
            Price::Unbilled => "unbilled".to_owned(),
        };
        format!("{list}/{model}/v{price_version}/{}/{price}", used.meter.as_str())
    }

    fn price_details(&self, used: &Use) -> Cell {
        let Price::Tier { prompt_from, volume_from, .. } = used.price else { return Cell::Null };
        let details = json!({
            "x_PriceList": self.context.list, "x_PriceVersion": self.context.price_version,
            "x_PromptFrom": prompt_from, "x_VolumeFrom": volume_from,
        });
        Cell::text(details.to_string())
    }
}
