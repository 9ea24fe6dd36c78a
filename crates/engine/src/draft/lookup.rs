//! Prompt lookup: what followed the last few tokens when they stood there before.

use inference::TokenId;

/// Longest run of tokens that is looked up in what came before, and longest match that makes a difference.
const LOOKUP: usize = 3;
const LONGEST: usize = 17;
/// Places in the index of a candidate at most.
const PLACES: usize = 1 << 15;

/// Classes of guesses by the length of the match; those from the third on follow a whole run that was looked up.
pub(super) const CLASSES: usize = 7;
pub(super) const SURE: usize = LOOKUP - 1;

/// Where the runs of tokens of one candidate stand.
pub(crate) struct Lookup {
    /// Where a run of tokens was last followed by something, at the place of its hash; later runs take the place of
    /// earlier ones. 0 = nowhere.
    places: Vec<u32>,
    indexed: usize,
}

impl Lookup {
    /// For a sequence of up to `positions`.
    pub(crate) fn new(positions: usize) -> Self {
        let places = (positions * LOOKUP).next_power_of_two().clamp(64, PLACES);
        Self { places: vec![0; places], indexed: 1 }
    }

    fn place(&mut self, run: &[TokenId]) -> &mut u32 {
        let mix =
            |hash: u64, token: &TokenId| (hash ^ u64::from(*token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let hash = run.iter().fold(run.len() as u64, mix);
        let place = usize::try_from(hash % self.places.len() as u64).unwrap_or(0);
        &mut self.places[place]
    }

    /// Where the longest run at the end of `tokens` stood before: the position after it, and the length of the match.
    fn find(&mut self, tokens: &[TokenId]) -> Option<(usize, usize)> {
        let end = tokens.len();
        (1..=LOOKUP.min(end)).rev().find_map(|run| {
            let after = *self.place(&tokens[end - run..]) as usize;
            let common = tokens[..after].iter().rev().zip(tokens.iter().rev()).take(LONGEST);
            let matched = common.take_while(|(a, b)| a == b).count();
            (after > 0 && matched >= run).then_some((after, matched))
        })
    }

    /// Adds up to `most` tokens that may follow `tokens` to `guess`, each with its class: the higher, the surer.
    pub(super) fn propose(&mut self, tokens: &[TokenId], most: usize, guess: &mut Vec<(TokenId, usize)>) {
        for after in self.indexed..tokens.len() {
            for run in 1..=LOOKUP.min(after) {
                *self.place(&tokens[after - run..after]) = u32::try_from(after).unwrap_or(0);
            }
        }
        self.indexed = tokens.len().max(1);
        let Some((after, matched)) = self.find(tokens) else { return };
        for ahead in 0..most {
            // Past the end, the repetition repeats itself.
            let at = after + ahead;
            let token = tokens.get(at).copied().or_else(|| guess.get(at - tokens.len()).map(|(token, _)| *token));
            let Some(token) = token else { return };
            guess.push((token, class(matched + ahead)));
        }
    }
}

/// Matches of about the same length are right about as often.
fn class(matched: usize) -> usize {
    match matched {
        0..=3 => matched.saturating_sub(1),
        4..=5 => 3,
        6..=8 => 4,
        9..=16 => 5,
        _ => CLASSES - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_longest_match_is_guessed() {
        let mut lookup = Lookup::new(64);
        let mut guess = Vec::new();
        lookup.propose(&[7, 1, 2, 3, 4, 5, 9, 3, 6, 1, 2, 3], 4, &mut guess);
        assert_eq!(guess, [(4, 2), (5, 3), (9, 3), (3, 4)], "not what followed the later single 3");
        guess.clear();
        lookup.propose(&[7, 1, 2, 3, 4, 5, 9, 3, 6, 1, 2, 3, 8], 4, &mut guess);
        assert_eq!(guess, []);
        let mut lookup = Lookup::new(64);
        lookup.propose(&[5, 1, 2, 1, 2], 5, &mut guess);
        assert_eq!(guess.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2, 1, 2, 1], "it repeats itself");
        guess.clear();
        Lookup::new(64).propose(&[5], 5, &mut guess);
        assert_eq!(guess, []);
    }

    #[test]
    fn an_index_has_a_bound_and_stays_right() {
        let mut lookup = Lookup::new(1 << 20);
        assert_eq!(lookup.places.len(), PLACES);
        let mut all: Vec<TokenId> = (0..100_000).map(|i: u32| i.wrapping_mul(2_654_435_761) >> 16).collect();
        all.extend_from_within(99_000..99_010);
        let mut guess = Vec::new();
        lookup.propose(&all, 4, &mut guess);
        assert_eq!(guess.iter().map(|(token, _)| *token).collect::<Vec<_>>(), all[99_010..99_014]);
    }
}
