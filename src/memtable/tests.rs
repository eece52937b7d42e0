use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::Slice;
use crate::version::{KeyCursor, VersionRef, fragment};

type Value = Option<&'static [u8]>;

/// So many, and fewer under an interpreter.
const fn many(count: u64) -> u64 {
    if cfg!(miri) { count.div_ceil(50) } else { count }
}

fn stamp(timestamp: Timestamp, sequence: Sequence) -> Stamp {
    Stamp { timestamp, sequence, late: false }
}

fn put(memtable: &Memtable, key: &str, stamp: Stamp, value: Value) {
    memtable.insert(key.as_bytes(), stamp, value, None, Bytes::copy_from_slice);
}

/// The same versions as a plain list.
#[derive(Default)]
struct Model {
    points: Vec<(Vec<u8>, StoredVersion)>,
    ranges: Vec<RangeTombstone>,
}

impl Model {
    /// What is visible, newest first.
    fn versions(&self, visible: Sequence) -> BTreeMap<Vec<u8>, Vec<StoredVersion>> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, version) in self.points.iter().filter(|(_, version)| version.stamp.sequence <= visible) {
            keys.entry(key.clone()).or_default().push(version.clone());
        }
        for versions in keys.values_mut() {
            versions.sort_by_key(|v| std::cmp::Reverse((v.stamp.timestamp, v.stamp.sequence)));
        }
        keys
    }

    fn seen(&self, visible: Sequence) -> RangeTombstones {
        let seen: Vec<_> = self.ranges.iter().filter(|range| range.stamp.sequence <= visible).cloned().collect();
        fragment(&seen)
    }
}

/// Keys that are prefixes of each other, and neighbours of those.
fn some_key(rng: &mut StdRng) -> Vec<u8> {
    let len = rng.random_range(0..4);
    (0..len).map(|_| *[0, b'a', b'b', 0xff].get(rng.random_range(0..4usize)).unwrap()).collect()
}

fn some_version(rng: &mut StdRng, sequence: Sequence) -> StoredVersion {
    let stamp = Stamp { timestamp: rng.random_range(1..40), sequence, late: rng.random_bool(0.3) };
    let value = rng.random_bool(0.8).then(|| Slice::from(vec![b'v'; rng.random_range(0..60)]));
    StoredVersion { stamp, value, expires_at: rng.random_bool(0.2).then(|| rng.random_range(0..100)) }
}

fn some_range(rng: &mut StdRng, sequence: Sequence) -> RangeTombstone {
    let end = rng.random_bool(0.9).then(|| Slice::from(some_key(rng)));
    RangeTombstone { start: some_key(rng).into(), end, stamp: some_version(rng, sequence).stamp }
}

fn some_memtable(rng: &mut StdRng, points: u64, ranges: u64) -> (Arc<Memtable>, Model) {
    let (memtable, mut model) = (Arc::new(Memtable::new()), Model::default());
    for sequence in 1..=points + ranges {
        if rng.random_range(0..points + ranges) < ranges {
            let range = some_range(rng, sequence);
            memtable.insert_range(range.clone());
            model.ranges.push(range);
        } else {
            let (key, version) = (some_key(rng), some_version(rng, sequence));
            let value = version.value.as_deref();
            memtable.insert(&key, version.stamp, value, version.expires_at, Bytes::copy_from_slice);
            model.points.push((key, version));
        }
    }
    (memtable, model)
}

/// A value that is read is a part of what it says it is a part of.
fn owned(version: VersionRef<'_>) -> StoredVersion {
    if let Some(value) = version.value {
        assert!(value.owner.is_none_or(|owner| owner.as_ptr_range() == value.bytes.as_ptr_range()));
    }
    version.to_owned()
}

fn older_versions(cursor: &mut MemtableCursor, timestamp: Timestamp) -> Vec<StoredVersion> {
    let mut versions: Vec<_> = cursor.version_at(timestamp).unwrap().map(owned).into_iter().collect();
    while let Some(version) = cursor.older_version().unwrap() {
        versions.push(owned(version));
    }
    assert!(cursor.older_version().unwrap().is_none());
    versions
}

// S1, S2
#[test]
fn gets_agree_with_a_model() {
    for seed in 0..many(40) {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let points = if cfg!(miri) { 40 } else { 200 };
        let (memtable, model) = some_memtable(rng, points, 0);
        assert_eq!(memtable.len() as u64, points);
        for _ in 0..if cfg!(miri) { 20 } else { 200 } {
            let (key, timestamp, visible) = (some_key(rng), rng.random_range(0..42), rng.random_range(0..220));
            let versions = model.versions(visible);
            let expected = versions.get(&key).and_then(|all| all.iter().find(|v| v.stamp.timestamp <= timestamp));
            assert_eq!(memtable.get(&key, timestamp, visible).as_ref(), expected);

            let all = model.versions(Sequence::MAX);
            let any = all.get(&key).is_some_and(|all| all.iter().any(|v| v.stamp.timestamp <= timestamp));
            assert_eq!(memtable.may_hold(&key, timestamp), any);
            let end = rng.random_bool(0.9).then(|| some_key(rng));
            let within = all.keys().any(|k| *k >= key && end.as_ref().is_none_or(|end| k < end));
            assert_eq!(memtable.any_key_in(&key, end.as_deref()), within);
        }
    }
}

// S1, S2: a cursor goes anywhere and turns anywhere, and sees what the model sees.
#[test]
fn cursors_agree_with_a_model_in_both_directions() {
    for seed in 0..many(150) {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let points = if seed % 3 == 0 || cfg!(miri) { 20 } else { 600 };
        let (memtable, model) = some_memtable(rng, points, 0);
        let visible = rng.random_range(0..=points);
        let versions = model.versions(visible);
        let keys: Vec<&Vec<u8>> = versions.keys().collect();
        let mut cursor = memtable.cursor(visible);
        assert_eq!(cursor.key(), None);
        cursor.next().unwrap();
        assert_eq!(cursor.key(), None);
        let mut forward = true;
        for _ in 0..400 {
            let from = cursor.key().map(<[u8]>::to_vec);
            let (expected, onward): (Option<usize>, bool) = match rng.random_range(0..20) {
                0 => {
                    cursor.seek_to_first().unwrap();
                    (Some(0), true)
                }
                1 => {
                    cursor.seek_to_last().unwrap();
                    (keys.len().checked_sub(1), false)
                }
                2 => {
                    let key = some_key(rng);
                    cursor.seek(&key).unwrap();
                    (Some(keys.partition_point(|k| **k < key)), true)
                }
                3 => {
                    let key = some_key(rng);
                    cursor.seek_for_prev(&key).unwrap();
                    (keys.partition_point(|k| **k <= key).checked_sub(1), false)
                }
                turn => {
                    forward ^= turn == 4;
                    if forward {
                        cursor.next().unwrap();
                        (from.map(|from| keys.partition_point(|k| **k <= from)), true)
                    } else {
                        cursor.prev().unwrap();
                        (from.and_then(|from| keys.partition_point(|k| **k < from).checked_sub(1)), false)
                    }
                }
            };
            // Keys of which nothing is visible may be shown; past them is what the model says.
            while let Some(key) = cursor.key().filter(|key| !versions.contains_key(*key)) {
                assert!(model.points.iter().any(|(k, _)| k == key));
                assert_eq!(older_versions(&mut cursor, 100), []);
                if onward { cursor.next().unwrap() } else { cursor.prev().unwrap() }
            }
            let expected = expected.and_then(|at| keys.get(at)).map(|key| key.as_slice());
            assert_eq!(cursor.key(), expected);
            if let Some(all) = expected.map(|key| &versions[key]) {
                for _ in 0..rng.random_range(0..3) {
                    let timestamp = rng.random_range(0..42);
                    let below: Vec<_> = all.iter().filter(|v| v.stamp.timestamp <= timestamp).cloned().collect();
                    assert_eq!(older_versions(&mut cursor, timestamp), below);
                }
            } else {
                assert!(cursor.version_at(100).unwrap().is_none() && cursor.older_version().unwrap().is_none());
            }
        }
    }
}

// S2: what was committed after the view hides nothing, however much it is.
#[test]
fn many_invisible_versions_and_keys_hide_nothing() {
    let memtable = Arc::new(Memtable::new());
    for i in 0..1000 {
        put(&memtable, &format!("{i:04}"), stamp(500, 10_000 + i), Some(b"later"));
    }
    for i in 0..100 {
        put(&memtable, "0500", stamp(1000 + i, 20_000 + i), Some(b"later"));
        put(&memtable, "0600", stamp(1000 + i, 20_100 + i), Some(b"later"));
    }
    put(&memtable, "0500", stamp(7, 7), Some(b"earlier"));
    put(&memtable, "0990", stamp(8, 8), None);
    let mut cursor = memtable.cursor(9);
    let mut seen = Vec::new();
    for forward in [true, false] {
        if forward {
            cursor.seek_to_first().unwrap()
        } else {
            cursor.seek_to_last().unwrap()
        }
        while let Some(key) = cursor.key().map(<[u8]>::to_vec) {
            if let Some(version) = cursor.version_at(2000).unwrap() {
                seen.push((String::from_utf8(key).unwrap(), version.stamp.timestamp));
                assert!(cursor.older_version().unwrap().is_none());
            }
            if forward { cursor.next().unwrap() } else { cursor.prev().unwrap() }
        }
    }
    let both = [("0500".into(), 7), ("0990".into(), 8)];
    assert_eq!(seen, [both[0].clone(), both[1].clone(), both[1].clone(), both[0].clone()]);
    assert_eq!(memtable.get(b"0500", 2000, 9).unwrap().stamp, stamp(7, 7));
}

#[test]
fn a_key_with_very_many_versions_is_walked_and_searched() {
    let memtable = Arc::new(Memtable::new());
    let many = many(100_000);
    for i in 1..=many {
        put(&memtable, "counter", stamp(2 * i, i), Some(b"x"));
    }
    put(&memtable, "after", stamp(1, many + 1), Some(b"y"));
    put(&memtable, "zafter", stamp(1, many + 2), Some(b"z"));
    let mut cursor = memtable.cursor(Sequence::MAX);
    cursor.seek(b"b").unwrap();
    assert_eq!(cursor.version_at(Timestamp::MAX).unwrap().unwrap().stamp.timestamp, 2 * many);
    for i in (1..many).rev() {
        assert_eq!(cursor.older_version().unwrap().unwrap().stamp.timestamp, 2 * i);
    }
    assert!(cursor.older_version().unwrap().is_none());
    for timestamp in [2, 3, many, 2 * many - 1] {
        assert_eq!(cursor.version_at(timestamp).unwrap().unwrap().stamp.timestamp, timestamp / 2 * 2);
    }
    assert!(cursor.version_at(1).unwrap().is_none());
    for _ in 0..if cfg!(miri) { 10 } else { 1000 } {
        cursor.next().unwrap();
        assert_eq!(cursor.key(), Some(&b"zafter"[..]));
        cursor.seek_for_prev(b"zafter").unwrap();
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), Some(&b"counter"[..]));
    }
}

// S3
#[test]
fn an_empty_value_is_neither_absent_nor_a_tombstone() {
    let memtable = Arc::new(Memtable::new());
    put(&memtable, "", stamp(1, 1), Some(b""));
    put(&memtable, "a", stamp(1, 2), None);
    assert_eq!(memtable.get(b"", 1, 9).unwrap().value.as_deref(), Some(&b""[..]));
    assert_eq!(memtable.get(b"a", 1, 9).unwrap().value, None);
    assert_eq!(memtable.get(b"a\0", 1, 9), None);
    let mut cursor = memtable.cursor(9);
    cursor.seek_to_first().unwrap();
    assert_eq!(cursor.key(), Some(&b""[..]));
    assert_eq!(cursor.version_at(1).unwrap().unwrap().value.unwrap().bytes, b"");
    cursor.next().unwrap();
    assert!(cursor.version_at(1).unwrap().unwrap().value.is_none());
}

// T1: of equal (key, timestamp) the one that arrived later counts, as far as it is visible.
#[test]
fn of_equal_timestamps_the_later_arrival_counts() {
    let memtable = Arc::new(Memtable::new());
    for sequence in 1..=20 {
        put(&memtable, "k", stamp(5, sequence), Some(b"v"));
    }
    for visible in 1..=20 {
        assert_eq!(memtable.get(b"k", 5, visible).unwrap().stamp.sequence, visible);
        let mut cursor = memtable.cursor(visible);
        cursor.seek_to_first().unwrap();
        let order: Vec<_> = older_versions(&mut cursor, 5).iter().map(|v| v.stamp.sequence).collect();
        assert_eq!(order, (1..=visible).rev().collect::<Vec<_>>());
    }
}

#[test]
fn range_tombstones_agree_with_brute_force() {
    for seed in 0..many(150) {
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let ranges = rng.random_range(1..40);
        let (memtable, model) = some_memtable(rng, 5, ranges);
        for _ in 0..10 {
            let visible = rng.random_range(0..60);
            let seen = model.seen(visible);
            let mut cursor = memtable.cursor(visible);
            for _ in 0..40 {
                let (key, timestamp) = (some_key(rng), rng.random_range(0..42));
                let expected = seen.covering(&key, timestamp);
                assert_eq!(memtable.covering(&key, timestamp, visible), expected);
                assert_eq!(cursor.covering(&key, timestamp).unwrap(), expected);
                assert_eq!(memtable.range_tombstones(visible).covering(&key, timestamp), expected);
            }
            let fragments = memtable.range_tombstones(visible);
            for pair in fragments.fragments().windows(2) {
                assert!(pair[0].end.as_ref().is_some_and(|end| *end <= pair[1].start));
            }
            for piece in fragments.fragments() {
                assert!(piece.end.as_ref().is_none_or(|end| piece.start < *end));
                assert!(piece.stamps.windows(2).all(|pair| pair[0].timestamp > pair[1].timestamp));
                assert!(piece.stamps.iter().all(|stamp| stamp.sequence <= visible));
            }
        }
    }
}

#[test]
fn a_cursor_keeps_to_its_view_of_range_tombstones_while_others_come() {
    let memtable = Arc::new(Memtable::new());
    let range = |start: &str, end: &str, at| RangeTombstone {
        start: start.as_bytes().into(),
        end: Some(end.as_bytes().into()),
        stamp: stamp(at, at),
    };
    let mut early = memtable.cursor(0);
    assert_eq!(early.covering(b"c", 9).unwrap(), None);
    memtable.insert_range(range("b", "y", 1));
    let mut cursor = memtable.cursor(1);
    assert_eq!(cursor.covering(b"c", 9).unwrap(), Some(stamp(1, 1)));
    memtable.insert_range(range("a", "d", 2));
    memtable.insert_range(range("c", "z", 3));
    for (key, expected) in [("a", None), ("b", Some(1)), ("c", Some(1)), ("d", Some(1)), ("y", None), ("z", None)] {
        assert_eq!(cursor.covering(key.as_bytes(), 9).unwrap(), expected.map(|at| stamp(at, at)), "{key}");
        assert_eq!(early.covering(key.as_bytes(), 9).unwrap(), None);
    }
    assert_eq!(memtable.covering(b"c", 9, 9), Some(stamp(3, 3)));
    assert_eq!(memtable.covering(b"c", 2, 9), Some(stamp(2, 2)));
}

#[test]
fn totals_count_points_and_range_tombstones() {
    let memtable = Memtable::new();
    assert_eq!((memtable.is_empty(), memtable.len(), memtable.bytes(), memtable.late()), (true, 0, 0, false));
    assert_eq!((memtable.min_timestamp(), memtable.max_timestamp()), (Timestamp::MAX, 0));
    let range = |start: &str, at, late| RangeTombstone {
        start: start.as_bytes().into(),
        end: Some(Slice::copy_of(b"m")),
        stamp: Stamp { timestamp: at, sequence: at, late },
    };
    memtable.insert_range(range("z", 1, true));
    assert!(memtable.is_empty() && memtable.bytes() == 0 && !memtable.late(), "an inverted range is none");

    memtable.insert_range(range("c", 7, false));
    assert_eq!((memtable.is_empty(), memtable.len()), (false, 0));
    assert_eq!((memtable.min_timestamp(), memtable.max_timestamp()), (7, 7));
    let before = memtable.bytes();
    put(&memtable, "key", stamp(3, 8), Some(b"value"));
    assert!((before + 8..before + 8 + 200).contains(&memtable.bytes()));
    assert_eq!((memtable.min_timestamp(), memtable.max_timestamp(), memtable.late()), (3, 7, false));
    memtable.insert_range(range("d", 9, true));
    assert_eq!((memtable.min_timestamp(), memtable.max_timestamp(), memtable.late()), (3, 9, true));
    // Range deletes within each other cost for every piece that they cover.
    let (before, depth) = (memtable.bytes(), 200u64);
    for i in 0..depth {
        memtable.insert_range(range(&format!("e{i:03}"), 10 + i, false));
    }
    assert!(memtable.bytes() - before > 200 * 200 / 2 * size_of::<Stamp>());
}

// V1: what is above the visible sequence is never seen, and what is visible never changes, while others insert.
#[test]
fn readers_at_a_fixed_sequence_see_the_same_while_others_insert() {
    const KEYS: u64 = if cfg!(miri) { 30 } else { 300 };
    const ENTRIES: u64 = many(20_000);
    let memtable = Arc::new(Memtable::new());
    let name = |i: u64| Bytes::from(format!("key{i:05}"));
    for i in 0..KEYS {
        memtable.insert(&name(3 * i), stamp(10 + i, i), Some(&name(i)), None, Bytes::copy_from_slice);
    }
    let check = |cursor: &mut MemtableCursor, forward: bool| {
        let mut seen = Vec::new();
        if forward {
            cursor.seek_to_first().unwrap()
        } else {
            cursor.seek_to_last().unwrap()
        }
        while let Some(key) = cursor.key().map(Bytes::copy_from_slice) {
            for version in older_versions(cursor, Timestamp::MAX) {
                assert!(version.stamp.sequence < KEYS);
                assert_eq!(cursor.covering(&key, Timestamp::MAX).unwrap(), None);
                seen.push((key.clone(), version.stamp.timestamp));
            }
            if forward { cursor.next().unwrap() } else { cursor.prev().unwrap() }
        }
        if !forward {
            seen.reverse();
        }
        assert_eq!(seen, (0..KEYS).map(|i| (name(3 * i), 10 + i)).collect::<Vec<_>>());
    };
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let memtable = &memtable;
            scope.spawn(move || {
                let rng = &mut StdRng::seed_from_u64(writer);
                for i in 0..ENTRIES {
                    let sequence = KEYS + 2 * i + writer;
                    let key = name(rng.random_range(0..3 * KEYS));
                    let stamp_of = stamp(rng.random_range(1..1000), sequence);
                    memtable.insert(&key, stamp_of, None, None, Bytes::copy_from_slice);
                    if i % 500 == 0 {
                        let end = Some(Slice::copy_of(&name(3 * KEYS)));
                        let stamp = stamp(2000, sequence);
                        memtable.insert_range(RangeTombstone { start: Slice::copy_of(&key), end, stamp });
                    }
                }
            });
        }
        for reader in 0..2 {
            let (memtable, check) = (&memtable, &check);
            scope.spawn(move || {
                let mut cursor = memtable.cursor(KEYS - 1);
                for round in 0..many(30) {
                    check(&mut cursor, (round + reader) % 2 == 0);
                    for i in 0..KEYS {
                        let found = memtable.get(&name(3 * i), Timestamp::MAX, KEYS - 1).unwrap();
                        assert_eq!(found.stamp, stamp(10 + i, i));
                        assert_eq!(memtable.get(&name(3 * i + 1), Timestamp::MAX, KEYS - 1), None);
                    }
                }
            });
        }
    });
    assert_eq!(memtable.len(), usize::try_from(KEYS + 2 * ENTRIES).unwrap());
    check(&mut memtable.cursor(KEYS - 1), true);
    let all: BTreeSet<_> = (0..3 * KEYS).map(name).collect();
    let mut cursor = memtable.cursor(Sequence::MAX);
    cursor.seek_to_first().unwrap();
    let mut entries = 0;
    while let Some(key) = cursor.key() {
        assert!(all.contains(key));
        entries += older_versions(&mut cursor, Timestamp::MAX).len();
        cursor.next().unwrap();
    }
    assert_eq!(entries, memtable.len());
}

#[test]
fn a_cursor_outlives_its_memtables_other_owners_and_travels() {
    fn travels<T: Send + 'static>(_: &T) {}
    let memtable = Arc::new(Memtable::new());
    put(&memtable, "k", stamp(1, 1), Some(b"v"));
    let mut cursor = memtable.cursor(1);
    travels(&cursor);
    drop(memtable);
    cursor.seek(b"").unwrap();
    assert_eq!(cursor.key(), Some(&b"k"[..]));
}
