//! The usage of one request, settled exactly once, whatever becomes of the request and of its reader.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use economics::books::AdmitError;
use inference::{Event, EventSink, RequestFailure, TokenId, Usage};
use metering::{FinishReason, Meter, Outcome, UsageRecord};
use tokio::sync::mpsc::UnboundedSender;

use crate::charging::Bill;
use crate::tracer::Tracer;
use crate::{Charge, LineError};

/// What goes from the engine's thread to the reader.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// An event of the engine, never its last one, and what all candidates had made with it.
    Event(Event, Made),
    /// The last one: why it failed, if it did, what was used and what was charged for it.
    Ended(Option<LineError>, Box<UsageRecord>, Option<Charge>),
}

/// Tokens made so far, all candidates together, those that a stop string cut off left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) visible: u64,
    pub(crate) reasoning: u64,
}

/// Counts the tokens of one candidate that stand between reasoning markers; the markers themselves don't count.
#[derive(Clone, Debug)]
struct Reasoning {
    inside: bool,
    made: u64,
    /// Numbers of reasoning tokens as ranges, in order.
    ranges: Vec<(u64, u64)>,
}

impl Reasoning {
    fn take(&mut self, id: TokenId, (open, close): (TokenId, TokenId)) {
        let number = self.made;
        self.made += 1;
        if id == open {
            self.inside = true;
        } else if id == close {
            self.inside = false;
        } else if self.inside {
            match self.ranges.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => self.ranges.push((number, number + 1)),
            }
        }
    }

    /// Forgets the last `dropped` tokens.
    fn drop_last(&mut self, dropped: u64) {
        let kept = self.made.saturating_sub(dropped);
        self.ranges.retain(|&(start, _)| start < kept);
        if let Some((_, end)) = self.ranges.last_mut() {
            *end = kept.min(*end);
        }
    }

    fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }
}

/// What is known of a request before it runs.
pub(crate) struct Opening {
    /// Ids and labels; every quantity is zero.
    pub(crate) record: UsageRecord,
    pub(crate) candidates: u32,
    /// The ids that open and close reasoning, if the model declares them.
    pub(crate) markers: Option<(TokenId, TokenId)>,
    /// Whether the prompt ends inside reasoning.
    pub(crate) inside: bool,
    /// Who pays; `None` without books.
    pub(crate) bill: Option<Arc<Bill>>,
    /// Traces it, where requests are traced.
    pub(crate) tracer: Option<Tracer>,
}

struct State {
    record: UsageRecord,
    finished: Vec<Option<FinishReason>>,
    markers: Option<(TokenId, TokenId)>,
    reasoning: Vec<Reasoning>,
    /// Tokens seen and not cut off.
    tokens: u64,
    reader: Option<UnboundedSender<Parcel>>,
    meter: Arc<Meter>,
    bill: Option<Arc<Bill>>,
    tracer: Option<Tracer>,
    /// The engine took the request.
    accepted: bool,
    /// The engine dropped the sink.
    abandoned: bool,
    settled: bool,
    /// A candidate ended only because the books could not be asked for more: the request has failed.
    cut_off: bool,
}

impl State {
    fn is_cut_off_by(&self, event: &Event) -> bool {
        let starved = matches!(event, Event::Finished { reason: inference::FinishReason::Allowance, .. });
        starved && self.bill.as_ref().is_some_and(|bill| !bill.is_spent())
    }

    fn note(&mut self, event: &Event) {
        if let Some(tracer) = &mut self.tracer {
            tracer.note(event);
        }
        match event {
            Event::Token { candidate, id, .. } => {
                self.tokens += 1;
                self.meter.token_sampled();
                if let Some(bill) = &self.bill {
                    bill.token_made();
                }
                if let (Some(markers), Some(reasoning)) = (self.markers, self.reasoning.get_mut(*candidate as usize)) {
                    reasoning.take(*id, markers);
                }
            }
            Event::Finished { candidate, reason, dropped } => {
                self.tokens = self.tokens.saturating_sub(u64::from(*dropped));
                if let Some(finished) = self.finished.get_mut(*candidate as usize) {
                    *finished = Some(finish_reason(*reason));
                }
                if let Some(reasoning) = self.reasoning.get_mut(*candidate as usize) {
                    reasoning.drop_last(u64::from(*dropped));
                }
            }
            Event::Prompt { .. }
            | Event::Prefilled { .. }
            | Event::Distribution { .. }
            | Event::Done(_)
            | Event::Failed(..) => {}
        }
    }

    fn made(&self) -> Made {
        let reasoning = self.reasoning_tokens().unwrap_or(0);
        Made { visible: self.tokens.saturating_sub(reasoning), reasoning }
    }

    /// `None` when the model declares no markers.
    fn reasoning_tokens(&self) -> Option<u64> {
        self.markers.map(|_| self.reasoning.iter().map(Reasoning::count).sum())
    }

    /// Makes the record, counts it, has it settled and sent to the reader; only the first call does.
    fn settle(&mut self, failure: Option<LineError>, mut usage: Usage) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let failure = failure.or_else(|| self.cut_off.then(books_silent));
        let mut record = std::mem::take(&mut self.record);
        let unfinished = FinishReason::Failed;
        record.finish_reasons = self.finished.iter().map(|reason| reason.unwrap_or(unfinished)).collect();
        record.outcome = if failure.is_some() {
            Outcome::Failed
        } else if record.finish_reasons.contains(&FinishReason::Cancelled) {
            Outcome::Cancelled
        } else {
            Outcome::Ok
        };
        fill(&mut record, &usage, self.reasoning_tokens());
        record.gap_lengths = std::mem::take(&mut usage.gap_lengths);
        self.meter.record(&record);
        if let Some(tracer) = self.tracer.take() {
            tracer.end(&record, failure.as_ref(), std::mem::take(&mut usage.timeline));
        }
        let (reader, record) = (self.reader.take(), Box::new(record));
        if let Some(bill) = self.bill.take() {
            bill.settle(record, failure, reader);
        } else if let Some(reader) = reader {
            // A reader that has gone needs nothing.
            let _ = reader.send(Parcel::Ended(failure, record, None));
        }
    }

    /// The engine let go of the request without a last word.
    fn give_up(&mut self) {
        if self.settled {
            return;
        }
        tracing::error!(request_id = self.record.request_id, "the engine let go of a request without a last word");
        let usage = Usage { output_tokens: self.tokens, ..Usage::default() };
        self.settle(Some(LineError::internal("the engine ended before the request was done")), usage);
    }

    /// A reader that has gone needs nothing.
    fn send(&self, parcel: Parcel) {
        if let Some(reader) = &self.reader {
            let _ = reader.send(parcel);
        }
    }
}

/// The submitter's end: confirms that the engine took the request.
pub(crate) struct Account(Arc<Mutex<State>>);

impl Account {
    /// An account and the sink that feeds it.
    pub(crate) fn open(opening: Opening, meter: Arc<Meter>, reader: UnboundedSender<Parcel>) -> (Self, AccountSink) {
        let Opening { record, candidates, markers, inside, bill, tracer } = opening;
        let candidates = candidates as usize;
        let state = State {
            record,
            finished: vec![None; candidates],
            markers,
            reasoning: vec![Reasoning { inside, made: 0, ranges: Vec::new() }; candidates],
            tokens: 0,
            reader: Some(reader),
            meter,
            bill,
            tracer,
            accepted: false,
            abandoned: false,
            settled: false,
            cut_off: false,
        };
        let state = Arc::new(Mutex::new(state));
        (Self(Arc::clone(&state)), AccountSink(state))
    }

    /// The engine took the request: from now on it is counted, even if the engine never speaks of it again. Without
    /// this call nothing is counted unless the engine reports it.
    pub(crate) fn accept(self) {
        let mut state = lock(&self.0);
        state.accepted = true;
        if state.abandoned {
            state.give_up();
        }
    }
}

/// The engine's end.
pub(crate) struct AccountSink(Arc<Mutex<State>>);

impl EventSink for AccountSink {
    fn push(&mut self, event: Event) {
        let mut state = lock(&self.0);
        if state.is_cut_off_by(&event) {
            state.cut_off = true;
            return;
        }
        state.note(&event);
        match event {
            Event::Done(usage) => state.settle(None, *usage),
            Event::Failed(failure, usage) => state.settle(Some(line_error(failure)), *usage),
            event => {
                let made = state.made();
                state.send(Parcel::Event(event, made));
            }
        }
    }
}

impl Drop for AccountSink {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.abandoned = true;
        if state.accepted {
            state.give_up();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the quantities; reasoning tokens leave the visible ones, so that no token is counted twice.
fn fill(record: &mut UsageRecord, usage: &Usage, reasoning: Option<u64>) {
    let reasoning = reasoning.map(|tokens| tokens.min(usage.output_tokens));
    record.input_uncached_tokens = usage.input_uncached_tokens;
    record.input_cached_tokens = usage.input_cached_tokens;
    record.output_tokens = usage.output_tokens - reasoning.unwrap_or(0);
    record.reasoning_tokens = reasoning;
    record.output_dropped_tokens = usage.output_dropped_tokens;
    record.prefill_columns = usage.prefill_columns;
    record.decode_columns = usage.decode_columns;
    record.draft_accepted_tokens = usage.draft_accepted_tokens;
    record.draft_rejected_tokens = usage.draft_rejected_tokens;
    record.queue_ns = usage.queue_ns;
    record.prefill_ns = usage.prefill_ns;
    record.decode_ns = usage.decode_ns;
    record.ttft_ns = usage.ttft_ns;
    record.e2e_ns = usage.e2e_ns;
    record.gap_count = usage.gap_count;
    record.gap_sum_ns = usage.gap_sum_ns;
    record.gap_max_ns = usage.gap_max_ns;
    record.kv_block_ns = usage.kv_block_ns;
    record.preemptions = usage.preemptions;
}

fn finish_reason(reason: inference::FinishReason) -> FinishReason {
    match reason {
        inference::FinishReason::Stop => FinishReason::Stop,
        inference::FinishReason::Allowance => FinishReason::Budget,
        inference::FinishReason::Length => FinishReason::Length,
        inference::FinishReason::Cancelled => FinishReason::Cancelled,
    }
}

fn books_silent() -> LineError {
    LineError::Payment(AdmitError::Unavailable("they did not say in time whether more tokens are paid for".to_owned()))
}

fn line_error(failure: RequestFailure) -> LineError {
    match failure {
        RequestFailure::TooLarge { needed_blocks, pool_blocks } => LineError::invalid(
            "max_tokens",
            format!(
                "the request needs {needed_blocks} KV blocks and the pool has {pool_blocks}; \
                 shorten the prompt or max_tokens, or give the pool more memory"
            ),
        ),
        RequestFailure::Shutdown => LineError::Closed,
        RequestFailure::Internal(message) => LineError::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn open() -> (Account, AccountSink, Arc<Meter>, UnboundedReceiver<Parcel>) {
        let (meter, (sender, reader)) = (Arc::new(Meter::new()), unbounded_channel());
        let record = UsageRecord { model: "m".to_owned(), ..UsageRecord::default() };
        let opening = Opening { record, candidates: 1, markers: None, inside: false, bill: None, tracer: None };
        let (account, sink) = Account::open(opening, Arc::clone(&meter), sender);
        (account, sink, meter, reader)
    }

    /// Requests counted: ok, cancelled, failed.
    fn counted(meter: &Meter) -> [u64; 3] {
        let text = meter.render(&[]);
        ["ok", "cancelled", "failed"].map(|outcome| {
            let series = format!("tokenworks_requests_total{{model=\"m\",outcome=\"{outcome}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
        })
    }

    #[test]
    fn a_refused_request_is_not_counted() {
        let (account, sink, meter, mut reader) = open();
        drop(sink);
        drop(account);
        assert_eq!(counted(&meter), [0, 0, 0]);
        assert!(reader.try_recv().is_err());
    }

    #[test]
    fn an_engine_that_says_nothing_more_has_failed() {
        let (account, mut sink, meter, mut reader) = open();
        account.accept();
        sink.push(Event::Token { candidate: 0, id: 7, logprobs: None });
        drop(sink);
        assert_eq!(counted(&meter), [0, 0, 1]);
        let made = Made { visible: 1, reasoning: 0 };
        assert!(matches!(reader.try_recv(), Ok(Parcel::Event(_, now)) if now == made));
        let Ok(Parcel::Ended(Some(_), record, None)) = reader.try_recv() else { panic!("no last parcel") };
        assert_eq!((record.outcome, record.output_tokens), (Outcome::Failed, 1));
        assert!(reader.try_recv().is_err() && reader.is_closed());
    }

    #[test]
    fn an_engine_that_dies_while_accepting_has_failed() {
        let (account, sink, meter, mut reader) = open();
        drop(sink);
        account.accept();
        assert_eq!(counted(&meter), [0, 0, 1]);
        assert!(matches!(reader.try_recv(), Ok(Parcel::Ended(Some(_), _, None))));
    }

    #[test]
    fn an_end_before_the_acceptance_is_counted_once() {
        let (account, mut sink, meter, mut reader) = open();
        sink.push(Event::Done(Box::new(Usage { output_tokens: 3, ..Usage::default() })));
        sink.push(Event::Done(Box::default()));
        drop(sink);
        account.accept();
        assert_eq!(counted(&meter).iter().sum::<u64>(), 1);
        let Ok(Parcel::Ended(None, record, None)) = reader.try_recv() else { panic!("no last parcel") };
        assert_eq!(record.output_tokens, 3);
        assert!(reader.try_recv().is_err());
    }

    #[test]
    fn a_reader_that_has_gone_changes_nothing() {
        let (account, mut sink, meter, reader) = open();
        account.accept();
        drop(reader);
        sink.push(Event::Token { candidate: 0, id: 7, logprobs: None });
        sink.push(Event::Finished { candidate: 0, reason: inference::FinishReason::Cancelled, dropped: 0 });
        sink.push(Event::Done(Box::default()));
        drop(sink);
        assert_eq!(counted(&meter), [0, 1, 0]);
    }

    #[test]
    fn dropped_tokens_are_no_reasoning() {
        let mut reasoning = Reasoning { inside: true, made: 0, ranges: Vec::new() };
        for id in [5, 6, 2, 7, 1, 8, 9] {
            reasoning.take(id, (1, 2));
        }
        assert_eq!((reasoning.ranges.as_slice(), reasoning.count()), (&[(0, 2), (5, 7)][..], 4));
        reasoning.drop_last(1);
        assert_eq!(reasoning.count(), 3);
        reasoning.drop_last(6);
        assert_eq!((reasoning.ranges.as_slice(), reasoning.count()), (&[(0, 1)][..], 1));
    }
}
