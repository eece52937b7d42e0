//! A whole file: opened, verified, read by key, walked in both directions, as of times.

use std::path::{Path, PathBuf};

use super::blocks::check_covering;
use super::recipe::{self, Contents, Versions};
use super::seal::{seal, unseal};
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, MemFs, Purpose};
use crate::fuzzing::{Choices, damage};
use crate::sync::Arc;
use crate::table::block::BlockSource;
use crate::table::{BlockCache, Caching, TableCursor, TableReader};
use crate::version::{KeyCursor, StoredVersion};
use crate::{Error, Result, Timestamp};

pub(super) const DIR: &str = "db";
pub(super) const NUMBER: FileNumber = FileNumber(7);

/// Without a cache most of the time would go into decompressing the same blocks again and again.
const CACHE_BYTES: u64 = 256 << 10;

/// A walk over a file that `verify` refuses may be long: blocks may be named more than once.
const MOST_STEPS: usize = 3000;

pub(super) fn path() -> PathBuf {
    FileKind::Table.path(Path::new(DIR), NUMBER)
}

pub(super) fn new_fs() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    fs
}

pub(super) fn any(fs: &MemFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn fs_with(file: &[u8]) -> MemFs {
    let fs = new_fs();
    fs.write_file(path(), file).unwrap();
    fs
}

pub(super) fn source_of(file: &[u8]) -> BlockSource {
    let opened = fs_with(file).open(Purpose::Table, &path()).unwrap();
    BlockSource::new(opened, path(), NUMBER, Arc::new(BlockCache::new(0))).unwrap()
}

/// The first byte says what the others are: the bytes of a file (0), the bytes of one to be sealed (1), or choices that
/// make a proper table and damage it, with the checksums put right behind the damage (2) or not (3).
pub fn table(input: &[u8]) -> usize {
    let Some((mode, bytes)) = input.split_first() else { return 0 };
    match mode % 4 {
        0 => check(bytes, None),
        1 => {
            let mut file = bytes.to_vec();
            seal(&mut file);
            check(&file, None);
        }
        mode => {
            // The recipe and the damage, each of which can grow.
            let parts = crate::fuzzing::pieces(bytes);
            let Some((good, contents)) = recipe::write(&mut Choices::new(parts[0])) else { return bytes.len() };
            let mut file = good.clone();
            let mut choices = Choices::new(parts.get(1).copied().unwrap_or_default());
            if mode == 2 {
                unseal(&mut file);
                damage(&mut file, &mut choices);
                seal(&mut file);
                check(&file, (file == good).then_some(&contents));
            } else {
                damage(&mut file, &mut choices);
                check(&file, Some(&contents));
                assert_eq!(verifies(&file), file == good, "any change is noticed");
            }
            return file.len().max(good.len());
        }
    }
    bytes.len()
}

fn open(file: &[u8]) -> Result<Arc<TableReader>> {
    let cache = Arc::new(BlockCache::new(CACHE_BYTES));
    TableReader::open(&any(&fs_with(file)), Path::new(DIR), NUMBER, cache, Arc::default()).map(Arc::new)
}

fn verifies(file: &[u8]) -> bool {
    open(file).is_ok_and(|reader| reader.verify().is_ok())
}

/// Whatever the bytes are: no panic, an end, and errors that name this file. A file that `verify` passes answers as the
/// walk over it says. With `contents`: all answers are those, or corruption.
fn check(file: &[u8], contents: Option<&Contents>) {
    let Some(reader) = right_kind(open(file)) else { return };
    check_covering(reader.range_tombstones());
    if let Some(contents) = contents {
        assert_eq!(**reader.range_tombstones(), contents.ranges);
    }
    let cursor = || TableCursor::new(reader.clone(), Caching::Fill);
    let (forward, backward) = (right_kind(walk(&mut cursor(), false)), right_kind(walk(&mut cursor(), true)));
    let verified = right_kind(reader.verify());
    match (contents, &verified) {
        (Some(contents), _) => {
            assert!(forward.is_none_or(|keys| keys == contents.keys), "a walk forward shows what was written");
            assert!(backward.is_none_or(|keys| keys == contents.keys), "a walk backward shows what was written");
            search(&reader, contents, verified.is_some());
        }
        (None, Some(verified)) => {
            let keys = forward.expect("a verified table is read forward");
            assert_eq!(Some(&keys), backward.as_ref(), "and backward");
            let versions: usize = keys.values().map(Vec::len).sum();
            assert_eq!((keys.len() as u64, versions as u64), (verified.keys, verified.versions));
            search(&reader, &Contents { keys, ranges: (**reader.range_tombstones()).clone() }, true);
        }
        (None, None) => wander(&reader),
    }
}

/// Only what the file is may go wrong, and is said to lie in it.
fn right_kind<T>(found: Result<T>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(Error::Corruption { path: named, .. }) => {
            assert_eq!(named, path());
            None
        }
        Err(Error::UnsupportedFormat { .. }) => None,
        Err(other) => panic!("neither an answer nor corruption: {other}"),
    }
}

/// Every key with all its versions. One that `verify` refuses need not be in order, and is not read to its end.
fn walk(cursor: &mut TableCursor, backward: bool) -> Result<Versions> {
    let mut keys = Versions::new();
    let mut left = MOST_STEPS;
    if backward {
        cursor.seek_to_last()?
    } else {
        cursor.seek_to_first()?
    }
    while let Some(key) = cursor.key() {
        let key = key.to_vec();
        let mut versions: Vec<StoredVersion> = Vec::new();
        let mut next = cursor.version_at(Timestamp::MAX)?.map(|version| version.to_owned());
        while let Some(version) = next {
            let newer = versions.last().map(|newer| newer.stamp.timestamp);
            assert!(newer.is_none_or(|newer| version.stamp.timestamp < newer), "versions come newest first");
            versions.push(version);
            left -= 1;
            if left == 0 {
                return Ok(keys);
            }
            next = cursor.older_version()?.map(|version| version.to_owned());
        }
        keys.insert(key, versions);
        let moved = if backward { cursor.prev() } else { cursor.next() };
        if moved.is_err() {
            assert_eq!(cursor.key(), None, "after an error the position is off the end");
        }
        moved?;
    }
    Ok(keys)
}

/// Holds every search against the contents; with `sure`, none may fail.
fn search(reader: &Arc<TableReader>, contents: &Contents, sure: bool) {
    let mut cursor = TableCursor::new(reader.clone(), Caching::Fill);
    let keys: Vec<&Vec<u8>> = contents.keys.keys().collect();
    // A few keys of a large table will do.
    let step = keys.len().div_ceil(8).max(1);
    for (key, versions) in contents.keys.iter().step_by(step) {
        for probe in [key.clone(), [key, &b"\0"[..]].concat(), key[..key.len() / 2].to_vec()] {
            let after = keys.partition_point(|key| **key < probe);
            if passed(cursor.seek(&probe), sure) {
                assert_eq!(cursor.key(), keys.get(after).map(|key| &key[..]), "seek {probe:?}");
            }
            let before = keys.partition_point(|key| **key <= probe).checked_sub(1);
            if passed(cursor.seek_for_prev(&probe), sure) {
                assert_eq!(cursor.key(), before.map(|at| &keys[at][..]), "seek_for_prev {probe:?}");
            }
            let found = reader.get(&probe, Timestamp::MAX);
            if let Some(found) = answer(found, sure) {
                assert_eq!(found.as_ref(), contents.at(&probe, Timestamp::MAX), "get {probe:?}");
            }
        }
        for version in versions.iter().step_by(versions.len().div_ceil(3)) {
            let newest = version.stamp.timestamp;
            for timestamp in [newest, newest.saturating_sub(1)] {
                if let Some(found) = answer(reader.get(key, timestamp), sure) {
                    assert_eq!(found.as_ref(), contents.at(key, timestamp), "get {key:?} at {timestamp}");
                }
                if passed(cursor.seek(key), sure) && cursor.key() == Some(key) {
                    let found = cursor.version_at(timestamp).map(|found| found.map(|version| version.to_owned()));
                    if let Some(found) = answer(found, sure) {
                        assert_eq!(found.as_ref(), contents.at(key, timestamp), "{key:?} at {timestamp}");
                    }
                }
            }
        }
    }
}

fn answer<T>(found: Result<T>, sure: bool) -> Option<T> {
    let answer = right_kind(found);
    assert!(answer.is_some() || !sure, "a verified table answers");
    answer
}

fn passed(found: Result<()>, sure: bool) -> bool {
    answer(found, sure).is_some()
}

/// Goes here and there in a table that `verify` refuses.
fn wander(reader: &Arc<TableReader>) {
    let mut cursor = TableCursor::new(reader.clone(), Caching::Fill);
    let smallest = reader.meta().smallest.to_vec();
    let keys = [b"".to_vec(), smallest.clone(), [&smallest[..], b"a"].concat(), b"\xff\xff".to_vec()];
    for (min, max) in [(0, Timestamp::MAX), (reader.meta().max_timestamp, Timestamp::MAX)] {
        cursor.set_timestamp_range(min, max);
        for key in &keys {
            right_kind(reader.get(key, max));
            right_kind(reader.get(key, reader.meta().min_timestamp));
            for turn in 0..2 {
                let sought = if turn == 0 { cursor.seek(key) } else { cursor.seek_for_prev(key) };
                if right_kind(sought).is_none() {
                    assert_eq!(cursor.key(), None, "after an error the position is off the end");
                }
                right_kind(cursor.version_at(max / 2).map(|_| ()));
                right_kind(cursor.older_version().map(|_| ()));
                right_kind(cursor.prev());
                right_kind(cursor.next());
            }
        }
    }
}
