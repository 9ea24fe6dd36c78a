//! Timelines as bytes: times as differences to the one before, in bytes of seven bits.

use inference::{PrefillChunk, Timeline, TokenTime};
use sidefile::numbers::{self, put};

/// The first byte: timelines as they are packed here.
const FORM: u8 = 1;

/// The bytes of a timeline.
pub(crate) fn pack(timeline: &Timeline) -> Vec<u8> {
    let Timeline { prefill, more_prefill, tokens, more_tokens, preemptions_ns } = timeline;
    let mut out = Vec::with_capacity(16 + 8 * prefill.len() + 5 * tokens.len());
    out.push(FORM);
    put(&mut out, prefill.len() as u64);
    put(&mut out, *more_prefill);
    let mut last = 0;
    for chunk in prefill {
        put(&mut out, chunk.start_ns.saturating_sub(last));
        last = chunk.start_ns;
        put(&mut out, chunk.length_ns);
        put(&mut out, chunk.tokens);
    }
    put(&mut out, tokens.len() as u64);
    put(&mut out, *more_tokens);
    let mut last = 0;
    for token in tokens {
        put(&mut out, token.at_ns.saturating_sub(last));
        last = token.at_ns;
        put(&mut out, token.candidate.into());
    }
    put(&mut out, preemptions_ns.len() as u64);
    let mut last = 0;
    for at_ns in preemptions_ns {
        put(&mut out, at_ns.saturating_sub(last));
        last = *at_ns;
    }
    out
}

/// What [`pack`] was given; `None` for anything else.
pub(crate) fn unpack(bytes: &[u8]) -> Option<Timeline> {
    let mut from = Bytes(bytes.strip_prefix(&[FORM])?);
    let mut timeline = Timeline::default();
    let (chunks, more_prefill) = (from.count(Timeline::MAX_CHUNKS)?, from.number()?);
    let mut last = 0_u64;
    for _ in 0..chunks {
        last = last.checked_add(from.number()?)?;
        timeline.prefill.push(PrefillChunk { start_ns: last, length_ns: from.number()?, tokens: from.number()? });
    }
    let (tokens, more_tokens) = (from.count(Timeline::MAX_TOKENS)?, from.number()?);
    last = 0;
    for _ in 0..tokens {
        last = last.checked_add(from.number()?)?;
        timeline.tokens.push(TokenTime { at_ns: last, candidate: from.number()?.try_into().ok()? });
    }
    let preemptions = from.count(Timeline::MAX_PREEMPTIONS)?;
    last = 0;
    for _ in 0..preemptions {
        last = last.checked_add(from.number()?)?;
        timeline.preemptions_ns.push(last);
    }
    from.0.is_empty().then_some(Timeline { more_prefill, more_tokens, ..timeline })
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn number(&mut self) -> Option<u64> {
        numbers::take(&mut self.0)
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let token = |i: u64| TokenTime { at_ns: 2_000_000 + i * 21_000_000, candidate: (i % 2) as u32 };
        Timeline {
            prefill: vec![
                PrefillChunk { start_ns: 5, length_ns: 1_000_000, tokens: 256 },
                PrefillChunk { start_ns: 1_000_005, length_ns: u64::MAX, tokens: 1 },
            ],
            more_prefill: 3,
            tokens: (0..100).map(token).collect(),
            more_tokens: u64::MAX,
            preemptions_ns: vec![0, 7, u64::MAX],
        }
    }

    #[test]
    fn what_is_packed_comes_back() {
        for timeline in [timeline(), Timeline::default()] {
            assert_eq!(unpack(&pack(&timeline)), Some(timeline));
        }
        assert!(pack(&timeline()).len() < 100 * 6 + 60, "about five bytes a token");
    }

    #[test]
    fn damaged_bytes_are_no_timeline() {
        let bytes = pack(&timeline());
        for end in 0..bytes.len() {
            assert_eq!(unpack(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(unpack(&[bytes.as_slice(), &[0]].concat()), None);
        assert_eq!(unpack(&[2]), None);
        // A count beyond what a timeline may hold, and a number beyond 64 bits.
        assert_eq!(unpack(&[1, 0xff, 0xff, 0xff, 0x7f, 0]), None);
        assert_eq!(unpack(&[[1].as_slice(), &[0xff; 10]].concat()), None);
    }
}
