//! Tests of what may be asked of the reports.

use super::*;

/// 26 November 2026, 11:30 UTC.
const NOW: i64 = 1_795_692_600;
const TODAY: i64 = NOW - NOW % DAY_S;

fn ask(kind: Kind, query: &str) -> Result<Ask, String> {
    let uri = format!("/x?{query}").parse().unwrap();
    Ask::read(&uri, kind, NOW).map_err(|error| {
        let error = error.body().error;
        format!("{}: {}", error.param.unwrap_or_default(), error.message)
    })
}

#[test]
fn buckets_are_whole_and_end_with_the_present_one() {
    let day = ask(USAGE, &format!("start_time={}", TODAY + 5)).unwrap();
    assert_eq!((day.from, day.to, day.end), (TODAY, TODAY + DAY_S, TODAY + DAY_S));
    let week = ask(USAGE, &format!("start_time={}", TODAY - 30 * DAY_S + 7)).unwrap();
    assert_eq!((week.from, week.to, week.end), (TODAY - 30 * DAY_S, TODAY - 23 * DAY_S, TODAY + DAY_S));
    let next = ask(USAGE, &format!("start_time={}&page={}&limit=31", TODAY - 30 * DAY_S + 7, week.to)).unwrap();
    assert_eq!((next.from, next.to), (week.to, TODAY + DAY_S), "the last page");
    let hours =
        ask(COSTS, &format!("start_time={}&end_time={}&bucket_width=1h", TODAY + 3_599, TODAY + 7_200)).unwrap();
    assert_eq!((hours.from, hours.to, hours.end), (TODAY, TODAY + 7_200, TODAY + 7_200));
    let empty = ask(USAGE, &format!("start_time={}&end_time={}", NOW + 9 * DAY_S, NOW + 9 * DAY_S)).unwrap();
    assert!(empty.to <= empty.from, "nothing is used after now: {empty:?}");
}

#[test]
fn lists_are_written_with_and_without_brackets() {
    let query = "start_time=0&group_by[]=model&group_by=project_id&project_ids%5B%5D=a&project_ids=b&models[]=m";
    let asked = ask(USAGE, query).unwrap();
    assert_eq!(asked.grouped, [true, false, true]);
    assert_eq!(asked.only, [vec!["a".to_owned(), "b".to_owned()], vec![], vec!["m".to_owned()]]);
    assert_eq!(ask(COSTS, "start_time=0&group_by=line_item").unwrap().grouped, [false, false, true]);
}

#[test]
fn what_cannot_be_answered_is_named() {
    for (kind, query, part) in [
        (USAGE, "", "start_time: `start_time` is missing"),
        (
            USAGE,
            "start_time=soon",
            "start_time: `start_time` must be Unix seconds up to the end of the year 9999; got `soon`",
        ),
        (USAGE, "start_time=-1", "start_time:"),
        (USAGE, "start_time=7&end_time=6", "end_time:"),
        (USAGE, "start_time=0&bucket_width=1m", "bucket_width: usage is kept by the hour"),
        (USAGE, "start_time=0&bucket_width=1w", "bucket_width: `bucket_width` must be 1d or 1h"),
        (USAGE, "start_time=0&group_by=user_id", "group_by: `group_by` takes `project_id`, `api_key_id` and `model`"),
        (
            COSTS,
            "start_time=0&group_by[]=model",
            "group_by: `group_by` takes `project_id`, `api_key_id` and `line_item`",
        ),
        (USAGE, "start_time=0&user_ids[]=u", "user_ids[]: `user_ids[]`: usage is not kept by it"),
        (USAGE, "start_time=0&batch=true", "batch:"),
        (USAGE, "start_time=0&limit=32", "limit: `limit` must be from 1 to 31 for this `bucket_width`; got `32`"),
        (USAGE, "start_time=0&limit=0&bucket_width=1h", "limit: `limit` must be from 1 to 168"),
        (USAGE, "start_time=0&page=5", "page:"),
        (USAGE, "start_time=999999&page=0", "page:"),
        (USAGE, "start_time=0&colour=red", "colour: unrecognized parameter `colour`"),
    ] {
        let error = ask(kind, query).unwrap_err();
        assert!(error.starts_with(part), "{query}: {error}");
    }
}

#[test]
fn amounts_are_json_numbers_with_all_their_decimals() {
    for (nano, text) in [(0, "0.00"), (-250_000, "-0.00025"), (i64::MAX, "9223372036.854775807")] {
        let value = amount(Nano(nano)).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }
}
