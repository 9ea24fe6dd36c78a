//! A state-space layer: two projections, a convolution and a scan over the sequences' states, and a gate.

use kernels::{Curve, ScanInput, Source, StateRuns, causal_conv, matmul, rms_norm_in_place, selective_scan};

use super::{Step, any_float, first};
use crate::mamba::StateSpaceWeights;

/// Working memory of state-space layers.
#[derive(Default)]
pub(super) struct StateSpaceBuffers {
    /// Which state each column goes on from.
    pub(super) runs: StateRuns,
    /// `[columns][inner]`, as are the gate and the time steps.
    values: Vec<f32>,
    gate: Vec<f32>,
    dt: Vec<f32>,
    /// `[columns][time_step_rank]`.
    narrow_dt: Vec<f32>,
    /// `[columns][state_size]`.
    b: Vec<f32>,
    c: Vec<f32>,
    /// Weights of norms that have none.
    ones: Vec<f32>,
}

impl Step<'_> {
    /// delta = the layer's output.
    pub(crate) fn state_space(&mut self, layer: usize, weights: &StateSpaceWeights) {
        let (columns, sizes, eps) = (self.columns.len(), weights.sizes, self.config.norm_eps);
        let buffers = &mut *self.state_space;
        let wide = columns * sizes.inner;
        let values = first(&mut buffers.values, wide);
        let (gate, dt) = (first(&mut buffers.gate, wide), first(&mut buffers.dt, wide));
        let narrow_dt = first(&mut buffers.narrow_dt, columns * sizes.time_step_rank);
        let b = first(&mut buffers.b, columns * sizes.state_size);
        let c = first(&mut buffers.c, columns * sizes.state_size);

        let mut products = [(&weights.value, &mut *values), (&weights.gate, &mut *gate)];
        matmul(self.pool, &mut products, self.activations);
        let store = self.cache.states();
        causal_conv(self.pool, &weights.ssm, (&mut *store, layer), &buffers.runs, values);

        let [to_dt, to_b, to_c] = &weights.selection;
        let floats = any_float(&[to_dt, to_b, to_c]);
        self.activations.fill(self.pool, Source::Values(values), (columns, sizes.inner), floats);
        let mut products = [(to_dt, &mut *narrow_dt), (to_b, &mut *b), (to_c, &mut *c)];
        matmul(self.pool, &mut products, self.activations);
        if sizes.dt_b_c_rms {
            buffers.ones.resize(sizes.time_step_rank.max(sizes.state_size), 1.0);
            for (x, width) in
                [(&mut *narrow_dt, sizes.time_step_rank), (&mut *b, sizes.state_size), (&mut *c, sizes.state_size)]
            {
                rms_norm_in_place(self.pool, x, &buffers.ones[..width], eps);
            }
        }
        let shape = (columns, sizes.time_step_rank);
        self.activations.fill(self.pool, Source::Values(narrow_dt), shape, any_float(&[&weights.dt]));
        matmul(self.pool, &mut [(&weights.dt, &mut *dt)], self.activations);

        let input = ScanInput { x: &mut *values, dt, b, c };
        selective_scan(self.pool, &weights.ssm, (store, layer), &buffers.runs, input);
        let source = Source::Gated { curve: Curve::Silu, gate, up: values };
        self.activations.fill(self.pool, source, (columns, sizes.inner), any_float(&[&weights.output]));
        matmul(self.pool, &mut [(&weights.output, &mut *self.delta)], self.activations);
    }
}
