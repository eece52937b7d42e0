//! What the database must answer, kept the plainest way: every operation ever committed, in order of arrival, and
//! nothing ever dropped. Retention only decides what may be asked.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use strandline::{Durability, Retention, Timestamp};

use super::settings::shown;

pub type Key = Vec<u8>;
pub type Value = Vec<u8>;
pub type Pairs = Vec<(Key, Value)>;

/// A set of keys that a caller can name at once.
#[derive(Clone)]
pub enum Keys {
    Between(Bound<Key>, Bound<Key>),
    Prefix(Key),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Between(start, end) => write!(f, "{:?} to {:?}", start.as_ref().map(shown), end.as_ref().map(shown)),
            Self::Prefix(prefix) => write!(f, "{}...", shown(prefix)),
        }
    }
}

impl Keys {
    pub fn all() -> Self {
        Self::Between(Bound::Unbounded, Bound::Unbounded)
    }

    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Between(start, end) => (start.as_ref(), end.as_ref()).contains(&key),
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }

    pub fn one(key: &Key) -> Self {
        Self::Between(Bound::Included(key.clone()), Bound::Included(key.clone()))
    }

    /// From a key, included, to another, excluded (`None`: no end); `None` if there is nothing between.
    pub fn half_open(&self) -> Option<(Key, Option<Key>)> {
        let behind = |key: &Key| [key, &b"\0"[..]].concat();
        let (start, end) = match self {
            Self::Between(start, end) => {
                let start = match start {
                    Bound::Included(key) => key.clone(),
                    Bound::Excluded(key) => behind(key),
                    Bound::Unbounded => Key::new(),
                };
                let end = match end {
                    Bound::Included(key) => Some(behind(key)),
                    Bound::Excluded(key) => Some(key.clone()),
                    Bound::Unbounded => None,
                };
                (start, end)
            }
            Self::Prefix(prefix) => {
                let mut end = prefix.clone();
                while end.pop_if(|last| *last == 0xff).is_some() {}
                if let Some(last) = end.last_mut() {
                    *last += 1;
                }
                (prefix.clone(), if end.is_empty() { None } else { Some(end) })
            }
        };
        end.as_ref().is_none_or(|end| start < *end).then_some((start, end))
    }
}

/// One operation of a batch.
#[derive(Debug, Clone)]
pub enum Write {
    Put { key: Key, value: Value, expires_at: Option<Timestamp> },
    Delete { key: Key },
    DeleteRange(Keys),
}

/// A commit that was acknowledged.
#[derive(Debug, Clone)]
pub struct Commit {
    pub timestamp: Timestamp,
    /// The keyspace (an index into [`Model::spaces`]) and what is done there.
    pub writes: Vec<(usize, Write)>,
    pub durability: Durability,
    /// Whether it wrote its number into the keyspace of marks, so that a crash shows whether it survived.
    pub marked: Option<u64>,
    /// Whether a power cut must leave it.
    pub durable: bool,
    /// Whether it ended in an error of the device: a crash may leave it, whole, or not.
    pub undecided: bool,
}

/// A version as history gives it; no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub timestamp: Timestamp,
    pub value: Option<Value>,
    pub expires_at: Option<Timestamp>,
}

impl Version {
    fn value_at(&self, now: Timestamp) -> Option<&Value> {
        self.value.as_ref().filter(|_| self.expires_at.is_none_or(|expires_at| expires_at > now))
    }
}

/// One keyspace. A name that was dropped and made anew is another one.
#[derive(Debug, Clone)]
pub struct Space {
    pub name: String,
    pub retention: Retention,
    pub dropped: bool,
    /// Of each key and timestamp the point that arrived last, and when it did.
    points: BTreeMap<Key, BTreeMap<Timestamp, (u64, Version)>>,
    ranges: Vec<RangeDelete>,
}

#[derive(Debug, Clone)]
struct RangeDelete {
    timestamp: Timestamp,
    arrival: u64,
    keys: Keys,
}

impl Space {
    pub fn new(name: &str, retention: Retention) -> Self {
        Self { name: name.to_owned(), retention, dropped: false, points: BTreeMap::new(), ranges: Vec::new() }
    }

    fn apply(&mut self, timestamp: Timestamp, arrival: u64, write: &Write) {
        let (key, value, expires_at) = match write {
            Write::Put { key, value, expires_at } => (key, Some(value.clone()), *expires_at),
            Write::Delete { key } => (key, None, None),
            Write::DeleteRange(keys) => {
                self.ranges.push(RangeDelete { timestamp, arrival, keys: keys.clone() });
                return;
            }
        };
        let version = Version { timestamp, value, expires_at };
        self.points.entry(key.clone()).or_default().insert(timestamp, (arrival, version));
    }

    /// All versions of `key`, newest first.
    pub fn versions(&self, key: &Key) -> Vec<Version> {
        let mut versions = self.points.get(key).cloned().unwrap_or_default();
        for range in self.ranges.iter().filter(|range| range.keys.contains(key)) {
            let at = versions.get(&range.timestamp).map(|(arrival, _)| *arrival);
            if at.is_none_or(|arrival| arrival < range.arrival) {
                let tombstone = Version { timestamp: range.timestamp, value: None, expires_at: None };
                versions.insert(range.timestamp, (range.arrival, tombstone));
            }
        }
        versions.into_values().rev().map(|(_, version)| version).collect()
    }

    /// The value of `key` as of `timestamp`, where what has expired by `now` is gone.
    pub fn get(&self, key: &Key, timestamp: Timestamp, now: Timestamp) -> Option<Value> {
        let newest = self.versions(key).into_iter().find(|version| version.timestamp <= timestamp)?;
        newest.value_at(now).cloned()
    }

    pub fn scan(&self, keys: &Keys, timestamp: Timestamp, now: Timestamp) -> Pairs {
        let inside = self.points.keys().filter(|key| keys.contains(key));
        inside.filter_map(|key| Some((key.clone(), self.get(key, timestamp, now)?))).collect()
    }

    /// All versions above `floor`, and the one that can be read there.
    pub fn history(&self, key: &Key, floor: Timestamp) -> Vec<Version> {
        let mut versions = self.versions(key);
        let above = versions.partition_point(|version| version.timestamp > floor);
        let readable = versions.get(above).is_some_and(|version| version.value_at(floor).is_some());
        versions.truncate(above + usize::from(readable));
        versions
    }

    /// The points committed in a range of timestamps, by key, each newest first.
    pub fn changed_points(&self, from: Timestamp, to: Timestamp) -> Vec<(Key, Version)> {
        let mut changed = Vec::new();
        for (key, points) in &self.points {
            for (timestamp, (arrival, version)) in points.range(from..=to).rev() {
                let replaced = self
                    .ranges
                    .iter()
                    .any(|range| range.timestamp == *timestamp && range.arrival > *arrival && range.keys.contains(key));
                if !replaced {
                    changed.push((key.clone(), version.clone()));
                }
            }
        }
        changed
    }

    /// The keys deleted by ranges at each timestamp, as disjoint half-open pieces in order.
    pub fn changed_ranges(&self, from: Timestamp, to: Timestamp) -> BTreeMap<Timestamp, Vec<(Key, Option<Key>)>> {
        let mut changed: BTreeMap<Timestamp, Vec<(Key, Option<Key>)>> = BTreeMap::new();
        for range in self.ranges.iter().filter(|range| (from..=to).contains(&range.timestamp)) {
            changed.entry(range.timestamp).or_default().extend(range.keys.half_open());
        }
        changed.values_mut().for_each(|pieces| *pieces = union(std::mem::take(pieces)));
        changed.retain(|_, pieces| !pieces.is_empty());
        changed
    }

    /// Whether anything was committed above `start` to any of these keys, or a range delete that has keys with them in
    /// common.
    pub fn changed_since(&self, start: Timestamp, keys: &Keys) -> bool {
        let Some((first, end)) = keys.half_open() else { return false };
        let is_above = |points: &BTreeMap<Timestamp, (u64, Version)>| points.range(start + 1..).next().is_some();
        let overlaps = |range: &&RangeDelete| {
            range.keys.half_open().is_some_and(|(from, to)| {
                end.as_ref().is_none_or(|end| from < *end) && to.as_ref().is_none_or(|to| first < *to)
            })
        };
        self.points.iter().any(|(key, points)| keys.contains(key) && is_above(points))
            || self.ranges.iter().filter(|range| range.timestamp > start).any(|range| overlaps(&range))
    }

    /// Every key that was ever written, whether there is anything left of it or not.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.points.keys()
    }
}

/// Pieces that overlap or touch, made one.
pub fn union(mut pieces: Vec<(Key, Option<Key>)>) -> Vec<(Key, Option<Key>)> {
    pieces.sort();
    let mut joined: Vec<(Key, Option<Key>)> = Vec::new();
    for (start, end) in pieces {
        match joined.last_mut() {
            Some((_, before)) if before.as_ref().is_none_or(|before| start <= *before) => {
                let longer =
                    matches!((&*before, &end), (Some(_), None)) || (end.is_some() && before.is_some() && *before < end);
                if longer {
                    *before = end;
                }
            }
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// The whole database.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub spaces: Vec<Space>,
    /// In order of arrival.
    pub commits: Vec<Commit>,
    pub last: Timestamp,
    /// The highest that the last timestamp has ever been. A crash takes it back, but not the floors that it gave rise
    /// to.
    pub highest: Timestamp,
    /// The highest `close_until`.
    pub closed: Timestamp,
    pub manual_floor: Timestamp,
    arrivals: u64,
}

impl Model {
    /// The keyspaces that are there, by name.
    pub fn live(&self) -> Vec<usize> {
        let mut live: Vec<usize> = (0..self.spaces.len()).filter(|i| !self.spaces[*i].dropped).collect();
        live.sort_by(|a, b| self.spaces[*a].name.cmp(&self.spaces[*b].name));
        live
    }

    pub fn commit(&mut self, commit: Commit) {
        self.last = self.last.max(commit.timestamp);
        self.highest = self.highest.max(self.last);
        for (space, write) in &commit.writes {
            self.arrivals += 1;
            self.spaces[*space].apply(commit.timestamp, self.arrivals, write);
        }
        self.commits.push(commit);
    }

    /// The same database if only `survivors` had ever been committed; `last` is the last timestamp then.
    pub fn with_only(&self, survivors: impl Iterator<Item = Commit>, last: Timestamp) -> Self {
        let spaces = self
            .spaces
            .iter()
            .map(|space| Space { dropped: space.dropped, ..Space::new(&space.name, space.retention) });
        let mut model = Self { spaces: spaces.collect(), commits: Vec::new(), arrivals: 0, ..*self };
        survivors.for_each(|commit| model.commit(commit));
        model.last = last;
        model
    }

    /// All that was committed so far is durable.
    pub fn all_durable(&mut self) {
        self.commits.iter_mut().for_each(|commit| commit.durable = true);
    }

    /// Commits chosen are durable, and with a logged one all logged ones before it: the log is a prefix.
    pub fn durable_where(&mut self, chosen: impl Fn(&Model, &Commit) -> bool) {
        let chosen: Vec<bool> = self.commits.iter().map(|commit| chosen(self, commit)).collect();
        let mut log_durable = false;
        for (commit, chosen) in self.commits.iter_mut().zip(chosen).rev() {
            let logged = commit.durability != Durability::Unlogged;
            log_durable |= chosen && logged;
            commit.durable |= chosen || (logged && log_durable);
        }
    }
}

#[test]
fn the_model_itself() {
    let key = |text: &str| text.as_bytes().to_vec();
    let put = |k: &str, v: &str| Write::Put { key: key(k), value: key(v), expires_at: None };
    let mut space = Space::new("s", Retention::Manual);
    space.apply(5, 1, &put("a", "five"));
    space.apply(5, 2, &Write::DeleteRange(Keys::Prefix(key("a"))));
    space.apply(7, 3, &Write::Put { key: key("a"), value: key("seven"), expires_at: Some(9) });
    space.apply(3, 4, &put("a", "three, late"));
    assert_eq!(space.versions(&key("a")).iter().map(|v| v.timestamp).collect::<Vec<_>>(), [7, 5, 3]);
    assert_eq!(space.get(&key("a"), 4, 4), Some(key("three, late")));
    assert_eq!(space.get(&key("a"), 6, 6), None);
    assert_eq!((space.get(&key("a"), 8, 8), space.get(&key("a"), 9, 9)), (Some(key("seven")), None));
    assert_eq!(space.history(&key("a"), 5).len(), 1, "a tombstone cannot be read at the floor");
    assert_eq!(space.history(&key("a"), 8).len(), 1);
    assert_eq!(space.history(&key("a"), 9).len(), 0);
    assert_eq!(space.changed_points(0, 9).iter().map(|(_, v)| v.timestamp).collect::<Vec<_>>(), [7, 3]);
    assert_eq!(space.changed_ranges(0, 9)[&5], [(key("a"), Some(key("b")))]);
    let piece = |start: &str, end: Option<&str>| (key(start), end.map(key));
    let pieces = vec![
        piece("d", None),
        piece("a", Some("c")),
        piece("b", Some("c")),
        piece("c", Some("d")),
        piece("x", Some("y")),
    ];
    assert_eq!(union(pieces), [piece("a", None)]);
    assert_eq!(union(vec![piece("a", Some("b")), piece("c", Some("d"))]).len(), 2);
}
