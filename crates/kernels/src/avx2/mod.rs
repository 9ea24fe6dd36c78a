//! The kernels on 256-bit vectors: AVX2 + FMA + F16C, and with VNNI's 8-bit dot products.

#[cfg(target_arch = "x86_64")]
mod panel_dot;
#[cfg(target_arch = "x86_64")]
mod quantize;

#[cfg(target_arch = "x86_64")]
pub(crate) use panel_dot::{Columns, panel_dot};
#[cfg(target_arch = "x86_64")]
pub(crate) use quantize::quantize_block;
