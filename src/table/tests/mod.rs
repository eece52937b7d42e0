//! Tables held against a plain map of what was written into them.

mod corruption;
mod golden;
mod handles;
mod history;
mod hostile;
mod model;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::format::FileNumber;
use crate::format::codec::Compression;
use crate::fs::{Fs, MemFs, Purpose};
use crate::slice::Owner;
use crate::sync::Arc;
use crate::version::{
    KeyCursor, RangeTombstone, RangeTombstones, Stamp, StoredVersion, TABLE_POINT, TABLE_RANGE, ValueRef, VersionRef,
    fragment,
};
use crate::{Result, Slice, Timestamp};

const DIR: &str = "db";

/// Keys, and of each its versions, newest first.
type Versions = BTreeMap<Vec<u8>, Vec<StoredVersion>>;

/// What is in a table.
#[derive(Debug, Clone, Default)]
struct Model {
    keys: Versions,
    ranges: RangeTombstones,
}

impl Model {
    fn at(&self, key: &[u8], timestamp: Timestamp) -> Option<StoredVersion> {
        self.keys.get(key)?.iter().find(|version| version.stamp.timestamp <= timestamp).cloned()
    }

    fn put(&mut self, key: &[u8], version: StoredVersion) {
        let versions = self.keys.entry(key.to_vec()).or_default();
        versions.retain(|other| other.stamp.timestamp != version.stamp.timestamp);
        versions.push(version);
        versions.sort_by_key(|version| std::cmp::Reverse(version.stamp.timestamp));
    }
}

fn version(timestamp: Timestamp, value: Option<&[u8]>) -> StoredVersion {
    let stamp = Stamp { timestamp, sequence: TABLE_POINT, late: false };
    StoredVersion { stamp, value: value.map(Slice::from), expires_at: None }
}

fn options(block_bytes: usize) -> TableOptions {
    TableOptions { block_bytes, compression: Compression::None, filter_bits_per_key: 10.0 }
}

fn any(fs: &MemFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn new_fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    fs
}

fn add_version(writer: &mut TableWriter, version: &StoredVersion) -> Result<()> {
    let bytes = version.value.clone().map(Bytes::from);
    let value = bytes.as_ref().map(|bytes| ValueRef { bytes, owner: Some(Owner::Bytes(bytes)) });
    writer.version(VersionRef { stamp: version.stamp, value, expires_at: version.expires_at })
}

fn create(fs: &MemFs, number: u64, options: TableOptions) -> TableWriter {
    TableWriter::create(&any(fs), Purpose::Flush, Path::new(DIR), FileNumber(number), options).unwrap()
}

fn write(fs: &MemFs, number: u64, options: TableOptions, model: &Model) -> TableMeta {
    let mut writer = create(fs, number, options);
    let (mut fragments, half) = (model.ranges.fragments().iter(), model.ranges.fragments().len() / 2);
    fragments.by_ref().take(half).for_each(|fragment| writer.range_tombstones(fragment).unwrap());
    for (key, versions) in &model.keys {
        writer.begin_key(key).unwrap();
        versions.iter().for_each(|version| add_version(&mut writer, version).unwrap());
        writer.end_key().unwrap();
    }
    fragments.for_each(|fragment| writer.range_tombstones(fragment).unwrap());
    let estimated = writer.estimated_bytes();
    let meta = writer.finish().unwrap();
    assert!(meta.bytes <= estimated * 2 + 1000, "estimated {estimated}, became {}", meta.bytes);
    meta
}

fn open(fs: &MemFs, number: u64) -> Result<Arc<TableReader>> {
    let cache = Arc::new(BlockCache::new(1 << 20));
    TableReader::open(&any(fs), Path::new(DIR), FileNumber(number), cache, Arc::default()).map(Arc::new)
}

fn cursor(reader: &Arc<TableReader>) -> TableCursor {
    TableCursor::new(reader.clone(), Caching::Fill)
}

/// Keys that are prefixes of each other and neighbours of those, some behind a long common front (S1).
fn some_key(rng: &mut StdRng) -> Vec<u8> {
    let front: &[u8] = if rng.random_bool(0.3) { b"a long front that many keys have/" } else { b"" };
    let rest = (0..rng.random_range(0..5)).map(|_| [0, b'a', b'b', 0xfe, 0xff][rng.random_range(0..5usize)]);
    front.iter().copied().chain(rest).collect()
}

fn some_version(rng: &mut StdRng, last_timestamp: Timestamp) -> StoredVersion {
    let len = [0, 1, 20, 31, 90][rng.random_range(0..5usize)];
    let fill = rng.random_range(b'a'..=b'z');
    let value = rng.random_bool(0.8).then(|| vec![fill; len]);
    let mut version = version(rng.random_range(1..=last_timestamp), value.as_deref());
    version.stamp.late = rng.random_bool(0.1);
    version.expires_at = (version.value.is_some() && rng.random_bool(0.2)).then(|| rng.random_range(0..=u64::MAX));
    version
}

fn some_model(rng: &mut StdRng, keys: usize, most_versions: usize, last_timestamp: Timestamp) -> Model {
    let mut model = Model::default();
    for _ in 0..keys {
        let key = some_key(rng);
        for _ in 0..rng.random_range(1..=most_versions) {
            model.put(&key, some_version(rng, last_timestamp));
        }
    }
    let ranges: Vec<_> = (0..rng.random_range(0..4))
        .map(|_| RangeTombstone {
            start: some_key(rng).into(),
            end: rng.random_bool(0.8).then(|| some_key(rng).into()),
            stamp: Stamp {
                timestamp: rng.random_range(1..=last_timestamp),
                sequence: TABLE_RANGE,
                late: rng.random_bool(0.2),
            },
        })
        .collect();
    model.ranges = fragment(&ranges);
    model
}

/// The keys of the model, and neighbours of each on both sides.
fn probes(model: &Model) -> Vec<Vec<u8>> {
    let mut probes = vec![vec![], vec![0xff; 9]];
    for key in model.keys.keys() {
        probes.push(key.clone());
        probes.push([key, &b"\0"[..]].concat());
        probes.push([key, &b"\xff"[..]].concat());
        if let Some((last, front)) = key.split_last() {
            probes.push(front.to_vec());
            probes.push([front, &[last.wrapping_add(1)]].concat());
            probes.push([front, &[last.wrapping_sub(1), 0xff]].concat());
        }
    }
    probes.sort();
    probes.dedup();
    probes
}

/// Reads everything forward: of each key all versions.
fn read_forward(cursor: &mut impl KeyCursor) -> Result<Versions> {
    let mut keys = BTreeMap::new();
    cursor.seek_to_first()?;
    while let Some(key) = cursor.key() {
        let key = key.to_vec();
        let mut versions = Vec::new();
        let mut next = cursor.version_at(u64::MAX)?.map(|version| version.to_owned());
        while let Some(version) = next {
            versions.push(version);
            next = cursor.older_version()?.map(|version| version.to_owned());
        }
        assert!(keys.last_key_value().is_none_or(|(last, _)| *last < key), "keys rise");
        keys.insert(key, versions);
        cursor.next()?;
    }
    Ok(keys)
}

/// Walks a cursor at random and holds every position and version against the model (S1, S2).
fn check_walk(cursor: &mut impl KeyCursor, model: &Model, rng: &mut StdRng, steps: usize) {
    let keys: Vec<&Vec<u8>> = model.keys.keys().collect();
    let probes = probes(model);
    let mut expected: Option<usize> = None;
    for _ in 0..steps {
        let probe = &probes[rng.random_range(0..probes.len())];
        match rng.random_range(0..20) {
            0 => {
                cursor.seek_to_first().unwrap();
                expected = (!keys.is_empty()).then_some(0);
            }
            1 => {
                cursor.seek_to_last().unwrap();
                expected = keys.len().checked_sub(1);
            }
            2 | 3 => {
                cursor.seek(probe).unwrap();
                expected = Some(keys.partition_point(|key| *key < probe)).filter(|at| *at < keys.len());
            }
            4 | 5 => {
                cursor.seek_for_prev(probe).unwrap();
                expected = keys.partition_point(|key| *key <= probe).checked_sub(1);
            }
            6..=12 => {
                cursor.next().unwrap();
                expected = expected.map(|at| at + 1).filter(|at| *at < keys.len());
            }
            _ => {
                cursor.prev().unwrap();
                expected = expected.and_then(|at| at.checked_sub(1));
            }
        }
        assert_eq!(cursor.key(), expected.map(|at| &keys[at][..]));
        let timestamp = rng.random_range(0..50);
        let covering = cursor.covering(probe, timestamp).unwrap();
        assert_eq!(covering, model.ranges.covering(probe, timestamp), "{probe:?} at {timestamp}");
        if rng.random_bool(0.5) {
            let all = expected.map_or(&[][..], |at| &model.keys[keys[at]]);
            let mut left = all.iter().filter(|version| version.stamp.timestamp <= timestamp);
            let mut found = cursor.version_at(timestamp).unwrap().map(|version| version.to_owned());
            for _ in 0..rng.random_range(1..8) {
                assert_eq!(found.as_ref(), left.next());
                found = cursor.older_version().unwrap().map(|version| version.to_owned());
            }
        }
    }
}
