//! Memory that is handed out piece by piece and given back as a whole.
//!
//! ```text
//! newest ──► chunk: header │ piece │ piece │ free        before ──► chunk: header │ piece │ …        before ──► …
//! ```
//!
//! A piece is taken by adding its size to the count of the newest chunk; whoever goes beyond its end puts a new chunk
//! in its place, and who comes second with that frees his own and takes from the other's. A piece never moves, and what
//! one thread has got no other gets. The first chunk comes with the first piece, and chunks double: an empty arena takes
//! nothing, a small one little.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::process::abort;
use std::ptr::{NonNull, null_mut};

use super::partial::END_OF_ADDRESSES;
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};

/// All pieces begin at a multiple of it.
pub(super) const ALIGN: usize = 8;
const FIRST_CHUNK: usize = 1 << 10;
const LARGEST_CHUNK: usize = 1 << 20;

/// See the module.
pub(super) struct Arena {
    newest: AtomicPtr<Chunk>,
}

/// What stands at the front of a chunk. All but `used` is written before the chunk can be seen, and never again.
struct Chunk {
    before: *mut Chunk,
    /// What the chunks before can hold together.
    bytes_before: usize,
    /// How many bytes lie behind the header.
    capacity: usize,
    /// How many of them were asked for; more than there are once a piece did not fit.
    used: AtomicUsize,
}

const HEADER: usize = size_of::<Chunk>();
const _: () = assert!(align_of::<Chunk>() <= ALIGN && HEADER.is_multiple_of(ALIGN));

// SAFETY: what is behind the pointer is reached through it by any thread: the header is written before it is published
// with release and read after an acquire, and its count is an atomic. Pieces are the affair of who got them.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    pub(super) fn new() -> Self {
        Self { newest: AtomicPtr::new(null_mut()) }
    }

    /// So many bytes, aligned to [`ALIGN`], uninitialised, of which no other call gives any. They may be written and
    /// read as long as the arena lives.
    pub(super) fn allocate(&self, bytes: usize) -> NonNull<u8> {
        let bytes = bytes.next_multiple_of(ALIGN);
        loop {
            let newest = self.newest.load(Ordering::Acquire);
            // SAFETY: what `newest` holds is null or a chunk, whose header was written before it was put there; chunks
            // are freed with the arena only.
            if let Some(chunk) = unsafe { newest.as_ref() } {
                let at = chunk.used.fetch_add(bytes, Ordering::Relaxed);
                if at.checked_add(bytes).is_some_and(|end| end <= chunk.capacity) {
                    // SAFETY: `at` is within the chunk.
                    return unsafe { piece(newest, at) };
                }
            }
            if let Some(piece) = self.grow(newest, bytes) {
                return piece;
            }
        }
    }

    /// Puts a new chunk in the place of `newest` and takes its first piece, unless another thread was first.
    fn grow(&self, newest: *mut Chunk, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: as in `allocate`.
        let (bytes_before, size) = match unsafe { newest.as_ref() } {
            None => (0, FIRST_CHUNK),
            Some(full) => (full.bytes_before + full.capacity, (full.capacity + HEADER) * 2),
        };
        let capacity = (size.min(LARGEST_CHUNK) - HEADER).max(bytes);
        let layout = layout(capacity);
        // SAFETY: the layout is not of size zero, for it has room for the header.
        let chunk = unsafe { alloc(layout) }.cast::<Chunk>();
        if chunk.is_null() {
            handle_alloc_error(layout);
        }
        assert!(chunk.addr().saturating_add(layout.size()) <= END_OF_ADDRESSES, "memory where there is none");
        // SAFETY: there is room for the header, and ALIGN is enough for it.
        unsafe { chunk.write(Chunk { before: newest, bytes_before, capacity, used: AtomicUsize::new(bytes) }) };
        // Not ABA: `newest` is not freed while the arena lives, so its address is not used again.
        if self.newest.compare_exchange(newest, chunk, Ordering::Release, Ordering::Relaxed).is_ok() {
            // SAFETY: a chunk has room for the piece that it was made for.
            Some(unsafe { piece(chunk, 0) })
        } else {
            // SAFETY: it was allocated above with this layout, and nobody else has seen it.
            unsafe { dealloc(chunk.cast(), layout) };
            None
        }
    }

    /// How many bytes were taken, what was left over at the ends of full chunks included.
    pub(super) fn bytes(&self) -> usize {
        // SAFETY: as in `allocate`.
        match unsafe { self.newest.load(Ordering::Acquire).as_ref() } {
            None => 0,
            Some(chunk) => chunk.bytes_before + chunk.used.load(Ordering::Relaxed).min(chunk.capacity),
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut next = self.newest.load(Ordering::Acquire);
        // SAFETY: as in `allocate`; `&mut self` says that nobody else is here, and each chunk is in the list once.
        while let Some(chunk) = unsafe { next.as_ref() } {
            let (before, layout) = (chunk.before, layout(chunk.capacity));
            // SAFETY: it was allocated with this layout in `grow`.
            unsafe { dealloc(next.cast(), layout) };
            next = before;
        }
    }
}

fn layout(capacity: usize) -> Layout {
    // Nothing that is asked for comes near to what cannot be addressed.
    Layout::from_size_align(HEADER.saturating_add(capacity), ALIGN).unwrap_or_else(|_| abort())
}

/// # Safety
/// `chunk` is a chunk, and `at` at most its capacity.
unsafe fn piece(chunk: *mut Chunk, at: usize) -> NonNull<u8> {
    // SAFETY: that is within the allocation, of which `chunk` may reach all, for it comes from `alloc` by way of atomics.
    unsafe { NonNull::new_unchecked(chunk.cast::<u8>().add(HEADER + at)) }
}
