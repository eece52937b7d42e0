//! Figures of an open database.

mod prometheus;

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::Engine;
use crate::Timestamp;
use crate::manifest::KeyspaceId;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes charged to active memtables.
    pub(crate) buffered_bytes: AtomicU64,
    /// Bytes charged to sealed memtables that are not flushed yet.
    pub(crate) sealed_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) committed_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) trivial_moves: AtomicU64,
    pub(crate) compacted_bytes_read: AtomicU64,
    pub(crate) compacted_bytes_written: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stalled_nanos: AtomicU64,
    /// The names of keyspaces dropped since opening, for errors.
    pub(crate) dropped_names: Mutex<BTreeMap<KeyspaceId, String>>,
}

/// Figures of one moment; totals count from opening. Made by [`Db::metrics`](crate::Db::metrics).
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Every keyspace, by name.
    pub keyspaces: Vec<KeyspaceMetrics>,
    /// Table files of all keyspaces.
    pub table_files: u64,
    /// Their bytes.
    pub table_bytes: u64,
    /// Bytes of the log that replay would read.
    pub log_bytes: u64,
    /// Log segments.
    pub log_segments: u64,
    /// Bytes in memtables that take writes.
    pub active_memtable_bytes: u64,
    /// Bytes in memtables that wait to be flushed.
    pub sealed_memtable_bytes: u64,
    /// Bytes that the block cache holds.
    pub block_cache_bytes: u64,
    /// Blocks found in the cache.
    pub block_cache_hits: u64,
    /// Blocks that had to be read.
    pub block_cache_misses: u64,
    /// How often a table's file was opened.
    pub table_opens: u64,
    /// Lookups that a filter answered "not here".
    pub filter_hits: u64,
    /// Lookups that a filter let through to a table which had nothing for them.
    pub filter_false_positives: u64,
    /// Commits made visible.
    pub commits: u64,
    /// Bytes of their operations.
    pub committed_bytes: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Bytes of the tables that they wrote.
    pub flushed_bytes: u64,
    /// Compactions done, moves not counted.
    pub compactions: u64,
    /// Tables that went down a level without being rewritten.
    pub trivial_moves: u64,
    /// Bytes that compactions read.
    pub compacted_bytes_read: u64,
    /// Bytes that compactions wrote.
    pub compacted_bytes_written: u64,
    /// Commits that were slowed down because flushes or compactions lagged.
    pub stalls: u64,
    /// For how long, together.
    pub stalled: Duration,
    /// Bytes written to tables for each byte committed.
    pub write_amplification: f64,
    /// Bytes in tables for each byte in their last levels; 1.0 without tables.
    pub space_amplification: f64,
    /// The highest commit that is visible.
    pub last_timestamp: Timestamp,
    /// No commit at or below it is accepted any more.
    pub closed_timestamp: Timestamp,
    /// Transactions that are prepared, and neither committed nor aborted: [`Db::prepared`](crate::Db::prepared) lists them.
    pub prepared: u64,
    /// Live snapshots, oldest first.
    pub snapshots: Vec<SnapshotMetrics>,
}

/// Figures of one keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct KeyspaceMetrics {
    /// Its name.
    pub name: String,
    /// Its floor.
    pub retained_from: Timestamp,
    /// Its levels, level 0 first.
    pub levels: Vec<LevelMetrics>,
    /// Bytes of tables that its present floor would free.
    pub freeable_bytes: u64,
}

/// Figures of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LevelMetrics {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys in them, each counted once a file.
    pub keys: u64,
    /// Versions in them.
    pub versions: u64,
}

/// A live snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotMetrics {
    /// What it reads at.
    pub timestamp: Timestamp,
    /// How long it has lived.
    pub age: Duration,
}

impl Engine {
    pub(crate) fn metrics(&self) -> Metrics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let world = self.world();
        let counters = &self.counters;
        let keyspaces: Vec<_> = world
            .keyspaces()
            .iter()
            .map(|keyspace| {
                let floor = keyspace.core.floor();
                let mut levels = vec![LevelMetrics::default(); crate::manifest::LEVELS];
                let mut freeable_bytes = 0;
                for (level, table) in keyspace.tree.iter() {
                    let meta = table.meta();
                    freeable_bytes += meta.freeable.at(floor);
                    if let Some(sum) = levels.get_mut(level) {
                        sum.files += 1;
                        sum.bytes += meta.bytes;
                        sum.keys += meta.keys;
                        sum.versions += meta.versions;
                    }
                }
                KeyspaceMetrics { name: keyspace.core.name.clone(), retained_from: floor, levels, freeable_bytes }
            })
            .collect();
        let table_bytes = keyspaces.iter().flat_map(|one| &one.levels).map(|level| level.bytes).sum();
        let last_levels: u64 = keyspaces
            .iter()
            .filter_map(|one| one.levels.iter().rev().map(|level| level.bytes).find(|bytes| *bytes > 0))
            .sum();
        let written = count(&counters.flushed_bytes) + count(&counters.compacted_bytes_written);
        let now = self.time.monotonic_nanos();
        let horizon = self.current.horizon();
        let log = self.log().ok();
        let cache = self.store.cache();
        Metrics {
            table_files: keyspaces.iter().flat_map(|one| &one.levels).map(|level| level.files).sum(),
            table_bytes,
            log_bytes: log.as_ref().map_or(0, |log| log.live_bytes()),
            log_segments: log.as_ref().map_or(0, |log| log.segments().len() as u64),
            log_syncs: log.as_ref().map_or(0, |log| log.syncs()),
            active_memtable_bytes: world.keyspaces().iter().map(|one| one.active.entries.bytes() as u64).sum(),
            sealed_memtable_bytes: count(&counters.sealed_bytes),
            block_cache_bytes: cache.bytes(),
            block_cache_hits: cache.hits(),
            block_cache_misses: cache.misses(),
            table_opens: self.store.opened(),
            filter_hits: self.store.filtered().hits(),
            filter_false_positives: self.store.filtered().misses(),
            commits: count(&counters.commits),
            committed_bytes: count(&counters.committed_bytes),
            flushes: count(&counters.flushes),
            flushed_bytes: count(&counters.flushed_bytes),
            compactions: count(&counters.compactions),
            trivial_moves: count(&counters.trivial_moves),
            compacted_bytes_read: count(&counters.compacted_bytes_read),
            compacted_bytes_written: count(&counters.compacted_bytes_written),
            stalls: count(&counters.stalls),
            stalled: Duration::from_nanos(count(&counters.stalled_nanos)),
            write_amplification: ratio(written, count(&counters.committed_bytes)).unwrap_or(0.0),
            space_amplification: ratio(table_bytes, last_levels).unwrap_or(1.0),
            last_timestamp: horizon.last_timestamp,
            closed_timestamp: self.closed(),
            prepared: self.prepared().len() as u64,
            snapshots: self.snapshot_metrics(now),
            keyspaces,
        }
    }

    fn snapshot_metrics(&self, now_nanos: u64) -> Vec<SnapshotMetrics> {
        let registry = self.snapshots.lock();
        let mut snapshots: Vec<_> = registry
            .live()
            .map(|one| SnapshotMetrics {
                timestamp: one.timestamp,
                age: Duration::from_nanos(now_nanos.saturating_sub(one.taken_nanos)),
            })
            .collect();
        snapshots.sort_by_key(|one| std::cmp::Reverse(one.age));
        snapshots
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}
