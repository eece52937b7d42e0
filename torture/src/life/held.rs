//! Snapshots, iterators and cursors that are held while everything else goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use strandline::{Change, Changes, Cursor, Error, History, Iter, Keyspace, Result, Snapshot, Timestamp};

use super::model::{Key, Keys, Pairs, Version};
use super::read::{check_changes, pair, pairs, version};
use super::runner::Runner;
use super::settings::{chance, pick, shown};

#[derive(Default)]
pub struct Held {
    snapshots: Vec<HeldSnapshot>,
    iters: Vec<HeldIter>,
    cursors: Vec<HeldCursor>,
    histories: Vec<(History, VecDeque<Version>)>,
    changes: Vec<HeldChanges>,
}

struct HeldSnapshot {
    snapshot: Snapshot,
    timestamp: Timestamp,
    now: Timestamp,
    /// Keyspaces from here on were made later.
    spaces: usize,
    /// Keyspaces whose floor was above it already.
    refused: BTreeSet<usize>,
}

struct HeldIter {
    iter: Iter,
    left: VecDeque<(Key, Vec<u8>)>,
}

struct HeldCursor {
    cursor: Cursor,
    pairs: Pairs,
    /// `None`: off either end.
    at: Option<usize>,
}

struct HeldChanges {
    changes: Changes,
    seen: Vec<Change>,
    points: Vec<(Key, Version)>,
    ranges: BTreeMap<Timestamp, Vec<(Key, Option<Key>)>>,
}

impl HeldIter {
    fn take(&mut self, forward: bool) -> Result<bool> {
        let (found, expected) = if forward {
            (self.iter.next(), self.left.pop_front())
        } else {
            (self.iter.next_back(), self.left.pop_back())
        };
        let found = found.map(pair).transpose()?;
        assert_eq!(found, expected, "an iterator that was held");
        Ok(found.is_some())
    }
}

impl HeldCursor {
    fn check(&self) {
        let found = self.cursor.entry().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref(), self.at.map(|at| &self.pairs[at]), "a cursor that was held");
    }

    fn next(&mut self) -> Result<()> {
        self.cursor.next()?;
        self.at = self.at.map(|at| at + 1).filter(|at| *at < self.pairs.len());
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.cursor.prev()?;
        self.at = self.at.and_then(|at| at.checked_sub(1));
        Ok(())
    }

    fn seek(&mut self, key: &Key) -> Result<()> {
        self.cursor.seek(key)?;
        self.at = Some(self.pairs.partition_point(|(other, _)| other < key)).filter(|at| *at < self.pairs.len());
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &Key) -> Result<()> {
        self.cursor.seek_for_prev(key)?;
        self.at = self.pairs.partition_point(|(other, _)| other <= key).checked_sub(1);
        Ok(())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.cursor.seek_to_first()?;
        self.at = if self.pairs.is_empty() { None } else { Some(0) };
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.cursor.seek_to_last()?;
        self.at = self.pairs.len().checked_sub(1);
        Ok(())
    }
}

impl Runner {
    /// Opens something that will be held.
    pub fn hold(&mut self) {
        self.try_hold().unwrap();
    }

    /// The same on a device that may fail.
    pub fn try_hold(&mut self) -> Result<()> {
        match self.random.random_range(0..7) {
            0 | 1 => return self.hold_snapshot(),
            2 => {
                let (space, keys) = (self.some_space(), self.some_keys());
                self.log.add(format!("hold an iterator over {keys:?} of {space}"));
                let left = self.space(space).scan(&keys, self.model.last, self.now()).into();
                let iter = super::read::range(&self.handles[&space], &keys);
                self.held.iters.push(HeldIter { iter, left });
            }
            3 => {
                let (space, key) = (self.some_space(), self.some_key());
                self.log.add(format!("hold the history of {} in {space}", shown(&key)));
                let expected = self.space(space).history(&key, self.floor(space)).into();
                let history = self.handles[&space].history(&key, ..)?;
                self.held.histories.push((history, expected));
            }
            4 => {
                let space = self.some_space();
                let from = self.floor(space) + 1;
                self.log.add(format!("hold the changes from {from} on in {space}"));
                let changes = self.handles[&space].changes(from..)?;
                let points = self.space(space).changed_points(from, u64::MAX);
                let ranges = self.space(space).changed_ranges(from, u64::MAX);
                self.held.changes.push(HeldChanges { changes, seen: Vec::new(), points, ranges });
            }
            _ => return self.hold_from_snapshot(),
        }
        Ok(())
    }

    fn hold_snapshot(&mut self) -> Result<()> {
        let spaces = self.model.spaces.len();
        if self.settings.threads > 0 || chance(&mut self.random, 1, 2) {
            let snapshot = self.db().snapshot();
            let (timestamp, now) = (self.model.last, self.now());
            self.log.add(format!("snapshot at {timestamp}, the last"));
            assert_eq!(snapshot.timestamp(), timestamp);
            let refused = BTreeSet::new();
            self.held.snapshots.push(HeldSnapshot { snapshot, timestamp, now, spaces, refused });
            return Ok(());
        }
        let space = self.some_space();
        let floor = self.floor(space);
        let timestamp = self.some_timestamp(floor);
        let live = self.model.live();
        let refused: BTreeSet<usize> = live.iter().copied().filter(|space| self.floor(*space) > timestamp).collect();
        let highest = self.model.last.max(self.model.closed);
        self.log.add(format!("snapshot at {timestamp}, which {refused:?} refuse"));
        match self.db().snapshot_at(timestamp) {
            Ok(snapshot) => {
                assert!(timestamp <= highest && refused.len() < live.len());
                assert_eq!(snapshot.timestamp(), timestamp);
                self.held.snapshots.push(HeldSnapshot { snapshot, timestamp, now: timestamp, spaces, refused });
            }
            Err(Error::FutureTimestamp { requested, .. }) => assert!(timestamp > highest && requested == timestamp),
            Err(Error::BelowRetained { .. }) => assert_eq!(refused.len(), live.len()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// An iterator or cursor of a snapshot that is held.
    fn hold_from_snapshot(&mut self) -> Result<()> {
        let Some((held, space, handle)) = self.some_snapshot_and_space() else { return Ok(()) };
        let keys = self.some_keys();
        let held = &self.held.snapshots[held];
        self.log.add(format!("hold an iterator over {keys:?} of {space} in the snapshot at {}", held.timestamp));
        let Some(expected) = self.expected_in(held, space, &keys) else { return Ok(()) };
        if chance(&mut self.random, 1, 2) {
            let iter = snapshot_range(&held.snapshot, &handle, &keys);
            self.held.iters.push(HeldIter { iter, left: expected.into() });
        } else if let Some(pairs) = self.expected_in(held, space, &Keys::all()) {
            let cursor = held.snapshot.cursor(&handle);
            self.held.cursors.push(HeldCursor { cursor, pairs, at: None });
        }
        Ok(())
    }

    /// What the snapshot reads; `None` where it is refused, which is checked here.
    fn expected_in(&self, held: &HeldSnapshot, space: usize, keys: &Keys) -> Option<Pairs> {
        if space >= held.spaces {
            return Some(Pairs::new());
        }
        if held.refused.contains(&space) {
            let handle = self.handles.get(&space)?;
            let refusal = held.snapshot.get(handle, "k");
            assert!(matches!(refusal, Err(Error::BelowRetained { .. })), "{refusal:?}");
            let refusal = held.snapshot.iter(handle).next();
            assert!(matches!(refusal, Some(Err(Error::BelowRetained { .. }))), "{refusal:?}");
            return None;
        }
        Some(self.space(space).scan(keys, held.timestamp, held.now))
    }

    /// Compacts everything, below which the snapshots that are held still read the same.
    pub fn compact_below_snapshots(&mut self) {
        self.log.add(format!("compact all, below {} snapshots", self.held.snapshots.len()));
        self.db().compact().unwrap();
        for held in &self.held.snapshots {
            for (space, handle) in &self.handles {
                if let Some(expected) = self.expected_in(held, *space, &Keys::all()) {
                    let found = pairs(held.snapshot.iter(handle)).unwrap();
                    assert_eq!(found, expected, "the snapshot at {} of {space}", held.timestamp);
                }
            }
        }
    }

    /// A snapshot, and a keyspace that it may read: one that is there, or one that was dropped after it was taken.
    fn some_snapshot_and_space(&mut self) -> Option<(usize, usize, Keyspace)> {
        if self.held.snapshots.is_empty() {
            return None;
        }
        let held = self.random.random_range(0..self.held.snapshots.len());
        let snapshot = &self.held.snapshots[held];
        let gone = self.orphaned.iter().filter(|(space, _)| *space < snapshot.spaces);
        // Whether it was dropped before or after the snapshot was taken, the snapshot itself says.
        let readable = gone
            .filter(|(_, handle)| !matches!(snapshot.snapshot.get(handle, "k"), Err(Error::UnknownKeyspace { .. })));
        let mut choice: Vec<(usize, Keyspace)> = readable.cloned().collect();
        choice.extend(self.handles.iter().map(|(space, handle)| (*space, handle.clone())));
        let (space, handle) = pick(&mut self.random, &choice);
        Some((held, space, handle))
    }

    /// Goes on with something that is held.
    pub fn use_held(&mut self) {
        self.try_use_held().unwrap();
    }

    /// The same on a device that may fail. What has failed is let go of; but a cursor can be placed again.
    pub fn try_use_held(&mut self) -> Result<()> {
        match self.random.random_range(0..5) {
            0 => self.use_snapshot(),
            1 => self.use_iter(),
            2 => self.use_cursor(),
            3 => {
                let Some((mut history, mut expected)) = self.held.histories.pop() else { return Ok(()) };
                let found = history.next().map(version).transpose()?;
                assert_eq!(found, expected.pop_front(), "a history that was held");
                if found.is_some() {
                    self.held.histories.push((history, expected));
                }
                Ok(())
            }
            _ => {
                let Some(mut held) = self.held.changes.pop() else { return Ok(()) };
                for _ in 0..10 {
                    let Some(change) = held.changes.next() else {
                        check_changes(&held.seen, &held.points, &held.ranges);
                        return Ok(());
                    };
                    held.seen.push(change?);
                }
                self.held.changes.push(held);
                Ok(())
            }
        }
    }

    fn use_snapshot(&mut self) -> Result<()> {
        let Some((held, space, handle)) = self.some_snapshot_and_space() else { return Ok(()) };
        let (keys, key) = (self.some_keys(), self.some_key());
        let held = &self.held.snapshots[held];
        self.log.add(format!("snapshot at {}: {} and {keys:?} of {space}", held.timestamp, shown(&key)));
        let Some(expected) = self.expected_in(held, space, &keys) else { return Ok(()) };
        assert_eq!(pairs(snapshot_range(&held.snapshot, &handle, &keys))?, expected);
        let mut backward = pairs(snapshot_range(&held.snapshot, &handle, &keys).rev())?;
        backward.reverse();
        assert_eq!(backward, expected);
        let one = Keys::Between(std::ops::Bound::Included(key.clone()), std::ops::Bound::Included(key.clone()));
        let value =
            self.expected_in(held, space, &one).and_then(|pairs| pairs.into_iter().next()).map(|(_, value)| value);
        assert_eq!(held.snapshot.get(&handle, &key)?.map(Vec::from), value);
        let several = held.snapshot.multi_get(&handle, [&key, &key])?;
        assert_eq!(several.into_iter().map(|value| value.map(Vec::from)).collect::<Vec<_>>(), [value.clone(), value]);
        Ok(())
    }

    fn use_iter(&mut self) -> Result<()> {
        if self.held.iters.is_empty() {
            return Ok(());
        }
        let i = self.random.random_range(0..self.held.iters.len());
        self.log.add(format!("iterator {i}"));
        for _ in 0..self.random.random_range(1..8) {
            let forward = self.random.random();
            let taken = self.held.iters[i].take(forward);
            if !matches!(taken, Ok(true)) {
                let mut ended = self.held.iters.swap_remove(i);
                assert!(ended.iter.next().is_none() && ended.iter.next_back().is_none(), "it went on behind its end");
                return taken.map(drop);
            }
        }
        Ok(())
    }

    fn use_cursor(&mut self) -> Result<()> {
        if self.held.cursors.is_empty() {
            return Ok(());
        }
        let i = self.random.random_range(0..self.held.cursors.len());
        for _ in 0..self.random.random_range(1..12) {
            let (move_to, key) = (self.random.random_range(0..9), self.some_key());
            self.log.add(format!("cursor {i}: {move_to} {}", shown(&key)));
            let cursor = &mut self.held.cursors[i];
            let moved = match move_to {
                0 => cursor.seek(&key),
                1 => cursor.seek_for_prev(&key),
                2 => cursor.seek_to_first(),
                3 => cursor.seek_to_last(),
                4..7 => cursor.next(),
                _ => cursor.prev(),
            };
            if moved.is_err() {
                assert!(cursor.cursor.entry().is_none(), "an entry after an error");
                if cursor.seek(&key).is_err() {
                    self.held.cursors.swap_remove(i);
                    return moved;
                }
            }
            self.held.cursors[i].check();
            moved?;
        }
        Ok(())
    }

    /// Lets go of something; not too much is held at once.
    pub fn release(&mut self) {
        let held = &mut self.held;
        let random = &mut self.random;
        if !held.snapshots.is_empty() {
            held.snapshots.swap_remove(random.random_range(0..held.snapshots.len()));
        }
        if held.iters.len() > 3 {
            held.iters.remove(0);
        }
        if held.cursors.len() > 3 {
            held.cursors.remove(0);
        }
        self.log.add(format!("release; {} snapshots left", held.snapshots.len()));
    }
}

fn snapshot_range(snapshot: &Snapshot, handle: &Keyspace, keys: &Keys) -> Iter {
    match keys {
        Keys::Between(start, end) => snapshot.range(handle, (start.clone(), end.clone())),
        Keys::Prefix(prefix) => snapshot.prefix(handle, prefix),
    }
}
