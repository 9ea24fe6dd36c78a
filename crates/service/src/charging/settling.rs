//! A request that has ended and whose reader waits for the settlement.

use std::sync::{Arc, Mutex};

use economics::Quantities;
use economics::books::{End, Service, Settled};
use ledger::NotDurable;
use metering::{FinishReason, Outcome, UsageRecord};
use tokio::sync::mpsc::UnboundedSender;

use super::lock;
use super::open::Open;
use crate::account::Parcel;
use crate::{Charge, LineError};

/// Who waits for the last parcel.
pub(super) struct Reader {
    pub(super) sender: Option<UnboundedSender<Parcel>>,
    pub(super) record: Box<UsageRecord>,
    pub(super) failure: Option<LineError>,
}

impl Reader {
    fn tell(self, charge: Result<Option<Charge>, LineError>) {
        let (charge, failure) = match charge {
            Ok(charge) => (charge, self.failure),
            Err(error) => (None, self.failure.or(Some(error))),
        };
        // A reader that has gone needs nothing.
        if let Some(sender) = self.sender {
            let _ = sender.send(Parcel::Ended(failure, self.record, charge));
        }
    }
}

/// A request that has ended.
pub(super) struct Settling {
    pub(super) open: Arc<Open>,
    /// What is to be charged, if anything.
    pub(super) due: Option<(Quantities, End)>,
    /// Whether it met its objectives.
    pub(super) service: Service,
    /// `None` once it was told.
    pub(super) reader: Option<Reader>,
}

impl Settling {
    /// Sends the last parcel, once.
    pub(super) fn tell(&mut self, charge: Result<Option<Charge>, LineError>) {
        if let Some(reader) = self.reader.take() {
            reader.tell(charge);
        }
    }

    /// The wait is over and the ledger has not taken it: the answer goes out all the same, without its charge, if the
    /// journal vouches for it. Gives whether there is still something to charge.
    pub(super) fn hurry(&mut self) -> bool {
        let Some((used, _)) = self.due.filter(|_| self.reader.is_some()) else { return true };
        let noted = self.open.note(&used);
        let owed = noted.is_ok() || self.open.is_noted();
        self.tell(noted.map(|()| None));
        owed
    }

    /// The ledger has decided it: the reader is told as soon as it is on the disk.
    pub(super) fn decided(self, settled: Settled) -> Decided {
        let wait = match self.reader {
            Some(reader) => Wait::Reader(Box::new((reader, settled.charge))),
            None => Wait::Told,
        };
        let used = self.due.map(|(used, _)| used).unwrap_or_default();
        let decided = Decided { open: self.open, used, wait: Arc::new(Mutex::new(wait)) };
        let written = decided.clone();
        settled.receipt.on_durable(Box::new(move |durable| written.written(durable)));
        decided
    }
}

/// A settlement on its way to the disk.
#[derive(Clone)]
pub(super) struct Decided {
    open: Arc<Open>,
    used: Quantities,
    wait: Arc<Mutex<Wait>>,
}

/// Changed by whoever comes first: the writer that made the settlement durable, or the end of the wait.
enum Wait {
    Reader(Box<(Reader, Charge)>),
    /// The reader has all it gets.
    Told,
    /// The answer was not delivered: once the charge is on the disk it is given back.
    Withheld,
    /// It is on the disk, and to be given back.
    Unowed,
    /// It is on the disk.
    Written,
}

impl Decided {
    /// Runs on the ledger's thread.
    fn written(&self, durable: Result<(), NotDurable>) {
        if let Err(error) = durable {
            // The page stays open: the next start settles it.
            tracing::error!("the settlement of {} was lost: {error}", self.open.id());
            return;
        }
        let mut wait = lock(&self.wait);
        *wait = match std::mem::replace(&mut *wait, Wait::Written) {
            Wait::Reader(waiting) => {
                let (reader, charge) = *waiting;
                // In this order: an answer that has left has no open page, or one that tells of it.
                let ended = self.open.end_page_before_delivery();
                let next = if ended.is_ok() { Wait::Written } else { Wait::Unowed };
                reader.tell(ended.map(|()| Some(charge)));
                next
            }
            Wait::Told => {
                self.open.end_page();
                Wait::Written
            }
            Wait::Withheld | Wait::Unowed => Wait::Unowed,
            Wait::Written => Wait::Written,
        };
    }

    pub(super) fn open(&self) -> &Arc<Open> {
        &self.open
    }

    /// Whether nobody waits any more.
    pub(super) fn is_over(&self) -> bool {
        !matches!(&*lock(&self.wait), Wait::Reader(..))
    }

    /// Whether it can be given back.
    pub(super) fn is_unowed(&self) -> bool {
        matches!(&*lock(&self.wait), Wait::Unowed)
    }

    /// The wait is over: the answer goes out all the same, if the journal vouches for it. Gives whether it was withheld.
    pub(super) fn hurry(&self) -> bool {
        let mut wait = lock(&self.wait);
        match std::mem::replace(&mut *wait, Wait::Told) {
            Wait::Reader(waiting) => {
                let (reader, charge) = *waiting;
                tracing::warn!("the settlement of {} is not on the disk yet", self.open.id());
                let noted = self.open.note(&self.used);
                let withheld = noted.is_err() && !self.open.is_noted();
                if withheld {
                    *wait = Wait::Withheld;
                }
                reader.tell(noted.map(|()| Some(charge)));
                withheld
            }
            before => {
                let withheld = matches!(before, Wait::Unowed);
                *wait = before;
                withheld
            }
        }
    }
}

pub(super) fn quantities(record: &UsageRecord) -> Quantities {
    Quantities {
        in_uncached: record.input_uncached_tokens,
        in_cached: record.input_cached_tokens,
        out_visible: record.output_tokens,
        out_reasoning: record.reasoning_tokens.unwrap_or(0),
    }
}

pub(super) fn end_of(record: &UsageRecord) -> End {
    let any = |reason| record.finish_reasons.contains(&reason);
    match record.outcome {
        Outcome::Cancelled => End::Cancelled,
        Outcome::Failed => End::Failed,
        Outcome::Ok if any(FinishReason::Budget) => End::Budget,
        Outcome::Ok if any(FinishReason::Length) => End::Length,
        Outcome::Ok => End::Stop,
    }
}
