//! Penalties on tokens already seen.

use std::collections::HashMap;

use inference::{SamplingParams, TokenId};

/// Whether any penalty changes a logit.
#[expect(clippy::float_cmp, reason = "exactly 1 and 0 mean off")]
pub(super) fn active(params: &SamplingParams) -> bool {
    params.repetition_penalty != 1.0 || params.frequency_penalty != 0.0 || params.presence_penalty != 0.0
}

/// How often each token was made, those of an answer that goes on included; 0: it stands in the prompt only. Empty when no
/// penalty needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenCounts {
    made: HashMap<TokenId, u32>,
    needed: bool,
}

impl TokenCounts {
    pub(crate) fn new(prompt: &[TokenId], params: &SamplingParams) -> Self {
        let needed = active(params);
        let mut counts = Self { made: HashMap::new(), needed };
        if needed {
            let (given, before) = prompt.split_at(prompt.len().saturating_sub(params.made_before as usize));
            counts.made.extend(given.iter().map(|id| (*id, 0)));
            before.iter().for_each(|id| counts.note(*id));
        }
        counts
    }

    /// Counts a token just made.
    pub(crate) fn note(&mut self, id: TokenId) {
        if self.needed {
            *self.made.entry(id).or_default() += 1;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^24")]
    pub(super) fn apply(&self, params: &SamplingParams, logits: &mut [f32]) {
        for (id, made) in &self.made {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            if *logit > 0.0 {
                *logit /= params.repetition_penalty;
            } else {
                *logit *= params.repetition_penalty;
            }
            if *made > 0 {
                *logit -= params.frequency_penalty * *made as f32 + params.presence_penalty;
            }
        }
    }
}
