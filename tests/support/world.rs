//! A database that goes through a random life beside the model: commits in order and late, floors, flushes,
//! compactions, reopenings, with snapshots, iterators and cursors held over all of it. Two keyspaces of other shape get
//! the same operations in the same batches.

use std::collections::VecDeque;
use std::ops::Bound;

use strandline::{
    CommitOptions, Compression, Cursor, Db, Durability, Error, Iter, Keyspace, KeyspaceOptions, MemFs, Options,
    Retention, Snapshot, WriteBatch,
};

use super::{
    Dice, KEYS, Key, Model, check, check_changes, check_snapshot, contains, pairs, settle, small, small_keyspace,
};

type Pairs = Vec<(Key, Vec<u8>)>;

/// How a life goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) seed: u64,
    pub(crate) retention: Retention,
    pub(crate) late: bool,
    /// Some commits are not logged; then a kill may take them, so there are none.
    pub(crate) unlogged: bool,
    pub(crate) steps: u32,
}

/// And what it has still to give.
type HeldIterator = (Iter, VecDeque<(Key, Vec<u8>)>);

struct HeldSnapshot {
    snapshot: Snapshot,
    /// Whether each keyspace's floor was above it when it was taken.
    refused: [bool; 2],
}

pub(crate) struct World {
    life: Life,
    fs: MemFs,
    pub(crate) db: Db,
    pub(crate) keyspaces: [Keyspace; 2],
    pub(crate) model: Model,
    dice: Dice,
    closed: u64,
    snapshots: Vec<HeldSnapshot>,
    iterators: Vec<HeldIterator>,
    cursors: Vec<(Cursor, Pairs)>,
    step: u32,
}

fn options(life: Life, fs: &MemFs) -> Options {
    small(fs).late_commits(life.late)
}

fn keyspaces(life: Life, db: &Db) -> [Keyspace; 2] {
    let first = small_keyspace().retention(life.retention);
    let second = KeyspaceOptions::new()
        .retention(life.retention)
        .compression(Compression::None)
        .block_bytes(4 << 10)
        .filter_bits_per_key(0.0)
        .target_file_bytes(700)
        .level_base_bytes(1 << 10);
    [db.keyspace_with("first", first).unwrap(), db.keyspace_with("second", second).unwrap()]
}

impl World {
    pub(crate) fn begin(life: Life) -> Self {
        let fs = MemFs::new();
        let db = options(life, &fs).open("db").unwrap();
        let keyspaces = keyspaces(life, &db);
        Self {
            life,
            fs,
            db,
            keyspaces,
            model: Model::default(),
            dice: Dice::new(life.seed),
            closed: 0,
            snapshots: Vec::new(),
            iterators: Vec::new(),
            cursors: Vec::new(),
            step: 0,
        }
    }

    pub(crate) fn run(life: Life) {
        let mut world = Self::begin(life);
        for _ in 0..life.steps {
            world.step();
        }
        world.check();
        world.reopen();
        world.check();
        world.db.compact().unwrap();
        world.check();
        world.db.verify().unwrap();
    }

    pub(crate) fn context(&self) -> String {
        format!("{:?}, step {}", self.life, self.step)
    }

    fn floor(&self) -> u64 {
        self.keyspaces.iter().map(Keyspace::retained_from).max().unwrap_or(0)
    }

    pub(crate) fn step(&mut self) {
        self.step += 1;
        match self.dice.below(26) {
            0..=10 => self.commit(),
            11 => self.db.flush().unwrap(),
            12 => {
                let range = (self.dice.bound(), self.dice.bound());
                let which = usize::from(self.dice.one_in(2));
                self.keyspaces[which].compact(range).unwrap();
            }
            13..=15 => drop(self.db.step_background().unwrap()),
            16 => settle(&self.db),
            17 | 18 => self.retain(),
            19 | 20 => self.hold(),
            21 => self.release(),
            22 => self.check(),
            23 if self.dice.one_in(3) => self.reopen(),
            24 if self.dice.one_in(4) => self.close_until(),
            _ => self.refusals(),
        }
        self.move_held();
    }

    fn commit(&mut self) {
        let around = self.model.last;
        let ops = self.dice.ops(around);
        let mut batch = WriteBatch::new();
        for keyspace in &self.keyspaces {
            ops.iter().for_each(|op| op.add_to(&mut batch, keyspace));
        }
        let mut commit = CommitOptions::new();
        if self.life.unlogged && self.dice.one_in(2) {
            commit = commit.durability(Durability::Unlogged);
        }
        let (last, floor, context) = (self.model.last, self.floor(), self.context());
        let asked = match self.dice.below(6) {
            0 => Some(last + 1 + self.dice.below(3)),
            1..=3 if self.life.late && last > 0 => Some(1 + self.dice.below(last)),
            _ => None,
        };
        if let Some(asked) = asked {
            commit = commit.at(asked);
        }
        let result = self.db.commit_with(batch, commit);
        match asked {
            Some(asked) if asked <= self.closed => {
                assert!(matches!(result, Err(Error::LateCommit { .. })), "{context}: at {asked}: {result:?}");
            }
            // S12
            Some(asked) if asked <= floor => {
                assert!(matches!(result, Err(Error::BelowRetained { .. })), "{context}: at {asked}: {result:?}");
            }
            asked => {
                let timestamp = result.unwrap_or_else(|error| panic!("{context}: at {asked:?}: {error}"));
                let next = last.max(self.closed).max(floor) + 1;
                assert_eq!(timestamp, asked.unwrap_or(next), "{context}");
                self.model.commit(timestamp, &ops);
            }
        }
    }

    fn retain(&mut self) {
        if self.model.last > 0 && matches!(self.life.retention, Retention::Manual) {
            // Floors move slowly, so that there is something above them.
            let floor = self.keyspaces[0].retained_from();
            let to = (floor + 1 + self.dice.below(4)).min(self.model.last);
            let context = self.context();
            assert_eq!(self.db.retain_from(to).unwrap(), to.max(floor), "{context}");
        }
    }

    fn close_until(&mut self) {
        let until = (self.model.last + 2).saturating_sub(self.dice.below(12));
        self.db.close_until(until).unwrap();
        self.closed = self.closed.max(until);
        let least = if self.life.late { self.closed } else { self.closed.max(self.model.last) };
        assert_eq!(self.db.closed_timestamp(), least, "{}", self.context());
    }

    fn hold(&mut self) {
        match self.dice.below(3) {
            0 if self.snapshots.len() < 4 => {
                let timestamp = self.model.last.saturating_sub(self.dice.below(8));
                let snapshot =
                    if self.dice.one_in(2) { Ok(self.db.snapshot()) } else { self.db.snapshot_at(timestamp) };
                match snapshot {
                    Ok(snapshot) => {
                        let refused = [0, 1].map(|at| self.keyspaces[at].retained_from() > snapshot.timestamp());
                        self.snapshots.push(HeldSnapshot { snapshot, refused });
                    }
                    // S4
                    Err(Error::BelowRetained { .. }) => {
                        let above = self.keyspaces.iter().all(|keyspace| keyspace.retained_from() > timestamp);
                        assert!(above, "{}", self.context());
                    }
                    Err(error) => panic!("{}: {error}", self.context()),
                }
            }
            1 if self.iterators.len() < 4 => {
                let range = (self.dice.bound(), self.dice.bound());
                let which = usize::from(self.dice.one_in(2));
                // The database's own time is the last timestamp.
                let expected = self.model.scan(&range, self.model.last).into();
                self.iterators.push((self.keyspaces[which].range(range), expected));
            }
            2 if self.cursors.len() < 4 => {
                let which = usize::from(self.dice.one_in(2));
                let held = self.snapshots.iter().find(|held| !held.refused[which]);
                let snapshot = held.map_or_else(|| self.db.snapshot(), |held| held.snapshot.clone());
                let expected = self.model.scan(&super::everything(), snapshot.timestamp());
                self.cursors.push((snapshot.cursor(&self.keyspaces[which]), expected));
            }
            _ => {}
        }
    }

    fn release(&mut self) {
        let snapshots = u64::try_from(self.snapshots.len()).unwrap();
        if snapshots > 0 {
            let at = usize::try_from(self.dice.below(snapshots)).unwrap();
            drop(self.snapshots.swap_remove(at));
        }
    }

    /// S5: whatever is held says what it said when it was made; a snapshot also what was committed late below it.
    fn move_held(&mut self) {
        let context = self.context();
        if !self.dice.one_in(3) {
            return;
        }
        for (iterator, expected) in &mut self.iterators {
            for _ in 0..self.dice.below(4) {
                let (found, expected) = if self.dice.one_in(2) {
                    (iterator.next(), expected.pop_front())
                } else {
                    (iterator.next_back(), expected.pop_back())
                };
                let found = found.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
                assert_eq!(found, expected, "{context}: iterator");
            }
        }
        for (cursor, expected) in &mut self.cursors {
            walk(&mut self.dice, cursor, expected, &context);
        }
        for held in &self.snapshots {
            for (keyspace, refused) in self.keyspaces.iter().zip(held.refused) {
                if refused {
                    let found = held.snapshot.get(keyspace, "a");
                    assert!(matches!(found, Err(Error::BelowRetained { .. })), "{context}: {found:?}");
                } else {
                    check_snapshot(&held.snapshot, keyspace, &self.model, &format!("{context}: held"));
                }
            }
        }
    }

    /// S4: below the floor nothing is answered, at it everything is.
    fn refusals(&mut self) {
        let context = self.context();
        let key = self.dice.key();
        for keyspace in &self.keyspaces {
            let floor = keyspace.retained_from();
            if let Some(below) = floor.checked_sub(1) {
                let below = [0, below, self.dice.below(floor)];
                for timestamp in below {
                    let found = keyspace.get_at(&key, timestamp);
                    assert!(matches!(found, Err(Error::BelowRetained { .. })), "{context}: {timestamp}: {found:?}");
                    let found = keyspace.has_version(&key, timestamp);
                    assert!(matches!(found, Err(Error::BelowRetained { .. })), "{context}: {timestamp}: {found:?}");
                    let found = keyspace.changes(timestamp..);
                    assert!(matches!(found, Err(Error::BelowRetained { .. })), "{context}: {timestamp}: {found:?}");
                }
                assert!(matches!(keyspace.changes(floor..), Err(Error::BelowRetained { .. })), "{context}");
            }
        }
    }

    pub(crate) fn check(&mut self) {
        let context = self.context();
        for (at, keyspace) in self.keyspaces.iter().enumerate() {
            let context = format!("{context}, keyspace {at}");
            check(&self.db, keyspace, &self.model, &context);
            let floor = keyspace.retained_from();
            let from = if floor == 0 { 0 } else { floor + 1 };
            let middle = from + self.dice.below(self.model.last + 2);
            check_changes(keyspace, &self.model, from, self.model.last, &context);
            check_changes(keyspace, &self.model, middle, middle + 3, &context);
            let range = (self.dice.bound(), self.dice.bound());
            let expected = self.model.scan(&range, self.model.last);
            assert_eq!(pairs(keyspace.range(range.clone())), expected, "{context}: {range:?}");
            let prefix = self.dice.key();
            let mut expected = self.model.scan(&super::everything(), self.model.last);
            expected.retain(|(key, _)| key.starts_with(&prefix));
            assert_eq!(pairs(keyspace.prefix(&prefix)), expected, "{context}: {prefix:?}");
            let found = keyspace.multi_get(KEYS).unwrap().into_iter().map(|value| value.map(Vec::from));
            let expected: Vec<_> = KEYS.iter().map(|key| self.model.get(key, self.model.last)).collect();
            assert_eq!(found.collect::<Vec<_>>(), expected, "{context}");
        }
    }

    /// Closes it, or has it killed, and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.snapshots.clear();
        self.iterators.clear();
        self.cursors.clear();
        if self.life.unlogged || self.dice.one_in(2) {
            self.db.close().unwrap();
        } else {
            // S22
            self.fs = self.fs.kill();
        }
        self.db = options(self.life, &self.fs).open("db").unwrap();
        self.keyspaces = keyspaces(self.life, &self.db);
    }
}

/// Moves a cursor about, with turns, and compares each place with the pairs that it must walk over. S2
pub(crate) fn walk(dice: &mut Dice, cursor: &mut Cursor, expected: &[(Key, Vec<u8>)], context: &str) {
    let key = dice.key();
    let before = |range| expected.iter().filter(|(key, _)| contains(&range, key)).count();
    // The position as an index; `len` and `None` are off the ends.
    let mut at = match dice.below(4) {
        0 => {
            cursor.seek_to_first().unwrap();
            Some(0)
        }
        1 => {
            cursor.seek_to_last().unwrap();
            expected.len().checked_sub(1)
        }
        2 => {
            cursor.seek(&key).unwrap();
            Some(before((Bound::Unbounded, Bound::Excluded(key.clone()))))
        }
        _ => {
            cursor.seek_for_prev(&key).unwrap();
            before((Bound::Unbounded, Bound::Included(key.clone()))).checked_sub(1)
        }
    };
    for turn in 0..8 {
        let entry = cursor.entry().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(entry.as_ref(), at.and_then(|at| expected.get(at)), "{context}: cursor, {key:?}, turn {turn}");
        let Some(here) = at.filter(|at| *at < expected.len()) else { return };
        if dice.one_in(2) {
            cursor.next().unwrap();
            at = Some(here + 1);
        } else {
            cursor.prev().unwrap();
            at = here.checked_sub(1);
        }
    }
}
