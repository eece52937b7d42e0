//! What the targets share: an allocator that counts, and the bound on what an input may make the engine take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what is held and the most that was.
struct Counting;

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

fn gave_back(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for; so below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        gave_back(layout.size());
        // SAFETY: see above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both may be held for a moment.
        took(new_size);
        gave_back(layout.size());
        // SAFETY: see above.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// How much memory may be held at once, beside what was held before.
#[derive(Clone, Copy)]
pub struct Bound {
    /// For each byte that was dealt with.
    pub per_byte: usize,
    /// Whatever the input.
    pub fixed: usize,
}

/// Runs a target, which says how many bytes it dealt with, and holds the memory that it took against the bound.
pub fn run(bound: Bound, input: &[u8], target: impl FnOnce(&[u8]) -> usize) {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let len = target(input).max(input.len());
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    let most = bound.per_byte * len + bound.fixed;
    assert!(taken <= most, "{taken} bytes were held for {len}: no more than {most} may be");
}
