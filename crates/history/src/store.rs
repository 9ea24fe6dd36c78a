//! The file: what is in it, how it is written and read, and how it is kept small.

use std::path::Path;

use metering::Histogram;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use sidefile::columns::{damaged, number};
use sidefile::{Kind, OpenError};

use crate::packed::{FORMER_DURATIONS_MS, FORMER_GAPS_MS, pack, unpack};
use crate::{KEPT_DAYS, Metered, Rollup};

/// "TwHi". Of version 1 only the histograms differ, and each tells which it is: a file of it goes on as one of version 2.
const KIND: Kind = Kind {
    application_id: 0x5477_4869,
    version: 2,
    schema: SCHEMA,
    pragmas: "PRAGMA journal_size_limit = 4194304; PRAGMA user_version = 2;",
};
const DAY_MS: i64 = 86_400_000;
/// Most rows, whatever the calendar says: a third more than 90 days have minutes, for those that a restart cuts in two.
const MAX_ROWS: u32 = 172_800;

const SCHEMA: &str = "
    CREATE TABLE minutes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        start_ms INTEGER NOT NULL,
        length_ns INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        stated INTEGER NOT NULL,
        met INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        busy_ns INTEGER NOT NULL,
        running_us INTEGER NOT NULL,
        waiting_us INTEGER NOT NULL,
        kv_used_us INTEGER NOT NULL,
        kv_total_us INTEGER NOT NULL,
        ok INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        metered_ns INTEGER,          -- NULL, as the two after it: nobody measured
        energy_uj INTEGER,
        cost_nano INTEGER,
        charged_nano INTEGER,        -- NULL: not known
        ttft BLOB NOT NULL,          -- histograms, packed
        gaps BLOB NOT NULL,
        e2e BLOB NOT NULL
    ) STRICT;
    CREATE INDEX minutes_by_start ON minutes (start_ms);";

/// In the order of [`values`] and [`rollup`].
const COLUMNS: &str = "start_ms, length_ns, rejected, stated, met, input_tokens, cached_tokens, output_tokens, busy_ns,
    running_us, waiting_us, kv_used_us, kv_total_us, ok, cancelled, failed, metered_ns, energy_uj, cost_nano, charged_nano,
    ttft, gaps, e2e";

/// The connection that writes.
pub(crate) struct Writer(Connection);

impl Writer {
    /// Opens the file, or makes it, readable by its owner only.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(sidefile::writer(path, &KIND)?))
    }

    /// Keeps all of these or none, and drops what is too old.
    pub(crate) fn keep(&mut self, rollups: &[Rollup], now_ms: i64) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        let places = vec!["?"; COLUMNS.split(',').count()].join(", ");
        let sql = format!("INSERT INTO minutes ({COLUMNS}) VALUES ({places})");
        for rollup in rollups {
            transaction.prepare_cached(&sql)?.execute(params_from_iter(values(rollup)))?;
        }
        let oldest_ms = now_ms.saturating_sub(i64::from(KEPT_DAYS) * DAY_MS);
        transaction.prepare_cached("DELETE FROM minutes WHERE start_ms < ?1")?.execute([oldest_ms])?;
        let sql = "DELETE FROM minutes WHERE number <= (SELECT max(number) FROM minutes) - ?1";
        transaction.prepare_cached(sql)?.execute([MAX_ROWS])?;
        transaction.commit()
    }
}

/// The connection that reads.
pub(crate) struct Reader(Connection);

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(sidefile::reader(path)?))
    }

    /// Gives `each` what began within these times, the earliest first.
    pub(crate) fn read(&self, (from_ms, to_ms): (i64, i64), mut each: impl FnMut(Rollup)) -> rusqlite::Result<()> {
        let sql = format!("SELECT {COLUMNS} FROM minutes WHERE start_ms >= ?1 AND start_ms < ?2 ORDER BY start_ms");
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut rows = statement.query([from_ms, to_ms])?;
        while let Some(row) = rows.next()? {
            each(rollup(row)?);
        }
        Ok(())
    }

    /// When the earliest that is kept began.
    pub(crate) fn oldest_ms(&self) -> rusqlite::Result<Option<i64>> {
        self.0.query_row("SELECT min(start_ms) FROM minutes", [], |row| row.get(0))
    }
}

fn values(rollup: &Rollup) -> Vec<Value> {
    let whole = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    let mut values = vec![Value::from(rollup.start_ms)];
    values.extend(rollup.counters().map(whole));
    values.extend(rollup.requests.map(whole));
    let metered = rollup.metered;
    let optional = |value: Option<Value>| value.unwrap_or(Value::Null);
    values.push(optional(metered.map(|metered| whole(metered.length_ns))));
    values.push(optional(metered.map(|metered| whole(metered.energy_uj))));
    values.push(optional(metered.map(|metered| metered.cost_nano.into())));
    values.push(optional(rollup.charged_nano.map(Value::from)));
    values.extend([&rollup.ttft, &rollup.gaps, &rollup.e2e].map(|histogram| Value::from(pack(histogram))));
    values
}

fn rollup(row: &Row<'_>) -> rusqlite::Result<Rollup> {
    let mut rollup = Rollup::new(row.get(0)?);
    // The columns stand in this order.
    let mut column = 1;
    let mut next = || {
        column += 1;
        column - 1
    };
    for counter in rollup.counters_mut() {
        *counter = number(row, next())?;
    }
    for count in &mut rollup.requests {
        *count = number(row, next())?;
    }
    let [metered_ns, energy_uj, cost_nano, charged_nano] = [next(), next(), next(), next()];
    if row.get::<_, Option<i64>>(metered_ns)?.is_some() {
        let (length_ns, energy_uj) = (number(row, metered_ns)?, number(row, energy_uj)?);
        rollup.metered = Some(Metered { length_ns, energy_uj, cost_nano: row.get(cost_nano)? });
    }
    rollup.charged_nano = row.get(charged_nano)?;
    rollup.ttft = histogram(row, next(), &FORMER_DURATIONS_MS)?;
    rollup.gaps = histogram(row, next(), &FORMER_GAPS_MS)?;
    rollup.e2e = histogram(row, next(), &FORMER_DURATIONS_MS)?;
    Ok(rollup)
}

fn histogram(row: &Row<'_>, column: usize, former_bounds_ms: &[u64]) -> rusqlite::Result<Histogram> {
    let bytes: Vec<u8> = row.get(column)?;
    unpack(&bytes, former_bounds_ms).ok_or_else(|| damaged(column, "a histogram is damaged"))
}
