//! Who reads: in every way there is, each answer whole, stable, and noted for the record.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rand::RngExt;
use strandline::{Change, Iter, Keyspace, Slice, Snapshot, Timestamp};

use super::writers::TOTAL;
use super::{KEYS, Shared, key, keys};
use crate::random::Random;

/// The one value that stands under all keys; inner `None`: under none of them. Outer `None`: a fault was met.
type State = Option<Option<String>>;

/// The state that some values show.
fn whole(what: &str, values: &[Option<Slice>]) -> Option<String> {
    let first = values.first().cloned().flatten();
    assert!(values.len() == KEYS && values.iter().all(|value| *value == first), "half a batch, {what}: {values:?}");
    first.map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn of_iter(shared: &Shared, what: &str, iter: impl Iterator<Item = strandline::Result<(Slice, Slice)>>) -> State {
    let values: Option<Vec<_>> = iter.map(|pair| shared.allow(pair).map(|(_, value)| Some(value))).collect();
    let values = values?;
    Some(if values.is_empty() { None } else { whole(what, &values) })
}

/// The state of one keyspace in a snapshot, read in one of many ways, each of which is one state.
fn of_snapshot(shared: &Shared, snapshot: &Snapshot, keyspace: &Keyspace, random: &mut Random) -> State {
    match random.random_range(0..4) {
        0 => Some(whole("multi_get", &shared.allow(snapshot.multi_get(keyspace, keys()))?)),
        1 => of_iter(shared, "prefix", snapshot.prefix(keyspace, "key")),
        2 => of_iter(shared, "range, backward", snapshot.range(keyspace, key(0)..key(KEYS)).rev()),
        _ => {
            let mut cursor = snapshot.cursor(keyspace);
            shared.allow(cursor.seek("key"))?;
            let mut values = Vec::new();
            while let Some((found, value)) = cursor.entry().filter(|(found, _)| found.starts_with(b"key")) {
                let (found, value) = (found.to_vec(), Slice::from(value));
                // Back and forth again, now and then.
                if random.random_range(0..4) == 0 && !values.is_empty() {
                    shared.allow(cursor.prev())?;
                    shared.allow(cursor.next())?;
                    assert_eq!(cursor.entry().map(|(key, _)| key.to_vec()), Some(found), "a cursor that turned");
                }
                values.push(Some(value));
                shared.allow(cursor.next())?;
            }
            Some(if values.is_empty() { None } else { whole("cursor", &values) })
        }
    }
}

/// What a snapshot shows in both keyspaces. Where commits may be late one may come between them.
fn of_both(shared: &Shared, snapshot: &Snapshot, random: &mut Random) -> State {
    let at = snapshot.timestamp();
    let mut both = Vec::new();
    for keyspace in &shared.pair {
        let known = shared.record.known(at);
        let state = of_snapshot(shared, snapshot, keyspace, random)?;
        shared.record.saw("a snapshot", Some(at), known, state.clone());
        both.push(state);
    }
    assert!(shared.setting.late || both[0] == both[1], "half a batch, at {at}: {both:?}");
    both.pop()
}

/// The sum over all accounts at a timestamp. No move is ever late.
fn check_sum(shared: &Shared, snapshot: &Snapshot) -> Option<()> {
    let mut sum = 0;
    for keyspace in &shared.pair {
        for pair in snapshot.prefix(keyspace, "acct") {
            let (_, value) = shared.allow(pair)?;
            sum += String::from_utf8_lossy(&value).parse::<i64>().unwrap();
        }
    }
    assert_eq!(sum, TOTAL, "the sum at {}", snapshot.timestamp());
    Some(())
}

pub(super) fn read(shared: &Shared, mut random: Random, _: u64) {
    let mut last = 0;
    while shared.going() {
        let keyspace = &shared.pair[random.random_range(0..2)];
        let done = match random.random_range(0..8) {
            0 | 1 => snapshots(shared, &mut random, &mut last),
            2 => latest(shared, keyspace, &mut random),
            3 => as_of(shared, keyspace, &mut random),
            4 => history(shared, keyspace, &mut random),
            5 => changes(shared, keyspace, &mut random),
            6 => old_snapshot(shared, &mut random),
            _ => check_sum(shared, &shared.db.snapshot()),
        };
        shared.reads.fetch_add(u64::from(done.is_some()), Ordering::Relaxed);
    }
}

fn snapshots(shared: &Shared, random: &mut Random, last: &mut Timestamp) -> Option<()> {
    let snapshot = shared.db.snapshot();
    assert!(snapshot.timestamp() >= *last, "time runs backwards");
    *last = snapshot.timestamp();
    let first = of_both(shared, &snapshot, random)?;
    let again = of_both(shared, &snapshot, random)?;
    assert!(shared.setting.late || again == first, "the snapshot at {last} has changed: {first:?}, {again:?}");
    Some(())
}

fn latest(shared: &Shared, keyspace: &Keyspace, random: &mut Random) -> Option<()> {
    let known = shared.record.known(Timestamp::MAX);
    let state = match random.random_range(0..3) {
        0 => whole("latest multi_get", &shared.allow(keyspace.multi_get(keys()))?),
        1 => of_iter(shared, "latest iterator", keyspace.prefix("key"))?,
        _ => shared.allow(keyspace.get(key(3)))?.map(|value| String::from_utf8_lossy(&value).into_owned()),
    };
    shared.record.saw("a latest read", None, known, state);
    Some(())
}

/// A timestamp between the floor and now.
fn some_time(shared: &Shared, keyspace: &Keyspace, random: &mut Random) -> Timestamp {
    let (floor, last) = (keyspace.retained_from(), shared.db.last_timestamp());
    let near = last.saturating_sub(random.random_range(0..100));
    if random.random() { near.max(floor).max(1) } else { random.random_range(floor.max(1)..=last.max(floor).max(1)) }
}

fn as_of(shared: &Shared, keyspace: &Keyspace, random: &mut Random) -> Option<()> {
    let at = some_time(shared, keyspace, random);
    let known = shared.record.known(at);
    let found = shared.allow_retained(at, keyspace.get_at(key(random.random_range(0..KEYS)), at))?;
    let value = found.map(|value| String::from_utf8_lossy(&value).into_owned());
    shared.record.saw("get_at", Some(at), known, value);
    Some(())
}

fn history(shared: &Shared, keyspace: &Keyspace, random: &mut Random) -> Option<()> {
    let committed = shared.record.above(keyspace.retained_from());
    let history = shared.allow(keyspace.history(key(random.random_range(0..KEYS)), ..))?;
    let versions: Option<Vec<_>> = history.map(|version| shared.allow(version)).collect();
    let versions = versions?;
    assert!(versions.windows(2).all(|two| two[0].timestamp > two[1].timestamp), "a history out of order");
    let found: BTreeMap<_, _> = versions.into_iter().map(|version| (version.timestamp, version.value)).collect();
    // The floor may have risen since.
    let floor = keyspace.retained_from();
    for (at, value) in committed.range(floor + 1..) {
        let there = found.get(at).and_then(Option::as_deref);
        assert_eq!(there, Some(value.as_bytes()), "{at} of a history over the floor {floor}");
    }
    Some(())
}

fn changes(shared: &Shared, keyspace: &Keyspace, random: &mut Random) -> Option<()> {
    let from = some_time(shared, keyspace, random) + 1;
    let floor = keyspace.retained_from();
    let committed = shared.record.above(from - 1);
    let changes = shared.allow_retained(from, keyspace.changes(from..))?;
    let mut found: BTreeMap<Timestamp, Vec<Option<Slice>>> = BTreeMap::new();
    for change in changes {
        if let Change::Put { key, timestamp, value, .. } = shared.allow(change)?
            && key.starts_with(b"key")
        {
            found.entry(timestamp).or_default().push(Some(value));
        }
    }
    let found: BTreeMap<_, _> =
        found.into_iter().map(|(at, values)| (at, whole("changes", &values).unwrap_or_default())).collect();
    let lost: Vec<_> = committed.iter().filter(|(at, value)| found.get(at) != Some(value)).collect();
    assert!(lost.is_empty(), "changes from {from}, over the floor {floor}, lack {lost:?}, have {found:?}");
    Some(())
}

fn old_snapshot(shared: &Shared, random: &mut Random) -> Option<()> {
    let at = some_time(shared, &shared.pair[random.random_range(0..2)], random);
    let snapshot = shared.allow_retained(at, shared.db.snapshot_at(at))?;
    let keyspace = &shared.pair[random.random_range(0..2)];
    // A keyspace whose floor had passed it already refuses.
    shared.allow_retained(at, snapshot.get(keyspace, key(0)))?;
    let known = shared.record.known(at);
    let state = of_snapshot(shared, &snapshot, keyspace, random)?;
    shared.record.saw("an old snapshot", Some(at), known, state);
    Some(())
}

/// Holds on to snapshots and half-consumed iterators for long.
pub(super) fn hold(shared: &Shared, mut random: Random, _: u64) {
    let mut snapshots: Vec<(Snapshot, Option<String>)> = Vec::new();
    let mut iters: Vec<(Iter, Slice)> = Vec::new();
    while shared.going() {
        let snapshot = shared.db.snapshot();
        if let Some(state) = of_both(shared, &snapshot, &mut random) {
            snapshots.push((snapshot, state));
        }
        let mut iter = shared.pair[random.random_range(0..2)].prefix("key");
        if let Some((_, value)) = iter.next().and_then(|pair| shared.allow(pair)) {
            iters.push((iter, value));
        }
        thread::sleep(Duration::from_millis(random.random_range(0..10)));
        if snapshots.len() > 5 {
            let (snapshot, before) = snapshots.swap_remove(random.random_range(0..snapshots.len()));
            let now = of_both(shared, &snapshot, &mut random);
            let same = now.is_none_or(|now| now == before);
            assert!(same || shared.setting.late, "the snapshot at {} has changed", snapshot.timestamp());
            check_sum(shared, &snapshot);
        }
        if iters.len() > 5 {
            let (iter, value) = iters.swap_remove(random.random_range(0..iters.len()));
            let rest: Option<Vec<_>> = iter.map(|pair| shared.allow(pair)).collect();
            if let Some(rest) = rest {
                assert_eq!(rest.len(), KEYS - 1, "an iterator has lost its place");
                assert!(rest.iter().all(|(_, other)| *other == value), "an iterator has changed");
            }
        }
        shared.reads.fetch_add(1, Ordering::Relaxed);
    }
}
