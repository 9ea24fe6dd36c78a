//! What follows from the pairs: a ratio with its interval, and the columns that were wasted.

use std::fmt::Write as _;

use serde::Serialize;

use super::prompts::Kind;

/// Copy-heavy work must be so many times as fast.
const COPY_RATIO: f64 = 1.5;
/// Other work must not be slower than this, with 95 % confidence, …
const CHAT_BOUND: f64 = 0.95;
/// … nor waste more than this share of its decode columns.
const CHAT_WASTE: f64 = 0.02;

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Answer {
    #[serde(skip)]
    pub(super) text: String,
    pub(super) tokens: u64,
    /// From sending to the whole answer.
    pub(super) seconds: f64,
}

impl Answer {
    fn speed(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let tokens = self.tokens as f64;
        tokens / self.seconds.max(1e-9)
    }
}

/// The same question without guesses and with them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Pair {
    pub(super) index: u32,
    pub(super) without: Answer,
    pub(super) with: Answer,
}

impl Pair {
    /// How many times as fast the answer is with guesses.
    pub(super) fn ratio(&self) -> f64 {
        self.with.speed() / self.without.speed()
    }

    fn same(&self) -> bool {
        self.with.text == self.without.text && self.with.tokens == self.without.tokens
    }
}

/// What the server with guesses counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Columns {
    pub(super) decode: f64,
    pub(super) accepted: f64,
    pub(super) rejected: f64,
}

impl Columns {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            decode: self.decode - before.decode,
            accepted: self.accepted - before.accepted,
            rejected: self.rejected - before.rejected,
        }
    }

    /// Share of the decode columns that were computed in vain.
    fn wasted(self) -> f64 {
        if self.decode > 0.0 { self.rejected / self.decode } else { 0.0 }
    }
}

/// A ratio and the interval in which it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) mean: f64,
    pub(super) high: f64,
}

/// Geometric mean of ratios with its 95 % interval by Student's t over their logarithms; `None` for fewer than five or
/// for ratios that are no positive numbers.
pub(super) fn interval(ratios: &[f64]) -> Option<Interval> {
    if ratios.len() < 5 || !ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0) {
        return None;
    }
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few pairs")]
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let margin = student(count - 1.0) * (variance / count).sqrt();
    Some(Interval { low: (mean - margin).exp(), mean: mean.exp(), high: (mean + margin).exp() })
}

/// The 97.5 % quantile of Student's t, by the expansion around the normal one; good to 0.01 from 4 degrees on.
fn student(degrees: f64) -> f64 {
    const Z: f64 = 1.959_963_985;
    let powers = |factors: [f64; 4]| {
        let [one, three, five, seven] = factors;
        Z * (one + Z.powi(2) * (three + Z.powi(2) * (five + Z.powi(2) * seven)))
    };
    Z + powers([1.0, 1.0, 0.0, 0.0]) / (4.0 * degrees)
        + powers([3.0, 16.0, 5.0, 0.0]) / (96.0 * degrees.powi(2))
        + powers([-15.0, 17.0, 19.0, 3.0]) / (384.0 * degrees.powi(3))
}

/// All pairs of one kind of work, and what they say.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    kind: Kind,
    ratio: Option<Interval>,
    tokens: u64,
    columns: Columns,
    wasted: f64,
    /// Numbers of the questions whose answers were not the same.
    different: Vec<u32>,
    goal_met: Option<bool>,
    pairs: Vec<Pair>,
}

impl Row {
    pub(super) fn new(kind: Kind, pairs: Vec<Pair>, columns: Columns) -> Self {
        let ratio = interval(&pairs.iter().map(Pair::ratio).collect::<Vec<_>>());
        let wasted = columns.wasted();
        let goal_met = ratio.map(|ratio| match kind {
            Kind::Copy => ratio.mean >= COPY_RATIO,
            Kind::Chat => ratio.low > CHAT_BOUND && wasted < CHAT_WASTE,
        });
        let different = pairs.iter().filter(|pair| !pair.same()).map(|pair| pair.index).collect();
        let tokens = pairs.iter().map(|pair| pair.with.tokens).sum();
        Self { kind, ratio, tokens, columns, wasted, different, goal_met, pairs }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) machine: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// Whether guesses changed an answer: that must never be.
    #[must_use]
    pub fn answers_differ(&self) -> bool {
        self.rows.iter().any(|row| !row.different.is_empty())
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}, {}\n", self.model, self.version);
        for line in &self.machine {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(
            text,
            "\n{:<15} {:>5} {:>7} {:>7} {:>16} {:>9} {:>9} {:>7}  GOAL",
            "", "PAIRS", "TOKENS", "RATIO", "95 % INTERVAL", "ACCEPTED", "REJECTED", "WASTED"
        );
        for row in &self.rows {
            let (ratio, bounds) = row.ratio.map_or_else(Default::default, |ratio| {
                (format!("{:.3}", ratio.mean), format!("{:.3} to {:.3}", ratio.low, ratio.high))
            });
            let goal = match row.kind {
                Kind::Copy => format!("ratio at least {COPY_RATIO}"),
                Kind::Chat => format!("interval above {CHAT_BOUND}, wasted under {} %", 100.0 * CHAT_WASTE),
            };
            let _ = writeln!(
                text,
                "{:<15} {:>5} {:>7} {ratio:>7} {bounds:>16} {:>9} {:>9} {:>5.1} %  {goal}: {}",
                row.kind.name(),
                row.pairs.len(),
                row.tokens,
                row.columns.accepted,
                row.columns.rejected,
                100.0 * row.wasted,
                row.goal_met.map_or("not known", |met| if met { "met" } else { "missed" }),
            );
        }
        for row in self.rows.iter().filter(|row| !row.different.is_empty()) {
            let _ = writeln!(text, "{}: the answers to questions {:?} differ", row.kind.name(), row.different);
        }
        text.push_str(
            "\nRatio: tokens a second of whole answers, with guesses over without; wasted: of the decode columns",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(index: u32, without: f64, with: f64) -> Pair {
        let answer = |seconds| Answer { text: "a".to_owned(), tokens: 100, seconds };
        Pair { index, without: answer(without), with: answer(with) }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (degrees, table) in [(4.0, 2.776), (9.0, 2.262), (19.0, 2.093), (29.0, 2.045), (1000.0, 1.962)] {
            assert!((student(degrees) - table).abs() < 0.01, "{degrees}: {}", student(degrees));
        }
    }

    #[test]
    fn an_interval_is_that_of_the_logarithms() {
        assert_eq!(interval(&[1.0; 4]), None);
        assert_eq!(interval(&[1.0, 1.0, 0.0, 1.0, 1.0]), None);
        assert_eq!(interval(&[1.0, 1.0, f64::INFINITY, 1.0, 1.0]), None);
        let same = interval(&[2.0; 5]).unwrap();
        assert!([same.low, same.mean, same.high].iter().all(|value| (value - 2.0).abs() < 1e-12));
        let spread = interval(&[0.5, 2.0, 0.5, 2.0, 1.0]).unwrap();
        assert!((spread.mean - 1.0).abs() < 1e-12 && (spread.low * spread.high - 1.0).abs() < 1e-12);
        // The logarithms have the standard deviation ln 2; 2.776 ln 2 / √5 = 0.8605.
        assert!((spread.high.ln() - 0.8605).abs() < 0.003, "{spread:?}");
    }

    #[test]
    fn goals_waste_and_differences_are_told() {
        let columns = Columns { decode: 1010.0, accepted: 600.0, rejected: 10.0 }.since(Columns::default());
        let fast = Row::new(Kind::Copy, (0..5).map(|index| pair(index, 2.0, 1.0)).collect(), columns);
        assert_eq!((fast.goal_met, fast.tokens), (Some(true), 500));
        let slower = Row::new(Kind::Chat, (0..5).map(|index| pair(index, 0.9, 1.0)).collect(), columns);
        assert_eq!(slower.goal_met, Some(false), "slower by a tenth");
        let wasted = Columns { rejected: 30.0, ..columns };
        let wasteful = Row::new(Kind::Chat, (0..5).map(|index| pair(index, 1.0, 1.0)).collect(), wasted);
        assert_eq!(wasteful.goal_met, Some(false), "wastes 3 %");
        let mut pairs: Vec<Pair> = (0..5).map(|index| pair(index, 1.0, 1.0)).collect();
        pairs[3].with.text.push('b');
        let differs = Row::new(Kind::Chat, pairs, Columns::default());
        assert_eq!((differs.goal_met, differs.wasted), (Some(true), 0.0));
        let report =
            |rows| Report { model: "m".to_owned(), version: "v".to_owned(), machine: vec!["p".to_owned()], rows };
        assert!(!report(vec![fast.clone()]).answers_differ());
        let report = report(vec![fast, differs]);
        assert!(report.answers_differ());
        let text = report.to_text();
        for part in ["2.000 to 2.000", "1.0 %  ratio at least 1.5: met", "the answers to questions [3] differ"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(report.to_json().contains("\"different\": [\n        3"), "{}", report.to_json());
    }
}
