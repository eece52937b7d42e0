//! The newest versions, in memory: a concurrent skip list of points and a small map of range tombstones.
//!
//! Entries are sorted by (key ascending, timestamp descending, sequence descending), so the version of a key at a time
//! is one search away, whatever lies above it (T1). Nothing is ever removed: a memtable grows until it is sealed, is
//! flushed, and goes as a whole. Any number of threads insert and read at once, without locks but for range tombstones.
//!
//! A reader names the last sequence that is visible to it and never sees an entry above (V1). All entries at or below
//! that sequence must be in before it is named; what such a reader sees then never changes.

#[forbid(unsafe_code)]
mod cursor;
#[forbid(unsafe_code)]
mod order;
#[forbid(unsafe_code)]
mod ranges;
mod skiplist;
#[cfg(test)]
mod tests;

pub(crate) use cursor::MemtableCursor;

use bytes::Bytes;

use crate::Timestamp;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::version::{RangeTombstone, RangeTombstones, Sequence, Stamp, StoredVersion, ValueRef};
use order::Place;
use ranges::Ranges;
pub(crate) use skiplist::LONGEST_INLINE;
use skiplist::{Entry, SkipList};

/// Versions in memory.
pub(crate) struct Memtable {
    points: SkipList,
    ranges: Ranges,
    totals: Totals,
}

/// What inserts touch; on cache lines of its own, away from what every read touches.
#[repr(align(128))]
struct Totals {
    /// Of range tombstones.
    range_bytes: AtomicUsize,
    min_timestamp: AtomicU64,
    max_timestamp: AtomicU64,
    late: AtomicBool,
}

impl Memtable {
    pub(crate) fn new() -> Self {
        Self {
            points: SkipList::new(),
            ranges: Ranges::default(),
            totals: Totals {
                range_bytes: AtomicUsize::new(0),
                min_timestamp: AtomicU64::new(Timestamp::MAX),
                max_timestamp: AtomicU64::new(0),
                late: AtomicBool::new(false),
            },
        }
    }

    /// Adds a version of `key`; a `value` of `None` is a tombstone. Key and value are copied, without an allocation of
    /// their own; a value of more than 1 KiB is shared, as `share` makes it something to share.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        stamp: Stamp,
        value: Option<&[u8]>,
        expires_at: Option<Timestamp>,
        share: impl FnOnce(&[u8]) -> Bytes,
    ) {
        self.count(stamp);
        self.points.insert(key, stamp, value, expires_at, share);
    }

    /// Has what an insert of `key` looks at first fetched from memory; worth it some 50 ns before.
    pub(crate) fn prefetch(&self, key: &[u8]) {
        self.points.prefetch(key);
    }

    /// Adds a range tombstone.
    pub(crate) fn insert_range(&self, tombstone: RangeTombstone) {
        let bytes = self.ranges.insert(&tombstone);
        if bytes > 0 {
            self.totals.range_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.count(tombstone.stamp);
        }
    }

    /// The newest visible version of `key` at or below `timestamp`. Range tombstones are not looked at.
    pub(crate) fn get(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<StoredVersion> {
        self.newest(key, timestamp, visible).map(to_version)
    }

    /// The timestamp of the newest visible version of `key`. Range tombstones are not looked at.
    pub(crate) fn newest_timestamp(&self, key: &[u8], visible: Sequence) -> Option<Timestamp> {
        self.newest(key, Timestamp::MAX, visible).map(|entry| entry.timestamp())
    }

    #[inline]
    fn newest(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<Entry<'_>> {
        let mut entry = self.points.first_from(Place::newest_at(key, timestamp))?;
        while entry.key() == key {
            if entry.sequence() <= visible {
                return Some(entry);
            }
            entry = entry.next()?;
        }
        None
    }

    /// The newest visible range tombstone over `key` at or below `timestamp`.
    pub(crate) fn covering(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<Stamp> {
        self.ranges.covering(key, timestamp, visible)
    }

    /// A key from `start` up to, and without, `end` that a visible range tombstone above `timestamp` covers, and that one's
    /// timestamp.
    pub(crate) fn range_tombstone_within(
        &self,
        (start, end): (&[u8], Option<&[u8]>),
        timestamp: Timestamp,
        visible: Sequence,
    ) -> Option<(Box<[u8]>, Timestamp)> {
        self.ranges.within((start, end), timestamp, visible)
    }

    /// All visible range tombstones; of equal timestamps the later only.
    pub(crate) fn range_tombstones(&self, visible: Sequence) -> RangeTombstones {
        self.ranges.seen(visible)
    }

    /// A cursor over what is visible.
    pub(crate) fn cursor(self: &Arc<Self>, visible: Sequence) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self), visible)
    }

    /// Whether there is a version of `key` at or below `at_or_below`, visible or not (R3).
    pub(crate) fn may_hold(&self, key: &[u8], at_or_below: Timestamp) -> bool {
        self.points.first_from(Place::newest_at(key, at_or_below)).is_some_and(|entry| entry.key() == key)
    }

    /// Whether there is a version of any key from `start` up to, and without, `end`, visible or not (R3).
    pub(crate) fn any_key_in(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let first = self.points.first_from(Place::before(start));
        first.is_some_and(|entry| end.is_none_or(|end| entry.key() < end))
    }

    /// How much memory its versions take: of points what the arena gave them, which is all there is to a point, and long
    /// values; of those in shared batches as if each had its part alone. Up to a chunk of the arena, 1 MiB at most, lies
    /// ready beside it.
    pub(crate) fn bytes(&self) -> usize {
        self.points.bytes() + self.totals.range_bytes.load(Ordering::Relaxed)
    }

    /// How many versions it holds, range tombstones aside.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        std::iter::successors(self.points.first(), |entry| entry.next()).count()
    }

    /// Whether it holds nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }

    /// The least timestamp of points and range tombstones (T2); the greatest there is if it holds none.
    pub(crate) fn min_timestamp(&self) -> Timestamp {
        self.totals.min_timestamp.load(Ordering::Relaxed)
    }

    /// The greatest timestamp of points and range tombstones (T2); 0 if it holds none.
    pub(crate) fn max_timestamp(&self) -> Timestamp {
        self.totals.max_timestamp.load(Ordering::Relaxed)
    }

    /// Whether any of its stamps is late (T2).
    pub(crate) fn late(&self) -> bool {
        self.totals.late.load(Ordering::Relaxed)
    }

    /// Part of the insert, so done before its sequence is named visible: no reader meets a timestamp out of bounds.
    fn count(&self, stamp: Stamp) {
        let totals = &self.totals;
        // Writing only what changes keeps the line shared among threads that insert.
        if stamp.timestamp < totals.min_timestamp.load(Ordering::Relaxed) {
            totals.min_timestamp.fetch_min(stamp.timestamp, Ordering::Relaxed);
        }
        if stamp.timestamp > totals.max_timestamp.load(Ordering::Relaxed) {
            totals.max_timestamp.fetch_max(stamp.timestamp, Ordering::Relaxed);
        }
        if stamp.late && !totals.late.load(Ordering::Relaxed) {
            totals.late.store(true, Ordering::Relaxed);
        }
    }
}

fn to_version(entry: Entry<'_>) -> StoredVersion {
    let value = entry.value().map(ValueRef::to_slice);
    StoredVersion { stamp: entry.stamp(), value, expires_at: entry.expires_at() }
}
