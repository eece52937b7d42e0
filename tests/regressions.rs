//! What once went wrong, one scenario a test, named by what must hold.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::sync::mpsc;
use std::time::Duration;

use strandline::fs::{Fault, FaultKind, Operation, PowerCut, Purpose};
use strandline::{
    Background, Change, CommitOptions, Compression, Db, Durability, Error, FaultFs, Fs, Keyspace, KeyspaceOptions,
    MemFs, Options, Retention, Timestamp, WriteBatch,
};

/// How long anything may take that has to end.
const PATIENCE: Duration = Duration::from_secs(20);

fn stepped(fs: impl Fs) -> Options {
    Options::new().fs(fs).background(Background::Stepped)
}

fn work_off(db: &Db) {
    while db.step_background().unwrap() {}
}

fn fail(fs: &FaultFs, purpose: Purpose, operation: Operation, nth: u64) {
    fs.inject(Fault { purpose: Some(purpose), operation: Some(operation), nth, kind: FaultKind::Io, repeat: false });
}

fn at(timestamp: Timestamp, durability: Durability) -> CommitOptions {
    CommitOptions::new().at(timestamp).durability(durability)
}

/// Runs `body` on a thread of its own and gives what it returns, if that is in time.
fn in_time<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(body())));
    is_done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} does not end"))
}

/// A database whose log holds ten values that no table holds.
fn left_in_the_log(fs: &MemFs, bytes: usize) {
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..10 {
        keyspace.put(format!("k{i}"), vec![0; bytes]).unwrap();
    }
}

// S38: what replay put into memtables is counted like what commits put there.
#[test]
fn flushing_what_was_replayed_leaves_no_backlog() {
    let fs = MemFs::new();
    left_in_the_log(&fs, 300);
    let db = stepped(fs).memtable_bytes(4096).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    db.flush().unwrap();
    assert_eq!(db.metrics().sealed_memtable_bytes, 0);
    let flushes = db.metrics().flushes;
    for i in 0..50 {
        keyspace.put(format!("z{i}"), "x").unwrap();
        work_off(&db);
    }
    assert!(db.metrics().flushes < flushes + 5);
}

// S38
#[test]
fn a_commit_after_the_replay_of_full_memtables_returns() {
    let fs = MemFs::new();
    left_in_the_log(&fs, 2000);
    let db = Options::new().fs(fs).memtable_bytes(4096).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    in_time("a commit", move || keyspace.put("a", "b").unwrap());
}

// S4, S17: the floor that a flush dropped by outlives the flush's own failure.
#[test]
fn resume_keeps_the_floor_that_it_dropped_by() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("k", "a").unwrap();
    keyspace.put("k", "b").unwrap();
    fail(&fs, Purpose::Flush, Operation::Create, 0);
    db.flush().unwrap_err();
    db.resume().unwrap();
    drop((db, keyspace));
    let db = stepped(fs).open("d").unwrap();
    match db.keyspace("k").unwrap().get_at("k", 1) {
        Err(Error::BelowRetained { .. }) => {}
        found => assert_eq!(found.unwrap().as_deref(), Some(&b"a"[..])),
    }
}

// S29
#[test]
fn a_first_open_that_failed_at_any_call_can_be_tried_again() {
    let counting = FaultFs::new(MemFs::new());
    drop(stepped(counting.clone()).open("d").unwrap());
    for nth in 0..counting.calls() {
        for kind in [FaultKind::Io, FaultKind::StorageFull] {
            let fs = FaultFs::new(MemFs::new());
            fs.inject(Fault { purpose: None, operation: None, nth, kind, repeat: false });
            drop(stepped(fs.clone()).open("d"));
            fs.clear();
            let db = stepped(fs).open("d").unwrap_or_else(|error| panic!("call {nth}, {kind:?}: {error}"));
            db.keyspace("k").unwrap().put("a", "b").unwrap();
        }
    }
}

// S29
#[test]
fn a_power_cut_after_the_first_open_leaves_what_opens() {
    for seed in 0..200 {
        let fs = MemFs::new();
        let db = stepped(fs.clone()).open("d").unwrap();
        let left = fs.power_cut(PowerCut::from(seed));
        std::mem::forget(db);
        stepped(left).open("d").map(drop).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

// S26, S28: the ordinal of a log that did not come into use is spent.
#[test]
fn resume_may_fail_at_any_call_and_be_tried_again() {
    let run = |nth: Option<u64>| {
        let fs = FaultFs::new(MemFs::new());
        let db = stepped(fs.clone()).open("d").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        keyspace.put("k", "a").unwrap();
        fail(&fs, Purpose::Log, Operation::Sync, 0);
        db.sync().unwrap_err();
        let before = fs.calls();
        if let Some(nth) = nth {
            fs.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::Io, repeat: false });
            drop(db.resume());
            fs.clear();
        }
        db.resume().unwrap();
        let calls = fs.calls() - before;
        keyspace.put("l", "b").unwrap();
        db.sync().unwrap();
        db.verify().unwrap();
        drop((db, keyspace));
        let db = stepped(fs).open("d").unwrap_or_else(|error| panic!("call {nth:?}: {error}"));
        let keyspace = db.keyspace("k").unwrap();
        assert_eq!(keyspace.get("k").unwrap().as_deref(), Some(&b"a"[..]), "call {nth:?}");
        assert_eq!(keyspace.get("l").unwrap().as_deref(), Some(&b"b"[..]), "call {nth:?}");
        calls
    };
    for nth in 0..run(None) {
        run(Some(nth));
    }
}

// S11: a floor or a closed timestamp becomes durable only with the unlogged commits below it.
#[test]
fn close_until_over_unlogged_commits_of_several_keyspaces_makes_them_durable() {
    for memtable_bytes in [1 << 20, 200] {
        let fs = MemFs::new();
        let options = || stepped(fs.clone()).durability(Durability::Unlogged).memtable_bytes(memtable_bytes);
        let db = options().open("d").unwrap();
        let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
        for i in 0..6 {
            for keyspace in [&a, &b] {
                keyspace.put(format!("k{i}"), vec![0; 300]).unwrap();
            }
        }
        db.close_until(100).unwrap();
        let left = fs.power_cut(PowerCut::from(1));
        std::mem::forget((db, a, b));
        let db = stepped(left).open("d").unwrap();
        assert_eq!((db.closed_timestamp(), db.last_timestamp()), (100, 12));
        for name in ["a", "b"] {
            assert_eq!(db.keyspace(name).unwrap().iter().count(), 6);
        }
    }
}

// S11, S25
#[test]
fn the_timestamp_of_a_commit_that_never_was_is_free_again() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let commit = |timestamp| {
        let mut batch = WriteBatch::new();
        batch.put(&keyspace, "k", "v");
        db.commit_with(batch, at(timestamp, Durability::Synced))
    };
    commit(99).unwrap();
    fail(&fs, Purpose::Log, Operation::Sync, 0);
    commit(100).unwrap_err();
    db.resume().unwrap();
    assert_eq!(db.last_timestamp(), 99);
    commit(100).unwrap();
}

// S24: no false acknowledgement after a failure.
#[test]
fn close_until_after_one_that_failed_is_durable() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    db.keyspace("k").unwrap().put("a", "b").unwrap();
    fail(&fs, Purpose::Manifest, Operation::Sync, 0);
    db.close_until(50).unwrap_err();
    db.resume().unwrap();
    db.close_until(50).unwrap();
    drop(db);
    assert_eq!(stepped(fs).open("d").unwrap().closed_timestamp(), 50);
}

// S24
#[test]
fn a_drop_that_failed_has_not_happened_after_resume() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", "b").unwrap();
    fail(&fs, Purpose::Manifest, Operation::Sync, 0);
    db.drop_keyspace("k").unwrap_err();
    db.resume().unwrap();
    assert_eq!(keyspace.get("a").unwrap().as_deref(), Some(&b"b"[..]));
    keyspace.put("a", "c").unwrap();
    drop((db, keyspace));
    let db = stepped(fs).open("d").unwrap();
    assert_eq!(db.keyspace("k").unwrap().get("a").unwrap().as_deref(), Some(&b"c"[..]));
}

// S11
#[test]
fn sync_makes_an_empty_unlogged_commit_durable() {
    let fs = MemFs::new();
    let db = stepped(fs.clone()).open("d").unwrap();
    db.commit_with(WriteBatch::new(), at(50, Durability::Unlogged)).unwrap();
    db.sync().unwrap();
    let left = fs.power_cut(PowerCut::from(3));
    std::mem::forget(db);
    assert_eq!(stepped(left).open("d").unwrap().last_timestamp(), 50);
}

// S38: a log limit below the size of a segment does not make every commit a flush.
#[test]
fn a_small_limit_of_the_log_does_not_flush_at_every_commit() {
    let db = stepped(MemFs::new()).wal_bytes(1 << 16).wal_segment_bytes(1 << 20).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for i in 0..800 {
        keyspace.put(format!("k{i}"), vec![0; 100]).unwrap();
        work_off(&db);
    }
    assert!(db.metrics().flushes < 20);
}

// S38: what a dropped keyspace held is not counted any more.
#[test]
fn a_dropped_keyspace_takes_no_room_in_the_write_buffer() {
    let db = stepped(MemFs::new()).write_buffer_bytes(8192).memtable_bytes(1 << 20).open("d").unwrap();
    for _ in 0..3 {
        db.keyspace("k").unwrap().put("a", vec![0; 9000]).unwrap();
        db.drop_keyspace("k").unwrap();
    }
    let other = db.keyspace("o").unwrap();
    let flushes = db.metrics().flushes;
    for i in 0..50 {
        other.put(format!("z{i}"), "x").unwrap();
        work_off(&db);
    }
    assert!(db.metrics().flushes < flushes + 5);
}

// S38
#[test]
fn compact_ends_when_the_database_is_closed_under_it() {
    for pause in [1, 5, 20] {
        let db = Options::new().fs(MemFs::new()).open("d").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for round in 0..2 {
            let mut batch = WriteBatch::new();
            (0..10_000).for_each(|i| batch.put(&keyspace, format!("k{i:06}{round}"), vec![7; 200]));
            db.commit(batch).unwrap();
            db.flush().unwrap();
        }
        let other = db.clone();
        let compacting = std::thread::spawn(move || in_time("compact", move || other.compact()));
        std::thread::sleep(Duration::from_millis(pause));
        in_time("close", move || db.close()).unwrap();
        assert!(matches!(compacting.join().unwrap(), Ok(()) | Err(Error::Closed)));
    }
}

// S11, S17: no floor stands above the last timestamp, whatever has failed.
#[test]
fn a_floor_never_stands_above_the_last_timestamp() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).durability(Durability::Unlogged).open("d").unwrap();
    let names = ["k", "m"];
    let options = || KeyspaceOptions::new().retention(Retention::Window(1));
    let keyspaces = names.map(|name| db.keyspace_with(name, options()).unwrap());
    for i in 0..5 {
        for keyspace in &keyspaces {
            keyspace.put("k", format!("{i}")).unwrap();
        }
    }
    fail(&fs, Purpose::Flush, Operation::Sync, 1);
    db.flush().unwrap_err();
    drop((db, keyspaces));
    let db = stepped(fs).open("d").unwrap();
    for name in names {
        assert!(db.keyspace(name).unwrap().retained_from() <= db.last_timestamp());
    }
}

/// Two tables over each other, and a compaction of them that takes its time.
fn slow_to_compact() -> (Db, Keyspace) {
    let options = Options::new().fs(MemFs::new()).compaction_bytes_per_second(Some(4 << 20));
    let db = options.open("d").unwrap();
    let keyspace = db.keyspace_with("k", KeyspaceOptions::new().compression(Compression::None)).unwrap();
    for _ in 0..2 {
        let mut batch = WriteBatch::new();
        (0..20_000).for_each(|i| batch.put(&keyspace, format!("k{i:06}"), vec![7; 200]));
        db.commit(batch).unwrap();
        db.flush().unwrap();
    }
    (db, keyspace)
}

// A drop calls a compaction off; the database is as open as before.
#[test]
fn compact_under_a_drop_is_not_told_that_the_database_is_closed() {
    let (db, _keyspace) = slow_to_compact();
    let other = db.clone();
    let compacting = std::thread::spawn(move || in_time("compact", move || other.compact()));
    std::thread::sleep(Duration::from_millis(100));
    db.drop_keyspace("k").unwrap();
    compacting.join().unwrap().unwrap();

    let (db, keyspace) = slow_to_compact();
    let compacting = std::thread::spawn(move || in_time("compact", move || keyspace.compact(..)));
    std::thread::sleep(Duration::from_millis(100));
    db.drop_keyspace("k").unwrap();
    assert!(matches!(compacting.join().unwrap(), Ok(()) | Err(Error::UnknownKeyspace { .. })));
}

// S24: closing does not say that all is well where acknowledged commits are lost.
#[test]
fn close_after_a_failure_gives_that_failure() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).durability(Durability::Unlogged).open("d").unwrap();
    db.keyspace("k").unwrap().put("a", "b").unwrap();
    fail(&fs, Purpose::Flush, Operation::Create, 0);
    db.flush().unwrap_err();
    assert!(matches!(db.close(), Err(Error::Background(_))));
    assert!(matches!(db.close(), Err(Error::Closed)));
    stepped(fs).open("d").unwrap();
}

// S38: range deletes that overlap take far more memory than their bytes, and are counted so.
#[test]
fn what_nested_range_deletes_take_is_counted_as_backlog() {
    let db = stepped(MemFs::new()).memtable_bytes(1 << 20).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut i = 0;
    while db.metrics().sealed_memtable_bytes == 0 {
        let mut batch = WriteBatch::new();
        batch.delete_range(&keyspace, format!("a{i:06}")..format!("z{:06}", 100_000 - i));
        db.commit(batch).unwrap();
        i += 1;
    }
    assert!(db.metrics().sealed_memtable_bytes >= 1 << 20);
    db.flush().unwrap();
    assert_eq!(db.metrics().sealed_memtable_bytes, 0);
}

// S37: how far a range delete reaches is found without all that lies over it.
#[test]
fn changes_of_nested_range_deletes_come_one_each() {
    let db = stepped(MemFs::new()).open("d").unwrap();
    let keyspace = db.keyspace_with("k", KeyspaceOptions::new().retention(Retention::Manual)).unwrap();
    for i in 0..400 {
        let mut batch = WriteBatch::new();
        batch.delete_range(&keyspace, format!("a{i:06}")..format!("z{:06}", 400 - i));
        db.commit(batch).unwrap();
        if i % 150 == 0 {
            db.flush().unwrap();
        }
    }
    let expected = |i: u64| Change::DeleteRange {
        start: format!("a{i:06}").into_bytes().into(),
        end: Some(format!("z{:06}", 400 - i).into_bytes().into()),
        timestamp: i + 1,
    };
    let changes = keyspace.changes(1..).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(changes, (0..400).map(expected).collect::<Vec<_>>());
}

// S26: a resume that fails takes no room for good, or a full disk would only get fuller.
#[test]
fn resume_that_fails_before_the_switch_leaves_no_file() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", vec![1; 5000]).unwrap();
    fail(&fs, Purpose::Log, Operation::Sync, 0);
    db.sync().unwrap_err();
    let files = || -> Vec<_> {
        let entries = fs.list(Purpose::Directory, "d".as_ref()).unwrap();
        entries.into_iter().map(|entry| entry.name).filter(|name| !name.starts_with("CURRENT")).collect()
    };
    let before = files();
    let full = |operation, purpose| {
        let kind = FaultKind::StorageFull;
        fs.inject(Fault { purpose: Some(purpose), operation: Some(operation), nth: 0, kind, repeat: false });
    };
    for (operation, purpose) in [
        (Operation::Append, Purpose::Flush),
        (Operation::Create, Purpose::Manifest),
        (Operation::Append, Purpose::Manifest),
        (Operation::Sync, Purpose::Manifest),
        (Operation::Append, Purpose::Current),
    ] {
        full(operation, purpose);
        db.resume().unwrap_err();
        assert_eq!(files(), before, "{operation:?} {purpose:?}");
    }
    db.resume().unwrap();
    assert_eq!(keyspace.get("a").unwrap().map(|value| value.len()), Some(5000));
}

// S11: what a flush has found committed is durable, also a commit that has put nothing into a memtable.
#[test]
fn after_a_flush_the_timestamp_of_an_empty_commit_is_not_given_again() {
    let fs = MemFs::new();
    let db = stepped(fs.clone()).open("d").unwrap();
    db.keyspace("k").unwrap().put("a", "").unwrap();
    db.flush().unwrap();
    db.commit_with(WriteBatch::new(), at(50, Durability::Buffered)).unwrap();
    db.flush().unwrap();
    let left = stepped(fs.power_cut(PowerCut::Lose)).open("d").unwrap();
    assert_eq!(left.last_timestamp(), 50);
}

// S11, S12: a call that failed behind its edit has closed the time before the next opening as after it.
#[test]
fn what_an_edit_has_closed_is_closed_at_once() {
    let fs = FaultFs::new(MemFs::new());
    let options = || stepped(fs.clone()).late_commits(true);
    let db = options().open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", "").unwrap();
    // The edit is on disk; the log cannot note it any more.
    fail(&fs, Purpose::Log, Operation::Append, 0);
    db.close_until(9).unwrap_err();
    db.resume().unwrap();
    let closed = db.closed_timestamp();
    assert_eq!(keyspace.put("a", "").unwrap(), 10, "the clock goes on above it");
    drop(keyspace);
    db.close().unwrap();
    assert_eq!(options().open("d").unwrap().closed_timestamp(), closed);
}

/// The files that are numbered.
fn numbered(fs: &impl Fs) -> Vec<String> {
    let entries = fs.list(Purpose::Directory, "d".as_ref()).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect()
}

// S26: nor does one that fails behind the switch take more room with each try.
#[test]
fn resume_that_fails_behind_the_switch_again_and_again_leaves_no_more_files() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", vec![1; 5000]).unwrap();
    fail(&fs, Purpose::Log, Operation::Sync, 0);
    db.sync().unwrap_err();
    for (operation, nth) in [(Operation::Create, 0), (Operation::Append, 0), (Operation::Append, 1)].repeat(3) {
        fail(&fs, Purpose::Log, operation, nth);
        db.resume().unwrap_err();
        let files = numbered(&fs);
        // The table and the manifest, and a segment that was begun.
        assert!(files.len() <= 3, "{operation:?} {nth}: {files:?}");
    }
    db.resume().unwrap();
    assert_eq!(numbered(&fs).len(), 3);
    assert_eq!(keyspace.get("a").unwrap().map(|value| value.len()), Some(5000));
}

// S26, S29: a table of an edit that has failed goes as soon as a new manifest says that nothing names it.
#[test]
fn what_a_failed_flush_or_compaction_has_written_goes_with_resume() {
    let fs = FaultFs::new(MemFs::new());
    let db = stepped(fs.clone()).open("d").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for round in 0..3 {
        keyspace.put("a", vec![round; 5000]).unwrap();
        fail(&fs, Purpose::Manifest, Operation::Append, 0);
        db.flush().unwrap_err();
        db.resume().unwrap();
        keyspace.put("b", vec![round; 5000]).unwrap();
        db.flush().unwrap();
        fail(&fs, Purpose::Manifest, Operation::Append, 0);
        db.compact().unwrap_err();
        db.resume().unwrap();
        let named = db.metrics().keyspaces.iter().flat_map(|one| &one.levels).map(|level| level.files).sum::<u64>();
        let tables = numbered(&fs).iter().filter(|name| name.ends_with(".table")).count();
        assert_eq!(tables as u64, named, "round {round}");
    }
}

// S27: the log is whole; that it holds what the manifest has lost is no fault of it.
#[test]
fn a_manifest_that_has_lost_edits_is_the_file_that_is_named() {
    let fs = MemFs::new();
    let db = stepped(fs.clone()).wal_segment_bytes(4096).open("d").unwrap();
    db.keyspace("first").unwrap().put("a", "").unwrap();
    db.keyspace("second").unwrap().put("a", "").unwrap();
    drop(db);
    let files = fs.list(Purpose::Directory, "d".as_ref()).unwrap();
    let manifest = files.into_iter().map(|entry| entry.name).find(|name| name.ends_with(".manifest")).unwrap();
    let path = std::path::Path::new("d").join(manifest);
    let whole = fs.read_file(&path).unwrap();
    for len in 0..whole.len() {
        let image = fs.kill();
        image.write_file(&path, &whole[..len]).unwrap();
        match stepped(image).open("d") {
            Err(Error::Corruption { path: named, .. }) => assert_eq!(named, path, "cut to {len}"),
            other => panic!("cut to {len}: {other:?}"),
        }
    }
}
