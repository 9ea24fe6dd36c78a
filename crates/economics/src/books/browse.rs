//! The ledger's entries for people: newest first, a page at a time, with words in place of numbers.

use ledger::{AccountId, Entry, StoreError, kind};

use super::Books;
use super::detail::entry_kind;
use crate::rollup::{SLACK_MS, first_since};

/// Most entries that are looked at for one page: a filter that few entries pass takes several.
pub const MAX_LOOKED_AT: u64 = 20_000;
/// Entries read at one time.
const READ: u64 = 500;

/// Kinds of entries and their words.
const WORDS: [(u16, &str); 13] = [
    (entry_kind::SETTLED, "charge"),
    (entry_kind::CREDITED, "credit_note"),
    (entry_kind::PAID, "payment"),
    (entry_kind::ACCRUED, "plant_cost"),
    (entry_kind::COSTED, "request_cost"),
    (entry_kind::VALUED, "outcome"),
    (entry_kind::ASIDE, "outcome_aside"),
    (entry_kind::ASSIGNED, "assignment"),
    (kind::OPENED, "opened"),
    (kind::FLOOR, "floor"),
    (kind::VOID, "void"),
    (kind::EXPIRED, "expired"),
    (kind::DOCUMENT, "document"),
];

/// The word for a kind of entries; `None`: a kind that this program does not write.
#[must_use]
pub fn entry_word(kind: u16) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == kind).map(|(_, word)| *word)
}

/// The kind of entries of a word.
#[must_use]
pub fn entry_kind_of(word: &str) -> Option<u16> {
    WORDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
}

/// Which entries are asked for.
#[derive(Clone, Copy, Debug)]
pub struct EntriesBefore {
    /// Those before this number; `None`: from the newest on.
    pub before: Option<u64>,
    /// Only those with a leg on this account.
    pub account: Option<AccountId>,
    /// Only those of this kind.
    pub kind: Option<u16>,
    /// Only those written within these milliseconds, the end not included.
    pub span_ms: (i64, i64),
    /// At most so many.
    pub limit: usize,
}

/// Entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins: ask for those before this number; `None`: this was the last.
    pub next_before: Option<u64>,
    /// How many entries were looked at.
    pub looked_at: u64,
}

impl EntriesBefore {
    fn takes(&self, entry: &Entry) -> bool {
        (self.span_ms.0..self.span_ms.1).contains(&entry.at_ms)
            && self.kind.is_none_or(|kind| entry.kind == kind)
            && self.account.is_none_or(|account| entry.legs.iter().any(|leg| leg.account == account))
    }
}

impl Books {
    /// A page of entries. It ends early where [`MAX_LOOKED_AT`] entries were looked at. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn entries_before(&self, asked: &EntriesBefore) -> Result<EntryPage, StoreError> {
        let (from_ms, to_ms) = asked.span_ms;
        let mut next = self.ledger.last_seq()?.saturating_add(1);
        if let Some(before) = asked.before {
            next = next.min(before);
        }
        if to_ms < i64::MAX {
            next = next.min(first_since(&self.ledger, to_ms.saturating_add(SLACK_MS))?);
        }
        let mut page = EntryPage::default();
        while next > 1 && page.looked_at < MAX_LOOKED_AT {
            let from = next.saturating_sub(READ).max(1);
            let found = self.ledger.entries(from, u32::try_from(next - from).unwrap_or(u32::MAX))?;
            for entry in found.into_iter().rev() {
                if entry.at_ms < from_ms.saturating_sub(SLACK_MS) {
                    return Ok(page);
                }
                page.looked_at += 1;
                let seq = entry.seq;
                if asked.takes(&entry) {
                    page.entries.push(entry);
                }
                if page.entries.len() >= asked.limit {
                    page.next_before = (seq > 1).then_some(seq);
                    return Ok(page);
                }
            }
            next = from;
        }
        page.next_before = (next > 1).then_some(next);
        Ok(page)
    }
}
