//! Budget alerts. One that was raised is a document of the ledger, so that it is neither lost nor raised twice, and its
//! delivery is the document's next version.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger::{
    AccountId, Batch, Command, Document, Entry, EntryId, Ledger, Outcome, Receipt, Refusal, Refused, StoreError,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accounts::{Watch, budget_name};
use super::{Books, SettleError, id_of};
use crate::Nano;
use crate::limits::Level;
use crate::rollup::last_alerts;
use crate::window::rfc3339;

/// Documents that are alerts; their key is the budget's account and the threshold.
pub(crate) const ALERT_KIND: u16 = 101;
/// Most thresholds remembered as raised. With more all are forgotten: then the ledger says it again.
const MAX_KNOWN: usize = 65_536;
/// Most budgets whose alerts wait for a ledger that takes nothing.
const MAX_LATE: usize = 1_000;

/// A threshold of a budget that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// The level of the budget.
    pub level: Level,
    /// Whose budget.
    pub id: String,
    /// The first day of its window.
    pub window: String,
    /// The threshold, in percent.
    pub percent: u16,
    /// The budget.
    pub amount: Nano,
    /// What was spent when it was raised.
    pub spent: Nano,
}

/// What became of an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
#[schema(as = AlertDelivery)]
pub enum Delivery {
    /// Nobody was told yet.
    #[default]
    Pending,
    /// The receiver took it.
    Delivered {
        /// When.
        #[serde(with = "rfc3339")]
        #[schema(value_type = String)]
        at: i64,
        /// How often it was sent since the server started.
        attempts: u32,
    },
    /// The receiver never took it.
    GivenUp {
        /// When.
        #[serde(with = "rfc3339")]
        #[schema(value_type = String)]
        at: i64,
        /// How often it was sent since the server started.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
}

/// An alert as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RaisedAlert)]
pub struct Raised {
    /// The document's key.
    #[serde(skip)]
    pub key: String,
    /// What was reached.
    #[serde(flatten)]
    pub alert: Alert,
    /// When it was raised.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String)]
    pub at: i64,
    /// Number of the server that raised it and delivers it first.
    pub writer: u32,
    /// What became of it.
    #[serde(default)]
    #[schema(required = true)]
    pub delivery: Delivery,
}

/// Who brings alerts to people.
pub trait Notifier: Send + Sync {
    /// An alert was decided; it is on the disk in a moment. Must not wait.
    fn raised(&self);

    /// Sends a test event and waits for the answer, which it tells. Waits on the network.
    ///
    /// # Errors
    /// Why it was not taken.
    fn test(&self) -> Result<String, String>;
}

/// What this process knows of alerts.
#[derive(Default)]
pub(super) struct KnownAlerts {
    /// Thresholds that are raised.
    raised: Mutex<HashSet<(AccountId, u16)>>,
    /// What could not be looked at or raised: it is tried again with the next settlement of anybody, since a spent budget
    /// has none any more. The next start tries too.
    late: Mutex<Vec<Watch>>,
}

impl KnownAlerts {
    fn raised(&self) -> MutexGuard<'_, HashSet<(AccountId, u16)>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, threshold: (AccountId, u16)) {
        let mut raised = self.raised();
        if raised.len() >= MAX_KNOWN {
            raised.clear();
        }
        raised.insert(threshold);
    }

    fn late(&self) -> MutexGuard<'_, Vec<Watch>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn delay(&self, watch: Watch) {
        let mut late = self.late();
        if late.len() < MAX_LATE && late.iter().all(|other| other.account != watch.account) {
            late.push(watch);
        }
    }
}

impl Raised {
    fn of(entry: &Entry) -> Option<Self> {
        Self::read(&entry.document()?)
    }

    fn read(document: &Document) -> Option<Self> {
        let raised: Self = serde_json::from_slice(&document.body).ok().filter(|_| document.kind == ALERT_KIND)?;
        Some(Self { key: document.key.clone(), ..raised })
    }

    /// The document's version and its idempotency id: there are two, raised and done.
    fn version(&self) -> (u64, EntryId) {
        let version = if self.delivery == Delivery::Pending { 1 } else { 2 };
        (version, version_id(&self.key, version))
    }

    fn put(&self) -> Command {
        let (version, id) = self.version();
        // Plain data with text keys always has a JSON form.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Command::Put { id, kind: ALERT_KIND, key: self.key.clone(), version, actor: "books".to_owned(), body }
    }
}

fn version_id(key: &str, version: u64) -> EntryId {
    id_of(&["alert", key, &version.to_string()])
}

/// The key of the alert of a budget's account at a threshold.
fn alert_key(account: &str, percent: u16) -> String {
    format!("{account}/{percent}%")
}

/// Whether the alert of a budget's account at a threshold was raised, here or elsewhere.
pub(super) fn was_raised(ledger: &Ledger, account: &str, percent: u16) -> Result<bool, StoreError> {
    Ok(ledger.entry_by_id(version_id(&alert_key(account, percent), 1))?.is_some())
}

impl Books {
    /// Has `notifier` told of alerts; the first one stays.
    pub fn notify(&self, notifier: Arc<dyn Notifier>) {
        let _ = self.notifier.set(notifier);
    }

    /// Who brings alerts to people, if anybody does.
    #[must_use]
    pub fn notifier(&self) -> Option<&Arc<dyn Notifier>> {
        self.notifier.get()
    }

    /// The alerts that were raised last, newest first, at most `limit` and 10,000.
    ///
    /// # Errors
    /// The store's.
    pub fn alerts(&self, limit: usize) -> Result<Vec<Raised>, StoreError> {
        let mut newest = Vec::new();
        for seq in last_alerts(&self.ledger, u32::try_from(limit).unwrap_or(u32::MAX))? {
            let raised = self.ledger.entries(seq, 1)?.first().and_then(Raised::of);
            let raised = raised.ok_or_else(|| StoreError::Damaged(format!("entry {seq} should be an alert")))?;
            let done = self.ledger.entry_by_id(version_id(&raised.key, 2))?.as_ref().and_then(Raised::of);
            newest.push(done.unwrap_or(raised));
        }
        newest.sort_by(|a: &Raised, b| b.at.cmp(&a.at).then_with(|| a.key.cmp(&b.key)));
        Ok(newest)
    }

    /// What became of alerts after entry `seq`, oldest first, and the entry that was reached; the same `seq` again: there
    /// is nothing more. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn alerts_after(&self, seq: u64, limit: u32) -> Result<(Vec<Raised>, u64), StoreError> {
        let page = self.ledger.documents_after(seq, limit)?;
        let reached = page.last().map_or(seq, |last| last.seq);
        Ok((page.iter().filter_map(Raised::read).collect(), reached))
    }

    /// Whether nobody has recorded yet what became of an alert.
    ///
    /// # Errors
    /// The store's.
    pub fn is_pending(&self, raised: &Raised) -> Result<bool, StoreError> {
        Ok(self.ledger.entry_by_id(version_id(&raised.key, 2))?.is_none())
    }

    /// Records what became of an alert. What another server recorded stays.
    ///
    /// # Errors
    /// The ledger takes nothing now.
    pub fn end_alert(&self, raised: &Raised, delivery: Delivery, now_ms: i64) -> Result<(), Refused> {
        let done = Raised { delivery, ..raised.clone() };
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![done.put()] }) {
            Ok(_) | Err(Refused { refusal: Refusal::Conflict(_) | Refusal::BadVersion { .. }, .. }) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// Raises what is reached and was not raised before. The receipt is that of the last one: it and everything decided
    /// before it are on the disk together.
    pub(super) fn raise(&self, watches: &[Watch], now_ms: i64) -> (Vec<Alert>, Option<Receipt>) {
        let mut raised = (Vec::new(), None);
        let late = std::mem::take(&mut *self.known_alerts.late());
        for watch in watches.iter().chain(&late) {
            if let Err(error) = self.raise_reached(watch, &mut raised, now_ms) {
                tracing::warn!("the alerts of a budget are raised later: {error}");
                self.known_alerts.delay(watch.clone());
            }
        }
        if !raised.0.is_empty()
            && let Some(notifier) = self.notifier()
        {
            notifier.raised();
        }
        raised
    }

    fn raise_reached(
        &self,
        watch: &Watch,
        (alerts, last): &mut (Vec<Alert>, Option<Receipt>),
        now_ms: i64,
    ) -> Result<(), SettleError> {
        let Some(balance) = self.ledger.balance(watch.account)? else { return Ok(()) };
        let spent = Nano(balance.posted.saturating_neg());
        let counts = if watch.exhausted && spent > Nano::ZERO { spent.max(watch.budget.amount) } else { spent };
        for percent in watch.budget.reached(counts) {
            let threshold = (watch.account, percent);
            if self.known_alerts.raised().contains(&threshold) {
                continue;
            }
            let raised = self.raise_one(watch, (percent, spent), now_ms)?;
            self.known_alerts.add(threshold);
            let Some((alert, receipt)) = raised else { continue };
            tracing::warn!(target: "budget", level = alert.level.as_str(), id = alert.id, window = alert.window, percent,
                "a budget passed a threshold: {spent} of {}", alert.amount);
            alerts.push(alert);
            *last = Some(receipt);
        }
        Ok(())
    }

    /// `None`: it was raised before, here or elsewhere.
    fn raise_one(
        &self,
        watch: &Watch,
        (percent, spent): (u16, Nano),
        now_ms: i64,
    ) -> Result<Option<(Alert, Receipt)>, Refused> {
        let Watch { subject, budget, window, .. } = watch;
        let alert = Alert {
            level: subject.level,
            id: subject.id.to_string(),
            window: window.label.clone(),
            percent,
            amount: budget.amount,
            spent,
        };
        let key = alert_key(&watch.name(), percent);
        let delivery = Delivery::Pending;
        let raised = Raised { key, alert: alert.clone(), at: now_ms, writer: self.writer, delivery };
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![raised.put()] }) {
            Ok(receipt) => {
                let first = matches!(receipt.outcomes.first(), Some(Outcome::Applied { .. }));
                Ok(first.then_some((alert, receipt)))
            }
            Err(Refused { refusal: Refusal::Conflict(_) | Refusal::BadVersion { .. }, .. }) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Raises what is reached in the present window of any budget: of all that stand in the directory, and of these end
    /// users (organisation, user).
    pub(super) fn raise_all(&self, users: &HashSet<(String, String)>, now_ms: i64) -> Result<Vec<Alert>, StoreError> {
        let budgets = {
            let directory = self.directory();
            let of_users =
                users.iter().filter_map(|(organisation, user)| directory.end_user_budget(organisation, user));
            directory.budgets().into_iter().chain(of_users).collect::<Vec<_>>()
        };
        let mut watches = Vec::new();
        for (subject, budget, calendar) in budgets.into_iter().filter(|(_, budget, _)| !budget.alert_percent.is_empty())
        {
            // The calendar was checked when it was written.
            let Ok(window) = calendar.window(budget.period, now_ms) else { continue };
            let name = budget_name(&subject, budget.period, &window);
            if let Some(account) = self.ledger.account(&name)? {
                watches.push(Watch { account, subject, budget, window, exhausted: false });
            }
        }
        Ok(self.raise(&watches, now_ms).0)
    }
}
