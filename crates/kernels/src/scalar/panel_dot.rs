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
                let x = &x.blocks(first + c)[b];
                acc[lane] = add_block(&weights, layout.scales.halves(), codes, x, acc[lane]);
            }
        }
    }
}

/// Adds one block's product to `acc`: exact integer dots, then a fused multiply-add or two. With `halves` both halves have
/// scales (and minimums) of their own and are added up first.
fn add_block(w: &LaneBlock, halves: bool, codes: &[i8], x: &BlockScale, acc: f32) -> f32 {
    let mut dots = [0i32; 2];
    for (k, (&w, &a)) in w.weights.iter().zip(codes).enumerate() {
        dots[k / 16] += i32::from(w) * i32::from(a);
    }
    let both = |[low, up]: [f32; 2], of: [i32; 2]| up.mul_add(to_f32(of[1]), low * to_f32(of[0]));
    let acc = if halves {
        x.d.mul_add(both(w.scales, dots), acc)
    } else {
        (w.scales[0] * x.d).mul_add(to_f32(dots[0] + dots[1]), acc)
    };
    match w.min {
        Min::None => acc,
        Min::One(min) => min.mul_add(x.scaled_sum, acc),
        Min::Halves(mins) => x.d.mul_add(both(mins, x.half_sums), acc),
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
