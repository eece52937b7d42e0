//! Where blocks are held in memory: each in the slot of the entry that names it.
//!
//! The obvious way is a map from (file, offset) to block, and it is what most engines have. But whoever wants a block
//! has just found the entry that names it, in a block that is in memory itself; a map makes him forget that, hash the
//! place, and find it again, through three or four lines that are in no processor's cache, and under a lock. Here the
//! entry has a slot, and the block is in it or not: one load. (Pointer swizzling as in LeanStore, Leis et al., ICDE
//! 2018; the slots belong to blocks of the index, so the whole is a tree that begins at a table's top index.)
//!
//! A slot owns its block. The [`BlockCache`] only knows of it, and empties the slot to evict it; who reads the block at
//! that moment keeps it until he is done. With a table's index go its slots, and so all that was held of the file.

use std::ops::{Deref, Range};
use std::ptr;
use std::sync::Weak;

use super::cache::{BlockCache, Evict, Usage};
use crate::prefetch::{CAN_FETCH, fetch_lines};
use crate::sync::{Arc, ArcSwapOption, AtomicBool, AtomicUsize, Ordering};

/// The slots of the blocks that one block names, in order; shared.
pub(super) struct Slots<T>(Arc<[Slot<T>]>);

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Slot<T> {
    block: ArcSwapOption<Cached<T>>,
    /// The address of what is read first of the block, which lies elsewhere than what the slot points to: both are
    /// fetched at once. 0 without a block. Only to be fetched: the block may have gone, or be another one.
    front: AtomicUsize,
}

/// What a slot can hold.
pub(super) trait Held: Send + Sync + 'static {
    /// So many lines of the front are fetched at once with the block.
    const FRONT_LINES: usize;

    /// What is read first of it; where it lies in an `Arc` of its own, what counts its holders is fetched too.
    fn front(&self) -> &[u8];
}

/// The counts of who shares a block's bytes lie so far in front of them.
const COUNTS: usize = 2 * size_of::<usize>();
const LINE_BYTES: usize = 64;
/// More lines of slots than these are not fetched at once.
const FEW_LINES: usize = 8;
/// So many lines are fetched of what lies at an offset.
const LINES_AT: usize = 2;

impl<T: Held> Slots<T> {
    pub(super) fn new(len: usize) -> Self {
        Self((0..len).map(|_| Slot { block: ArcSwapOption::empty(), front: AtomicUsize::new(0) }).collect())
    }

    /// How much memory so many take.
    pub(super) fn memory(len: usize) -> usize {
        len * size_of::<Slot<T>>() + 2 * size_of::<usize>()
    }

    /// Runs `read` on the block that is held there, if one is; whether that counts as a read, for the cache, the caller
    /// says. No counter is touched that other readers touch.
    pub(super) fn with<R>(&self, at: usize, counts: bool, read: impl FnOnce(&Arc<Cached<T>>) -> R) -> Option<R> {
        let slot = self.0.get(at)?;
        slot.fetch(0, T::FRONT_LINES);
        let held = slot.block.load();
        let block = held.as_ref()?;
        fetch_block(block);
        if counts {
            block.touch();
        }
        Some(read(block))
    }

    /// Whether a block is held there, as far as can be told without looking at it.
    pub(super) fn seems_held(&self, at: usize) -> bool {
        self.0.get(at).is_some_and(|slot| slot.front.load(Ordering::Relaxed) != 0)
    }

    /// Has the processor fetch what lies at an offset in the front of a block that is held there.
    pub(super) fn fetch_at(&self, at: usize, offset: usize) {
        if let Some(slot) = self.0.get(at) {
            slot.fetch(COUNTS + offset, LINES_AT);
        }
    }

    /// Has the processor fetch these slots themselves, if they are few.
    pub(super) fn fetch_slots(&self, slots: Range<usize>) {
        if let (Some(first), Some(last)) = (self.0.get(slots.start), slots.end.checked_sub(1)) {
            let lines = (last.saturating_sub(slots.start) * size_of::<Slot<T>>()) / LINE_BYTES + 1;
            if lines <= FEW_LINES {
                fetch_lines(ptr::from_ref(first).cast(), lines);
            }
        }
    }

    /// Has the processor fetch what it needs first of a block that is held there.
    pub(super) fn fetch(&self, at: usize) {
        if CAN_FETCH {
            self.with(at, false, |_| ());
        }
    }
}

impl<T> Slot<T> {
    /// Has lines of the front fetched, from so many bytes behind its beginning on.
    fn fetch(&self, behind: usize, lines: usize) {
        if CAN_FETCH {
            let front = self.front.load(Ordering::Relaxed);
            if front != 0 {
                fetch_lines(ptr::without_provenance::<u8>(front).wrapping_add(behind), lines);
            }
        }
    }
}

fn fetch_block<T>(block: &Arc<Cached<T>>) {
    let block: *const Cached<T> = &raw const **block;
    fetch_lines(block.cast(), size_of::<Cached<T>>().div_ceil(64));
}

impl<T: Held> Slots<T> {
    /// Holds a block, which keeps `bytes` of memory, while the cache has room for it. `place` is any number that is the
    /// same for the same block.
    pub(super) fn hold(&self, at: usize, value: T, bytes: usize, cache: &BlockCache, place: u64) -> Arc<Cached<T>> {
        let Some(slot) = self.0.get(at) else { return Cached::alone(value) };
        let Some(usage) = cache.usage(place, bytes) else { return Cached::alone(value) };
        let home = Some((Arc::downgrade(&self.0), at));
        let block = Arc::new(Cached { value, visited: AtomicBool::new(false), home, usage: Some(usage) });
        slot.front.store(block.front().as_ptr().addr().saturating_sub(COUNTS), Ordering::Relaxed);
        slot.block.store(Some(block.clone()));
        let known: Weak<Cached<T>> = Arc::downgrade(&block);
        cache.admit(place, known);
        block
    }
}

/// A block in memory; held in a slot, or by who reads it alone.
pub(crate) struct Cached<T> {
    value: T,
    /// Since the cache looked last.
    visited: AtomicBool,
    /// Its slot.
    home: Option<(Weak<[Slot<T>]>, usize)>,
    /// What it counts for in the cache.
    usage: Option<Usage>,
}

impl<T> Cached<T> {
    /// A block that no slot holds.
    pub(crate) fn alone(value: T) -> Arc<Self> {
        Arc::new(Self { value, visited: AtomicBool::new(false), home: None, usage: None })
    }

    /// Every reader writes this only once after the cache has looked.
    fn touch(&self) {
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }
}

impl<T> Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Send + Sync> Evict for Cached<T> {
    fn take_visited(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }

    fn evict(&self) {
        if let Some((slots, at)) = &self.home
            && let Some(slots) = slots.upgrade()
            && let Some(slot) = slots.get(*at)
        {
            // Not another one that was put there since.
            slot.block.compare_and_swap(ptr::from_ref(self), None);
            slot.front.store(0, Ordering::Relaxed);
        }
        if let Some(usage) = &self.usage {
            usage.end();
        }
    }
}
