//! S27 and S28: files that are not what was written.

use std::collections::BTreeSet;
use std::path::Path;

use strandline::fs::{PowerCut, Purpose};
use strandline::{Background, Error, Fs, MemFs};

use crate::specimen::{files, specimen};
use crate::support::{self, Dice, KEYS, Key, Model, pairs, small, small_keyspace};

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corruption { .. } => true,
        Error::Background(first) => is_damage(first),
        _ => false,
    }
}

/// Everything that can be read is right, or `Corruption`. Whether anything was found damaged.
fn read_all(image: &MemFs, model: &Model, context: &str) -> bool {
    let db = match small(image).create_if_missing(false).open("db") {
        Ok(db) => db,
        Err(error) => {
            assert!(is_damage(&error), "{context}: {error}");
            return true;
        }
    };
    assert_eq!(db.last_timestamp(), model.last, "{context}");
    let keyspace = db.keyspace_with("k", small_keyspace()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut damaged = false;
    let mut right = |found: Result<bool, Error>, what: &str| match found {
        Ok(right) => assert!(right, "{context}: a wrong answer to {what}"),
        Err(error) => {
            assert!(is_damage(&error), "{context}: {what}: {error}");
            damaged = true;
        }
    };
    for timestamp in (0..=model.last).step_by(7).chain([model.last]) {
        for key in KEYS {
            let found = keyspace.get_at(key, timestamp);
            right(found.map(|value| value.map(Vec::from) == model.get(key, timestamp)), "get");
        }
        let snapshot = db.snapshot_at(timestamp).unwrap();
        let expected = model.scan(&support::everything(), timestamp);
        let owned = |pair: Result<(strandline::Slice, strandline::Slice), Error>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        let forward: Result<Vec<(Key, Vec<u8>)>, Error> = snapshot.iter(&keyspace).map(owned).collect();
        right(forward.map(|found| found == expected), "scan");
        let backward: Result<Vec<(Key, Vec<u8>)>, Error> = snapshot.iter(&keyspace).rev().map(owned).collect();
        right(backward.map(|found| found.into_iter().rev().eq(expected)), "backward scan");
    }
    for key in KEYS {
        let told: Result<Vec<_>, Error> = keyspace.history(key, ..).and_then(Iterator::collect);
        let told = told.map(|versions| {
            let told = versions
                .into_iter()
                .map(|version| (version.timestamp, version.value.map(Vec::from), version.expires_at));
            told.collect::<Vec<_>>() == model.history(key, 0)
        });
        right(told, "history");
    }
    match db.verify() {
        Ok(_) => assert!(!damaged, "{context}: damage that was met and that verify did not see"),
        Err(error) => {
            assert!(is_damage(&error), "{context}: {error}");
            damaged = true;
        }
    }
    // A merge reads everything as well, and must carry no damage on.
    match db.compact() {
        Ok(()) => {
            let found = pairs(db.snapshot().iter(&keyspace));
            assert_eq!(found, model.scan(&support::everything(), model.last), "{context}: after a compaction");
        }
        Err(error) => assert!(is_damage(&error), "{context}: {error}"),
    }
    damaged
}

// S27
#[test]
fn a_flipped_bit_gives_the_right_answer_or_corruption() {
    let (fs, model) = specimen();
    let mut dice = Dice::new(5);
    assert!(!read_all(&fs.kill(), &model, "undamaged"));
    let kinds: BTreeSet<_> = files(&fs).iter().map(|name| name.rsplit('.').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().collect::<Vec<_>>(), ["CURRENT", "log", "manifest", "table"]);
    let (mut flips, mut noticed) = (0, 0);
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let bytes = fs.read_file(&path).unwrap();
        // About 600 places in each file, every one of the first and the last bytes among them.
        let stride = (bytes.len() / 400).max(1);
        let places = (0..bytes.len()).filter(|at| *at < 100 || *at + 100 > bytes.len() || at % stride == 0);
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << dice.below(8);
            let image = fs.kill();
            image.write_file(&path, damaged).unwrap();
            flips += 1;
            let seen = read_all(&image, &model, &format!("{name}, a bit of byte {at} of {}", bytes.len()));
            // What tables cover of the log is not read again. Everything else is, or verify reads it.
            assert!(seen || name.ends_with(".log"), "{name}: nobody has noticed byte {at}");
            noticed += u32::from(seen);
        }
    }
    assert!(flips > 1000 && noticed * 10 > flips * 8, "{noticed} of {flips} noticed");
}

// S27
#[test]
fn zeroed_ranges_and_truncated_files_give_the_right_answer_or_corruption() {
    let (fs, model) = specimen();
    let mut dice = Dice::new(6);
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let bytes = fs.read_file(&path).unwrap();
        let len = bytes.len() as u64;
        for round in 0..120 {
            let start = usize::try_from(dice.below(len)).unwrap();
            let end = if dice.one_in(2) {
                bytes.len()
            } else {
                start + usize::try_from(dice.below(len - start as u64)).unwrap()
            };
            let mut damaged = bytes.clone();
            match round % 3 {
                0 => damaged[start..end].fill(0),
                1 => damaged.truncate(start),
                _ => damaged.extend((0..dice.below(200)).map(|n| u8::try_from(n).unwrap() ^ 0x5a)),
            }
            let image = fs.kill();
            image.write_file(&path, damaged).unwrap();
            read_all(&image, &model, &format!("{name} of {len} bytes, round {round}: {start}..{end}"));
        }
    }
}

// S27, S28
#[test]
fn a_file_that_is_missing_is_an_error_and_never_a_smaller_answer() {
    let (fs, model) = specimen();
    for name in files(&fs) {
        let image = fs.kill();
        image.remove(Purpose::Directory, &Path::new("db").join(&name)).unwrap();
        let kind = name.rsplit('.').next().unwrap();
        match small(&image).create_if_missing(false).open("db") {
            // Without it there is no database, and none is made.
            Err(Error::Io { .. }) => assert!(matches!(kind, "CURRENT" | "manifest"), "{name}"),
            Err(error) => assert!(is_damage(&error), "{name}: {error}"),
            Ok(db) => {
                assert_eq!(kind, "table", "{name}: opened without it");
                let keyspace = db.keyspace("k").unwrap();
                let mut failed = 0;
                for key in KEYS {
                    match keyspace.get_at(key, 17) {
                        Ok(value) => assert_eq!(value.map(Vec::from), model.get(key, 17), "{name}"),
                        Err(Error::Io { .. } | Error::Corruption { .. }) => failed += 1,
                        Err(error) => panic!("{name}: {error}"),
                    }
                }
                assert!(
                    db.verify().is_err() && keyspace.iter().any(|pair| pair.is_err()) && failed <= KEYS.len(),
                    "{name}"
                );
            }
        }
    }
}

// S28
#[test]
fn a_missing_segment_is_an_error_not_a_shorter_replay() {
    for closed in [false, true] {
        let fs = MemFs::new();
        let db = small(&fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..600 {
            keyspace.put(format!("{n:03}"), "a value of twenty or so").unwrap();
        }
        db.sync().unwrap();
        keyspace.put("last", "").unwrap();
        db.sync().unwrap();
        let image = fs.kill();
        if closed {
            drop(keyspace);
            db.close().unwrap();
        }
        let fs = if closed { fs } else { image };
        let segments: Vec<_> = files(&fs).into_iter().filter(|name| name.ends_with(".log")).collect();
        assert!(segments.len() > 5, "{segments:?}");
        for (at, name) in segments.iter().enumerate() {
            let image = fs.kill();
            image.remove(Purpose::Log, &Path::new("db").join(name)).unwrap();
            match small(&image).open("db") {
                Err(error) => assert!(is_damage(&error), "{name}: {error}"),
                // Only what no proof speaks of may go unnoticed: the last one, if nobody had the time to prove it.
                Ok(db) => {
                    assert!(at + 1 == segments.len() && !closed, "{name} of {segments:?}, closed {closed}");
                    assert!(db.keyspace("k").unwrap().iter().count() <= 601);
                }
            }
        }
    }
}

// S28: a tail that was cut off stays cut off
#[test]
fn what_a_torn_log_has_lost_never_comes_back() {
    for seed in 0..60 {
        let fs = MemFs::new();
        let db = small(&fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..60 {
            keyspace.put(format!("{n:03}"), "of the first life").unwrap();
            if n == 20 {
                db.sync().unwrap();
            }
        }
        let mut image = fs.power_cut(seed);
        let mut expected: Option<Vec<(Key, Vec<u8>)>> = None;
        for life in 0..4 {
            let db =
                small(&image).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
            let keyspace = db.keyspace("k").unwrap();
            let found = pairs(keyspace.iter());
            assert!(found.len() >= 21);
            if let Some(expected) = expected {
                assert_eq!(found, expected, "seed {seed}, life {life}");
            }
            keyspace.put(format!("of life {life}"), "v").unwrap();
            db.sync().unwrap();
            expected = Some(pairs(keyspace.iter()));
            image = if life % 2 == 0 { image.power_cut(seed + 100) } else { image.kill() };
        }
    }
}

/// Where the last frame of a manifest begins.
fn last_frame(manifest: &[u8]) -> usize {
    let (mut last, mut at) = (0, 24);
    while let Some(len) = manifest.get(at..at + 4) {
        last = at;
        at += 13 + u32::from_le_bytes(len.try_into().unwrap()) as usize;
    }
    assert_eq!(at, manifest.len());
    last
}

/// What is in the database, or `None` if it says that it is damaged.
fn count(image: &MemFs) -> Option<usize> {
    let db = match small(image).create_if_missing(false).open("db") {
        Ok(db) => db,
        Err(error) => {
            assert!(is_damage(&error), "{error}");
            return None;
        }
    };
    let pairs: Result<Vec<_>, _> = db.keyspace("k").unwrap().iter().collect();
    pairs.inspect_err(|error| assert!(is_damage(error), "{error}")).ok().map(|pairs| pairs.len())
}

// S27, S28: the log has gone by edits that do not count any more
#[test]
fn edits_that_are_damaged_take_nothing_with_them() {
    for (flushes, closed) in [(1, false), (2, false), (5, false), (2, true)] {
        let fs = MemFs::new();
        let options = small(&fs).background(Background::Stepped).memtable_bytes(16 << 10);
        let db = options.wal_bytes(1 << 20).wal_segment_bytes(4 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let logs = || files(&fs).into_iter().filter(|name| name.ends_with(".log")).count();
        let (mut n, mut segments) = (0, 0);
        while db.metrics().flushes < flushes {
            keyspace.put(format!("{n:05}"), [7; 100]).unwrap();
            n += 1;
            segments = segments.max(logs());
            while db.metrics().flushes < flushes && db.step_background().unwrap() {}
        }
        assert!(segments > 3 && logs() < segments, "no segment was removed");
        drop(keyspace);
        if closed {
            db.close().unwrap();
        }
        for (what, image) in [("killed", fs.kill()), ("cut", fs.power_cut(PowerCut::Lose)), ("cut", fs.power_cut(7))] {
            let whole = count(&image.kill()).unwrap();
            assert!(whole > 100);
            let manifest = files(&image).into_iter().rfind(|name| name.ends_with(".manifest")).unwrap();
            let path = Path::new("db").join(manifest);
            let bytes = image.read_file(&path).unwrap();
            let last = last_frame(&bytes);
            for at in 0..bytes.len() {
                for (how, damaged) in [
                    ("cut off", bytes[..at].to_vec()),
                    ("flipped", [&bytes[..at], &[bytes[at] ^ 4], &bytes[at + 1..]].concat()),
                    ("zeroed", [&bytes[..at], &vec![0; bytes.len() - at]].concat()),
                ] {
                    let image = image.kill();
                    image.write_file(&path, damaged).unwrap();
                    let found = count(&image);
                    let context =
                        format!("{flushes} flushes, closed {closed}, {what}: {how} at {at}, the last begins at {last}");
                    assert!(found.is_none_or(|found| found == whole), "{context}: {found:?} of {whole}");
                }
            }
        }
        drop(db);
    }
}
