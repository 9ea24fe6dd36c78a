//! Integer money: rates in pico-units per token, amounts in nano-units, decimal text without floats.
//!
//! A *unit* is one unit of the plant's book currency (a dollar, a yuan). One micro-unit per million tokens is one
//! pico-unit per token, so every price with up to six decimals per million tokens is exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::Invalid;

mod iso_4217;

/// Pico-units in a nano-unit.
const PICO_PER_NANO: i128 = 1_000;
/// Decimals of a nano amount.
const NANO_DIGITS: u32 = 9;
/// Digits before the point of any number.
const WHOLE_DIGITS: usize = 20;
/// Decimals of a rate written per million tokens.
const RATE_DIGITS: u32 = 6;

/// `n / d` (`d > 0`), rounded to the nearest integer; a tie goes to the even one.
#[must_use]
pub fn divide_half_even(n: i128, d: i128) -> i128 {
    let (quotient, rest) = (n.div_euclid(d), n.rem_euclid(d));
    let up = match (rest.saturating_mul(2)).cmp(&d) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => quotient.rem_euclid(2),
        std::cmp::Ordering::Greater => 1,
    };
    quotient + up
}

/// An amount in nano-units of the book currency, written as decimal text in units of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(as = Amount, value_type = String)]
pub struct Nano(pub i64);

impl Nano {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount; stands for "more than can be held" in ceilings.
    pub const MAX: Self = Self(i64::MAX);

    /// The sum, or the nearest end of the range.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest end of the range.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// From a wide product, cut off at the ends of the range.
    pub(crate) fn saturating(n: i128) -> Self {
        Self(i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX }))
    }

    /// Pico-units, rounded half-even: how one ledger line is made from tokens times rate.
    #[must_use]
    pub fn from_pico(pico: i128) -> Self {
        Self::saturating(divide_half_even(pico, PICO_PER_NANO))
    }

    /// The amount in whole minor units of `currency`, rounded half-even.
    #[must_use]
    pub fn rounded(self, currency: &Currency) -> Self {
        let step = currency.minor_unit();
        Self::saturating(divide_half_even(i128::from(self.0), step) * step)
    }

    /// The amount in whole minor units of `currency`, rounded half-even, as decimal text (`12.35`).
    #[must_use]
    pub fn to_minor(self, currency: &Currency) -> String {
        let digits = u32::from(currency.minor_digits);
        decimal(divide_half_even(i128::from(self.0), currency.minor_unit()), digits, digits)
    }
}

impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(i128::from(self.0), NANO_DIGITS, 2))
    }
}

impl FromStr for Nano {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wide = parse_decimal(text, NANO_DIGITS)?;
        // Each amount has its opposite, which the least number of 64 bits has not.
        let kept = i64::try_from(wide).ok().filter(|nano| *nano != i64::MIN);
        kept.map(Self).ok_or_else(|| {
            Invalid::new("", format!("`{text}` is too large"), "amounts end at 9,223,372,036 units of the currency")
        })
    }
}

/// A price of one token in pico-units, written as text such as `10 per 1M`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String)]
pub struct Rate(i64);

impl Rate {
    /// Explicitly free.
    pub const ZERO: Self = Self(0);
    /// 100 units of the currency a token: everything above is taken for a slip of the decimal point.
    pub const MAX: Self = Self(100_000_000_000_000);

    /// A rate of `pico` pico-units per token.
    ///
    /// # Errors
    /// When it is negative or above [`Rate::MAX`].
    pub fn from_pico(pico: i64) -> Result<Self, Invalid> {
        if pico < 0 {
            return Err(Invalid::new("", "the price is negative", "write 0 or more; refunds are entries, not prices"));
        }
        if pico > Self::MAX.0 {
            return Err(Invalid::new(
                "",
                format!("the price is above {}", Self::MAX),
                "check the decimal point and `per`",
            ));
        }
        Ok(Self(pico))
    }

    /// Pico-units per token.
    #[must_use]
    pub fn pico(self) -> i64 {
        self.0
    }

    /// Exact price of `tokens` tokens, in pico-units.
    #[must_use]
    pub fn times(self, tokens: u64) -> i128 {
        i128::from(self.0) * i128::from(tokens)
    }

    /// Whether some number of tokens costs a fraction of a nano-unit.
    pub(crate) fn rounds(self) -> bool {
        i128::from(self.0) % PICO_PER_NANO != 0
    }
}

/// Ends of what [`Nano::from_pico`] can make of `lines` lines whose exact sum is `pico`.
pub(crate) fn ceiling_of_lines(pico: i128, lines: u64) -> Nano {
    Nano::saturating((pico + i128::from(lines) * (PICO_PER_NANO / 2)).div_euclid(PICO_PER_NANO))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per 1M", decimal(i128::from(self.0), RATE_DIGITS, 0))
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    /// Reads `0.01 per 1K`, `10 per 1M`, `0.00001 per token`; `0` alone is free.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FIX: &str = "write e.g. \"10 per 1M\" or \"0.01 per 1K\" (at most 6 decimals per 1M tokens)";
        let unclear = |problem: &str| Invalid::new("", format!("`{text}`: {problem}"), FIX);
        if text.trim() == "0" {
            return Ok(Self::ZERO);
        }
        let (amount, per) = text.split_once(" per ").ok_or_else(|| unclear("no `per` with a number of tokens"))?;
        // Digits after the point that still make whole micro-units per million tokens.
        let digits = match per.trim() {
            "1M" => RATE_DIGITS,
            "1K" => RATE_DIGITS + 3,
            "token" | "1" => RATE_DIGITS + 6,
            _ => return Err(unclear("`per` takes 1M, 1K or token")),
        };
        let wide = parse_decimal(amount, digits)?;
        let pico = i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX });
        Self::from_pico(pico).map_err(|error| Invalid { problem: format!("`{text}`: {}", error.problem), ..error })
    }
}

/// Serde for types that are text outside: by `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse()
                    .map_err(|e: Invalid| de::Error::custom(format!(concat!($expecting, " {}; {}"), e.problem, e.fix)))
            }
        }
    };
}
pub(crate) use serde_as_text;
serde_as_text!(Nano, "amount");
serde_as_text!(Rate, "price");

/// The book currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Currency {
    /// Its code in ISO 4217, e.g. `USD`.
    pub code: String,
    /// Decimals of its minor unit (cents: 2).
    pub minor_digits: u8,
}

impl Currency {
    /// The currency of that code in ISO 4217, with its minor unit.
    ///
    /// # Errors
    /// When there is no such code.
    pub fn of(code: &str) -> Result<Self, Invalid> {
        let minor_digits = iso_4217::minor_digits(code).ok_or_else(|| {
            let problem = format!("`{code}` is no currency code of ISO 4217");
            Invalid::new("currency", problem, "write three capital letters, e.g. USD, EUR or CNY")
        })?;
        Ok(Self { code: code.to_owned(), minor_digits })
    }

    /// Nano-units in a minor unit.
    pub(crate) fn minor_unit(&self) -> i128 {
        10_i128.pow(NANO_DIGITS - u32::from(self.minor_digits).min(NANO_DIGITS))
    }
}

/// `value / 10^digits` as text with at least `least` decimals and no zeros behind them.
pub(crate) fn decimal(value: i128, digits: u32, least: u32) -> String {
    let one = 10_u128.pow(digits);
    let (whole, fraction) = (value.unsigned_abs() / one, value.unsigned_abs() % one);
    let mut text = format!("{}{whole}", if value < 0 { "-" } else { "" });
    if digits > 0 {
        let padded = format!("{fraction:0width$}", width = digits as usize);
        let kept = padded.trim_end_matches('0').len().max(least as usize);
        if let Some(kept) = padded.get(..kept).filter(|kept| !kept.is_empty()) {
            text.push('.');
            text.push_str(kept);
        }
    }
    text
}

/// Decimal text times `10^digits`; more decimals than that (other than zeros) are refused, not rounded.
pub(crate) fn parse_decimal(text: &str, digits: u32) -> Result<i128, Invalid> {
    let text = text.trim();
    let wrong =
        |problem: &str| Invalid::new("", format!("`{text}` {problem}"), "write a plain decimal number like 12.50");
    let (negative, plain) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong("is not a decimal number"));
    }
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > WHOLE_DIGITS || fraction.len() > digits as usize {
        let problem = format!("`{text}` has more digits than are kept exactly");
        let fix = format!("write at most {WHOLE_DIGITS} digits before the point and {digits} behind it");
        return Err(Invalid::new("", problem, fix));
    }
    let padded = format!("{whole}{fraction:0<width$}", width = digits as usize);
    let value: i128 = padded.parse().map_err(|_unreadable| wrong("is too long"))?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_exactly() {
        for (text, pico, shown) in [
            ("0.01 per 1K", 10_000_000, "10 per 1M"),
            ("0.0005 per 1K", 500_000, "0.5 per 1M"),
            ("0.075 per 1K", 75_000_000, "75 per 1M"),
            ("10 per 1M", 10_000_000, "10 per 1M"),
            ("0.000001 per 1M", 1, "0.000001 per 1M"),
            ("0.00001 per token", 10_000_000, "10 per 1M"),
            ("0", 0, "0 per 1M"),
            ("0.00 per 1K", 0, "0 per 1M"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.pico(), rate.to_string().as_str()), (pico, shown), "{text}");
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }
    }

    #[test]
    fn bad_rates_name_the_problem_and_the_fix() {
        for (text, part) in [
            ("-0.01 per 1K", "negative"),
            ("101 per token", "check the decimal point"),
            ("99999999999999999999 per 1K", "above"),
            ("0.0000001 per 1M", "more digits"),
            ("0.01", "no `per`"),
            ("0.01 per 1G", "takes 1M"),
            ("1e3 per 1M", "not a decimal"),
            (". per 1M", "not a decimal"),
            ("٣ per 1M", "not a decimal"),
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_round_trip_and_round_half_even() {
        for (text, nano) in
            [("12.5", 12_500_000_000), ("-0.000000001", -1), ("0.00", 0), ("9223372036.854775807", i64::MAX)]
        {
            let amount: Nano = text.parse().unwrap();
            assert_eq!(amount, Nano(nano));
            assert_eq!(amount.to_string().parse::<Nano>().unwrap(), amount);
        }
        for (text, part) in [
            ("9223372036.854775808", "too large"),
            ("-9223372036.854775808", "too large"),
            ("0.0000000001", "9 behind it"),
            ("100000000000000000000", "at most 20 digits"),
        ] {
            let error = text.parse::<Nano>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for (n, d, expected) in
            [(5, 10, 0), (15, 10, 2), (25, 10, 2), (26, 10, 3), (-5, 10, 0), (-15, 10, -2), (-16, 10, -2)]
        {
            assert_eq!(divide_half_even(n, d), expected, "{n}/{d}");
        }
        let usd = Currency::of("USD").unwrap();
        let yen = Currency::of("JPY").unwrap();
        assert_eq!(Nano(12_345_000_000).to_minor(&usd), "12.34");
        assert_eq!(Nano(12_355_000_000).to_minor(&usd), "12.36");
        assert_eq!(Nano(-5_000_000).to_minor(&usd), "0.00");
        assert_eq!(Nano(1_500_000_000).to_minor(&yen), "2");
        assert_eq!(
            (Nano(12_345_000_000).rounded(&usd), Nano(-7_600_000).rounded(&usd)),
            (Nano(12_340_000_000), Nano(-10_000_000))
        );
    }

    #[test]
    fn currencies_are_those_of_iso_4217() {
        for (code, digits) in [("USD", 2), ("EUR", 2), ("CNY", 2), ("JPY", 0), ("RWF", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(Currency::of(code).unwrap().minor_digits, digits, "{code}");
        }
        for wrong in ["", "US", "usd", "USDT", "ABC", "XTS", "DEM", "€"] {
            let error = Currency::of(wrong).unwrap_err().to_string();
            assert!(error.contains("currency: ") && error.contains("e.g. USD"), "{error}");
        }
    }
}
