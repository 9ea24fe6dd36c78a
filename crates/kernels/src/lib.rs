//! Arithmetic on quantized weights, and the thread pool. All unsafe code of the project lives here.
//!
//! Every fast kernel has a scalar twin that gives the same bits: integer parts are exact, and float steps are the
//! same fused multiply-adds in the same order. The order of every reduction depends on the position only, never on
//! how many columns or threads work side by side.
#![expect(
    unsafe_code,
    reason = "SIMD intrinsics and disjoint slices shared between threads; each block says why it is sound"
)]

mod activations;
mod attention;
mod avx2;
mod avx512;
mod elementwise;
mod encode;
mod isa;
mod matmul;
mod matrix;
mod memory;
mod panel;
mod pool;
pub mod probe;
mod scalar;
mod ssm;

pub use activations::{Activations, Source};
pub use attention::{
    Attention, AttentionInput, AttentionShape, Heads, KV_BLOCK_TOKENS, KvPlaces, KvStore, KvStoreError, KvType,
    QueryColumn,
};
pub use elementwise::{
    Curve, RopeFrequencies, RopeOrder, RopeTable, add, add_rms_norm, add_to_rows, gelu_mul, rms_norm, rms_norm_add,
    rms_norm_in_place, rope, scale, silu_mul, softcap,
};
pub use encode::{EncodeError, encode};
pub use isa::Isa;
pub use matmul::{
    GatedProduct, GroupedProduct, matmul, matmul_gated, matmul_gated_with, matmul_grouped, matmul_grouped_with,
    matmul_with,
};
pub use matrix::{Matrix, MatrixBuilder, MatrixError, WeightType};
pub use memory::WeightMemory;
pub use pool::{Reservation, ThreadPool};
pub use ssm::{ScanInput, SsmShape, SsmTensors, SsmWeights, StateRuns, StateStore, causal_conv, selective_scan};
