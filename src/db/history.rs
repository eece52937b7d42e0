//! The versions of one key, and the changes of a time, as iterators.

use std::fmt;
use std::ops::RangeInclusive;

use super::handle::Session;
use super::merge_job::range_tombstones;
use super::read::{self, Source, Target};
use super::world::{KeyspaceVersion, Mem};
use crate::merge::{self, SourceRanges};
use crate::sync::Arc;
use crate::version::Sequence;
use crate::{Error, Result, Slice, Timestamp, Version};

pub use crate::merge::Change;

/// An iterator that ends with its database, and holds nothing once it has ended.
struct WhileOpen<I> {
    session: Arc<Session>,
    inner: Option<Box<I>>,
}

impl<T, I: Iterator<Item = Result<T>>> WhileOpen<I> {
    fn new(session: &Arc<Session>, inner: Option<I>) -> Self {
        Self { session: Arc::clone(session), inner: inner.map(Box::new) }
    }

    fn next(&mut self) -> Option<Result<T>> {
        let inner = self.inner.as_mut()?;
        let item = match self.session.engine().check_open() {
            Ok(()) => inner.next(),
            Err(closed) => Some(Err(closed)),
        };
        if !matches!(item, Some(Ok(_))) {
            self.inner = None;
        }
        item
    }
}

/// The versions of one key, newest first. Made by [`Keyspace::history`](crate::Keyspace::history).
pub struct History(WhileOpen<merge::History<Source>>);

impl History {
    pub(crate) fn new(
        session: &Arc<Session>,
        target: Target,
        key: &[u8],
        range: Option<RangeInclusive<Timestamp>>,
    ) -> Result<Self> {
        let (Some(range), Target::Keyspace { version, .. }) = (range, &target) else {
            return Ok(Self(WhileOpen::new(session, None)));
        };
        let floor = version.core.floor();
        let key = Slice::copy_of(key);
        let inner = merge::History::new(target.sources(), key, *range.start(), *range.end(), floor)?;
        Ok(Self(WhileOpen::new(session, Some(inner))))
    }
}

impl Iterator for History {
    type Item = Result<Version>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl std::iter::FusedIterator for History {}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

/// Every version committed in a range of time, in key order. Made by [`Keyspace::changes`](crate::Keyspace::changes).
pub struct Changes(WhileOpen<merge::Changes<Source>>);

impl Changes {
    pub(crate) fn new(
        session: &Arc<Session>,
        target: Target,
        range: Option<RangeInclusive<Timestamp>>,
    ) -> Result<Self> {
        let (Some(range), Target::Keyspace { version, horizon }) = (range, &target) else {
            return Ok(Self(WhileOpen::new(session, None)));
        };
        let retained = version.core.floor();
        if retained != 0 && *range.start() <= retained {
            return Err(Error::BelowRetained { requested: *range.start(), retained });
        }
        let memtables: Vec<_> = version.filled_memtables().collect();
        let ranges = ranges(version, &memtables, horizon.sequence)?;
        let sources = read::within(read::sources(version, memtables, horizon.sequence), &range);
        let inner = merge::Changes::new(sources, ranges, *range.start(), *range.end());
        Ok(Self(WhileOpen::new(session, Some(inner))))
    }
}

impl Changes {
    /// Goes on behind `last`, which another walk over the same range of time has given: what lies before it is not read
    /// again. To be called before the first item is taken.
    #[must_use]
    pub fn resume_after(mut self, last: &Change) -> Self {
        if let Some(inner) = &mut self.0.inner {
            inner.resume_after(last);
        }
        self
    }
}

/// The range tombstones of every source, as [`read::sources`] numbers them.
fn ranges(version: &KeyspaceVersion, memtables: &[&Arc<Mem>], visible: Sequence) -> Result<Vec<SourceRanges>> {
    let memtables = memtables.iter().map(|mem| Ok(vec![Arc::new(mem.entries.range_tombstones(visible))]));
    let newest = version.tree.level(0).iter().map(|table| range_tombstones(std::slice::from_ref(table)));
    let levels = version.tree.levels().skip(1).filter(|level| !level.is_empty()).map(range_tombstones);
    memtables.chain(newest).chain(levels).collect()
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl std::iter::FusedIterator for Changes {}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}
