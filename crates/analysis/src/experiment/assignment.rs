//! Sticky assignment: a pure function, so every replica and every replay gives a unit the same arm.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::shares;
use crate::invalid::Invalid;
use crate::random;

/// Longest experiment id, salt or unit id.
pub const MAX_ID_BYTES: usize = 1024;

/// Where a unit belongs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Assignment {
    /// Index of the arm.
    pub arm: usize,
    /// Probability with which a unit gets this arm; to be logged with it.
    pub propensity: f64,
}

/// The arm of `unit`, in proportion to `weights`. The first 53 bits of SHA-256 over the three ids (each with its length before
/// it, so that no two triples read the same) are the unit's uniform number; another experiment or salt draws anew.
///
/// While weights stay, so do arms. When they change, some units would move: the caller keeps the first assignment of each.
///
/// # Errors
/// Names an id that is too long, or weights that cannot be.
pub fn assign(experiment: &str, salt: &str, unit: &str, weights: &[f64]) -> Result<Assignment, Invalid> {
    let shares = shares("weights", weights)?;
    let mut hash = Sha256::new();
    for (field, id) in [("experiment", experiment), ("salt", salt), ("unit", unit)] {
        if id.len() > MAX_ID_BYTES {
            let problem = format!("it has {} bytes", id.len());
            return Err(Invalid::new(field, problem, format!("give an id of at most {MAX_ID_BYTES} bytes")));
        }
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let drawn = random::unit(u64::from_be_bytes(first));
    let mut end = 0.0;
    let mut chosen = Assignment { arm: 0, propensity: 0.0 };
    for (arm, share) in shares.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
        // Where rounding leaves the shares below 1, the last arm takes the rest.
        chosen = Assignment { arm, propensity: share };
        end += share;
        if drawn < end {
            break;
        }
    }
    Ok(chosen)
}
