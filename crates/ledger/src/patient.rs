//! A connection on a thread of its own, so that whoever asks waits no longer than a limit: a database that is stopped, or
//! whose disk hangs, keeps its connections alive and answers nothing.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

use crate::error::StoreError;
use crate::store::{Pairs, Row, Sql, Table, Value};

/// How long an answer may take: more than a database lets a statement take.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(75);

type Job = Box<dyn FnOnce(&mut dyn Sql) + Send>;

/// The way to the thread. It ends when this is dropped, as soon as it has its answer.
pub(crate) struct Patient {
    jobs: SyncSender<Job>,
    /// There while an answer is overdue: nothing more is asked until it has come.
    overdue: Option<Receiver<()>>,
    limit: Duration,
}

impl Patient {
    /// Connects, on the thread.
    pub(crate) fn start<S: Sql>(
        connect: impl FnOnce() -> Result<S, StoreError> + Send + 'static,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let (jobs, asked) = mpsc::sync_channel::<Job>(1);
        let (connected, answered) = mpsc::sync_channel(1);
        let run = move || match connect() {
            Ok(mut sql) => {
                let _ = connected.send(Ok(()));
                asked.into_iter().for_each(|job| job(&mut sql));
            }
            Err(error) => drop(connected.send(Err(error))),
        };
        let spawned = std::thread::Builder::new().name("ledger-reader".to_owned()).spawn(run);
        spawned.map_err(|error| StoreError::Failed(format!("no thread for the database: {error}")))?;
        answered.recv_timeout(limit).map_err(|_late| silent(limit))??;
        Ok(Self { jobs, overdue: None, limit })
    }

    fn ask<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.overdue.as_ref().is_some_and(|overdue| overdue.try_recv() == Err(TryRecvError::Empty)) {
            return Err(silent(self.limit));
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let (end, overdue) = mpsc::sync_channel::<()>(1);
        let job: Job = Box::new(move |sql| {
            // Who asked may have given up.
            let _ = answer.send(act(sql));
            drop(end);
        });
        self.overdue = Some(overdue);
        self.jobs.try_send(job).map_err(|_gone| StoreError::Failed("the connection's thread has ended".to_owned()))?;
        match answered.recv_timeout(self.limit) {
            Ok(result) => {
                self.overdue = None;
                result
            }
            Err(RecvTimeoutError::Timeout) => Err(silent(self.limit)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::Failed("the connection's thread has ended".to_owned()))
            }
        }
    }
}

fn silent(limit: Duration) -> StoreError {
    StoreError::Failed(format!("the database has not answered for {} s", limit.as_secs()))
}

fn owned(values: &[Value<'_>]) -> Vec<Value<'static>> {
    values.iter().map(Value::to_static).collect()
}

impl Sql for Patient {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        let script = script.to_owned();
        self.ask(move |sql| sql.run(&script))
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let (query, arguments) = (query.to_owned(), owned(arguments));
        self.ask(move |sql| sql.rows(&query, &arguments))
    }

    fn pairs(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Pairs, StoreError> {
        let (query, arguments) = (query.to_owned(), owned(arguments));
        self.ask(move |sql| sql.pairs(&query, &arguments))
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        let values = owned(values);
        self.ask(move |sql| sql.put(table, &values))
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        let keys = owned(keys);
        self.ask(move |sql| sql.delete(table, &keys))
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let keys = owned(keys);
        self.ask(move |sql| sql.find(table, column, &keys))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;

    /// Answers when told to.
    struct Slow(Receiver<i64>);

    impl Sql for Slow {
        fn run(&mut self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }

        fn rows(&mut self, _: &str, _: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
            Ok(vec![vec![Value::Int(self.0.recv().unwrap())]])
        }

        fn put(&mut self, _: &'static Table, _: &[Value<'_>]) -> Result<(), StoreError> {
            Ok(())
        }

        fn delete(&mut self, _: &'static Table, _: &[Value<'_>]) -> Result<(), StoreError> {
            Ok(())
        }

        fn find(&mut self, _: &'static Table, _: usize, _: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_silent_database_is_waited_for_once_and_asked_again_when_it_speaks() {
        let (tell, told) = mpsc::channel();
        let mut patient = Patient::start(|| Ok(Slow(told)), Duration::from_millis(200)).unwrap();
        let mut ask = || patient.rows("", &[]);
        tell.send(1).unwrap();
        assert_eq!(ask().unwrap(), [[Value::Int(1)]]);
        let silent = silent(Duration::from_millis(200));
        assert_eq!(ask(), Err(silent.clone()));
        let begun = std::time::Instant::now();
        for _ in 0..1_000 {
            assert_eq!(ask(), Err(silent.clone()));
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no further wait");
        // The late answer is nobody's any more.
        tell.send(2).unwrap();
        tell.send(3).unwrap();
        let answer = std::iter::repeat_with(ask).find(Result::is_ok).unwrap();
        assert_eq!(answer.unwrap(), [[Value::Int(3)]]);
    }

    #[test]
    fn a_server_that_takes_connections_and_says_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://books@127.0.0.1:{}/books", listener.local_addr().unwrap().port());
        let connect = move || crate::postgres::Postgres::connect(&url, None);
        let error = Patient::start(connect, Duration::from_millis(200)).err().unwrap();
        assert_eq!(error, silent(Duration::from_millis(200)));
    }
}
