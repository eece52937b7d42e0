//! The versions of one key, and the changes of a time, as iterators.

use std::fmt;
use std::ops::RangeInclusive;

use super::handle::Session;
use super::read::{Source, Target};
use crate::merge;
use crate::sync::Arc;
use crate::version::RangeTombstones;
use crate::{Error, Result, Timestamp, Version};

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
        let inner = merge::History::new(target.merging(), key, range, floor)?;
        Ok(Self { session, inner: Some(Box::new(inner)) })
    }
}

impl Iterator for History {
    type Item = Result<Version>;

    fn next(&mut self) -> Option<Self::Item> {
        let inner = self.inner.as_mut()?;
        let item = self.session.engine().check_open().and_then(|()| inner.next_version()).transpose();
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
        let inner = merge::Changes::new(target.merging(), tombstones(version, horizon.sequence)?, range)?;
        Ok(Self { session, inner: Some(Box::new(inner)) })
    }
}

/// The range tombstones of every source, newest source first.
fn tombstones(version: &super::world::KeyspaceVersion, visible: u64) -> Result<Vec<Arc<RangeTombstones>>> {
    let mut all: Vec<_> = version
        .memtables()
        .map(|mem| Arc::new(mem.entries.range_tombstones(visible)))
        .filter(|one| !one.is_empty())
        .collect();
    for (_, table) in version.tree.iter().filter(|(_, table)| table.meta().range_tombstones > 0) {
        all.push(Arc::clone(table.reader()?.range_tombstones()));
    }
    Ok(all)
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let inner = self.inner.as_mut()?;
        let item = self.session.engine().check_open().and_then(|()| inner.next_change()).transpose();
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
