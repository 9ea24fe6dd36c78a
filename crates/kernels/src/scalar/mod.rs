//! The reference: every kernel in portable code, with the bits that the fast ones must give.

mod panel_dot;
mod quantize;

pub(crate) use panel_dot::{panel_dot, panel_dot_float};
pub(crate) use quantize::{quantize_block, scale_of};
