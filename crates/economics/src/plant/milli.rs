//! Decimal numbers with three decimals, without floats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::Invalid;
use crate::money::{decimal, parse_decimal};

/// Decimals that are kept.
const DIGITS: u32 = 3;

/// A number in thousandths of its unit: milliwatts, PUE in permille, thousandths of a year. Read from a number or from
/// decimal text, written as text; a fourth decimal is refused, not rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String)]
pub struct Milli(pub i64);

impl Milli {
    /// Thousandths as a factor; nothing in place of a negative number, which no checked sheet has.
    pub(super) fn thousandths(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(i128::from(self.0), DIGITS, 0))
    }
}

impl FromStr for Milli {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wide = parse_decimal(text, DIGITS)?;
        let too_large =
            |_beyond| Invalid::new("", format!("`{text}` is too large"), "check the decimal point and the unit");
        i64::try_from(wide).map(Self).map_err(too_large)
    }
}

impl Serialize for Milli {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Milli {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

struct NumberOrText;

impl de::Visitor<'_> for NumberOrText {
    type Value = Milli;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number such as 12.5")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Milli, E> {
        text.parse().map_err(|e: Invalid| E::custom(format!("{}; {}", e.problem, e.fix)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Milli, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Milli, E> {
        self.visit_str(&number.to_string())
    }

    /// The shortest decimal that means this float is the one that was written.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Milli, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text_are_read_exactly() {
        for (json, thousandths, shown) in [
            ("1.2", 1_200, "1.2"),
            ("\"1.2\"", 1_200, "1.2"),
            ("4", 4_000, "4"),
            ("-0.001", -1, "-0.001"),
            ("0.3", 300, "0.3"),
            ("1234567.891", 1_234_567_891, "1234567.891"),
        ] {
            let read: Milli = serde_json::from_str(json).unwrap();
            assert_eq!((read, read.to_string().as_str()), (Milli(thousandths), shown), "{json}");
            let written = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Milli>(&written).unwrap(), read);
        }
        for (json, part) in [
            ("1.2345", "more digits"),
            ("\"NaN\"", "not a decimal number"),
            ("1e300", "more digits"),
            ("\"1e3\"", "not a decimal number"),
            ("18446744073709551615", "too large"),
            ("true", "expected a decimal number"),
        ] {
            let error = serde_json::from_str::<Milli>(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
