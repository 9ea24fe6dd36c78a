//! The file: what is written comes back, in steps of any length, after a restart, for 90 days.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use history::{History, KEPT_DAYS, Metered, Rollup};

const MINUTE_MS: i64 = 60_000;
/// A full hour.
const BEGIN_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// The minute of this number, unlike all others.
fn minute(number: u64) -> Rollup {
    let mut rollup = Rollup::new(BEGIN_MS + i64::try_from(number).unwrap() * MINUTE_MS + 3);
    rollup.length_ns = 60_000_000_000 + number;
    rollup.requests = [number, 2, number % 3];
    (rollup.rejected, rollup.stated, rollup.met) = (number, 3 * number, 2 * number);
    (rollup.input_tokens, rollup.cached_tokens, rollup.output_tokens) = (900 + number, number, 7 * number);
    rollup.busy_ns = 1_000 * number;
    (rollup.running_us, rollup.waiting_us, rollup.kv_used_us, rollup.kv_total_us) =
        (number, 5, 6 * number, 7_680_000_000);
    let cost_nano = i64::try_from(number).unwrap() - 20;
    rollup.metered = Some(Metered { length_ns: 59_000_000_000, energy_uj: 31 * number, cost_nano });
    rollup.charged_nano = number.is_multiple_of(2).then_some(11);
    for one in 0..number {
        rollup.ttft.observe(one * 9_000_000);
        rollup.gaps.observe(one * 3_000_000);
        rollup.e2e.observe(one * one * 50_000_000);
    }
    rollup
}

/// All that a stretch says.
fn all(rollup: &Rollup) -> String {
    format!("{rollup:?}")
}

fn sum(parts: impl IntoIterator<Item = Rollup>) -> Option<Rollup> {
    parts.into_iter().reduce(|mut sum, part| {
        sum.add(&part);
        sum
    })
}

fn open(folder: &Path) -> History {
    History::open(&folder.join("history.sqlite"))
}

#[test]
fn rows_add_up_to_the_same_whatever_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path());
    let minutes: Vec<Rollup> = (0..60).filter(|number| !(20..26).contains(number)).map(minute).collect();
    history.keep(&minutes, BEGIN_MS).unwrap();
    let whole = all(&sum(minutes).unwrap());
    for (step, count, gaps) in [(1, 60, 6), (2, 30, 3), (5, 12, 1), (6, 10, 0), (60, 1, 0)] {
        let steps = history.steps(BEGIN_MS, step * MINUTE_MS, count).unwrap();
        assert_eq!(steps.iter().filter(|step| step.is_none()).count(), gaps, "no server ran for six minutes");
        assert_eq!(all(&sum(steps.into_iter().flatten()).unwrap()), whole, "{step}");
    }
    let third = history.steps(BEGIN_MS + 2 * MINUTE_MS, MINUTE_MS, 1).unwrap().remove(0).unwrap();
    assert_eq!(all(&third), all(&minute(2)), "one alone is as it was");
}

#[test]
fn a_restart_keeps_what_was_and_goes_on_within_the_minute() {
    let folder = tempfile::tempdir().unwrap();
    let cut = Rollup { length_ns: 4_000_000_000, ..minute(0) };
    open(folder.path()).keep(std::slice::from_ref(&cut), BEGIN_MS).unwrap();
    let rest = Rollup { start_ms: BEGIN_MS + 10_000, length_ns: 50_000_000_000, ..minute(5) };
    let history = open(folder.path());
    history.keep(std::slice::from_ref(&rest), BEGIN_MS).unwrap();
    let found = history.steps(BEGIN_MS, MINUTE_MS, 1).unwrap().remove(0).unwrap();
    assert_eq!((found.length_ns, found.output_tokens), (54_000_000_000, 35), "the six seconds between are in none");
    assert_eq!(history.oldest_ms().unwrap(), Some(cut.start_ms));
}

#[test]
fn minutes_older_than_90_days_go() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path());
    history.keep(&[minute(0), minute(1)], BEGIN_MS).unwrap();
    let limit_ms = BEGIN_MS + i64::from(KEPT_DAYS) * DAY_MS;
    history.keep(&[], limit_ms + 3).unwrap();
    assert_eq!(history.oldest_ms().unwrap(), Some(BEGIN_MS + 3), "of that very age");
    history.keep(&[], limit_ms + 4).unwrap();
    assert_eq!(history.oldest_ms().unwrap(), Some(BEGIN_MS + MINUTE_MS + 3));
}

#[test]
fn a_file_that_cannot_be_used_is_told_of_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.sqlite");
    let says = |part: &str| {
        let history = History::open(&path);
        let error = history.steps(BEGIN_MS, MINUTE_MS, 1).unwrap_err();
        assert_eq!(history.keep(&[minute(1)], BEGIN_MS).unwrap_err(), error);
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains("history.sqlite") && text.contains("move the file away"),
            "{text}"
        );
    };
    let garbage = "no database, but long enough to be taken for one ".repeat(40);
    std::fs::write(&path, &garbage).unwrap();
    says("not a database");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);

    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE wines (year INTEGER)").unwrap();
    says("something else");

    std::fs::remove_file(&path).unwrap();
    let minutes: Vec<Rollup> = (0..200).map(minute).collect();
    open(folder.path()).keep(&minutes, BEGIN_MS).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length / 2..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    says("");

    std::fs::remove_file(&path).unwrap();
    open(folder.path()).keep(&minutes, BEGIN_MS).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE minutes SET e2e = x'80' WHERE number = 3", []).unwrap();
    let error = open(folder.path()).steps(BEGIN_MS, MINUTE_MS, 9).unwrap_err();
    assert!(error.to_string().contains("a histogram is damaged"), "{error}");
}

#[test]
fn what_cannot_be_written_is_told_of_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path());
    let other = rusqlite::Connection::open(folder.path().join("history.sqlite")).unwrap();
    other.execute_batch("ALTER TABLE minutes RENAME TO away").unwrap();
    history.keep(&[minute(1)], BEGIN_MS).unwrap_err();
    assert!(history.trouble().unwrap().contains("minutes"));
    other.execute_batch("ALTER TABLE away RENAME TO minutes").unwrap();
    history.keep(&[minute(1)], BEGIN_MS).unwrap();
    assert_eq!(history.trouble(), None);
}
