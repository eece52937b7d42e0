//! A condition held against memtables and tables.

use std::ops::Bound;

use super::{Condition, Found, Watched};
use crate::db::engine::Engine;
use crate::db::read::{self, Source};
use crate::db::world::KeyspaceVersion;
use crate::manifest::KeyspaceId;
use crate::table::HashedKey;
use crate::version::{Fragment, KeyCursor, Sequence};
use crate::{Error, Result, Timestamp};

impl Engine {
    /// What is stored of a condition above its start. Everything up to `visible` must be in the memtables; it is looked at
    /// whether or not it is published.
    ///
    /// A version above the start that retention has dropped is not missed: the floor that it was dropped by is seen
    /// here, since floors rise before a tree by which something was dropped is put in place, and the tree is loaded first
    /// (R1). The start is refused then, unless a snapshot at or below it lives, for which merges keep what is newer (R3).
    pub(super) fn check_stored(&self, condition: &Condition<'_>, visible: Sequence) -> Result<Option<Found>> {
        let world = self.world();
        for id in condition.keyspaces.iter().copied() {
            // One that is dropped is refused when the commit is reserved.
            let Some(keyspace) = world.get(id) else { continue };
            let floor = keyspace.core.floor();
            if condition.start < floor && !self.snapshots.lock().keeps_from(id, condition.start) {
                return Err(Error::BelowRetained { requested: condition.start, retained: floor });
            }
            let stored = Stored { keyspace, visible, start: condition.start };
            for key in condition.keys_in(id) {
                if let Some(timestamp) = stored.newer_of(key)? {
                    return Ok(Some(Found { keyspace: id, key: key.into(), timestamp }));
                }
            }
            for range in condition.ranges_in(id) {
                if let Some((key, timestamp)) = stored.newer_within(range)? {
                    return Ok(Some(Found { keyspace: id, key, timestamp }));
                }
            }
        }
        Ok(None)
    }
}

impl<'a> Condition<'a> {
    fn keys_in(&self, id: KeyspaceId) -> impl Iterator<Item = &'a [u8]> {
        let first = self.keys.partition_point(|(other, _)| *other < id);
        self.keys.iter().skip(first).take_while(move |(other, _)| *other == id).map(|(_, key)| *key)
    }

    fn ranges_in(&self, id: KeyspaceId) -> impl Iterator<Item = &Watched<'a>> {
        self.ranges.iter().filter(move |range| range.keyspace == id)
    }
}

/// One keyspace, and what to look for in it: anything above a timestamp.
struct Stored<'a> {
    keyspace: &'a KeyspaceVersion,
    visible: Sequence,
    start: Timestamp,
}

impl Stored<'_> {
    /// The timestamp of a version of `key` above the start.
    fn newer_of(&self, key: &[u8]) -> Result<Option<Timestamp>> {
        let newest =
            |point: Option<Timestamp>, range: Option<Timestamp>| point.max(range).filter(|at| *at > self.start);
        for mem in self.keyspace.memtables().filter(|mem| mem.entries.max_timestamp() > self.start) {
            let point = mem.entries.newest_timestamp(key, self.visible);
            let range = mem.entries.covering(key, Timestamp::MAX, self.visible).map(|stamp| stamp.timestamp);
            if let Some(found) = newest(point, range) {
                return Ok(Some(found));
            }
        }
        let key = HashedKey::from(key);
        let tables = self.keyspace.tree.files_for_key(key.key).map(|(_, table)| table);
        for table in tables.filter(|table| table.meta().max_timestamp > self.start) {
            let range = match table.meta().range_tombstones {
                0 => None,
                _ => table.reader()?.range_tombstones().covering(key.key, Timestamp::MAX),
            };
            let point = table.get(key, Timestamp::MAX)?.map(|version| version.stamp.timestamp);
            if let Some(found) = newest(point, range.map(|stamp| stamp.timestamp)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A key in a range that has a version above the start, and its timestamp.
    fn newer_within(&self, range: &Watched<'_>) -> Result<Option<(Box<[u8]>, Timestamp)>> {
        for mem in self.keyspace.memtables().filter(|mem| mem.entries.max_timestamp() > self.start) {
            if let Some(found) = mem.entries.range_tombstone_within((range.start, range.end), self.start, self.visible)
            {
                return Ok(Some(found));
            }
            if let Some(found) = self.newer_point(read::memtable(mem, self.visible), range)? {
                return Ok(Some(found));
            }
        }
        let tree = &self.keyspace.tree;
        for table in tree.iter().map(|(_, table)| table).filter(|table| table.meta().max_timestamp > self.start) {
            if table.meta().range_tombstones > 0
                && table.meta().overlaps_keys(range.start, range.end.map_or(Bound::Unbounded, Bound::Excluded))
                && let Some(found) = self.newer_fragment(table.reader()?.range_tombstones().fragments(), range)
            {
                return Ok(Some(found));
            }
        }
        // Tables and blocks with nothing above the start are passed over.
        let sources = read::table_sources(tree).collect();
        for source in read::within(sources, &(self.start.saturating_add(1)..=Timestamp::MAX)) {
            if let Some(found) = self.newer_point(source, range)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn newer_fragment(&self, fragments: &[Fragment], range: &Watched<'_>) -> Option<(Box<[u8]>, Timestamp)> {
        let first = fragments.partition_point(|one| one.end.as_deref().is_some_and(|end| end <= range.start));
        let within = |one: &&Fragment| range.end.is_none_or(|end| *one.start < *end);
        fragments.iter().skip(first).take_while(within).find_map(|one| {
            let newest = one.stamps.first()?.timestamp;
            (newest > self.start).then(|| (Box::from(range.start.max(&one.start)), newest))
        })
    }

    /// A walk over one source.
    fn newer_point(&self, mut source: Source, range: &Watched<'_>) -> Result<Option<(Box<[u8]>, Timestamp)>> {
        source.seek(range.start)?;
        while source.key().is_some_and(|key| range.end.is_none_or(|end| key < end)) {
            let newest = source.version_at(Timestamp::MAX)?.map(|version| version.stamp.timestamp);
            if let Some(newest) = newest.filter(|newest| *newest > self.start) {
                return Ok(Some((source.key().unwrap_or_default().into(), newest)));
            }
            source.next()?;
        }
        Ok(None)
    }
}
