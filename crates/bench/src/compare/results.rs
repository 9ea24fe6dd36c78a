//! Figures of all rounds, and what follows from them.

use serde::Serialize;
use serde_json::{Value, json};

use super::rows::{Goal, Metric, Row};
use super::session::{SIDES, Side};

/// All values of one figure.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) row: Row,
    /// Label of the model.
    pub(super) model: String,
    pub(super) metric: Metric,
    /// By side, in the order of [`SIDES`].
    pub(super) values: [Vec<f64>; SIDES.len()],
    /// Shares of the limit that bounds ours.
    pub(super) shares: Vec<f64>,
    /// Why a side has no value, or fewer than rounds.
    pub(super) failures: [Option<String>; SIDES.len()],
}

/// One curve of a plot.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Series {
    pub(super) side: Side,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) failure: Option<String>,
}

/// A growth curve.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plot {
    pub(super) row: Row,
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) logarithmic: bool,
    pub(super) series: Vec<Series>,
}

impl Line {
    pub(super) fn new(row: Row, model: &str, metric: Metric) -> Self {
        Self {
            row,
            model: model.to_owned(),
            metric,
            values: Default::default(),
            shares: Vec::new(),
            failures: Default::default(),
        }
    }

    /// Median of a side.
    pub(super) fn median(&self, side: Side) -> Option<f64> {
        median(&self.values[side.index()])
    }

    /// Ours over a peer's.
    pub(super) fn ratio(&self, peer: Side) -> Option<f64> {
        let theirs = self.median(peer).filter(|value| *value > 0.0)?;
        Some(self.median(Side::Tokenworks)? / theirs)
    }

    /// Whether a goal is met; `None` when it cannot be told.
    pub(super) fn meets(&self, goal: Option<Goal>) -> Option<bool> {
        match goal? {
            Goal::Ratio(wanted) if self.metric.unit.more_is_better() => Some(self.ratio(Side::LlamaCpp)? >= wanted),
            Goal::Ratio(wanted) => Some(self.ratio(Side::LlamaCpp)? <= wanted),
            Goal::AtMost(wanted) => Some(self.median(Side::Tokenworks)? <= wanted),
        }
    }

    /// Everything, for programs.
    pub(super) fn json(&self) -> Value {
        let sides = SIDES.map(|side| {
            json!({
                "side": side,
                "values": self.values[side.index()],
                "median": self.median(side),
                "failure": self.failures[side.index()],
            })
        });
        json!({
            "row": self.row,
            "model": self.model,
            "figure": self.metric.name,
            "unit": self.metric.unit.name(),
            "sides": sides,
            "share_of_limit": median(&self.shares),
            "ratio_to_llama_cpp": self.ratio(Side::LlamaCpp),
            "ratio_to_ik_llama_cpp": self.ratio(Side::IkLlamaCpp),
            "target_met": self.meets(self.metric.target),
            "stretch_met": self.meets(self.metric.stretch),
        })
    }
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: Row, figure: usize, ours: &[f64], theirs: &[f64]) -> Line {
        let mut line = Line::new(row, "Q4_1", row.metrics("Q4_1")[figure]);
        line.values[0] = ours.to_vec();
        line.values[1] = theirs.to_vec();
        line
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn goals_know_which_way_is_better() {
        let met = |line: &Line| (line.meets(line.metric.target), line.meets(line.metric.stretch));
        let fast = line(Row::Prefill, 0, &[300.0, 290.0, 310.0], &[100.0]);
        assert_eq!(met(&fast), (Some(true), Some(false)));
        let first_token = line(Row::Chats8, 1, &[30.0], &[100.0]);
        assert_eq!(met(&first_token), (Some(true), Some(false)));
        let gap = line(Row::Gap, 0, &[160.0], &[]);
        assert_eq!(met(&gap), (Some(false), Some(false)), "needs no peer");
        let alone = line(Row::Prefill, 0, &[300.0], &[]);
        assert_eq!(met(&alone), (None, None));
        assert_eq!(fast.json()["ratio_to_llama_cpp"], 3.0);
    }
}
