//! One request on its way out: its candidates, its events, and what it used.

use std::any::Any;
use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inference::{
    Adapter, Allowance, CancelToken, Control, Event, EventSink, FinishReason, MachineTime, PrefillChunk, Request,
    RequestFailure, RequestId, SamplingParams, TokenId, TokenLogprobs, TokenTime, Usage, Verdict,
};

use crate::draft::{self, Drafter, Guess, Lookup, Prospect, Usual};
use crate::sampler::{Sampler, TokenCounts, draw};
use crate::sequence::Rank;

/// Tokens that an answer is expected to make at least, as far as it may.
const FIRST_TO_COME: usize = 32;

/// What a candidate needs to choose and report its tokens; survives preemption.
struct Candidate {
    counts: TokenCounts,
    drafter: Option<Drafter>,
    control: Option<Box<dyn Control>>,
    made: u32,
    last_token_ns: Option<u64>,
    finished: bool,
}

impl Candidate {
    /// Most tokens that may be guessed ahead: the last one needs no guess.
    fn may_guess(&self, max_tokens: u32) -> usize {
        ((max_tokens - self.made).saturating_sub(1) as usize).min(draft::MOST)
    }
}

/// What came of asking a candidate for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It goes on with this token.
    Goes(TokenId),
    /// It has ended.
    Ended,
    /// The whole request fails.
    Failed(RequestFailure),
}

/// A request in the engine. Times are nanoseconds of the engine's clock.
pub(crate) struct Output {
    id: RequestId,
    /// By which the engine knows it.
    pub(crate) arrival: u64,
    pub(crate) priority: i32,
    pub(crate) client: Option<u64>,
    pub(crate) turn: u64,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) cache_salt: u64,
    max_tokens: u32,
    allowance: Option<Allowance>,
    /// Since when a candidate waits for the allowance.
    starved_ns: Option<u64>,
    sampling: SamplingParams,
    seed: u64,
    stop_ids: Vec<TokenId>,
    ignore_eos: bool,
    pub(crate) prompt_logprobs: Option<u8>,
    cancel: CancelToken,
    sink: Box<dyn EventSink>,
    candidates: Vec<Candidate>,
    usage: Usage,
    received_ns: u64,
    started_ns: Option<u64>,
    first_token_ns: Option<u64>,
    /// First positions of the prompt that are counted as cached or uncached input.
    counted: usize,
    /// First positions whose rows of prompt log-probabilities are reported.
    pub(crate) scored: usize,
    /// The sink or a control panicked: nothing more is pushed.
    broken: bool,
}

impl Output {
    /// `seed` is used when the request brings none.
    pub(crate) fn new(request: Request, arrival: u64, received_ns: u64, seed: u64) -> Self {
        let mut controls = request.controls.into_iter();
        let counts = TokenCounts::new(&request.prompt, &request.sampling);
        let candidates = (0..request.candidates)
            .map(|_| Candidate {
                counts: counts.clone(),
                drafter: None,
                control: controls.next(),
                made: 0,
                last_token_ns: None,
                finished: false,
            })
            .collect();
        Self {
            id: request.id,
            arrival,
            priority: request.priority,
            client: request.client,
            turn: 0,
            prompt: request.prompt,
            adapter: request.adapter,
            cache_salt: request.cache_salt,
            max_tokens: request.max_tokens,
            allowance: request.allowance,
            starved_ns: None,
            seed: request.sampling.seed.unwrap_or(seed),
            sampling: request.sampling,
            stop_ids: request.stop_ids,
            ignore_eos: request.ignore_eos,
            prompt_logprobs: request.prompt_logprobs,
            cancel: request.cancel,
            sink: request.events,
            candidates,
            usage: Usage::default(),
            received_ns,
            started_ns: None,
            first_token_ns: None,
            counted: 0,
            scored: 0,
            broken: false,
        }
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// The rank of one of its candidates.
    pub(crate) fn rank(&self, arrival: u64, candidate: u32) -> Rank {
        Rank { priority: Reverse(self.priority), turn: self.turn, arrival, candidate }
    }

    pub(crate) fn candidates(&self) -> u32 {
        u32::try_from(self.candidates.len()).unwrap_or(u32::MAX)
    }

    /// Positions of one sequence at its end: the last token made is never computed.
    pub(crate) fn most_positions(&self) -> usize {
        self.prompt.len() + (self.max_tokens as usize).saturating_sub(1)
    }

    pub(crate) fn only_scores(&self) -> bool {
        self.max_tokens == 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.finished)
    }

    pub(crate) fn has_finished(&self, candidate: u32) -> bool {
        self.candidates.get(candidate as usize).is_none_or(|candidate| candidate.finished)
    }

    /// A step that works on the request begins. Gives whether it is the first one.
    pub(crate) fn start(&mut self, now: u64) -> bool {
        let first = self.started_ns.is_none();
        self.started_ns.get_or_insert(now);
        first
    }

    /// The first `positions` of the prompt are there, out of the cache or computed; those not counted yet are
    /// counted. Gives how many were.
    pub(crate) fn count_input(&mut self, positions: usize, cached: bool) -> u64 {
        let positions = positions.min(self.prompt.len());
        let new = positions.saturating_sub(self.counted);
        self.counted = self.counted.max(positions);
        let new = u64::try_from(new).unwrap_or(u64::MAX);
        if cached {
            self.usage.input_cached_tokens += new;
        } else {
            self.usage.input_uncached_tokens += new;
        }
        new
    }

    /// Adds computed columns of a step that began at `start`, and its time if it worked on the prompt before the first token.
    pub(crate) fn count_columns(&mut self, (prefill, decode): (u64, u64), start: u64, step_ns: u64) {
        self.usage.prefill_columns += prefill;
        self.usage.decode_columns += decode;
        if prefill > 0 {
            let start_ns = start.saturating_sub(self.received_ns);
            self.usage.timeline.note_prefill(PrefillChunk { start_ns, length_ns: step_ns, tokens: prefill });
            if self.first_token_ns.is_none() {
                self.usage.prefill_ns += step_ns;
            }
        }
    }

    fn going(&self) -> usize {
        self.candidates.iter().filter(|candidate| !candidate.finished).count()
    }

    /// Tokens of the allowance that no candidate needs for its next token.
    fn spare(&self) -> usize {
        self.allowance.as_ref().map_or(usize::MAX, |allowance| {
            usize::try_from(allowance.left()).unwrap_or(usize::MAX).saturating_sub(self.going())
        })
    }

    /// Looks up how candidates may go on whose tokens are given: never more than they may make. No token of the allowance
    /// is counted on that another candidate needs.
    pub(crate) fn guess(&mut self, sequences: &[(u32, &[TokenId])]) -> Vec<Vec<Guess>> {
        let mut left = self.spare();
        let positions = self.prompt.len() + self.max_tokens as usize;
        let mut guess = |(index, tokens): &(u32, &[TokenId])| {
            let Some(candidate) = self.candidates.get_mut(*index as usize) else { return Vec::new() };
            let may_make = candidate.may_guess(self.max_tokens);
            let drafter = candidate.drafter.get_or_insert_with(|| Drafter::new(Lookup::new(positions)));
            let guesses = drafter.guess(tokens, may_make.min(left));
            left -= guesses.len();
            guesses
        };
        sequences.iter().map(&mut guess).collect()
    }

    /// What a draft model may hope for with a candidate, if it is likelier to be right than what was looked up. `usual` is
    /// how it does with all of them. An answer is taken to go on for as long as it has.
    pub(crate) fn prospect(&mut self, index: u32, usual: &mut Usual) -> Option<Prospect> {
        // The others may have looked up as many as there can be.
        let left = self.spare().saturating_sub(self.going().saturating_sub(1) * draft::MOST);
        let candidate = self.candidates.get_mut(index as usize)?;
        let chance = candidate.drafter.as_mut()?.foresee(usual)?;
        let most = candidate.may_guess(self.max_tokens).min(left);
        let to_come = (candidate.made as usize + FIRST_TO_COME).min((self.max_tokens - candidate.made) as usize);
        Some(Prospect { most, chance, to_come })
    }

    /// Takes the next guess of a draft model from its logits, drawn by the random number that the token itself will be
    /// drawn with: so a model that thinks alike guesses right also where the draw is unlikely. Gives the guess, and how
    /// likely all of them are to come (0: they are not worth their columns).
    pub(crate) fn take_guess(&mut self, index: u32, row: &[f32], sampler: &mut Sampler) -> Option<(TokenId, f32)> {
        let candidate = self.candidates.get_mut(index as usize)?;
        let drafter = candidate.drafter.as_mut()?;
        let mut counts = candidate.counts.clone();
        let ahead = drafter.by_model();
        ahead.iter().for_each(|(token, _)| counts.note(*token));
        let number = candidate.made + u32::try_from(ahead.len()).ok()?;
        let uniform = if self.sampling.temperature == 0.0 { 0.0 } else { draw(self.seed, index, number) };
        // The control is not asked: it may look at each token once.
        let token = sampler.choose(row, &self.sampling, &counts, None, uniform).ok()?;
        let probability = sampler.logprobs(row, token, 0).ok()?.chosen.logprob.exp();
        Some((token, drafter.push(token, probability)))
    }

    /// The draft model's guesses for a candidate that are worth a column.
    pub(crate) fn model_guesses(&self, index: u32) -> Option<Vec<Guess>> {
        let drafter = self.candidates.get(index as usize)?.drafter.as_ref()?;
        (!drafter.by_model().is_empty()).then(|| drafter.worthy(draft::MOST))
    }

    /// Columns were computed for guessed tokens: wasted, unless they turn out right.
    pub(crate) fn count_guessed(&mut self, columns: u64) {
        self.usage.draft_rejected_tokens += columns;
    }

    /// A guessed token came: its column was not wasted.
    pub(crate) fn count_accepted(&mut self) {
        self.usage.draft_rejected_tokens -= 1;
        self.usage.draft_accepted_tokens += 1;
    }

    /// So many columns for guesses of a candidate were right, so many wrong. Gives how many a draft model guessed right.
    pub(crate) fn note_drafts(&mut self, index: u32, accepted: usize, rejected: usize) -> usize {
        let candidate = self.candidates.get_mut(index as usize);
        let drafter = candidate.and_then(|candidate| candidate.drafter.as_mut());
        drafter.map_or(0, |drafter| drafter.spent(accepted, rejected))
    }

    /// How many guessed tokens came so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.usage.draft_accepted_tokens
    }

    pub(crate) fn count_machine_time(&mut self, time: &MachineTime) {
        self.usage.machine.add(time);
    }

    pub(crate) fn count_block_ns(&mut self, ns: u64) {
        self.usage.kv_block_ns += ns;
    }

    pub(crate) fn count_preemption(&mut self, now: u64) {
        self.usage.preemptions += 1;
        self.usage.timeline.note_preemption(now.saturating_sub(self.received_ns));
    }

    /// Pushes an event; a sink that panics gets nothing more.
    fn push(&mut self, event: Event) {
        if self.broken {
            return;
        }
        let sink = &mut self.sink;
        if catch_unwind(AssertUnwindSafe(|| sink.push(event))).is_err() {
            self.broken = true;
        }
    }

    /// Reports log-probabilities of prompt tokens from `start` on.
    pub(crate) fn push_prompt(&mut self, start: usize, logprobs: Vec<TokenLogprobs>) {
        self.scored = start - 1 + logprobs.len();
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        self.push(Event::Prompt { start, logprobs });
    }

    /// Which of `candidates`, all about to decode, have no token of the allowance left for them, and whether they need
    /// not wait for more: none will come, or they have waited for `patience_ns`.
    pub(crate) fn starved(&mut self, candidates: &[u32], now: u64, patience_ns: u64) -> (Vec<u32>, bool) {
        let Some(allowance) = &self.allowance else { return (Vec::new(), false) };
        let exhausted = allowance.is_exhausted();
        let left = usize::try_from(allowance.left()).unwrap_or(usize::MAX);
        let starved = candidates.get(left..).unwrap_or_default().to_vec();
        if starved.is_empty() {
            self.starved_ns = None;
            return (starved, false);
        }
        let since = *self.starved_ns.get_or_insert(now);
        (starved, exhausted || now.saturating_sub(since) >= patience_ns)
    }

    /// Whether the first tokens of all candidates are not granted yet and may come: until then, or for `patience_ns`, the
    /// prompt need not be computed.
    pub(crate) fn waits_to_begin(&mut self, now: u64, patience_ns: u64) -> bool {
        let Some(allowance) = &self.allowance else { return false };
        if allowance.left() >= u64::from(self.candidates()) || allowance.is_closed() {
            self.starved_ns = None;
            return false;
        }
        let since = *self.starved_ns.get_or_insert(now);
        now.saturating_sub(since) < patience_ns
    }

    /// Reports that the prompt is done.
    pub(crate) fn push_prefilled(&mut self) {
        let cached = self.usage.input_cached_tokens;
        self.push(Event::Prefilled { cached });
    }

    /// Ends one candidate.
    pub(crate) fn finish(&mut self, index: u32, reason: FinishReason, dropped: u32) {
        let Some(candidate) = self.candidates.get_mut(index as usize) else { return };
        candidate.finished = true;
        let dropped = dropped.min(candidate.made);
        self.usage.output_tokens -= u64::from(dropped);
        self.usage.output_dropped_tokens += u64::from(dropped);
        self.push(Event::Finished { candidate: index, reason, dropped });
    }

    /// Ends every candidate that has not ended yet.
    pub(crate) fn finish_all(&mut self, reason: FinishReason) {
        for index in 0..self.candidates() {
            if !self.has_finished(index) {
                self.finish(index, reason, 0);
            }
        }
    }

    /// Chooses a candidate's next token from its logits, reports it, and ends the candidate if that is due. `now`
    /// reads the clock once the token is chosen.
    pub(crate) fn make_token(&mut self, index: u32, row: &[f32], sampler: &mut Sampler, now: impl Fn() -> u64) -> Made {
        if self.allowance.as_ref().is_some_and(|allowance| !allowance.take()) {
            self.finish(index, FinishReason::Allowance, 0);
            return Made::Ended;
        }
        let Some(candidate) = self.candidates.get_mut(index as usize) else { return Made::Ended };
        let uniform = if self.sampling.temperature == 0.0 { 0.0 } else { draw(self.seed, index, candidate.made) };
        let (sampling, counts) = (&self.sampling, &candidate.counts);
        let control = candidate.control.as_deref_mut();
        // The control is the caller's code: its panic is this request's failure only.
        let chosen =
            catch_unwind(AssertUnwindSafe(|| sampler.choose_reporting(row, sampling, counts, control, uniform)));
        let mut logprobs = |id| match sampling.logprobs {
            None => Ok(None),
            Some(top) => sampler.logprobs(row, id, top).map(Some),
        };
        let chosen = match chosen {
            Ok(chosen) => chosen.and_then(|(id, distribution)| Ok((id, logprobs(id)?, distribution))),
            Err(panic) => return self.fail_by_panic("a control", panic.as_ref()),
        };
        let (id, logprobs, distribution) = match chosen {
            Ok(chosen) => chosen,
            Err(error) => return Made::Failed(RequestFailure::Internal(error.to_string())),
        };
        candidate.made += 1;
        candidate.counts.note(id);
        if let Some(drafter) = &mut candidate.drafter {
            drafter.note(id);
        }
        self.count_token(index, now());
        self.push(Event::Token { candidate: index, id, logprobs });
        if let Some(distribution) = distribution.map(Box::new) {
            self.push(Event::Distribution { candidate: index, distribution });
        }
        self.judge(index, id)
    }

    /// Whether a candidate goes on after `id`.
    fn judge(&mut self, index: u32, id: TokenId) -> Made {
        let Some(candidate) = self.candidates.get_mut(index as usize) else { return Made::Ended };
        let full = candidate.made >= self.max_tokens;
        if !self.ignore_eos && self.stop_ids.contains(&id) {
            self.finish(index, FinishReason::Stop, 0);
            return Made::Ended;
        }
        if let Some(control) = &mut candidate.control {
            match catch_unwind(AssertUnwindSafe(|| control.commit(id))) {
                Ok(Verdict::Continue) => {}
                Ok(Verdict::Stop { drop }) => {
                    self.finish(index, FinishReason::Stop, drop);
                    return Made::Ended;
                }
                Err(panic) => return self.fail_by_panic("a control", panic.as_ref()),
            }
        }
        if full {
            self.finish(index, FinishReason::Length, 0);
            return Made::Ended;
        }
        if self.allowance.as_ref().is_some_and(Allowance::is_exhausted) {
            self.finish(index, FinishReason::Allowance, 0);
            return Made::Ended;
        }
        Made::Goes(id)
    }

    fn fail_by_panic(&self, whose: &str, panic: &(dyn Any + Send)) -> Made {
        let message = format!("{whose} of request {} panicked: {}", self.id, panic_message(panic));
        Made::Failed(RequestFailure::Internal(message))
    }

    fn count_token(&mut self, index: u32, now: u64) {
        self.usage.output_tokens += 1;
        let at_ns = now.saturating_sub(self.received_ns);
        self.usage.timeline.note_token(TokenTime { at_ns, candidate: index });
        if self.first_token_ns.is_none() {
            self.first_token_ns = Some(now);
            self.usage.ttft_ns = Some(at_ns);
        }
        let Some(candidate) = self.candidates.get_mut(index as usize) else { return };
        if let Some(last) = candidate.last_token_ns.replace(now) {
            self.usage.note_gap(now.saturating_sub(last));
        }
    }

    /// Pushes the last event: `Done`, or `Failed` with the reason.
    pub(crate) fn end(mut self, failure: Option<RequestFailure>, now: u64) {
        self.usage.e2e_ns = now.saturating_sub(self.received_ns);
        self.usage.queue_ns = self.started_ns.unwrap_or(now).saturating_sub(self.received_ns);
        self.usage.decode_ns = self.first_token_ns.map_or(0, |first| now.saturating_sub(first));
        if self.started_ns.is_none() {
            // It found positions in the cache, and had no use of them.
            self.usage.input_cached_tokens = 0;
        }
        let usage = Box::new(std::mem::take(&mut self.usage));
        self.push(match failure {
            None => Event::Done(usage),
            Some(failure) => Event::Failed(failure, usage),
        });
        // Dropping the sink and the controls runs the caller's code too.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(self))) {
            tracing::error!("a request's sink or control panicked in drop: {}", panic_message(panic.as_ref()));
        }
    }
}

/// The message a panic carries.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
