//! The table of cohorts.

use serde_json::Value;

use crate::output::table;

/// A row for each week in which some came first, a column for each week after it.
pub(super) fn shown(answer: &Value) -> String {
    let cohorts = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ages = |cohort: &Value| cohort["ages"].as_array().cloned().unwrap_or_default();
    let longest = cohorts.iter().map(|cohort| ages(cohort).len()).max().unwrap_or(0);
    let heads = ["FIRST WEEK".to_owned(), "CAME".to_owned()].into_iter();
    let mut rows = vec![heads.chain((1..longest).map(|age| format!("+{age}"))).collect::<Vec<_>>()];
    for cohort in cohorts {
        let percent =
            |age: &Value| age["share"].as_f64().map_or_else(String::new, |share| format!("{:.0}%", share * 100.0));
        let mut row = vec![
            cohort["week"].as_str().unwrap_or("-").to_owned(),
            cohort["units"].as_u64().unwrap_or_default().to_string(),
        ];
        row.extend(ages(cohort).iter().skip(1).map(percent));
        row.resize(longest.saturating_add(1).max(2), String::new());
        rows.push(row);
    }
    let noun = if answer["of"] == "project" { "projects" } else { "end users" };
    format!(
        "{}Share of the {noun} that first came in a week and came again so many weeks later (weeks from Monday, UTC); the \
         week from {} is not over. --json has the intervals\n",
        table(&rows),
        answer["partial"].as_str().unwrap_or("-")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn later_cohorts_have_fewer_weeks() {
        let ages = |shares: &[f64]| shares.iter().map(|share| json!({"share": share})).collect::<Vec<_>>();
        let answer = json!({"of": "end_user", "partial": "2026-11-23", "data": [
            {"week": "2026-11-09", "units": 40, "ages": ages(&[1.0, 0.5, 0.25])},
            {"week": "2026-11-23", "units": 7, "ages": ages(&[1.0])},
        ]});
        let shown = super::shown(&answer);
        let words = |line: usize| shown.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(0), ["FIRST", "WEEK", "CAME", "+1", "+2"]);
        assert_eq!(words(1), ["2026-11-09", "40", "50%", "25%"]);
        assert_eq!(words(2), ["2026-11-23", "7"]);
        assert!(shown.contains("the week from 2026-11-23 is not over"), "{shown}");
    }
}
