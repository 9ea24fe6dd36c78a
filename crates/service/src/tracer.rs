//! What a line hands over to the traces: one request's figures and times, and its texts where its project keeps them.

use std::sync::Arc;

use inference::{Event, Timeline, TokenId};
use metering::UsageRecord;
use tokenizer::Tokenizer;
use traces::{Content, MAX_TEXT_BYTES, Owner, Trace, Traces};

use crate::delivery::Delivery;
use crate::pieces::Pieces;
use crate::stop::StopSet;
use crate::{Generation, LineError};

/// Traces one request.
pub(crate) struct Tracer {
    traces: Arc<Traces>,
    received_ms: i64,
    owner: Owner,
    candidates: u32,
    /// `None`: its project keeps none.
    texts: Option<Texts>,
}

/// The tokens that texts are made of once the request has ended, away from the engine's thread.
pub(crate) struct Texts {
    tokenizer: Arc<Tokenizer>,
    stops: Arc<StopSet>,
    /// Ids that end a candidate and make no text.
    end_ids: Vec<TokenId>,
    prompt: Vec<TokenId>,
    /// By candidate.
    answers: Vec<Vec<TokenId>>,
}

impl Tracer {
    /// `texts` makes what texts need; it is asked only where they are kept.
    pub(crate) fn new(
        traces: &Arc<Traces>,
        generation: &Generation,
        received_ms: i64,
        texts: impl FnOnce() -> Texts,
    ) -> Self {
        let owner = generation.payer.as_ref().map(|payer| Owner {
            organisation: payer.identity.organisation.id.clone(),
            project: payer.identity.project.clone(),
            key: payer.identity.key.clone().unwrap_or_default(),
        });
        let owner = owner.unwrap_or_default();
        let kept = traces.content_days(&owner.project).is_some();
        let candidates = generation.candidates;
        Self { traces: Arc::clone(traces), received_ms, owner, candidates, texts: kept.then(texts) }
    }

    /// Takes note of what the engine said.
    pub(crate) fn note(&mut self, event: &Event) {
        if let (Some(texts), Event::Token { candidate, id, .. }) = (&mut self.texts, event)
            && let Some(answer) = texts.answers.get_mut(*candidate as usize)
        {
            answer.push(*id);
        }
    }

    /// The request has ended.
    pub(crate) fn end(self, record: &UsageRecord, error: Option<&LineError>, timeline: Timeline) {
        let Self { traces, received_ms, owner, candidates, texts } = self;
        let content = texts.map(|texts| -> Box<dyn FnOnce() -> Content + Send> { Box::new(|| texts.content()) });
        let error = error.map(ToString::to_string);
        traces.keep(Trace { received_ms, owner, candidates, record: record.clone(), error, timeline, content });
    }
}

impl Texts {
    pub(crate) fn new(
        tokenizer: &Arc<Tokenizer>,
        stops: &Arc<StopSet>,
        end_ids: &[TokenId],
        prompt: &[TokenId],
        candidates: u32,
    ) -> Self {
        Self {
            tokenizer: Arc::clone(tokenizer),
            stops: Arc::clone(stops),
            end_ids: end_ids.to_vec(),
            // A token has one byte at least, but for a few.
            prompt: prompt.iter().take(MAX_TEXT_BYTES + 1).copied().collect(),
            answers: vec![Vec::new(); candidates as usize],
        }
    }

    /// The texts: answers exactly as they were delivered.
    fn content(self) -> Content {
        let answers = self.answers.iter().map(|answer| self.answer(answer)).collect();
        Content::bounded(String::from_utf8_lossy(&self.tokenizer.decode(&self.prompt)).into_owned(), answers)
    }

    fn answer(&self, ids: &[TokenId]) -> String {
        let mut delivery = Delivery::new(Arc::clone(&self.stops));
        let mut text = String::new();
        for id in ids.iter().filter(|id| !self.end_ids.contains(id)) {
            text.push_str(&delivery.push(&self.tokenizer.answer_bytes(*id), None).text);
        }
        text.push_str(&delivery.finish().text);
        text
    }
}
