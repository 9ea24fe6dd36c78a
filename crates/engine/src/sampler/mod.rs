//! From a row of logits to a token.
//!
//! The chain runs in the order of the fields of [`SamplingParams`]: penalties, logit bias, the mask of a
//! [`Control`], temperature, top-k, top-p, min-p, draw. The row itself stays as the model made it, since several
//! candidates may share it; what changes logits works on a copy. All buffers are reused, so a token allocates nothing
//! once they have grown (the mask aside).

mod distribution;
mod penalties;
mod random;
mod select;
mod softmax;
#[cfg(test)]
mod tests;

use inference::{Bits, Control, Distribution, SamplingParams, TokenId, TokenLogprob, TokenLogprobs};

pub(crate) use penalties::TokenCounts;
pub(crate) use random::draw;

use select::Candidate;

/// No token can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SampleError {
    #[error("the model's logits hold no number; its weights may be damaged")]
    NoLogits,
    #[error("no token is allowed to come next")]
    NothingAllowed,
}

/// What the chain leaves to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// This token, for certain.
    One(TokenId),
    /// Every token, by the sampler's `weights`.
    All,
    /// The sampler's `kept`, by their values.
    Kept,
}

/// Buffers of the sampler, shared by all sequences.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// A copy of the row with penalties, bias and mask applied.
    altered: Vec<f32>,
    weights: Vec<f32>,
    kept: Vec<Candidate>,
    buckets: Vec<f64>,
}

impl Sampler {
    /// Chooses the next token. `uniform` is a random number in 0..1; `counts` are the tokens seen so far.
    pub(crate) fn choose(
        &mut self,
        row: &[f32],
        params: &SamplingParams,
        counts: &TokenCounts,
        control: Option<&mut (dyn Control + 'static)>,
        uniform: f64,
    ) -> Result<TokenId, SampleError> {
        let shape = self.shape(row, params, counts, control)?;
        self.draw_from(shape, uniform)
    }

    /// [`choose`](Self::choose), and what the token was drawn from, if `params` ask for it.
    pub(crate) fn choose_reporting(
        &mut self,
        row: &[f32],
        params: &SamplingParams,
        counts: &TokenCounts,
        control: Option<&mut (dyn Control + 'static)>,
        uniform: f64,
    ) -> Result<(TokenId, Option<Distribution>), SampleError> {
        let shape = self.shape(row, params, counts, control)?;
        let id = self.draw_from(shape, uniform)?;
        let distribution = params.distribution.map(|best| self.distribution(row, shape, id, best)).transpose()?;
        Ok((id, distribution))
    }

    fn draw_from(&self, shape: Shape, uniform: f64) -> Result<TokenId, SampleError> {
        let drawn = match shape {
            Shape::One(id) => Some(id),
            Shape::All => select::draw_weighted(&self.weights, uniform),
            Shape::Kept => select::draw_candidate(&self.kept, uniform),
        };
        drawn.ok_or(SampleError::NothingAllowed)
    }

    /// The chain up to the draw.
    fn shape(
        &mut self,
        row: &[f32],
        params: &SamplingParams,
        counts: &TokenCounts,
        control: Option<&mut (dyn Control + 'static)>,
    ) -> Result<Shape, SampleError> {
        let mut altered = std::mem::take(&mut self.altered);
        let control = control.filter(|control| control.masks());
        let shape = if control.is_some() || !params.logit_bias.is_empty() || penalties::active(params) {
            altered.clear();
            altered.extend_from_slice(row);
            alter(&mut altered, params, counts, control);
            self.filter(&altered, params)
        } else {
            self.filter(row, params)
        };
        self.altered = altered;
        match shape {
            Some(shape) => Ok(shape),
            None if softmax::max(row).is_none() => Err(SampleError::NoLogits),
            None => Err(SampleError::NothingAllowed),
        }
    }

    fn filter(&mut self, logits: &[f32], params: &SamplingParams) -> Option<Shape> {
        let best = softmax::max(logits)?;
        if params.temperature == 0.0 {
            return select::first_of(logits, best).map(Shape::One);
        }
        let top_k = params.top_k as usize;
        if top_k > 0 && top_k < logits.len() {
            select::largest(logits, top_k, &mut self.kept);
            softmax::weigh_candidates(&mut self.kept, best, params.temperature);
            if params.top_p < 1.0 {
                let sum: f64 = self.kept.iter().map(|candidate| f64::from(candidate.value)).sum();
                let needed = select::share_len(&self.kept, f64::from(params.top_p) * sum);
                self.kept.truncate(needed);
            }
        } else {
            softmax::weigh(logits, best, params.temperature, &mut self.weights);
            if params.top_p >= 1.0 && params.min_p <= 0.0 {
                return Some(Shape::All);
            }
            if params.top_p < 1.0 {
                select::top_p(&self.weights, params.top_p, &mut self.buckets, &mut self.kept);
            } else {
                select::at_least(&self.weights, params.min_p, &mut self.kept);
            }
        }
        if params.min_p > 0.0 {
            self.kept.retain(|candidate| candidate.value >= params.min_p);
        }
        Some(Shape::Kept)
    }

    /// Log-probability of `chosen` and of the `top` best tokens of a row.
    pub(crate) fn logprobs(&mut self, row: &[f32], chosen: TokenId, top: u8) -> Result<TokenLogprobs, SampleError> {
        let norm = softmax::log_sum_exp(row).ok_or(SampleError::NoLogits)?;
        let logprob = |id: TokenId, logit: f32| TokenLogprob { id, logprob: softmax::log_prob(logit, norm) };
        self.kept.clear();
        if top > 0 {
            select::largest(row, usize::from(top), &mut self.kept);
        }
        let own = row.get(chosen as usize).copied().unwrap_or(f32::NEG_INFINITY);
        Ok(TokenLogprobs {
            chosen: logprob(chosen, own),
            top: self.kept.iter().map(|candidate| logprob(candidate.id, candidate.value)).collect(),
        })
    }
}

fn alter(
    logits: &mut [f32],
    params: &SamplingParams,
    counts: &TokenCounts,
    control: Option<&mut (dyn Control + 'static)>,
) {
    if penalties::active(params) {
        counts.apply(params, logits);
    }
    for (id, bias) in &params.logit_bias {
        if let Some(logit) = logits.get_mut(*id as usize) {
            *logit += bias;
        }
    }
    if let Some(control) = control {
        let mut allowed = Bits::all(logits.len());
        control.mask(&mut allowed);
        for (id, logit) in (0_u32..).zip(logits) {
            if !allowed.contains(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
