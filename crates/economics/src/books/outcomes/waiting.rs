//! Which outcomes wait for which requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::EntryId;

/// Outcomes kept aside that are looked for when a request ends; of more, the oldest stay aside.
pub(super) const MAX_WAITING: usize = 10_000;

/// What an outcome waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Awaited {
    Request(EntryId),
    /// The first request of an episode: organisation, project, episode.
    Episode([String; 3]),
}

/// Outcomes kept aside by their entries, and what they wait for.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) loaded: bool,
    pub(super) entries: BTreeMap<u64, Vec<Awaited>>,
    by_awaited: HashMap<Awaited, BTreeSet<u64>>,
    /// Those to be looked at.
    pub(super) due: BTreeSet<u64>,
    /// Where looking for other servers' requests has come to.
    pub(super) looked_at: u64,
}

impl Waiting {
    pub(super) fn insert(&mut self, entry: u64, awaited: Vec<Awaited>) {
        for one in &awaited {
            self.by_awaited.entry(one.clone()).or_default().insert(entry);
        }
        self.entries.insert(entry, awaited);
        // Its requests may have ended while it was posted.
        self.due.insert(entry);
        while self.entries.len() > MAX_WAITING {
            let Some(oldest) = self.entries.keys().next().copied() else { break };
            self.remove(oldest);
        }
    }

    /// What was waited for is in the books: those that waited for it are to be looked at.
    pub(super) fn come(&mut self, awaited: &Awaited) {
        self.due.extend(self.by_awaited.get(awaited).into_iter().flatten());
    }

    pub(super) fn remove(&mut self, entry: u64) {
        for awaited in self.entries.remove(&entry).unwrap_or_default() {
            if let Some(waiting) = self.by_awaited.get_mut(&awaited) {
                waiting.remove(&entry);
                if waiting.is_empty() {
                    self.by_awaited.remove(&awaited);
                }
            }
        }
        self.due.remove(&entry);
    }
}
