//! What columns cost, as measured, and how many prompt columns a step may take.

/// Share of a new measurement in the running average, as 1/n.
const SMOOTHING: u64 = 8;
/// How many slices long a step may be in which nobody decodes: new requests and cancellations wait for its end.
const ALONE_SLICES: u64 = 10;
/// Fewest prompt columns of a step: a prompt always moves on.
const MIN_CHUNK: usize = 8;

/// Running averages of step times. Time comes in as an argument; nothing here reads a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CostModel {
    decode_step_ns: u64,
    prefill_column_ns: u64,
}

impl CostModel {
    /// Takes the measured time of a step.
    pub(crate) fn observe(&mut self, prefill_columns: usize, decode_columns: usize, ns: u64) {
        if prefill_columns == 0 {
            average(&mut self.decode_step_ns, ns);
        } else {
            let decode = if decode_columns == 0 { 0 } else { self.decode_step_ns };
            let columns = u64::try_from(prefill_columns).unwrap_or(u64::MAX);
            average(&mut self.prefill_column_ns, ns.saturating_sub(decode) / columns);
        }
    }

    /// Most prompt columns of the next step, up to `chunk`: as many as add no more than `slice_ns` to the step, or
    /// than the decoding itself takes, if that is longer. A step in which nobody decodes may be longer.
    pub(crate) fn prefill_budget(&self, decodes: usize, chunk: usize, slice_ns: u64) -> usize {
        if self.prefill_column_ns == 0 {
            return chunk;
        }
        let ns = if decodes == 0 { slice_ns.saturating_mul(ALONE_SLICES) } else { slice_ns.max(self.decode_step_ns) };
        let columns = usize::try_from(ns / self.prefill_column_ns).unwrap_or(usize::MAX);
        (columns - columns % MIN_CHUNK).max(MIN_CHUNK).min(chunk)
    }
}

fn average(value: &mut u64, sample: u64) {
    *value = if *value == 0 { sample } else { *value - *value / SMOOTHING + sample / SMOOTHING };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_the_added_time() {
        let mut cost = CostModel::default();
        assert_eq!(cost.prefill_budget(3, 256, 50_000), 256, "nothing measured yet");
        cost.observe(0, 4, 10_000);
        cost.observe(10, 4, 20_000);
        assert_eq!(cost.prefill_column_ns, 1_000);
        assert_eq!(cost.prefill_budget(0, 256, 50_000), 256);
        assert_eq!(cost.prefill_budget(0, 256, 5_000), 48, "ten slices when nobody decodes");
        assert_eq!(cost.prefill_budget(1, 256, 50_000), 48, "50 columns, rounded down to eights");
        assert_eq!(cost.prefill_budget(1, 256, 2_000), 8, "10 by the decode time, rounded to 8");
        cost.prefill_column_ns = 1_000_000;
        assert_eq!(cost.prefill_budget(1, 256, 50_000), 8, "always moves on");
        assert_eq!(cost.prefill_budget(1, 4, 50_000), 4);
    }
}
