//! Invoices out of the roll-ups. What an organisation was called and how its windows ran is read from the history of the
//! directory, so that an invoice stays as it was when name, plan or calendar change.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ledger::{Ledger, StoreError};

use super::Books;
use super::admin::{ChangeError, PostError};
use super::detail::Opening;
use crate::directory::record::{Kind, Record};
use crate::invoice::{self, Invoice, State};
use crate::rollup;
use crate::window::{Calendar, Period};
use crate::{Directory, Invalid, Window};

/// The id under which the present window's invoice can be asked for.
const CURRENT: &str = "current";
/// How long after its window's end an invoice may still change: requests and credit notes go by a time that was read
/// before their waits.
pub(super) const FINAL_AFTER_MS: i64 = 600_000;
/// How long a report waits until what is decided is on the disk.
const WRITTEN_WAIT: Duration = Duration::from_secs(2);

/// Windows of an organisation that are invoiced together: after a change of calendar two may begin on the same day, and
/// they share the pool of that day too.
struct Billed {
    /// By the calendar that was in force last.
    window: Window,
    /// The starts by which their charges are found.
    starts: Vec<i64>,
}

impl Books {
    /// The invoices of an organisation, newest first: one for each window with charges or credit notes.
    ///
    /// # Errors
    /// The organisation is unknown or the store cannot be read.
    pub fn invoices(&self, organisation: &str, now_ms: i64) -> Result<Vec<Invoice>, PostError> {
        self.plan_of(organisation)?;
        let running = self.running_windows(organisation)?;
        let history = History::read(&self.ledger, organisation)?;
        let mut billed = history.billed(&self.ledger, organisation)?;
        billed.sort_by(|a, b| b.window.label.cmp(&a.window.label));
        let invoice = |billed| self.bill(organisation, &history, billed, (&running, now_ms));
        billed.into_iter().map(invoice).collect()
    }

    /// The invoice of the window whose label is `id`, or of the present window (`current`), which may be empty. `None`:
    /// there is no such invoice.
    ///
    /// # Errors
    /// As [`Books::invoices`].
    pub fn invoice(&self, organisation: &str, id: &str, now_ms: i64) -> Result<Option<Invoice>, PostError> {
        let present = self.present_window(organisation, now_ms)?;
        let id = if id == CURRENT { present.label.as_str() } else { id };
        let running = self.running_windows(organisation)?;
        let history = History::read(&self.ledger, organisation)?;
        let found = history.billed(&self.ledger, organisation)?.into_iter().find(|billed| billed.window.label == id);
        let empty = || (id == present.label).then(|| Billed { window: present.clone(), starts: Vec::new() });
        found.or_else(empty).map(|billed| self.bill(organisation, &history, billed, (&running, now_ms))).transpose()
    }

    fn bill(
        &self,
        organisation: &str,
        history: &History,
        Billed { window, starts }: Billed,
        (running, now_ms): (&Running, i64),
    ) -> Result<Invoice, PostError> {
        let (mut statements, mut credits) = (Vec::new(), Vec::new());
        for start in &starts {
            statements.push(rollup::statement(&self.ledger, organisation, *start)?);
            credits.extend(rollup::credits(&self.ledger, organisation, *start)?);
        }
        let directory = self.directory();
        let (lines, total) = invoice::lines(&statements, credits, directory.prices(), &self.currency)
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        let over = window.end_ms.saturating_add(FINAL_AFTER_MS) <= now_ms && running.none_of(&starts);
        let state = if over { State::Final } else { State::Open };
        let name = history.name_before(window.end_ms).to_owned();
        Ok(Invoice { organisation: organisation.to_owned(), name, window, state, lines, total })
    }

    /// The windows of requests that have no entry on the disk yet. To be read before the roll-ups.
    fn running_windows(&self, organisation: &str) -> Result<Running, StoreError> {
        let holds = self.ledger.holds()?;
        let open = holds.iter().filter_map(|hold| Opening::unpack(&hold.detail)).map(|opening| opening.context);
        let windows = open.filter(|context| context.organisation == organisation).map(|context| context.window_ms);
        Ok(Running { windows: windows.collect(), written: self.ledger.flush(WRITTEN_WAIT).is_ok() })
    }
}

/// Refuses a change of calendar that would take an organisation back into a window that is over, so that its invoice is
/// or becomes final. From the window's very end: the change may wait too, and comes before that all the same.
pub(super) fn check_windows(
    ledger: &Ledger,
    directory: &Directory,
    record: &Record,
    now_ms: i64,
) -> Result<(), ChangeError> {
    for (organisation, calendar) in moved(directory, record) {
        let next = calendar.window(Period::Month, now_ms)?;
        let billed = History::read(ledger, organisation)?.billed(ledger, organisation)?;
        if billed.iter().any(|billed| billed.window.label == next.label && billed.window.end_ms <= now_ms) {
            let problem = format!("`{organisation}` would be in the window {} again, which is over", next.label);
            let fix = format!("change it at {} or later", next.local(next.end_ms));
            return Err(Invalid::new("calendar", problem, fix).into());
        }
    }
    Ok(())
}

/// The organisations that get another calendar by `record`.
fn moved<'a>(directory: &'a Directory, record: &'a Record) -> Vec<(&'a str, &'a Calendar)> {
    let calendar = |plan: &str| directory.plans().find(|old| old.id == plan).map(|old| &old.calendar);
    match record {
        Record::Plan(plan) if calendar(&plan.id).is_some_and(|old| *old != plan.calendar) => {
            let users = directory.organisations().filter(|organisation| organisation.plan == plan.id);
            users.map(|organisation| (organisation.id.as_str(), &plan.calendar)).collect()
        }
        Record::Organisation(new) => {
            let old = directory.organisation(&new.id).and_then(|old| calendar(&old.plan));
            let changed = calendar(&new.plan).filter(|new| old.is_some_and(|old| old != *new));
            changed.map(|calendar| (new.id.as_str(), calendar)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What is under way.
struct Running {
    windows: HashSet<i64>,
    /// All that was decided before is on the disk.
    written: bool,
}

impl Running {
    fn none_of(&self, starts: &[i64]) -> bool {
        self.written && starts.iter().all(|start| !self.windows.contains(start))
    }
}

/// A calendar, and when it was in force for an organisation.
struct Tenure {
    from_ms: i64,
    to_ms: i64,
    calendar: Calendar,
}

/// What the directory said of an organisation over time.
struct History {
    /// Each from when on, oldest first.
    names: Vec<(i64, String)>,
    tenures: Vec<Tenure>,
}

impl History {
    fn read(ledger: &Ledger, organisation: &str) -> Result<Self, StoreError> {
        let mut history = Self { names: Vec::new(), tenures: Vec::new() };
        let mut plans = HashMap::new();
        for (from_ms, to_ms, record) in versions(ledger, Kind::Organisation, organisation)? {
            let Record::Organisation(record) = record else { continue };
            if !plans.contains_key(&record.plan) {
                plans.insert(record.plan.clone(), versions(ledger, Kind::Plan, &record.plan)?);
            }
            for (plan_from, plan_to, plan) in plans.get(&record.plan).into_iter().flatten() {
                let (from_ms, to_ms) = (from_ms.max(*plan_from), to_ms.min(*plan_to));
                if let Record::Plan(plan) = plan
                    && from_ms < to_ms
                {
                    history.tenures.push(Tenure { from_ms, to_ms, calendar: plan.calendar.clone() });
                }
            }
            history.names.push((from_ms, record.name));
        }
        Ok(history)
    }

    fn name_before(&self, end_ms: i64) -> &str {
        let known = self.names.iter().rfind(|(from_ms, _)| *from_ms < end_ms).or(self.names.first());
        known.map_or("", |(_, name)| name)
    }

    /// The windows with charges or credit notes.
    fn billed(&self, ledger: &Ledger, organisation: &str) -> Result<Vec<Billed>, StoreError> {
        let mut by_label: HashMap<String, (usize, Billed)> = HashMap::new();
        for start in rollup::windows(ledger, organisation)? {
            let (tenure, window) = self.window(start).map_err(|error| StoreError::Damaged(error.to_string()))?;
            let label = window.label.clone();
            let (last, billed) = by_label
                .entry(label)
                .or_insert_with(|| (tenure, Billed { window: window.clone(), starts: Vec::new() }));
            billed.starts.push(start);
            if tenure > *last {
                (*last, billed.window) = (tenure, window);
            }
        }
        Ok(by_label.into_values().map(|(_, billed)| billed).collect())
    }

    /// The window that starts at `start_ms` and the place of its calendar: the last one in force within it. Where no
    /// calendar has a window that starts there (a newer zone database), the window of the last one around it.
    fn window(&self, start_ms: i64) -> Result<(usize, Window), Invalid> {
        let mut around = None;
        for (index, tenure) in self.tenures.iter().enumerate().rev() {
            let window = tenure.calendar.window(Period::Month, start_ms)?;
            if tenure.from_ms < window.end_ms && window.start_ms < tenure.to_ms {
                if window.start_ms == start_ms {
                    return Ok((index, window));
                }
                around = around.or(Some((index, window)));
            }
        }
        match around {
            Some(around) => Ok(around),
            None => Ok((0, Calendar::default().window(Period::Month, start_ms)?)),
        }
    }
}

/// The versions of a document, each with the time from which and until which it was in force, oldest first.
fn versions(ledger: &Ledger, kind: Kind, key: &str) -> Result<Vec<(i64, i64, Record)>, StoreError> {
    let documents = ledger.document_history(kind.code(), key)?;
    let ends = documents.iter().skip(1).map(|next| next.at_ms).chain([i64::MAX]);
    let read = |(document, to_ms): (&ledger::Document, i64)| {
        let record = Record::read(kind.code(), key, &document.body);
        let record = record.map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok((document.at_ms, to_ms, record))
    };
    documents.iter().zip(ends).map(read).collect()
}
