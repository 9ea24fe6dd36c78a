//! What the books say of one request: its entries, and the outcomes that it brought about.

use ledger::{Entry, EntryId, StoreError};

use super::Books;
use super::costs::cost_id;
use super::outcome_detail::{Owner, Valued};
use super::undo::{late_id, undelivered_id};
use crate::rollup;

/// Outcomes of the owner that are looked through for those of one request, and how many are read at a time.
const MOST_OUTCOMES: usize = 2_000;
const OUTCOMES_AT_ONCE: usize = 200;

impl Books {
    /// The entries of a request in their order: its charge (or that its hold ended without one), what gave the charge of an
    /// undelivered answer back, and what it cost. Credit notes have ids of their own and are not among them; [`Books::cost`]
    /// counts them.
    ///
    /// # Errors
    /// The store's.
    pub fn request_entries(&self, request: EntryId) -> Result<Vec<Entry>, StoreError> {
        let ids = [request, late_id(request), undelivered_id(request), cost_id(request)];
        let mut entries = Vec::new();
        for id in ids {
            entries.extend(self.ledger.entry_by_id(id)?);
        }
        entries.sort_unstable_by_key(|entry| entry.seq);
        Ok(entries)
    }

    /// The outcomes told after the entry `after` in which a request has a part, of an owner's list (`None`: the plant's); of
    /// several revisions the latest. Also whether these are all: only the next 2,000 are looked through.
    ///
    /// # Errors
    /// The store's.
    pub fn outcomes_of_request(
        &self,
        request: EntryId,
        owner: Option<&Owner>,
        mut after: u64,
    ) -> Result<(Vec<Entry>, bool), StoreError> {
        let mut found: Vec<Entry> = Vec::new();
        if rollup::outcomes_of(&self.ledger, request.0)?.0 == 0 {
            return Ok((Vec::new(), true));
        }
        for _ in 0..MOST_OUTCOMES / OUTCOMES_AT_ONCE {
            let entries = self.outcomes(owner, (false, after), OUTCOMES_AT_ONCE)?;
            let whole = entries.len() < OUTCOMES_AT_ONCE;
            after = entries.last().map_or(after, |entry| entry.seq);
            for entry in entries {
                let Some(valued) = Valued::read(&entry) else { continue };
                if let Some((undone, _)) = valued.undone {
                    found.retain(|entry| entry.seq != undone);
                }
                if valued.counted.parts.iter().any(|part| part.request == request.0) {
                    found.push(entry);
                }
            }
            if whole {
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }
}
