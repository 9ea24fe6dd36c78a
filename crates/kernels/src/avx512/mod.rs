//! The kernels on 512-bit vectors: two neighbouring panels side by side, their sixteen rows in the lanes. With VNNI's
//! dot products for few columns, with AMX's tiles for many.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod pair;
#[cfg(target_arch = "x86_64")]
mod pair_dot;
#[cfg(target_arch = "x86_64")]
mod pair_float;
#[cfg(target_arch = "x86_64")]
mod place;
#[cfg(target_arch = "x86_64")]
mod side;
#[cfg(target_arch = "x86_64")]
mod two_pairs;
#[cfg(target_arch = "x86_64")]
mod unpacked;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::{TILE_COLUMNS_MIN, allowed as amx_allowed, peak as amx_peak, products as amx_products};
#[cfg(target_arch = "x86_64")]
pub(crate) use pair::Pair;
#[cfg(target_arch = "x86_64")]
pub(crate) use pair_dot::products as pair_products;
#[cfg(target_arch = "x86_64")]
pub(crate) use pair_float::products as pair_float_products;
#[cfg(target_arch = "x86_64")]
pub(crate) use place::Place;
#[cfg(target_arch = "x86_64")]
pub(crate) use side::{Side, Sides};
#[cfg(target_arch = "x86_64")]
pub(crate) use two_pairs::{UNPACK_COLUMNS_MIN, products as two_pairs_products};

/// Rows of a pair of panels.
#[cfg(target_arch = "x86_64")]
pub(crate) const ROWS: usize = 2 * crate::panel::LANES;
