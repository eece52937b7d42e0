//! One thread that does one transaction after the other, and notes what it saw.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::thread;

use rand::RngExt;
use strandline::{CommitOptions, Error, Isolation, Result, Slice, Timestamp, Transaction, WriteBatch};

use super::history::{End, Key, Level, Read, Record, Write};
use super::{KEYS, Shared};
use crate::random::Random;

pub(super) fn work(shared: &Shared, random: &mut Random, transactions: u32) {
    for _ in 0..transactions {
        let record = match random.random_range(0..8) {
            0 => plain(shared, random),
            1 | 2 => condition(shared, random),
            _ => transaction(shared, random),
        };
        shared.records.lock().unwrap().push(record);
    }
}

fn name(key: u8) -> [u8; 2] {
    [b'k', key]
}

fn number(value: &Slice) -> u64 {
    u64::from_le_bytes(value.as_ref().first_chunk().copied().unwrap_or_default())
}

fn some_key(random: &mut Random) -> Key {
    (random.random_range(0..2), random.random_range(0..KEYS))
}

fn some_range(random: &mut Random) -> (u8, RangeInclusive<u8>) {
    let (keyspace, first) = some_key(random);
    (keyspace, first..=random.random_range(first..KEYS))
}

fn end(result: Result<Timestamp>) -> End {
    match result {
        Ok(at) => End::Committed(at),
        Err(Error::Conflict { keyspace, key, found, .. }) => {
            let keyspace = u8::from(&*keyspace != "one");
            End::Conflict((keyspace, key.get(1).copied().unwrap_or_default()), found)
        }
        // What it writes, or has read, is in the way of one that is prepared.
        Err(Error::Busy { .. }) => End::Refused,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Prepares, waits a little, and decides: aborts some.
fn in_two_phases(shared: &Shared, random: &mut Random, tx: Transaction) -> End {
    let id = shared.next_value.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    if let Err(error) = tx.prepare(id) {
        return end(Err(error));
    }
    for _ in 0..random.random_range(0..3) {
        thread::yield_now();
    }
    let end = if random.random_range(0..4) == 0 {
        shared.db.abort_prepared(id).unwrap();
        End::GivenUp
    } else {
        End::Committed(shared.db.commit_prepared(id, None).unwrap())
    };
    shared.db.forget_prepared(id).unwrap();
    end
}

/// Something longer than a number now and then, so that memtables fill.
fn value(shared: &Shared, random: &mut Random) -> (u64, Vec<u8>) {
    let number = shared.next_value.fetch_add(1, Ordering::Relaxed);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + random.random_range(0..4) * 40, 0);
    (number, bytes)
}

/// Adds some writes to a batch; of one key the last one counts, so each is written once.
fn write(shared: &Shared, random: &mut Random, batch: &mut WriteBatch) -> Vec<Write> {
    let mut writes = Vec::new();
    if random.random_range(0..5) == 0 {
        let (keyspace, range) = some_range(random);
        let bounds = name(*range.start())..=name(*range.end());
        batch.delete_range(&shared.pair[usize::from(keyspace)], bounds);
        return vec![Write::DeleteRange(keyspace, range)];
    }
    for _ in 0..random.random_range(1..4) {
        let key = some_key(random);
        if writes.iter().any(|write| matches!(write, Write::Set(other, _) if *other == key)) {
            continue;
        }
        let keyspace = &shared.pair[usize::from(key.0)];
        let written = if random.random_range(0..4) == 0 {
            batch.delete(keyspace, name(key.1));
            None
        } else {
            let (number, bytes) = value(shared, random);
            batch.put(keyspace, name(key.1), bytes);
            Some(number)
        };
        writes.push(Write::Set(key, written));
    }
    writes
}

fn plain(shared: &Shared, random: &mut Random) -> Record {
    let mut batch = WriteBatch::new();
    let writes = write(shared, random, &mut batch);
    let end = end(shared.db.commit(batch));
    Record { start: None, level: Level::Snapshot, reads: Vec::new(), watched: Vec::new(), writes, end }
}

/// A conditional commit by a snapshot that lives until then.
fn condition(shared: &Shared, random: &mut Random) -> Record {
    let snapshot = shared.db.snapshot();
    let start = snapshot.timestamp();
    let (mut batch, mut reads, mut watched) = (WriteBatch::new(), Vec::new(), Vec::new());
    let writes = write(shared, random, &mut batch);
    for _ in 0..random.random_range(0..3) {
        let (keyspace, range) = some_range(random);
        let of = &shared.pair[usize::from(keyspace)];
        if range.start() == range.end() {
            batch.read(of, name(*range.start()));
            let found = snapshot.get(of, name(*range.start())).unwrap();
            reads.push(Read::Get((keyspace, *range.start()), found.as_ref().map(number)));
        } else {
            batch.read_range(of, name(*range.start())..=name(*range.end()));
        }
        watched.push((keyspace, range));
    }
    if random.random_range(0..2) == 0 {
        thread::yield_now();
    }
    let end = end(shared.db.commit_with(batch, CommitOptions::new().started_at(start)));
    Record { start: Some(start), level: Level::Snapshot, reads, watched, writes, end }
}

fn transaction(shared: &Shared, random: &mut Random) -> Record {
    let (isolation, level) = match random.random_range(0..3) {
        0 => (Isolation::Snapshot, Level::Snapshot),
        _ => (Isolation::Serializable, Level::Serializable),
    };
    let mut tx = shared.db.begin(isolation).unwrap();
    let start = tx.started_at();
    let (mut reads, mut writes) = (Vec::new(), Vec::<Write>::new());
    let is_own =
        |writes: &[Write], key: Key| writes.iter().any(|write| matches!(write, Write::Set(own, _) if *own == key));
    for _ in 0..random.random_range(1..7) {
        let key = some_key(random);
        let keyspace = &shared.pair[usize::from(key.0)];
        match random.random_range(0..8) {
            0..=2 if !is_own(&writes, key) => {
                let found = tx.get(keyspace, name(key.1)).unwrap();
                reads.push(Read::Get(key, found.as_ref().map(number)));
            }
            // Of a range with own writes in it the database's part cannot be told.
            3 | 4 => {
                let (at, range) = some_range(random);
                if !range.clone().any(|key| is_own(&writes, (at, key))) {
                    reads.push(walk(shared, random, &tx, at, range));
                }
            }
            5 => {
                let mark = tx.savepoint();
                tx.put(keyspace, name(key.1), b"taken back").unwrap();
                tx.rollback_to(mark).unwrap();
            }
            _ => {
                writes.retain(|write| !matches!(write, Write::Set(own, _) if *own == key));
                if random.random_range(0..4) == 0 {
                    tx.delete(keyspace, name(key.1)).unwrap();
                    writes.push(Write::Set(key, None));
                } else {
                    let (number, bytes) = value(shared, random);
                    tx.put(keyspace, name(key.1), bytes).unwrap();
                    writes.push(Write::Set(key, Some(number)));
                }
            }
        }
        if random.random_range(0..4) == 0 {
            thread::yield_now();
        }
    }
    let end = match random.random_range(0..12) {
        0 => End::GivenUp,
        1..=3 => in_two_phases(shared, random, tx),
        _ => end(tx.commit()),
    };
    Record { start: Some(start), level, reads, watched: Vec::new(), writes, end }
}

/// Walks a range from either end, perhaps not to its other one: then it has read as far as it came.
fn walk(shared: &Shared, random: &mut Random, tx: &Transaction, keyspace: u8, range: RangeInclusive<u8>) -> Read {
    let (first, last) = (*range.start(), *range.end());
    let mut pairs = tx.range(&shared.pair[usize::from(keyspace)], name(first)..=name(last));
    let forward = random.random_range(0..2) == 0;
    let most = random.random_range(1..8);
    let mut found = Vec::new();
    let mut covered = first..=last;
    for n in 1.. {
        let Some(pair) = (if forward { pairs.next() } else { pairs.next_back() }) else { break };
        let (key, value) = pair.unwrap();
        let at = key.get(1).copied().unwrap_or_default();
        found.push((at, number(&value)));
        if n == most {
            covered = if forward { first..=at } else { at..=last };
            break;
        }
    }
    found.sort_unstable();
    Read::Range(keyspace, covered, found)
}
