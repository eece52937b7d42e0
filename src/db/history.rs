//! The versions of one key, and the changes of a time, as iterators.

use std::fmt;
use std::ops::RangeInclusive;

use super::handle::Session;
use super::merge_job::range_tombstones;
use super::read::{Source, Target};
use super::world::KeyspaceVersion;
use crate::merge::{self, SourceRanges};
use crate::sync::Arc;
use crate::version::Sequence;
use crate::{Error, Result, Slice, Timestamp, Version};

pub use crate::merge::Change;

/// The versions of one key, newest first. Made by [`Keyspace::history`](crate::Keyspace::history).
pub struct History {
    session: Arc<Session>,
    inner: Option<Box<merge::History<Source>>>,
}

impl History {
    pub(crate) fn new(
        session: &Arc<Session>,
        target: Target,
        key: &[u8],
        range: Option<RangeInclusive<Timestamp>>,
    ) -> Result<Self> {
        let session = Arc::clone(session);
        let (Some(range), Target::Keyspace { version, .. }) = (range, &target) else {
            return Ok(Self { session, inner: None });
        };
        let floor = version.core.floor();
        let inner = merge::History::new(target.sources(), Slice::copy_of(key), *range.start(), *range.end(), floor)?;
        Ok(Self { session, inner: Some(Box::new(inner)) })
    }
}

impl Iterator for History {
    type Item = Result<Version>;

    fn next(&mut self) -> Option<Self::Item> {
        let inner = self.inner.as_mut()?;
        let item = self.session.engine().check_open().map_or_else(|closed| Some(Err(closed)), |()| inner.next());
        if !matches!(item, Some(Ok(_))) {
            self.inner = None;
        }
        item
    }
}

impl std::iter::FusedIterator for History {}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

/// Every version committed in a range of time, in key order. Made by [`Keyspace::changes`](crate::Keyspace::changes).
pub struct Changes {
    session: Arc<Session>,
    inner: Option<Box<merge::Changes<Source>>>,
}

impl Changes {
    pub(crate) fn new(
        session: &Arc<Session>,
        target: Target,
        range: Option<RangeInclusive<Timestamp>>,
    ) -> Result<Self> {
        let session = Arc::clone(session);
        let (Some(range), Target::Keyspace { version, horizon }) = (range, &target) else {
            return Ok(Self { session, inner: None });
        };
        let retained = version.core.floor();
        if retained != 0 && *range.start() <= retained {
            return Err(Error::BelowRetained { requested: *range.start(), retained });
        }
        let inner =
            merge::Changes::new(target.sources_within(&range), ranges(version, horizon.sequence)?, *range.start(), *range.end());
        Ok(Self { session, inner: Some(Box::new(inner)) })
    }
}

/// The range tombstones of every source, newest source first.
fn ranges(version: &KeyspaceVersion, visible: Sequence) -> Result<Vec<SourceRanges>> {
    let full = version.memtables().filter(|mem| !mem.entries.is_empty());
    let memtables = full.map(|mem| Ok(vec![Arc::new(mem.entries.range_tombstones(visible))]));
    let newest = version.tree.level(0).iter().map(|table| range_tombstones(std::slice::from_ref(table)));
    let levels = version.tree.levels().skip(1).filter(|level| !level.is_empty()).map(range_tombstones);
    memtables.chain(newest).chain(levels).collect()
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let inner = self.inner.as_mut()?;
        let item = self.session.engine().check_open().map_or_else(|closed| Some(Err(closed)), |()| inner.next());
        if !matches!(item, Some(Ok(_))) {
            self.inner = None;
        }
        item
    }
}

impl std::iter::FusedIterator for Changes {}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}
