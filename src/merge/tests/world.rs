//! A keyspace in small: what was committed is kept whole as the model, and lies in sources as the engine would hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::source::{Data, Row, TestSource};
use crate::merge::{Change, SourceRanges};
use crate::version::{RangeTombstone, Stamp, StoredVersion, Version, fragment};
use crate::{Slice, Timestamp};

/// S1: keys that are prefixes of each other, the empty one too. In order.
pub(super) const KEYS: [&[u8]; 11] =
    [b"", b"\0", b"a", b"a\0", b"a\0\0", b"ab", b"abc", b"a\xff", b"b", b"\xff", b"\xff\xff"];

#[derive(Debug, Clone)]
pub(super) enum Op {
    Point(Slice, Option<Slice>, Option<Timestamp>),
    Range(Slice, Option<Slice>),
}

/// An operation and when it was committed; its place in the list of all is its place in the order of arrival.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) op: Op,
    pub(super) stamp: Stamp,
}

impl Committed {
    fn covers(&self, key: &[u8]) -> bool {
        match &self.op {
            Op::Point(own, ..) => *own == *key,
            Op::Range(start, end) => **start <= *key && end.as_deref().is_none_or(|end| key < end),
        }
    }
}

pub(super) struct World {
    pub(super) rng: StdRng,
    late_commits: bool,
    pub(super) all: Vec<Committed>,
    /// How many of them are in `sources`; the others are in the active memtable.
    sealed: usize,
    /// Newest first.
    pub(super) sources: Vec<Arc<Data>>,
    pub(super) last: Timestamp,
    pub(super) floor: Timestamp,
    pub(super) snapshots: Vec<Timestamp>,
}

impl World {
    pub(super) fn new(seed: u64, late_commits: bool) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            late_commits,
            all: Vec::new(),
            sealed: 0,
            sources: Vec::new(),
            last: 0,
            floor: 0,
            snapshots: Vec::new(),
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(super) fn some_key(&mut self) -> Slice {
        Slice::copy_of(KEYS[self.rng.random_range(0..KEYS.len())])
    }

    pub(super) fn commit(&mut self) {
        let late = self.late_commits && self.last > self.floor && self.chance(60);
        let timestamp = if late {
            self.rng.random_range(self.floor + 1..=self.last)
        } else {
            self.last + self.rng.random_range(1..=2)
        };
        for _ in 0..self.rng.random_range(1..=4) {
            let sequence = self.all.len() as u64 + 1;
            let op = match self.rng.random_range(0..10) {
                0..=1 => Op::Point(self.some_key(), None, None),
                2..=3 => {
                    let end = if self.chance(15) { None } else { Some(self.some_key()) };
                    Op::Range(self.some_key(), end)
                }
                kind => {
                    let value = Slice::from(vec![b'v'; [0, 3, 40][self.rng.random_range(0..3)]]);
                    let value = Slice::from([&*value, &sequence.to_be_bytes()[7 - usize::from(kind > 5)..]].concat());
                    let value = if self.chance(10) { Slice::empty() } else { value }; // S3
                    let expires_at =
                        self.chance(25).then(|| self.rng.random_range(timestamp.saturating_sub(3)..timestamp + 8));
                    Op::Point(self.some_key(), Some(value), expires_at)
                }
            };
            self.all.push(Committed { op, stamp: Stamp { timestamp, sequence, late } });
        }
        self.last = self.last.max(timestamp);
    }

    pub(super) fn seal(&mut self) {
        if self.sealed < self.all.len() {
            self.sources.insert(0, Arc::new(memtable(&self.all[self.sealed..])));
            self.sealed = self.all.len();
        }
    }

    pub(super) fn raise_floor(&mut self) {
        self.floor = self.rng.random_range(self.floor..=self.last);
    }

    pub(super) fn take_or_drop_snapshot(&mut self) {
        if self.chance(50) && !self.snapshots.is_empty() {
            let gone = self.rng.random_range(0..self.snapshots.len());
            self.snapshots.remove(gone);
        } else {
            self.snapshots.push(self.rng.random_range(self.floor..=self.last));
            self.snapshots.sort_unstable();
        }
    }

    pub(super) fn data(&self) -> Vec<Arc<Data>> {
        let active = Arc::new(memtable(&self.all[self.sealed..]));
        std::iter::once(active).chain(self.sources.iter().cloned()).collect()
    }

    pub(super) fn cursors(&self) -> Vec<TestSource> {
        self.data().into_iter().map(TestSource::new).collect()
    }

    pub(super) fn ranges(&self) -> Vec<SourceRanges> {
        self.data().iter().map(|data| data.ranges.clone()).collect()
    }

    /// The timestamps at which reads are promised an answer.
    pub(super) fn readable(&self) -> BTreeSet<Timestamp> {
        (self.floor..=self.last + 1).chain(self.snapshots.iter().copied()).collect()
    }

    // ---- the model ----

    /// The last arrival at the newest timestamp at or below `timestamp`.
    pub(super) fn newest(&self, key: &[u8], timestamp: Timestamp) -> Option<&Committed> {
        let seen = self.all.iter().filter(|c| c.stamp.timestamp <= timestamp && c.covers(key));
        seen.max_by_key(|c| (c.stamp.timestamp, c.stamp.sequence))
    }

    pub(super) fn get(&self, key: &[u8], timestamp: Timestamp, now: Timestamp) -> Option<Slice> {
        match &self.newest(key, timestamp)?.op {
            Op::Point(_, value, expires_at) if expires_at.is_none_or(|at| at > now) => value.clone(),
            _ => None,
        }
    }

    pub(super) fn scan(&self, timestamp: Timestamp, now: Timestamp) -> BTreeMap<Slice, Slice> {
        let keys = KEYS.iter().map(|key| Slice::copy_of(key));
        keys.filter_map(|key| self.get(&key, timestamp, now).map(|value| (key, value))).collect()
    }

    /// All versions of a key, newest first.
    pub(super) fn versions(&self, key: &[u8]) -> Vec<Version> {
        let mut versions = Vec::new();
        let mut at = Some(Timestamp::MAX);
        while let Some(newest) = at.and_then(|at| self.newest(key, at)) {
            let timestamp = newest.stamp.timestamp;
            versions.push(match newest.op.clone() {
                Op::Point(_, value, expires_at) => Version { timestamp, value, expires_at },
                Op::Range(..) => Version { timestamp, value: None, expires_at: None },
            });
            at = timestamp.checked_sub(1);
        }
        versions
    }

    pub(super) fn history(&self, key: &[u8], times: &RangeInclusive<Timestamp>) -> Vec<Version> {
        let mut versions = self.versions(key);
        let above = versions.iter().take_while(|v| v.timestamp > self.floor).count();
        let at_floor = usize::from(self.get(key, self.floor, self.floor).is_some());
        versions.truncate(above + at_floor);
        versions.retain(|version| times.contains(&version.timestamp));
        versions
    }

    pub(super) fn changes(&self, times: &RangeInclusive<Timestamp>) -> Vec<Change> {
        let mut changes = Vec::new();
        for timestamp in times.clone() {
            let mut ranges: Vec<(Slice, Option<Slice>)> = Vec::new();
            for committed in self.all.iter().filter(|c| c.stamp.timestamp == timestamp) {
                match &committed.op {
                    Op::Range(start, end) if end.as_ref().is_none_or(|end| start < end) => {
                        ranges.push((start.clone(), end.clone()));
                    }
                    Op::Range(..) => {}
                    Op::Point(key, value, expires_at) => {
                        let newest = self.newest(key, timestamp).map(|c| c.stamp.sequence);
                        if newest == Some(committed.stamp.sequence) {
                            let (key, expires_at) = (key.clone(), *expires_at);
                            changes.push(match value.clone() {
                                Some(value) => Change::Put { key, timestamp, value, expires_at },
                                None => Change::Delete { key, timestamp },
                            });
                        }
                    }
                }
            }
            ranges.sort();
            let mut joined: Vec<(Slice, Option<Slice>)> = Vec::new();
            for (start, end) in ranges {
                match joined.last_mut() {
                    Some((_, open)) if open.as_ref().is_none_or(|open| start <= *open) => {
                        *open = if open.is_none() || end.is_none() { None } else { open.take().max(end) };
                    }
                    _ => joined.push((start, end)),
                }
            }
            let range = |(start, end)| Change::DeleteRange { start, end, timestamp };
            changes.extend(joined.into_iter().map(range));
        }
        changes.sort_by_key(|change| match change {
            Change::DeleteRange { start, timestamp, .. } => (start.clone(), 0, std::cmp::Reverse(*timestamp)),
            Change::Put { key, timestamp, .. } | Change::Delete { key, timestamp } => {
                (key.clone(), 1, std::cmp::Reverse(*timestamp))
            }
        });
        changes
    }
}

/// What a memtable would hold: everything, also what was replaced.
fn memtable(committed: &[Committed]) -> Data {
    let mut rows: BTreeMap<Slice, Vec<StoredVersion>> = BTreeMap::new();
    let mut tombstones = Vec::new();
    for Committed { op, stamp } in committed.iter().cloned() {
        match op {
            Op::Point(key, value, expires_at) => {
                rows.entry(key).or_default().push(StoredVersion { stamp, value, expires_at });
            }
            Op::Range(start, end) => tombstones.push(RangeTombstone { start, end, stamp }),
        }
    }
    for versions in rows.values_mut() {
        versions.sort_by_key(|v| std::cmp::Reverse((v.stamp.timestamp, v.stamp.sequence)));
    }
    Data {
        rows: rows.into_iter().map(|(key, versions)| Row { key, versions }).collect(),
        ranges: vec![Arc::new(fragment(&tombstones))],
    }
}
