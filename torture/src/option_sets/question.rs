//! What all databases are asked, and their answers in a form in which they must be the same: what a floor that may
//! differ has to do with is left out.

use std::collections::BTreeMap;
use std::ops::Bound;

use rand::RngExt;
use strandline::{Change, Changes, Cursor, History, Iter, Keyspace, Result, Slice, Snapshot, Timestamp};

use super::database::Database;
use crate::life::model::{Key, Keys, Pairs, Value, Version, union};
use crate::life::read::{pair, range, version};
use crate::random::Random;

/// How an iterator is walked: `true` takes from the front. From the beginning again when they are used up.
pub type Steps = Vec<bool>;

#[derive(Debug, Clone)]
pub enum Question {
    Names,
    LastTimestamp,
    Get(String, Key),
    Several(String, Vec<Key>),
    /// Only if it is above the bound, or the key is there.
    Newest(String, Key, Timestamp),
    GetAt(String, Key, Timestamp),
    HasVersion(String, Key, Timestamp),
    History(String, Key, Timestamp, Timestamp),
    Scan(String, Keys, Steps),
    ScanAt(String, Keys, Steps, Timestamp),
    Walk(String, Timestamp, Vec<Move>),
    Changes(String, Timestamp, Timestamp),
}

#[derive(Debug, Clone)]
pub enum Move {
    Seek(Key),
    SeekForPrev(Key),
    First,
    Last,
    Next,
    Prev,
}

/// The changes at a timestamp that deleted ranges, as disjoint pieces in order.
type Ranges = BTreeMap<Timestamp, Vec<(Key, Option<Key>)>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Names(Vec<String>),
    Timestamp(Option<Timestamp>),
    Is(bool),
    Value(Option<Value>),
    Values(Vec<Option<Value>>),
    Pairs(Pairs),
    Entries(Vec<Option<(Key, Value)>>),
    Versions(Vec<Version>),
    Changes(Vec<(Key, Version)>, Ranges),
}

impl Question {
    pub fn ask(&self, of: &Database) -> Answer {
        let handle = |name: &String| &of.handles[name];
        match self {
            Self::Names => Answer::Names(of.db().keyspace_names()),
            Self::LastTimestamp => Answer::Timestamp(Some(of.db().last_timestamp())),
            Self::Get(space, key) => {
                let value = handle(space).get(key).unwrap();
                assert_eq!(handle(space).contains(key).unwrap(), value.is_some());
                Answer::Value(value.map(Vec::from))
            }
            Self::Several(space, keys) => {
                let values = handle(space).multi_get(keys).unwrap();
                Answer::Values(values.into_iter().map(|value| value.map(Vec::from)).collect())
            }
            Self::Newest(space, key, bound) => {
                let newest = handle(space).latest_timestamp(key).unwrap();
                let is_there = handle(space).contains(key).unwrap();
                Answer::Timestamp(newest.filter(|newest| newest > bound || is_there))
            }
            Self::GetAt(space, key, at) => Answer::Value(handle(space).get_at(key, *at).unwrap().map(Vec::from)),
            Self::HasVersion(space, key, at) => Answer::Is(handle(space).has_version(key, *at).unwrap()),
            Self::History(space, key, from, to) => Answer::Versions(
                handle(space).history(key, from..=to).unwrap().map(|item| version(item).unwrap()).collect(),
            ),
            Self::Scan(space, keys, steps) => walk(range(handle(space), keys), steps),
            Self::ScanAt(space, keys, steps, at) => {
                let snapshot = of.db().snapshot_at(*at).unwrap();
                walk(in_snapshot(&snapshot, handle(space), keys), steps)
            }
            Self::Walk(space, at, moves) => {
                let mut cursor = of.db().snapshot_at(*at).unwrap().cursor(handle(space));
                moves_of(&mut cursor, moves)
            }
            Self::Changes(space, from, to) => changed(handle(space).changes(from..=to).unwrap()),
        }
    }
}

fn in_snapshot(snapshot: &Snapshot, handle: &Keyspace, keys: &Keys) -> Iter {
    match keys {
        Keys::Between(start, end) => snapshot.range(handle, (start.clone(), end.clone())),
        Keys::Prefix(prefix) => snapshot.prefix(handle, prefix),
    }
}

/// The pairs in the order in which the steps give them.
fn walk(mut iter: Iter, steps: &Steps) -> Answer {
    let mut pairs = Pairs::new();
    for front in steps.iter().cycle() {
        match if *front { iter.next() } else { iter.next_back() } {
            Some(item) => pairs.push(pair(item).unwrap()),
            None => break,
        }
    }
    Answer::Pairs(pairs)
}

fn moves_of(cursor: &mut Cursor, moves: &[Move]) -> Answer {
    let entries = moves.iter().map(|to| {
        match to {
            Move::Seek(key) => cursor.seek(key),
            Move::SeekForPrev(key) => cursor.seek_for_prev(key),
            Move::First => cursor.seek_to_first(),
            Move::Last => cursor.seek_to_last(),
            Move::Next => cursor.next(),
            Move::Prev => cursor.prev(),
        }
        .unwrap();
        cursor.entry().map(|(key, value)| (key.to_vec(), value.to_vec()))
    });
    Answer::Entries(entries.collect())
}

fn changed(changes: impl Iterator<Item = Result<Change>>) -> Answer {
    let mut points = Vec::new();
    let mut ranges = Ranges::new();
    for change in changes {
        match change.unwrap() {
            Change::Put { key, timestamp, value, expires_at } => {
                points.push((key.into(), Version { timestamp, value: Some(value.into()), expires_at }));
            }
            Change::Delete { key, timestamp } => {
                points.push((key.into(), Version { timestamp, value: None, expires_at: None }));
            }
            Change::DeleteRange { start, end, timestamp } => {
                ranges.entry(timestamp).or_default().push((start.into(), end.map(Slice::into)));
            }
        }
    }
    ranges.values_mut().for_each(|pieces| *pieces = union(std::mem::take(pieces)));
    Answer::Changes(points, ranges)
}

/// Something that was made at one moment and is read to its end at another.
pub enum Held {
    Iter(Iter, Steps),
    Snapshot(Snapshot, String, Keys, Steps),
    Cursor(Cursor, Vec<Move>),
    History(History),
    Changes(Changes),
}

/// What is to be held.
#[derive(Debug, Clone)]
pub enum Hold {
    Iter(String, Keys, Steps),
    Snapshot(String, Keys, Steps, Timestamp),
    Cursor(String, Timestamp, Vec<Move>),
    History(String, Key, Timestamp),
    Changes(String, Timestamp),
}

impl Hold {
    pub fn take(&self, from: &Database) -> Held {
        let handle = |name: &String| &from.handles[name];
        match self {
            Self::Iter(space, keys, steps) => Held::Iter(range(handle(space), keys), steps.clone()),
            Self::Snapshot(space, keys, steps, at) => {
                Held::Snapshot(from.db().snapshot_at(*at).unwrap(), space.clone(), keys.clone(), steps.clone())
            }
            Self::Cursor(space, at, moves) => {
                Held::Cursor(from.db().snapshot_at(*at).unwrap().cursor(handle(space)), moves.clone())
            }
            Self::History(space, key, from) => Held::History(handle(space).history(key, from..).unwrap()),
            Self::Changes(space, from) => Held::Changes(handle(space).changes(from..).unwrap()),
        }
    }
}

impl Held {
    /// What it gives in the end.
    pub fn end(self, of: &Database) -> Answer {
        match self {
            Self::Iter(iter, steps) => walk(iter, &steps),
            Self::Snapshot(snapshot, space, keys, steps) => {
                walk(in_snapshot(&snapshot, &of.handles[&space], &keys), &steps)
            }
            Self::Cursor(mut cursor, moves) => moves_of(&mut cursor, &moves),
            Self::History(history) => Answer::Versions(history.map(|item| version(item).unwrap()).collect()),
            Self::Changes(changes) => changed(changes),
        }
    }
}

/// What a question may be about.
pub struct About<'a> {
    pub keys: &'a [Key],
    pub space: &'a str,
    /// No floor of any database lies above it.
    pub bound: Timestamp,
    pub last: Timestamp,
}

impl About<'_> {
    pub fn key(&self, random: &mut Random) -> Key {
        self.keys[random.random_range(0..self.keys.len())].clone()
    }

    pub fn keys(&self, random: &mut Random) -> Keys {
        let (a, b) = (self.key(random), self.key(random));
        let bound = |random: &mut Random, key: Key| match random.random_range(0..4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(key),
            _ => Bound::Included(key),
        };
        match random.random_range(0..4) {
            0 => Keys::all(),
            1 => Keys::Prefix(a[..a.len().min(1)].to_vec()),
            _ => Keys::Between(bound(random, a.clone().min(b.clone())), bound(random, a.max(b))),
        }
    }

    fn steps(random: &mut Random) -> Steps {
        let forward = random.random_range(0..=4);
        (0..7).map(|_| random.random_range(0..4) < forward).collect()
    }

    /// One that every database answers.
    pub fn time(&self, random: &mut Random) -> Timestamp {
        match random.random_range(0..4) {
            0 => self.bound,
            1 => self.last,
            _ => random.random_range(self.bound..=self.last),
        }
    }

    fn moves(&self, random: &mut Random) -> Vec<Move> {
        let one = |random: &mut Random| match random.random_range(0..10) {
            0 => Move::First,
            1 => Move::Last,
            2 => Move::Seek(self.key(random)),
            3 => Move::SeekForPrev(self.key(random)),
            4..7 => Move::Next,
            _ => Move::Prev,
        };
        (0..12).map(|_| one(random)).collect()
    }

    pub fn question(&self, random: &mut Random) -> Question {
        let space = self.space.to_owned();
        let above = self.bound.saturating_add(1);
        match random.random_range(0..14) {
            0 => Question::Several(space, (0..6).map(|_| self.key(random)).collect()),
            1 => Question::Newest(space, self.key(random), self.bound),
            2..5 => Question::GetAt(space, self.key(random), self.time(random)),
            5 => Question::HasVersion(space, self.key(random), self.time(random).max(above)),
            6 => Question::History(space, self.key(random), self.time(random).max(above), u64::MAX),
            7 => Question::History(space, self.key(random), above, self.time(random)),
            8 => Question::Scan(space, self.keys(random), Self::steps(random)),
            9 | 10 => Question::ScanAt(space, self.keys(random), Self::steps(random), self.time(random)),
            11 => Question::Walk(space, self.time(random), self.moves(random)),
            12 => Question::Changes(space, self.time(random).max(above), self.last.max(above)),
            _ => Question::Get(space, self.key(random)),
        }
    }

    /// Everything that there is.
    pub fn everything(&self) -> Vec<Question> {
        let space = || self.space.to_owned();
        let above = self.bound.saturating_add(1);
        let mut all = vec![
            Question::Scan(space(), Keys::all(), vec![true]),
            Question::Scan(space(), Keys::all(), vec![false]),
            Question::ScanAt(space(), Keys::all(), vec![true], self.bound),
            Question::Changes(space(), above, u64::MAX),
        ];
        for key in self.keys {
            all.push(Question::Get(space(), key.clone()));
            all.push(Question::GetAt(space(), key.clone(), self.bound));
            all.push(Question::History(space(), key.clone(), above, u64::MAX));
        }
        all
    }

    pub fn hold(&self, random: &mut Random) -> Hold {
        let space = self.space.to_owned();
        match random.random_range(0..6) {
            0 => Hold::Iter(space, self.keys(random), Self::steps(random)),
            1 | 2 => Hold::Snapshot(space, self.keys(random), Self::steps(random), self.time(random)),
            3 => Hold::Cursor(space, self.time(random), self.moves(random)),
            4 => Hold::History(space, self.key(random), self.bound.saturating_add(1)),
            _ => Hold::Changes(space, self.bound.saturating_add(1)),
        }
    }
}
