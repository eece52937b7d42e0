//! Single layers of the engine, for `benches/`. Only builds with the feature `bench-layers` have it.
//!
//! No part of the public API: may change at any time. A layer is wrapped as thinly as it can be, so that what is
//! measured is the layer: a call here is one call of it, or one walk over it.

mod batch;
mod block;
mod bytes;
mod filter;
mod log;
mod memtable;
mod merge;
mod table;

pub use batch::{Batch, Encoded, read_batch};
pub use block::{Block, BlockBuilder};
pub use bytes::{checksum, compress, decompress};
pub use filter::{Filter, build_filter};
pub use log::Log;
pub use memtable::Memtable;
pub use merge::Merge;
pub use table::{Table, write_table};

use std::hint::black_box;

use ::bytes::Bytes;

use crate::slice::Owner;
use crate::version::{KeyCursor, Stamp, TABLE_POINT, ValueRef, VersionRef};
use crate::{Result, Timestamp};

/// One version of a key. A run of them is in order if keys ascend and the versions of a key come newest first.
#[derive(Debug, Clone)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The value.
    pub value: Bytes,
}

impl Row {
    fn version(&self) -> VersionRef<'_> {
        let stamp = Stamp { timestamp: self.timestamp, sequence: TABLE_POINT, late: false };
        let owner = Some(Owner::Bytes(&self.value));
        VersionRef { stamp, value: Some(ValueRef { bytes: &self.value, owner }), expires_at: None }
    }
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By ascending keys.
    Forward,
    /// By descending keys.
    Backward,
}

/// Visits every key, and of each the version at a timestamp. Says how many keys had one.
fn walk(cursor: &mut impl KeyCursor, direction: Direction, timestamp: Timestamp) -> Result<u64> {
    let mut seen = 0;
    match direction {
        Direction::Forward => cursor.seek_to_first()?,
        Direction::Backward => cursor.seek_to_last()?,
    }
    while cursor.key().is_some() {
        if let Some(value) = cursor.version_at(timestamp)?.and_then(|version| version.value) {
            touch(value.bytes);
            seen += 1;
        }
        match direction {
            Direction::Forward => cursor.next()?,
            Direction::Backward => cursor.prev()?,
        }
    }
    Ok(seen)
}

/// A value counts as read when its first and last byte were.
fn touch(value: &[u8]) {
    black_box((value.first().copied(), value.last().copied()));
}
