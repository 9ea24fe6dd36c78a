//! What is encoded, read again by what reads blocks for products.

use super::*;
use crate::{MatrixBuilder, WeightMemory};

/// Types that can be written.
const TYPES: [WeightType; 8] = [
    WeightType::Q4_0,
    WeightType::Q4_1,
    WeightType::Q5_0,
    WeightType::Q5_1,
    WeightType::Q8_0,
    WeightType::Q4K,
    WeightType::Q5K,
    WeightType::Q6K,
];

fn pool() -> ThreadPool {
    ThreadPool::new(2).unwrap()
}

fn encoded(ty: WeightType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![7; 3];
    encode(&pool(), ty, values, &mut bytes).unwrap();
    assert_eq!(bytes.len(), ty.row_bytes(values.len()));
    bytes
}

/// Values of a row of blocks, as products see them.
fn decoded(ty: WeightType, bytes: &[u8], len: usize) -> Vec<f32> {
    let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), ty, 1, len).unwrap();
    builder.push_rows(&pool(), bytes).unwrap();
    let mut values = vec![0.0; len];
    builder.finish().unwrap().row_into(0, &mut values);
    values
}

/// Roughly normal values, the same each time.
fn values(len: usize, mut state: u64) -> Vec<f32> {
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 0.03).collect()
}

fn relative_error(x: &[f32], y: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let error: f64 = x.iter().zip(y).map(|(x, y)| square(x - y)).sum();
    (error / x.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// Of these values llama.cpp's own encoders (ggml 0.25, without an importance matrix) lose 0.0820, 0.0759, 0.0411, 0.0370,
/// 0.0052, 0.0689, 0.0352, 0.0172 in this order.
#[test]
fn no_more_is_lost_than_with_the_encoders_of_llama_cpp() {
    let x = values(64 * 256, 1);
    for (ty, most) in TYPES.into_iter().zip([0.0787, 0.0688, 0.0392, 0.0335, 0.0052, 0.0686, 0.0343, 0.0170]) {
        let error = relative_error(&x, &decoded(ty, &encoded(ty, &x), x.len()));
        assert!(error < most && error > 0.95 * most, "{ty:?}: {error}");
    }
}

/// What was decoded is met again: every code and every scale of a reader can be written.
#[test]
fn values_on_the_grid_stay() {
    for ty in TYPES {
        let x = decoded(ty, &encoded(ty, &values(8 * 256, 9)), 8 * 256);
        let error = relative_error(&x, &decoded(ty, &encoded(ty, &x), x.len()));
        assert!(error < 0.004, "{ty:?}: {error}");
    }
}

/// The fit is at least as good as steps that merely span the range.
#[test]
fn the_fit_beats_the_plain_range() {
    for (round, x) in values(200 * 32, 4).chunks_exact(32).enumerate() {
        let y = decoded(WeightType::Q4_1, &encoded(WeightType::Q4_1, x), 32);
        let (low, high) = x.iter().fold((0_f32, 0_f32), |(low, high), &x| (low.min(x), high.max(x)));
        let (low, high) = (x.iter().copied().fold(high, f32::min), x.iter().copied().fold(low, f32::max));
        let step = (high - low) / 15.0;
        let plain: Vec<f32> = x.iter().map(|x| ((x - low) / step).round() * step + low).collect();
        assert!(relative_error(x, &y) < relative_error(x, &plain) * 1.15, "block {round}");
    }
}

#[test]
fn extreme_blocks_decode_to_finite_values_near_them() {
    let mut spike = vec![0.0; 256];
    spike[37] = -3.5;
    let rows =
        [vec![0.0; 256], vec![1.0; 256], vec![-2.5; 256], spike, vec![1e-30; 256], vec![3e4; 256], vec![-1e38; 256]];
    for ty in TYPES {
        for x in &rows {
            let y = decoded(ty, &encoded(ty, x), 256);
            let most = x.iter().fold(0_f32, |most, x| most.max(x.abs()));
            for (x, y) in x.iter().zip(&y) {
                // What half floats can't scale is as large as they allow, or nothing.
                let fits = most < 1e5;
                assert!(y.is_finite() && (!fits || (x - y).abs() <= 0.13 * most + 1e-6), "{ty:?} {x} {y}");
            }
        }
    }
}

#[test]
fn floats_are_the_nearest_of_their_type() {
    let x = values(3 * 4096 + 5, 7);
    for (ty, most) in [(WeightType::F32, 0.0), (WeightType::F16, 2_f32.powi(-11)), (WeightType::BF16, 2_f32.powi(-8))] {
        let y = decoded(ty, &encoded(ty, &x), x.len());
        let near = |(x, y): (&f32, &f32)| (x - y).abs() <= (x.abs() * most).max(3e-8 * most.ceil());
        assert!(x.iter().zip(&y).all(near), "{ty:?}");
    }
}

#[test]
fn threads_and_places_do_not_matter() {
    let x = values(5 * 64 * 32 + 96 * 32, 3);
    let whole = encoded(WeightType::Q5_0, &x);
    let parts: Vec<u8> = x.chunks(32).flat_map(|block| encoded(WeightType::Q5_0, block)).collect();
    assert!(whole == parts);
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let (pool, mut out) = (pool(), Vec::new());
    let mut refused = |ty, values: &[f32]| encode(&pool, ty, values, &mut out).unwrap_err();
    assert_eq!(refused(WeightType::Q4K, &[0.0; 255]), EncodeError::Length { ty: WeightType::Q4K, values: 255 });
    assert_eq!(refused(WeightType::IQ4NL, &[0.0; 32]), EncodeError::Type(WeightType::IQ4NL));
    let mut values = [0.5; 64];
    values[40] = f32::NAN;
    assert_eq!(refused(WeightType::Q8_0, &values), EncodeError::NotFinite { index: 40 });
    values[40] = f32::INFINITY;
    assert!(refused(WeightType::Q4_0, &values).to_string().contains("value 40"));
}
