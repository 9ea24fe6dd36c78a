//! When what happened to one request, measured where it happened.

/// A request's life in the engine. Times are nanoseconds of the engine's monotonic clock since the request's reception, in
/// the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Steps that computed positions of the prompt, or positions again after a preemption.
    pub prefill: Vec<PrefillChunk>,
    /// Chunks beyond [`Timeline::MAX_CHUNKS`].
    pub more_prefill: u64,
    /// Tokens made, those that a stop string cut off included.
    pub tokens: Vec<TokenTime>,
    /// Tokens beyond [`Timeline::MAX_TOKENS`].
    pub more_tokens: u64,
    /// When a sequence of it was preempted.
    pub preemptions_ns: Vec<u64>,
}

/// What one step did for a request's prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillChunk {
    /// When the step began.
    pub start_ns: u64,
    /// Until its forward pass was done; other requests' work in the same step included.
    pub length_ns: u64,
    /// Positions computed for this request.
    pub tokens: u64,
}

/// When a token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTime {
    /// When it came out of the sampler.
    pub at_ns: u64,
    /// Of which candidate it is.
    pub candidate: u32,
}

impl Timeline {
    /// Most chunks of prefill that it holds; further ones are counted only.
    pub const MAX_CHUNKS: usize = 1024;
    /// Most tokens that it holds; further ones are counted only.
    pub const MAX_TOKENS: usize = 8192;
    /// Most preemptions that it holds; the usage counts all.
    pub const MAX_PREEMPTIONS: usize = 256;

    /// Notes a step that computed positions of the prompt.
    pub fn note_prefill(&mut self, chunk: PrefillChunk) {
        if self.prefill.len() < Self::MAX_CHUNKS {
            self.prefill.push(chunk);
        } else {
            self.more_prefill += 1;
        }
    }

    /// Notes a token.
    pub fn note_token(&mut self, token: TokenTime) {
        if self.tokens.len() < Self::MAX_TOKENS {
            self.tokens.push(token);
        } else {
            self.more_tokens += 1;
        }
    }

    /// Notes a preemption.
    pub fn note_preemption(&mut self, at_ns: u64) {
        if self.preemptions_ns.len() < Self::MAX_PREEMPTIONS {
            self.preemptions_ns.push(at_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timelines_are_bounded_and_count_the_rest() {
        let mut timeline = Timeline::default();
        for i in 0..20_000 {
            timeline.note_token(TokenTime { at_ns: i, candidate: 0 });
            timeline.note_prefill(PrefillChunk { start_ns: i, length_ns: 1, tokens: 1 });
            timeline.note_preemption(i);
        }
        assert_eq!(
            (timeline.tokens.len(), timeline.more_tokens),
            (Timeline::MAX_TOKENS, 20_000 - Timeline::MAX_TOKENS as u64)
        );
        assert_eq!(
            (timeline.prefill.len(), timeline.more_prefill),
            (Timeline::MAX_CHUNKS, 20_000 - Timeline::MAX_CHUNKS as u64)
        );
        assert_eq!(timeline.preemptions_ns.len(), Timeline::MAX_PREEMPTIONS);
    }
}
