//! A concurrent skip list over an arena. Entries are inserted by any number of threads, without a lock; none is ever
//! removed or changed, and all go with the list. So a pointer to an entry stays good, a link that was read leads to an
//! entry for ever, and no address comes back (no ABA).
//!
//! ```text
//! level 2   head ───────────────────────────► e ─────────────────────► none
//! level 1   head ────────► b ───────────────► e ────────► g ─────────► none
//! level 0   head ──► a ──► b ──► c ──► d ───► e ──► f ──► g ──► h ───► none
//! ```
//!
//! - *Insert.* The entry is written in full, then linked by compare-and-swap from level 0 up, on each level behind the
//!   last entry that is before it. It is in the list once level 0 names it; levels above only make searches shorter.
//! - *Orders.* Links are swapped with release and loaded with acquire: who has followed a link sees all of the entry
//!   behind it, its own link on that level included, which was set before the swap. Who comes down a level within an
//!   entry finds the lower link set as well, for lower levels were linked first. What a search may begin at, a finger
//!   or a landmark, became one after it was linked on all its levels.
//! - *Visibility* (V1) is not decided here: a sequence is named to readers once its insert has returned.
//!
//! One of the two places of the engine with `unsafe` code. Miri runs its tests by both sets of rules for references,
//! loom and shuttle try orders of its steps.

#![allow(unsafe_code, reason = "entries lie in an arena and are reached by pointers")]

mod arena;
mod entry;
mod finger;
#[forbid(unsafe_code)]
mod landmarks;
#[cfg(all(test, loom))]
mod loom_tests;
#[forbid(unsafe_code)]
mod partial;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
#[cfg(test)]
mod tests;

use std::cmp::{
    self,
    Ordering::{Greater, Less},
};
use std::ptr::{self, NonNull, null_mut};
use std::sync::OnceLock;

use bytes::Bytes;

use super::order::Place;
use crate::Timestamp;
use crate::prefetch::{CAN_FETCH, fetch};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering, ProcessCount};
use crate::version::{Sequence, Stamp, ValueRef};
use arena::Arena;
pub(crate) use entry::LONGEST_INLINE;
use entry::{Draft, Goal, Header, Raw, Value};
use finger::FINGER;
use landmarks::Landmarks;
use partial::{Next, PartialKeys};

/// To the next entry on a level; null at its end.
type Link = AtomicPtr<Header>;

/// Each level has a quarter of the entries of the one below: enough for 16 million. loom tries all orders of all steps,
/// which more levels only multiply.
const MAX_HEIGHT: usize = if cfg!(all(test, loom)) { 2 } else { 12 };

/// One entry in 256 is so high, and sees whether there is anything to be learned. Tests have small lists.
const TALL: usize = if cfg!(test) { 3 } else { 5 };

/// What a list takes before it has landmarks: what is smaller is mostly near in memory, and they would be much of it.
const LARGE: usize = if cfg!(test) { 1 } else { 8 * Landmarks::BYTES };

/// See the module.
pub(super) struct SkipList {
    /// The first entry on each level.
    head: [Link; MAX_HEIGHT],
    arena: Arena,
    partial: OnceLock<PartialKeys>,
    landmarks: OnceLock<Landmarks>,
    /// What long values, which lie elsewhere, take.
    long_bytes: AtomicUsize,
    /// No other list of the process has, or had, the same.
    id: u64,
}

/// Where a search begins.
#[derive(Clone, Copy)]
struct Start {
    /// An entry before the goal that has the level; null: the head.
    from: Next,
    level: usize,
    /// What was seen to follow it there, and not to be before the goal; null if that was not looked at.
    after: Next,
}

impl Start {
    const HEAD: Self = Self { from: Next::NONE, level: MAX_HEIGHT - 1, after: Next::NONE };
}

/// An entry that is in a list.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    raw: Raw<'a>,
    list: &'a SkipList,
}

/// An entry that was looked at, to come back to ([`SkipList::at`]). It keeps nothing alive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    header: NonNull<Header>,
    list: u64,
}

// SAFETY: it does nothing but name an entry; to follow it takes the list, which any thread may read.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl SkipList {
    pub(super) fn new() -> Self {
        static LISTS: ProcessCount = ProcessCount::new(1);
        Self {
            head: std::array::from_fn(|_| Link::new(null_mut())),
            arena: Arena::new(),
            partial: OnceLock::new(),
            landmarks: OnceLock::new(),
            long_bytes: AtomicUsize::new(0),
            id: LISTS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Inserts a version; a `value` of `None` is a tombstone. `share` gives a value that is too long to be held here as
    /// something to share. Of two entries with all of key, timestamp and sequence equal both are kept, in either order.
    pub(super) fn insert(
        &self,
        key: &[u8],
        stamp: Stamp,
        value: Option<&[u8]>,
        expires_at: Option<Timestamp>,
        share: impl FnOnce(&[u8]) -> Bytes,
    ) {
        let value = value.map(|value| {
            if value.len() <= LONGEST_INLINE {
                return Value::Inline(value);
            }
            self.long_bytes.fetch_add(value.len(), Ordering::Relaxed);
            Value::Long(share(value))
        });
        let height = height_of(stamp.sequence);
        let goal = self.goal(Place::at(key, stamp.timestamp, stamp.sequence));
        let landmarks = self.landmarks_for(&goal).filter(|_| CAN_FETCH);
        if let Some(landmark) = landmarks.and_then(|landmarks| landmarks.near(goal.partial)) {
            // It comes while the entry is written.
            fetch(landmark.entry());
        }
        let header = Draft { key, stamp, value, expires_at }.write(&self.arena, height);
        // SAFETY: just written, in the arena of this list.
        let entry = unsafe { Raw::new(header) };
        let linked = Next::new(header.as_ptr(), goal.partial);
        if height >= TALL {
            self.learn();
        }
        FINGER.with(|finger| {
            self.approach(finger, &goal, height);
            for level in 0..height {
                // SAFETY: it has `height` levels.
                let link = unsafe { entry.link(level) };
                let mut before = finger.before(level);
                loop {
                    let after;
                    (before, after) = self.walk(before, level, |entry| self.compare(entry, &goal) == Less);
                    link.store(after.to_link(), Ordering::Relaxed);
                    // SAFETY: what `walk` gives on a level has it.
                    let behind = unsafe { self.link(before, level) };
                    if behind
                        .compare_exchange(after.to_link(), linked.to_link(), Ordering::Release, Ordering::Relaxed)
                        .is_ok()
                    {
                        break;
                    }
                }
                finger.set(level, linked);
            }
        });
        if let Some(landmarks) = self.landmarks_for(&goal) {
            landmarks.remember(linked, goal.partial);
        }
    }

    /// The first entry.
    pub(super) fn first(&self) -> Option<Entry<'_>> {
        // SAFETY: the head has all levels.
        self.entry(unsafe { self.following(Next::NONE, 0) })
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<Entry<'_>> {
        self.entry(self.descend(Start::HEAD, |_| true, |_, _| ()).0)
    }

    /// The first entry at or after a place.
    pub(super) fn first_from(&self, place: Place<'_>) -> Option<Entry<'_>> {
        self.around(place).1
    }

    /// The first entry after a place.
    pub(super) fn first_after(&self, place: Place<'_>) -> Option<Entry<'_>> {
        let goal = self.goal(place);
        self.entry(self.find(&goal, |entry| self.compare(entry, &goal) != Greater).1)
    }

    /// The last entry at or before a place.
    pub(super) fn last_until(&self, place: Place<'_>) -> Option<Entry<'_>> {
        let goal = self.goal(place);
        self.entry(self.find(&goal, |entry| self.compare(entry, &goal) != Greater).0)
    }

    /// The last entry before a place, and the first at or after it.
    pub(super) fn around(&self, place: Place<'_>) -> (Option<Entry<'_>>, Option<Entry<'_>>) {
        let goal = self.goal(place);
        let (before, after) = self.find(&goal, |entry| self.compare(entry, &goal) == Less);
        (self.entry(before), self.entry(after))
    }

    /// The entry that was kept, if it was kept of this list.
    pub(super) fn at(&self, kept: Kept) -> Option<Entry<'_>> {
        // SAFETY: it was kept from an entry of the list with this id, which is this one, for no other ever had it; and
        // the entries of this one live as long as it.
        (kept.list == self.id).then(|| Entry { raw: unsafe { Raw::new(kept.header) }, list: self })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// What the entries take.
    pub(super) fn bytes(&self) -> usize {
        let landmarks = self.landmarks.get().map_or(0, |_| Landmarks::BYTES);
        self.arena.bytes() + landmarks + self.long_bytes.load(Ordering::Relaxed)
    }

    fn goal<'a>(&self, place: Place<'a>) -> Goal<'a> {
        Goal::new(place, self.partial.get())
    }

    /// First what partial keys are to be, from the entries that there are; later, once the list is large, has it
    /// landmarks. If another thread was first, that is as good.
    fn learn(&self) {
        if self.partial.get().is_none() {
            if let (Some(first), Some(last)) = (self.first(), self.last())
                && let Some(partial) = PartialKeys::between(first.key(), last.key())
            {
                let _ = self.partial.set(partial);
            }
        } else if self.landmarks.get().is_none() && self.arena.bytes() >= LARGE {
            let _ = self.landmarks.set(Landmarks::new());
        }
    }

    fn landmarks_for(&self, goal: &Goal<'_>) -> Option<&Landmarks> {
        self.landmarks.get().filter(|_| goal.partial != 0)
    }

    /// Where to begin a search for a goal that is to pass so many levels at least.
    fn start(&self, goal: &Goal<'_>, is_before: impl Fn(Next) -> bool, levels: usize) -> Start {
        let landmark = self.landmarks_for(goal).and_then(|landmarks| landmarks.before(goal.partial, &is_before));
        let start = landmark.and_then(|landmark| self.climb(landmark, is_before));
        start.filter(|start| start.level + 1 >= levels).unwrap_or(Start::HEAD)
    }

    /// From an entry before a goal, up and along, until what follows is not.
    fn climb(&self, landmark: Next, is_before: impl Fn(Next) -> bool) -> Option<Start> {
        let mut from = landmark;
        loop {
            let level = self.raw(from)?.height() - 1;
            // SAFETY: it has `height` levels.
            let after = unsafe { self.following(from, level) };
            if after.is_none() || !is_before(after) {
                return Some(Start { from, level, after });
            }
            from = after;
        }
    }

    /// How an entry that a link leads to lies to a goal.
    #[inline]
    fn compare(&self, next: Next, goal: &Goal<'_>) -> cmp::Ordering {
        let by_link = next.compare(goal.partial);
        by_link.unwrap_or_else(|| self.raw(next).map_or(Less, |entry| entry.compare(goal)))
    }

    /// On the lowest level: the last entry of those at the front that are `before`, and the first that is not; null
    /// where there is none. The goal says where about that is.
    fn find(&self, goal: &Goal<'_>, is_before: impl Fn(Next) -> bool) -> (Next, Next) {
        self.descend(self.start(goal, &is_before, 1), is_before, |_, _| ())
    }

    /// The same, from a start down. Shows the last entry before on each level.
    fn descend(&self, start: Start, is_before: impl Fn(Next) -> bool, show: impl Fn(usize, Next)) -> (Next, Next) {
        let Start { mut from, level: top, mut after } = start;
        for level in (0..=top).rev() {
            let seen = after;
            // The entry that ended the level above often ends this one.
            (from, after) = self.walk(from, level, |entry| entry != seen && is_before(entry));
            show(level, from);
        }
        (from, after)
    }

    /// Along one level, from an entry that has it (null: from the front) to the last one that is before, and what
    /// follows it; null at the end.
    fn walk(&self, mut from: Next, level: usize, is_before: impl Fn(Next) -> bool) -> (Next, Next) {
        loop {
            // SAFETY: the first has the level, by the caller's word; those that follow were reached on it.
            let next = unsafe { self.following(from, level) };
            self.prefetch_below(from, level);
            if next.is_none() || !is_before(next) {
                return (from, next);
            }
            from = next;
        }
    }

    /// Has what an insert of a key looks at first fetched, so that it need not wait for it.
    pub(super) fn prefetch(&self, key: &[u8]) {
        if let (Some(partial), Some(landmarks)) = (self.partial.get(), self.landmarks.get()) {
            landmarks.prefetch(partial.of(key));
        }
    }

    /// While what follows on a level is fetched to be compared, fetches what follows on the level below: half of the time
    /// it comes next. Seen to make reads of a large list a tenth faster, before links had partial keys.
    fn prefetch_below(&self, from: Next, level: usize) {
        if let Some(below) = level.checked_sub(1).filter(|_| CAN_FETCH) {
            // SAFETY: what has a level has those below.
            fetch(Next::of_link(unsafe { self.link(from, below) }.load(Ordering::Relaxed)).entry());
        }
    }

    /// What follows an entry on a level; null at its end.
    ///
    /// # Safety
    /// As of [`link`](Self::link).
    unsafe fn following(&self, entry: Next, level: usize) -> Next {
        // SAFETY: by the caller's word.
        Next::of_link(unsafe { self.link(entry, level) }.load(Ordering::Acquire))
    }

    /// # Safety
    /// `entry` is null, for the head, or an entry of this list that has the level.
    unsafe fn link(&self, entry: Next, level: usize) -> &Link {
        match self.raw(entry) {
            // SAFETY: by the caller's word.
            Some(entry) => unsafe { entry.link(level) },
            // SAFETY: the head has MAX_HEIGHT levels, and nothing has more.
            None => unsafe { self.head.get_unchecked(level) },
        }
    }

    /// What a pointer that is kept in this list's links, or that its inserts have kept, leads to.
    fn raw(&self, entry: Next) -> Option<Raw<'_>> {
        // SAFETY: such a pointer is null or an entry of this list's arena; it was loaded with acquire from where it was
        // put with release after the entry was written, or is of this thread.
        NonNull::new(entry.entry()).map(|entry| unsafe { Raw::new(entry) })
    }

    fn entry(&self, entry: Next) -> Option<Entry<'_>> {
        self.raw(entry).map(|raw| Entry { raw, list: self })
    }
}

impl Drop for SkipList {
    fn drop(&mut self) {
        if self.long_bytes.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut next = self.first();
        while let Some(entry) = next {
            next = entry.next();
            if let Some(long) = entry.raw.long() {
                // SAFETY: every entry is on the lowest level once, and nobody reads it any more.
                unsafe { ptr::drop_in_place(long.as_ptr()) };
            }
        }
    }
}

impl<'a> Entry<'a> {
    pub(super) fn key(self) -> &'a [u8] {
        self.raw.key()
    }

    pub(super) fn timestamp(self) -> Timestamp {
        self.raw.timestamp()
    }

    pub(super) fn sequence(self) -> Sequence {
        self.raw.sequence()
    }

    pub(super) fn stamp(self) -> Stamp {
        self.raw.stamp()
    }

    /// `None`: a tombstone.
    pub(super) fn value(self) -> Option<ValueRef<'a>> {
        self.raw.value()
    }

    pub(super) fn expires_at(self) -> Option<Timestamp> {
        self.raw.expires_at()
    }

    pub(super) fn next(self) -> Option<Self> {
        // SAFETY: every entry has the lowest level.
        let next = unsafe { self.raw.link(0) }.load(Ordering::Acquire);
        self.list.entry(Next::of_link(next))
    }

    pub(super) fn keep(self) -> Kept {
        Kept { header: self.raw.header(), list: self.list.id }
    }
}

/// On how many levels an entry is linked: one, and each one more with a chance of a quarter. The sequence decides, well
/// mixed: that is as good as chance, shares nothing between threads, and where a life is repeated its lists are too.
fn height_of(sequence: Sequence) -> usize {
    // The finalizer of SplitMix64.
    let mixed = (sequence ^ sequence >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut bits = mixed ^ mixed >> 31;
    let mut height = 1;
    while height < MAX_HEIGHT && bits & 3 == 0 {
        height += 1;
        bits >>= 2;
    }
    height
}
