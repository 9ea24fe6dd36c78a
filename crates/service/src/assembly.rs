//! The engine's events become a reply's events, on the reader's side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use inference::{Event, TokenId, TokenLogprobs};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::account::{Made, Parcel};
use crate::charging::Bill;
use crate::delivery::{Chunk, Delivery};
use crate::pieces::Pieces;
use crate::stop::StopSet;
use crate::{Chances, EventSource, LineError, LineEvent, TokenBytes, TokenText};

/// What to make of the events.
pub(crate) struct Plan {
    pub(crate) pieces: Arc<dyn Pieces>,
    pub(crate) candidates: u32,
    pub(crate) stops: Arc<StopSet>,
    /// Ids that end a candidate and make no text; empty when it goes on past them.
    pub(crate) end_ids: Vec<TokenId>,
    /// Whether tokens are reported beside the text.
    pub(crate) wants_tokens: bool,
    pub(crate) echo: Option<Echo>,
    pub(crate) bill: Option<Arc<Bill>>,
}

/// The prompt to be given back.
pub(crate) struct Echo {
    pub(crate) text: String,
    /// One for each prompt token; log-probabilities are filled in as they come.
    pub(crate) tokens: Vec<TokenText>,
    /// How many log-probabilities are still to come.
    pub(crate) missing: usize,
}

/// Reads the engine's events and assembles a reply's.
pub(crate) struct Assembly {
    parcels: UnboundedReceiver<Parcel>,
    pieces: Arc<dyn Pieces>,
    end_ids: Vec<TokenId>,
    wants_tokens: bool,
    echo: Option<Echo>,
    candidates: Vec<Delivery>,
    ready: VecDeque<LineEvent>,
    bill: Option<Arc<Bill>>,
    /// Prompt tokens from the prefix cache.
    cached: u64,
}

impl Assembly {
    pub(crate) fn new(plan: Plan, parcels: UnboundedReceiver<Parcel>) -> Self {
        let Plan { pieces, candidates, stops, end_ids, wants_tokens, echo, bill } = plan;
        let candidates = (0..candidates).map(|_| Delivery::new(Arc::clone(&stops))).collect();
        let ready = VecDeque::new();
        let mut assembly = Self { parcels, pieces, end_ids, wants_tokens, echo, candidates, ready, bill, cached: 0 };
        if assembly.echo.as_ref().is_some_and(|echo| echo.missing == 0) {
            assembly.give_echo();
        }
        assembly
    }

    fn give_echo(&mut self) {
        if let Some(Echo { text, tokens, .. }) = self.echo.take() {
            self.ready.push_back(LineEvent::Echo { text, tokens });
        }
    }

    fn take(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Event(Event::Prompt { start, logprobs }, made) => {
                self.take_prompt(start, &logprobs);
                self.note(made);
            }
            Parcel::Event(Event::Token { candidate, id, logprobs }, made) => {
                self.take_token(candidate, id, logprobs);
                self.note(made);
            }
            Parcel::Event(Event::Distribution { candidate, distribution }, made) => {
                let written = |id| TokenBytes { id, bytes: self.pieces.written_bytes(id).into_owned() };
                let best = distribution.best.iter().map(|token| written(token.id)).collect();
                let chosen = written(distribution.chosen);
                let chances = Box::new(Chances { chosen, best, distribution: *distribution });
                self.ready.push_back(LineEvent::Chances { candidate, chances });
                self.note(made);
            }
            Parcel::Event(Event::Finished { candidate, reason, .. }, made) => {
                self.give_echo();
                let chunk = self.candidates.get_mut(candidate as usize).map(Delivery::finish).unwrap_or_default();
                self.give(candidate, chunk);
                self.note(made);
                self.ready.push_back(LineEvent::Finished { candidate, reason });
            }
            Parcel::Event(Event::Prefilled { cached }, _) => self.cached = cached,
            Parcel::Event(Event::Done(_) | Event::Failed(..), _) => {} // always sent as `Ended`
            Parcel::Ended(None, record, charge) => self.ready.push_back(LineEvent::Done(record, charge)),
            Parcel::Ended(Some(error), record, _) => self.ready.push_back(LineEvent::Failed(error, record)),
        }
    }

    /// Text or scores are about to leave: what they stand for is noted first, or nothing leaves.
    fn note(&mut self, made: Made) {
        let Some(bill) = &self.bill else { return };
        if let Some(error) = self.ready.back().and_then(|_news| bill.note(made, self.cached).err()) {
            self.ready.clear();
            self.ready.push_back(LineEvent::Failed(error, Box::default()));
        }
    }

    fn take_prompt(&mut self, start: u32, logprobs: &[TokenLogprobs]) {
        let Some(echo) = &mut self.echo else { return };
        for (token, logprobs) in echo.tokens.iter_mut().skip(start as usize).zip(logprobs) {
            token.logprob = Some(logprobs.chosen.logprob);
            token.top = top(self.pieces.as_ref(), logprobs);
        }
        echo.missing = echo.missing.saturating_sub(logprobs.len());
        if echo.missing == 0 {
            self.give_echo();
        }
    }

    fn take_token(&mut self, candidate: u32, id: TokenId, logprobs: Option<TokenLogprobs>) {
        self.give_echo();
        if self.end_ids.contains(&id) {
            return;
        }
        let Some(delivery) = self.candidates.get_mut(candidate as usize) else { return };
        let token = self.wants_tokens.then(|| TokenText {
            id,
            bytes: Vec::new(),
            logprob: logprobs.as_ref().map(|logprobs| logprobs.chosen.logprob),
            top: logprobs.as_ref().map(|logprobs| top(self.pieces.as_ref(), logprobs)).unwrap_or_default(),
        });
        let chunk = delivery.push(&self.pieces.answer_bytes(id), token);
        self.give(candidate, chunk);
    }

    fn give(&mut self, candidate: u32, chunk: Chunk) {
        if !chunk.is_empty() {
            let Chunk { text, tokens } = chunk;
            self.ready.push_back(LineEvent::Text { candidate, text, tokens });
        }
    }
}

impl EventSource for Assembly {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LineEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            match self.parcels.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(parcel)) => self.take(parcel),
                // Cannot be: the account sends a last parcel before it lets go of the channel.
                Poll::Ready(None) => {
                    let error = LineError::internal("the events of this request broke off");
                    return Poll::Ready(Some(LineEvent::Failed(error, Box::default())));
                }
            }
        }
    }
}

/// The best tokens at a position, with their written bytes.
fn top(pieces: &dyn Pieces, logprobs: &TokenLogprobs) -> Vec<(TokenId, Vec<u8>, f32)> {
    logprobs.top.iter().map(|best| (best.id, pieces.written_bytes(best.id).into_owned(), best.logprob)).collect()
}
