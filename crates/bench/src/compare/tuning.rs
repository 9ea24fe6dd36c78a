//! The settings a peer runs with: its best are found once, then kept for all rounds.

use std::str::FromStr;

use serde::Serialize;

use super::rows::Row;
use super::session::Side;

/// Settings of llama.cpp and its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// `-ub`: most tokens computed together.
    pub ubatch: u32,
    /// `-fa`.
    pub flash_attention: bool,
    /// `-rtr` of ik_llama.cpp: weights repacked at load.
    pub repack: bool,
}

impl Tuning {
    /// What the programs do when nothing is said, near enough.
    pub(super) const DEFAULT: Self = Self { ubatch: 512, flash_attention: true, repack: false };

    /// What is tried for a row.
    pub(super) fn candidates(row: Row, side: Side) -> Vec<Self> {
        // Decode computes fewer tokens together than the smallest of these.
        let ubatches: &[u32] = match row {
            Row::Decode | Row::Decode8 | Row::Decode16 | Row::Depth => &[512],
            _ => &[128, 256, 512, 2048],
        };
        let repacks: &[bool] = if side == Side::IkLlamaCpp { &[false, true] } else { &[false] };
        let mut all = Vec::new();
        for repack in repacks {
            for flash_attention in [true, false] {
                all.extend(ubatches.iter().map(|ubatch| Self { ubatch: *ubatch, flash_attention, repack: *repack }));
            }
        }
        all
    }
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "must be a number and on or off, like 512,on".to_owned();
        let (ubatch, flash) = text.split_once(',').ok_or_else(bad)?;
        let ubatch = ubatch.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
        match flash {
            "on" | "off" => Ok(Self { ubatch, flash_attention: flash == "on", repack: false }),
            _ => Err(bad()),
        }
    }
}

impl std::fmt::Display for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let repack = if self.repack { " -rtr 1" } else { "" };
        write!(f, "-ub {} -fa {}{repack}", self.ubatch, if self.flash_attention { "on" } else { "off" })
    }
}

/// The candidate with the best first figure, and what went wrong with the others, if none went right.
pub(super) fn best_of(
    candidates: &[Tuning],
    more_is_better: bool,
    mut try_one: impl FnMut(Tuning) -> Result<f64, String>,
) -> Result<Tuning, String> {
    let mut best: Option<(f64, Tuning)> = None;
    let mut trouble = String::from("nothing was tried");
    for candidate in candidates {
        match try_one(*candidate) {
            Ok(value) => {
                let better = best.is_none_or(|(best, _)| if more_is_better { value > best } else { value < best });
                if better {
                    best = Some((value, *candidate));
                }
            }
            Err(error) => trouble = error,
        }
    }
    best.map(|(_, tuning)| tuning).ok_or(trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_candidate_wins_and_failures_are_passed_over() {
        let candidates = Tuning::candidates(Row::Prefill, Side::LlamaCpp);
        assert_eq!(candidates.len(), 8);
        let speed = |t: Tuning| match t.ubatch {
            2048 => Err("crashed".to_owned()),
            n => Ok(f64::from(n) + if t.flash_attention { 0.0 } else { 1.0 }),
        };
        let best = |more| best_of(&candidates, more, speed).unwrap();
        assert_eq!((best(true).ubatch, best(true).flash_attention), (512, false));
        assert_eq!((best(false).ubatch, best(false).flash_attention), (128, true));
        assert_eq!(best_of(&candidates, true, |_| Err("gone".to_owned())), Err("gone".to_owned()));
        assert_eq!(Tuning::candidates(Row::Decode, Side::IkLlamaCpp).len(), 4);
    }

    #[test]
    fn fixed_settings_are_read() {
        let tuning: Tuning = "256,off".parse().unwrap();
        assert_eq!(tuning.to_string(), "-ub 256 -fa off");
        for bad in ["", "256", "0,on", "x,on", "256,maybe"] {
            assert!(bad.parse::<Tuning>().is_err(), "{bad}");
        }
    }
}
