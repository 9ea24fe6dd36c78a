//! Sixteen rows of a pair of panels times many columns, by AMX's tiles: `C[column][row] += A[column][k] * B[k][row]` in
//! exact i32, a block of 32 columns of the matrix at a time.
//!
//! A panel's groups of four columns are the order in which B is wanted, and activation codes stand as A is wanted, so only
//! the weights' codes are unpacked, once for all columns. The instructions are written as assembly, since the compiler has
//! no stable intrinsics for them; it never uses tile registers by itself, so they need not be told of.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::ROWS;
use super::pair::{self, Pair};
use super::place::{Place, store};
use super::side::{self, SIDE_COLUMNS, Side};
use super::unpacked::{self, Unpacked};
use crate::activations::Activations;
use crate::panel::{BLOCK, Quantized, with_quantized};

/// Columns of a tile.
const TILE: usize = SIDE_COLUMNS;
/// With fewer columns than this VNNI is quicker.
pub(crate) const TILE_COLUMNS_MIN: usize = 12;

/// Whether this process may use the tiles: the processor has them, and the system grants their state.
pub(crate) fn allowed() -> bool {
    const AMX_TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    let leaf = __cpuid_count(7, 0);
    if leaf.edx & AMX_TILE_AND_INT8 != AMX_TILE_AND_INT8 || __cpuid(1).ecx & (1 << 27) == 0 {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: XGETBV is there where OSXSAVE (bit 27, asked above) is; it reads register 0 and changes nothing.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    let enabled = u64::from(high) << 32 | u64::from(low);
    enabled & TILE_STATE == TILE_STATE && granted()
}

/// Linux gives a process the tiles' state when it asks.
#[cfg(target_os = "linux")]
fn granted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a request with two numbers; it touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
}

/// Does `rounds` rounds of products of tiles as the kernels have them, everything in registers; gives the operations of
/// one round.
///
/// # Safety
/// Needs what [`allowed`] asks for.
pub(crate) unsafe fn peak(rounds: u64) -> u64 {
    // SAFETY: the tiles are configured before they are used; nothing but tile registers is touched.
    unsafe {
        configure(TILE, false);
        for _ in 0..rounds {
            asm!("tdpbssd tmm0, tmm1, tmm2", "tdpbssd tmm3, tmm4, tmm5", options(nomem, nostack));
        }
        asm!("tilerelease", options(nomem, nostack));
    }
    (2 * TILE * ROWS * BLOCK * 2) as u64
}

/// Dots of a tile: `[column][row]`.
#[repr(C, align(64))]
struct Dots([[i32; ROWS]; TILE]);

/// Writes the products of a pair's rows with `columns` of `x` to their places.
///
/// # Safety
/// Needs what [`allowed`] asks for and AVX-512 F, BW, VL and DQ. The panels are of a quantized type and fit `x`, and nobody
/// else writes to the same places. `side` is of columns of `x` that hold `columns`, which begin a multiple
/// of 16 after its first.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) unsafe fn products(pair: &Pair, x: &Activations, side: Side<'_>, columns: Range<usize>, place: &Place<'_>) {
    unpacked::with_scratch(|[unpacked, _]| {
        // SAFETY: passed on from the caller.
        unsafe {
            with_quantized!(pair.weight_type(), T => all_tiles::<T>(pair, unpacked, x, side, columns, place));
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn all_tiles<T: Quantized>(
    pair: &Pair,
    unpacked: &mut Unpacked,
    x: &Activations,
    side: Side<'_>,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    let blocks = x.cols() / BLOCK;
    // SAFETY: the blocks are inside the panels, and the tiles inside `x` and `side` (`products`).
    unsafe {
        unpacked.fill::<T, true>(pair, blocks, 1);
        let mut configured = 0;
        for first in columns.clone().step_by(TILE) {
            let n = TILE.min(columns.end - first);
            if configured != n {
                configure(n, T::LAYOUT.scales.halves());
                configured = n;
            }
            if n > TILE / 2 {
                tile::<T, TILE>(unpacked, x, side, first..first + n, place);
            } else {
                tile::<T, { TILE / 2 }>(unpacked, x, side, first..first + n, place);
            }
        }
        asm!("tilerelease", options(nomem, nostack));
    }
}

/// The tiles' shapes: A (1, 4) has `columns` rows of a block's codes, B (2, 5) their groups of four, C (0, 3) the dots.
/// With `halves` A and B are of half a block.
///
/// # Safety
/// Needs what [`allowed`] asks for; `columns` is 1 to 16.
unsafe fn configure(columns: usize, halves: bool) {
    let rows = columns.to_le_bytes()[0];
    let (code_bytes, groups) = if halves { (16, 4) } else { (32, 8) };
    let mut config = [0_u8; 64];
    config[0] = 1;
    for [c, a, b] in [[0, 1, 2], [3, 4, 5]] {
        (config[16 + 2 * c], config[48 + c]) = (64, rows);
        (config[16 + 2 * a], config[48 + a]) = (code_bytes, rows);
        (config[16 + 2 * b], config[48 + b]) = (64, groups);
    }
    // SAFETY: 64 bytes of a valid configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) config.as_ptr(), options(readonly, nostack)) };
}

/// Dots of a block's (or half a block's) codes, by one set of tiles or (`ODD`) the other.
///
/// # Safety
/// The tiles are configured. `a` points at the configured rows of codes, `stride` bytes apart, `b` at the groups, `c` at
/// room for the dots.
#[inline]
unsafe fn multiply<const ODD: bool>(a: *const i8, stride: usize, b: *const [u8; 64], c: &mut Dots) {
    // SAFETY: the caller's promise.
    unsafe {
        if ODD {
            asm!(
                "tilezero tmm3",
                "tileloadd tmm4, [{a} + {stride} * 1]",
                "tileloadd tmm5, [{b} + {row} * 1]",
                "tdpbssd tmm3, tmm4, tmm5",
                "tilestored [{c} + {row} * 1], tmm3",
                a = in(reg) a, stride = in(reg) stride, b = in(reg) b, c = in(reg) c.0.as_mut_ptr(), row = in(reg) 64_usize,
                options(nostack)
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm1, [{a} + {stride} * 1]",
                "tileloadd tmm2, [{b} + {row} * 1]",
                "tdpbssd tmm0, tmm1, tmm2",
                "tilestored [{c} + {row} * 1], tmm0",
                a = in(reg) a, stride = in(reg) stride, b = in(reg) b, c = in(reg) c.0.as_mut_ptr(), row = in(reg) 64_usize,
                options(nostack)
            );
        }
    }
}

/// One tile of at most `N` columns. The dots of the next block are under way while those of this one are scaled and added.
///
/// # Safety
/// The tiles are configured for these columns, and the rest as in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile<T: Quantized, const N: usize>(
    unpacked: &Unpacked,
    x: &Activations,
    side: Side<'_>,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    let (a, stride, side) = (x.codes_from(columns.start).as_ptr(), x.cols(), side.tile::<T>(columns.start));
    let mut acc = [_mm512_setzero_ps(); N];
    let mut dots = [const { Dots([[0; ROWS]; TILE]) }; 4];
    // SAFETY: the caller's promises; block `b` is one of the unpacked ones.
    unsafe {
        let block = |b: usize, dots: &mut [Dots; 4]| {
            let (a, codes) = (a.add(b * BLOCK), unpacked.codes(b).as_ptr());
            let [even, odd, even_half, odd_half] = dots;
            match (T::LAYOUT.scales.halves(), b.is_multiple_of(2)) {
                (false, true) => multiply::<false>(a, stride, codes, even),
                (false, false) => multiply::<true>(a, stride, codes, odd),
                (true, true) => {
                    multiply::<false>(a, stride, codes, even);
                    multiply::<true>(a.add(BLOCK / 2), stride, codes.add(4), even_half);
                }
                (true, false) => {
                    multiply::<false>(a, stride, codes, odd);
                    multiply::<true>(a.add(BLOCK / 2), stride, codes.add(4), odd_half);
                }
            }
        };
        block(0, &mut dots);
        let blocks = side.len();
        for (b, of) in side.enumerate() {
            if b + 1 < blocks {
                block(b + 1, &mut dots);
            }
            let w = unpacked.scales::<T>(b);
            let (first, second) = if b.is_multiple_of(2) { (&dots[0].0, &dots[2].0) } else { (&dots[1].0, &dots[3].0) };
            for c in 0..N {
                let low = _mm512_load_si512(first[c].as_ptr().cast());
                let up = if T::LAYOUT.scales.halves() { _mm512_load_si512(second[c].as_ptr().cast()) } else { low };
                let scale = side::scale::<T>(of, c);
                acc[c] = pair::add_block::<T>(acc[c], &w, [low, up], &scale);
            }
        }
        for (c, acc) in acc.iter().enumerate().take(columns.len()) {
            store(place, columns.start + c, *acc);
        }
    }
}
