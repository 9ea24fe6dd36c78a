//! Panels against the GGUF blocks that they were packed from: known bytes with values worked out by hand, and random ones
//! against a plain reading of each block, weight after weight.

use super::*;
use crate::{MatrixBuilder, ThreadPool, WeightMemory};

const ONE: [u8; 2] = [0x00, 0x3C];
const HALF: [u8; 2] = [0x00, 0x38];
const TWO: [u8; 2] = [0x00, 0x40];
const MINUS_TWO: [u8; 2] = [0x00, 0xC0];

/// The weights of one block that has these bytes at these places, and else zeros; in a lane of a panel.
fn block(ty: WeightType, bytes: &[(usize, &[u8])]) -> Vec<f32> {
    let mut row = vec![0; ty.block_bytes()];
    for &(at, bytes) in bytes {
        row[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let layout = Layout::of(ty);
    let mut panel = vec![0; layout.panel_bytes(ty.block_len())];
    pack_lane(layout, &row, 5, &mut panel);
    let mut out = vec![f32::NAN; ty.block_len()];
    dequantize_lane(layout, &panel, 5, &mut out);
    out
}

fn expect(weights: &[f32], expected: &[(usize, f32)]) {
    for &(k, value) in expected {
        assert_eq!(weights[k], value, "weight {k}");
    }
}

#[test]
fn known_q5_1() {
    // High bits of weights 0 and 31; nibbles 15 and 3 of weights 0 and 16, 0 and 15 of weights 15 and 31.
    let bits = [1, 0, 0, 0x80];
    let weights = block(WeightType::Q5_1, &[(0, &HALF), (2, &MINUS_TWO), (4, &bits), (8, &[0x3F]), (23, &[0xF0])]);
    expect(&weights, &[(0, 13.5), (1, -2.0), (15, -2.0), (16, -0.5), (31, 13.5)]);
}

#[test]
fn known_q2k() {
    let weights = block(
        WeightType::Q2K,
        &[
            (0, &[0x21, 0xF3, 0x10]),
            (6, &[0x02]),
            (15, &[0xFF]),
            (16, &[0b11_10_01_00]),
            (32, &[3]),
            (79, &[0xC0]),
            (80, &ONE),
            (82, &HALF),
        ],
    );
    expect(&weights, &[(0, -1.0), (16, 9.0 - 7.5), (32, -0.5), (96, 6.0), (97, 0.0), (254, -7.5), (255, 45.0 - 7.5)]);
}

#[test]
fn known_q3k() {
    // Scale 0 is 63 - 32, scale 15 is 33 - 32, the others are -32. Codes are 0 - 4 where nothing is set.
    let weights = block(
        WeightType::Q3K,
        &[
            (0, &[0x01]),
            (31, &[0x80]),
            (32, &[0x03]),
            (95, &[0x40]),
            (96, &[0x0F]),
            (103, &[0x10]),
            (104, &[0x03]),
            (107, &[0x80]),
            (108, &ONE),
        ],
    );
    expect(&weights, &[(0, 93.0), (1, -124.0), (16, 128.0), (128, 128.0), (240, -4.0), (254, -4.0), (255, 1.0)]);
}

#[test]
fn known_q5k() {
    // Scale and minimum of the first 32 are 63, of the last 33 and 15.
    let weights = block(
        WeightType::Q5K,
        &[
            (0, &ONE),
            (2, &HALF),
            (4, &[63]),
            (7, &[0x80]),
            (8, &[63]),
            (15, &[0xF1]),
            (16, &[0x01]),
            (47, &[0x80]),
            (48, &[0x0F]),
            (175, &[0xA0]),
        ],
    );
    expect(&weights, &[(0, 63.0 * 31.0 - 31.5), (1, -31.5), (32, 0.0), (254, -7.5), (255, 33.0 * 26.0 - 7.5)]);
}

#[test]
fn known_iq4nl() {
    let weights = block(WeightType::IQ4NL, &[(0, &TWO), (2, &[0xF0]), (17, &[0x78])]);
    expect(&weights, &[(0, -254.0), (1, -254.0), (15, 2.0), (16, 226.0), (31, -20.0)]);
}

#[test]
fn known_iq4xs() {
    // Scale 0 is 63 - 32, scale 7 is 33 - 32, the others are -32.
    let weights = block(WeightType::IQ4XS, &[(0, &HALF), (2, &[0x03, 0x80, 0x0F]), (7, &[0x10]), (135, &[0xF0])]);
    let first = 0.5 * 31.0 * -127.0;
    expect(&weights, &[(0, first), (31, first), (32, 0.5 * 32.0 * 127.0), (239, -63.5), (254, -63.5), (255, 56.5)]);
}

#[test]
fn known_mxfp4() {
    let codes: &[u8] = &[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE];
    let values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (e, scale) in [(127, 1.0), (130, 8.0), (0, 2f32.powi(-126) / 2.0), (1, 2f32.powi(-126)), (2, 2f32.powi(-125))] {
        let weights = block(WeightType::MXFP4, &[(0, &[e]), (1, codes)]);
        for (i, value) in values.into_iter().enumerate() {
            // Low nibbles are the first half.
            let at = i / 2 + i % 2 * 16;
            expect(&weights, &[(at, value * scale), (at + 4, -value * scale)]);
        }
    }
    let largest = block(WeightType::MXFP4, &[(0, &[255]), (1, &[0x91])]);
    expect(&largest, &[(0, 2f32.powi(127)), (16, -(2f32.powi(127))), (1, 0.0)]);
}

/// The half float at a place of a block.
fn half(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// Code `k` of the 32 in the 16 bytes from a place on: low nibbles are the first half.
fn nibble(b: &[u8], from: usize, k: usize) -> u8 {
    if k < 16 { b[from + k] & 15 } else { b[from + k - 16] >> 4 }
}

const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Reads a block as the format describes it, from the first weight to the last.
fn reference(ty: WeightType, b: &[u8]) -> Vec<f32> {
    let code = |from: usize, k: usize| f32::from(nibble(b, from, k));
    let fifth = |from: usize, k: usize| {
        let bits = u32::from_le_bytes([b[from], b[from + 1], b[from + 2], b[from + 3]]);
        if bits & (1 << k) == 0 { 0.0 } else { 16.0 }
    };
    match ty {
        WeightType::Q4_0 => (0..32).map(|k| half(b, 0) * (code(2, k) - 8.0)).collect(),
        WeightType::Q4_1 => (0..32).map(|k| half(b, 0).mul_add(code(4, k), half(b, 2))).collect(),
        WeightType::Q5_0 => (0..32).map(|k| half(b, 0) * (code(6, k) + fifth(2, k) - 16.0)).collect(),
        WeightType::Q5_1 => (0..32).map(|k| half(b, 0).mul_add(code(8, k) + fifth(4, k), half(b, 2))).collect(),
        WeightType::Q8_0 => b[2..].iter().map(|q| half(b, 0) * f32::from(q.cast_signed())).collect(),
        WeightType::IQ4NL => (0..32).map(|k| half(b, 0) * f32::from(IQ4[usize::from(nibble(b, 2, k))])).collect(),
        WeightType::MXFP4 => mxfp4(b),
        WeightType::Q2K => q2k(b),
        WeightType::Q3K => q3k(b),
        WeightType::Q4K => q45k(b, None),
        WeightType::Q5K => q45k(b, Some(&b[16..48])),
        WeightType::Q6K => q6k(b),
        WeightType::IQ4XS => iq4xs(b),
        WeightType::F32 | WeightType::F16 | WeightType::BF16 => Vec::new(),
    }
}

fn mxfp4(b: &[u8]) -> Vec<f32> {
    let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    // In two steps, since neither 2^-128 nor 2^128 comes out of `powi`.
    let exponent = i32::from(b[0]) - 127;
    let scales = [exponent / 2, exponent - exponent / 2].map(|e| 2f32.powi(e));
    let value = |k: usize| {
        let code = usize::from(nibble(b, 1, k));
        let value = e2m1[code % 8] * scales[0] * scales[1];
        if code < 8 { value } else { -value }
    };
    (0..32).map(value).collect()
}

fn q2k(b: &[u8]) -> Vec<f32> {
    let mut scales = b[..16].iter();
    let mut y = Vec::new();
    for part in b[16..80].chunks(32) {
        for shift in [0, 2, 4, 6] {
            for codes in part.chunks(16) {
                let scale = *scales.next().unwrap();
                let (low, min) = (half(b, 80) * f32::from(scale & 15), half(b, 82) * f32::from(scale >> 4));
                y.extend(codes.iter().map(|q| low * f32::from(q >> shift & 3) - min));
            }
        }
    }
    y
}

fn q3k(b: &[u8]) -> Vec<f32> {
    // The scales as four words of four bytes.
    let word = |i: usize| u32::from_le_bytes([b[96 + i], b[97 + i], b[98 + i], b[99 + i]]);
    let (low, up, high) = (word(0), word(4), word(8));
    let words = [low, up, low >> 4, up >> 4]
        .into_iter()
        .enumerate()
        .flat_map(|(i, w)| ((w & 0x0F0F_0F0F) | (high >> (2 * i) & 0x0303_0303) << 4).to_le_bytes());
    let mut scales = words.map(|s| half(b, 108) * (f32::from(s) - 32.0));
    let (mut y, mut mask) = (Vec::new(), 1u8);
    for part in b[32..96].chunks(32) {
        for shift in [0, 2, 4, 6] {
            for (codes, masks) in part.chunks(16).zip(b[..32].chunks(16)) {
                let scale = scales.next().unwrap();
                for (q, m) in codes.iter().zip(masks) {
                    let less = if m & mask == 0 { 4.0 } else { 0.0 };
                    y.push(scale * (f32::from(q >> shift & 3) - less));
                }
            }
            mask = mask.wrapping_shl(1);
        }
    }
    y
}

/// `fifth`: the bytes of the fifth bits, where there are some; bit `j` of each is of the `j`th 32 weights.
fn q45k(b: &[u8], fifth: Option<&[u8]>) -> Vec<f32> {
    let codes_at = if fifth.is_some() { 48 } else { 16 };
    let mut y = Vec::new();
    for j in 0..8 {
        let [scale, min] = if j < 4 {
            [b[4 + j] % 64, b[8 + j] % 64]
        } else {
            [b[8 + j] % 16 + b[j] / 64 * 16, b[8 + j] / 16 + b[4 + j] / 64 * 16]
        };
        for l in 0..32 {
            let byte = b[codes_at + j / 2 * 32 + l];
            let mut q = if j % 2 == 0 { byte % 16 } else { byte / 16 };
            if fifth.is_some_and(|bits| bits[l] & (1 << j) != 0) {
                q += 16;
            }
            y.push(half(b, 0) * f32::from(scale) * f32::from(q) - half(b, 2) * f32::from(min));
        }
    }
    y
}

fn q6k(b: &[u8]) -> Vec<f32> {
    let mut y = vec![0.0; 256];
    for n in 0..2 {
        let (low, high, scales) = (&b[64 * n..], &b[128 + 32 * n..], &b[192 + 8 * n..]);
        for l in 0..32 {
            let codes = [low[l] & 15, low[l + 32] & 15, low[l] >> 4, low[l + 32] >> 4];
            for (i, code) in codes.into_iter().enumerate() {
                let q = f32::from(code | (high[l] >> (2 * i) & 3) << 4) - 32.0;
                y[128 * n + 32 * i + l] = half(b, 208) * f32::from(scales[l / 16 + 2 * i].cast_signed()) * q;
            }
        }
    }
    y
}

fn iq4xs(b: &[u8]) -> Vec<f32> {
    let high = u16::from_le_bytes([b[2], b[3]]);
    let part = |j: usize| {
        let low = if j.is_multiple_of(2) { b[4 + j / 2] & 15 } else { b[4 + j / 2] >> 4 };
        let scale = f32::from(low) + f32::from(high >> (2 * j) & 3) * 16.0 - 32.0;
        (0..32).map(move |k| half(b, 0) * scale * f32::from(IQ4[usize::from(nibble(b, 8 + 16 * j, k))]))
    };
    (0..8).flat_map(part).collect()
}

#[test]
fn every_block_is_read_as_its_format_says() {
    // Where the half-float scales stand; the tests set their high bytes so that they are finite.
    let types: [(WeightType, &[usize]); 13] = [
        (WeightType::Q4_0, &[0]),
        (WeightType::Q4_1, &[0, 2]),
        (WeightType::Q5_0, &[0]),
        (WeightType::Q5_1, &[0, 2]),
        (WeightType::Q8_0, &[0]),
        (WeightType::Q2K, &[80, 82]),
        (WeightType::Q3K, &[108]),
        (WeightType::Q4K, &[0, 2]),
        (WeightType::Q5K, &[0, 2]),
        (WeightType::Q6K, &[208]),
        (WeightType::IQ4NL, &[0]),
        (WeightType::IQ4XS, &[0]),
        (WeightType::MXFP4, &[]),
    ];
    let pool = ThreadPool::new(1).unwrap();
    for (ty, scales_at) in types {
        let (rows, cols) = (11, 3 * ty.block_len());
        let mut state = 1u64;
        let mut bytes: Vec<u8> = (0..rows * ty.row_bytes(cols))
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        for block in bytes.chunks_mut(ty.block_bytes()) {
            scales_at.iter().for_each(|at| block[at + 1] &= 0xBF);
        }
        let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), ty, rows, cols).unwrap();
        builder.push_rows(&pool, &bytes).unwrap();
        let matrix = builder.finish().unwrap();
        let mut out = vec![f32::NAN; cols];
        for (r, row) in bytes.chunks(ty.row_bytes(cols)).enumerate() {
            matrix.row_into(r, &mut out);
            let expected: Vec<f32> = row.chunks(ty.block_bytes()).flat_map(|block| reference(ty, block)).collect();
            assert_eq!(out, expected, "{ty:?} row {r}");
        }
    }
}
