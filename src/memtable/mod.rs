//! The newest versions, in memory: a concurrent skip list of points and a small map of range tombstones.
//!
//! Entries are sorted by (key ascending, timestamp descending, sequence descending), so the version of a key at a time
//! is one search away, whatever lies above it (T1). Nothing is ever removed: a memtable grows until it is sealed, is
//! flushed, and goes as a whole. Any number of threads insert and read at once, without locks but for range tombstones.
//!
//! A reader names the last sequence that is visible to it and never sees an entry above (V1). All entries at or below
//! that sequence must be in before it is named; what such a reader sees then never changes.

mod cursor;
mod order;
mod ranges;
#[cfg(test)]
mod tests;

pub(crate) use cursor::MemtableCursor;

use std::ops::Bound;

use bytes::Bytes;
use crossbeam_epoch::{self as epoch, Guard};
use crossbeam_skiplist::SkipList;

use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::version::{RangeTombstone, RangeTombstones, Sequence, Stamp, StoredVersion};
use crate::{Slice, Timestamp};
use order::{EntryKey, Place, Placed};
use ranges::Ranges;

/// Versions in memory.
pub(crate) struct Memtable {
    points: SkipList<EntryKey, Entry>,
    ranges: Ranges,
    totals: Totals,
}

/// What an entry holds beside what it is sorted by.
#[derive(Debug)]
struct Entry {
    late: bool,
    /// `None`: a tombstone.
    value: Option<Bytes>,
    expires_at: Option<Timestamp>,
}

type EntryRef<'a, 'g> = crossbeam_skiplist::base::Entry<'a, 'g, EntryKey, Entry>;

/// What every insert touches; on cache lines of its own, away from what every read touches.
#[repr(align(128))]
struct Totals {
    bytes: AtomicUsize,
    min_timestamp: AtomicU64,
    max_timestamp: AtomicU64,
    late: AtomicBool,
}

/// What an entry takes beside the bytes of its key and value: its node with a tower of 1 1/3 links on average, and what
/// the allocator rounds up.
const ENTRY_BYTES: usize = size_of::<EntryKey>() + size_of::<Entry>() + 32;

impl Memtable {
    pub(crate) fn new() -> Self {
        Self {
            points: SkipList::new(epoch::default_collector().clone()),
            ranges: Ranges::default(),
            totals: Totals {
                bytes: AtomicUsize::new(0),
                min_timestamp: AtomicU64::new(Timestamp::MAX),
                max_timestamp: AtomicU64::new(0),
                late: AtomicBool::new(false),
            },
        }
    }

    /// Adds a version of `key`; a `value` of `None` is a tombstone. `key` and `value` are shared, not copied.
    pub(crate) fn insert(&self, key: Bytes, stamp: Stamp, value: Option<Bytes>, expires_at: Option<Timestamp>) {
        self.count(stamp, ENTRY_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len));
        let place = EntryKey { key: Slice::sharing(&key), timestamp: stamp.timestamp, sequence: stamp.sequence };
        let guard = epoch::pin();
        self.points.insert(place, Entry { late: stamp.late, value, expires_at }, &guard).release(&guard);
    }

    /// Adds a range tombstone.
    pub(crate) fn insert_range(&self, tombstone: RangeTombstone) {
        let bytes = self.ranges.insert(&tombstone);
        if bytes > 0 {
            self.count(tombstone.stamp, bytes);
        }
    }

    /// The newest visible version of `key` at or below `timestamp`. Range tombstones are not looked at.
    pub(crate) fn get(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<StoredVersion> {
        let guard = epoch::pin();
        let mut entry = self.first_from(Bound::Included(&Place::newest_at(key, timestamp)), &guard)?;
        while *entry.key().key == *key {
            if entry.key().sequence <= visible {
                return Some(entry.to_version());
            }
            entry = entry.next()?;
        }
        None
    }

    /// The newest visible range tombstone over `key` at or below `timestamp`.
    pub(crate) fn covering(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<Stamp> {
        self.ranges.covering(key, timestamp, visible)
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
        let guard = epoch::pin();
        self.first_from(Bound::Included(&Place::newest_at(key, at_or_below)), &guard)
            .is_some_and(|entry| *entry.key().key == *key)
    }

    /// Whether there is a version of any key from `start` up to, and without, `end`, visible or not (R3).
    pub(crate) fn any_key_in(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let guard = epoch::pin();
        self.first_from(Bound::Included(&Place::before(start)), &guard)
            .is_some_and(|entry| end.is_none_or(|end| *entry.key().key < *end))
    }

    /// How much memory it takes, about; of shared batches as if each entry had its part alone.
    pub(crate) fn bytes(&self) -> usize {
        self.totals.bytes.load(Ordering::Relaxed)
    }

    /// How many versions it holds, range tombstones aside.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.points.len()
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
    fn count(&self, stamp: Stamp, bytes: usize) {
        let totals = &self.totals;
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
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

    /// The first entry at or after a place.
    fn first_from<'g>(&'g self, bound: Bound<&Place<'_>>, guard: &'g Guard) -> Option<EntryRef<'g, 'g>> {
        self.points.lower_bound(bound.map(|place| place as &dyn Placed), guard)
    }

    /// The last entry at or before a place.
    fn last_until<'g>(&'g self, bound: Bound<&Place<'_>>, guard: &'g Guard) -> Option<EntryRef<'g, 'g>> {
        self.points.upper_bound(bound.map(|place| place as &dyn Placed), guard)
    }
}

/// What readers take from an entry.
trait ReadEntry {
    fn stamp(&self) -> Stamp;
    fn to_version(&self) -> StoredVersion;
}

impl ReadEntry for EntryRef<'_, '_> {
    fn stamp(&self) -> Stamp {
        Stamp { timestamp: self.key().timestamp, sequence: self.key().sequence, late: self.value().late }
    }

    fn to_version(&self) -> StoredVersion {
        let Entry { value, expires_at, .. } = self.value();
        StoredVersion { stamp: self.stamp(), value: value.as_ref().map(Slice::sharing), expires_at: *expires_at }
    }
}
