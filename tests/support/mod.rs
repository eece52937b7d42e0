//! What a keyspace must hold, kept the plain way: every version of every key of a small set, never forgotten. A test
//! commits the same operations to a database and here, and then compares all that can be read.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod forge;
pub(crate) mod promises;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::ops::Bound;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{Background, Change, Db, Keyspace, KeyspaceOptions, MemFs, Options, Snapshot, WriteBatch};

pub(crate) type Key = Vec<u8>;

/// Keys that are prefixes of each other, with the least and the greatest byte. S1
pub(crate) const KEYS: [&[u8]; 14] = [
    b"",
    b"\0",
    b"a",
    b"a\0",
    b"a\0\0",
    b"a\0b",
    b"aa",
    b"ab",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b"b\0",
    b"\xff",
    b"\xff\xff",
];

/// One operation of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(Key, Vec<u8>),
    PutExpiring(Key, Vec<u8>, u64),
    Delete(Key),
    DeleteRange(Bound<Key>, Bound<Key>),
}

impl Op {
    pub(crate) fn add_to(&self, batch: &mut WriteBatch, keyspace: &Keyspace) {
        match self {
            Self::Put(key, value) => batch.put(keyspace, key, value),
            Self::PutExpiring(key, value, expires_at) => batch.put_expiring(keyspace, key, value, *expires_at),
            Self::Delete(key) => batch.delete(keyspace, key),
            Self::DeleteRange(start, end) => batch.delete_range(keyspace, (start.clone(), end.clone())),
        }
    }
}

/// One version, as the model keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) expires_at: Option<u64>,
}

/// A version with its timestamp, as history gives it.
pub(crate) type Told = (u64, Option<Vec<u8>>, Option<u64>);

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    versions: BTreeMap<Key, BTreeMap<u64, Entry>>,
    pub(crate) last: u64,
}

pub(crate) fn contains(range: &(Bound<Key>, Bound<Key>), key: &[u8]) -> bool {
    let above = match &range.0 {
        Bound::Included(start) => key >= &start[..],
        Bound::Excluded(start) => key > &start[..],
        Bound::Unbounded => true,
    };
    above
        && match &range.1 {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        }
}

impl Model {
    pub(crate) fn commit(&mut self, timestamp: u64, ops: &[Op]) {
        self.last = self.last.max(timestamp);
        for op in ops {
            match op {
                Op::Put(key, value) => self.set(key, timestamp, Some(value.clone()), None),
                Op::PutExpiring(key, value, expires_at) => {
                    self.set(key, timestamp, Some(value.clone()), Some(*expires_at));
                }
                Op::Delete(key) => self.set(key, timestamp, None, None),
                Op::DeleteRange(start, end) => {
                    let range = (start.clone(), end.clone());
                    for key in KEYS.iter().filter(|key| contains(&range, key)) {
                        self.set(key, timestamp, None, None);
                    }
                }
            }
        }
    }

    fn set(&mut self, key: &[u8], timestamp: u64, value: Option<Vec<u8>>, expires_at: Option<u64>) {
        self.versions.entry(key.to_vec()).or_default().insert(timestamp, Entry { value, expires_at });
    }

    /// What a read at `timestamp` sees. S2, S7
    pub(crate) fn get(&self, key: &[u8], timestamp: u64) -> Option<Vec<u8>> {
        let (_, entry) = self.versions.get(key)?.range(..=timestamp).next_back()?;
        if entry.expires_at.is_some_and(|expires_at| expires_at <= timestamp) { None } else { entry.value.clone() }
    }

    pub(crate) fn scan(&self, range: &(Bound<Key>, Bound<Key>), timestamp: u64) -> Vec<(Key, Vec<u8>)> {
        let keys = self.versions.keys().filter(|key| contains(range, key));
        keys.filter_map(|key| Some((key.clone(), self.get(key, timestamp)?))).collect()
    }

    /// What history gives: all above the floor, and what can be read at it.
    pub(crate) fn history(&self, key: &[u8], floor: u64) -> Vec<Told> {
        let Some(versions) = self.versions.get(key) else { return Vec::new() };
        let tell = |(timestamp, entry): (&u64, &Entry)| (*timestamp, entry.value.clone(), entry.expires_at);
        let mut told: Vec<_> = versions.range(floor + 1..).rev().map(tell).collect();
        if self.get(key, floor).is_some() {
            told.extend(versions.range(..=floor).next_back().map(tell));
        }
        told
    }

    /// How many versions retention may not take, and must not leave more than, after a compaction. S16
    pub(crate) fn kept(&self, floor: u64) -> usize {
        self.versions.keys().map(|key| self.history(key, floor).len()).sum()
    }
}

pub(crate) fn everything() -> (Bound<Key>, Bound<Key>) {
    (Bound::Unbounded, Bound::Unbounded)
}

pub(crate) fn pairs(
    iter: impl Iterator<Item = strandline::Result<(strandline::Slice, strandline::Slice)>>,
) -> Vec<(Key, Vec<u8>)> {
    iter.map(|pair| pair.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

pub(crate) fn told(keyspace: &Keyspace, key: &[u8]) -> Vec<Told> {
    let versions = keyspace.history(key, ..).unwrap().map(Result::unwrap);
    versions.map(|version| (version.timestamp, version.value.map(Vec::from), version.expires_at)).collect()
}

/// Compares all that a keyspace can say above its floor with the model.
pub(crate) fn check(db: &Db, keyspace: &Keyspace, model: &Model, context: &str) {
    assert_eq!(db.last_timestamp(), model.last, "{context}");
    for timestamp in keyspace.retained_from()..=model.last + 1 {
        check_at(keyspace, model, timestamp, context);
        if timestamp <= model.last && timestamp >= keyspace.retained_from() {
            match db.snapshot_at(timestamp) {
                Ok(snapshot) => check_snapshot(&snapshot, keyspace, model, context),
                Err(error) => panic!("{context}: {error}"),
            }
        }
    }
    check_histories(keyspace, model, context);
}

pub(crate) fn check_at(keyspace: &Keyspace, model: &Model, timestamp: u64, context: &str) {
    for key in KEYS {
        let found = keyspace.get_at(key, timestamp).unwrap().map(Vec::from);
        assert_eq!(found, model.get(key, timestamp), "{context}: {key:?} at {timestamp}");
    }
}

pub(crate) fn check_snapshot(snapshot: &Snapshot, keyspace: &Keyspace, model: &Model, context: &str) {
    let timestamp = snapshot.timestamp();
    for key in KEYS {
        let found = snapshot.get(keyspace, key).unwrap().map(Vec::from);
        assert_eq!(found, model.get(key, timestamp), "{context}: {key:?} in the snapshot at {timestamp}");
    }
    let expected = model.scan(&everything(), timestamp);
    assert_eq!(pairs(snapshot.iter(keyspace)), expected, "{context}: scan at {timestamp}");
    let mut backward = pairs(snapshot.iter(keyspace).rev());
    backward.reverse();
    assert_eq!(backward, expected, "{context}: backward scan at {timestamp}");
}

pub(crate) fn check_histories(keyspace: &Keyspace, model: &Model, context: &str) {
    let floor = keyspace.retained_from();
    for key in KEYS {
        let expected = model.history(key, floor);
        assert_eq!(told(keyspace, key), expected, "{context}: history of {key:?}, floor {floor}");
        let newest = expected.first().map(|version| version.0);
        assert_eq!(keyspace.latest_timestamp(key).unwrap(), newest, "{context}: {key:?}");
        for timestamp in floor..=model.last + 1 {
            let has = expected.iter().any(|version| version.0 == timestamp);
            assert_eq!(keyspace.has_version(key, timestamp).unwrap(), has, "{context}: {key:?} at {timestamp}");
        }
    }
}

/// The changes above the floor, laid out over the model's keys, must be the model's versions. Of a point and a range
/// delete at one timestamp only one may be told of a key.
pub(crate) fn check_changes(keyspace: &Keyspace, model: &Model, from: u64, to: u64, context: &str) {
    let mut found: BTreeMap<(Key, u64), Entry> = BTreeMap::new();
    let mut order = Vec::new();
    for change in keyspace.changes(from..=to).unwrap() {
        let (place, kind, timestamp) = match change.unwrap() {
            Change::Put { key, timestamp, value, expires_at } => {
                let entry = Entry { value: Some(value.to_vec()), expires_at };
                found.insert((key.to_vec(), timestamp), entry);
                (key, 1, timestamp)
            }
            Change::Delete { key, timestamp } => {
                found.insert((key.to_vec(), timestamp), Entry { value: None, expires_at: None });
                (key, 1, timestamp)
            }
            Change::DeleteRange { start, end, timestamp } => {
                let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec()));
                let range = (Bound::Included(start.to_vec()), end);
                for key in KEYS.iter().filter(|key| contains(&range, key)) {
                    // Points at one start come after range deletes, and a point that counts is told though a range
                    // covers it.
                    found.entry((key.to_vec(), timestamp)).or_insert(Entry { value: None, expires_at: None });
                }
                (start, 0, timestamp)
            }
        };
        order.push((place.to_vec(), kind, std::cmp::Reverse(timestamp)));
    }
    assert!(order.is_sorted(), "{context}: changes out of order: {order:?}");
    let mut expected = BTreeMap::new();
    for (key, versions) in &model.versions {
        for (timestamp, entry) in versions.range(from..=to.max(from)).filter(|(timestamp, _)| **timestamp <= to) {
            expected.insert((key.clone(), *timestamp), entry.clone());
        }
    }
    assert_eq!(found, expected, "{context}: changes {from}..={to}");
}

/// Chance that repeats from its seed.
pub(crate) struct Dice {
    pub(crate) rng: StdRng,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn key(&mut self) -> Key {
        KEYS[self.rng.random_range(0..KEYS.len())].to_vec()
    }

    pub(crate) fn bound(&mut self) -> Bound<Key> {
        match self.below(5) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(self.key()),
            _ => Bound::Included(self.key()),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = if self.one_in(5) { 0 } else { self.below(40) };
        (0..len).map(|_| b'a' + u8::try_from(self.below(26)).unwrap()).collect()
    }

    /// An operation; `around` is about when expiries fall.
    pub(crate) fn op(&mut self, around: u64) -> Op {
        match self.below(10) {
            0..=4 => Op::Put(self.key(), self.value()),
            5 | 6 => Op::Delete(self.key()),
            7 => {
                let expires_at = (around + self.below(12)).saturating_sub(3);
                Op::PutExpiring(self.key(), self.value(), expires_at)
            }
            _ => Op::DeleteRange(self.bound(), self.bound()),
        }
    }

    pub(crate) fn ops(&mut self, around: u64) -> Vec<Op> {
        (0..=self.below(4)).map(|_| self.op(around)).collect()
    }
}

/// Everything small, nothing in the background, so that a run repeats.
pub(crate) fn small(fs: &MemFs) -> Options {
    Options::new()
        .fs(fs.clone())
        .memtable_bytes(2 << 10)
        .wal_segment_bytes(4 << 10)
        .wal_bytes(32 << 10)
        .block_cache_bytes(64 << 10)
        .background(Background::Stepped)
}

pub(crate) fn small_keyspace() -> KeyspaceOptions {
    KeyspaceOptions::new().block_bytes(128).target_file_bytes(1 << 10).level_base_bytes(2 << 10)
}

/// Runs background work until there is none, also when nothing is committed meanwhile.
pub(crate) fn settle(db: &Db) {
    let mut idle = 0;
    for _ in 0..10_000 {
        idle = if db.step_background().unwrap() { 0 } else { idle + 1 };
        if idle == 2 {
            return;
        }
    }
    panic!("background work does not end");
}

/// How many versions all tables of a keyspace hold.
pub(crate) fn versions_in_tables(db: &Db, name: &str) -> u64 {
    let metrics = db.metrics();
    let keyspace = metrics.keyspaces.iter().find(|keyspace| keyspace.name == name).unwrap();
    keyspace.levels.iter().map(|level| level.versions).sum()
}

pub(crate) fn batch_of(keyspace: &Keyspace, ops: &[Op]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    ops.iter().for_each(|op| op.add_to(&mut batch, keyspace));
    batch
}
