//! What transactions have done, and whether that could be.
//!
//! Every commit has a timestamp of its own, and every transaction says at which one it read. So what isolation promises
//! can be asked of each by itself: whether its reads are those of its start, and whether anything that it must not have
//! missed was written between its start and its commit. (A history without timestamps would have to be searched for
//! cycles, as Adya, 1999, defines them, and Elle, VLDB 2020, does.)

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

pub type Key = (u8, u8);
/// `None`: there is none.
pub type Value = Option<u64>;

/// What must not have changed between start and commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What was written.
    Snapshot,
    /// That, and what was read.
    Serializable,
}

/// A read of the database, not of own writes. Keys are a keyspace and a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Get(Key, Value),
    /// All that was found in a range of one keyspace.
    Range(u8, RangeInclusive<u8>, Vec<(u8, u64)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Set(Key, Value),
    DeleteRange(u8, RangeInclusive<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Committed(u64),
    /// Somebody else has written this key, at that time.
    Conflict(Key, u64),
    /// Somebody else is in the way and may still give up.
    Refused,
    GivenUp,
}

/// One transaction, or a commit without a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub start: Option<u64>,
    pub level: Level,
    pub reads: Vec<Read>,
    /// What was named as read in a condition, and not looked at.
    pub watched: Vec<(u8, RangeInclusive<u8>)>,
    pub writes: Vec<Write>,
    pub end: End,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anomaly {
    /// Two commits have one timestamp.
    SameTime(u64),
    /// A read is not that of the start: dirty, not repeatable, or half of a batch.
    NotOfItsStart { start: u64, read: Read, expected: String },
    /// A key was written by another between start and commit.
    LostUpdate { start: u64, commit: u64, key: Key, between: u64 },
    /// What was read, or found missing, was written by another between start and commit.
    Skew { start: u64, commit: u64, key: Key, between: u64 },
    /// A commit failed for a version that is not there, or that is no reason.
    FalseConflict { start: u64, key: Key, found: u64 },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// All versions that were committed, by key.
struct Versions(BTreeMap<Key, BTreeMap<u64, Value>>);

impl Versions {
    fn of(records: &[Record], keys: &[Key]) -> Self {
        let mut versions: BTreeMap<Key, BTreeMap<u64, Value>> =
            keys.iter().map(|key| (*key, BTreeMap::new())).collect();
        for record in records {
            let End::Committed(at) = record.end else { continue };
            for write in &record.writes {
                match write {
                    Write::Set(key, value) => _ = versions.entry(*key).or_default().insert(at, *value),
                    Write::DeleteRange(keyspace, range) => {
                        let hidden = versions.range_mut((*keyspace, *range.start())..=(*keyspace, *range.end()));
                        hidden.for_each(|(_, key)| _ = key.insert(at, None));
                    }
                }
            }
        }
        Self(versions)
    }

    fn at(&self, key: Key, time: u64) -> Value {
        self.0.get(&key)?.range(..=time).next_back().and_then(|(_, value)| *value)
    }

    /// A version of any key in the range after `start`, before `end`.
    fn between(&self, keyspace: u8, range: &RangeInclusive<u8>, start: u64, end: u64) -> Option<(Key, u64)> {
        let mut within = self.0.range((keyspace, *range.start())..=(keyspace, *range.end()));
        within.find_map(|(key, versions)| {
            let at = versions.range(start.saturating_add(1)..end.max(start.saturating_add(1))).next()?;
            Some((*key, *at.0))
        })
    }
}

/// The ranges that a record must not have missed a write in.
fn watched(record: &Record) -> Vec<(u8, RangeInclusive<u8>)> {
    let mut watched = record.watched.clone();
    if record.level == Level::Serializable {
        watched.extend(record.reads.iter().map(|read| match read {
            Read::Get((keyspace, key), _) => (*keyspace, *key..=*key),
            Read::Range(keyspace, range, _) => (*keyspace, range.clone()),
        }));
    }
    watched
}

fn written(record: &Record) -> Vec<(u8, RangeInclusive<u8>)> {
    let range = |write: &Write| match write {
        Write::Set((keyspace, key), _) => (*keyspace, *key..=*key),
        Write::DeleteRange(keyspace, range) => (*keyspace, range.clone()),
    };
    record.writes.iter().map(range).collect()
}

/// Everything that could not be, of transactions that all have ended. `keys` are all there are.
pub fn check(records: &[Record], keys: &[Key]) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let mut times = BTreeMap::new();
    for record in records {
        if let End::Committed(at) = record.end
            && !record.writes.is_empty()
            && times.insert(at, ()).is_some()
        {
            anomalies.push(Anomaly::SameTime(at));
        }
    }
    let versions = Versions::of(records, keys);
    for record in records {
        let Some(start) = record.start else { continue };
        for read in &record.reads {
            let expected = match read {
                Read::Get(key, _) => Read::Get(*key, versions.at(*key, start)),
                Read::Range(keyspace, range, _) => {
                    let keys = range.clone().filter_map(|key| Some((key, versions.at((*keyspace, key), start)?)));
                    Read::Range(*keyspace, range.clone(), keys.collect())
                }
            };
            if *read != expected {
                let expected = format!("{expected:?}");
                anomalies.push(Anomaly::NotOfItsStart { start, read: read.clone(), expected });
            }
        }
        match record.end {
            End::Committed(commit) if !record.writes.is_empty() => {
                for (keyspace, range) in written(record) {
                    if let Some((key, between)) = versions.between(keyspace, &range, start, commit) {
                        anomalies.push(Anomaly::LostUpdate { start, commit, key, between });
                    }
                }
                for (keyspace, range) in watched(record) {
                    if let Some((key, between)) = versions.between(keyspace, &range, start, commit) {
                        anomalies.push(Anomaly::Skew { start, commit, key, between });
                    }
                }
            }
            End::Conflict(key, found) => {
                let is_written = versions.0.get(&key).is_some_and(|versions| versions.contains_key(&found));
                let mut ranges = written(record).into_iter().chain(watched(record));
                let matters = ranges.any(|(keyspace, range)| keyspace == key.0 && range.contains(&key.1));
                if !(is_written && matters && found > start) {
                    anomalies.push(Anomaly::FalseConflict { start, key, found });
                }
            }
            _ => {}
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Key; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

    fn put(at: u64, writes: &[(Key, u64)]) -> Record {
        let writes = writes.iter().map(|(key, value)| Write::Set(*key, Some(*value))).collect();
        let end = End::Committed(at);
        Record { start: None, level: Snapshot, reads: Vec::new(), watched: Vec::new(), writes, end }
    }

    fn transaction(level: Level, start: u64, reads: &[Read], writes: &[(Key, u64)], commit: u64) -> Record {
        Record { start: Some(start), level, reads: reads.to_vec(), ..put(commit, writes) }
    }

    fn get(key: Key, value: u64) -> Read {
        Read::Get(key, Some(value))
    }

    use Level::{Serializable, Snapshot};

    #[test]
    fn what_may_be_is_not_found_fault_with() {
        let records = [
            put(1, &[((0, 0), 10), ((1, 0), 10)]),
            transaction(Serializable, 1, &[get((0, 0), 10)], &[((0, 0), 11)], 2),
            // Write skew, which a snapshot permits.
            transaction(Snapshot, 2, &[get((0, 0), 11), get((1, 0), 10)], &[((0, 0), 12)], 3),
            transaction(Snapshot, 2, &[get((0, 0), 11), get((1, 0), 10)], &[((1, 0), 12)], 4),
            transaction(Serializable, 4, &[Read::Range(0, 0..=1, vec![(0, 12)])], &[((0, 1), 13)], 5),
            // Without writes it is at its start.
            transaction(Serializable, 4, &[Read::Get((0, 1), None)], &[], 4),
            Record { end: End::Conflict((0, 1), 5), ..transaction(Serializable, 4, &[], &[((0, 1), 14)], 0) },
        ];
        assert_eq!(check(&records, &KEYS), []);
    }

    #[test]
    fn planted_anomalies_are_found() {
        let base = put(1, &[((0, 0), 10), ((1, 0), 10)]);
        let found = |records: &[Record]| {
            let all: Vec<Record> = std::iter::once(base.clone()).chain(records.iter().cloned()).collect();
            let found = check(&all, &KEYS);
            assert_eq!(found.len(), 1, "{found:?}");
            found.into_iter().next().unwrap()
        };
        // Lost update.
        let both = |level| {
            [
                transaction(level, 1, &[get((0, 0), 10)], &[((0, 0), 11)], 2),
                transaction(Snapshot, 1, &[get((0, 0), 10)], &[((0, 0), 12)], 3),
            ]
        };
        let lost = Anomaly::LostUpdate { start: 1, commit: 3, key: (0, 0), between: 2 };
        assert_eq!(found(&both(Snapshot)), lost);
        assert_eq!(found(&both(Serializable)), lost);
        // Write skew.
        let skew = found(&[
            transaction(Serializable, 1, &[get((1, 0), 10)], &[((0, 0), 11)], 2),
            transaction(Serializable, 1, &[get((0, 0), 10)], &[((1, 0), 12)], 3),
        ]);
        assert_eq!(skew, Anomaly::Skew { start: 1, commit: 3, key: (0, 0), between: 2 });
        // Phantom: put into a range that was read; and a range delete over what was found missing.
        let reads = [Read::Range(0, 0..=1, vec![(0, 10)])];
        let phantom = found(&[put(2, &[((0, 1), 11)]), transaction(Serializable, 1, &reads, &[((1, 0), 12)], 3)]);
        assert_eq!(phantom, Anomaly::Skew { start: 1, commit: 3, key: (0, 1), between: 2 });
        let deletes = Record { writes: vec![Write::DeleteRange(0, 0..=1)], ..put(2, &[]) };
        let missing = transaction(Serializable, 1, &[Read::Get((0, 1), None)], &[((1, 0), 12)], 3);
        assert!(matches!(found(&[deletes, missing]), Anomaly::Skew { key: (0, 1), .. }));
        // Half a batch.
        let second = put(2, &[((0, 0), 20), ((1, 0), 20)]);
        let half = transaction(Snapshot, 2, &[get((0, 0), 20), get((1, 0), 10)], &[], 2);
        assert!(matches!(found(&[second.clone(), half]), Anomaly::NotOfItsStart { read: Read::Get((1, 0), _), .. }));
        // A read that is not repeatable, and a dirty one.
        let twice = transaction(Snapshot, 1, &[get((0, 0), 10), get((0, 0), 20)], &[], 1);
        assert!(matches!(found(&[second.clone(), twice]), Anomaly::NotOfItsStart { start: 1, .. }));
        let dirty = transaction(Snapshot, 1, &[get((0, 0), 99)], &[], 1);
        assert!(matches!(found(&[dirty]), Anomaly::NotOfItsStart { .. }));
        // A conflict without a reason, and one that is not in what it has read or written.
        let refused =
            |key, at| Record { end: End::Conflict(key, at), ..transaction(Snapshot, 1, &[], &[((0, 0), 1)], 0) };
        assert!(matches!(found(&[refused((0, 0), 2)]), Anomaly::FalseConflict { .. }));
        assert!(matches!(found(&[second.clone(), refused((1, 0), 2)]), Anomaly::FalseConflict { .. }));
        assert_eq!(found(&[second.clone(), put(2, &[((1, 1), 5)])]), Anomaly::SameTime(2));
    }
}
