//! The distribution that a token is drawn from, read off the chain that draws it.

use std::collections::HashMap;

use inference::{Distribution, TokenChance, TokenId};

use super::select::Candidate;
use super::{SampleError, Sampler, Shape, select, softmax};

impl Sampler {
    /// What `shape` left to draw `chosen` from, beside the raw probabilities of `row`: its `best` tokens by raw logits, and
    /// the rest.
    pub(super) fn distribution(
        &self,
        row: &[f32],
        shape: Shape,
        chosen: TokenId,
        best: u16,
    ) -> Result<Distribution, SampleError> {
        let norm = softmax::log_sum_exp(row).ok_or(SampleError::NoLogits)?;
        let mut leading = Vec::new();
        if best > 0 {
            select::largest(row, usize::from(best), &mut leading);
        }
        let chances = self.chances(shape);
        let chance = |Candidate { id, value: logit }: &Candidate| {
            let raw = (f64::from(logit.min(f32::MAX)) - norm).exp();
            TokenChance { id: *id, logit: *logit, raw, drawn: chances.of(*id) }
        };
        let best: Vec<TokenChance> = leading.iter().map(chance).collect();
        let rest = |of: fn(&TokenChance) -> f64| (1.0 - best.iter().map(of).sum::<f64>()).max(0.0);
        let possible = u32::try_from(chances.possible()).unwrap_or(u32::MAX);
        let (rest_raw, rest_drawn) = (rest(|token| token.raw), rest(|token| token.drawn));
        Ok(Distribution { chosen, rest_raw, rest_drawn, possible, best })
    }

    fn chances(&self, shape: Shape) -> Chances<'_> {
        match shape {
            Shape::One(id) => Chances::One(id),
            Shape::All => Chances::All(&self.weights, softmax::sum(&self.weights)),
            Shape::Kept => {
                let sum = self.kept.iter().map(|candidate| f64::from(candidate.value)).sum::<f64>();
                let share = |candidate: &Candidate| (candidate.id, f64::from(candidate.value) / sum);
                Chances::Kept(self.kept.iter().filter(|candidate| candidate.value > 0.0).map(share).collect())
            }
        }
    }
}

/// The probability of each token to be drawn.
enum Chances<'a> {
    One(TokenId),
    All(&'a [f32], f64),
    Kept(HashMap<TokenId, f64>),
}

impl Chances<'_> {
    fn of(&self, id: TokenId) -> f64 {
        match self {
            Self::One(one) if *one == id => 1.0,
            Self::One(_) => 0.0,
            Self::All(weights, sum) => weights.get(id as usize).map_or(0.0, |weight| f64::from(*weight) / sum),
            Self::Kept(shares) => shares.get(&id).copied().unwrap_or(0.0),
        }
    }

    fn possible(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::All(weights, _) => weights.iter().filter(|weight| **weight > 0.0).count(),
            Self::Kept(shares) => shares.len(),
        }
    }
}
