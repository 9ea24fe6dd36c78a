//! One request that is not settled yet, as the thread of the books sees it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use economics::Quantities;
use economics::books::{End, Extension, PostError, Service, SettleError, Settled, Ticket, progress};
use inference::Allowance;
use ledger::EntryId;
use metering::Page;

use super::{books_closed, lock, now_ms};
use crate::LineError;

/// A request between its hold and the end of its page.
pub(super) struct Open {
    id: EntryId,
    /// Locked over calls of the ledger, so only by the thread of the books.
    ticket: Mutex<Ticket>,
    noted: Mutex<Noted>,
    allowance: Allowance,
    /// Nothing is to be asked for: it was, or all is granted.
    covered: AtomicBool,
    /// There is no money for more.
    spent: AtomicBool,
    streamed: bool,
}

/// The journal's page, and what it says. Locked for a write to the journal at most.
#[derive(Default)]
struct Noted {
    /// Gone once settled.
    page: Option<Page>,
    /// What was delivered, or is about to be.
    used: Option<Quantities>,
    /// Nothing more is delivered, and why.
    shut: Option<LineError>,
}

impl Open {
    pub(super) fn new(ticket: Ticket, streamed: bool, max_output: u64) -> Self {
        let granted = ticket.allowance();
        let (all, allowance) = (granted >= max_output, Allowance::new(granted));
        if all {
            allowance.close();
        }
        Self {
            id: ticket.id(),
            ticket: Mutex::new(ticket),
            noted: Mutex::default(),
            allowance,
            covered: AtomicBool::new(all),
            spent: AtomicBool::new(false),
            streamed,
        }
    }

    pub(super) fn set_page(&self, page: Page) {
        lock(&self.noted).page = Some(page);
    }

    pub(super) fn id(&self) -> EntryId {
        self.id
    }

    pub(super) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Whether more was asked for already; from now on it was.
    pub(super) fn asked(&self) -> bool {
        self.covered.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }

    /// Asks for more tokens.
    pub(super) fn extend(&self) -> Extension {
        let mut ticket = lock(&self.ticket);
        let before = ticket.allowance();
        let extension = ticket.extend(now_ms());
        match extension {
            Extension::Granted(granted) => {
                self.allowance.grant(granted.saturating_sub(before));
                self.covered.store(false, Ordering::Release);
            }
            Extension::Spent => self.close(true),
            Extension::Ended => self.close(false),
            Extension::Held | Extension::Unavailable(_) => {}
        }
        extension
    }

    /// No more comes. `spent`: because there is no money, else because the books could not be asked.
    pub(super) fn close(&self, spent: bool) {
        self.spent.store(spent, Ordering::Release);
        self.allowance.close();
    }

    /// Notes in the journal what will have been used with what is delivered next, or says why nothing may be.
    pub(super) fn note(&self, used: &Quantities) -> Result<(), LineError> {
        let mut noted = lock(&self.noted);
        if let Some(reason) = &noted.shut {
            return Err(reason.clone());
        }
        // Without a page it is settled, with all that is still on its way to the reader.
        let Some(page) = &noted.page else { return Ok(()) };
        match page.progress(&progress(used)) {
            Ok(()) => {
                noted.used = Some(*used);
                Ok(())
            }
            Err(error) => {
                let error = books_closed(&error);
                noted.shut = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Whether the journal says that something was delivered.
    pub(super) fn is_noted(&self) -> bool {
        lock(&self.noted).used.is_some()
    }

    /// From now on nothing is delivered.
    pub(super) fn shut(&self, reason: LineError) {
        lock(&self.noted).shut.get_or_insert(reason);
    }

    /// What is to be charged for a request that made so much and ended so, if anything: nothing where the plant failed
    /// before anything was delivered, and no more than that where it could not go on delivering.
    pub(super) fn due(&self, made: Quantities, end: End, failure: Option<&LineError>) -> Option<(Quantities, End)> {
        let mut noted = lock(&self.noted);
        if let Some(failure) = failure.filter(|_| noted.used.is_none()) {
            noted.shut.get_or_insert_with(|| failure.clone());
        }
        let due = if noted.shut.is_some() { noted.used.map(|used| (used, End::Failed)) } else { Some((made, end)) };
        due.filter(|(used, _)| *used != Quantities::default())
    }

    pub(super) fn settle(&self, used: &Quantities, end: End, service: Service) -> Result<Settled, SettleError> {
        let mut ticket = lock(&self.ticket);
        ticket.note_service(service);
        ticket.settle(used, end, now_ms())
    }

    pub(super) fn undo(&self) -> Result<(), PostError> {
        lock(&self.ticket).undo(now_ms())
    }

    /// Ends the page of a settled request whose answer leaves next. The next start gives back the charge of an open page
    /// that tells of no delivery, so where the journal does not take the end of such a page nothing may leave, and it stays
    /// open until the charge is given back; a page that tells of a delivery may end later.
    pub(super) fn end_page_before_delivery(&self) -> Result<(), LineError> {
        let mut noted = lock(&self.noted);
        let Some(page) = noted.page.take() else { return Ok(()) };
        if noted.used.is_some() {
            page.end();
            return Ok(());
        }
        page.try_end().map_err(|(page, error)| {
            noted.page = Some(page);
            noted.shut.get_or_insert(books_closed(&error)).clone()
        })
    }

    /// Ends the page, as soon as the journal takes it.
    pub(super) fn end_page(&self) {
        let page = lock(&self.noted).page.take();
        if let Some(page) = page {
            page.end();
        }
    }
}

impl Drop for Open {
    /// What was not ended by now is left to the journal: wherever this is dropped, nothing waits for the ledger.
    fn drop(&mut self) {
        lock(&self.ticket).leave();
    }
}
