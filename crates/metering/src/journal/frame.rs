//! One record of the journal: length, checksum, kind, id, payload.

use std::io;

use super::PageId;

/// Longest payload.
const PAYLOAD_MAX: usize = 64 << 10;
/// Length and checksum, four bytes each, little-endian.
const HEADER: usize = 8;
/// Kind and id.
const PREFIX: usize = 1 + size_of::<PageId>();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    Progress,
    End,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Start),
            2 => Some(Self::Progress),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) id: PageId,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a record of the journal is too long");
        if self.payload.len() > PAYLOAD_MAX {
            return Err(too_long());
        }
        let len = u32::try_from(PREFIX + self.payload.len()).map_err(|_error| too_long())?;
        let mut record = Vec::with_capacity(HEADER + PREFIX + self.payload.len());
        record.extend(len.to_le_bytes());
        record.extend([0; 4]);
        record.push(match self.kind {
            Kind::Start => 1,
            Kind::Progress => 2,
            Kind::End => 3,
        });
        record.extend(self.id);
        record.extend(self.payload);
        let checksum = crc32fast::hash(&record[HEADER..]);
        record[4..HEADER].copy_from_slice(&checksum.to_le_bytes());
        Ok(record)
    }

    /// The bytes before the first whole record; `None` when there is none.
    pub(super) fn find(bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| Frame::decode(&bytes[at..]).is_some())
    }

    /// Whether this is what a write leaves that was cut off: the beginning of one record, or zeros where its content never
    /// arrived. Anything else without a whole record is damage.
    pub(super) fn is_cut_off(tail: &[u8]) -> bool {
        let Some((header, body)) = tail.split_first_chunk::<HEADER>() else { return true };
        let [a, b, c, d, ..] = *header;
        let Some(len) = body_len([a, b, c, d]) else { return tail.iter().all(|byte| *byte == 0) };
        body.len() < len && body.first().is_none_or(|kind| Kind::of(*kind).is_some())
    }

    /// The first record and what follows it; `None` when there is no whole one.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let len = body_len(*len)?;
        let (body, after) = rest.split_at_checked(len)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (kind, body) = body.split_first()?;
        let (id, payload) = body.split_first_chunk()?;
        Some((Self { kind: Kind::of(*kind)?, id: *id, payload }, after))
    }
}

/// Bytes of kind, id and payload, as a header tells them; `None` when no record has so many.
fn body_len(bytes: [u8; 4]) -> Option<usize> {
    let len = usize::try_from(u32::from_le_bytes(bytes)).ok()?;
    (PREFIX..=PREFIX + PAYLOAD_MAX).contains(&len).then_some(len)
}
