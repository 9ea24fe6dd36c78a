//! The whole of an embedded store, recomputed when it is opened: before it is used when it is of ordinary size, beside
//! the work when it is large. What is found wrong later closes the ledger to new work and to readers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::InterruptHandle;

use crate::embedded::Desk;
use crate::error::StoreError;
use crate::sqlite::Sqlite;
use crate::store::Sql;
use crate::tally::Summary;
use crate::verify::{Fault, check};

/// How long it waits before it tries again what could not be read.
const RETRY: Duration = Duration::from_secs(30);

/// Recomputes all, now.
pub(crate) fn at_once(sql: &mut Sqlite, summary: Option<&dyn Summary>) -> Result<(), StoreError> {
    sql.integrity_check()?;
    check(sql, summary, &AtomicBool::new(false)).map(drop).map_err(|fault| match fault {
        Fault::Store(error) => error,
        fault => StoreError::Damaged(fault.to_string()),
    })
}

/// The thread that recomputes; dropping it breaks off.
pub(crate) struct Audit {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    running: InterruptHandle,
    handle: Option<JoinHandle<()>>,
}

impl Audit {
    pub(crate) fn start(path: &Path, summary: Option<Arc<dyn Summary>>, desk: Arc<Desk>) -> Result<Self, StoreError> {
        let mut sql = Sqlite::reader(path)?;
        let ([stop, is_done], running) = (<[Arc<AtomicBool>; 2]>::default(), sql.interrupt_handle());
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&is_done));
        let run = move || {
            while !stopped.load(Ordering::Relaxed) && desk.sound().is_ok() && !done.load(Ordering::Relaxed) {
                let found = sql.integrity_check().map_err(Fault::from);
                match found.and_then(|()| check(&mut sql, summary.as_deref(), &stopped)) {
                    Ok(_) => {
                        tracing::info!("the whole ledger was recomputed: it is right");
                        done.store(true, Ordering::Relaxed);
                    }
                    Err(fault) if !stopped.load(Ordering::Relaxed) => {
                        tell(&desk, &fault);
                        // The snapshot that it was in the middle of, if so.
                        let _ = sql.run("ROLLBACK");
                        std::thread::park_timeout(RETRY);
                    }
                    Err(_) => {}
                }
            }
        };
        let spawned = std::thread::Builder::new().name("ledger-audit".to_owned()).spawn(run);
        let handle = spawned.map_err(|error| StoreError::Failed(format!("no thread for the audit: {error}")))?;
        Ok(Self { stop, done: is_done, running, handle: Some(handle) })
    }

    /// All was recomputed and is right.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.interrupt();
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            let _ = handle.join();
        }
    }
}

/// Says what was found, and closes the ledger when it is damage.
pub(crate) fn tell(desk: &Desk, fault: &Fault) {
    match fault {
        Fault::Store(error @ (StoreError::Failed(_) | StoreError::Full(_))) => {
            tracing::warn!("the ledger could not be recomputed: {error}");
        }
        fault => {
            tracing::error!("the ledger is not right, so no new work is taken and nothing of it is shown: {fault}");
            desk.close_to_all(StoreError::Damaged(fault.to_string()));
        }
    }
}
