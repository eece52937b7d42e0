//! The log: what it takes up, and that nothing of it goes too early.
#![allow(clippy::unwrap_used, reason = "a test")]

use strandline::{Background, Db, MemFs, Options, WriteBatch};

const WAL_BYTES: u64 = 64 << 10;

fn open(fs: &MemFs) -> Db {
    Options::new()
        .fs(fs.clone())
        .background(Background::Stepped)
        .memtable_bytes(16 << 10)
        .wal_segment_bytes(4 << 10)
        .wal_bytes(WAL_BYTES)
        .open("db")
        .unwrap()
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// Writes to one keyspace only, and lets the background keep up.
fn write_much(db: &Db) {
    let busy = db.keyspace("busy").unwrap();
    for n in 0..4000 {
        busy.put(key(n), [7; 100]).unwrap();
        while db.step_background().unwrap() {}
        // One memtable's worth may be on its way in each of active, sealed and the segment in use.
        assert!(db.metrics().log_bytes < WAL_BYTES + (48 << 10), "{} after {n}", db.metrics().log_bytes);
    }
}

fn files(fs: &MemFs, ending: &str) -> impl Iterator<Item = String> {
    let entries = strandline::Fs::list(fs, strandline::fs::Purpose::Directory, "db".as_ref()).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(move |name| name.ends_with(ending))
}

#[test]
fn an_idle_keyspace_with_nothing_unflushed_holds_no_segment() {
    let fs = MemFs::new();
    let db = open(&fs);
    let idle = db.keyspace("idle").unwrap();
    idle.put("k", "v").unwrap();
    db.flush().unwrap();
    write_much(&db);
    assert!(db.metrics().log_bytes < WAL_BYTES / 2, "{}", db.metrics().log_bytes);
    let after = open(&fs.kill());
    assert_eq!(after.keyspace("idle").unwrap().get("k").unwrap().unwrap(), "v");
    assert_eq!(after.keyspace("busy").unwrap().iter().count(), 4000);
}

#[test]
fn beyond_its_limit_the_keyspace_that_holds_the_oldest_log_is_flushed() {
    let fs = MemFs::new();
    let db = open(&fs);
    let idle = db.keyspace("idle").unwrap();
    idle.put("k", "v").unwrap();
    write_much(&db);
    let after = open(&fs.kill()); // S22
    assert_eq!(after.keyspace("idle").unwrap().get("k").unwrap().unwrap(), "v");
}

#[test]
fn commits_that_write_nothing_do_not_let_the_log_grow() {
    let fs = MemFs::new();
    let db = open(&fs);
    for _ in 0..10_000 {
        db.commit(WriteBatch::new()).unwrap();
        while db.step_background().unwrap() {}
        assert!(db.metrics().log_bytes < 2 * WAL_BYTES);
    }
    assert!(db.metrics().flushes < 100, "{}", db.metrics().flushes);
    // S11
    assert_eq!(open(&fs.kill()).last_timestamp(), 10_000);
}

#[test]
fn after_a_flush_that_was_asked_for_a_large_log_holds_next_to_nothing() {
    let fs = MemFs::new();
    let open = |fs: &MemFs| Options::new().fs(fs.clone()).background(Background::Stepped).open("db").unwrap();
    let db = open(&fs);
    let busy = db.keyspace("busy").unwrap();
    for n in 0..100 {
        busy.put(key(n), vec![7; 20_000]).unwrap();
    }
    assert!(db.metrics().log_bytes > 1 << 20);
    db.flush().unwrap();
    assert!(db.metrics().log_bytes < 1000, "{}", db.metrics().log_bytes);
    assert_eq!(files(&fs, ".log").count(), 1);
    // S11, S21
    for fs in [fs.kill(), fs.power_cut(1)] {
        let after = open(&fs);
        assert_eq!((after.last_timestamp(), after.keyspace("busy").unwrap().iter().count()), (100, 100));
    }
    busy.put("after", "it").unwrap();
    assert_eq!(open(&fs.kill()).keyspace("busy").unwrap().iter().count(), 101);
}

#[test]
fn a_batch_larger_than_a_segment_is_replayed_whole() {
    let fs = MemFs::new();
    let db = open(&fs);
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("before", "1").unwrap();
    let mut batch = WriteBatch::new();
    for n in 0..3000 {
        batch.put(&keyspace, key(n), [5; 300]);
    }
    db.commit(batch).unwrap();
    keyspace.put("after", "2").unwrap();
    let after = open(&fs.kill());
    assert_eq!(after.keyspace("k").unwrap().iter().count(), 3002);
    after.verify().unwrap();
}

#[test]
fn old_segments_are_removed_and_reopening_removes_what_is_left() {
    let fs = MemFs::new();
    let db = open(&fs);
    write_much(&db);
    db.close().unwrap();
    let logs = |fs: &MemFs| files(fs, ".log").count();
    assert!(logs(&fs) < 30, "{}", logs(&fs));
    let db = open(&fs);
    db.flush().unwrap();
    db.close().unwrap();
    assert!(logs(&fs) <= 3, "{}", logs(&fs));
}

// S22, S29
#[test]
fn openings_that_end_before_anything_is_flushed_leave_few_segments() {
    let mut fs = MemFs::new();
    for name in ["a", "b", "c"] {
        open(&fs).keyspace(name).unwrap().put("first", "value").unwrap();
        fs = fs.kill();
    }
    let mut most = 0;
    for round in 0..300_u32 {
        let db = open(&fs);
        if round % 50 == 7 {
            db.keyspace("b").unwrap().put(key(round), "value").unwrap();
        }
        while db.step_background().unwrap() {}
        most = most.max(files(&fs, ".log").count());
        fs = fs.kill();
    }
    assert!(most <= 20, "{most} segments");
    assert!(files(&fs, ".table").count() <= 12, "{} tables", files(&fs, ".table").count());
    let db = open(&fs);
    assert!(["a", "b", "c"].iter().all(|name| db.keyspace(name).unwrap().contains("first").unwrap()));
    assert_eq!(db.keyspace("b").unwrap().iter().count(), 7);
    db.verify().unwrap();
}
