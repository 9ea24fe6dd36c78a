//! Guesses ahead within a step: made before it is scheduled, checked when its tokens are.

use std::collections::BTreeMap;

use inference::TokenId;

use super::Core;
use crate::output::Output;
use crate::sequence::Rank;
use crate::stats;

impl Core {
    /// Guesses how the streams go on.
    pub(super) fn guess(&mut self) {
        let mut streams: BTreeMap<u64, Vec<(u32, &[TokenId])>> = BTreeMap::new();
        for (rank, sequence) in self.scheduler.running() {
            if sequence.decodes() && !sequence.paused {
                streams.entry(rank.arrival).or_default().push((rank.candidate, &sequence.tokens));
            }
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
        if let Some(output) = self.requests.get_mut(&rank.arrival) {
            output.note_drafts(rank.candidate, accepted, rows.len() - accepted);
        }
    }
}
