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

    /// The first record and what follows it; `None` when there is no whole one.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| *len <= PREFIX + PAYLOAD_MAX)?;
        let (body, after) = rest.split_at_checked(len)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (kind, body) = body.split_first()?;
        let (id, payload) = body.split_first_chunk()?;
        let kind = match kind {
            1 => Kind::Start,
            2 => Kind::Progress,
            3 => Kind::End,
            _ => return None,
        };
        Some((Self { kind, id: *id, payload }, after))
    }
}
