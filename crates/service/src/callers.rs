//! How the engine tells callers apart: by numbers, never by names.

use std::hash::{DefaultHasher, Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::Generation;

/// The number by which the engine tells clients apart.
pub(crate) fn client(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Prompts are shared within one customer; where there are no books, among requests of one key, and among those without.
pub(crate) fn cache_salt(generation: &Generation) -> u64 {
    let (kind, whose) = match (&generation.payer, &generation.labels.key) {
        (Some(payer), _) => ("organisation", payer.identity.organisation.id.as_str()),
        (None, Some(key)) => ("key", key.as_str()),
        (None, None) => return 0,
    };
    // It is a border between customers: two of one salt must not be made.
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(whose).finalize();
    hash.first_chunk().map_or(0, |half| u64::from_be_bytes(*half))
}
