//! Reads of a keyspace as it is now, or as it was, held against the model.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use rand::RngExt;
use strandline::{Change, Db, Error, Iter, Keyspace, Result, Slice, Timestamp};

use super::fault::is_failure;
use super::model::{Key, Keys, Model, Pairs, Version, union};
use super::runner::Runner;
use super::settings::{chance, pick, shown};
use crate::random::Random;

impl Runner {
    pub fn read(&mut self) {
        self.try_read().unwrap();
    }

    /// The same on a device that may fail: what is read is right all the same.
    pub fn try_read(&mut self) -> Result<()> {
        let (space, key) = (self.some_space(), self.some_key());
        let floor = self.floor(space);
        let timestamp = self.some_timestamp(floor);
        let what = self.random.random_range(0..9);
        self.log.add(format!("read {what} of {space}, {} at {timestamp}, floor {floor}", shown(&key)));
        match what {
            0 => self.read_newest(space, &key),
            1 | 2 => self.read_at(space, &key, floor, timestamp),
            3 => self.read_several(space),
            4 => self.read_versions(space, &key, floor, timestamp),
            5 => self.read_changes(space, floor, timestamp),
            _ => self.scan(space),
        }
    }

    fn read_newest(&self, space: usize, key: &Key) -> Result<()> {
        let expected = self.space(space).get(key, self.model.last, self.now());
        let handle = &self.handles[&space];
        assert_eq!(handle.contains(key)?, expected.is_some());
        assert_eq!(handle.get(key)?.map(Vec::from), expected);
        let newest = self.space(space).history(key, self.floor(space)).first().map(|version| version.timestamp);
        assert_eq!(handle.latest_timestamp(key)?, newest);
        Ok(())
    }

    fn read_at(&self, space: usize, key: &Key, floor: Timestamp, timestamp: Timestamp) -> Result<()> {
        let handle = &self.handles[&space];
        match (handle.get_at(key, timestamp), handle.has_version(key, timestamp)) {
            (Err(error), _) | (_, Err(error)) if is_failure(&error) => return Err(error),
            (Ok(value), Ok(has)) if timestamp >= floor => {
                assert_eq!(value.map(Vec::from), self.space(space).get(key, timestamp, timestamp));
                let history = self.space(space).history(key, floor);
                assert_eq!(has, history.iter().any(|version| version.timestamp == timestamp));
            }
            (Err(one), Err(other)) if timestamp < floor => {
                for error in [one, other] {
                    assert!(
                        matches!(error, Error::BelowRetained { requested, retained } if (requested, retained) == (timestamp, floor)),
                        "{error}"
                    );
                }
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    fn read_several(&mut self, space: usize) -> Result<()> {
        let keys: Vec<Key> = (0..self.random.random_range(0..6)).map(|_| self.some_key()).collect();
        let expected: Vec<_> = keys.iter().map(|key| self.space(space).get(key, self.model.last, self.now())).collect();
        let found = self.handles[&space].multi_get(&keys)?;
        assert_eq!(found.into_iter().map(|value| value.map(Vec::from)).collect::<Vec<_>>(), expected);
        Ok(())
    }

    fn read_versions(&mut self, space: usize, key: &Key, floor: Timestamp, timestamp: Timestamp) -> Result<()> {
        let handle = &self.handles[&space];
        let expected = self.space(space).history(key, floor);
        assert_eq!(collect_history(handle, key, 0..=u64::MAX)?, expected);
        let to = timestamp.saturating_add(self.random.random_range(0..20));
        let some: Vec<Version> = expected.into_iter().filter(|v| (timestamp..=to).contains(&v.timestamp)).collect();
        assert_eq!(collect_history(handle, key, timestamp..=to)?, some);
        if timestamp > 0 {
            assert_eq!(collect_history(handle, key, timestamp..=timestamp - 1)?, []);
        }
        Ok(())
    }

    fn read_changes(&mut self, space: usize, floor: Timestamp, from: Timestamp) -> Result<()> {
        let to = from.saturating_add(self.random.random_range(0..40));
        let to = pick(&mut self.random, &[to, to, u64::MAX]);
        match self.handles[&space].changes(from..=to) {
            Ok(changes) => {
                assert!(floor == 0 || from > floor, "changes from {from} with the floor at {floor}");
                let changes: Vec<Change> = changes.collect::<Result<_>>()?;
                let space = self.space(space);
                check_changes(&changes, &space.changed_points(from, to), &space.changed_ranges(from, to));
            }
            Err(Error::BelowRetained { requested, retained }) => {
                assert!(floor != 0 && from <= floor, "changes from {from} with the floor at {floor}");
                assert_eq!((requested, retained), (from, floor));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn scan(&mut self, space: usize) -> Result<()> {
        let keys = self.some_keys();
        self.log.add(format!("  scan {keys:?}"));
        let expected = self.space(space).scan(&keys, self.model.last, self.now());
        let iter = range(&self.handles[&space], &keys);
        walk(&mut self.random, iter, expected.into())
    }

    pub fn check_everything(&mut self) {
        self.log.add("check everything".into());
        let difference = differs(self.db(), &self.model, self.now()).unwrap();
        assert_eq!(difference, None);
    }
}

/// What in the database is not as the model says, if anything.
///
/// # Errors
/// The device fails.
pub fn differs(db: &Db, model: &Model, now: Timestamp) -> Result<Option<String>> {
    for space in model.live() {
        let space = &model.spaces[space];
        let handle = match db.keyspace(&space.name) {
            Ok(handle) => handle,
            Err(error) => return Ok(Some(format!("keyspace {}: {error}", space.name))),
        };
        let expected = space.scan(&Keys::all(), model.last, now);
        let forward = pairs(handle.iter())?;
        if forward != expected {
            return Ok(Some(format!("{} forward: {}", space.name, first_difference(&forward, &expected))));
        }
        let mut backward = pairs(handle.iter().rev())?;
        backward.reverse();
        if backward != expected {
            return Ok(Some(format!("{} backward: {}", space.name, first_difference(&backward, &expected))));
        }
        if space.name == "marks" {
            continue;
        }
        for key in space.keys() {
            let floor = handle.retained_from();
            let (found, expected) = (collect_history(&handle, key, 0..=u64::MAX)?, space.history(key, floor));
            if found != expected && handle.retained_from() == floor {
                let difference = first_difference(&found, &expected);
                return Ok(Some(format!("{} history of {}: {difference}", space.name, shown(key))));
            }
            let found = match handle.get_at(key, floor) {
                // Threads in the background have raised it.
                Err(Error::BelowRetained { .. }) if handle.retained_from() > floor => continue,
                found => found?.map(Vec::from),
            };
            if found != space.get(key, floor, floor) {
                return Ok(Some(format!("{} {} at the floor {floor}", space.name, shown(key))));
            }
        }
    }
    Ok(None)
}

fn first_difference<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T]) -> String {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    format!("at {same} found {:?}, expected {:?}", found.get(same), expected.get(same))
}

pub fn pair(item: Result<(Slice, Slice)>) -> Result<(Key, Vec<u8>)> {
    item.map(|(key, value)| (key.into(), value.into()))
}

pub fn pairs(items: impl Iterator<Item = Result<(Slice, Slice)>>) -> Result<Pairs> {
    items.map(pair).collect()
}

pub fn version(item: Result<strandline::Version>) -> Result<Version> {
    let strandline::Version { timestamp, value, expires_at, .. } = item?;
    Ok(Version { timestamp, value: value.map(Vec::from), expires_at })
}

fn collect_history(handle: &Keyspace, key: &Key, range: RangeInclusive<Timestamp>) -> Result<Vec<Version>> {
    handle.history(key, range)?.map(version).collect()
}

pub fn range(handle: &Keyspace, keys: &Keys) -> Iter {
    match keys {
        Keys::Between(start, end) => handle.range((start.clone(), end.clone())),
        Keys::Prefix(prefix) => handle.prefix(prefix),
    }
}

/// Takes pairs from both ends until they meet.
fn walk(random: &mut Random, mut iter: Iter, mut expected: VecDeque<(Key, Vec<u8>)>) -> Result<()> {
    let forward = random.random_range(0..=4);
    loop {
        let (found, expected) = if chance(random, forward, 4) {
            (iter.next(), expected.pop_front())
        } else {
            (iter.next_back(), expected.pop_back())
        };
        assert_eq!(found.map(pair).transpose()?, expected);
        if expected.is_none() {
            assert!(iter.next().is_none() && iter.next_back().is_none(), "an iterator went on behind its end");
            return Ok(());
        }
    }
}

/// The changes are exactly these, in the order that is promised. Range deletes may come in pieces.
pub fn check_changes(
    changes: &[Change],
    points: &[(Key, Version)],
    ranges: &BTreeMap<Timestamp, Vec<(Key, Option<Key>)>>,
) {
    let mut order = Vec::new();
    let mut found_points = Vec::new();
    let mut found_ranges: BTreeMap<Timestamp, Vec<(Key, Option<Key>)>> = BTreeMap::new();
    for change in changes.iter().cloned() {
        match change {
            Change::Put { key, timestamp, value, expires_at } => {
                order.push((key.to_vec(), true, Reverse(timestamp)));
                found_points.push((key.into(), Version { timestamp, value: Some(value.into()), expires_at }));
            }
            Change::Delete { key, timestamp } => {
                order.push((key.to_vec(), true, Reverse(timestamp)));
                found_points.push((key.into(), Version { timestamp, value: None, expires_at: None }));
            }
            Change::DeleteRange { start, end, timestamp } => {
                order.push((start.to_vec(), false, Reverse(timestamp)));
                found_ranges.entry(timestamp).or_default().push((start.into(), end.map(Vec::from)));
            }
        }
    }
    assert!(order.is_sorted_by(|a, b| a < b), "changes out of order: {order:?}");
    assert_eq!(found_points, points);
    for pieces in found_ranges.values_mut() {
        pieces.sort();
        let disjoint = |pair: &[(Key, Option<Key>)]| pair[0].1.as_ref().is_some_and(|end| *end <= pair[1].0);
        assert!(pieces.windows(2).all(disjoint), "pieces of a range delete overlap: {pieces:?}");
        assert!(
            pieces.iter().all(|(start, end)| end.as_ref().is_none_or(|end| start < end)),
            "an empty piece: {pieces:?}"
        );
        *pieces = union(std::mem::take(pieces));
    }
    assert_eq!(&found_ranges, ranges);
}
