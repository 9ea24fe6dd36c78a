//! Which outcomes wait for which requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::EntryId;

/// Outcomes kept aside that are looked for when a request ends; of more, the oldest stay aside.
pub(super) const MAX_WAITING: usize = 10_000;

/// Outcomes kept aside by their entries, and the requests they wait for.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) loaded: bool,
    pub(super) entries: BTreeMap<u64, Vec<EntryId>>,
    pub(super) by_request: HashMap<EntryId, BTreeSet<u64>>,
    /// Those to be looked at.
    pub(super) due: BTreeSet<u64>,
    /// Where looking for other servers' requests has come to.
    pub(super) looked_at: u64,
}

impl Waiting {
    pub(super) fn insert(&mut self, entry: u64, requests: Vec<EntryId>) {
        for request in &requests {
            self.by_request.entry(*request).or_default().insert(entry);
        }
        self.entries.insert(entry, requests);
        // Its requests may have ended while it was posted.
        self.due.insert(entry);
        while self.entries.len() > MAX_WAITING {
            let Some(oldest) = self.entries.keys().next().copied() else { break };
            self.remove(oldest);
        }
    }

    pub(super) fn remove(&mut self, entry: u64) {
        for request in self.entries.remove(&entry).unwrap_or_default() {
            if let Some(waiting) = self.by_request.get_mut(&request) {
                waiting.remove(&entry);
                if waiting.is_empty() {
                    self.by_request.remove(&request);
                }
            }
        }
        self.due.remove(&entry);
    }
}
