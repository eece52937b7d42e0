//! Reads of one keyspace at one moment: point lookups, and the sources that scans and merges walk.

use std::ops::{Bound, RangeBounds, RangeInclusive};

use super::current::Horizon;
use super::world::{KeyspaceVersion, Mem, TableTree};
use crate::memtable::MemtableCursor;
use crate::merge::{Lookup, MergingCursor};
use crate::sync::Arc;
use crate::table::{Ahead, HashedKey, Level, RunCursor, Table};
use crate::version::{Hidden, KeyCursor, Sequence, Stamp, StoredVersion, ValueRef, VersionRef};
use crate::{Error, Result, Slice, Timestamp};

/// When a read takes place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Versions above it are not seen.
    pub(crate) timestamp: Timestamp,
    /// What has expired at or before it is not seen (S7).
    pub(crate) now: Timestamp,
}

/// What a read looks at.
#[derive(Clone)]
pub(crate) enum Target {
    /// A keyspace that did not exist at that time.
    Empty,
    Keyspace {
        version: Arc<KeyspaceVersion>,
        horizon: Horizon,
    },
}

impl Target {
    pub(crate) fn get(&self, key: &[u8], at: At) -> Result<Option<Slice>> {
        match self {
            Self::Empty => Ok(None),
            Self::Keyspace { version, horizon } => Ok(value(newest(version, *horizon, key, at.timestamp)?, || at.now)),
        }
    }

    /// The version that is seen of a key.
    pub(crate) fn version(&self, key: &[u8], at: At) -> Result<Option<StoredVersion>> {
        match self {
            Self::Empty => Ok(None),
            Self::Keyspace { version, horizon } => {
                let found = newest(version, *horizon, key, at.timestamp)?;
                Ok(found
                    .filter(|found| found.value.is_some() && found.expires_at.is_none_or(|expires| expires > at.now)))
            }
        }
    }

    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        at: At,
    ) -> Result<Vec<Option<Slice>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let mut values = Vec::with_capacity(keys.len());
        for some in keys.chunks(FETCHED_AHEAD) {
            if let Self::Keyspace { version, .. } = self
                && some.len() > 1
            {
                fetch_ahead(version, some);
            }
            for key in some {
                values.push(self.get(key.as_ref(), at)?);
            }
        }
        Ok(values)
    }

    /// A cursor over all sources, for reads at a timestamp.
    pub(crate) fn merging(&self, timestamp: Timestamp) -> MergingCursor<Source> {
        MergingCursor::new(within(self.sources(), &(0..=timestamp)))
    }

    /// Every source, newest first.
    pub(crate) fn sources(&self) -> Vec<Source> {
        match self {
            Self::Empty => Vec::new(),
            Self::Keyspace { version, horizon } => sources(version, version.filled_memtables(), horizon.sequence),
        }
    }
}

/// So many keys of a `multi_get` are looked up at once: what is fetched for them stays in the nearest caches.
const FETCHED_AHEAD: usize = 32;

/// A lookup waits for one line of memory after the other, and each says where the next is. Lookups of several keys can
/// wait for theirs together: every step is taken for all keys before the next one is.
fn fetch_ahead<K: AsRef<[u8]>>(version: &KeyspaceVersion, keys: &[K]) {
    for ahead in [Ahead::Filter, Ahead::Block] {
        for key in keys {
            let key = HashedKey::from(key);
            version.tree.files_for_key(key.key).for_each(|(_, table)| table.fetch(key, ahead));
        }
    }
}

/// Refuses a timestamp below the floor. Called after the version was loaded: a floor is raised before a tree by which
/// something was dropped is put in place, so whatever is missing from this tree, the floor is seen (R1).
pub(crate) fn check_floor(version: &KeyspaceVersion, timestamp: Timestamp) -> Result<()> {
    let retained = version.core.floor();
    if timestamp < retained { Err(Error::BelowRetained { requested: timestamp, retained }) } else { Ok(()) }
}

/// The value that a version shows at the time that `now` says; asked only where there is an expiry.
pub(crate) fn value(version: Option<StoredVersion>, now: impl FnOnce() -> Timestamp) -> Option<Slice> {
    let version = version?;
    match version.expires_at {
        Some(expires_at) if expires_at <= now() => None,
        _ => version.value,
    }
}

/// The newest version of `key` at or below `timestamp`, whatever it says; `None` also where a range tombstone hides it.
pub(crate) fn newest(
    version: &KeyspaceVersion,
    horizon: Horizon,
    key: &[u8],
    timestamp: Timestamp,
) -> Result<Option<StoredVersion>> {
    look_up(version, horizon, key, timestamp).map(Lookup::into_point)
}

/// The timestamp of the newest version of `key` at or below `timestamp` that history gives over the floor, and that
/// floor.
pub(crate) fn newest_timestamp(
    version: &KeyspaceVersion,
    horizon: Horizon,
    key: &[u8],
    timestamp: Timestamp,
) -> Result<(Timestamp, Option<Timestamp>)> {
    let lookup = look_up(version, horizon, key, timestamp)?;
    let floor = version.core.floor();
    Ok((floor, lookup.newest_retained(floor)))
}

/// So many tables' filters are waited for together.
const FEW: usize = 8;

/// Asks one source after the other, newest first, until no older one can have a newer version (T2).
fn look_up(version: &KeyspaceVersion, horizon: Horizon, key: &[u8], timestamp: Timestamp) -> Result<Lookup> {
    let mut lookup = Lookup::new(timestamp);
    let wanted = |lookup: &Lookup, mem: &Mem| lookup.wants(mem.entries.min_timestamp(), mem.entries.max_timestamp());
    for mem in version.memtables() {
        if !wanted(&lookup, mem) {
            continue;
        }
        let point = mem.entries.get(key, timestamp, horizon.sequence);
        let tombstone = mem.entries.covering(key, timestamp, horizon.sequence);
        if lookup.offer(point, tombstone) {
            return Ok(lookup);
        }
    }
    let key = HashedKey::from(key);
    let mut in_vain = 0;
    let mut others = version.tree.files_for_key(key.key);
    let mut first = [None; FEW];
    for table in &mut first {
        *table = others.next();
        if table.is_none() {
            break;
        }
    }
    if let [Some(_), Some(_), ..] = first {
        first.iter().flatten().for_each(|(_, table)| table.fetch(key, Ahead::Filter));
    }
    for (level, table) in first.into_iter().flatten().chain(others) {
        let meta = table.meta();
        if !lookup.wants(meta.min_timestamp, meta.max_timestamp) {
            continue;
        }
        let tombstone = match meta.range_tombstones {
            0 => None,
            _ => table.reader()?.range_tombstones().covering(key.key, timestamp),
        };
        let point = table.get(key, timestamp)?;
        in_vain += u64::from(level == 0 && point.is_none());
        if lookup.offer(point, tombstone) {
            break;
        }
    }
    version.core.detours.looked_up(&version.tree, in_vain);
    Ok(lookup)
}

/// One source of a keyspace.
#[expect(clippy::large_enum_variant, reason = "a box would cost every step of a cursor a jump")]
pub(crate) enum Source {
    Memtable(MemtableCursor),
    /// A table of level 0, or all tables of a lower level.
    Run(RunCursor),
}

/// Every source of a keyspace in the order of arrival, newest first (T2), as far as `visible`: `memtables` and all tables.
pub(crate) fn sources<'a>(
    version: &KeyspaceVersion,
    memtables: impl IntoIterator<Item = &'a Arc<Mem>>,
    visible: Sequence,
) -> Vec<Source> {
    let mut sources = Vec::with_capacity(SOURCES);
    sources.extend(memtables.into_iter().map(|mem| memtable(mem, visible)));
    sources.extend(table_sources(&version.tree));
    sources
}

/// Most trees have no more sources.
const SOURCES: usize = 4;

/// The same sources, in which tables and blocks without a timestamp in the range are passed over.
pub(crate) fn within(mut sources: Vec<Source>, range: &RangeInclusive<Timestamp>) -> Vec<Source> {
    for source in &mut sources {
        if let Source::Run(run) = source {
            run.set_timestamp_range(*range.start(), *range.end());
        }
    }
    sources
}

pub(crate) fn memtable(mem: &Arc<Mem>, visible: Sequence) -> Source {
    Source::Memtable(mem.entries.cursor(visible))
}

pub(crate) fn table_sources(tree: &TableTree) -> impl Iterator<Item = Source> {
    let newest = tree.level(0).iter().map(|table| Source::Run(RunCursor::one(Arc::clone(table))));
    let levels = tree.runs().filter(|level| !level.is_empty()).map(|level| Source::Run(RunCursor::new(level.clone())));
    newest.chain(levels)
}

/// For a merge, which reads everything once and leaves the block cache to readers: tables in key order.
pub(crate) fn run_for_merge(tables: Vec<Arc<Table>>) -> Source {
    Source::Run(RunCursor::for_merge(Arc::new(Level::run(tables))))
}

macro_rules! on_source {
    ($self:ident, $cursor:ident => $call:expr) => {
        match $self {
            Self::Memtable($cursor) => $call,
            Self::Run($cursor) => $call,
        }
    };
}

impl KeyCursor for Source {
    fn seek_to_first(&mut self) -> Result<()> {
        on_source!(self, cursor => cursor.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        on_source!(self, cursor => cursor.seek_to_last())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        on_source!(self, cursor => cursor.seek(key))
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        on_source!(self, cursor => cursor.seek_for_prev(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        on_source!(self, cursor => cursor.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        on_source!(self, cursor => cursor.prev())
    }

    #[inline]
    fn key(&self) -> Option<&[u8]> {
        on_source!(self, cursor => cursor.key())
    }

    #[inline]
    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        on_source!(self, cursor => cursor.version_at(timestamp))
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        on_source!(self, cursor => cursor.older_version())
    }

    #[inline]
    fn version(&self) -> Option<VersionRef<'_>> {
        on_source!(self, cursor => cursor.version())
    }

    #[inline]
    fn is_live_at(&mut self, timestamp: Timestamp, now: Timestamp) -> Result<bool> {
        on_source!(self, cursor => cursor.is_live_at(timestamp, now))
    }

    #[inline]
    fn value(&self) -> Option<ValueRef<'_>> {
        on_source!(self, cursor => cursor.value())
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        on_source!(self, cursor => cursor.covering(key, timestamp))
    }

    fn hidden_around(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Hidden>> {
        on_source!(self, cursor => cursor.hidden_around(key, timestamp))
    }

    fn pass_over(&mut self, hidden: &Hidden, forward: bool) -> Result<bool> {
        on_source!(self, cursor => cursor.pass_over(hidden, forward))
    }

    fn may_cover(&self) -> bool {
        on_source!(self, cursor => cursor.may_cover())
    }
}

/// A range of timestamps with both ends included; `None`: empty.
pub(crate) fn timestamps(range: &impl RangeBounds<u64>) -> Option<RangeInclusive<Timestamp>> {
    let start = match range.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.checked_add(1)?,
    };
    let end = match range.end_bound() {
        Bound::Unbounded => Timestamp::MAX,
        Bound::Included(end) => *end,
        Bound::Excluded(after) => after.checked_sub(1)?,
    };
    (start <= end).then_some(start..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_timestamps_have_both_ends_included_or_are_empty() {
        assert_eq!(timestamps(&..), Some(0..=u64::MAX));
        assert_eq!(timestamps(&(3..5)), Some(3..=4));
        assert_eq!(timestamps(&(..=0)), Some(0..=0));
        assert_eq!(timestamps(&(..0)), None);
        assert_eq!(timestamps(&(5..5)), None);
        #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
        let inverted = 7..=6;
        assert_eq!(timestamps(&inverted), None);
        assert_eq!(timestamps(&(Bound::Excluded(u64::MAX), Bound::Unbounded)), None);
    }
}
