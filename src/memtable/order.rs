//! How a memtable orders its entries (T1): key ascending, timestamp descending, sequence descending.

use crate::Timestamp;
use crate::version::Sequence;

/// A place in the order, of an entry or between entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) key: &'a [u8],
    pub(super) timestamp: Timestamp,
    pub(super) sequence: Sequence,
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

    /// After all versions of `key`: no commit has timestamp 0.
    pub(super) fn after(key: &'a [u8]) -> Self {
        Self { key, timestamp: 0, sequence: 0 }
    }
}
