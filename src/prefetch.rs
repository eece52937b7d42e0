//! Telling the processor what will be read soon.
//!
//! A line that is in no cache takes as long as hundreds of instructions. Who knows an address before he needs what lies
//! there has it fetched meanwhile.

#![allow(unsafe_code, reason = "the instruction takes an address")]

/// Whether [`fetch`] does anything. Where orders of steps are tried, a load for its sake would be one more.
pub(crate) const CAN_FETCH: bool = cfg!(all(target_arch = "x86_64", not(miri), not(all(test, any(loom, shuttle)))));

/// Has the processor fetch what lies there, without waiting for it.
pub(crate) fn fetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    if CAN_FETCH {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it reads nothing that the program can see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The same for so many lines of 64 bytes.
pub(crate) fn fetch_lines(from: *const u8, lines: usize) {
    (0..lines).for_each(|line| fetch(from.wrapping_add(64 * line)));
}
