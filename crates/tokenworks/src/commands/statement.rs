//! `report --statement`: the income statement of the plant, and where the change from another period came from.

use economics::window::from_rfc3339;
use serde_json::{Value, json};

use super::Context;
use super::report::span;
use crate::cli::books::Report;
use crate::desk::Books;
use crate::error::{Error, Result};
use shown::{changes_text, indices_text, statement_text};

mod shown;

/// Runs `report --statement`.
///
/// # Errors
/// The books' refusal; periods that cannot be compared.
pub fn run(context: &Context, args: &Report) -> Result<()> {
    let later = asked(("--from", args.from.as_deref()), ("--to", args.to.as_deref()))?;
    let earlier = compared(args)?;
    let books = Books::open(context, false)?;
    let read = |query: Vec<String>| books.get(&format!("/statement?{}", query.join("&")));
    let later = read(later)?;
    let Some(earlier) = earlier.map(read).transpose()? else {
        return if args.json { context.output.json(&later) } else { context.output.text(statement_text(&later)) };
    };
    let periods = compared_periods(&earlier, &later)?;
    let comparison = books.get(&format!("/comparison?{periods}"))?;
    let (changes, indices) = (&comparison["changes"], indices(&books, &periods));
    if args.json {
        let answer = json!({"statement": later, "earlier": earlier, "changes": changes, "tfp_index": indices});
        return context.output.json(&answer);
    }
    let text = format!("{}\n{}", statement_text(&later), changes_text(changes, &earlier));
    context.output.text(format!("{text}\n{}", indices_text(&indices)))
}

/// The parameters of the period to compare with.
fn compared(args: &Report) -> Result<Option<Vec<String>>> {
    if let Some(both) = &args.compare {
        let (from, to) = both.split_once("..").ok_or_else(|| {
            Error::usage(format!("--compare {both} is no period"))
                .hint("name its first and its last day, for example --compare 2026-10-01..2026-10-31")
        })?;
        return asked(("--compare", Some(from)), ("--compare", Some(to))).map(Some);
    }
    match (args.compare_from.as_deref(), args.compare_to.as_deref()) {
        (None, None) => Ok(None),
        (from, to) => asked(("--compare-from", from), ("--compare-to", to)).map(Some),
    }
}

/// The parameters of a period: whole days, or exactly from one time to another.
fn asked(from: (&str, Option<&str>), to: (&str, Option<&str>)) -> Result<Vec<String>> {
    let is_time = |text: Option<&str>| text.is_some_and(|text| text.contains('T'));
    if !is_time(from.1) && !is_time(to.1) {
        return span(from, to);
    }
    let second = |(option, text): (&str, Option<&str>)| {
        let missing = || {
            Error::usage(format!("{option} is missing, and the other end is a time"))
                .hint("give two times, or two days")
        };
        let text = text.ok_or_else(missing)?;
        from_rfc3339(text).ok().filter(|ms| *ms >= 0).map(|ms| ms.div_euclid(1000)).ok_or_else(|| {
            Error::usage(format!("{option} {text} is no time"))
                .hint(format!("where one end is a time, give both, for example {option} 2026-11-01T08:00:00Z"))
        })
    };
    Ok(vec![format!("start_time={}", second(from)?), format!("end_time={}", second(to)?), "exact=true".to_owned()])
}

/// The parameters of both periods, as the routes that compare take them.
fn compared_periods(earlier: &Value, later: &Value) -> Result<String> {
    let second = |statement: &Value, field: &str| statement[field].as_i64().ok_or_else(|| unclear(field));
    let exact = later["exact"] == true || earlier["exact"] == true;
    Ok(format!(
        "start_time={}&end_time={}&compare_start_time={}&compare_end_time={}&exact={exact}",
        second(later, "start_time")?,
        second(later, "end_time")?,
        second(earlier, "start_time")?,
        second(earlier, "end_time")?
    ))
}

/// The TFP index by tokens and by outcomes; where there is none, the reason.
fn indices(books: &Books, periods: &str) -> Value {
    let index = |outputs: &str| match books.get(&format!("/tfp-index?{periods}&outputs={outputs}")) {
        Ok(answer) => answer,
        Err(error) => json!({"reason": error.to_string()}),
    };
    json!({"tokens": index("tokens"), "outcomes": index("outcomes")})
}

fn unclear(field: &str) -> Error {
    Error::failure(format!("the server's statement has no `{field}`")).hint("use the same version for both")
}
