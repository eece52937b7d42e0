//! Conditional commits.

use std::ops::Bound;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{CommitOptions, Db, Durability, Error, Keyspace, MemFs, Options, Retention, WriteBatch};

use super::{conflict, small, started, stepped};

fn put(keyspace: &Keyspace, key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(keyspace, key, value);
    batch
}

// S8, S9, S10
#[test]
fn whatever_is_newer_than_the_start_is_a_conflict_wherever_it_lies() {
    let fs = MemFs::new();
    let db = stepped(&fs);
    let ks = db.keyspace_with("accounts", small(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", small(Retention::Manual)).unwrap();
    let start = ks.put("m", "1").unwrap();
    type Write = fn(&Keyspace, &mut WriteBatch);
    let writes: [(&str, Write); 5] = [
        ("m", |ks, batch| batch.put(ks, "m", "2")),
        ("m", |ks, batch| batch.delete(ks, "m")),
        ("m", |ks, batch| batch.put_expiring(ks, "m", "dead from birth", 1)),
        ("m", |ks, batch| batch.delete_range(ks, "a".."z")),
        ("m", |ks, batch| batch.delete_prefix(ks, "m")),
    ];
    for (n, (key, write)) in writes.into_iter().enumerate() {
        let mut batch = WriteBatch::new();
        write(&ks, &mut batch);
        let start = if n == 0 { start } else { db.last_timestamp() };
        let found = db.commit(batch).unwrap();
        for place in ["memtable", "level 0", "the last level"] {
            let expected = ("accounts".to_owned(), key.as_bytes().to_vec(), start, found);
            let refused = db.commit_with(put(&ks, "m", "x"), started(start));
            assert_eq!(conflict(refused), expected, "{n} in {place}: written");
            let mut reads = put(&other, "else", "x");
            reads.read(&ks, "m");
            assert_eq!(conflict(db.commit_with(reads, started(start))), expected, "{n} in {place}: read");
            let mut ranges = put(&other, "else", "x");
            ranges.read_range(&ks, "m"..="m");
            assert_eq!(conflict(db.commit_with(ranges, started(start))), expected, "{n} in {place}: range");
            let mut deletes = put(&other, "else", "x");
            deletes.delete_range(&ks, "l".."n");
            assert!(matches!(db.commit_with(deletes, started(start)), Err(Error::Conflict { .. })), "{n} in {place}");
            assert_eq!(other.get("else").unwrap(), None, "no trace");
            assert_eq!(db.last_timestamp(), found, "no trace");
            if place == "memtable" {
                db.flush().unwrap();
            } else {
                db.compact().unwrap();
            }
        }
        // Equal is no conflict, and neither is what lies beside it.
        let mut beside = put(&other, &format!("beside {n}"), "x");
        beside.read(&ks, "m");
        beside.read_range(&ks, (Bound::Excluded("m"), Bound::Unbounded));
        db.commit_with(beside, started(found)).unwrap();
        db.commit_with(put(&ks, "m", "again"), started(found)).unwrap();
    }
    // After a reopen.
    let start = db.last_timestamp();
    let found = ks.put("m", "3").unwrap();
    db.close().unwrap();
    let db = stepped(&fs);
    let ks = db.keyspace("accounts").unwrap();
    assert_eq!(conflict(db.commit_with(put(&ks, "m", "x"), started(start))).3, found);
    db.close().unwrap();
}

// S9
#[test]
fn late_commits_count_by_their_timestamps() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
    let at = |batch, at| db.commit_with(batch, CommitOptions::new().at(at));
    at(put(&ks, "a", "1"), 10).unwrap();
    at(put(&ks, "b", "1"), 20).unwrap();
    at(put(&ks, "a", "late"), 15).unwrap();
    assert_eq!(conflict(db.commit_with(put(&ks, "a", "x"), started(12))).3, 15);
    // A late one is held against what is newer than its start as well, on either side of it.
    assert_eq!(conflict(db.commit_with(put(&ks, "b", "x"), started(12).at(17))).3, 20);
    db.commit_with(put(&ks, "a", "x"), started(15).at(16)).unwrap();
    assert_eq!(ks.get_at("a", 19).unwrap().unwrap(), "x");
}

// S9
#[test]
fn a_start_below_the_floor_is_refused_unless_a_snapshot_keeps_what_it_needs() {
    for flushes in [false, true] {
        let db = stepped(&MemFs::new());
        let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
        let start = ks.put("other", "1").unwrap();
        let snapshot = db.snapshot();
        // Came and went above the start: only the tombstone says so, and retention would drop it.
        ks.put("k", "1").unwrap();
        let gone = ks.delete("k").unwrap();
        let floor = ks.put("other", "2").unwrap();
        db.retain_from(floor).unwrap();
        if flushes {
            db.compact().unwrap();
        }
        assert_eq!(conflict(db.commit_with(put(&ks, "k", "x"), started(start))).3, gone);
        assert!(matches!(
            db.commit_with(put(&ks, "k", "x"), started(start - 1)),
            Err(Error::BelowRetained { requested, retained }) if requested == start - 1 && retained == floor
        ));
        drop(snapshot);
        assert!(matches!(db.commit_with(put(&ks, "k", "x"), started(start)), Err(Error::BelowRetained { .. })));
        // The first try refuses it or finds it; what is dropped then must not let it pass.
        db.compact().unwrap();
        assert!(matches!(db.commit_with(put(&ks, "k", "x"), started(start)), Err(Error::BelowRetained { .. })));
        db.commit_with(put(&ks, "k", "x"), started(floor)).unwrap();
    }
}

#[test]
fn starts_that_make_no_sense_are_refused() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
    let last = ks.put("k", "1").unwrap();
    assert!(matches!(
        db.commit_with(put(&ks, "k", "x"), started(last + 1)),
        Err(Error::FutureTimestamp { requested, last: known }) if requested == last + 1 && known == last
    ));
    assert!(matches!(db.commit_with(put(&ks, "k", "x"), started(u64::MAX)), Err(Error::FutureTimestamp { .. })));
    assert!(matches!(db.commit_with(put(&ks, "k", "x"), started(last).at(last)), Err(Error::InvalidArgument(_))));
    db.close_until(last + 10).unwrap();
    assert!(db.commit_with(put(&ks, "k", "x"), started(last + 10)).unwrap() > last + 10);
    // An empty range is touched too.
    let other = db.keyspace_with("other", small(Retention::Manual)).unwrap();
    let start = db.last_timestamp();
    other.put("k", "1").unwrap();
    db.retain_from(other.put("k", "2").unwrap()).unwrap();
    let mut empty = WriteBatch::new();
    empty.delete_range(&other, "b".."a");
    assert!(matches!(db.commit_with(empty.clone(), started(start)), Err(Error::BelowRetained { .. })));
    let mut empty = WriteBatch::new();
    empty.read_range(&other, "b".."a");
    assert!(matches!(db.commit_with(empty, started(start)), Err(Error::BelowRetained { .. })));
    // One without writes is a commit like any other.
    let start = db.last_timestamp();
    let mut reads = WriteBatch::new();
    reads.read(&ks, "k");
    assert_eq!(db.commit_with(reads.clone(), started(start)).unwrap(), start + 1);
    let found = ks.put("k", "2").unwrap();
    assert_eq!(conflict(db.commit_with(reads, started(start))).3, found);
}

/// Everything that was ever written.
#[derive(Default)]
struct Model {
    points: Vec<(u8, u64)>,
    ranges: Vec<(u8, u8, u64)>,
}

impl Model {
    /// The newest version of a key.
    fn newest(&self, key: u8) -> u64 {
        let points = self.points.iter().filter(|(other, _)| *other == key).map(|(_, at)| *at);
        let ranges = self.ranges.iter().filter(|(start, end, _)| (*start..*end).contains(&key)).map(|(.., at)| *at);
        points.chain(ranges).max().unwrap_or(0)
    }

    /// The newest version in a range; a range delete need not hide any key of it.
    fn newest_within(&self, start: u8, end: u8) -> u64 {
        let points = self.points.iter().filter(|(key, _)| (start..end).contains(key)).map(|(_, at)| *at);
        let overlaps = |one: &&(u8, u8, u64)| one.0.max(start) < one.1.min(end);
        points.chain(self.ranges.iter().filter(overlaps).map(|(.., at)| *at)).max().unwrap_or(0)
    }
}

fn key(i: u8) -> [u8; 4] {
    [b'k', i / 10, i % 10, 0]
}

/// A random batch, what it must not meet, and what it does.
fn random(dice: &mut StdRng, ks: &Keyspace, model: &mut Model, at: u64) -> (WriteBatch, u64) {
    let mut batch = WriteBatch::new();
    let mut newest = 0;
    let mut written = Model::default();
    for _ in 0..dice.random_range(1..5) {
        let i = dice.random_range(0..KEYS);
        let end = dice.random_range(i..=KEYS);
        match dice.random_range(0..8) {
            0 => {
                batch.read(ks, key(i));
                newest = newest.max(model.newest(i));
            }
            1 if i < end => {
                batch.read_range(ks, &key(i)[..]..&key(end)[..]);
                newest = newest.max(model.newest_within(i, end));
            }
            2 if i < end => {
                batch.delete_range(ks, &key(i)[..]..&key(end)[..]);
                newest = newest.max(model.newest_within(i, end));
                written.ranges.push((i, end, at));
            }
            3 => {
                batch.delete(ks, key(i));
                newest = newest.max(model.newest(i));
                written.points.push((i, at));
            }
            4 => {
                batch.put_expiring(ks, key(i), "v", dice.random_range(0..at + 20));
                newest = newest.max(model.newest(i));
                written.points.push((i, at));
            }
            _ => {
                batch.put(ks, key(i), "v");
                newest = newest.max(model.newest(i));
                written.points.push((i, at));
            }
        }
    }
    model.points.append(&mut written.points);
    model.ranges.append(&mut written.ranges);
    (batch, newest)
}

const KEYS: u8 = 40;

// S8, S9, S10: every conflict is found, and no other.
#[test]
fn random_conditions_fail_exactly_where_the_model_says() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let fs = MemFs::new();
        let retention = [Retention::Manual, Retention::Latest][dice.random_range(0..2)];
        let mut db = stepped(&fs);
        let mut ks = db.keyspace_with("k", small(retention)).unwrap();
        let mut model = Model::default();
        let (mut passed, mut failed, mut refused) = (0, 0, 0);
        for step in 0..400 {
            let last = db.last_timestamp();
            let start = last.saturating_sub(dice.random_range(0..12));
            let late = dice.random_range(0..8) == 0;
            let at = if late { start + dice.random_range(1..6) } else { last + dice.random_range(1..4) };
            let before = (model.points.len(), model.ranges.len());
            let (batch, newest) = random(&mut dice, &ks, &mut model, at);
            let durability = [Durability::Buffered, Durability::Synced, Durability::Unlogged][dice.random_range(0..3)];
            let floor = ks.retained_from();
            let result = db.commit_with(batch, started(start).at(at).durability(durability));
            let expected = newest <= start;
            match result {
                Ok(committed) => {
                    assert!(expected && start >= floor, "step {step}: {newest} is above {start}, floor {floor}");
                    assert_eq!(committed, at);
                    passed += 1;
                }
                Err(error) => {
                    model.points.truncate(before.0);
                    model.ranges.truncate(before.1);
                    match error {
                        Error::Conflict { start: named, found, .. } => {
                            assert!(!expected && named == start && found > start, "step {step}");
                            failed += 1;
                        }
                        Error::BelowRetained { retained, .. } => {
                            assert!(
                                retained == ks.retained_from() && (start < retained || at <= retained),
                                "step {step}"
                            );
                            refused += 1;
                        }
                        other => panic!("step {step}: {other}"),
                    }
                }
            }
            match dice.random_range(0..40) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                2 if retention == Retention::Manual => {
                    let last = db.last_timestamp();
                    if last > 8 {
                        db.retain_from(last - 8).unwrap();
                    }
                }
                3 => {
                    db.close().unwrap();
                    db = stepped(&fs);
                    ks = db.keyspace("k").unwrap();
                }
                _ => {}
            }
        }
        println!("{passed} passed, {failed} failed, {refused} refused");
        assert!(passed > 20 && failed > 20);
        db.close().unwrap();
    }
}

#[test]
fn set_expiry_writes_the_visible_value_again() {
    let db = Options::new().fs(MemFs::new()).open("db").unwrap();
    let ks: Keyspace = db.keyspace("k").unwrap();
    let first = ks.put("k", "value").unwrap();
    let second = ks.set_expiry("k", first + 5).unwrap();
    assert!(second > first);
    assert_eq!(ks.get("k").unwrap().unwrap(), "value");
    while db.last_timestamp() < first + 5 {
        ks.put("other", "x").unwrap();
    }
    assert_eq!(ks.get("k").unwrap(), None);
    assert!(matches!(ks.set_expiry("k", 100), Err(Error::KeyNotFound)));
    assert!(matches!(ks.set_expiry("never", 100), Err(Error::KeyNotFound)));
    let last: Db = db;
    last.close().unwrap();
}
