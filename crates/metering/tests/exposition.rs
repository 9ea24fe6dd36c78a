//! The Prometheus text, read back by a strict parser: every rule of format 0.0.4 that the renderer relies on is checked,
//! and the sums must equal the records.
#![expect(clippy::panic, clippy::expect_used, reason = "the parser of a test")]

use std::collections::{BTreeMap, BTreeSet};

use metering::{ClassTime, FinishReason, LineGauges, Meter, Objectives, Outcome, Rejection, UsageRecord};

type Labels = BTreeMap<String, String>;

/// Bounds with cumulated counts, sum, count.
type Series = (Vec<(f64, f64)>, Option<f64>, Option<f64>);

#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64, String)>,
}

/// Parses or panics. Checks: HELP and TYPE once, before the samples, families contiguous; legal names; label escapes; no
/// series twice; counters end in `_total`; histograms cumulative, with `+Inf` = `_count`, and with `_sum`.
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("expected HELP, got {line:?}"));
        let (name, help) = help.split_once(' ').expect("a help text");
        assert!(!help.is_empty() && is_name(name), "{line:?}");
        let kind =
            lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect("TYPE").to_owned();
        let mut family = Family { kind, ..Family::default() };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (sample, labels, value) = parse_sample(line);
            let belongs = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| sample == format!("{name}{end}")),
                "counter" => sample == name && name.ends_with("_total"),
                "gauge" => sample == name,
                other => panic!("unknown type {other}"),
            };
            assert!(belongs, "{sample} in family {name}");
            assert!(seen.insert((sample.clone(), labels.clone())), "series twice: {line}");
            let number = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            family.samples.push((sample, labels, number, value));
        }
        if family.kind == "histogram" {
            check_histograms(name, &family);
        }
        assert!(families.insert(name.to_owned(), family).is_none(), "family twice: {name}");
    }
    families
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn parse_sample(line: &str) -> (String, Labels, String) {
    let end = line.find(['{', ' ']).expect("a value");
    let name = &line[..end];
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    let mut rest = &line[end..];
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").expect("label=\"");
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next().expect("closing quote") {
                    (i, '"') => break i,
                    (_, '\\') => value.push(match chars.next().expect("escape").1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("bad escape \\{c}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "label twice: {line}");
            inner = &after[close + 1..];
            match inner.strip_prefix(',') {
                Some(next) => inner = next,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').expect("closing brace");
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').expect("one space").to_owned())
}

fn check_histograms(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Series> = BTreeMap::new();
    for (sample, labels, number, _) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.remove("le").map(|le| le.parse::<f64>().expect("a bound"));
        let entry = series.entry(labels).or_default();
        match bound {
            Some(bound) => entry.0.push((bound, *number)),
            None if sample.ends_with("_sum") => entry.1 = Some(*number),
            None => entry.2 = Some(*number),
        }
    }
    for (buckets, sum, count) in series.values() {
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        let last = buckets.last().expect("buckets");
        assert!(last.0.is_infinite() && Some(last.1) == *count && sum.is_some(), "{name}");
    }
}

/// The value of one series as it stands in the text.
fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> String {
    let family = families
        .get(name)
        .or_else(|| ["_sum", "_count", "_bucket"].iter().find_map(|end| families.get(name.strip_suffix(end)?)))
        .unwrap_or_else(|| panic!("no family of {name}"));
    let labels: Labels = labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let sample = family.samples.iter().find(|sample| sample.0 == name && sample.1 == labels);
    sample.unwrap_or_else(|| panic!("no series {name} {labels:?}")).3.clone()
}

fn record(model: &str, n: u64) -> UsageRecord {
    UsageRecord {
        request_id: format!("r{n}"),
        model: model.to_owned(),
        route: "/v1/completions".to_owned(),
        key: Some(format!("key-{n}")),
        user: Some(format!("user \"{n}\"\n")),
        outcome: Outcome::ALL[(n % 3) as usize],
        finish_reasons: vec![FinishReason::ALL[(n % 4) as usize], FinishReason::Stop],
        input_uncached_tokens: n,
        input_cached_tokens: 2 * n,
        output_tokens: 3 * n,
        reasoning_tokens: n.is_multiple_of(2).then_some(5 * n),
        output_dropped_tokens: 7 * n,
        queue_ns: n * 1_000_003,
        prefill_ns: n * 11_000_001,
        decode_ns: n * 13_000_001,
        ttft_ns: (!n.is_multiple_of(5)).then_some(n * 17_000_001),
        e2e_ns: n * 1_900_000_001,
        gap_count: n,
        gap_sum_ns: n * 23_000_001,
        gap_max_ns: 29,
        gap_lengths: [(4_700_000 + 100_000 * (n % 12), n)].into(),
        kv_block_ns: n * 31,
        ..UsageRecord::default()
    }
}

fn seconds(ns: u128) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[test]
fn sums_equal_the_records() {
    let meter = Meter::new();
    let records: Vec<_> = (1..=100).map(|n| record("m", n)).collect();
    records.iter().for_each(|record| meter.record(record));
    meter.record(&record("other", 1));
    let families = parse(&meter.render(&[]));
    let own = |name: &str, more: &[(&str, &str)]| value(&families, name, &[&[("model", "m")], more].concat());
    let vllm = |name: &str, more: &[(&str, &str)]| value(&families, name, &[&[("model_name", "m")], more].concat());
    let sum = |of: fn(&UsageRecord) -> u64| records.iter().map(of).sum::<u64>();
    let sum_ns = |of: fn(&UsageRecord) -> u64| seconds(records.iter().map(|r| u128::from(of(r))).sum());

    let input = "tokenworks_input_tokens_total";
    assert_eq!(own(input, &[("source", "computed")]), sum(|r| r.input_uncached_tokens).to_string());
    assert_eq!(own(input, &[("source", "cache")]), sum(|r| r.input_cached_tokens).to_string());
    let output = "tokenworks_output_tokens_total";
    assert_eq!(own(output, &[("kind", "visible")]), sum(|r| r.output_tokens).to_string());
    assert_eq!(own(output, &[("kind", "reasoning")]), sum(|r| r.reasoning_tokens.unwrap_or(0)).to_string());
    assert_eq!(own(output, &[("kind", "dropped")]), sum(|r| r.output_dropped_tokens).to_string());
    assert_eq!(vllm("vllm:prompt_tokens_total", &[]), sum(UsageRecord::prompt_tokens).to_string());
    assert_eq!(vllm("vllm:generation_tokens_total", &[]), sum(UsageRecord::completion_tokens).to_string());
    assert_eq!(own("tokenworks_kv_block_seconds_total", &[]), sum_ns(|r| r.kv_block_ns));
    for (i, outcome) in Outcome::ALL.iter().enumerate() {
        let count = records.iter().filter(|r| r.outcome == *outcome).count();
        assert!(count > 0, "{i}");
        assert_eq!(own("tokenworks_requests_total", &[("outcome", outcome.as_str())]), count.to_string());
    }
    for reason in FinishReason::ALL {
        let reasons = || records.iter().flat_map(|r| &r.finish_reasons);
        let count = reasons().filter(|r| **r == reason).count().to_string();
        assert_eq!(own("tokenworks_candidates_total", &[("finish_reason", reason.as_str())]), count);
        let word = reason.as_vllm_str();
        let count = reasons().filter(|r| r.as_vllm_str() == word).count().to_string();
        assert_eq!(vllm("vllm:request_success_total", &[("finished_reason", word)]), count);
    }
    let made: Vec<_> = records.iter().filter(|r| r.ttft_ns.is_some()).collect();
    let ttft_ns = seconds(made.iter().map(|r| u128::from(r.ttft_ns.unwrap_or(0))).sum());
    let decode_ns = seconds(made.iter().map(|r| u128::from(r.decode_ns)).sum());
    for (name, also, sum, count) in [
        ("tokenworks_time_to_first_token_seconds", "vllm:time_to_first_token_seconds", ttft_ns, made.len()),
        ("tokenworks_request_queue_seconds", "vllm:request_queue_time_seconds", sum_ns(|r| r.queue_ns), 100),
        ("tokenworks_request_prefill_seconds", "vllm:request_prefill_time_seconds", sum_ns(|r| r.prefill_ns), 100),
        ("tokenworks_request_decode_seconds", "vllm:request_decode_time_seconds", decode_ns, made.len()),
        ("tokenworks_request_duration_seconds", "vllm:e2e_request_latency_seconds", sum_ns(|r| r.e2e_ns), 100),
        ("tokenworks_inter_token_latency_seconds", "vllm:inter_token_latency_seconds", sum_ns(|r| r.gap_sum_ns), 5050),
        (
            "tokenworks_inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
            sum_ns(|r| r.gap_sum_ns),
            5050,
        ),
    ] {
        for (labelled, name) in [(&own as &dyn Fn(&str, &[(&str, &str)]) -> String, name), (&vllm, also)] {
            assert_eq!(labelled(&format!("{name}_sum"), &[]), sum, "{name}");
            assert_eq!(labelled(&format!("{name}_count"), &[]), count.to_string(), "{name}");
        }
    }
    let gaps_below_5ms = sum(|r| if r.gap_count % 12 <= 3 { r.gap_count } else { 0 }).to_string();
    assert_eq!(own("tokenworks_inter_token_latency_seconds_bucket", &[("le", "0.005")]), gaps_below_5ms);
}

#[test]
fn gauges_are_those_of_the_moment() {
    let meter = Meter::new();
    let line = LineGauges {
        model: "we\"ird\\name\n".to_owned(),
        ready: true,
        running: 3,
        waiting: 4,
        kv_blocks_used: 1,
        kv_blocks_cached: 2,
        kv_blocks_total: 8,
        steps: 9,
        busy_ns: 1_500_000_000,
        draft_ns: 250_000_000,
        prefill_columns: 10,
        decode_columns: 11,
        draft_accepted_tokens: 16,
        draft_rejected_tokens: 17,
        prefix_queries_tokens: 12,
        prefix_hits_tokens: 13,
        preemptions: 14,
        kv_block_ns: 15,
        classes: vec![ClassTime { class: "mixed", steps: 5, predicted_ns: 2_000_000_000, busy_ns: 2_500_000_000 }],
    };
    let families = parse(&meter.render(std::slice::from_ref(&line)));
    let model = line.model.as_str();
    for (name, label, expected) in [
        ("tokenworks_ready", "model", "1"),
        ("tokenworks_requests_running", "model", "3"),
        ("vllm:num_requests_running", "model_name", "3"),
        ("vllm:num_requests_waiting", "model_name", "4"),
        ("vllm:kv_cache_usage_perc", "model_name", "0.125"),
        ("tokenworks_kv_cache_usage_ratio", "model", "0.125"),
        ("tokenworks_kv_blocks_cached", "model", "2"),
        ("tokenworks_busy_seconds_total", "model", "1.5"),
        ("tokenworks_draft_seconds_total", "model", "0.25"),
        ("vllm:prefix_cache_queries_total", "model_name", "12"),
        ("vllm:prefix_cache_hits_total", "model_name", "13"),
        ("vllm:num_preemptions_total", "model_name", "14"),
        ("vllm:prompt_tokens_total", "model_name", "0"),
        ("tokenworks_time_to_first_token_seconds_count", "model", "0"),
    ] {
        assert_eq!(value(&families, name, &[(label, model)]), expected, "{name}");
    }
    for (name, expected) in [
        ("tokenworks_class_steps_total", "5"),
        ("tokenworks_class_predicted_seconds_total", "2"),
        ("tokenworks_class_busy_seconds_total", "2.5"),
    ] {
        assert_eq!(value(&families, name, &[("model", model), ("class", "mixed")]), expected, "{name}");
    }
    let later = meter.render(&[LineGauges { running: 0, ..line.clone() }]);
    assert_eq!(value(&parse(&later), "vllm:num_requests_running", &[("model_name", model)]), "0");
}

#[test]
fn families_kept_elsewhere_are_shown_exactly() {
    let meter = Meter::new();
    let sample = |text: &str, billionths| metering::Sample { labels: vec![("label", text.to_owned())], billionths };
    let samples = vec![sample("a \"b\"", 1_500_000_000), sample("c", -1), sample("d", 0)];
    let elsewhere = metering::Family { name: "other_total", kind: "counter", help: "Something.", samples };
    let families = parse(&[meter.render(&[]), metering::render_families(&[elsewhere])].concat());
    for (label, expected) in [("a \"b\"", "1.5"), ("c", "-0.000000001"), ("d", "0")] {
        assert_eq!(value(&families, "other_total", &[("label", label)]), expected);
    }
}

#[test]
fn two_lines_of_one_name_give_one_series() {
    let line = LineGauges { model: "m".to_owned(), ..LineGauges::default() };
    parse(&Meter::new().render(&[line.clone(), line]));
}

#[test]
fn what_clients_write_is_no_label() {
    let meter = Meter::new();
    (1..50).for_each(|n| meter.record(&record("m", n)));
    let before = meter.render(&[]).lines().count();
    (50..500).for_each(|n| meter.record(&record("m", n)));
    let text = meter.render(&[]);
    assert_eq!(text.lines().count(), before);
    assert!(!text.contains("key-") && !text.contains("user "));
}

#[test]
fn rejections_are_counted_apart() {
    let meter = Meter::new();
    meter.reject("m", Rejection::QueueFull);
    meter.reject("m", Rejection::QueueFull);
    let families = parse(&meter.render(&[]));
    let rejected =
        |reason| value(&families, "tokenworks_requests_rejected_total", &[("model", "m"), ("reason", reason)]);
    assert_eq!((rejected("queue_full").as_str(), rejected("closed").as_str()), ("2", "0"));
    assert_eq!(value(&families, "tokenworks_requests_total", &[("model", "m"), ("outcome", "ok")]), "0");
}

#[test]
fn goodput_is_counted_where_objectives_are_stated() {
    let limit_ns = record("m", 50).e2e_ns;
    let records: Vec<_> = (1..=100).map(|n| record("m", n)).collect();
    let counted = |meter: Meter| {
        records.iter().for_each(|record| meter.record(record));
        let families = parse(&meter.render(&[]));
        ["tokenworks_objectives_stated_total", "tokenworks_objectives_met_total"]
            .map(|name| value(&families, name, &[("model", "m")]))
    };
    let met = records.iter().filter(|record| record.outcome == Outcome::Ok && record.e2e_ns <= limit_ns).count();
    let held = Meter::new().held_to(Objectives { e2e_ns: Some(limit_ns), ..Objectives::default() });
    assert_eq!((counted(held), met), (["100".to_owned(), met.to_string()], 16));
    assert_eq!(counted(Meter::new()), ["0", "0"]);
}

#[test]
fn threads_lose_nothing() {
    let meter = Meter::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..250).for_each(|_| meter.record(&record("m", 2))));
        }
    });
    let families = parse(&meter.render(&[]));
    assert_eq!(value(&families, "tokenworks_output_tokens_total", &[("model", "m"), ("kind", "visible")]), "6000");
}
