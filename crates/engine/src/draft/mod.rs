//! Speculation: tokens guessed ahead, to be checked in one step by columns of their own.
//!
//! A guess never changes what is made, only how many steps it takes: the token at each position is drawn from its own
//! logits as ever, and the guessed column after it counts only if the guess was that token. Whether guesses are good is
//! measured for free, by comparing them with what is made, before and while columns are spent on them. Who guesses is
//! [`Lookup`], which costs nothing, or a [`DraftModel`], whose time counts.

mod lookup;
mod model;
mod outlook;

use inference::TokenId;

pub(crate) use lookup::Lookup;
pub(crate) use model::DraftModel;
pub(crate) use outlook::Outlook;

/// Most tokens guessed ahead: with the token made last they fill a tile of sixteen columns.
pub(crate) const MOST: usize = 15;
/// How likely a guess is before it was measured, by its class, and how many trials that counts for. The classes of lookup
/// come first, by the length of the match; then those of the draft model, by the probability it gives its guess.
const PRIOR: [f32; 12] = [0.1, 0.2, 0.4, 0.5, 0.6, 0.75, 0.85, 0.2, 0.4, 0.6, 0.75, 0.9];
const PRIOR_TRIALS: f32 = 3.0;
/// The first class of the draft model, and from which probability on its guesses are of each class after it.
const MODEL: usize = lookup::CLASSES;
const MODEL_CLASSES: [f32; 4] = [0.3, 0.5, 0.7, 0.9];
/// The classes from which on a hit is no accident, of lookup and of the draft model.
const SURE: usize = lookup::SURE;
const MODEL_SURE: usize = MODEL + 2;
/// Older trials count half when so many are known.
const TRIALS: f32 = 64.0;
/// What is left of a trial of the draft model with each token for which it did not guess: another try is due some day.
const FADING: f32 = 0.99;
/// Columns that may be wasted on a candidate: so many to begin with, and more with each token made, with each guess of a
/// sure class that was right, and with each that had a column. Where little repeats itself the waste so stays under 2 %,
/// however cheap columns are.
const WASTE_FIRST: f32 = 0.5;
const WASTE_PER_TOKEN: f32 = 0.008;
const WASTE_PER_HIT: f32 = 0.05;
const WASTE_PER_ACCEPTED: f32 = 0.2;
const WASTE_MOST: f32 = 16.0;
/// What was looked up and is as likely as this goes before anything that a draft model might guess.
const LOOKUP_FIRST: f32 = 0.7;
/// Less likely than this, a guess is not worth a column, whatever columns cost.
const LEAST_CHANCE: f32 = 0.4;

/// A token that may come, and how likely it is when all guesses before it are right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess {
    pub(crate) token: TokenId,
    pub(crate) chance: f32,
}

/// What the draft model may hope for with one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prospect {
    /// Most tokens it may guess now.
    pub(crate) most: usize,
    /// How likely each is to be right.
    pub(crate) chance: f32,
    /// How many tokens are expected to come still.
    pub(crate) to_come: usize,
}

/// How often guesses were right.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    right: f32,
    trials: f32,
}

impl Rate {
    /// How likely the next guess is to be right, when `prior` is what was thought before, as sure as by `trials`.
    fn chance(self, prior: f32, trials: f32) -> f32 {
        (prior * trials + self.right) / (trials + self.trials)
    }

    fn note(&mut self, right: bool) {
        self.add(Self { right: f32::from(u8::from(right)), trials: 1.0 });
    }

    fn add(&mut self, other: Self) {
        if self.trials >= TRIALS {
            self.fade(0.5);
        }
        self.right += other.right;
        self.trials += other.trials;
    }

    fn fade(&mut self, left: f32) {
        self.right *= left;
        self.trials *= left;
    }
}

/// The guesses of one candidate, and what became of them.
pub(crate) struct Drafter {
    lookup: Lookup,
    rates: [Rate; PRIOR.len()],
    /// What was guessed last, and how many of these tokens have come.
    guessed: Vec<(TokenId, usize)>,
    come: usize,
    /// Whether these are the draft model's.
    by_model: bool,
    /// What became of the draft model's guesses since that was last asked for.
    news: Rate,
    /// Columns that may still be wasted.
    spare: f32,
}

impl Drafter {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self {
            lookup,
            rates: Default::default(),
            guessed: Vec::new(),
            come: 0,
            by_model: false,
            news: Rate::default(),
            spare: WASTE_FIRST,
        }
    }

    /// Looks up up to `most` tokens that may come after `tokens`; gives none that are not worth a column.
    pub(crate) fn guess(&mut self, tokens: &[TokenId], most: usize) -> Vec<Guess> {
        self.clear(false);
        // One is guessed always: whether it comes is worth to know.
        self.lookup.propose(tokens, most.max(1), &mut self.guessed);
        self.worthy(most)
    }

    fn clear(&mut self, by_model: bool) {
        self.guessed.clear();
        self.come = 0;
        self.by_model = by_model;
    }

    fn chance(&self, class: usize) -> f32 {
        self.rates[class].chance(PRIOR[class], PRIOR_TRIALS)
    }

    /// The first `most` guesses, up to one that is not worth a column.
    pub(crate) fn worthy(&self, most: usize) -> Vec<Guess> {
        let mut all = 1.0;
        let mut guesses = Vec::new();
        let mut waste = 0.0;
        for (token, class) in self.guessed.iter().take(most) {
            let chance = self.chance(*class);
            all *= chance;
            waste += 1.0 - all;
            if all < LEAST_CHANCE || waste > self.spare {
                break;
            }
            guesses.push(Guess { token: *token, chance });
        }
        guesses
    }

    /// How likely a guess of the draft model is to be right, whatever it will be; `None` when what was looked up is rather
    /// right. `usual` is how the model's guesses do with all candidates, and learns what is new of this one.
    pub(crate) fn foresee(&mut self, usual: &mut Usual) -> Option<f32> {
        usual.0.add(std::mem::take(&mut self.news));
        let mut own = Rate::default();
        for rate in &self.rates[MODEL..] {
            own.right += rate.right;
            own.trials += rate.trials;
        }
        let chance = own.chance(usual.chance(), PRIOR_TRIALS);
        let looked_up = self.guessed.first().map_or(0.0, |(_, class)| self.chance(*class));
        (looked_up < chance.min(LOOKUP_FIRST)).then_some(chance)
    }

    /// Tokens that the draft model has guessed for this step.
    pub(crate) fn by_model(&self) -> &[(TokenId, usize)] {
        if self.by_model { &self.guessed } else { &[] }
    }

    /// Adds the draft model's next guess, in place of what was looked up. Gives how likely all of its guesses are to come;
    /// 0 when they are not worth their columns.
    pub(crate) fn push(&mut self, token: TokenId, probability: f32) -> f32 {
        if !self.by_model {
            self.clear(true);
        }
        let class = MODEL + MODEL_CLASSES.iter().filter(|least| probability >= **least).count();
        self.guessed.push((token, class));
        let worthy = self.worthy(MOST);
        if worthy.len() < self.guessed.len() { 0.0 } else { worthy.iter().map(|guess| guess.chance).product() }
    }

    /// A token was made: compares it with what was guessed.
    pub(crate) fn note(&mut self, made: TokenId) {
        self.spare = (self.spare + WASTE_PER_TOKEN).min(WASTE_MOST);
        if !self.by_model {
            self.rates[MODEL..].iter_mut().for_each(|rate| rate.fade(FADING));
        }
        let Some((token, class)) = self.guessed.get(self.come).copied() else { return };
        self.rates[class].note(token == made);
        if self.by_model {
            self.news.note(token == made);
        }
        if token == made {
            if class >= if self.by_model { MODEL_SURE } else { SURE } {
                self.spare += WASTE_PER_HIT;
            }
            self.come += 1;
        } else {
            self.guessed.clear();
        }
    }

    /// So many columns were spent on guesses, so many of them for nothing. Gives how many the draft model guessed right.
    pub(crate) fn spent(&mut self, accepted: usize, rejected: usize) -> usize {
        self.spare += accepted as f32 * WASTE_PER_ACCEPTED - rejected as f32;
        if self.by_model { accepted } else { 0 }
    }
}

/// How a draft model's guesses do with all candidates: what is thought of a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usual(Rate);

impl Usual {
    /// Before anything was measured, and how many trials that counts for. High, so that it comes to be measured.
    const PRIOR: f32 = 0.9;
    const PRIOR_TRIALS: f32 = 4.0;
    /// What is left of what is known with each step in which the model did not guess.
    const FADING: f32 = 0.999;

    fn chance(self) -> f32 {
        self.0.chance(Self::PRIOR, Self::PRIOR_TRIALS)
    }

    fn fade(&mut self) {
        self.0.fade(Self::FADING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(drafter: &mut Drafter, tokens: &[TokenId], most: usize) -> Vec<TokenId> {
        drafter.guess(tokens, most).iter().map(|guess| guess.token).collect()
    }

    #[test]
    fn guesses_that_fail_are_soon_not_made() {
        let mut drafter = Drafter::new(Lookup::new(512));
        let mut all: Vec<TokenId> = (0..20).collect();
        all.extend(0..10);
        assert_eq!(tokens(&mut drafter, &all, 2), [10], "little is risked before a guess was right");
        assert!(tokens(&mut drafter, &all, 0).is_empty());
        for round in 0..20 {
            let tail = all.len() - 8;
            all.extend_from_within(tail - 5..tail);
            let spent = drafter.guess(&all, MOST).len();
            drafter.note(1000 + round);
            drafter.spent(0, spent);
            all.push(1000 + round);
        }
        all.extend_from_within(0..8);
        assert!(tokens(&mut drafter, &all, MOST).is_empty(), "the waste has a bound");
    }

    #[test]
    fn lookup_has_the_first_word_where_it_is_surer() {
        let mut drafter = Drafter::new(Lookup::new(512));
        let mut usual = Usual::default();
        let long: Vec<TokenId> = (0..20).chain(0..10).collect();
        drafter.guess(&long, MOST);
        assert_eq!(drafter.foresee(&mut usual), None, "a match of ten tokens");
        let mut drafter = Drafter::new(Lookup::new(512));
        drafter.guess(&[1, 2, 3, 1], MOST);
        assert!(drafter.foresee(&mut usual).unwrap() > 0.8, "a match of one");
        // What the model guesses stands in place of what was looked up; the less sure it is, the sooner it is not worth it.
        assert!(drafter.push(7, 0.95) > 0.85);
        assert_eq!(drafter.push(8, 0.1), 0.0);
        assert_eq!(drafter.by_model(), [(7, 11), (8, 7)]);
        assert_eq!(drafter.worthy(MOST).iter().map(|guess| guess.token).collect::<Vec<_>>(), [7]);
        drafter.note(7);
        drafter.note(9);
        assert_eq!(drafter.spent(1, 0), 1);
        drafter.guess(&[1, 2, 3, 1, 7, 9], MOST);
        let chance = drafter.foresee(&mut usual).unwrap();
        assert_eq!(usual.0, Rate { right: 1.0, trials: 2.0 }, "a guess without a column is a trial too");
        assert!(chance < Usual::PRIOR, "one of two came: {chance}");
        for _ in 0..30 {
            drafter.guess(&[1, 2, 3, 1, 7, 9], MOST);
            drafter.push(7, 0.5);
            drafter.note(8);
            drafter.foresee(&mut usual);
        }
        drafter.guess(&[1, 2, 3, 1, 7, 9], MOST);
        let low = drafter.foresee(&mut usual).unwrap();
        assert!(low < 0.15 && usual.chance() < 0.2, "{low} {usual:?}");
        // Long without a guess, it is worth a try again.
        for _ in 0..500 {
            drafter.note(8);
        }
        assert!(drafter.foresee(&mut Usual::default()).unwrap() > 0.5);
    }
}
