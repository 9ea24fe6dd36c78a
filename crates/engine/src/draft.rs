//! Speculation: tokens guessed ahead, to be checked in one step by columns of their own.
//!
//! A guess never changes what is made, only how many steps it takes: the token at each position is drawn from its own
//! logits as ever, and the guessed column after it counts only if the guess was that token. Whether guesses are good is
//! measured for free, by comparing them with what is made, before and while columns are spent on them.

use inference::TokenId;

/// Most tokens guessed ahead: with the token made last they fill a tile of sixteen columns.
pub(crate) const MOST: usize = 15;
/// Longest run of tokens that is looked up in what came before, and longest match that makes a difference.
const LOOKUP: usize = 3;
const LONGEST: usize = 17;
/// Places in the index of a candidate at most.
const PLACES: usize = 1 << 15;
/// How likely a guess is before it was measured, by its class, and how many trials that counts for.
const PRIOR: [f32; 7] = [0.1, 0.2, 0.4, 0.5, 0.6, 0.75, 0.85];
const PRIOR_TRIALS: f32 = 3.0;
/// Older trials count half when so many are known.
const TRIALS: f32 = 64.0;
/// Columns that may be wasted on a candidate: so many to begin with, and more with each token made, with each guess after
/// a long match that was right, and with each that had a column. Where little repeats itself the waste so stays under 2 %,
/// however cheap columns are.
const WASTE_FIRST: f32 = 0.5;
const WASTE_PER_TOKEN: f32 = 0.009;
const WASTE_PER_HIT: f32 = 0.1;
const WASTE_PER_ACCEPTED: f32 = 0.2;
const WASTE_MOST: f32 = 16.0;
/// Less likely than this, a guess is not worth a column, whatever columns cost.
const LEAST_CHANCE: f32 = 0.4;

/// A token that may come, and how likely it is when all guesses before it are right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess {
    pub(crate) token: TokenId,
    pub(crate) chance: f32,
}

/// Guesses how a sequence goes on.
pub(crate) trait Proposer: Send {
    /// Adds up to `most` tokens that may follow `tokens` to `guess`, each with its class: the higher, the surer.
    fn propose(&mut self, tokens: &[TokenId], most: usize, guess: &mut Vec<(TokenId, usize)>);
}

/// Prompt lookup: what followed the last few tokens when they stood there before.
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
}

impl Proposer for Lookup {
    fn propose(&mut self, tokens: &[TokenId], most: usize, guess: &mut Vec<(TokenId, usize)>) {
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
        _ => 6,
    }
}

/// How often guesses of one class were right.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    right: f32,
    trials: f32,
}

/// The guesses of one candidate, and what became of them.
pub(crate) struct Drafter {
    proposer: Box<dyn Proposer>,
    rates: [Rate; PRIOR.len()],
    /// What was guessed last, and how many of these tokens have come.
    guessed: Vec<(TokenId, usize)>,
    come: usize,
    /// Columns that may still be wasted.
    spare: f32,
}

impl Drafter {
    pub(crate) fn new(proposer: Box<dyn Proposer>) -> Self {
        Self { proposer, rates: Default::default(), guessed: Vec::new(), come: 0, spare: WASTE_FIRST }
    }

    /// Guesses up to `most` tokens after `tokens`; none that are not worth a column.
    pub(crate) fn guess(&mut self, tokens: &[TokenId], most: usize) -> Vec<Guess> {
        self.guessed.clear();
        self.come = 0;
        // One is guessed always: whether it comes is worth to know.
        self.proposer.propose(tokens, most.max(1), &mut self.guessed);
        let mut all = 1.0;
        let mut guesses = Vec::new();
        let mut waste = 0.0;
        for (token, class) in self.guessed.iter().take(most) {
            let rate = self.rates[*class];
            let chance = (PRIOR[*class] * PRIOR_TRIALS + rate.right) / (PRIOR_TRIALS + rate.trials);
            all *= chance;
            waste += 1.0 - all;
            if all < LEAST_CHANCE || waste > self.spare {
                break;
            }
            guesses.push(Guess { token: *token, chance });
        }
        guesses
    }

    /// A token was made: compares it with what was guessed.
    pub(crate) fn note(&mut self, made: TokenId) {
        self.spare = (self.spare + WASTE_PER_TOKEN).min(WASTE_MOST);
        let Some((token, class)) = self.guessed.get(self.come).copied() else { return };
        let rate = &mut self.rates[class];
        if rate.trials >= TRIALS {
            *rate = Rate { right: rate.right / 2.0, trials: rate.trials / 2.0 };
        }
        rate.trials += 1.0;
        if token == made {
            rate.right += 1.0;
            if class + 1 >= LOOKUP {
                self.spare += WASTE_PER_HIT;
            }
            self.come += 1;
        } else {
            self.guessed.clear();
        }
    }

    /// So many columns were spent on guesses, so many of them for nothing.
    pub(crate) fn spent(&mut self, accepted: usize, rejected: usize) {
        self.spare += accepted as f32 * WASTE_PER_ACCEPTED - rejected as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(drafter: &mut Drafter, tokens: &[TokenId], most: usize) -> Vec<TokenId> {
        drafter.guess(tokens, most).iter().map(|guess| guess.token).collect()
    }

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

    #[test]
    fn guesses_that_fail_are_soon_not_made() {
        let mut drafter = Drafter::new(Box::new(Lookup::new(512)));
        let mut all: Vec<TokenId> = (0..20).collect();
        all.extend(0..10);
        assert_eq!(tokens(&mut drafter, &all, 2), [10], "little is risked before a guess was right");
        assert_eq!(tokens(&mut drafter, &all, 0), []);
        for round in 0..20 {
            let tail = all.len() - 8;
            all.extend_from_within(tail - 5..tail);
            let spent = drafter.guess(&all, MOST).len();
            drafter.note(1000 + round);
            drafter.spent(0, spent);
            all.push(1000 + round);
        }
        all.extend_from_within(0..8);
        assert_eq!(tokens(&mut drafter, &all, MOST), [], "the waste has a bound");
    }
}
