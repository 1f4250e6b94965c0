//! Values that stay in memory.

use core::ptr;

/// An array that stays in stack memory.
///
/// The virtual machine has ten registers. Of more values than that LLVM makes spills, in an order of its own; a volatile
/// access keeps a value where it is and reads it only when it is needed. Nothing else is meant by it.
pub(super) struct Kept<T, const N: usize>(pub(super) [T; N]);

#[expect(unsafe_code, reason = "volatile access is what keeps a value in memory")]
#[expect(clippy::indexing_slicing, reason = "a constant at every use, which the compiler sees")]
impl<T: Copy, const N: usize> Kept<T, N> {
    /// The value numbered `at`.
    #[inline(always)]
    pub(super) fn get(&self, at: usize) -> T {
        // SAFETY: a place in an array behind a shared reference is initialised, aligned and valid for reads, and `T` is
        // `Copy`, so reading it does not move anything out.
        unsafe { ptr::read_volatile(&raw const self.0[at]) }
    }

    /// Replaces the value numbered `at`. (Only the hash does, where it is not the runtime's.)
    #[cfg(not(all(feature = "sha512-syscall", target_os = "solana")))]
    #[inline(always)]
    pub(super) fn set(&mut self, at: usize, value: T) {
        // SAFETY: a place in an array behind a unique reference is aligned and valid for writes, and `T` is `Copy`, so
        // nothing that is overwritten has to be dropped.
        unsafe { ptr::write_volatile(&raw mut self.0[at], value) }
    }
}
