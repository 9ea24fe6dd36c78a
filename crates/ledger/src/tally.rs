//! Sums of keys: added up from entries, packed for the store, read again.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::pack;
use crate::types::Entry;

/// Takes what an entry adds: a key, a part of the key, and what is added to that part's sums.
pub type Add<'a> = dyn FnMut(&[u8], u8, &[i64]) + 'a;

/// A roll-up: what an entry counts for. Its sums are stored in the entry's transaction, and [`crate::Ledger::verify`]
/// recomputes them.
pub trait Summary: Send + Sync {
    /// From 1. With another version than the stored one all tallies are made anew when the ledger is opened.
    fn version(&self) -> u32;

    /// Calls `add` with keys and what to add to their sums. It depends on nothing but the entry. The parts of a key are
    /// stored and read together: sums that are told apart, but never looked for by themselves. Most keys have one, 0.
    fn tally(&self, entry: &Entry, add: &mut Add<'_>);
}

/// The sums of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From [`Summary::tally`].
    pub key: Vec<u8>,
    /// Those of all its parts, one after the other: of each as many as the longest slice added.
    pub sums: Vec<i128>,
    /// Each part, and where its sums end.
    parts: Vec<(u8, usize)>,
}

impl Tally {
    /// The parts in their order, each with its sums.
    pub fn parts(&self) -> impl Iterator<Item = (u8, &[i128])> {
        let mut from = 0;
        self.parts.iter().map(move |&(part, end)| {
            let sums = self.sums.get(from..end).unwrap_or_default();
            from = end;
            (part, sums)
        })
    }

    /// Takes the place of what it was, in the memory that it has. `None`: these are no sums.
    pub(crate) fn read(&mut self, key: &[u8], packed: &[u8]) -> Option<()> {
        self.clear(key);
        for part in pack::parts(packed) {
            let (part, sums) = part?;
            pack::unpack_sums(sums, &mut self.sums)?;
            self.parts.push((part, self.sums.len()));
        }
        Some(())
    }

    fn copy(&mut self, key: &[u8], parts: &[(u8, Vec<i128>)]) {
        self.clear(key);
        for (part, sums) in parts {
            self.sums.extend(sums);
            self.parts.push((*part, self.sums.len()));
        }
    }

    fn clear(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend(key);
        self.sums.clear();
        self.parts.clear();
    }
}

/// Sums by key, in memory.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<Vec<u8>, Vec<(u8, Vec<i128>)>>);

impl Sums {
    /// Adds what one entry counts for.
    pub fn take(&mut self, summary: &dyn Summary, entry: &Entry) {
        summary.tally(entry, &mut |key, part, more| self.add(key, part, more));
    }

    fn add(&mut self, key: &[u8], part: u8, more: &[i64]) {
        if !self.0.contains_key(key) {
            self.0.insert(key.to_vec(), Vec::new());
        }
        let Some(parts) = self.0.get_mut(key) else { return };
        let place = parts.binary_search_by_key(&part, |(part, _)| *part).unwrap_or_else(|place| {
            parts.insert(place, (part, Vec::with_capacity(more.len())));
            place
        });
        if let Some((_, sums)) = parts.get_mut(place) {
            sums.resize(sums.len().max(more.len()), 0);
            for (sum, &more) in sums.iter_mut().zip(more) {
                *sum = sum.saturating_add(more.into());
            }
        }
    }

    /// Shows `each` the sums of keys within `from..to`, in the order of keys, until it gives `false`.
    pub fn visit(&self, from: &[u8], to: &[u8], each: &mut dyn FnMut(&Tally) -> bool) {
        if from >= to {
            return;
        }
        let mut tally = Tally::default();
        for (key, parts) in self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            tally.copy(key, parts);
            if !each(&tally) {
                return;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<(u8, Vec<i128>)>)> {
        self.0.iter()
    }

    /// Takes a tally out. Whether it was there and is the same.
    pub(crate) fn remove(&mut self, tally: &Tally) -> bool {
        let own = self.0.remove(&tally.key).unwrap_or_default();
        let own = own.iter().map(|(part, sums)| (*part, sums.as_slice()));
        own.eq(tally.parts()) && !tally.parts.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored of a key after these were added in groups of `group`.
    fn stored(added: &[(u8, &[i64])], group: usize) -> Vec<u8> {
        let mut packed = Vec::new();
        for added in added.chunks(group) {
            let mut sums = Sums::default();
            added.iter().for_each(|(part, more)| sums.add(b"key", *part, more));
            for (_, parts) in sums.iter() {
                packed = pack::add_parts(&packed, parts).unwrap();
            }
        }
        packed
    }

    #[test]
    fn parts_are_the_same_in_however_many_groups_they_came() {
        let most = [i64::MAX, i64::MIN];
        let added: [(u8, &[i64]); 8] =
            [(7, &[1, -2]), (0, &most), (255, &[]), (7, &[0, 0, 5]), (3, &[0]), (0, &most), (255, &[9]), (1, &[4])];
        let mut tally = Tally::default();
        for group in 1..=added.len() {
            tally.read(b"key", &stored(&added, group)).unwrap();
            let parts: Vec<_> = tally.parts().map(|(part, sums)| (part, sums.to_vec())).collect();
            let twice = most.map(|most| 2 * i128::from(most)).to_vec();
            let expected = [(0, twice), (1, vec![4]), (3, vec![0]), (7, vec![1, -2, 5]), (255, vec![9])];
            assert_eq!(parts, expected, "in groups of {group}");
        }
    }

    #[test]
    fn what_is_no_tally_is_not_read() {
        let packed = stored(&[(1, &[300, -1]), (2, &[i64::MIN])], 2);
        let mut tally = Tally::default();
        assert_eq!(tally.read(b"key", &packed), Some(()));
        let read: Vec<usize> = (1..packed.len()).filter(|cut| tally.read(b"key", &packed[..*cut]).is_some()).collect();
        assert_eq!(read, [5], "between its parts it is a shorter one");
        let swapped = [&packed[5..], &packed[..5]].concat();
        assert!(tally.read(b"key", &swapped).is_none(), "parts come in their order");
        assert!(pack::add_parts(&[1], &[]).is_none());
    }
}
