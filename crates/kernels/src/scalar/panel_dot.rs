//! Eight rows of a panel times a few columns.

use crate::WeightType;
use crate::activations::{Activations, BlockScale};
use crate::panel::{self, BLOCK, LANES, LaneBlock, Layout, Min};

/// Products of a quantized panel's eight rows with columns `first .. first + out.len()`.
pub(crate) fn panel_dot(layout: Layout, panel: &[u8], x: &Activations, first: usize, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    for b in 0..x.cols() / BLOCK {
        for lane in 0..LANES {
            let weights = panel::lane_block(layout, panel, b, lane);
            for (c, acc) in out.iter_mut().enumerate() {
                let codes = &x.codes(first + c)[b * BLOCK..][..BLOCK];
                acc[lane] = add_block(&weights, codes, &x.blocks(first + c)[b], acc[lane]);
            }
        }
    }
}

/// Adds one block's product to `acc`. The integer part is exact; the float part is one or two fused multiply-adds.
fn add_block(w: &LaneBlock, codes: &[i8], x: &BlockScale, acc: f32) -> f32 {
    let mut dots = [0i32; 2];
    for (k, (&w, &a)) in w.weights.iter().zip(codes).enumerate() {
        dots[k / 16] += i32::from(w) * i32::from(a);
    }
    let [low, up] = w.scales.map(i32::from);
    let acc = (w.d * x.d).mul_add(to_f32(low * dots[0] + up * dots[1]), acc);
    match w.min {
        Min::None => acc,
        Min::Added(min) => min.mul_add(x.scaled_sum, acc),
        Min::Scaled(dmin, mins) => {
            let [low, up] = mins.map(i32::from);
            (-(dmin * x.d)).mul_add(to_f32(low * x.half_sums[0] + up * x.half_sums[1]), acc)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rounds to nearest even, as the vector conversion does")]
fn to_f32(v: i32) -> f32 {
    v as f32
}

/// Products of a float panel's eight rows with columns `first .. first + out.len()`: one chain of fused multiply-adds
/// over the columns of the matrix for each output.
pub(crate) fn panel_dot_float(ty: WeightType, panel: &[u8], x: &Activations, first: usize, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    for k in 0..x.cols() {
        for lane in 0..LANES {
            let w = panel::lane_float(ty, panel, k, lane);
            for (c, acc) in out.iter_mut().enumerate() {
                acc[lane] = w.mul_add(x.values(first + c)[k], acc[lane]);
            }
        }
    }
}
