//! How much a thread allocates while it does something: damage must not make anything allocate beyond reason.
//!
//! Only what the thread itself allocates counts, so a measured piece of work must use no other (stepped background).
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
// The fuzz targets have an allocator of their own, which counts.
#![cfg_attr(fuzzing, allow(dead_code, reason = "what only the allocator calls"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[cfg(not(fuzzing))]
#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; what another one frees stays in.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn allocated(bytes: usize) {
    // While a thread ends there is nothing to count in.
    let _ = LIVE.try_with(|live| {
        live.set(live.get().saturating_add_unsigned(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
    });
}

fn freed(bytes: usize) {
    let _ = LIVE.try_with(|live| live.set(live.get().saturating_sub_unsigned(bytes)));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but thread-local cells that
// need neither allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(layout.size());
        allocated(size);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What some work needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocated {
    /// The most bytes that were held at once, beyond what was held before.
    pub peak: usize,
    /// The largest piece.
    pub largest: usize,
}

/// Does `work`, and gives what this thread allocated for it.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let before = LIVE.get();
    PEAK.set(before);
    LARGEST.set(0);
    let done = work();
    let peak = usize::try_from(PEAK.get() - before).unwrap_or_default();
    (done, Allocated { peak, largest: LARGEST.get() })
}

#[test]
fn what_is_allocated_is_counted() {
    let ((), allocated) = measure(|| {
        let one = vec![1u8; 10_000];
        drop(std::hint::black_box(one));
        let two = vec![2u8; 4000];
        let three = vec![3u8; 5000];
        drop(std::hint::black_box((two, three)));
    });
    assert!(allocated.largest == 10_000 && (10_000..11_000).contains(&allocated.peak), "{allocated:?}");
}
