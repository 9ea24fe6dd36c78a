//! The ledger's ids of requests.

use sha2::{Digest, Sha256};

/// The ledger's id of a request: its own when the text ends with one (32 hexadecimal digits, then `-n` for the n-th prompt
/// of several), else a hash of the text.
#[must_use]
pub fn entry_id(text: &str) -> [u8; 16] {
    let (head, number) = match text.rsplit_once('-') {
        Some((head, number)) if number.len() < 10 => (head, number.parse::<u128>().ok()),
        _ => (text, None),
    };
    let own = |text: &str| {
        let digits = text.get(text.len().checked_sub(32)?..)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u128::from_str_radix(digits, 16).ok())?
    };
    let id = match number {
        Some(number) => own(head).map(|id| id.wrapping_add(number)),
        None => own(text),
    };
    id.map_or_else(|| hashed(text), u128::to_be_bytes)
}

fn hashed(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_ids_of_their_own() {
        let base = "chatcmpl-0193570b1d2c4f00aabbccddeeff0011";
        let id = entry_id(base);
        assert_eq!(id[..4], [0x01, 0x93, 0x57, 0x0b]);
        assert_eq!(entry_id(&format!("{base}-0")), id);
        let third = entry_id(&format!("{base}-2"));
        assert_eq!((id[15], third[15], id[..15] == third[..15]), (0x11, 0x13, true));
        for other in ["run", "", "chatcmpl-0193", "cmpl-é-1", &"g".repeat(40)] {
            assert_ne!(entry_id(other), id);
            assert_eq!(entry_id(other), hashed(other), "{other}");
        }
    }
}
