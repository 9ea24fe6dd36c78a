//! Which models have to leave memory so that another fits, and the words for when it does not fit. Nothing here acts.

use std::cmp::Reverse;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::memory::Need;
use crate::output::bytes;

/// A model that has a part of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its name.
    pub name: String,
    /// What it takes, or is set aside.
    pub takes: Need,
    /// How long it has had no request; `None`: it has one, or is on its way in or out.
    pub idle: Option<Duration>,
    /// It stays.
    pub pinned: bool,
}

impl Resident {
    fn may_go(&self) -> bool {
        self.idle.is_some() && !self.pinned
    }

    /// What it has, and why it stays if it does.
    fn shown(&self) -> String {
        let state = match (self.pinned, self.idle) {
            (true, _) => " (pinned)",
            (false, None) => " (in use)",
            (false, Some(_)) => " (idle)",
        };
        format!("{} {}{state}", self.name, parts(self.takes))
    }
}

fn parts(need: Need) -> String {
    format!("{} of weights and {} of KV cache", bytes(need.weights), bytes(need.kv))
}

/// The names of those that have to leave so that `need` fits into `limit`, the longest idle first. None has to go that
/// would not be enough with all the others that may.
///
/// # Errors
/// It does not fit even when all leave that may; the message shows the arithmetic.
pub fn make_room(limit: Option<u64>, (name, need): (&str, Need), residents: &[Resident]) -> Result<Vec<String>> {
    let Some(limit) = limit else { return Ok(Vec::new()) };
    let mut taken = residents.iter().fold(0_u64, |sum, resident| sum.saturating_add(resident.takes.total()));
    let fits = |taken: u64| taken.saturating_add(need.total()) <= limit;
    let mut may_go: Vec<&Resident> = residents.iter().filter(|resident| resident.may_go()).collect();
    // The sort is stable: of equals the first goes.
    may_go.sort_by_key(|resident| Reverse(resident.idle));
    let mut leaving = Vec::new();
    for resident in may_go {
        if fits(taken) {
            break;
        }
        taken = taken.saturating_sub(resident.takes.total());
        leaving.push(resident.name.clone());
    }
    if fits(taken) { Ok(leaving) } else { Err(does_not_fit(limit, (name, need), residents)) }
}

fn does_not_fit(limit: u64, (name, need): (&str, Need), residents: &[Resident]) -> Error {
    let others =
        if residents.is_empty() { "" } else { "unload or unpin another model (`tokenworks models unload NAME`), " };
    let mut cause = format!("it is to take {}; all models together may take {}", parts(need), bytes(limit));
    if !residents.is_empty() {
        let shown: Vec<String> = residents.iter().map(Resident::shown).collect();
        cause.push_str(&format!(", of which others have: {}", shown.join(", ")));
    }
    Error::usage(format!("{name} does not fit into memory"))
        .because(cause)
        .hint(format!("{others}set models.{name}.kv_memory lower, or engine.memory higher"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn need(weights: u64, kv: u64) -> Need {
        Need { weights: weights * MIB, kv: kv * MIB }
    }

    /// `name weights kv idle-seconds`; `-`: in use, a `!` behind the name: pinned.
    fn residents(table: &str) -> Vec<Resident> {
        let row = |row: &str| {
            let words: Vec<&str> = row.split_whitespace().collect();
            Resident {
                name: words[0].trim_end_matches('!').to_owned(),
                takes: need(words[1].parse().unwrap(), words[2].parse().unwrap()),
                idle: words[3].parse().ok().map(Duration::from_secs),
                pinned: words[0].ends_with('!'),
            }
        };
        table.split(';').filter(|row| !row.trim().is_empty()).map(row).collect()
    }

    #[test]
    fn the_longest_idle_leave_first() {
        for (limit, weights, kv, table, leaving) in [
            // It fits.
            (100, 60, 40, "", Some("")),
            (100, 30, 10, "a 40 20 9", Some("")),
            // One has to go, then two.
            (100, 30, 11, "a 40 20 9", Some("a")),
            (100, 30, 10, "a 40 20 1; b 20 10 5", Some("b")),
            (100, 60, 10, "a 40 20 1; b 20 10 5", Some("b a")),
            // The longest idle, also where another would do alone.
            (100, 50, 10, "a 40 20 2; b 5 5 7; c 20 5 1", Some("b a")),
            // Of equals the first.
            (100, 60, 10, "a 20 10 3; b 20 10 3", Some("a")),
            // Who is in use or pinned stays.
            (100, 30, 11, "a 40 20 -", None),
            (100, 30, 11, "a! 40 20 9", None),
            (100, 30, 10, "a! 40 20 9; b 20 10 1", Some("b")),
            (100, 60, 10, "a! 10 20 9; b 20 10 1; c 20 10 -", None),
            // It never fits: nobody leaves for it.
            (100, 90, 11, "a 10 10 5", None),
            (100, 90, 11, "", None),
        ] {
            let found = make_room(Some(limit * MIB), ("new", need(weights, kv)), &residents(table));
            let found = found.ok().map(|names| names.join(" "));
            assert_eq!(found.as_deref(), leaving, "{limit}: {weights} + {kv} beside {table}");
        }
        assert_eq!(make_room(None, ("new", need(1 << 40, 1 << 40)), &residents("a 1 1 9")).unwrap(), [""; 0]);
    }

    #[test]
    fn numbers_at_the_edge_do_not_wrap() {
        let whole = Need { weights: u64::MAX, kv: u64::MAX };
        assert!(make_room(Some(u64::MAX - 1), ("new", whole), &residents("a 1 1 -")).is_err());
    }

    #[test]
    fn a_refusal_shows_the_arithmetic() {
        let table = residents("a 40 20 -; b! 20 10 5; c 5 5 1");
        let error = make_room(Some(100 * MIB), ("new", need(30, 11)), &table).unwrap_err();
        assert_eq!(error.what, "new does not fit into memory");
        let cause = error.cause.unwrap();
        for part in [
            "it is to take 30.0 MiB of weights and 11.0 MiB of KV cache",
            "all models together may take 100.0 MiB",
            "a 40.0 MiB of weights and 20.0 MiB of KV cache (in use)",
            "b 20.0 MiB of weights and 10.0 MiB of KV cache (pinned)",
            "c 5.0 MiB of weights and 5.0 MiB of KV cache (idle)",
        ] {
            assert!(cause.contains(part), "{part} in {cause}");
        }
        let alone = make_room(Some(MIB), ("new", need(30, 11)), &[]).unwrap_err().cause.unwrap();
        assert!(alone.ends_with("may take 1.0 MiB"), "{alone}");
    }
}
