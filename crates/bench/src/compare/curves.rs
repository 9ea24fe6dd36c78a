//! Growth curves: how speed changes with context, sequences and the shared part of a prompt.

use std::collections::BTreeMap;

use super::offline::{Job, Work};
use super::results::{Plot, Series, median};
use super::rows::Row;
use super::session::{Case, Session, Side};

const LENGTHS: [u32; 7] = [128, 256, 512, 1024, 2048, 4096, 8192];
/// The last leaves room for the steps in a context of 8,192.
const DEPTHS: [u32; 7] = [128, 256, 512, 1024, 2048, 4096, 8160];
const SEQUENCES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
const SHARES: [u32; 5] = [0, 25, 50, 75, 100];
const DECODE_TOKENS: u32 = 32;

/// What was measured of a curve so far.
#[derive(Default)]
pub(super) struct Curve {
    values: BTreeMap<(Side, u32), Vec<f64>>,
    failures: BTreeMap<Side, String>,
}

impl Curve {
    /// Measures all points of one side once.
    pub(super) fn measure(&mut self, session: &Session<'_>, case: &Case<'_>) {
        match points(session, case) {
            Ok(points) => {
                for (at, value) in points {
                    self.values.entry((case.side, at)).or_default().push(value);
                }
            }
            Err(error) => self.fail(case.side, error),
        }
    }

    /// Notes why a side has no points.
    pub(super) fn fail(&mut self, side: Side, error: String) {
        self.failures.insert(side, error);
    }

    /// The medians as a plot.
    pub(super) fn plot(&self, row: Row, model: &str, sides: &[Side]) -> Plot {
        let (title, x, y, logarithmic) = match row {
            Row::CurvePrefill => ("prefill by length of the prompt", "tokens of the prompt", "tok/s", true),
            Row::CurveContext => ("decode of one sequence by context", "tokens before the first step", "tok/s", true),
            Row::CurveSequences => ("decode of all sequences together", "sequences, 128 tokens each", "tok/s", true),
            _ => ("first token by shared part of a prompt of 1,000 tokens", "percent shared", "TTFT, ms", false),
        };
        let series = sides.iter().map(|side| {
            let of_side = self.values.range((*side, 0)..=(*side, u32::MAX));
            let points = of_side.filter_map(|((_, at), values)| Some((f64::from(*at), median(values)?))).collect();
            Series { side: *side, points, failure: self.failures.get(side).cloned() }
        });
        Plot { row, title: format!("{model}: {title}"), x, y, logarithmic, series: series.collect() }
    }
}

fn points(session: &Session<'_>, case: &Case<'_>) -> Result<Vec<(u32, f64)>, String> {
    let offline = |work| {
        let points = session.offline(case, &Job { work, decode_tokens: DECODE_TOKENS, repetitions: 1 })?;
        Ok(points.iter().map(|point| (point.at, point.tokens_per_second)).collect())
    };
    match case.row {
        Row::CurvePrefill => offline(Work::Prefill(LENGTHS.to_vec())),
        Row::CurveContext => offline(Work::Depth(DEPTHS.to_vec())),
        Row::CurveSequences => offline(Work::Together(SEQUENCES.to_vec())),
        _ => Ok(SHARES.into_iter().zip(session.prefix_curve(case, &SHARES)?).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_medians_and_who_has_none() {
        let mut curve = Curve::default();
        curve.values.insert((Side::Tokenworks, 128), vec![3.0, 1.0, 2.0]);
        curve.values.insert((Side::Tokenworks, 8160), vec![1.0]);
        curve.fail(Side::LlamaCpp, "crashed".to_owned());
        let plot = curve.plot(Row::CurveContext, "m", &[Side::Tokenworks, Side::LlamaCpp]);
        assert_eq!(plot.series[0].points, [(128.0, 2.0), (8160.0, 1.0)]);
        assert_eq!((plot.series[1].points.len(), plot.series[1].failure.as_deref()), (0, Some("crashed")));
    }
}
