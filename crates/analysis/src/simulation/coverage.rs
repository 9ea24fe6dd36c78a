//! How often the intervals of [`crate::ratio`] hold the truth.

use std::fmt::Write as _;

use serde::Serialize;

use super::Shape;
use crate::invalid::Invalid;
use crate::random::Random;
use crate::ratio::{self, Cluster, Method, Moments};

/// What one simulation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// The shape of the data.
    pub shape: &'static str,
    /// Clusters in each data set.
    pub clusters: usize,
    /// How the intervals were found (the last one, where sets differ in it).
    pub method: Method,
    /// Data sets drawn.
    pub sets: u32,
    /// Those whose interval held the truth.
    pub covered: u32,
    /// Those for which no interval was given, because the sample shows too little.
    pub without: u32,
}

impl Coverage {
    /// Share of the given intervals that held the truth; none where none was given.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let given = self.sets - self.without;
        (given > 0).then(|| f64::from(self.covered) / f64::from(given))
    }

    /// The share as the tables print it.
    fn percent(&self) -> String {
        self.share().map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", 100.0 * share))
    }
}

/// Draws `sets` data sets of `clusters` each, and counts the 95 % intervals that hold the truth: those that
/// [`ratio::estimate`] chooses, or always Student's t where `plain` asks for it.
///
/// # Errors
/// As [`ratio::estimate`], e.g. with no clusters.
pub fn coverage(shape: Shape, clusters: usize, plain: bool, sets: u32, seed: u64) -> Result<Coverage, Invalid> {
    let mut random = Random::new(seed);
    let mut found =
        Coverage { shape: shape.name(), clusters, method: Method::BootstrapT, sets, covered: 0, without: 0 };
    for set in 0..sets {
        let drawn: Vec<Cluster> = (0..clusters).map(|_| shape.draw(&mut random)).collect();
        let estimate = if plain {
            let mut moments = Moments::default();
            drawn.iter().try_for_each(|cluster| moments.push(*cluster))?;
            moments.estimate(0.95)?
        } else {
            ratio::estimate(&drawn, 0.95, u64::from(set))?
        };
        match estimate.interval {
            None => found.without += 1,
            Some(interval) => {
                found.covered += u32::from(interval.contains(shape.truth()));
                found.method = estimate.method.unwrap_or(found.method);
            }
        }
    }
    Ok(found)
}

/// The table of coverage: every shape at 10, 30, 200 and 1,000 clusters, by the method that is chosen there and by Student's t.
///
/// # Errors
/// As [`coverage`].
pub fn coverage_table(sets: u32, seed: u64) -> Result<String, Invalid> {
    let mut text =
        format!("Share of 95 % intervals that hold the true ratio, over {sets} data sets each (seed {seed}).\n\n");
    text += "| shape | clusters | chosen method | no interval | Student's t |\n|---|---:|---:|---:|---:|\n";
    for shape in Shape::HELD.into_iter().chain(Shape::NOT_HELD) {
        for clusters in [10, 30, 200, 1000] {
            let chosen = coverage(shape, clusters, false, sets, seed)?;
            let plain = coverage(shape, clusters, true, sets, seed)?;
            let method = if chosen.method == Method::BootstrapT { "bootstrap-t" } else { "t" };
            let without = 100.0 * f64::from(chosen.without) / f64::from(sets);
            let (share, plain) = (chosen.percent(), plain.percent());
            let name = shape.name();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {clusters} | {share} ({method}) | {without:.1} % | {plain} |");
        }
    }
    Ok(text)
}
