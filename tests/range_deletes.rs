//! Walks over what range deletes hide: right whatever lies around them, and not key by key.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{
    Background, CommitOptions, Compression, Db, Keyspace, KeyspaceOptions, MemFs, Options, Retention, WriteBatch,
};

fn key(i: u32) -> Vec<u8> {
    format!("key {i:06}").into_bytes()
}

#[derive(Debug, Clone)]
enum Op {
    Put(u32),
    Delete(u32),
    DeleteRange(u32, u32),
}

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the operations leave that were committed at or below a timestamp, in the order of timestamps.
fn state_at(history: &[(u64, Op)], timestamp: u64) -> State {
    let mut ops: Vec<_> = history.iter().filter(|(at, _)| *at <= timestamp).collect();
    ops.sort_by_key(|(at, _)| *at);
    let mut state = State::new();
    for (at, op) in ops {
        match op {
            Op::Put(i) => _ = state.insert(key(*i), at.to_string().into_bytes()),
            Op::Delete(i) => _ = state.remove(&key(*i)),
            Op::DeleteRange(start, end) => state.retain(|at, _| !(key(*start)..key(*end)).contains(at)),
        }
    }
    state
}

fn check(db: &Db, keyspace: &Keyspace, expected: &State, timestamp: u64, dice: &mut StdRng) {
    let snapshot = db.snapshot_at(timestamp).unwrap();
    let rows: Vec<(&[u8], &[u8])> = expected.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
    let mut cursor = snapshot.cursor(keyspace);
    cursor.seek_to_first().unwrap();
    for row in &rows {
        assert_eq!(cursor.entry(), Some(*row), "forward at {timestamp}");
        cursor.next().unwrap();
    }
    assert_eq!(cursor.entry(), None);
    cursor.seek_to_last().unwrap();
    for row in rows.iter().rev() {
        assert_eq!(cursor.entry(), Some(*row), "backward at {timestamp}");
        cursor.prev().unwrap();
    }
    assert_eq!(cursor.entry(), None);
    // To and fro.
    for _ in 0..10 {
        let from = key(dice.random_range(0..KEYS));
        let mut at = rows.partition_point(|(key, _)| **key < *from);
        cursor.seek(&from).unwrap();
        for _ in 0..12 {
            assert_eq!(cursor.entry(), rows.get(at).copied(), "from {from:?} at {timestamp}");
            if at >= rows.len() {
                break;
            }
            if dice.random_range(0..2) == 0 {
                at += 1;
                cursor.next().unwrap();
            } else {
                at = at.wrapping_sub(1);
                cursor.prev().unwrap();
            }
        }
    }
}

const KEYS: u32 = 600;

// S2, S3
#[test]
fn walks_see_what_range_deletes_leave_whatever_lies_around_them() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let options = Options::new().fs(MemFs::new()).background(Background::Stepped).late_commits(true);
        let db = options.open("db").unwrap();
        let small = KeyspaceOptions::new()
            .retention(Retention::Manual)
            .compression(Compression::None)
            .block_bytes(256)
            .target_file_bytes(4 << 10)
            .level_base_bytes(16 << 10);
        let keyspace = db.keyspace_with("k", small).unwrap();
        let mut history: Vec<(u64, Op)> = Vec::new();
        for _ in 0..dice.random_range(2..6) {
            // Many keys, some range deletes, and what comes on top of them.
            for _ in 0..dice.random_range(1..40) {
                let mut batch = WriteBatch::new();
                let next = db.last_timestamp() + 1 + dice.random_range(0..2);
                let late = dice.random_range(0..6) == 0 && next > 8;
                let at = if late { next - dice.random_range(2..8) } else { next };
                // Of one timestamp the later commit would count, and the model sorts by timestamps only.
                if history.iter().any(|(other, _)| *other == at) {
                    continue;
                }
                match dice.random_range(0..4) {
                    0 => {
                        let start = dice.random_range(0..KEYS);
                        let end = dice.random_range(start..=KEYS);
                        batch.delete_range(&keyspace, key(start)..key(end));
                        history.push((at, Op::DeleteRange(start, end)));
                    }
                    1 => {
                        let i = dice.random_range(0..KEYS);
                        batch.delete(&keyspace, key(i));
                        history.push((at, Op::Delete(i)));
                    }
                    _ => {
                        let start = dice.random_range(0..KEYS);
                        for i in start..dice.random_range(start..=KEYS.min(start + 150)) {
                            batch.put(&keyspace, key(i), at.to_string());
                            history.push((at, Op::Put(i)));
                        }
                    }
                }
                db.commit_with(batch, CommitOptions::new().at(at)).unwrap();
            }
            if dice.random_range(0..3) < 2 {
                db.flush().unwrap();
            }
            if dice.random_range(0..3) == 0 {
                db.compact().unwrap();
            }
            let last = db.last_timestamp();
            for timestamp in [last, dice.random_range(0..=last), dice.random_range(0..=last)] {
                check(&db, &keyspace, &state_at(&history, timestamp), timestamp, &mut dice);
            }
        }
        db.close().unwrap();
    }
}

#[test]
fn a_walk_does_not_look_at_every_key_that_a_range_delete_hides() {
    let options = Options::new().fs(MemFs::new()).background(Background::Stepped);
    let db = options.open("db").unwrap();
    let small =
        KeyspaceOptions::new().compression(Compression::None).retention(Retention::Manual).target_file_bytes(64 << 10);
    let keyspace = db.keyspace_with("k", small).unwrap();
    const MANY: u32 = 50_000;
    for first in (0..MANY).step_by(1000) {
        let mut batch = WriteBatch::new();
        (first..first + 1000).for_each(|i| batch.put(&keyspace, key(i), "what will be hidden"));
        db.commit(batch).unwrap();
    }
    db.compact().unwrap();
    assert!(db.metrics().table_files > 10);
    let lookups = || db.metrics().block_cache_hits + db.metrics().block_cache_misses;
    let cost = |what: &str| {
        let before = lookups();
        let mut cursor = db.snapshot().cursor(&keyspace);
        let mut seen = Vec::new();
        cursor.seek_to_first().unwrap();
        while let Some((key, _)) = cursor.entry() {
            seen.push(key.to_vec());
            cursor.next().unwrap();
        }
        cursor.seek_to_last().unwrap();
        for key in seen.iter().rev() {
            assert_eq!(cursor.entry().map(|(key, _)| key), Some(&**key));
            cursor.prev().unwrap();
        }
        assert_eq!(cursor.entry(), None);
        // To and fro beside what is hidden.
        if seen.len() < 1000 {
            cursor.seek(key(MANY / 2)).unwrap();
            for _ in 0..3 {
                cursor.prev().unwrap();
                cursor.next().unwrap();
                assert_eq!(cursor.entry().map(|(at, _)| at.to_vec()), Some(key(MANY / 2)));
            }
        }
        println!("{what}: {} keys, {} blocks", seen.len(), lookups() - before);
        (seen.len(), lookups() - before)
    };
    let (all, blocks) = cost("nothing hidden");
    assert!(all == MANY as usize && blocks > 300);

    let mut batch = WriteBatch::new();
    batch.delete_range(&keyspace, key(100)..key(MANY - 100));
    db.commit(batch).unwrap();
    for i in [200, MANY / 2] {
        keyspace.put(key(i), "on top").unwrap();
    }
    for what in ["in a memtable", "in level 0"] {
        let (left, blocks) = cost(what);
        assert_eq!(left, 202);
        assert!(blocks < 100, "{what}: {blocks} blocks");
        db.flush().unwrap();
    }
    db.close().unwrap();
}
