//! The canonical bytes of entries, holds and accounts: variable-length integers, no padding, one form per value.

use sha2::{Digest, Sha256};

use crate::error::StoreError;
use crate::types::{AccountId, AccountKind, AccountSpec, Document, Entry, EntryId, Hold, Leg, Reserve, Unit, kind};

/// A link of the chain.
pub(crate) type Hash = [u8; 32];

/// `SHA-256(previous hash, seq, id, packed entry)`.
pub(crate) fn link(previous: &Hash, seq: u64, id: Option<EntryId>, packed: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(seq.to_be_bytes());
    hash.update([u8::from(id.is_some())]);
    hash.update(id.map_or([0; 16], |id| id.0));
    hash.update(packed);
    hash.finalize().into()
}

/// A short sum that tells a damaged row from a good one. Not a secret, not a signature.
pub(crate) fn seal(packed: &[u8]) -> i64 {
    let hash: Hash = Sha256::digest(packed).into();
    i64::from_be_bytes(hash.first_chunk().copied().unwrap_or_default())
}

pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while let high @ 1.. = value >> 7 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value = high;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Zigzag: small numbers of either sign are short.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

fn put_floor(out: &mut Vec<u8>, floor: Option<i64>) {
    out.push(u8::from(floor.is_some()));
    if let Some(floor) = floor {
        put_i64(out, floor);
    }
}

fn put_reserves(out: &mut Vec<u8>, reserves: &[Reserve]) {
    put_u64(out, u64::try_from(reserves.len()).unwrap_or(u64::MAX));
    for reserve in reserves {
        put_u64(out, reserve.account.0);
        put_i64(out, reserve.amount);
    }
}

/// Everything of an entry but `seq` and `id`, which are columns of their own.
pub(crate) fn entry(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(32_usize.saturating_add(entry.detail.len()));
    put_u64(&mut out, entry.writer.into());
    put_i64(&mut out, entry.at_ms);
    put_u64(&mut out, entry.kind.into());
    put_u64(&mut out, u64::try_from(entry.legs.len()).unwrap_or(u64::MAX));
    for leg in &entry.legs {
        put_u64(&mut out, leg.account.0);
        put_i64(&mut out, leg.amount);
    }
    out.extend_from_slice(&entry.detail);
    out
}

/// The reverse of [`entry`].
pub(crate) fn unpack_entry(seq: u64, id: Option<EntryId>, packed: &[u8]) -> Result<Entry, StoreError> {
    let mut from = Unpack(packed);
    let read = |from: &mut Unpack<'_>| {
        let writer = from.u32()?;
        let at_ms = from.i64()?;
        let kind = from.u16()?;
        let legs = from.many(|from| Some(Leg { account: AccountId(from.u64()?), amount: from.i64()? }))?;
        Some(Entry { seq, writer, at_ms, kind, id, legs, detail: from.0.to_vec() })
    };
    read(&mut from).ok_or_else(|| StoreError::Damaged(format!("entry {seq} cannot be read")))
}

/// Everything of a hold but its id, after a seal: no hash chain guards holds.
pub(crate) fn hold(hold: &Hold) -> Vec<u8> {
    let mut out = Vec::with_capacity(64_usize.saturating_add(hold.detail.len()));
    put_i64(&mut out, hold.at_ms);
    put_i64(&mut out, hold.expires_ms);
    put_reserves(&mut out, &hold.asked);
    put_reserves(&mut out, &hold.reserves);
    out.extend_from_slice(&hold.detail);
    let seal = hold_seal(hold.id, &out);
    out.splice(..0, seal);
    out
}

/// The reverse of [`hold`].
pub(crate) fn unpack_hold(id: EntryId, packed: &[u8]) -> Result<Hold, StoreError> {
    let read = || {
        let (seal, packed) = packed.split_first_chunk::<8>()?;
        let mut from = Some(Unpack(packed)).filter(|_| *seal == hold_seal(id, packed))?;
        let (at_ms, expires_ms) = (from.i64()?, from.i64()?);
        let (asked, reserves) = (from.reserves()?, from.reserves()?);
        Some(Hold { id, at_ms, expires_ms, asked, reserves, detail: from.0.to_vec() })
    };
    read().ok_or_else(|| StoreError::Damaged(format!("hold {id} does not match its seal")))
}

fn hold_seal(id: EntryId, packed: &[u8]) -> [u8; 8] {
    seal(&[&id.0, packed].concat()).to_be_bytes()
}

/// Detail of a [`kind::OPENED`] entry.
pub(crate) fn opened(account: AccountId, spec: &AccountSpec) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, account.0);
    out.push(spec.kind.code());
    put_u64(&mut out, spec.unit.0.into());
    put_floor(&mut out, spec.floor);
    out.extend_from_slice(spec.name.as_bytes());
    out
}

/// The reverse of [`opened`].
pub(crate) fn unpack_opened(detail: &[u8]) -> Option<(AccountId, AccountSpec)> {
    let mut from = Unpack(detail);
    let account = AccountId(from.u64()?);
    let kind = AccountKind::from_code(from.byte()?)?;
    let unit = Unit(from.u16()?);
    let floor = from.floor()?;
    let name = str::from_utf8(from.0).ok()?.to_owned();
    Some((account, AccountSpec { name, kind, unit, floor }))
}

/// Detail of a [`kind::FLOOR`] entry.
pub(crate) fn floor(account: AccountId, floor: Option<i64>) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, account.0);
    put_floor(&mut out, floor);
    out
}

/// The reverse of [`floor`].
pub(crate) fn unpack_floor(detail: &[u8]) -> Option<(AccountId, Option<i64>)> {
    let mut from = Unpack(detail);
    Some((AccountId(from.u64()?), from.floor()?))
}

/// Detail of a [`kind::DOCUMENT`] entry.
pub(crate) fn document(kind: u16, key: &str, version: u64, actor: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32_usize.saturating_add(key.len()).saturating_add(body.len()));
    put_u64(&mut out, kind.into());
    put_u64(&mut out, version);
    put_bytes(&mut out, key.as_bytes());
    put_bytes(&mut out, actor.as_bytes());
    out.extend_from_slice(body);
    out
}

/// The document that an entry put.
pub(crate) fn unpack_document(entry: &Entry) -> Option<Document> {
    let id = entry.id.filter(|_| entry.kind == kind::DOCUMENT)?;
    let mut from = Unpack(&entry.detail);
    let (kind, version) = (from.u16()?, from.u64()?);
    let (key, actor) = (from.text()?, from.text()?);
    Some(Document { seq: entry.seq, at_ms: entry.at_ms, id, kind, key, version, actor, body: from.0.to_vec() })
}

/// A part of a tally and its sums.
fn put_part(out: &mut Vec<u8>, part: u8, sums: &[i128]) {
    let mut packed = Vec::with_capacity(sums.len().saturating_mul(4));
    for &sum in sums {
        // Nearly every sum fits 63 bits; the others follow a mark.
        match i64::try_from(sum) {
            Ok(small) if small != i64::MIN => put_i64(&mut packed, small),
            _ => {
                put_i64(&mut packed, i64::MIN);
                packed.extend_from_slice(&sum.to_be_bytes());
            }
        }
    }
    out.push(part);
    put_bytes(out, &packed);
}

/// The parts of a packed tally in their order, each with its packed sums; `None` for what is none.
pub(crate) fn parts(packed: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    let (mut from, mut last) = (Unpack(packed), None);
    std::iter::from_fn(move || {
        (!from.0.is_empty()).then(|| {
            let part = from.byte()?;
            let follows = last.replace(part) < Some(part);
            follows.then_some((part, from.bytes()?))
        })
    })
}

/// The sums that are packed in `stored`, and `more` added to them, packed. `None`: `stored` is no tally.
pub(crate) fn add_parts(stored: &[u8], more: &[(u8, Vec<i128>)]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(stored.len().saturating_add(64));
    let mut more = more.iter().peekable();
    let mut total = Vec::new();
    for found in parts(stored) {
        let (part, packed) = found?;
        while let Some((new, sums)) = more.next_if(|(new, _)| *new < part) {
            put_part(&mut out, *new, sums);
        }
        if let Some((_, more)) = more.next_if(|(new, _)| *new == part) {
            total.clear();
            unpack_sums(packed, &mut total)?;
            total.resize(total.len().max(more.len()), 0);
            for (sum, &more) in total.iter_mut().zip(more) {
                *sum = sum.saturating_add(more);
            }
            put_part(&mut out, part, &total);
        } else {
            out.push(part);
            put_bytes(&mut out, packed);
        }
    }
    for (part, sums) in more {
        put_part(&mut out, *part, sums);
    }
    Some(out)
}

/// Adds the sums of a part to `sums`, at its end.
pub(crate) fn unpack_sums(packed: &[u8], sums: &mut Vec<i128>) -> Option<()> {
    let mut from = Unpack(packed);
    while !from.0.is_empty() {
        sums.push(match from.i64()? {
            i64::MIN => {
                let (bytes, rest) = from.0.split_first_chunk()?;
                from.0 = rest;
                i128::from_be_bytes(*bytes)
            }
            small => small.into(),
        });
    }
    Some(())
}

/// What is left to read.
struct Unpack<'a>(&'a [u8]);

impl<'a> Unpack<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn u64(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return None;
            }
            value |= bits.checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn u32(&mut self) -> Option<u32> {
        self.u64()?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.u64()?.try_into().ok()
    }

    fn i64(&mut self) -> Option<i64> {
        let value = self.u64()?;
        Some((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg())
    }

    fn floor(&mut self) -> Option<Option<i64>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(self.i64()?)),
            _ => None,
        }
    }

    fn many<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // Each item takes a byte at least, so a wrong count cannot ask for more memory than the bytes that are there.
        let count = usize::try_from(self.u64()?).ok().filter(|&count| count <= self.0.len())?;
        (0..count).map(|_| read(self)).collect()
    }

    fn reserves(&mut self) -> Option<Vec<Reserve>> {
        self.many(|from| Some(Reserve { account: AccountId(from.u64()?), amount: from.i64()? }))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        Some(str::from_utf8(self.bytes()?).ok()?.to_owned())
    }
}
