//! Memory for weights: large pieces, in huge pages where the system has them.
//!
//! A step reads every weight once, in long runs; with pages of 4 KiB it waits for page tables and the processor's own
//! prefetching ends at each page. Matrices are smaller than a huge page, so they share pieces.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A huge page of x86-64, and of most ARM systems.
const HUGE_PAGE: usize = 2 << 20;
/// Least size of a piece.
const PIECE_BYTES_MIN: usize = 16 << 20;
/// Largest size of a piece, unless more is asked for at once.
const PIECE_BYTES_MAX: usize = 1 << 30;
/// Every part begins at a cache line.
const LINE: usize = 64;

/// Gives parts of memory to matrices. What it gave stays as long as its matrix.
pub struct WeightMemory {
    piece_bytes: usize,
    piece: Option<Arc<Piece>>,
    used: usize,
}

impl WeightMemory {
    /// No memory yet. `expected` is about how many bytes will be taken in all: each piece leaves a rest of a huge page or a
    /// matrix unused, so few pieces waste little.
    #[must_use]
    pub fn new(expected: usize) -> Self {
        Self { piece_bytes: expected.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX), piece: None, used: 0 }
    }

    /// A part of `len` zeros; `None`: the system has not so much.
    pub(crate) fn take(&mut self, len: usize) -> Option<Part> {
        let piece = match self.piece.take().filter(|piece| piece.len - self.used >= len) {
            Some(piece) => piece,
            None => {
                self.used = 0;
                Arc::new(Piece::new(len.max(self.piece_bytes))?)
            }
        };
        // SAFETY: `len` bytes are left behind `used`, and no other part has them.
        let start = unsafe { piece.start.add(self.used) };
        self.used = (self.used + len).next_multiple_of(LINE).min(piece.len);
        self.piece = Some(Arc::clone(&piece));
        Some(Part { start, len, _piece: piece })
    }
}

/// What the system gave at once: zeros, which become pages when somebody writes to them.
struct Piece {
    given: NonNull<u8>,
    layout: Layout,
    /// The first huge page in it, and the bytes from there on.
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory, which only parts read and write, each its own bytes.
unsafe impl Send for Piece {}
// SAFETY: as above.
unsafe impl Sync for Piece {}

impl Piece {
    fn new(bytes: usize) -> Option<Self> {
        let len = bytes.checked_next_multiple_of(HUGE_PAGE)?;
        // An allocator that is asked for a large alignment writes the zeros itself, so it is asked for room to align.
        let layout = Layout::from_size_align(len.checked_add(HUGE_PAGE)?, 1).ok()?;
        // SAFETY: the size is not 0.
        let given = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let to_page = given.addr().get().next_multiple_of(HUGE_PAGE) - given.addr().get();
        // SAFETY: less than a huge page further, so `len` bytes follow.
        let start = unsafe { given.add(to_page) };
        ask_for_huge_pages(start, len);
        Some(Self { given, layout, start, len })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no part is left.
        unsafe { dealloc(self.given.as_ptr(), self.layout) };
    }
}

/// Only a hint: where the system has none, nothing changes.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(start: NonNull<u8>, size: usize) {
    // SAFETY: whole pages of our own memory; the advice changes nothing but their size.
    unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: NonNull<u8>, _: usize) {}

/// Bytes of a piece that belong to one owner.
pub(crate) struct Part {
    start: NonNull<u8>,
    len: usize,
    _piece: Arc<Piece>,
}

// SAFETY: its bytes are its own, like those of a `Box<[u8]>`.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` on were made zeros, are this part's alone and live as long as the piece.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the borrow of the part is the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zeros_of_their_own_and_outlive_the_memory() {
        let mut memory = WeightMemory::new(0);
        let sizes = [1, 100, LINE, PIECE_BYTES_MIN - 100, 5, PIECE_BYTES_MIN + 1, 3 * PIECE_BYTES_MIN, 7];
        let mut parts: Vec<Part> = sizes.iter().map(|&len| memory.take(len).unwrap()).collect();
        drop(memory);
        for (n, part) in (1_u8..).zip(&mut parts) {
            assert!(part.iter().all(|&byte| byte == 0) && part.as_ptr().addr().is_multiple_of(LINE));
            part.fill(n);
        }
        for ((n, part), len) in (1_u8..).zip(&parts).zip(sizes) {
            assert!(part.len() == len && part.iter().all(|&byte| byte == n));
        }
        let last = parts.pop().unwrap();
        drop(parts);
        assert_eq!(*last, [8; 7]);
        assert!(WeightMemory::new(0).take(usize::MAX).is_none());
        assert!(WeightMemory::new(0).take(1 << 60).is_none());
    }

    /// A rest too small for the next part would be left at the end of each piece.
    #[test]
    fn what_was_expected_stands_in_one_piece() {
        let len = PIECE_BYTES_MIN - 3 * LINE;
        let starts = |expected| {
            let mut memory = WeightMemory::new(expected);
            let parts: Vec<Part> = (0..3).map(|_| memory.take(len).unwrap()).collect();
            parts.iter().map(|part| part.as_ptr().addr()).collect::<Vec<_>>()
        };
        assert!(starts(3 * len).windows(2).all(|pair| pair[1] == pair[0] + len));
        assert!(!starts(0).windows(2).all(|pair| pair[1] == pair[0] + len), "pieces of the least size hold one each");
    }
}
