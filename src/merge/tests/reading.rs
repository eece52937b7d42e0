//! Every way of reading, held against the model.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use rand::RngExt;

use super::ROUNDS;
use super::source::{Data, Row, TestSource};
use super::world::{KEYS, World};
use crate::merge::{AsOfCursor, Changes, History, Lookup, MergingCursor, Scan};
use crate::version::{Stamp, StoredVersion, Version};
use crate::{Slice, Timestamp};

/// Holds everything that can be read against the model.
pub(super) fn check(world: &mut World, context: &str) {
    let times: Vec<Timestamp> = world.readable().into_iter().collect();
    for &timestamp in &times {
        // Latest reads judge expiry at the clock's now; all others at their timestamp (S7).
        let now = if timestamp >= world.last { timestamp + world.rng.random_range(0..4) } else { timestamp };
        for key in KEYS {
            let found = get(world, key, timestamp, now);
            let expected = world.get(key, timestamp, now);
            assert_eq!(found, expected, "{context}: get {} at {timestamp}", key.escape_ascii());
        }
        let cursor = |lower, upper| AsOfCursor::new(MergingCursor::new(world.cursors()), timestamp, now, lower, upper);
        let mut whole = cursor(Bound::Unbounded, Bound::Unbounded);
        whole.seek_to_first().unwrap();
        let mut found = BTreeMap::new();
        while let Some((key, value)) = whole.entry_slices() {
            assert!(found.insert(key, value).is_none(), "{context}: a key came twice at {timestamp}");
            whole.next().unwrap();
        }
        assert_eq!(found, world.scan(timestamp, now), "{context}: scan at {timestamp}");
    }
    for key in KEYS {
        let from = world.rng.random_range(0..=world.last + 1);
        let range = from..=world.rng.random_range(0..=world.last + 1);
        for times in [0..=Timestamp::MAX, range] {
            let slice = Slice::copy_of(key);
            let history = History::new(world.cursors(), slice, *times.start(), *times.end(), world.floor).unwrap();
            let found: Vec<Version> = history.map(Result::unwrap).collect();
            let expected = world.history(key, &times);
            assert_eq!(found, expected, "{context}: history of {} in {times:?}", key.escape_ascii());
        }
        let mut lookup = Lookup::new(Timestamp::MAX);
        world.data().iter().any(|data| lookup.offer(data.point(key, u64::MAX), data.covering(key, u64::MAX)));
        // S9: a conflict with a transaction that lives is found, whatever retention has let go.
        for &start in &world.snapshots {
            let conflict = world.newest(key, Timestamp::MAX).is_some_and(|newest| newest.stamp.timestamp > start);
            let found = lookup.newest().is_some_and(|newest| newest.timestamp > start);
            assert_eq!(found, conflict, "{context}: conflict on {} since {start}", key.escape_ascii());
        }
        let newest = world.history(key, &(0..=Timestamp::MAX)).first().map(|version| version.timestamp);
        assert_eq!(lookup.newest_retained(world.floor), newest, "{context}: newest of {}", key.escape_ascii());
    }
    let from = world.rng.random_range(world.floor + 1..=world.last + 1);
    let to = world.rng.random_range(world.floor + 1..=world.last + 1);
    for times in [world.floor + 1..=Timestamp::MAX - 1, from..=to] {
        let changes = Changes::new(world.cursors(), world.ranges(), *times.start(), *times.end());
        let found: Vec<_> = changes.map(Result::unwrap).collect();
        let expected = world.changes(&(*times.start()..=(*times.end()).min(world.last)));
        assert_eq!(found, expected, "{context}: changes in {times:?}");
    }
}

fn get(world: &mut World, key: &[u8], timestamp: Timestamp, now: Timestamp) -> Option<Slice> {
    let by_bounds = world.chance(50);
    let mut lookup = Lookup::new(timestamp);
    for data in world.data() {
        let (min, max) =
            data.stamps().fold((u64::MAX, 0), |(min, max), s| (min.min(s.timestamp), max.max(s.timestamp)));
        if by_bounds && !lookup.wants(min, max) {
            continue;
        }
        if lookup.offer(data.point(key, timestamp), data.covering(key, timestamp)) {
            break;
        }
    }
    lookup.finish(now).and_then(|version| version.value)
}

fn some_bound(world: &mut World) -> Bound<Slice> {
    match world.rng.random_range(0..4) {
        0 | 1 => Bound::Unbounded,
        2 => Bound::Included(world.some_key()),
        _ => Bound::Excluded(world.some_key()),
    }
}

fn within(scan: BTreeMap<Slice, Slice>, lower: &Bound<Slice>, upper: &Bound<Slice>) -> Vec<(Slice, Slice)> {
    let above = |key: &Slice| match lower {
        Bound::Unbounded => true,
        Bound::Included(bound) => key >= bound,
        Bound::Excluded(bound) => key > bound,
    };
    let below = |key: &Slice| match upper {
        Bound::Unbounded => true,
        Bound::Included(bound) => key <= bound,
        Bound::Excluded(bound) => key < bound,
    };
    scan.into_iter().filter(|(key, _)| above(key) && below(key)).collect()
}

// S2: a cursor that is sent to and fro at random.
fn walk(world: &mut World, context: &str) {
    let timestamp = world.rng.random_range(0..=world.last + 1);
    let (lower, upper) = (some_bound(world), some_bound(world));
    let live = within(world.scan(timestamp, timestamp), &lower, &upper);
    let keys = MergingCursor::new(world.cursors());
    let mut cursor = AsOfCursor::new(keys, timestamp, timestamp, lower.clone(), upper.clone());
    let mut at: Option<usize> = None;
    let mut steps = Vec::new();
    for _ in 0..60 {
        let key = world.some_key();
        let step = world.rng.random_range(0..14);
        steps.push((step, key.clone()));
        match step {
            0 => (cursor.seek_to_first().unwrap(), at = (!live.is_empty()).then_some(0)).1,
            1 => (cursor.seek_to_last().unwrap(), at = live.len().checked_sub(1)).1,
            2 | 3 => {
                cursor.seek(&key).unwrap();
                at = live.iter().position(|(k, _)| *k >= key);
            }
            4 | 5 => {
                cursor.seek_for_prev(&key).unwrap();
                at = live.iter().rposition(|(k, _)| *k <= key);
            }
            6..=9 => {
                cursor.next().unwrap();
                at = at.map(|at| at + 1).filter(|&at| at < live.len());
            }
            _ => {
                cursor.prev().unwrap();
                at = at.and_then(|at| at.checked_sub(1));
            }
        }
        let expected = at.map(|at| live[at].clone());
        assert_eq!(cursor.entry_slices(), expected, "{context}: {lower:?} {upper:?} at {timestamp}: {steps:?}");
    }
}

// S2: an iterator drained from both ends in any order.
fn drain(world: &mut World, context: &str) {
    let timestamp = world.rng.random_range(0..=world.last + 1);
    let (lower, upper) = (some_bound(world), some_bound(world));
    let mut live = std::collections::VecDeque::from(within(world.scan(timestamp, timestamp), &lower, &upper));
    let make = || Ok(MergingCursor::new(world.cursors()));
    let mut scan = Scan::new(make, timestamp, timestamp, lower, upper);
    let turns: u32 = u32::from_be_bytes(timestamp.to_be_bytes()[4..].try_into().unwrap()).wrapping_mul(0x9e37_79b9);
    for turn in 0..live.len() + 3 {
        let (found, expected) = if turns >> (turn % 32) & 1 == 0 {
            (scan.next_front(), live.pop_front())
        } else {
            (scan.next_back(), live.pop_back())
        };
        assert_eq!(found.transpose().unwrap(), expected, "{context}: turn {turn}");
    }
}

// S1 S2 S3 S7
#[test]
fn all_reads_agree_with_the_model() {
    for seed in 0..ROUNDS {
        for late_commits in [false, true] {
            let context = format!("seed {seed}, late commits {late_commits}");
            let mut world = World::new(seed, late_commits);
            for _ in 0..40 {
                world.commit();
                if world.chance(15) {
                    world.seal();
                }
            }
            check(&mut world, &context);
            for _ in 0..30 {
                walk(&mut world, &context);
                drain(&mut world, &context);
            }
            // Over a floor, nothing dropped yet: history and the newest version are those over the floor all the same.
            world.raise_floor();
            check(&mut world, &context);
        }
    }
}

#[test]
fn a_key_that_shows_up_during_a_walk_is_not_given_twice() {
    let version = StoredVersion {
        stamp: Stamp { timestamp: 1, sequence: 1, late: false },
        value: Some(Slice::empty()),
        expires_at: None,
    };
    let rows = |keys: &[(&str, bool)]| {
        let row = |&(key, ghost): &(&str, bool)| Row {
            key: Slice::copy_of(key.as_bytes()),
            versions: if ghost { Vec::new() } else { vec![version.clone()] },
        };
        Arc::new(Data { rows: keys.iter().map(row).collect(), ranges: Vec::new() })
    };
    for ghosts_of in [&[("a", false), ("b", true), ("c", true), ("d", false)][..], &[("a", false), ("b", true)]] {
        let shown = Rc::new(Cell::new(false));
        let mut growing = TestSource::new(rows(ghosts_of));
        growing.ghosts = Rc::clone(&shown);
        let other = TestSource::new(rows(&[("a", false), ("b", false), ("d", false)]));
        let mut cursor = MergingCursor::new(vec![growing, other]);
        cursor.seek(b"b").unwrap();
        assert_eq!(cursor.key(), Some(&b"b"[..]));
        shown.set(true);
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), Some(&b"a"[..]));
        cursor.next().unwrap();
        assert_eq!(cursor.key(), Some(&b"b"[..]));
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), Some(&b"a"[..]));
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), None);
    }
}
