//! The price book: versioned rates per price list, model and meter, with tiers by prompt length and by volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::directory::record::check_text;
use crate::money::ceiling_of_lines;
use crate::{Currency, Invalid, Meter, Nano, Rate, window};

/// Price list of plans that name none.
pub const STANDARD_LIST: &str = "standard";
/// Bytes of a price list's name.
const MAX_LIST: usize = 64;
/// Bytes of a model's name.
const MAX_MODEL: usize = 120;
/// Most tiers of one price.
const MAX_TIERS: usize = 64;

fn standard_list() -> String {
    STANDARD_LIST.to_owned()
}

/// Rates of one tier. What is not written follows from what is: cached input from input, reasoning from output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PriceTier)]
pub struct Tier {
    /// For prompts of at least this many tokens.
    #[serde(default)]
    #[schema(required = true)]
    pub prompt_from: u64,
    /// For tokens after this many of the model in the customer's window.
    #[serde(default)]
    #[schema(required = true)]
    pub volume_from: u64,
    /// Prompt tokens computed.
    pub input: Rate,
    /// Prompt tokens from the prefix cache; like `input` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cached_input: Option<Rate>,
    /// Answer tokens.
    pub output: Rate,
    /// Reasoning tokens; like `output` when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reasoning: Option<Rate>,
}

impl Tier {
    /// The same rates for every prompt and volume.
    #[must_use]
    pub fn flat(input: Rate, output: Rate) -> Self {
        Self { prompt_from: 0, volume_from: 0, input, cached_input: None, output, reasoning: None }
    }

    /// The rate of one meter.
    #[must_use]
    pub fn rate(&self, meter: Meter) -> Rate {
        match meter {
            Meter::InUncached => self.input,
            Meter::InCached => self.cached_input.unwrap_or(self.input),
            Meter::OutVisible => self.output,
            Meter::OutReasoning => self.reasoning.unwrap_or(self.output),
        }
    }
}

/// One version of a model's price, as people write it and as the directory keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Price)]
pub struct PriceSpec {
    /// The price list it belongs to; plans name one.
    #[serde(default = "standard_list")]
    #[schema(required = true)]
    pub list: String,
    /// The model's name.
    pub model: String,
    /// In force from here.
    #[serde(with = "window::rfc3339")]
    #[schema(value_type = String)]
    pub from: i64,
    /// In force until here (exclusive); without it until the next version begins.
    #[serde(default, with = "window::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub to: Option<i64>,
    /// At least one; the first for prompts and volumes from 0.
    pub tiers: Vec<Tier>,
}

impl PriceSpec {
    /// One price for everything, from the beginning of time.
    #[must_use]
    pub fn flat(list: &str, model: &str, input: Rate, output: Rate) -> Self {
        Self {
            list: list.to_owned(),
            model: model.to_owned(),
            from: 0,
            to: None,
            tiers: vec![Tier::flat(input, output)],
        }
    }

    /// `list/model`: what its versions share.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.list, self.model)
    }

    /// Tiers in order, as the book keeps them.
    fn sort(&mut self) {
        self.tiers.sort_by_key(|tier| (tier.prompt_from, tier.volume_from));
    }

    fn check(&self) -> Result<(), Invalid> {
        check_text("list", &self.list, MAX_LIST)?;
        if self.list.contains('/') {
            return Err(Invalid::new("list", format!("`{}` is no name of a list", self.list), "use letters and `-`"));
        }
        check_text("model", &self.model, MAX_MODEL)?;
        if let Some(to) = self.to.filter(|to| *to <= self.from) {
            let problem = format!("the version ends before it begins, at {}", window::to_rfc3339(to));
            return Err(Invalid::new("to", problem, "give a `to` after `from`, or none"));
        }
        if self.tiers.is_empty() || self.tiers.len() > MAX_TIERS {
            let problem = format!("{} tiers; there must be 1 to {MAX_TIERS}", self.tiers.len());
            return Err(Invalid::new("tiers", problem, "write one tier for a price without tiers"));
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            let same = |other: &&Tier| (other.prompt_from, other.volume_from) == (tier.prompt_from, tier.volume_from);
            if self.tiers.iter().filter(same).count() > 1 {
                let problem = "another tier begins at the same prompt length and volume";
                return Err(Invalid::new(format!("tiers[{index}]"), problem, "remove one of them"));
            }
            let starts = |other: &Tier| other.prompt_from == tier.prompt_from && other.volume_from == 0;
            if !self.tiers.iter().any(starts) {
                let problem =
                    format!("volumes below {} have no price for prompts from {}", tier.volume_from, tier.prompt_from);
                return Err(Invalid::new(
                    format!("tiers[{index}].volume_from"),
                    problem,
                    "add a tier with `volume_from` 0",
                ));
            }
        }
        if !self.tiers.iter().any(|tier| tier.prompt_from == 0) {
            return Err(Invalid::new(
                "tiers[0].prompt_from",
                "short prompts have no price",
                "begin with `prompt_from` 0",
            ));
        }
        Ok(())
    }
}

/// One checked version: tiers in order of prompt length, then volume.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    number: u32,
    spec: PriceSpec,
}

/// No price is known: the request is refused, never served for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no price of `{model}` is in force in price list `{list}`; add one, or one with 0 if it shall be free")]
pub struct UnknownPrice {
    /// The list looked in.
    pub list: String,
    /// The model asked for.
    pub model: String,
}

/// All versions of all prices.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    versions: BTreeMap<(String, String), Vec<Arc<Version>>>,
}

impl PriceBook {
    /// Whether `spec` could be added now.
    ///
    /// # Errors
    /// Names what is wrong with the prices, the tiers or the time it is in force.
    pub fn check(&self, spec: &PriceSpec) -> Result<(), Invalid> {
        spec.check()?;
        let Some(last) = self.versions.get(&(spec.list.clone(), spec.model.clone())).and_then(|all| all.last()) else {
            return Ok(());
        };
        // An open version ends where the next one begins; a stated end is kept.
        let free_from = last.spec.to.unwrap_or(last.spec.from.saturating_add(1));
        if spec.from < free_from {
            let [from, last_from] = [spec.from, last.spec.from].map(window::to_rfc3339);
            let problem = format!("{from} overlaps version {} (from {last_from})", last.number);
            let fix = format!("begin at {} or later", window::to_rfc3339(free_from));
            return Err(Invalid::new("from", problem, fix));
        }
        Ok(())
    }

    /// Adds the next version of a model's price and returns its number.
    ///
    /// # Errors
    /// As [`PriceBook::check`]; the book is unchanged then.
    pub fn add(&mut self, mut spec: PriceSpec) -> Result<u32, Invalid> {
        self.check(&spec).map_err(|error| error.within(&format!("price {}", spec.key())))?;
        spec.sort();
        let versions = self.versions.entry((spec.list.clone(), spec.model.clone())).or_default();
        let number = versions.last().map_or(1, |last| last.number.saturating_add(1));
        versions.push(Arc::new(Version { number, spec }));
        Ok(number)
    }

    /// The price of `model` in force at `at_ms`, as it will stay for the request.
    ///
    /// # Errors
    /// [`UnknownPrice`] when there is none.
    pub fn freeze(&self, list: &str, model: &str, at_ms: i64) -> Result<FrozenPrice, UnknownPrice> {
        let unknown = || UnknownPrice { list: list.to_owned(), model: model.to_owned() };
        let versions = self.versions.get(&(list.to_owned(), model.to_owned())).ok_or_else(unknown)?;
        let begun = versions.iter().rev().find(|version| version.spec.from <= at_ms).ok_or_else(unknown)?;
        if begun.spec.to.is_some_and(|to| to <= at_ms) {
            return Err(unknown());
        }
        Ok(FrozenPrice(Arc::clone(begun)))
    }

    /// The version a hold was made under.
    #[must_use]
    pub fn version(&self, list: &str, model: &str, number: u32) -> Option<FrozenPrice> {
        let versions = self.versions.get(&(list.to_owned(), model.to_owned()))?;
        versions.iter().find(|version| version.number == number).map(|version| FrozenPrice(Arc::clone(version)))
    }

    /// The versions of a model's price in a list, oldest first.
    pub fn versions(&self, list: &str, model: &str) -> impl Iterator<Item = &PriceSpec> {
        let versions = self.versions.get(&(list.to_owned(), model.to_owned()));
        versions.into_iter().flatten().map(|version| &version.spec)
    }

    /// Every version with its number, by list and model.
    pub fn all(&self) -> impl Iterator<Item = (u32, &PriceSpec)> {
        self.versions.values().flatten().map(|version| (version.number, &version.spec))
    }
}

/// A price as it was at admission. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenPrice(Arc<Version>);

/// A run of tokens of one meter at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced {
    /// What was counted.
    pub meter: Meter,
    /// Index of the tier in the price, in order of prompt length, then volume.
    pub tier: u8,
    /// How many.
    pub tokens: u64,
    /// At what rate.
    pub rate: Rate,
}

impl FrozenPrice {
    /// The list it stands in.
    #[must_use]
    pub fn list(&self) -> &str {
        &self.0.spec.list
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.0.spec.model
    }

    /// Which version of the model's price in the list; counts from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.number
    }

    /// A tier by its index, in order of prompt length, then volume.
    #[must_use]
    pub fn tier(&self, index: u8) -> Option<&Tier> {
        self.0.spec.tiers.get(usize::from(index))
    }

    /// Whether the rate depends on how much was used before.
    #[must_use]
    pub fn by_volume(&self) -> bool {
        self.0.spec.tiers.iter().any(|tier| tier.volume_from > 0)
    }

    /// Tiers for a prompt of `input` tokens: (index, tier, volume at which it ends).
    fn band(&self, input: u64) -> impl Iterator<Item = (u8, &Tier, Option<u64>)> {
        let tiers = &self.0.spec.tiers;
        let from = tiers.iter().map(|tier| tier.prompt_from).filter(|from| *from <= input).max().unwrap_or(0);
        let of_band = move |tier: &Tier| tier.prompt_from == from;
        tiers.iter().enumerate().filter(move |(_, tier)| of_band(tier)).map(move |(index, tier)| {
            let end = tiers.get(index + 1).filter(|next| of_band(next)).map(|next| next.volume_from);
            (u8::try_from(index).unwrap_or(u8::MAX), tier, end)
        })
    }

    /// The rate of a customer's first tokens of the window, for a prompt of `prompt` tokens.
    #[must_use]
    pub fn first_rate(&self, prompt: u64, meter: Meter) -> Rate {
        self.band(prompt).next().map_or(Rate::ZERO, |(_, tier, _)| tier.rate(meter))
    }

    /// Most that `input` prompt tokens and `output` answer tokens beyond a pool can cost for a prompt of `prompt`
    /// tokens, when the customer's volume is at least `volume`: at the dearest rates still reachable, cached or not,
    /// with every rounding against the payer.
    #[must_use]
    pub fn ceiling(&self, prompt: u64, (input, output): (u64, u64), volume: u64) -> Nano {
        let (mut dearest_in, mut dearest_out, mut lines_in, mut lines_out) = (Rate::ZERO, Rate::ZERO, 0_u64, 0_u64);
        for (_, tier, _) in self.band(prompt).filter(|(_, _, end)| end.is_none_or(|end| end > volume)) {
            for meter in [Meter::InUncached, Meter::InCached] {
                dearest_in = dearest_in.max(tier.rate(meter));
                lines_in += u64::from(tier.rate(meter).rounds());
            }
            for meter in [Meter::OutVisible, Meter::OutReasoning] {
                dearest_out = dearest_out.max(tier.rate(meter));
                lines_out += u64::from(tier.rate(meter).rounds());
            }
        }
        let lines = lines_in.min(input) + lines_out.min(output);
        ceiling_of_lines(dearest_in.times(input) + dearest_out.times(output), lines)
    }

    /// Cuts `tokens` of `meter` into runs of one rate each. `volume` is the customer's volume before them.
    #[must_use]
    pub fn runs(&self, prompt: u64, meter: Meter, tokens: u64, volume: u64) -> Vec<Priced> {
        let (mut at, mut left, mut runs) = (volume, tokens, Vec::new());
        for (index, tier, end) in self.band(prompt) {
            let here = end.map_or(left, |end| end.saturating_sub(at).min(left));
            if here > 0 {
                runs.push(Priced { meter, tier: index, tokens: here, rate: tier.rate(meter) });
                at = at.saturating_add(here);
                left -= here;
            }
        }
        runs
    }
}

/// A file of prices: what `prices import` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceFile {
    /// Must be the plant's book currency.
    pub currency: String,
    /// The prices, in the order in which they are added.
    pub prices: Vec<PriceSpec>,
}

impl PriceFile {
    /// Reads the JSON text of a price file and checks what is new in it against `book`. Tiers come out in order.
    ///
    /// # Errors
    /// Names the field that is wrong and the fix.
    pub fn read(text: &str, currency: &Currency, book: &PriceBook) -> Result<Self, Invalid> {
        let mut file: Self = serde_json::from_str(text)
            .map_err(|error| Invalid::new("price file", error.to_string(), "compare with examples/prices-2024.json"))?;
        if file.currency != currency.code {
            let problem = format!("the file is in {}, the books are in {}", file.currency, currency.code);
            return Err(Invalid::new("currency", problem, "convert the prices; a plant has one currency"));
        }
        let mut trial = book.clone();
        for (index, spec) in file.prices.iter_mut().enumerate() {
            spec.sort();
            if trial.versions(&spec.list, &spec.model).all(|known| known != spec) {
                trial.add(spec.clone()).map_err(|error| error.within(&format!("prices[{index}]")))?;
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
