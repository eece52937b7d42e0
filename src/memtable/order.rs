//! How a memtable orders its entries (T1): key ascending, timestamp descending, sequence descending.

use std::borrow::Borrow;
use std::cmp::Ordering;

use crate::version::Sequence;
use crate::{Slice, Timestamp};

/// What an entry is sorted by.
#[derive(Debug)]
pub(super) struct EntryKey {
    /// A short key lies in the node itself: most comparisons then follow no pointer.
    pub(super) key: Slice,
    pub(super) timestamp: Timestamp,
    pub(super) sequence: Sequence,
}

/// A place in the order, of an entry or between entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    key: &'a [u8],
    timestamp: Timestamp,
    sequence: Sequence,
}

impl<'a> Place<'a> {
    /// Before all versions of `key`.
    pub(super) fn before(key: &'a [u8]) -> Self {
        Self::newest_at(key, Timestamp::MAX)
    }

    /// After all versions of `key` above `timestamp`, before those at it.
    pub(super) fn newest_at(key: &'a [u8], timestamp: Timestamp) -> Self {
        Self { key, timestamp, sequence: Sequence::MAX }
    }

    /// At one version.
    pub(super) fn at(key: &'a [u8], timestamp: Timestamp, sequence: Sequence) -> Self {
        Self { key, timestamp, sequence }
    }

    /// After all versions of `key`.
    pub(super) fn after(key: &'a [u8]) -> Self {
        Self { key, timestamp: 0, sequence: 0 }
    }
}

/// What has a place. The list compares its entries with anything that they can be borrowed as; this lets it compare
/// them with a [`Place`], for which no key is copied.
pub(super) trait Placed {
    fn place(&self) -> Place<'_>;
}

impl Placed for EntryKey {
    fn place(&self) -> Place<'_> {
        Place { key: &self.key, timestamp: self.timestamp, sequence: self.sequence }
    }
}

impl Placed for Place<'_> {
    fn place(&self) -> Place<'_> {
        *self
    }
}

impl<'a> Borrow<dyn Placed + 'a> for EntryKey {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let (this, other) = (self.place(), other.place());
        this.key.cmp(other.key).then_with(|| (other.timestamp, other.sequence).cmp(&(this.timestamp, this.sequence)))
    }
}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Placed + '_ {}

impl Ord for EntryKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let (this, other): (&dyn Placed, &dyn Placed) = (self, other);
        this.cmp(other)
    }
}

impl PartialOrd for EntryKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for EntryKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for EntryKey {}
