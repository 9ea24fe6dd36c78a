//! What the guesses of a draft model are expected to save, and what they cost.

use crate::cost::{CostModel, Load, costs};

use super::MOST;

/// A step as it would be without guesses, and what they add to it. Times in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outlook {
    /// How long the step takes.
    step_ns: f64,
    /// Its time for each token that it makes: what a token that is made already saves.
    token_ns: f64,
    /// What 0, 1, 2… columns of one stream, which check guesses, add to it.
    columns_ns: Vec<f64>,
    /// What each guess takes of the draft model's time.
    guess_ns: f64,
}

/// What the best number of guesses is expected to bring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gain {
    /// Time saved, what it costs taken off.
    pub(crate) ns: f64,
    /// Tokens made by it.
    pub(crate) tokens: f64,
}

impl Outlook {
    /// How much a guess must save at first, as a part of what a token costs.
    const LEAST: f64 = 0.05;

    /// For the step of `streams`, at least one; `cost` is what the model's steps cost.
    pub(crate) fn new(cost: &CostModel, streams: &Load) -> Self {
        let position = streams.context / streams.columns.max(1);
        let costs = costs(cost, |count| streams.extended(position, count, count), MOST);
        let step_ns = costs[0];
        Self {
            step_ns,
            token_ns: step_ns / streams.columns.max(1) as f64,
            columns_ns: costs.iter().map(|ns| ns - step_ns).collect(),
            guess_ns: 0.0,
        }
    }

    pub(crate) fn step_ns(&self) -> f64 {
        self.step_ns
    }

    pub(crate) fn token_ns(&self) -> f64 {
        self.token_ns
    }

    /// A guess for one stream takes so long.
    pub(crate) fn set_guess_ns(&mut self, ns: f64) {
        self.guess_ns = ns;
    }

    /// What further guesses save for a stream that has `made` already, which all come with the chance `sure`, when each
    /// is right with `chance` and there may be `most` in all.
    pub(crate) fn gain(&self, sure: f64, chance: f64, made: usize, most: usize) -> Gain {
        let (mut all, mut tokens, mut best) = (sure, 0.0, Gain::default());
        for count in made + 1..=most.min(MOST) {
            all *= chance;
            tokens += all;
            let columns_ns = self.columns_ns[count] - self.columns_ns[made];
            let ns = tokens * self.token_ns - (count - made) as f64 * self.guess_ns - columns_ns;
            if ns > best.ns {
                best = Gain { ns, tokens };
            }
        }
        best
    }

    /// Whether guessing begins to pay for a stream that is expected to make `to_come` tokens, when the draft model has to
    /// compute for `behind_ns` before.
    pub(crate) fn pays(&self, chance: f64, most: usize, to_come: usize, behind_ns: f64) -> bool {
        let gain = self.gain(1.0, chance, 0, most);
        let steps = to_come as f64 / (1.0 + gain.tokens);
        gain.ns > self.token_ns * Self::LEAST && gain.ns * steps > behind_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stream on a machine with steps of 10 ms and 2 ms for each further column.
    fn outlook(guess_ns: f64) -> Outlook {
        let mut cost = CostModel::default();
        for _ in 0..8 {
            for count in 0..=MOST {
                let load = Load::default().with(100, 1 + count, 1 + count);
                cost.observe(&load, 10_000_000 + 2_000_000 * u64::try_from(count).unwrap());
            }
        }
        let mut outlook = Outlook::new(&cost, &Load::default().with(100, 1, 1));
        outlook.set_guess_ns(guess_ns);
        outlook
    }

    #[test]
    fn chance_and_both_costs_count() {
        let cheap = outlook(1e6);
        assert!(cheap.pays(0.8, MOST, 100, 0.0));
        assert!(!cheap.pays(0.2, MOST, 100, 0.0), "two of ten come: they save 2 ms and cost 3");
        assert!(!outlook(9e6).pays(0.8, MOST, 100, 0.0), "a draft as slow as the model");
        assert!(!cheap.pays(0.8, 0, 100, 0.0), "no more tokens may be made");
    }

    #[test]
    fn what_has_to_be_computed_first_must_come_in_again() {
        let outlook = outlook(1e6);
        let gain = outlook.gain(1.0, 0.8, 0, MOST);
        assert!(gain.ns > 5e6 && gain.tokens > 1.5, "{gain:?}");
        assert!(outlook.pays(0.8, MOST, 1000, 500e6) && !outlook.pays(0.8, MOST, 20, 500e6));
    }

    #[test]
    fn the_less_likely_all_before_are_the_less_a_further_guess_saves() {
        let outlook = outlook(1e6);
        assert!(outlook.gain(0.9, 0.8, 2, MOST).ns > 0.0);
        assert_eq!(outlook.gain(0.3, 0.8, 2, MOST), Gain::default());
        assert_eq!(outlook.gain(0.9, 0.8, 2, 2), Gain::default(), "there may be no more");
    }
}
