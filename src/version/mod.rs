//! The vocabulary of versions that every layer shares: what one version says, what a source of versions offers, and
//! range tombstones.
//!
//! Order (T1): keys ascending, and of one key the timestamps descending. Of equal (key, timestamp) the one that arrived
//! later counts. Inside one source that is decided by `sequence`: a memtable gives the commit sequence; a table, which
//! stores none, gives [`TABLE_POINT`] to points and [`TABLE_RANGE`] to range tombstones, so that a point beats a range
//! tombstone of its timestamp. Between sources the newer source wins.

mod cursor;
mod tombstones;

pub(crate) use cursor::KeyCursor;
#[cfg(any(test, fuzzing))]
pub(crate) use tombstones::fragment;
pub(crate) use tombstones::{Fragment, Hidden, RangeTombstone, RangeTombstones};

use crate::slice::Owner;
use crate::{Slice, Timestamp};

/// The place of an operation in the order of commits, in memory only. Each operation of a batch has its own.
pub(crate) type Sequence = u64;

/// The sequence that a table's points answer with.
pub(crate) const TABLE_POINT: Sequence = Sequence::MAX;
/// The sequence that a table's range tombstones answer with.
pub(crate) const TABLE_RANGE: Sequence = 0;

/// When something was committed, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) timestamp: Timestamp,
    pub(crate) sequence: Sequence,
    /// Committed at or below the last timestamp of its moment. Of a stamp that is not late, everything that arrived
    /// earlier for the same key has a lower timestamp, so a lookup may stop at it (T2).
    pub(crate) late: bool,
}

impl Stamp {
    /// Whether this one counts over `other` of the same source.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        (self.timestamp, self.sequence) > (other.timestamp, other.sequence)
    }
}

/// A value where it lies: in a block, a batch or a memtable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueRef<'a> {
    pub(crate) bytes: &'a [u8],
    /// What `bytes` is a part of and can be shared with; `None`: who keeps them copies them.
    pub(crate) owner: Option<Owner<'a>>,
}

impl ValueRef<'_> {
    pub(crate) fn to_slice(self) -> Slice {
        self.owner.map_or_else(|| Slice::copy_of(self.bytes), |owner| Slice::part_of(owner, self.bytes))
    }
}

/// One version of a key, borrowed from its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VersionRef<'a> {
    pub(crate) stamp: Stamp,
    /// `None`: a tombstone.
    pub(crate) value: Option<ValueRef<'a>>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl VersionRef<'_> {
    /// Whether it is a value that has not expired at `now`.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.value.is_some() && self.expires_at.is_none_or(|expires_at| expires_at > now)
    }

    pub(crate) fn to_owned(self) -> StoredVersion {
        StoredVersion { stamp: self.stamp, value: self.value.map(ValueRef::to_slice), expires_at: self.expires_at }
    }
}

/// One version of a key, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredVersion {
    pub(crate) stamp: Stamp,
    /// `None`: a tombstone.
    pub(crate) value: Option<Slice>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl StoredVersion {
    pub(crate) fn as_version_ref(&self) -> VersionRef<'_> {
        let value = self.value.as_ref().map(|value| ValueRef { bytes: value, owner: value.owner() });
        VersionRef { stamp: self.stamp, value, expires_at: self.expires_at }
    }
}

/// One version of a key as history gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// When it was committed.
    pub timestamp: Timestamp,
    /// Its value; `None` is a tombstone.
    pub value: Option<Slice>,
    /// Reads at or above this timestamp do not see it, nor anything older.
    pub expires_at: Option<Timestamp>,
}
