//! Eight rows of a panel times a few columns.

use crate::WeightType;
use crate::activations::{Activations, BlockScale};
use crate::panel::{self, BLOCK, LANES, LaneBlock, Layout};

/// Products of a quantized panel's eight rows with columns `first .. first + out.len()`.
pub(crate) fn panel_dot(layout: Layout, panel: &[u8], x: &Activations, first: usize, out: &mut [[f32; LANES]]) {
    out.fill([0.0; LANES]);
    for b in 0..x.cols() / BLOCK {
        for lane in 0..LANES {
            let weights = panel::lane_block(layout, panel, b, lane);
            for (c, acc) in out.iter_mut().enumerate() {
                let codes = &x.codes(first + c)[b * BLOCK..][..BLOCK];
                acc[lane] = add_block(layout.ty, &weights, codes, &x.blocks(first + c)[b], acc[lane]);
            }
        }
    }
}

/// Adds one block's product to `acc`. The integer part is exact; the float part is one or two fused multiply-adds.
fn add_block(ty: WeightType, w: &LaneBlock, codes: &[i8], x: &BlockScale, acc: f32) -> f32 {
    let signed = ty == WeightType::Q8_0;
    let mut halves = [0i32; 2];
    for (k, (&w, &a)) in w.codes.iter().zip(codes).enumerate() {
        let w = if signed { i32::from(w.cast_signed()) } else { i32::from(w) };
        halves[k / 16] += w * i32::from(a);
    }
    let dot = halves[0] + halves[1];
    let sum = x.half_sums[0] + x.half_sums[1];
    let scale = w.d * x.d;
    match ty {
        WeightType::Q4_1 => w.m.mul_add(x.scaled_sum, scale.mul_add(to_f32(dot), acc)),
        WeightType::Q4_0 => scale.mul_add(to_f32(dot - 8 * sum), acc),
        WeightType::Q5_0 => scale.mul_add(to_f32(dot - 16 * sum), acc),
        WeightType::Q4K => {
            let acc = scale.mul_add(to_f32(i32::from(w.sub[0]) * dot), acc);
            (-(w.m * x.d)).mul_add(to_f32(i32::from(w.sub[1]) * sum), acc)
        }
        WeightType::Q6K => {
            let low = i32::from(w.sub[0].cast_signed()) * (halves[0] - 32 * x.half_sums[0]);
            let high = i32::from(w.sub[1].cast_signed()) * (halves[1] - 32 * x.half_sums[1]);
            scale.mul_add(to_f32(low + high), acc)
        }
        _ => scale.mul_add(to_f32(dot), acc),
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
