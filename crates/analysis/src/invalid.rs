//! What is refused: which field, what is wrong, what to do.

/// A refused input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {fix}")]
pub struct Invalid {
    /// Where, e.g. `clusters[3].denominator`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Invalid {
    /// An error about `field`.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), fix: fix.into() }
    }
}

/// Largest number that is taken, so that squares and their sums stay finite; 1 / LARGEST is the smallest positive one.
const LARGEST: f64 = 1e30;

/// `value`, if it is a number of a size that can be.
pub(crate) fn finite(field: &str, value: f64) -> Result<f64, Invalid> {
    if value.abs() <= LARGEST {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value} cannot be used"), format!("give a number of at most {LARGEST:e}")))
}

/// `value`, if it is [`finite`] and at least 0.
pub(crate) fn not_negative(field: &str, value: f64) -> Result<f64, Invalid> {
    if finite(field, value)? >= 0.0 {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value} is negative"), "give a number of at least 0"))
}

/// `value`, if it is [`finite`] and greater than 0.
pub(crate) fn positive(field: &str, value: f64) -> Result<f64, Invalid> {
    if finite(field, value)? >= 1.0 / LARGEST {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value} is not greater than 0"), "give a number greater than 0"))
}

/// `value`, if `0 < value < 1`.
pub(crate) fn inside_unit(field: &str, value: f64) -> Result<f64, Invalid> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value} is not between 0 and 1"), "give a share between 0 and 1, e.g. 0.05"))
}
