//! The thread that writes: it never keeps a request waiting, and loses nothing that it has taken.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use inference::Timeline;
use metering::UsageRecord;
use traces::{Content, Deletion, Filter, Owner, Page, Settings, Trace, Traces, TracesError};

fn start(path: &Path) -> Traces {
    Traces::start(path, Settings { keep: 1000, keep_days: 7 }, Arc::new(|_| Some(1)))
}

fn trace(i: usize) -> Trace {
    Trace {
        received_ms: i64::MAX / 2,
        owner: Owner::default(),
        candidates: 1,
        record: UsageRecord { request_id: format!("cmpl-{i}"), ..UsageRecord::default() },
        error: None,
        timeline: Timeline::default(),
        content: None,
    }
}

/// The metrics' values: kept, dropped.
fn counted(traces: &Traces) -> (i128, i128) {
    let counts: Vec<i128> =
        traces.families().iter().map(|family| family.samples[0].billionths / 1_000_000_000).collect();
    (counts[0], counts[1])
}

fn kept(traces: &Traces) -> usize {
    traces.list(&Filter::default(), &Page { limit: 2000, ..Page::default() }).unwrap().requests.len()
}

#[test]
fn what_waits_is_written_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.sqlite");
    let traces = start(&path);
    (0..100).for_each(|i| traces.keep(trace(i)));
    drop(traces);
    let traces = start(&path);
    assert_eq!((kept(&traces), traces.trouble()), (100, None));
    assert!(traces.find("cmpl-99").unwrap().is_some());
}

#[test]
fn a_thread_that_cannot_follow_loses_traces_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let traces = start(&folder.path().join("traces.sqlite"));
    let (release, wait) = channel::<()>();
    let slow = move || {
        let _ = wait.recv();
        Content::default()
    };
    traces.keep(Trace { content: Some(Box::new(slow)), ..trace(0) });
    // The thread stands at the first: the queue takes what it may, and this thread goes on.
    (1..600).for_each(|i| traces.keep(trace(i)));
    let dropped = counted(&traces).1;
    assert!((200..600).contains(&dropped), "{dropped}");
    release.send(()).unwrap();
    // Behind all that was taken.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while traces.delete(Deletion::Request(1)) != Ok(1) {
        assert!(std::time::Instant::now() < end, "the thread never comes to the deletion");
    }
    assert_eq!(counted(&traces), (600 - dropped, dropped));
    assert_eq!(i128::try_from(kept(&traces)).unwrap(), 600 - dropped);
}

#[test]
fn a_place_that_cannot_be_written_costs_traces_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/traces.sqlite");
    let traces = start(&path);
    traces.keep(trace(1));
    assert_eq!(counted(&traces), (0, 1));
    let error = traces.find("cmpl-1").unwrap_err();
    assert!(matches!(&error, TracesError::Unusable { .. }) && error.to_string().contains("missing/traces.sqlite"));
    assert_eq!(traces.delete(Deletion::Project("p".into())), Err(error));
}

#[test]
fn a_thread_that_panics_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let traces = start(&folder.path().join("traces.sqlite"));
    assert_eq!(traces.trouble(), None);
    traces.keep(Trace { content: Some(Box::new(|| panic!("as a text might"))), ..trace(0) });
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while traces.trouble().is_none() {
        assert!(std::time::Instant::now() < end, "the thread never ends");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(traces.trouble().as_deref(), Some("its thread has ended"));
    traces.keep(trace(1));
    assert_eq!(counted(&traces), (0, 1));
    let error = traces.delete(Deletion::Request(1)).unwrap_err().to_string();
    assert!(error.contains("its thread has ended"), "{error}");
    assert_eq!(kept(&traces), 0, "what is there is read still");
}
