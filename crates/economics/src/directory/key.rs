//! Secrets of keys: shown once, kept as a keyed hash.

use std::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What every key begins with.
const MARK: &str = "tw_";
/// Characters of the secret that stay readable, to tell keys apart.
const SHOWN: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key from 32 random bytes: `tw_` and 43 letters and digits.
#[must_use]
pub fn secret_text(random: &[u8; 32]) -> String {
    let mut number = *random;
    let mut digits = [b'0'; 43]; // 62^43 > 2^256
    for digit in digits.iter_mut().rev() {
        let rest = number.iter_mut().fold(0_u16, |rest, byte| {
            let value = rest << 8 | u16::from(*byte);
            *byte = (value / 62).to_le_bytes()[0];
            value % 62
        });
        *digit = DIGITS.get(usize::from(rest)).copied().unwrap_or(b'0');
    }
    format!("{MARK}{}", String::from_utf8_lossy(&digits))
}

/// The part of a key that may be shown later.
#[must_use]
pub fn shown_prefix(text: &str) -> String {
    text.chars().take(MARK.len() + SHOWN).collect()
}

/// HMAC-SHA-256 of a key under the plant's secret. A fast hash is right because keys are long and random.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key's text.
    #[must_use]
    pub fn of(plant_secret: &[u8], text: &str) -> Self {
        // HMAC takes secrets of every length, so the fallback is never used; it keeps this function total.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(plant_secret) else { return Self([0; 32]) };
        mac.update(text.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// Where to look it up. Callers cannot choose it without the plant's secret, so its timing tells nothing.
    pub(super) fn bucket(&self) -> u64 {
        u64::from_le_bytes(self.0.first_chunk().copied().unwrap_or_default())
    }
}

impl PartialEq for KeyHash {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl std::str::FromStr for KeyHash {
    type Err = crate::Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || crate::Invalid::new("hash", "not 64 hexadecimal digits", "make a key with `tokenworks keys new`");
        let mut bytes = [0; 32];
        let digits = text.as_bytes().chunks_exact(2);
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            let pair = std::str::from_utf8(pair).map_err(|_not_text| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_no_digit| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = String::deserialize(deserializer)?.parse();
        read.map_err(|error: crate::Invalid| de::Error::custom(format!("{}; {}", error.problem, error.fix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_distinct_and_kept_only_as_hashes() {
        let (low, high) = (secret_text(&[0; 32]), secret_text(&[255; 32]));
        assert_eq!(low, format!("tw_{}", "0".repeat(43)));
        // 2^256 - 1 in base 62, computed apart.
        assert_eq!(high, "tw_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
        assert_eq!(high.len(), 46);
        assert_ne!(low, high);
        assert_eq!(shown_prefix(&low), "tw_000000");
        let hash = KeyHash::of(b"secret", &low);
        assert_eq!(hash, hash.to_string().parse().unwrap());
        assert_ne!(hash, KeyHash::of(b"other", &low));
        assert_ne!(hash, KeyHash::of(b"secret", &high));
        assert!("zz".repeat(32).parse::<KeyHash>().is_err() && "00".parse::<KeyHash>().is_err());
        assert_eq!(format!("{hash:?}"), "KeyHash(..)");
        // RFC 4231, test case 2.
        let known = KeyHash::of(b"Jefe", "what do ya want for nothing?");
        assert_eq!(known.to_string(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
