//! Tables that choices make, and what must be read from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::file::{DIR, NUMBER, any, new_fs, path};
use crate::Timestamp;
use crate::format::codec::Compression;
use crate::fs::Purpose;
use crate::fuzzing::Choices;
use crate::table::{TableOptions, TableWriter};
use crate::version::{RangeTombstone, RangeTombstones, Stamp, StoredVersion, TABLE_POINT, TABLE_RANGE, fragment};

/// Keys, and of each its versions, newest first.
pub(super) type Versions = BTreeMap<Vec<u8>, Vec<StoredVersion>>;

/// What is in a table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) keys: Versions,
    pub(super) ranges: RangeTombstones,
}

impl Contents {
    pub(super) fn at(&self, key: &[u8], timestamp: Timestamp) -> Option<&StoredVersion> {
        self.keys.get(key)?.iter().find(|version| version.stamp.timestamp <= timestamp)
    }
}

/// The bytes of a table that `choices` make; `None` if they make none.
pub(super) fn write(choices: &mut Choices<'_>) -> Option<(Vec<u8>, Contents)> {
    let options = TableOptions {
        block_bytes: choices.one_of(&[64, 150, 400, 4096]),
        compression: choices.one_of(&[Compression::None, Compression::Lz4, Compression::Zstd(1)]),
        filter_bits_per_key: choices.one_of(&[10.0, 0.0]),
    };
    let contents = contents(choices);
    if contents == Contents::default() {
        return None;
    }
    let fs = new_fs();
    let mut writer = TableWriter::create(&any(&fs), Purpose::Flush, DIR.as_ref(), NUMBER, options).unwrap();
    for (key, versions) in &contents.keys {
        writer.begin_key(key).unwrap();
        versions.iter().for_each(|version| writer.version(version.as_version_ref()).unwrap());
        writer.end_key().unwrap();
    }
    contents.ranges.fragments().iter().for_each(|fragment| writer.range_tombstones(fragment).unwrap());
    writer.finish().unwrap();
    Some((fs.read_file(path()).unwrap(), contents))
}

fn key(choices: &mut Choices<'_>) -> Vec<u8> {
    let shape = choices.byte();
    let front: &[u8] = if shape & 8 != 0 { b"a front that many have/" } else { b"" };
    let rest = choices.bytes(usize::from(shape & 3));
    [front, rest].concat()
}

fn contents(choices: &mut Choices<'_>) -> Contents {
    let mut keys: BTreeMap<Vec<u8>, BTreeMap<Reverse<Timestamp>, StoredVersion>> = BTreeMap::new();
    let mut ranges = Vec::new();
    for _ in 0..60 {
        if choices.is_empty() {
            break;
        }
        let late = choices.once_in(8);
        if choices.once_in(8) {
            let stamp = Stamp { timestamp: choices.number().clamp(1, Timestamp::MAX - 1), sequence: TABLE_RANGE, late };
            let (start, end) = (key(choices).into(), (!choices.once_in(4)).then(|| key(choices).into()));
            ranges.push(RangeTombstone { start, end, stamp });
            continue;
        }
        let versions = keys.entry(key(choices)).or_default();
        let newest = choices.number().clamp(100, Timestamp::MAX - 2);
        for age in 0..choices.one_of(&[1u64, 1, 1, 2, 3, 10, 40]) {
            let timestamp = newest - age * 2;
            let fill = choices.byte();
            let value = (fill % 8 != 7).then(|| vec![fill; usize::from(choices.one_of(&[1u8, 0, 20, 31, 90]))].into());
            let expires_at = (value.is_some() && fill % 8 == 6).then(|| choices.number());
            let stamp = Stamp { timestamp, sequence: TABLE_POINT, late };
            versions.insert(Reverse(timestamp), StoredVersion { stamp, value, expires_at });
        }
    }
    let keys = keys.into_iter().map(|(key, versions)| (key, versions.into_values().collect())).collect();
    Contents { keys, ranges: fragment(&ranges) }
}
