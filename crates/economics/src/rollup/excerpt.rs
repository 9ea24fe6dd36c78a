//! Sums of any period, made from its entries: what is summed up by hour and by day knows no shorter ones.

use ledger::{Ledger, StoreError, Tally};

use super::Rollup;

/// Most entries that an excerpt is made from.
pub const MAX_EXCERPT_ENTRIES: u64 = 500_000;
/// Entries read at one time.
const PAGE: u32 = 5_000;
/// How far the time of an entry may be behind that of one before it: servers write their own clocks' time.
const SLACK_MS: i64 = 120_000;

/// Where sums are read from: the ledger's, or those of an excerpt.
pub trait Tallies {
    /// Shows `each` the sums of keys within `from..to`, in the order of keys, until it gives `false`.
    ///
    /// # Errors
    /// The store's.
    fn visit(&self, from: &[u8], to: &[u8], each: &mut dyn FnMut(&Tally) -> bool) -> Result<(), StoreError>;
}

impl Tallies for Ledger {
    fn visit(&self, from: &[u8], to: &[u8], each: &mut dyn FnMut(&Tally) -> bool) -> Result<(), StoreError> {
        self.visit_tallies(from, to, each)
    }
}

/// The sums of the entries of one period.
#[derive(Debug, Default)]
pub struct Excerpt(ledger::Sums);

impl Excerpt {
    /// Of the entries written within `from_ms..to_ms`. `None`: there are more than [`MAX_EXCERPT_ENTRIES`]. Only what is on
    /// the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn read(ledger: &Ledger, (from_ms, to_ms): (i64, i64)) -> Result<Option<Self>, StoreError> {
        let mut excerpt = Self::default();
        let (mut seq, mut looked_at) = (first_since(ledger, from_ms.saturating_sub(SLACK_MS))?, 0);
        loop {
            let page = ledger.entries(seq, PAGE)?;
            for entry in page.iter().filter(|entry| (from_ms..to_ms).contains(&entry.at_ms)) {
                excerpt.0.take(&Rollup, entry);
            }
            let Some(last) = page.last() else { return Ok(Some(excerpt)) };
            if last.at_ms > to_ms.saturating_add(SLACK_MS) {
                return Ok(Some(excerpt));
            }
            looked_at += page.len() as u64;
            if looked_at > MAX_EXCERPT_ENTRIES {
                return Ok(None);
            }
            seq = last.seq.saturating_add(1);
        }
    }
}

impl Tallies for Excerpt {
    fn visit(&self, from: &[u8], to: &[u8], each: &mut dyn FnMut(&Tally) -> bool) -> Result<(), StoreError> {
        self.0.visit(from, to, each);
        Ok(())
    }
}

/// The number of the first entry from which on none is older, but for clocks that differ.
fn first_since(ledger: &Ledger, from_ms: i64) -> Result<u64, StoreError> {
    let (mut low, mut high) = (1, ledger.last_seq()?.saturating_add(1));
    while low < high {
        let middle = u64::midpoint(low, high);
        match ledger.entries(middle, 1)?.first() {
            Some(entry) if entry.at_ms < from_ms => low = entry.seq.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}
