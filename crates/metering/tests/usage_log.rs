//! Each finished request is one structured log event with every field of its record.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use metering::{FinishReason, Meter, Outcome, UsageRecord};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Keeps the fields of events with target `usage`.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "usage" {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn one_event_with_every_field() {
    let record = UsageRecord {
        request_id: "chatcmpl-1".to_owned(),
        model: "m:a".to_owned(),
        base: Some("m".to_owned()),
        route: "/v1/chat/completions".to_owned(),
        key: Some("team".to_owned()),
        user: Some("u".to_owned()),
        outcome: Outcome::Cancelled,
        finish_reasons: vec![FinishReason::Stop, FinishReason::Cancelled],
        input_uncached_tokens: 1,
        input_cached_tokens: 2,
        output_tokens: 3,
        reasoning_tokens: Some(4),
        output_dropped_tokens: 5,
        prefill_columns: 6,
        decode_columns: 7,
        draft_accepted_tokens: 18,
        draft_rejected_tokens: 19,
        queue_ns: 8,
        prefill_ns: 9,
        decode_ns: 10,
        ttft_ns: Some(11),
        e2e_ns: 12,
        gap_count: 13,
        gap_sum_ns: 14,
        gap_max_ns: 15,
        gap_lengths: [(7, 13)].into(),
        kv_block_ns: 16,
        preemptions: 17,
    };
    let capture = Capture::default();
    tracing::subscriber::with_default(capture.clone(), || Meter::new().record(&record));
    let events = capture.0.lock().unwrap();
    assert_eq!(events.len(), 1);
    let mut event = events[0].clone();
    assert_eq!(event.remove("message").as_deref(), Some("request finished"));

    let serde_json::Value::Object(fields) = serde_json::to_value(&record).unwrap() else { panic!("an object") };
    let expected: BTreeMap<_, _> = fields
        .into_iter()
        .map(|(name, value)| {
            let text = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Array(reasons) => {
                    reasons.iter().filter_map(|reason| reason.as_str()).collect::<Vec<_>>().join(",")
                }
                value => value.to_string(),
            };
            (name, text)
        })
        .collect();
    assert_eq!(event, expected);
}
