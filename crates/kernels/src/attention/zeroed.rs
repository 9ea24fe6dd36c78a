//! Large memory that costs nothing until it is written.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use super::KvStoreError;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A number of which all bits zero is a value.
///
/// # Safety
/// Implementors are plain numbers: every pattern of bits is a value, and their size divides that of a cache line.
pub(crate) unsafe trait Number: Copy + Send + Sync {}
// SAFETY: a plain number of one byte.
unsafe impl Number for i8 {}
// SAFETY: a plain number of two bytes.
unsafe impl Number for u16 {}
// SAFETY: a plain number of four bytes.
unsafe impl Number for f32 {}

/// Zeroed memory straight from the system, so that pages that nobody touches are never backed. It begins at a cache
/// line.
pub(crate) struct Zeroed<T> {
    memory: NonNull<T>,
    /// Values before the first cache line.
    skip: usize,
    len: usize,
}

// SAFETY: it owns its memory like a `Vec<T>` does, and `T` is a plain number.
unsafe impl<T: Number> Send for Zeroed<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Number> Sync for Zeroed<T> {}

impl<T: Number> Zeroed<T> {
    /// Values of a cache line.
    const LINE: usize = LINE / size_of::<T>();

    pub(crate) fn new(len: usize) -> Result<Self, KvStoreError> {
        // An allocation of larger alignment would be zeroed by hand, and thus backed; so the line is looked for here.
        let layout = layout::<T>(len).filter(|_| len > 0).ok_or(KvStoreError::Shape)?;
        // SAFETY: the layout's size is above zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory.cast::<T>()).ok_or(KvStoreError::OutOfMemory { bytes: layout.size() })?;
        large_pages(memory.cast(), layout.size());
        let skip = memory.as_ptr().align_offset(LINE).min(Self::LINE);
        Ok(Self { memory, skip, len })
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `skip + len` values, initialized (zeroed), that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.skip), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and exclusive through `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(self.skip), self.len) }
    }

    /// Copies part `from` over part `to`, of `len` values each, counted in such parts.
    pub(crate) fn copy_part(&mut self, from: usize, to: usize, len: usize) {
        self.as_mut_slice().copy_within(from * len..(from + 1) * len, to * len);
    }
}

/// Memory of `len` values and the way to a cache line.
fn layout<T>(len: usize) -> Option<Layout> {
    Layout::array::<T>(len.checked_add(LINE / size_of::<T>())?).ok()
}

/// Asks the system for large pages: blocks lie at random places, and each small page costs a walk through the tables.
fn large_pages(start: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let skip = start.as_ptr().align_offset(PAGE);
        if let Some(len) = bytes.checked_sub(skip).filter(|len| *len >= PAGE) {
            // SAFETY: whole pages inside the allocation; the advice changes no content.
            // A system without large pages refuses, which is as good as not asking.
            unsafe { libc::madvise(start.as_ptr().add(skip).cast(), len / PAGE * PAGE, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

impl<T> Drop for Zeroed<T> {
    fn drop(&mut self) {
        if let Some(layout) = layout::<T>(self.len) {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.memory.as_ptr().cast(), layout) };
        }
    }
}
