//! The planned work: requests that bring steps of every class.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use inference::{Engine, Event, Request, RequestId, TokenId};

use crate::error::{Error, Result};

/// Longest wait for the next event of a request.
const PATIENCE: Duration = Duration::from_secs(600);
/// The long prompt: its last chunks and what is decoded after it look back on more than 1024 positions.
const LONG_PROMPT: usize = 1800;
const LONG_DECODE: usize = 24;
/// Chunks of a prompt that comes beside streams.
const BESIDE: usize = 320;

/// Sends planned work to an engine. Prompts are random, so that none finds another's in the prefix cache.
pub(super) struct PlannedWork<'a> {
    engine: &'a dyn Engine,
    state: u64,
    next: u64,
}

impl<'a> PlannedWork<'a> {
    pub(super) fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, state: 0x9e37_79b9_7f4a_7c15, next: 0 }
    }

    /// All of the work once: as much of it as the context and the batch have room for.
    ///
    /// # Errors
    /// The engine refuses a request, or one fails.
    pub(super) fn round(&mut self, max_running: usize) -> Result<()> {
        let room = self.engine.limits().context_len;
        for length in [24, 100, 260] {
            self.together(1, length.min(room.saturating_sub(1)), 1)?;
        }
        for (streams, tokens) in [(1, 40), (2, 24), (4, 24), (8, 24), (16, 24)] {
            if streams <= max_running && room > 16 + tokens {
                self.together(streams, 16, tokens)?;
            }
        }
        if room > LONG_PROMPT + LONG_DECODE {
            self.together(1, LONG_PROMPT, LONG_DECODE)?;
        }
        if room > BESIDE {
            self.beside_streams(max_running.min(4).saturating_sub(1))?;
        }
        if room > 256 {
            let pattern = self.prompt(12);
            let prompt = pattern.iter().copied().cycle().take(150).collect();
            let answer = self.submit(prompt, 100)?;
            drain(&answer)?;
        }
        Ok(())
    }

    /// Requests that are submitted at once.
    fn together(&mut self, streams: usize, prompt: usize, tokens: usize) -> Result<()> {
        let answers: Vec<_> = (0..streams)
            .map(|_| {
                let prompt = self.prompt(prompt.max(1));
                self.submit(prompt, tokens)
            })
            .collect::<Result<_>>()?;
        answers.iter().try_for_each(drain)
    }

    /// A prompt that comes when some streams run.
    fn beside_streams(&mut self, streams: usize) -> Result<()> {
        let running: Vec<_> = (0..streams)
            .map(|_| {
                let prompt = self.prompt(16);
                self.submit(prompt, 60)
            })
            .collect::<Result<_>>()?;
        if let Some(first) = running.first() {
            while !matches!(next(first)?, Event::Token { .. }) {}
        }
        let prompt = self.prompt(BESIDE - 1);
        let prompt = self.submit(prompt, 1)?;
        drain(&prompt)?;
        running.iter().try_for_each(drain)
    }

    fn prompt(&mut self, length: usize) -> Vec<TokenId> {
        let vocabulary = u64::try_from(self.engine.limits().vocab_size).unwrap_or(u64::MAX).max(1);
        let mut token = || {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            TokenId::try_from((self.state >> 33) % vocabulary).unwrap_or(0)
        };
        (0..length).map(|_| token()).collect()
    }

    fn submit(&mut self, prompt: Vec<TokenId>, tokens: usize) -> Result<Receiver<Event>> {
        let (sender, answer) = channel();
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let request =
            Request::plain(RequestId(self.next), prompt, tokens, Box::new(move |event| drop(sender.send(event))));
        self.next += 1;
        let refused = |e| Error::failure("the engine does not take the planned work").because(format!("{e:?}"));
        self.engine.submit(request).map_err(refused)?;
        Ok(answer)
    }
}

fn next(answer: &Receiver<Event>) -> Result<Event> {
    match answer.recv_timeout(PATIENCE) {
        Ok(Event::Failed(failure, _)) => Err(Error::failure("the planned work failed").because(format!("{failure:?}"))),
        Ok(event) => Ok(event),
        Err(e) => Err(Error::failure("the engine gave no answer").because(e)),
    }
}

fn drain(answer: &Receiver<Event>) -> Result<()> {
    while !matches!(next(answer)?, Event::Done(_)) {}
    Ok(())
}
