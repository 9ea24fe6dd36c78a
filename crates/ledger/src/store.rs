//! What every store can do, its tables, and how the ledger reads them. Writing is in [`crate::group`].

use std::borrow::Cow;
use std::collections::HashMap;

use crate::book::{Account, Book, History};
use crate::error::StoreError;
use crate::pack::{self, Hash};
use crate::tally::Tally;
use crate::types::{AccountId, AccountKind, AccountSpec, Balance, Document, Entry, EntryId, Hold, Unit};

/// One cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
}

impl Value<'_> {
    pub(crate) fn to_static(&self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Int(value) => Value::Int(*value),
            Self::Bytes(value) => Value::Bytes(Cow::Owned(value.to_vec())),
            Self::Text(value) => Value::Text(Cow::Owned(value.to_string())),
        }
    }
}

pub(crate) type Row = Vec<Value<'static>>;

/// Rows of two columns of bytes, all in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    bytes: Vec<u8>,
    /// Where the first and the second of each row end.
    ends: Vec<(usize, usize)>,
}

impl Pairs {
    pub(crate) fn push(&mut self, first: &[u8], second: &[u8]) {
        self.bytes.extend_from_slice(first);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(second);
        self.ends.push((middle, self.bytes.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        begins.zip(&self.ends).map(move |(from, &(middle, end))| (part(from, middle), part(middle, end)))
    }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Bytes,
    Text,
}

/// A table as the ledger writes it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Type)],
    /// How many of the first columns are the key.
    pub(crate) key: usize,
    /// A row with the same key is replaced; otherwise it is an error.
    pub(crate) replace: bool,
}

/// A connection to a store. Statements use the words that SQLite and PostgreSQL share, arguments are `$1`, `$2` in the
/// order in which they first appear.
pub(crate) trait Sql: Send {
    /// Runs statements without arguments: schema, `BEGIN` (one state to read), `BEGIN IMMEDIATE` (the one who writes),
    /// `COMMIT`, `ROLLBACK`.
    fn run(&mut self, script: &str) -> Result<(), StoreError>;
    /// All rows of a query. The query has a `LIMIT`, or its table is small.
    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;
    /// As [`Sql::rows`], of two columns of bytes.
    fn pairs(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Pairs, StoreError> {
        let mut pairs = Pairs::default();
        for row in self.rows(query, arguments)? {
            pairs.push(bytes(&row, 0)?, bytes(&row, 1)?);
        }
        Ok(pairs)
    }
    /// Inserts rows (of as many values as the table has columns each); keys differ.
    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError>;
    /// Deletes the rows whose first column is one of the keys.
    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError>;
    /// The rows whose given column is one of the keys.
    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;
}

/// How many rows are read at a time when a table is walked.
pub(crate) const PAGE: i64 = 500;

pub(crate) const META: Table =
    Table { name: "meta", columns: &[("name", Type::Text), ("value", Type::Int)], key: 1, replace: true };
pub(crate) const WRITER: Table = Table {
    name: "writer",
    columns: &[("id", Type::Int), ("seq", Type::Int), ("turn", Type::Int), ("hash", Type::Bytes)],
    key: 1,
    replace: true,
};
pub(crate) const ACCOUNT: Table = Table {
    name: "account",
    columns: &[
        ("id", Type::Int),
        ("name", Type::Text),
        ("kind", Type::Int),
        ("unit", Type::Int),
        ("opened_floor", Type::Int),
        ("floor", Type::Int),
        ("posted", Type::Int),
        ("held", Type::Int),
        ("seal", Type::Int),
    ],
    key: 1,
    replace: true,
};
pub(crate) const HOLD: Table =
    Table { name: "hold", columns: &[("id", Type::Bytes), ("body", Type::Bytes)], key: 1, replace: true };
pub(crate) const ENTRY: Table = Table {
    name: "entry",
    columns: &[("seq", Type::Int), ("id", Type::Bytes), ("body", Type::Bytes), ("hash", Type::Bytes)],
    key: 1,
    replace: false,
};
pub(crate) const DOCUMENT: Table = Table {
    name: "document",
    columns: &[("kind", Type::Int), ("key", Type::Text), ("version", Type::Int), ("seq", Type::Int)],
    key: 3,
    replace: false,
};
pub(crate) const TALLY: Table =
    Table { name: "tally", columns: &[("key", Type::Bytes), ("sums", Type::Bytes)], key: 1, replace: true };

/// One script per schema version, in SQLite's words; [`crate::store::Sql::run`] of another store translates.
pub(crate) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE writer (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, turn INTEGER NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,
        unit INTEGER NOT NULL, opened_floor INTEGER, floor INTEGER, posted INTEGER NOT NULL, held INTEGER NOT NULL,
        seal INTEGER NOT NULL);
    CREATE TABLE hold (id BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry (seq INTEGER PRIMARY KEY, id BLOB UNIQUE, body BLOB NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE document (kind INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (kind, key, version)) WITHOUT ROWID;
    CREATE TABLE tally (key BLOB NOT NULL PRIMARY KEY, sums BLOB NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('seq', 0), ('accounts', 0), ('summary', 0);
",
    // What is new is asked for by number, again and again.
    "CREATE UNIQUE INDEX document_seq ON document (seq)",
    // Open holds: over a shared database nobody has them all in memory.
    "INSERT INTO meta SELECT 'holds', COUNT(*) FROM hold",
];

/// Brings the store to the schema of this program, each step in a transaction of its own.
pub(crate) fn migrate(sql: &mut dyn Sql, scripts: &[&str]) -> Result<(), StoreError> {
    sql.run("CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL)")?;
    let found = schema(sql, scripts)?;
    for (version, script) in (1_i64..).zip(scripts) {
        if version > found {
            sql.run("BEGIN IMMEDIATE")?;
            sql.run(script)?;
            sql.put(&META, &[Value::Text("schema".into()), Value::Int(version)])?;
            sql.run("COMMIT")?;
        }
    }
    Ok(())
}

/// The schema version of a store; it is an error when it is newer than these scripts.
pub(crate) fn schema(sql: &mut dyn Sql, scripts: &[&str]) -> Result<i64, StoreError> {
    let known = i64::try_from(scripts.len()).unwrap_or(i64::MAX);
    let rows = sql.rows("SELECT value FROM meta WHERE name = 'schema'", &[])?;
    let found = rows.first().map_or(Ok(0), |row| int(row, 0))?;
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found) }
}

pub(crate) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

pub(crate) fn int(row: &Row, column: usize) -> Result<i64, StoreError> {
    match row.get(column) {
        Some(Value::Int(value)) => Ok(*value),
        other => Err(damaged(format!("a number was expected, found {other:?}"))),
    }
}

/// A number that fits a smaller range.
pub(crate) fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, StoreError> {
    let value = int(row, column)?;
    T::try_from(value).ok().ok_or_else(|| damaged(format!("{value} is out of its range")))
}

pub(crate) fn natural(row: &Row, column: usize) -> Result<u64, StoreError> {
    number(row, column)
}

/// Bytes of a fixed length: ids and hashes.
fn array<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], StoreError> {
    let found = bytes(row, column)?;
    found.try_into().ok().ok_or_else(|| damaged(format!("{} bytes were found, not {N}", found.len())))
}

pub(crate) fn bytes(row: &Row, column: usize) -> Result<&[u8], StoreError> {
    match row.get(column) {
        Some(Value::Bytes(value)) => Ok(value),
        other => Err(damaged(format!("bytes were expected, found {other:?}"))),
    }
}

pub(crate) fn text(row: &Row, column: usize) -> Result<&str, StoreError> {
    match row.get(column) {
        Some(Value::Text(value)) => Ok(value),
        other => Err(damaged(format!("a text was expected, found {other:?}"))),
    }
}

fn optional<T>(
    row: &Row,
    column: usize,
    read: fn(&Row, usize) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    if row.get(column) == Some(&Value::Null) { Ok(None) } else { read(row, column).map(Some) }
}

pub(crate) fn entry_id(row: &Row, column: usize) -> Result<EntryId, StoreError> {
    array(row, column).map(EntryId)
}

pub(crate) fn id_value(id: EntryId) -> Value<'static> {
    Value::Bytes(Cow::Owned(id.0.to_vec()))
}

pub(crate) fn whole(value: u64) -> Value<'static> {
    Value::Int(value.cast_signed())
}

/// An entry and its place in the chain, as stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) entry: Entry,
    pub(crate) hash: Hash,
}

fn stored(row: &Row) -> Result<Stored, StoreError> {
    let id = optional(row, 1, entry_id)?;
    let entry = pack::unpack_entry(natural(row, 0)?, id, bytes(row, 2)?)?;
    Ok(Stored { entry, hash: array(row, 3)? })
}

/// Up to `limit` entries from `from` on.
pub(crate) fn entries(sql: &mut dyn Sql, from: u64, limit: i64) -> Result<Vec<Stored>, StoreError> {
    let query = "SELECT seq, id, body, hash FROM entry WHERE seq >= $1 ORDER BY seq LIMIT $2";
    sql.rows(query, &[whole(from), Value::Int(limit)])?.iter().map(stored).collect()
}

pub(crate) fn entries_by_id(sql: &mut dyn Sql, ids: &[EntryId]) -> Result<Vec<Entry>, StoreError> {
    let keys: Vec<_> = ids.iter().copied().map(id_value).collect();
    sql.find(&ENTRY, 1, &keys)?.iter().map(|row| Ok(stored(row)?.entry)).collect()
}

/// The sum that guards a row of the account table.
pub(crate) fn account_seal(id: AccountId, account: &Account) -> i64 {
    let mut packed = pack::opened(id, &account.spec);
    packed.extend(pack::floor(id, account.balance.floor));
    pack::put_i64(&mut packed, account.balance.posted);
    pack::put_i64(&mut packed, account.balance.held);
    pack::seal(&packed)
}

pub(crate) fn account(row: &Row) -> Result<(AccountId, Account), StoreError> {
    let id = AccountId(natural(row, 0)?);
    let kind = AccountKind::from_code(number(row, 2)?);
    let kind = kind.ok_or_else(|| damaged(format!("account {} is of no known kind", id.0)))?;
    let unit = Unit(number(row, 3)?);
    let spec = AccountSpec { name: text(row, 1)?.to_owned(), kind, unit, floor: optional(row, 4, int)? };
    let balance = Balance { floor: optional(row, 5, int)?, posted: int(row, 6)?, held: int(row, 7)? };
    let account = Account { spec: spec.into(), balance };
    if int(row, 8)? != account_seal(id, &account) {
        return Err(damaged(format!("account {} ({:?}) does not match its seal", id.0, account.spec.name)));
    }
    Ok((id, account))
}

/// All accounts in order, a page at a time.
pub(crate) fn each_account(
    sql: &mut dyn Sql,
    mut each: impl FnMut(AccountId, Account) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let query = "SELECT id, name, kind, unit, opened_floor, floor, posted, held, seal FROM account \
                 WHERE id >= $1 ORDER BY id LIMIT $2";
    let mut next = 0_u64;
    loop {
        let page = sql.rows(query, &[whole(next), Value::Int(PAGE)])?;
        for row in &page {
            let (id, found) = account(row)?;
            if id.0 != next {
                return Err(damaged(format!("account {next} is missing")));
            }
            next = next.saturating_add(1);
            each(id, found)?;
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

pub(crate) fn hold(row: &Row) -> Result<Hold, StoreError> {
    pack::unpack_hold(entry_id(row, 0)?, bytes(row, 1)?)
}

/// All open holds.
pub(crate) fn holds(sql: &mut dyn Sql) -> Result<Vec<Hold>, StoreError> {
    let mut all: Vec<Hold> = Vec::new();
    loop {
        let after = all.last().map_or(Vec::new(), |hold| hold.id.0.to_vec());
        let query = "SELECT id, body FROM hold WHERE id > $1 ORDER BY id LIMIT $2";
        let page = sql.rows(query, &[Value::Bytes(after.into()), Value::Int(PAGE)])?;
        if page.is_empty() {
            return Ok(all);
        }
        for row in &page {
            all.push(hold(row)?);
        }
    }
}

/// The latest version of each document of a kind in the order in which they were put, or all versions of one.
pub(crate) fn documents(sql: &mut dyn Sql, kind: u16, key: Option<&str>) -> Result<Vec<Document>, StoreError> {
    let mut arguments = vec![Value::Int(kind.into())];
    let query = match key {
        None => {
            "SELECT seq, id, body, hash FROM entry WHERE seq IN (SELECT MAX(seq) FROM document WHERE kind = $1 GROUP BY key) \
             ORDER BY seq"
        }
        Some(key) => {
            arguments.push(Value::Text(key.into()));
            "SELECT seq, id, body, hash FROM entry WHERE seq IN (SELECT seq FROM document WHERE kind = $1 AND key = $2) \
             ORDER BY seq"
        }
    };
    sql.rows(query, &arguments)?.iter().map(document).collect()
}

/// Up to `limit` versions of documents of any kind that were put after entry `after`, oldest first.
pub(crate) fn documents_after(sql: &mut dyn Sql, after: u64, limit: i64) -> Result<Vec<Document>, StoreError> {
    let query = "SELECT seq, id, body, hash FROM entry WHERE seq IN \
                 (SELECT seq FROM document WHERE seq > $1 ORDER BY seq LIMIT $2) ORDER BY seq";
    sql.rows(query, &[whole(after), Value::Int(limit)])?.iter().map(document).collect()
}

fn document(row: &Row) -> Result<Document, StoreError> {
    let entry = stored(row)?.entry;
    pack::unpack_document(&entry).ok_or_else(|| damaged(format!("entry {} is no document", entry.seq)))
}

/// The newest version of a document, if there is one.
pub(crate) fn version(sql: &mut dyn Sql, kind: u16, key: &str) -> Result<Option<u64>, StoreError> {
    let query = "SELECT version FROM document WHERE kind = $1 AND key = $2 ORDER BY version DESC LIMIT 1";
    let rows = sql.rows(query, &[Value::Int(kind.into()), Value::Text(key.into())])?;
    rows.first().map(|row| natural(row, 0)).transpose()
}

/// Which end of a range of tallies is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    First,
    Last,
}

/// Up to `limit` tallies with `from <= key < to`, in the order of keys or against it.
pub(crate) fn tallies(
    sql: &mut dyn Sql,
    (from, to): (&[u8], &[u8]),
    end: End,
    limit: i64,
) -> Result<Pairs, StoreError> {
    let query = match end {
        End::First => "SELECT key, sums FROM tally WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
        End::Last => "SELECT key, sums FROM tally WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3",
    };
    let range = [Value::Bytes(from.into()), Value::Bytes(to.into()), Value::Int(limit)];
    sql.pairs(query, &range)
}

/// Shows `each` the tallies of keys and packed sums, until it gives `false`. Whether it saw all.
pub(crate) fn each_tally(pairs: &Pairs, each: &mut dyn FnMut(&Tally) -> bool) -> Result<bool, StoreError> {
    let mut tally = Tally::default();
    for (key, packed) in pairs.iter() {
        tally.read(key, packed).ok_or_else(no_tally)?;
        if !each(&tally) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn no_tally() -> StoreError {
    damaged("a tally cannot be read")
}

pub(crate) fn meta(sql: &mut dyn Sql, name: &'static str) -> Result<u64, StoreError> {
    let rows = sql.rows("SELECT value FROM meta WHERE name = $1", &[Value::Text(name.into())])?;
    natural(rows.first().ok_or_else(|| damaged(format!("{name} is not stored")))?, 0)
}

/// A writer's place: its chain's head, and how many transactions it has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) turn: u64,
    pub(crate) hash: Hash,
}

pub(crate) fn head(row: &Row) -> Result<(u32, Head), StoreError> {
    Ok((number(row, 0)?, Head { seq: natural(row, 1)?, turn: natural(row, 2)?, hash: array(row, 3)? }))
}

pub(crate) fn heads(sql: &mut dyn Sql) -> Result<Vec<(u32, Head)>, StoreError> {
    sql.rows("SELECT id, seq, turn, hash FROM writer ORDER BY id", &[])?.iter().map(head).collect()
}

/// The whole book, checked as far as that needs no walk over all entries.
pub(crate) fn load(sql: &mut dyn Sql, writer: u32) -> Result<Book, StoreError> {
    let mut book = Book::new(writer, meta(sql, "seq")?, meta(sql, "accounts")?);
    each_account(sql, |id, account| {
        book.add_account(id, account);
        Ok(())
    })?;
    if u64::try_from(book.accounts.len()) != Ok(book.account_count) {
        return Err(damaged("accounts are missing"));
    }
    for hold in holds(sql)? {
        book.holds.insert(hold.id, hold.into());
    }
    check_sums(&book)?;
    for row in sql.rows("SELECT kind, key, MAX(version) FROM document GROUP BY kind, key", &[])? {
        book.documents.insert((number(&row, 0)?, text(&row, 1)?.to_owned()), natural(&row, 2)?);
    }
    Ok(book)
}

/// Balances sum to zero per unit; what accounts say is held is what the holds hold.
fn check_sums(book: &Book) -> Result<(), StoreError> {
    let mut units = HashMap::<Unit, i128>::new();
    let mut held = HashMap::<AccountId, i128>::new();
    for account in book.accounts.values() {
        let sum = units.entry(account.spec.unit).or_default();
        *sum = sum.saturating_add(account.balance.posted.into());
    }
    if let Some((unit, sum)) = units.into_iter().find(|(_, sum)| *sum != 0) {
        return Err(damaged(format!("the balances of unit {} sum to {sum}, not to zero", unit.0)));
    }
    for reserve in book.holds.values().flat_map(|hold| &hold.reserves) {
        let sum = held.entry(reserve.account).or_default();
        *sum = sum.saturating_add(reserve.amount.into());
    }
    for (id, account) in &book.accounts {
        if held.remove(id).unwrap_or(0) != i128::from(account.balance.held) {
            return Err(damaged(format!("what account {:?} holds is not the sum of its holds", account.spec.name)));
        }
    }
    if held.is_empty() { Ok(()) } else { Err(damaged("a hold names an account that does not exist")) }
}

/// How many of the last entries are checked at open.
const TAIL: u64 = 200;

/// The head of the chain: its last entries hash to where the writers say they are.
pub(crate) fn check_tail(sql: &mut dyn Sql, last: u64) -> Result<(), StoreError> {
    let heads: HashMap<_, _> = heads(sql)?.into_iter().collect();
    let mut expected = last.saturating_sub(TAIL).saturating_add(1);
    let mut chains = HashMap::<u32, Hash>::new();
    if expected == 1 {
        chains.extend(heads.keys().map(|&writer| (writer, Hash::default())));
    }
    for Stored { entry, hash } in entries(sql, expected, i64::MAX)? {
        let seq = entry.seq;
        if seq != expected {
            return Err(damaged(format!("entry {expected} is missing")));
        }
        expected = expected.saturating_add(1);
        let previous = chains.insert(entry.writer, hash);
        if previous.is_some_and(|previous| pack::link(&previous, seq, entry.id, &pack::entry(&entry)) != hash) {
            return Err(damaged(format!("entry {seq} does not follow from the one before it")));
        }
        if heads.get(&entry.writer).is_none_or(|head| (head.seq == seq) != (head.hash == hash) || head.seq < seq) {
            return Err(damaged(format!("entry {seq} is not where its writer's chain has it")));
        }
    }
    let reached = heads.values().all(|head| head.seq <= last);
    if reached && expected == last.saturating_add(1) { Ok(()) } else { Err(damaged("the last entries are missing")) }
}

/// The store as the older part of a book.
pub(crate) struct StoreHistory<'a>(pub(crate) &'a mut dyn Sql);

impl History for StoreHistory<'_> {
    fn entry(&mut self, id: EntryId) -> Result<Option<Entry>, StoreError> {
        Ok(entries_by_id(self.0, &[id])?.pop())
    }
}
