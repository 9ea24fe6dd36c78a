//! What is compared: rows, what each of them measures, and what is wanted of it.

use clap::ValueEnum;
use serde::Serialize;

/// A row of the comparison, or a growth curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// A prompt of 512 tokens
    Prefill,
    /// Decode of one sequence
    Decode,
    /// Decode of 8 sequences together, each after 128 tokens
    Decode8,
    /// Decode of 16 sequences together, each after 128 tokens
    Decode16,
    /// Decode of one sequence after 4,096 tokens
    Depth,
    /// Server: 8 streaming chats, and resident memory under them
    Chats8,
    /// Server: 16 streaming chats
    Chats16,
    /// Server: worst gap in 4 running streams when a prompt of 1,500 tokens arrives
    Gap,
    /// Server: first token of a new question after a shared prefix of 1,000 tokens
    Prefix,
    /// Server: from the start of the process to the first answer
    Start,
    /// Server: processor time while nothing is asked
    Idle,
    /// Curve: prefill of 128 to 8,192 tokens
    CurvePrefill,
    /// Curve: decode after 128 to 8,160 tokens
    CurveContext,
    /// Curve: decode of 1 to 64 sequences
    CurveSequences,
    /// Curve: first token with 0 to 100 % of the prompt shared
    CurvePrefix,
}

/// One figure of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) target: Option<Goal>,
    pub(super) stretch: Option<Goal>,
}

/// Units, and with them which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    /// More is better; all others: less is better.
    TokensPerSecond,
    Milliseconds,
    Seconds,
    Mebibytes,
    Percent,
}

impl Unit {
    pub(super) fn more_is_better(self) -> bool {
        self == Self::TokensPerSecond
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TokensPerSecond => "tok/s",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
        }
    }
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// Ours over llama.cpp's: at least this where more is better, otherwise at most this.
    Ratio(f64),
    /// Ours, in the figure's unit: at most this.
    AtMost(f64),
}

impl Row {
    /// Whether it is a curve.
    pub(super) fn is_curve(self) -> bool {
        matches!(self, Self::CurvePrefill | Self::CurveContext | Self::CurveSequences | Self::CurvePrefix)
    }

    /// Whether a server is asked.
    pub(super) fn is_served(self) -> bool {
        matches!(
            self,
            Self::Chats8 | Self::Chats16 | Self::Gap | Self::Prefix | Self::Start | Self::Idle | Self::CurvePrefix
        )
    }

    /// The program of a peer that measures it.
    pub(super) fn peer_tool(self) -> &'static str {
        match self {
            Self::Prefill | Self::Decode | Self::Depth | Self::CurvePrefill | Self::CurveContext => "llama-bench",
            Self::Decode8 | Self::Decode16 | Self::CurveSequences => "llama-batched-bench",
            _served => "llama-server",
        }
    }

    /// As `--only` names it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is measured for every model, not only for the first.
    pub(super) fn for_every_model(self) -> bool {
        matches!(self, Self::Prefill | Self::Decode | Self::Decode8 | Self::Decode16)
    }

    /// The row whose best peer settings it uses.
    pub(super) fn tuned_as(self) -> Self {
        match self {
            Self::Chats16 | Self::Start | Self::Idle => Self::Chats8,
            Self::CurvePrefill => Self::Prefill,
            Self::CurveContext => Self::Depth,
            Self::CurveSequences => Self::Decode16,
            Self::CurvePrefix => Self::Prefix,
            own => own,
        }
    }

    /// What it measures, in the order of a sample's values; for curves nothing.
    pub(super) fn metrics(self, label: &str) -> Vec<Metric> {
        let figure = |name, unit, goals: Option<(Goal, Option<Goal>)>| Metric {
            name,
            unit,
            target: goals.map(|(target, _)| target),
            stretch: goals.and_then(|(_, stretch)| stretch),
        };
        let ratio = |target, stretch| Some((Goal::Ratio(target), Some(Goal::Ratio(stretch))));
        let at_most = |target, stretch| Some((Goal::AtMost(target), Some(Goal::AtMost(stretch))));
        let speed = |name, goals| figure(name, Unit::TokensPerSecond, goals);
        let by_type = self.goal_by_type(label).and_then(|(target, stretch)| ratio(target, stretch));
        match self {
            Self::Prefill => vec![speed("prefill of 512", by_type)],
            Self::Decode => vec![speed("decode, 1 sequence", by_type)],
            Self::Decode8 => vec![speed("decode, 8 sequences", by_type)],
            Self::Decode16 => vec![speed("decode, 16 sequences", by_type)],
            Self::Depth => vec![speed("decode after 4,096 tokens", ratio(1.5, 2.5))],
            Self::Chats8 => vec![
                speed("8 chats", ratio(3.0, 4.0)),
                figure("8 chats: TTFT p50", Unit::Milliseconds, ratio(1.0 / 3.0, 0.2)),
                figure("8 chats: ITL p99", Unit::Milliseconds, None),
                figure("8 chats: resident memory, peak", Unit::Mebibytes, ratio(0.6, 0.4)),
            ],
            Self::Chats16 => vec![
                speed("16 chats", ratio(3.0, 4.0)),
                figure("16 chats: TTFT p50", Unit::Milliseconds, Some((Goal::Ratio(0.2), None))),
                figure("16 chats: ITL p99", Unit::Milliseconds, None),
            ],
            Self::Gap => {
                vec![figure("worst gap in 4 streams, 1,500 tokens arrive", Unit::Milliseconds, at_most(150.0, 80.0))]
            }
            Self::Prefix => {
                vec![figure("TTFT, shared prefix of 1,000 tokens", Unit::Milliseconds, ratio(0.5, 0.25))]
            }
            Self::Start => vec![figure("start to first answer", Unit::Seconds, at_most(0.5, 0.3))],
            // One tick of the kernel's clock in five seconds.
            Self::Idle => vec![figure("idle CPU", Unit::Percent, Some((Goal::AtMost(0.2), None)))],
            Self::CurvePrefill | Self::CurveContext | Self::CurveSequences | Self::CurvePrefix => Vec::new(),
        }
    }

    /// Target and stretch of the ratio, which depend on the weights' type.
    fn goal_by_type(self, label: &str) -> Option<(f64, f64)> {
        match (label.to_lowercase().as_str(), self) {
            ("q4_1", Self::Prefill) => Some((2.8, 3.4)),
            ("q4_1", Self::Decode) => Some((1.8, 2.4)),
            ("q4_1", Self::Decode8) => Some((3.2, 4.5)),
            ("q4_1", Self::Decode16) => Some((3.5, 5.0)),
            ("q4_0", Self::Prefill) => Some((1.7, 2.1)),
            ("q4_0", Self::Decode) => Some((1.8, 2.2)),
            ("q4_0", Self::Decode16) => Some((2.2, 2.8)),
            ("q8_0", Self::Prefill) => Some((1.6, 2.0)),
            ("q8_0", Self::Decode) => Some((1.4, 1.7)),
            ("gemma", Self::Prefill) => Some((1.9, 2.3)),
            ("gemma", Self::Decode) => Some((1.6, 1.8)),
            ("gemma", Self::Decode16) => Some((2.2, 3.0)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_belong_to_the_weights_type() {
        let target = |row: Row, label| row.metrics(label)[0].target;
        assert_eq!(target(Row::Prefill, "Q4_1"), Some(Goal::Ratio(2.8)));
        assert_eq!(target(Row::Decode16, "Gemma"), Some(Goal::Ratio(2.2)));
        assert_eq!(target(Row::Decode8, "Q4_0"), None);
        assert_eq!(target(Row::Gap, "anything"), Some(Goal::AtMost(150.0)));
        for row in Row::value_variants() {
            assert_eq!(row.metrics("q4_1").is_empty(), row.is_curve(), "{row:?}");
            assert_eq!(row.tuned_as(), row.tuned_as().tuned_as(), "{row:?}");
        }
    }
}
