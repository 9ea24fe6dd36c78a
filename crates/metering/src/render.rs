//! Prometheus text, format 0.0.4: families in a fixed order, exact decimals.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use crate::histogram::Histogram;
use crate::meter::Totals;
use crate::{ClassTime, Family, FinishReason, LineGauges, Outcome, Rejection};

/// Label that names the model in this project's own families.
const MODEL: &str = "model";
/// The same in families under vLLM's names.
const MODEL_NAME: &str = "model_name";

/// A sample's value.
enum Value {
    Count(u64),
    /// Nanoseconds, shown as seconds.
    Time(u128),
    Share(u64, u64),
    Billionths(i128),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Time(ns) => Seconds(ns).fmt(f),
            Self::Billionths(value) => {
                f.write_str(if value < 0 { "-" } else { "" })?;
                Seconds(value.unsigned_abs()).fmt(f)
            }
            Self::Share(_, 0) => f.write_str("0"),
            Self::Share(part, whole) => write!(f, "{}", part as f64 / whole as f64),
        }
    }
}

/// Nanoseconds as a decimal number of seconds, exact.
struct Seconds(u128);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A label's value with backslash, quote and line feed escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The text under construction. Writing to a `String` cannot fail, so results are dropped.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &Value) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", Escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, model: (&str, &str), bounds_ns: &[u64], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound_ns, count) in histogram.cumulative(bounds_ns) {
            let bound = Seconds(u128::from(bound_ns)).to_string();
            self.sample(&bucket, &[model, ("le", &bound)], &Value::Count(count));
        }
        self.sample(&bucket, &[model, ("le", "+Inf")], &Value::Count(histogram.count()));
        self.sample(&format!("{name}_sum"), &[model], &Value::Time(histogram.sum_ns()));
        self.sample(&format!("{name}_count"), &[model], &Value::Count(histogram.count()));
    }
}

/// A family of one sample for each line. Kinds: `gauge`, `counter`.
struct LineFamily {
    own: &'static str,
    vllm: Option<&'static str>,
    kind: &'static str,
    help: &'static str,
    value: fn(&LineGauges) -> Value,
}

const LINE_FAMILIES: [LineFamily; 17] = [
    LineFamily {
        own: "tokenworks_ready",
        vllm: None,
        kind: "gauge",
        help: "1 when the line takes new requests.",
        value: |line| Value::Count(u64::from(line.ready)),
    },
    LineFamily {
        own: "tokenworks_requests_running",
        vllm: Some("vllm:num_requests_running"),
        kind: "gauge",
        help: "Sequences in the running batch.",
        value: |line| Value::Count(line.running),
    },
    LineFamily {
        own: "tokenworks_requests_waiting",
        vllm: Some("vllm:num_requests_waiting"),
        kind: "gauge",
        help: "Requests waiting to run.",
        value: |line| Value::Count(line.waiting),
    },
    LineFamily {
        own: "tokenworks_kv_blocks_used",
        vllm: None,
        kind: "gauge",
        help: "KV blocks referenced by a sequence.",
        value: |line| Value::Count(line.kv_blocks_used),
    },
    LineFamily {
        own: "tokenworks_kv_blocks_cached",
        vllm: None,
        kind: "gauge",
        help: "KV blocks kept for the prefix cache only; they can be taken at any time.",
        value: |line| Value::Count(line.kv_blocks_cached),
    },
    LineFamily {
        own: "tokenworks_kv_blocks",
        vllm: None,
        kind: "gauge",
        help: "KV blocks in the pool.",
        value: |line| Value::Count(line.kv_blocks_total),
    },
    LineFamily {
        own: "tokenworks_kv_cache_usage_ratio",
        vllm: Some("vllm:kv_cache_usage_perc"),
        kind: "gauge",
        help: "Share of the KV blocks referenced by a sequence; 1 is all.",
        value: |line| Value::Share(line.kv_blocks_used, line.kv_blocks_total),
    },
    LineFamily {
        own: "tokenworks_steps_total",
        vllm: None,
        kind: "counter",
        help: "Engine steps.",
        value: |line| Value::Count(line.steps),
    },
    LineFamily {
        own: "tokenworks_busy_seconds_total",
        vllm: None,
        kind: "counter",
        help: "Time spent inside engine steps.",
        value: |line| Value::Time(u128::from(line.busy_ns)),
    },
    LineFamily {
        own: "tokenworks_draft_seconds_total",
        vllm: None,
        kind: "counter",
        help: "The part of the time inside engine steps that a draft model took.",
        value: |line| Value::Time(u128::from(line.draft_ns)),
    },
    LineFamily {
        own: "tokenworks_prefill_columns_total",
        vllm: None,
        kind: "counter",
        help: "Prompt columns computed, recomputation included.",
        value: |line| Value::Count(line.prefill_columns),
    },
    LineFamily {
        own: "tokenworks_decode_columns_total",
        vllm: None,
        kind: "counter",
        help: "Decode columns computed.",
        value: |line| Value::Count(line.decode_columns),
    },
    LineFamily {
        own: "tokenworks_draft_accepted_tokens_total",
        vllm: Some("vllm:spec_decode_num_accepted_tokens_total"),
        kind: "counter",
        help: "Guessed tokens that were made.",
        value: |line| Value::Count(line.draft_accepted_tokens),
    },
    LineFamily {
        own: "tokenworks_draft_rejected_tokens_total",
        vllm: None,
        kind: "counter",
        help: "Guessed tokens that were not made; their columns were computed in vain.",
        value: |line| Value::Count(line.draft_rejected_tokens),
    },
    LineFamily {
        own: "tokenworks_prefix_cache_queries_tokens_total",
        vllm: Some("vllm:prefix_cache_queries_total"),
        kind: "counter",
        help: "Prompt tokens looked up in the prefix cache.",
        value: |line| Value::Count(line.prefix_queries_tokens),
    },
    LineFamily {
        own: "tokenworks_prefix_cache_hits_tokens_total",
        vllm: Some("vllm:prefix_cache_hits_total"),
        kind: "counter",
        help: "Prompt tokens found in the prefix cache.",
        value: |line| Value::Count(line.prefix_hits_tokens),
    },
    LineFamily {
        own: "tokenworks_preemptions_total",
        vllm: Some("vllm:num_preemptions_total"),
        kind: "counter",
        help: "Sequences preempted.",
        value: |line| Value::Count(line.preemptions),
    },
];

/// Upper bounds of what whole requests take (TTFT, queue, prefill, decode, end to end), in nanoseconds. They have two
/// significant digits, as what is counted.
const DURATION_BOUNDS_NS: [u64; 21] = [
    1_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    40_000_000,
    60_000_000,
    80_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
    20_000_000_000,
    40_000_000_000,
    80_000_000_000,
    160_000_000_000,
    640_000_000_000,
];

/// The same of gaps between tokens.
const GAP_BOUNDS_NS: [u64; 11] = [
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// A histogram family of one series for each model.
struct HistogramFamily {
    own: &'static str,
    vllm: &'static [&'static str],
    help: &'static str,
    bounds_ns: &'static [u64],
    value: fn(&Totals) -> &Histogram,
}

const HISTOGRAM_FAMILIES: [HistogramFamily; 6] = [
    HistogramFamily {
        own: "tokenworks_time_to_first_token_seconds",
        vllm: &["vllm:time_to_first_token_seconds"],
        help: "From reception to the first token, queue and prefill included.",
        bounds_ns: &DURATION_BOUNDS_NS,
        value: |totals| &totals.ttft,
    },
    HistogramFamily {
        own: "tokenworks_inter_token_latency_seconds",
        vllm: &["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"],
        help: "Gaps between successive tokens of one candidate.",
        bounds_ns: &GAP_BOUNDS_NS,
        value: |totals| &totals.gaps,
    },
    HistogramFamily {
        own: "tokenworks_request_duration_seconds",
        vllm: &["vllm:e2e_request_latency_seconds"],
        help: "From reception to the end.",
        bounds_ns: &DURATION_BOUNDS_NS,
        value: |totals| &totals.e2e,
    },
    HistogramFamily {
        own: "tokenworks_request_queue_seconds",
        vllm: &["vllm:request_queue_time_seconds"],
        help: "From reception to the first step that worked on the request.",
        bounds_ns: &DURATION_BOUNDS_NS,
        value: |totals| &totals.queue,
    },
    HistogramFamily {
        own: "tokenworks_request_prefill_seconds",
        vllm: &["vllm:request_prefill_time_seconds"],
        help: "Time of the steps that computed the prompt.",
        bounds_ns: &DURATION_BOUNDS_NS,
        value: |totals| &totals.prefill,
    },
    HistogramFamily {
        own: "tokenworks_request_decode_seconds",
        vllm: &["vllm:request_decode_time_seconds"],
        help: "From the first token to the end.",
        bounds_ns: &DURATION_BOUNDS_NS,
        value: |totals| &totals.decode,
    },
];

/// The meter's own families. Models named by `lines` only get zeros.
pub(crate) fn render(mut totals: BTreeMap<String, Totals>, lines: &[LineGauges]) -> String {
    for line in lines {
        if !totals.contains_key(&line.model) {
            totals.insert(line.model.clone(), Totals::default());
        }
    }
    // Two lines with one name would give the same series twice, which a reader refuses as a whole.
    let lines: BTreeMap<&str, &LineGauges> = lines.iter().map(|line| (line.model.as_str(), line)).collect();
    let mut text = Text(String::new());
    for family in &LINE_FAMILIES {
        let names = [(Some(family.own), MODEL), (family.vllm, MODEL_NAME)];
        for (name, label) in names.iter().filter_map(|&(name, label)| Some((name?, label))) {
            text.family(name, family.kind, family.help);
            for (model, line) in &lines {
                text.sample(name, &[(label, model)], &(family.value)(line));
            }
        }
    }
    classes(&mut text, &lines);
    tokens(&mut text, &totals);
    outcomes(&mut text, &totals);
    objectives(&mut text, &totals);
    for family in &HISTOGRAM_FAMILIES {
        let vllm = family.vllm.iter().map(|&name| (name, MODEL_NAME));
        for (name, label) in std::iter::once((family.own, MODEL)).chain(vllm) {
            text.family(name, "histogram", family.help);
            for (model, totals) in &totals {
                text.histogram(name, (label, model), family.bounds_ns, (family.value)(totals));
            }
        }
    }
    text.0
}

/// Families that are kept elsewhere, in the form of [`Meter::render`](crate::Meter::render).
#[must_use]
pub fn render_families(families: &[Family]) -> String {
    let mut text = Text(String::new());
    for family in families {
        text.family(family.name, family.kind, family.help);
        for sample in &family.samples {
            let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(label, text)| (*label, text.as_str())).collect();
            text.sample(family.name, &labels, &Value::Billionths(sample.billionths));
        }
    }
    text.0
}

/// Predicted and measured time of steps, by class of work.
fn classes(text: &mut Text, lines: &BTreeMap<&str, &LineGauges>) {
    let mut family = |name: &str, help: &str, value: fn(&ClassTime) -> Value| {
        text.family(name, "counter", help);
        for (model, line) in lines {
            for class in &line.classes {
                text.sample(name, &[(MODEL, model), ("class", class.class)], &value(class));
            }
        }
    };
    family("tokenworks_class_steps_total", "Steps whose time was predicted, by class of work.", |class| {
        Value::Count(class.steps)
    });
    family(
        "tokenworks_class_predicted_seconds_total",
        "Predicted time of these steps; by it steps are shared.",
        |class| Value::Time(u128::from(class.predicted_ns)),
    );
    family("tokenworks_class_busy_seconds_total", "Measured time of these steps, without a draft model's.", |class| {
        Value::Time(u128::from(class.busy_ns))
    });
}

/// The token meters, disjoint, and vLLM's two sums over them.
fn tokens(text: &mut Text, totals: &BTreeMap<String, Totals>) {
    let input = "tokenworks_input_tokens_total";
    text.family(input, "counter", "Prompt tokens of finished requests, by whether the prefix cache had them.");
    for (model, sums) in totals {
        text.sample(input, &[(MODEL, model), ("source", "computed")], &Value::Count(sums.input_uncached_tokens));
        text.sample(input, &[(MODEL, model), ("source", "cache")], &Value::Count(sums.input_cached_tokens));
    }
    let output = "tokenworks_output_tokens_total";
    text.family(
        output,
        "counter",
        "Tokens made for finished requests: visible and reasoning are billed, dropped are not.",
    );
    for (model, sums) in totals {
        text.sample(output, &[(MODEL, model), ("kind", "visible")], &Value::Count(sums.output_tokens));
        text.sample(output, &[(MODEL, model), ("kind", "reasoning")], &Value::Count(sums.reasoning_tokens));
        text.sample(output, &[(MODEL, model), ("kind", "dropped")], &Value::Count(sums.output_dropped_tokens));
    }
    let prompt = "vllm:prompt_tokens_total";
    text.family(prompt, "counter", "Prompt tokens of finished requests.");
    for (model, sums) in totals {
        let sum = sums.input_uncached_tokens + sums.input_cached_tokens;
        text.sample(prompt, &[(MODEL_NAME, model)], &Value::Count(sum));
    }
    let generation = "vllm:generation_tokens_total";
    text.family(generation, "counter", "Tokens made and billed for finished requests.");
    for (model, sums) in totals {
        let sum = sums.output_tokens + sums.reasoning_tokens;
        text.sample(generation, &[(MODEL_NAME, model)], &Value::Count(sum));
    }
    let kv = "tokenworks_kv_block_seconds_total";
    text.family(kv, "counter", "KV blocks held by finished requests, summed over time.");
    for (model, sums) in totals {
        text.sample(kv, &[(MODEL, model)], &Value::Time(sums.kv_block_ns));
    }
}

/// Requests and candidates by how they ended.
fn outcomes(text: &mut Text, totals: &BTreeMap<String, Totals>) {
    let requests = "tokenworks_requests_total";
    text.family(requests, "counter", "Accepted requests that ended, by outcome.");
    for (model, sums) in totals {
        for (outcome, &count) in Outcome::ALL.iter().zip(&sums.requests) {
            text.sample(requests, &[(MODEL, model), ("outcome", outcome.as_str())], &Value::Count(count));
        }
    }
    let rejected = "tokenworks_requests_rejected_total";
    text.family(rejected, "counter", "Requests turned away before any work was done, by reason.");
    for (model, sums) in totals {
        for (rejection, &count) in Rejection::ALL.iter().zip(&sums.rejected) {
            text.sample(rejected, &[(MODEL, model), ("reason", rejection.as_str())], &Value::Count(count));
        }
    }
    let finished = "tokenworks_candidates_total";
    text.family(finished, "counter", "Candidates that ended, by finish reason.");
    for (model, sums) in totals {
        for (reason, &count) in FinishReason::ALL.iter().zip(&sums.finished) {
            text.sample(finished, &[(MODEL, model), ("finish_reason", reason.as_str())], &Value::Count(count));
        }
    }
    let success = "vllm:request_success_total";
    text.family(success, "counter", "Candidates that ended, by finish reason.");
    for (model, sums) in totals {
        let mut words: Vec<(&str, u64)> = Vec::new();
        for (reason, &count) in FinishReason::ALL.iter().zip(&sums.finished) {
            let word = reason.as_vllm_str();
            match words.iter_mut().find(|(known, _)| *known == word) {
                Some((_, sum)) => *sum += count,
                None => words.push((word, count)),
            }
        }
        for (word, count) in words {
            let labels = [(MODEL_NAME, model.as_str()), ("finished_reason", word)];
            text.sample(success, &labels, &Value::Count(count));
        }
    }
}

/// Requests held to objectives, and those that met them.
fn objectives(text: &mut Text, totals: &BTreeMap<String, Totals>) {
    let mut family = |name: &str, help: &str, value: fn(&Totals) -> u64| {
        text.family(name, "counter", help);
        for (model, sums) in totals {
            text.sample(name, &[(MODEL, model)], &Value::Count(value(sums)));
        }
    };
    family("tokenworks_objectives_stated_total", "Accepted requests that ended under stated objectives.", |sums| {
        sums.stated
    });
    family(
        "tokenworks_objectives_met_total",
        "Of these, the completed ones that met all objectives: the goodput.",
        |sums| sums.met,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (ns, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (5_000_000, "0.005"),
            (1_000_000_000, "1"),
            (12_340_000_000, "12.34"),
            (10_000_000_000, "10"),
            (u128::from(u64::MAX) * 4, "73786976294.83820646"),
        ] {
            assert_eq!(Seconds(ns).to_string(), text);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(Escaped("a\\b\"c\nd\u{e9}").to_string(), "a\\\\b\\\"c\\nd\u{e9}");
    }

    #[test]
    fn an_empty_pool_has_no_usage() {
        assert_eq!(Value::Share(0, 0).to_string(), "0");
        assert_eq!(Value::Share(1, 4).to_string(), "0.25");
    }
}
