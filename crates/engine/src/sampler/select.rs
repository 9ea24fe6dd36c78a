//! Choosing among tokens without sorting the vocabulary.

use std::cmp::Ordering;

use inference::TokenId;

use super::softmax;

/// A token and its logit, later its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) value: f32,
    pub(super) id: TokenId,
}

/// Larger values first, then lower ids.
fn better(a: &Candidate, b: &Candidate) -> Ordering {
    b.value.total_cmp(&a.value).then(a.id.cmp(&b.id))
}

/// The lowest id whose logit is `best` (the largest one, as [`softmax::max`] gives it).
pub(super) fn first_of(logits: &[f32], best: f32) -> Option<TokenId> {
    (0..).zip(logits).find(|(_, logit)| **logit >= best).map(|(id, _)| id)
}

/// The `count` best tokens, best first. One pass; a buffer of twice the size is cut back whenever it is full.
pub(super) fn largest(logits: &[f32], count: usize, kept: &mut Vec<Candidate>) {
    kept.clear();
    let capacity = count.saturating_mul(2).max(count.saturating_add(64));
    let mut floor = f32::NEG_INFINITY;
    for (id, logit) in (0..).zip(logits) {
        // Later ids lose ties, and not-a-number is never larger.
        if *logit > floor {
            kept.push(Candidate { value: *logit, id });
            if kept.len() == capacity {
                kept.select_nth_unstable_by(count - 1, better);
                kept.truncate(count);
                floor = kept[count - 1].value;
            }
        }
    }
    if kept.len() > count {
        kept.select_nth_unstable_by(count - 1, better);
        kept.truncate(count);
    }
    kept.sort_unstable_by(better);
}

/// How many of the first candidates it takes for their weights to reach `share`; at least one.
pub(super) fn share_len(candidates: &[Candidate], share: f64) -> usize {
    let mut sum = 0.0;
    let enough = candidates.iter().position(|candidate| {
        sum += f64::from(candidate.value);
        sum >= share
    });
    enough.map_or(candidates.len(), |last| last + 1)
}

/// Tokens that weigh at least `least`, in order of id.
pub(super) fn at_least(weights: &[f32], least: f32, kept: &mut Vec<Candidate>) {
    kept.clear();
    kept.extend((0..).zip(weights).filter(|(_, w)| **w >= least).map(|(id, w)| Candidate { value: *w, id }));
}

/// Buckets per power of two, as a shift of the bits of a weight.
const BUCKET_SHIFT: u32 = 18;
const ONE: u32 = 0x3f80_0000;

/// Number of the bucket of a weight in 0..=1; heavier ones come first.
fn bucket(weight: f32) -> usize {
    (ONE.saturating_sub(weight.to_bits()) >> BUCKET_SHIFT) as usize
}

/// The smallest set of heaviest tokens whose share of all weight reaches `share`. Weights go into buckets by size;
/// only the one in which the sum reaches the share is sorted.
pub(super) fn top_p(weights: &[f32], share: f32, buckets: &mut Vec<f64>, kept: &mut Vec<Candidate>) {
    buckets.clear();
    buckets.resize((ONE >> BUCKET_SHIFT) as usize + 1, 0.0);
    for weight in weights {
        if *weight > 0.0 {
            buckets[bucket(*weight)] += f64::from(*weight);
        }
    }
    let wanted = f64::from(share) * buckets.iter().sum::<f64>();
    let mut before = 0.0;
    let mut last = buckets.len() - 1;
    for (number, sum) in buckets.iter().enumerate() {
        if before + sum >= wanted && *sum > 0.0 {
            last = number;
            break;
        }
        before += sum;
    }
    kept.clear();
    let all = || (0..).zip(weights).filter(|(_, w)| **w > 0.0).map(|(id, w)| Candidate { value: *w, id });
    kept.extend(all().filter(|candidate| bucket(candidate.value) < last));
    let sure = kept.len();
    kept.extend(all().filter(|candidate| bucket(candidate.value) == last));
    let border = &mut kept[sure..];
    border.sort_unstable_by(better);
    let needed = share_len(border, wanted - before);
    kept.truncate(sure + needed);
}

/// Draws a token in proportion to its weight.
pub(super) fn draw_candidate(kept: &[Candidate], uniform: f64) -> Option<TokenId> {
    let total: f64 = kept.iter().map(|candidate| f64::from(candidate.value)).sum();
    let target = uniform * total;
    let mut sum = 0.0;
    let drawn = kept.iter().find(|candidate| {
        sum += f64::from(candidate.value);
        sum > target
    });
    // Rounding can leave the target just out of reach.
    drawn.or_else(|| kept.iter().rev().find(|candidate| candidate.value > 0.0)).map(|candidate| candidate.id)
}

/// Draws an index in proportion to its weight, span by span so that the sums are fast.
pub(super) fn draw_weighted(weights: &[f32], uniform: f64) -> Option<TokenId> {
    const SPAN: usize = 1024;
    let mut left = uniform * weights.chunks(SPAN).map(softmax::sum).sum::<f64>();
    let mut start = 0;
    for span in weights.chunks(SPAN) {
        let sum = softmax::sum(span);
        if sum > left {
            let mut within = left;
            for (offset, weight) in span.iter().enumerate() {
                within -= f64::from(*weight);
                if within < 0.0 {
                    return TokenId::try_from(start + offset).ok();
                }
            }
            // The span's sum was rounded up: its last token that can be drawn.
            let offset = span.iter().rposition(|weight| *weight > 0.0)?;
            return TokenId::try_from(start + offset).ok();
        }
        left -= sum;
        start += SPAN;
    }
    let last = weights.iter().rposition(|weight| *weight > 0.0)?;
    TokenId::try_from(last).ok()
}
