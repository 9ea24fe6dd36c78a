//! A pair of panels with its codes unpacked, for products with many columns.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::ROWS;
use super::pair::{Pair, Scales, scale_vectors};
use crate::panel::Quantized;

/// A pair's codes, unpacked, and its scales.
#[derive(Default)]
pub(super) struct Unpacked {
    /// `[block][group][row][4]`
    codes: Vec<Codes>,
    /// As many vectors for each block as the type has scales.
    scales: Vec<[f32; ROWS]>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Codes([[u8; 64]; 8]);

thread_local! {
    static SCRATCH: RefCell<[Unpacked; 2]> = RefCell::default();
}

/// Runs `work` with this thread's room for two pairs.
pub(super) fn with_scratch(work: impl FnOnce(&mut [Unpacked; 2])) {
    SCRATCH.with_borrow_mut(work);
}

impl Unpacked {
    /// Unpacks all blocks: codes that multiply as they are (`SIGNED`), or as bytes without a sign
    /// ([`Pair::unsigned_codes`]). The pair that will be unpacked after the columns have passed comes `ahead` pairs later.
    ///
    /// # Safety
    /// As [`Pair::codes`], for all of `blocks`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn fill<T: Quantized, const SIGNED: bool>(&mut self, pair: &Pair, blocks: usize, ahead: usize) {
        self.codes.resize(blocks, Codes([[0; 64]; 8]));
        let vectors = const { scale_vectors(T::LAYOUT.scales) };
        self.scales.resize(blocks * vectors, [0.0; ROWS]);
        let scales = self.scales.chunks_exact_mut(vectors);
        for (b, (to, scales_to)) in self.codes.iter_mut().zip(scales).enumerate() {
            // To the second level: the first is full of columns until then.
            pair.prefetch::<_MM_HINT_T1>(b, ahead);
            // SAFETY: the caller's promise; each group has 64 bytes, each row of scales 16 floats.
            unsafe {
                let codes = if SIGNED { pair.codes::<T, true>(b) } else { pair.unsigned_codes::<T>(b) };
                for (to, codes) in to.0.iter_mut().zip(codes) {
                    _mm512_store_si512(to.as_mut_ptr().cast(), codes);
                }
                for (to, scale) in scales_to.iter_mut().zip(pair.scales::<T>(b)) {
                    _mm512_storeu_ps(to.as_mut_ptr(), scale);
                }
            }
        }
    }

    /// The groups of block `b`.
    #[inline]
    pub(super) fn codes(&self, b: usize) -> &[[u8; 64]; 8] {
        &self.codes[b].0
    }

    /// # Safety
    /// Needs AVX-512F; filled with a pair of the type `T`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn scales<T: Quantized>(&self, b: usize) -> Scales {
        let vectors = const { scale_vectors(T::LAYOUT.scales) };
        let scales = &self.scales[b * vectors..][..vectors];
        // One by one, and not in a loop over `scales`: then they stay in registers.
        let scale = |i: usize| match i < vectors {
            // SAFETY: there are so many, of 16 floats each.
            true => unsafe { _mm512_loadu_ps(scales.as_ptr().add(i).cast()) },
            false => _mm512_setzero_ps(),
        };
        [scale(0), scale(1), scale(2), scale(3)]
    }
}
