//! The events of one accepted generation, as its reader sees them.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use economics::limits::Standings;
use inference::CancelToken;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::LineEvent;
use crate::charging::Bill;

/// Where a reply's events come from. It ends (`None`) after `Done` or `Failed`.
pub trait EventSource: Send {
    /// The next event, when there is one.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineEvent>>;
}

impl EventSource for UnboundedReceiver<LineEvent> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineEvent>> {
        self.poll_recv(cx)
    }
}

/// The events of one generation. What gathers while nobody reads is bounded by the generation's `max_tokens` and
/// `candidates`. Dropping it cancels the work within one step.
pub struct Reply {
    source: Box<dyn EventSource>,
    cancel: CancelToken,
    standings: Standings,
    bill: Option<Arc<Bill>>,
    ended: bool,
}

impl Reply {
    /// A reply over its events and the token that stops their making.
    #[must_use]
    pub fn new(source: Box<dyn EventSource>, cancel: CancelToken) -> Self {
        Self { source, cancel, standings: Standings::default(), bill: None, ended: false }
    }

    /// The same reply, paid for by `bill`.
    pub(crate) fn charged(mut self, bill: Option<Arc<Bill>>) -> Self {
        self.standings = bill.as_ref().map_or(self.standings, |bill| bill.standings());
        self.bill = bill;
        self
    }

    /// A way to withdraw it later, also after it has ended.
    #[must_use]
    pub fn withdrawal(&self) -> Withdrawal {
        Withdrawal(self.bill.clone())
    }

    /// How the caller's rate limits stood when it was admitted.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.standings
    }

    /// The next event; `None` after `Done` or `Failed`. Safe to drop half-way: no event is lost.
    pub async fn next(&mut self) -> Option<LineEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for hand-written streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = self.source.poll_next(cx);
        if let Poll::Ready(None | Some(LineEvent::Done(..) | LineEvent::Failed(..))) = event {
            self.ended = true;
        }
        event
    }

    /// Asks for the stop; the last events (`Finished` as cancelled, `Done` with what was used) still come.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Withdraws a reply of which nothing was delivered, for a reason of this side.
pub struct Withdrawal(Option<Arc<Bill>>);

impl Withdrawal {
    /// It costs nothing: what it was charged is given back. The work stops when the reply is dropped.
    pub fn withdraw(self) {
        if let Some(bill) = self.0 {
            bill.withdraw();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("ended", &self.ended).finish_non_exhaustive()
    }
}
