//! Decisions in the database: a group of batches is loaded, decided by the same book, written and committed.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::book::{Book, History};
use crate::error::{OpenError, Refusal, Refused, StoreError};
use crate::group::Group;
use crate::ledger::Options;
use crate::receipt::{Fate, Receipt};
use crate::store::{self, ACCOUNT, HOLD, Head, Sql, Value, id_value, whole};
use crate::tally::Summary;
use crate::types::{AccountId, Batch, Command, Entry, EntryId, Outcome};

/// Batches that may wait.
const QUEUE_MAX: usize = 4_096;

/// Batches of one transaction.
const GROUP_MAX: usize = 512;

/// How long a batch may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

type Answer = Result<Vec<Outcome>, Refused>;

struct Asked {
    batch: Batch,
    answer: SyncSender<Answer>,
}

/// The way to the thread that talks to the database.
pub(crate) struct Shared {
    queue: Mutex<Option<SyncSender<Asked>>>,
    /// Ends with the thread.
    running: Mutex<Receiver<()>>,
}

impl Shared {
    /// Checks the end of the chain, then starts the thread.
    pub(crate) fn open(mut sql: Box<dyn Sql>, options: &Options) -> Result<Self, OpenError> {
        sql.run("BEGIN")?;
        let last = store::meta(sql.as_mut(), "seq")?;
        store::check_tail(sql.as_mut(), last)?;
        sql.run("COMMIT")?;
        let (queue, asked) = mpsc::sync_channel(QUEUE_MAX);
        let writer = Writer { sql, id: options.writer, summary: options.summary.clone() };
        let (end, running) = mpsc::sync_channel::<()>(1);
        let run = move || {
            writer.run(&asked);
            drop(end);
        };
        let spawned = std::thread::Builder::new().name("ledger".to_owned()).spawn(run);
        spawned.map_err(|error| StoreError::Failed(format!("no thread for the ledger: {error}")))?;
        Ok(Self { queue: Mutex::new(Some(queue)), running: Mutex::new(running) })
    }

    /// Returns when the batch is committed. After [`Refusal::Unavailable`] it may or may not be: ask again with the
    /// same ids.
    pub(crate) fn submit(&self, batch: &Batch) -> Result<Receipt, Refused> {
        let unavailable =
            |reason: &str| Refused { index: 0, refusal: Refusal::Unavailable { reason: reason.to_owned() } };
        let (answer, answered) = mpsc::sync_channel(1);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or_else(|| unavailable("it is closed"))?;
        queue.try_send(Asked { batch: batch.clone(), answer }).map_err(|error| match error {
            TrySendError::Full(_) => unavailable("the store is behind"),
            TrySendError::Disconnected(_) => unavailable("it is closed"),
        })?;
        let outcomes = answered.recv_timeout(ANSWER_LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => unavailable("the store does not answer"),
            RecvTimeoutError::Disconnected => unavailable("it is closed"),
        })??;
        Ok(Receipt { outcomes, fate: Fate::durable() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A database that is silent is not waited for without end.
        let _ = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(ANSWER_LIMIT);
    }
}

struct Writer {
    sql: Box<dyn Sql>,
    id: u32,
    summary: Option<Arc<dyn Summary>>,
}

/// All that a group touches is loaded before.
struct Loaded;

impl History for Loaded {
    fn entry(&mut self, _: EntryId) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }
}

impl Writer {
    fn run(mut self, asked: &Receiver<Asked>) {
        while let Ok(first) = asked.recv() {
            let mut group = vec![first];
            group.extend(asked.try_iter().take(GROUP_MAX));
            let batches: Vec<&Batch> = group.iter().map(|asked| &asked.batch).collect();
            let answers = self.decide(&batches).unwrap_or_else(|error| {
                let refusal = Refusal::Unavailable { reason: error.to_string() };
                vec![Err(Refused { index: 0, refusal }); batches.len()]
            });
            for (Asked { answer, .. }, result) in group.iter().zip(answers) {
                // Who asked may have given up.
                let _ = answer.send(result);
            }
        }
    }

    fn decide(&mut self, batches: &[&Batch]) -> Result<Vec<Answer>, StoreError> {
        self.sql.run("BEGIN IMMEDIATE")?;
        let (answers, turn) = match self.write(batches) {
            Ok(written) => written,
            Err(error) => {
                let _ = self.sql.run("ROLLBACK");
                return Err(error);
            }
        };
        let Err(error) = self.sql.run("COMMIT") else { return Ok(answers) };
        // The connection may have been lost before or after the commit; the next transaction sees which.
        self.sql.run("BEGIN IMMEDIATE")?;
        let head = self.head();
        self.sql.run("ROLLBACK")?;
        if head?.turn == turn { Ok(answers) } else { Err(error) }
    }

    fn head(&mut self) -> Result<Head, StoreError> {
        let rows = self.sql.find(&store::WRITER, 0, &[Value::Int(self.id.into())])?;
        rows.first().map_or(Ok(Head::default()), |row| Ok(store::head(row)?.1))
    }

    fn write(&mut self, batches: &[&Batch]) -> Result<(Vec<Answer>, u64), StoreError> {
        let summary = self.summary.clone();
        let version = summary.as_ref().map_or(0, |summary| summary.version());
        if store::meta(self.sql.as_mut(), "summary")? != u64::from(version) {
            return Err(StoreError::Failed(
                "another program has changed the roll-ups; open the ledger again".to_owned(),
            ));
        }
        let mut head = self.head()?;
        head.turn = head.turn.saturating_add(1);
        let mut book = self.load(batches)?;
        let mut group = Group::default();
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            answers.push(book.apply(batch, &mut Loaded).map(|mut decision| {
                let outcomes = std::mem::take(&mut decision.outcomes);
                group.add(decision, &mut head, summary.as_deref());
                outcomes
            }));
        }
        group.write(self.sql.as_mut(), self.id, &head)?;
        Ok((answers, head.turn))
    }

    /// A book of what the batches name.
    fn load(&mut self, batches: &[&Batch]) -> Result<Book, StoreError> {
        let sql = self.sql.as_mut();
        let mut named = Named::default();
        batches.iter().flat_map(|batch| &batch.commands).for_each(|command| named.add(command));
        let mut book = Book::new(self.id, store::meta(sql, "seq")?, store::meta(sql, "accounts")?);
        let ids: Vec<_> = named.ids.iter().copied().map(id_value).collect();
        for row in sql.find(&HOLD, 0, &ids)? {
            let hold = store::hold(&row)?;
            named.accounts.extend(hold.reserves.iter().map(|reserve| reserve.account));
            book.holds.insert(hold.id, hold.into());
        }
        let open = usize::try_from(store::meta(sql, "holds")?).unwrap_or(usize::MAX);
        book.holds_elsewhere = open.saturating_sub(book.holds.len());
        for entry in store::entries_by_id(sql, &named.ids)? {
            if let Some(id) = entry.id {
                book.recent.insert(id, entry.into());
            }
        }
        named.documents.sort_unstable();
        named.documents.dedup();
        for (kind, key) in named.documents {
            if let Some(version) = store::version(sql, kind, &key)? {
                book.documents.insert((kind, key), version);
            }
        }
        named.accounts.sort_unstable();
        named.accounts.dedup();
        let ids: Vec<_> = named.accounts.iter().filter(|id| id.0 < book.account_count).map(|id| whole(id.0)).collect();
        for row in sql.find(&ACCOUNT, 0, &ids)?.iter().chain(&sql.find(&ACCOUNT, 1, &texts(&named.names))?) {
            let (id, account) = store::account(row)?;
            book.add_account(id, account);
        }
        Ok(book)
    }
}

fn texts(all: &[String]) -> Vec<Value<'_>> {
    all.iter().map(|text| Value::Text(text.as_str().into())).collect()
}

/// What commands name.
#[derive(Default)]
struct Named {
    ids: Vec<EntryId>,
    accounts: Vec<AccountId>,
    names: Vec<String>,
    documents: Vec<(u16, String)>,
}

impl Named {
    fn add(&mut self, command: &Command) {
        match command {
            Command::Open(spec) => self.names.push(spec.name.clone()),
            Command::SetFloor { account, .. } | Command::Expect { account, .. } => self.accounts.push(*account),
            Command::Post { id, legs, .. } | Command::Settle { id, legs, .. } => {
                self.ids.push(*id);
                self.accounts.extend(legs.iter().map(|leg| leg.account));
            }
            Command::Hold { id, reserves, .. } | Command::Extend { id, reserves } => {
                self.ids.push(*id);
                self.accounts.extend(reserves.iter().map(|reserve| reserve.account));
            }
            Command::Void { id } | Command::Expire { id } => self.ids.push(*id),
            Command::Put { id, kind, key, .. } => {
                self.ids.push(*id);
                self.documents.push((*kind, key.clone()));
            }
        }
    }
}
