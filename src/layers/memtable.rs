//! The memtable, as commits fill it and reads search it.

use super::{Direction, Row, touch, walk};
use crate::memtable;
use crate::sync::Arc;
use crate::version::{Sequence, Stamp};
use crate::{Result, Timestamp};

/// Everything that was inserted is visible.
const VISIBLE: Sequence = Sequence::MAX;

/// Versions in memory.
pub struct Memtable(Arc<memtable::Memtable>);

impl Memtable {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(memtable::Memtable::new()))
    }

    /// Adds a version; its timestamp must not be used for another one of its key.
    pub fn insert(&self, row: &Row) {
        let stamp = Stamp { timestamp: row.timestamp, sequence: row.timestamp, late: false };
        self.0.insert(&row.key, stamp, Some(&row.value), None, |_| row.value.clone());
    }

    /// Whether there is a version of `key` at or below `timestamp`.
    #[must_use]
    pub fn get(&self, key: &[u8], timestamp: Timestamp) -> bool {
        let value = self.0.get(key, timestamp, VISIBLE).and_then(|version| version.value);
        value.inspect(|value| touch(value)).is_some()
    }

    /// Visits every key; says how many had a version at or below `timestamp`.
    ///
    /// # Errors
    /// None: the memtable reads no files.
    pub fn scan(&self, direction: Direction, timestamp: Timestamp) -> Result<u64> {
        walk(&mut self.0.cursor(VISIBLE), direction, timestamp)
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self::new()
    }
}
