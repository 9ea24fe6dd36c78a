//! Guesses ahead within a step: made before it is scheduled, checked when its tokens are.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inference::TokenId;

use super::Core;
use crate::draft::{DraftModel, MOST, Outlook, Prospect};
use crate::output::{Output, panic_message};
use crate::scheduler::GUESSES_MOST;
use crate::sequence::Rank;
use crate::stats;

/// A stream that the draft model may guess for.
struct Hope {
    rank: Rank,
    prospect: Prospect,
    /// How likely it is that all guesses so far come.
    sure: f64,
}

impl Core {
    /// Guesses how the streams go on. Gives how long the draft model took for it, in ns.
    pub(super) fn guess(&mut self) -> u64 {
        if !self.speculation {
            return 0;
        }
        self.look_up();
        let Some(mut draft) = self.draft.take() else { return 0 };
        let start = self.clock.now_ns();
        let asked = catch_unwind(AssertUnwindSafe(|| self.ask(&mut draft, start)));
        match asked.unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_message(panic.as_ref())))) {
            Ok(()) => self.draft = Some(draft),
            // Nothing depends on it.
            Err(error) => tracing::error!("the draft model is not used any more: {error}"),
        }
        self.clock.now_ns().saturating_sub(start)
    }

    /// Looks up how the streams go on.
    fn look_up(&mut self) {
        let mut streams: BTreeMap<u64, Vec<(u32, &[TokenId])>> = BTreeMap::new();
        for (rank, sequence) in self.scheduler.streams() {
            streams.entry(rank.arrival).or_default().push((rank.candidate, &sequence.tokens));
        }
        let mut all = Vec::new();
        for (arrival, sequences) in streams {
            let Some(output) = self.requests.get_mut(&arrival) else { continue };
            for ((candidate, _), guesses) in sequences.iter().zip(output.guess(&sequences)) {
                all.push((output.rank(arrival, *candidate), guesses));
            }
        }
        for (rank, guesses) in all {
            self.scheduler.guess(rank, guesses);
        }
    }

    /// Asks the draft model how the streams go on. This is the whole policy:
    ///
    /// - A stream is guessed for when the model is likelier to be right with it than what was looked up, by what came of its
    ///   guesses for the stream and for all, and when that is expected to save more time than it takes: the model's passes,
    ///   the columns that check the guesses, and what the model has to compute first to know the stream (see [`Outlook`]).
    ///   As long as its guesses have not brought the time, that takes a small share of the engine's at most.
    /// - What it has to compute first it does bit by bit, in a quarter of the inter-token goal (or of a step that takes
    ///   longer, as prompts do). Then only it guesses.
    /// - It guesses position by position, one pass over all streams for which one more guess still pays; all of that
    ///   takes no longer than half of what guesses may add to a step, but one stream's first guess is made.
    fn ask(&mut self, draft: &mut DraftModel, start: u64) -> Result<(), String> {
        let streams = self.scheduler.streams_load();
        if streams.columns == 0 || draft.balance_ns() <= 0.0 {
            return Ok(());
        }
        let position = streams.context / streams.columns;
        let mut outlook = Outlook::new(&self.cost, &streams);
        let goal_ns = self.scheduler_config.itl_goal_ns as f64;
        let mut hopes = self.hopes(draft);
        let each = |draft: &DraftModel, count: usize| draft.position_ns(count, position) / count.max(1) as f64;
        outlook.set_guess_ns(each(draft, hopes.len()));
        hopes.retain(|hope| self.pays(draft, &outlook, hope));

        let behind: Vec<Rank> = hopes.iter().map(|hope| hope.rank).filter(|rank| !draft.is_close(*rank)).collect();
        if !behind.is_empty() {
            let room_ns = goal_ns.max(outlook.step_ns()) / 4.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
            draft.catch_up(&behind, room_ns as u64)?;
            draft.observe(self.clock.now_ns().saturating_sub(start));
        }

        hopes.retain(|hope| draft.is_close(hope.rank));
        let most_ns = (goal_ns - outlook.step_ns()).max(outlook.step_ns()) / 2.0;
        let mut guessed = Vec::new();
        for made in 0..MOST {
            hopes.retain(|hope| {
                let Prospect { chance, most, .. } = hope.prospect;
                outlook.gain(hope.sure, f64::from(chance), made, most).ns > 0.0
            });
            hopes.truncate(GUESSES_MOST.saturating_sub(guessed.len()));
            let begun = self.clock.now_ns();
            let taken_ns = begun.saturating_sub(start) as f64;
            let least = usize::from(made == 0);
            while hopes.len() > least && taken_ns + draft.pass_ns(hopes.iter().map(|hope| hope.rank)) > most_ns {
                hopes.pop();
            }
            if hopes.is_empty() {
                break;
            }
            self.guess_position(draft, &mut hopes)?;
            draft.observe(self.clock.now_ns().saturating_sub(begun));
            outlook.set_guess_ns(each(draft, hopes.len()));
            guessed.extend(hopes.iter().map(|hope| hope.rank));
        }
        draft.set_worth_ns(outlook.token_ns());
        guessed.sort_unstable();
        guessed.dedup();
        for rank in guessed {
            let guesses = self.requests.get(&rank.arrival).and_then(|output| output.model_guesses(rank.candidate));
            if let Some(guesses) = guesses {
                self.scheduler.guess(rank, guesses);
            }
        }
        Ok(())
    }

    /// Streams with which the draft model is likelier to be right than what was looked up.
    fn hopes(&mut self, draft: &mut DraftModel) -> Vec<Hope> {
        let mut hopes = Vec::new();
        for (rank, sequence) in self.scheduler.streams() {
            let output = self.requests.get_mut(&rank.arrival);
            let Some(mut prospect) = output.and_then(|output| output.prospect(rank.candidate, &mut draft.usual)) else {
                continue;
            };
            prospect.most = prospect.most.min(draft.most(sequence.tokens.len()));
            hopes.push(Hope { rank: *rank, prospect, sure: 1.0 });
        }
        hopes
    }

    /// Whether guessing pays for a stream, with what the draft model has to compute before; then it follows the stream.
    fn pays(&self, draft: &mut DraftModel, outlook: &Outlook, hope: &Hope) -> bool {
        let Hope { rank, prospect: Prospect { chance, most, to_come }, .. } = *hope;
        let pays = |behind_ns| outlook.pays(f64::from(chance), most, to_come, behind_ns);
        let Some(sequence) = self.scheduler.running().get(&rank).filter(|_| pays(0.0)) else { return false };
        let behind_ns = draft.behind_ns(rank, sequence);
        let worth = behind_ns.is_some_and(|ns| pays(ns) && ns <= draft.balance_ns());
        if worth {
            draft.begin(rank, sequence);
        }
        worth
    }

    /// Lets the draft model guess one token more for streams.
    fn guess_position(&mut self, draft: &mut DraftModel, hopes: &mut Vec<Hope>) -> Result<(), String> {
        let ranks: Vec<Rank> = hopes.iter().map(|hope| hope.rank).collect();
        let ran = draft.run_to_end(&ranks)?;
        hopes.retain(|hope| ran.contains(&hope.rank));
        let mut tokens = Vec::new();
        for (hope, row) in hopes.iter_mut().zip(draft.rows()) {
            let output = self.requests.get_mut(&hope.rank.arrival);
            let guess = output.and_then(|output| output.take_guess(hope.rank.candidate, row, &mut self.sampler));
            hope.sure = guess.map_or(0.0, |(_, sure)| f64::from(sure));
            tokens.extend(guess.map(|(token, _)| (hope.rank, token)));
        }
        for (rank, token) in tokens {
            draft.push(rank, token);
        }
        Ok(())
    }

    /// Goes on through the rows of guessed tokens as long as each guess is the token made before its row, and somebody
    /// still wants them. The KV of the other columns stands beyond what is computed, and is written anew when its turn
    /// comes.
    pub(super) fn check_guesses(&mut self, rank: Rank, mut made: Option<TokenId>, rows: &[&[f32]]) {
        if rows.is_empty() {
            return;
        }
        let Some(sequence) = self.scheduler.running().get(&rank) else { return };
        let guesses: Vec<TokenId> = sequence.guesses.iter().map(|guess| guess.token).collect();
        let mut accepted = 0;
        for (row, guess) in rows.iter().zip(guesses) {
            let goes_on = |output: &Output| !output.is_cancelled() && !output.is_broken();
            if made != Some(guess) || !self.requests.get(&rank.arrival).is_some_and(goes_on) {
                break;
            }
            accepted += 1;
            stats::add(&self.shared.stats.guessed_right, 1);
            self.scheduler.advance(rank, 1);
            if let Some(output) = self.requests.get_mut(&rank.arrival) {
                output.count_accepted();
            }
            made = self.make_tokens(rank, row);
        }
        let output = self.requests.get_mut(&rank.arrival);
        let by_model = output.map_or(0, |output| output.note_drafts(rank.candidate, accepted, rows.len() - accepted));
        if let Some(draft) = &mut self.draft {
            draft.earn_tokens(by_model);
        }
    }
}
