//! Tests of `limits`.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

fn subject(level: Level, id: &str) -> Subject {
    Subject { level, id: Arc::from(id) }
}

fn requests(limit: u64) -> Limits {
    Limits { requests_per_minute: Some(limit), ..Limits::default() }
}

const NONE: Demand = Demand { input: 0, output: 0 };

#[test]
fn all_levels_or_none() {
    let limiter = Arc::new(Limiter::default());
    let key = (subject(Level::Key, "k"), requests(5));
    let team = (subject(Level::Team, "t"), requests(1));
    let first = limiter.reserve(0, &[key.clone(), team.clone()], NONE).map(|admitted| admitted.standings).unwrap();
    assert_eq!(first.requests, Some(Standing { limit: 1, remaining: 0, reset_ms: 61_000 }));
    let refused = limiter.reserve(1_500, &[key.clone(), team], NONE).map(drop).unwrap_err();
    let Limited::Rate { subject, retry_after_ms, limit, .. } = refused else { panic!("{refused}") };
    assert_eq!((subject.level, limit, retry_after_ms), (Level::Team, 1, 59_500));
    // The key's count was not touched by the refused request.
    let alone = limiter.reserve(1_600, &[key], NONE).map(|admitted| admitted.standings).unwrap();
    assert_eq!(alone.requests.unwrap().remaining, 3);
}

#[test]
fn what_was_too_much_is_free_at_once() {
    let limiter = Arc::new(Limiter::default());
    let limits = Limits { total_tokens_per_minute: Some(100), ..Limits::default() };
    let subjects = [(subject(Level::Project, "p"), limits)];
    let mut first = limiter.reserve(0, &subjects, Demand { input: 10, output: 80 }).unwrap();
    let more = Demand { input: 10, output: 20 };
    assert!(limiter.reserve(10, &subjects, more).is_err());
    first.settle(15, Demand { input: 10, output: 5 });
    let second = limiter.reserve(20, &subjects, more).unwrap();
    assert_eq!(second.standings.tokens.unwrap().remaining, 55);
    second.cancel();
    let third = limiter.reserve(30, &subjects, Demand { input: 85, output: 0 }).unwrap();
    assert_eq!(third.standings.tokens.unwrap().remaining, 0);
    let large = limiter.reserve(99_000, &subjects, Demand { input: 101, output: 0 }).map(drop).unwrap_err();
    assert!(matches!(large, Limited::TooLarge { needed: 101, limit: 100, .. }), "{large}");
}

#[test]
fn a_running_request_is_counted_while_it_grows() {
    let limiter = Arc::new(Limiter::default());
    let limits = Limits { output_tokens_per_minute: Some(100), ..Limits::default() };
    let subjects = [(subject(Level::Key, "k"), limits)];
    let remaining = |now_ms| {
        let probe = limiter.reserve(now_ms, &subjects, NONE).unwrap();
        probe.standings.tokens.unwrap().remaining
    };
    let mut running = limiter.reserve(0, &subjects, Demand { input: 5, output: 40 }).unwrap();
    running.count_output(70_000, 90);
    assert_eq!(remaining(70_000), 10, "the first 40 are long past");
    running.count_output(71_000, 50);
    assert_eq!(remaining(71_000), 0);
    running.settle(72_000, Demand { input: 5, output: 135 });
    assert_eq!(remaining(72_000), 5, "45 of the last 50 were not used");
    running.settle(73_000, Demand { input: 5, output: 137 });
    assert_eq!(remaining(73_000), 3);
}

#[test]
fn requests_at_one_time_are_counted_by_guards() {
    let limiter = Arc::new(Limiter::default());
    let subjects = [(subject(Level::Key, "k"), Limits { concurrent_requests: Some(2), ..Limits::default() })];
    let first = limiter.reserve(0, &subjects, NONE).unwrap();
    let _second = limiter.reserve(0, &subjects, NONE).unwrap();
    assert!(matches!(limiter.reserve(0, &subjects, NONE), Err(Limited::Concurrency { limit: 2, .. })));
    drop(first);
    assert!(limiter.reserve(0, &subjects, NONE).is_ok());
}

#[test]
fn end_users_of_one_organisation_crowd_out_nobody_else() {
    let limiter = Arc::new(Limiter::default());
    let user = |id: &str| (subject(Level::EndUser, id), requests(1));
    let reserve = |now_ms, subjects: &[(Subject, Limits)]| limiter.reserve(now_ms, subjects, NONE).map(drop);
    for n in 0..MAX_END_USERS {
        reserve(0, &[user(&format!("acme/{n}"))]).unwrap();
    }
    let refused = reserve(60_999, &[user("acme/next")]).unwrap_err();
    assert!(matches!(refused, Limited::Crowded { limit: MAX_END_USERS, .. }), "{refused}");
    reserve(60_999, &[user("other/next"), (subject(Level::Key, "k"), requests(1))]).unwrap();
    reserve(60_999, &[(subject(Level::Organisation, "acme"), requests(1))]).unwrap();
    // Idle ones are dropped when room is needed.
    reserve(61_000, &[user("acme/next")]).unwrap();
    assert_eq!(limiter.subjects(), 4);
}

#[test]
fn what_was_counted_in_steps_is_given_back_in_full() {
    let limiter = Arc::new(Limiter::default());
    let limits = Limits { output_tokens_per_minute: Some(1_000), ..Limits::default() };
    let subjects = [(subject(Level::Key, "k"), limits)];
    let remaining = |now_ms| {
        let probe = limiter.reserve(now_ms, &subjects, NONE).unwrap();
        probe.standings.tokens.unwrap().remaining
    };
    let mut first = limiter.reserve(0, &subjects, Demand { input: 1, output: 16 }).unwrap();
    for step in 0..200 {
        first.count_output(1_000 + step * 7, 4);
    }
    assert_eq!(remaining(3_000), 1_000 - 816);
    first.settle(3_000, Demand { input: 1, output: 9 });
    assert_eq!(remaining(3_000), 1_000 - 9);
    // What was counted more than a minute ago is free already and not given back a second time.
    let mut long = limiter.reserve(100_000, &subjects, Demand { input: 1, output: 300 }).unwrap();
    for second in 1..=100 {
        long.count_output(100_000 + second * 1_000, 5);
    }
    long.settle(200_000, Demand { input: 1, output: 0 });
    assert_eq!(remaining(200_000), 1_000);
}

#[test]
fn the_most_that_no_bound_refuses_for_good() {
    let of = |output, total| Limits {
        output_tokens_per_minute: output,
        total_tokens_per_minute: total,
        ..Limits::default()
    };
    let most = |limits: &[Limits], input| {
        let subjects: Vec<_> = limits.iter().map(|limits| (subject(Level::Key, "k"), *limits)).collect();
        most_output(&subjects, input)
    };
    assert_eq!(most(&[of(None, None)], 5), u64::MAX);
    assert_eq!(most(&[of(Some(20), None), of(Some(9), Some(50))], 5), 9);
    assert_eq!(most(&[of(Some(20), Some(50))], 45), 5);
    assert_eq!(most(&[of(None, Some(50))], 60), 1, "the prompt alone is too large");
}

#[test]
fn a_clock_set_back_or_ahead_neither_opens_nor_blocks_the_limit() {
    let limiter = Arc::new(Limiter::default());
    let subjects = [(subject(Level::Key, "k"), requests(2))];
    let admit = |now_ms| limiter.reserve(now_ms, &subjects, NONE).is_ok();
    let year = 365 * 86_400_000;
    assert!(admit(year) && admit(year + 1));
    assert!(!admit(year - 30_000), "a little back");
    assert!(!admit(0), "a year back: the count comes along");
    assert!(!admit(60_999));
    assert!(admit(61_000), "and is free after a minute");
    assert!(admit(i64::MAX) && admit(i64::MIN) && !admit(i64::MIN));
}

#[test]
fn zero_limits_are_refused() {
    assert!(Limits::default().check().is_ok());
    for (limits, field) in [
        (requests(0), "requests_per_minute"),
        (Limits { output_tokens_per_minute: Some(0), ..Limits::default() }, "output_tokens_per_minute"),
        (Limits { concurrent_requests: Some(0), ..Limits::default() }, "concurrent_requests"),
    ] {
        assert_eq!(limits.check().unwrap_err().field, field);
    }
}

#[test]
fn threads_never_pass_a_limit_together() {
    let limiter = Arc::new(Limiter::default());
    let subjects = [(subject(Level::Key, "k"), requests(1_000))];
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                for _ in 0..100 {
                    admitted.fetch_add(u64::from(limiter.reserve(7, &subjects, NONE).is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Over any traffic, no window of a minute lets more than the limit through; and an empty minute opens it fully.
    #[test]
    fn no_minute_passes_its_limit(steps in proptest::collection::vec((0..9_000_i64, 1..40_u64), 1..200), limit in 40..200_u64) {
        let limiter = Arc::new(Limiter::default());
        let limits = Limits { input_tokens_per_minute: Some(limit), ..Limits::default() };
        let subjects = [(subject(Level::Organisation, "o"), limits)];
        let (mut now, mut passed) = (0, Vec::new());
        for (pause, input) in steps {
            now += pause;
            match limiter.reserve(now, &subjects, Demand { input, output: 0 }) {
                Ok(_) => passed.push((now, input)),
                Err(Limited::Rate { retry_after_ms, .. }) => {
                    let then = now + i64::try_from(retry_after_ms).unwrap();
                    let free = limiter.reserve(then - 1, &subjects, Demand { input, output: 0 }).is_err();
                    prop_assert!(free, "one millisecond earlier is too early");
                    let open = limiter.reserve(then, &subjects, Demand { input, output: 0 }).is_ok();
                    prop_assert!(open, "then it is free");
                    (now, _) = (then, passed.push((then, input)));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        for (start, _) in &passed {
            let inside = passed.iter().filter(|(at, _)| (*start..start + 60_000).contains(at));
            prop_assert!(inside.map(|(_, input)| input).sum::<u64>() <= limit);
        }
    }
}
