//! Numbers as bytes, by LEB128: seven bits a byte from the lowest on, the eighth says that more come.

/// Puts a number behind what is there.
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes the number that `bytes` begin with; `None`: they end in it, or it has more than 64 bits.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_broken_ones_are_none() {
        let numbers = [0, 1, 127, 128, 300, 1 << 63, u64::MAX];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        assert_eq!(bytes.len(), 1 + 1 + 1 + 2 + 2 + 10 + 10);
        let mut rest = bytes.as_slice();
        assert_eq!(numbers.map(|_| take(&mut rest)), numbers.map(Some));
        let too_large = [&[0xff; 9][..], &[0x02]].concat();
        let too_long = [0x80; 11];
        for mut broken in [rest, &[0x80], &too_large, &too_long] {
            assert_eq!(take(&mut broken), None);
        }
    }
}
