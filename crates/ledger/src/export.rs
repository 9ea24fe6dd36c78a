//! Entries as text, for spreadsheets and other programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::book::Account;
use crate::error::StoreError;
use crate::ledger::{self, StoreSpec};
use crate::store::{self, Sql, Stored};
use crate::types::{AccountId, Entry, kind};
use crate::verify::Chains;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line per leg, after a line of names; an entry without legs has one line.
    Csv,
    /// An object per entry, one a line.
    JsonLines,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    writer: u32,
    at_ms: i64,
    kind: String,
    id: Option<String>,
    legs: Vec<LegLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentLine>,
    detail: String,
    hash: String,
}

#[derive(Serialize)]
struct LegLine<'a> {
    account: &'a str,
    account_kind: &'static str,
    unit: u16,
    amount: i64,
}

#[derive(Serialize)]
struct DocumentLine {
    kind: u16,
    key: String,
    version: u64,
    actor: String,
    /// As it is when it is text; else only in the detail.
    body: Option<String>,
}

const COLUMNS: &str = "seq,writer,at_ms,kind,id,account,account_kind,unit,amount,detail,hash";

/// Writes all entries of a store, open or not, from one state of it, and says how many. Bytes are in hexadecimal.
///
/// # Errors
/// The store's, or that `out` takes no more. [`StoreError::Damaged`] when an entry is not what its hash says: the others are
/// written all the same, as far as they can be read.
pub fn export(spec: &StoreSpec, format: Format, out: &mut dyn Write) -> Result<u64, StoreError> {
    let mut sql = ledger::reader(spec)?;
    let sql: &mut dyn Sql = sql.as_mut();
    sql.run("BEGIN")?;
    let mut accounts = Vec::new();
    store::each_account(sql, |_, account| {
        accounts.push(account);
        Ok(())
    })?;
    let written = |error: io::Error| StoreError::Failed(format!("the export cannot be written: {error}"));
    if format == Format::Csv {
        writeln!(out, "{COLUMNS}").map_err(written)?;
    }
    let mut fault = None;
    let last = walk(sql, |stored, checked| {
        fault = fault.take().or(checked.err());
        let line = line(stored, &accounts)?;
        match format {
            Format::Csv => csv(&line, out).map_err(written),
            Format::JsonLines => {
                serde_json::to_writer(&mut *out, &line).map_err(|error| written(error.into()))?;
                writeln!(out).map_err(written)
            }
        }
    })?;
    out.flush().map_err(written)?;
    sql.run("COMMIT")?;
    fault.map_or(Ok(last), Err)
}

/// Shows all entries of a store, open or not, in their order and from one state of it, and says how many. No more than a
/// page of them is in memory at a time. Each is checked against its hash before it is shown.
///
/// # Errors
/// The store's, that an entry is damaged, and the first one of `visit`.
pub fn each_entry<E: From<StoreError>>(
    spec: &StoreSpec,
    mut visit: impl FnMut(&Entry) -> Result<(), E>,
) -> Result<u64, E> {
    let mut sql = ledger::reader(spec)?;
    let sql: &mut dyn Sql = sql.as_mut();
    sql.run("BEGIN")?;
    let last = walk(sql, |stored, checked| {
        checked?;
        visit(&stored.entry)
    })?;
    sql.run("COMMIT")?;
    Ok(last)
}

/// Visits all entries, each with what its place in the chain says of it.
fn walk<E: From<StoreError>>(
    sql: &mut dyn Sql,
    mut visit: impl FnMut(&Stored, Result<(), StoreError>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut chains = Chains::default();
    loop {
        let page = store::entries(sql, chains.seq.saturating_add(1), store::PAGE)?;
        for stored in &page {
            let seq = chains.seq.saturating_add(1);
            let checked = chains.add(stored).map_err(|what| store::damaged(format!("entry {seq}: {what}")));
            visit(stored, checked)?;
        }
        if page.is_empty() {
            let whole = store::meta(sql, "seq")? == chains.seq;
            return if whole { Ok(chains.seq) } else { Err(store::damaged("the last entries are missing").into()) };
        }
    }
}

fn line<'a>(Stored { entry, hash }: &Stored, accounts: &'a [Account]) -> Result<Line<'a>, StoreError> {
    let name = |id: AccountId| usize::try_from(id.0).ok().and_then(|place| accounts.get(place));
    let mut legs = Vec::with_capacity(entry.legs.len());
    for leg in &entry.legs {
        let account = name(leg.account);
        let account = account.ok_or_else(|| store::damaged(format!("entry {} names no account", entry.seq)))?;
        let spec = &account.spec;
        let (account, account_kind) = (spec.name.as_str(), spec.kind.as_str());
        legs.push(LegLine { account, account_kind, unit: spec.unit.0, amount: leg.amount });
    }
    let document = entry.document().map(|document| DocumentLine {
        kind: document.kind,
        key: document.key,
        version: document.version,
        actor: document.actor,
        body: String::from_utf8(document.body).ok(),
    });
    Ok(Line {
        seq: entry.seq,
        writer: entry.writer,
        at_ms: entry.at_ms,
        kind: kind_name(entry),
        id: entry.id.map(|id| id.to_string()),
        legs,
        document,
        detail: hex(&entry.detail),
        hash: hex(hash),
    })
}

fn kind_name(entry: &Entry) -> String {
    match entry.kind {
        kind::OPENED => "opened".to_owned(),
        kind::FLOOR => "floor".to_owned(),
        kind::VOID => "void".to_owned(),
        kind::EXPIRED => "expired".to_owned(),
        kind::DOCUMENT => "document".to_owned(),
        other => other.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn csv(line: &Line<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Line { seq, writer, at_ms, kind, id, detail, hash, .. } = line;
    let id = id.as_deref().unwrap_or_default();
    if line.legs.is_empty() {
        return writeln!(out, "{seq},{writer},{at_ms},{kind},{id},,,,,{detail},{hash}");
    }
    for LegLine { account, account_kind, unit, amount } in &line.legs {
        let account = csv_text(account);
        writeln!(out, "{seq},{writer},{at_ms},{kind},{id},{account},{account_kind},{unit},{amount},{detail},{hash}")?;
    }
    Ok(())
}

/// A field of a CSV file that a spreadsheet neither splits nor takes for a formula.
#[must_use]
pub fn csv_text(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
