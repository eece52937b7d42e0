//! Files that fail: S24 to S26.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use strandline::fs::{Fault, FaultKind, Operation, PowerCut, Purpose};
use strandline::{CommitOptions, Db, Durability, Error, FaultFs, Fs, Keyspace, MemFs, Options, WriteBatch};
use support::promises::{After, Handles, Promises, open};
use support::{Dice, pairs, settle, small, small_keyspace};

/// What a failing file may show as. Anything else would be a wrong word for it.
fn is_failure(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => {
            source.to_string().contains("injected") || source.to_string().contains("earlier write or sync")
        }
        Error::Background(first) => is_failure(first),
        _ => false,
    }
}

fn fault(nth: u64, kind: FaultKind, repeat: bool) -> Fault {
    Fault { purpose: None, operation: None, nth, kind, repeat }
}

/// Reads while the files fail: what comes is right (the promises are compared with the rest later), or the failure.
fn read_on(handles: &Handles, promises: &Promises, context: &str) {
    for (n, commit) in promises.commits.iter().enumerate() {
        match handles.marks.contains(n.to_string()) {
            Ok(there) => assert!(there || !commit.acknowledged, "{context}: commit {n} cannot be seen"),
            Err(error) => assert!(is_failure(&error), "{context}: {error}"),
        }
    }
    for pair in handles.a.iter() {
        if let Err(error) = pair {
            assert!(is_failure(&error), "{context}: {error}");
        }
    }
}

/// There is no file that nothing names. S29
fn nothing_is_left(fs: &MemFs, db: &Db, context: &str) {
    let entries = fs.list(Purpose::Directory, "db".as_ref()).unwrap();
    let count = |end: &str| entries.iter().filter(|entry| entry.name.ends_with(end)).count() as u64;
    let metrics = db.metrics();
    let (there, named) = ([".table", ".log", ".manifest"].map(count), [metrics.table_files, metrics.log_segments, 1]);
    assert_eq!(there, named, "{context}: {entries:?}");
}

struct Case {
    seed: u64,
    nth: u64,
    kind: FaultKind,
    repeat: bool,
}

impl Case {
    /// Runs the workload with the fault, and compares promises at each turn. Whether the fault was met.
    fn run(&self, steps: usize) -> bool {
        let Self { seed, nth, kind, repeat } = *self;
        let context = format!("seed {seed}, call {nth} fails: {kind:?}, from then on: {repeat}");
        let memory = MemFs::new();
        let fs = FaultFs::new(memory.clone());
        fs.inject(fault(nth, kind, repeat));
        let (mut promises, mut dice) = (Promises::default(), Dice::new(seed));
        let mut met = false;
        match open(small(&memory).fs(fs.clone()).block_cache_bytes(0)) {
            Err(error) => {
                assert!(is_failure(&error), "{context}: open: {error}");
                met = true;
            }
            Ok(handles) => {
                for step in 0..steps {
                    if let Err(error) = promises.step(&handles, &mut dice) {
                        assert!(is_failure(&error), "{context}, step {step}: {error}");
                        met = true;
                        read_on(&handles, &promises, &context);
                    }
                }
                let images = [memory.kill(), memory.power_cut(nth), memory.power_cut(PowerCut::Lose)];
                for (image, after) in images.into_iter().zip([After::Killed, After::PowerCut, After::PowerCut]) {
                    let context = format!("{context}, left as it was");
                    let left = open(small(&image)).unwrap_or_else(|error| panic!("{context}, {after:?}: {error}"));
                    promises.check(&left, after, &context);
                }
                // The cause is gone.
                fs.clear();
                let had_failed = handles.db.background_error().is_some();
                match handles.db.resume() {
                    Ok(()) => {
                        let still_fails = handles.db.background_error().is_some();
                        assert!(!still_fails, "{context}: resumed");
                        if had_failed {
                            nothing_is_left(&memory, &handles.db, &context);
                        }
                        if met {
                            promises.resumed();
                        }
                        for _ in 0..8 {
                            let step = promises.step(&handles, &mut dice);
                            step.unwrap_or_else(|error| panic!("{context}, after resume: {error}"));
                        }
                        let image = memory.power_cut(nth + 7);
                        let context = format!("{context}, resumed");
                        promises.check(&open(small(&image)).unwrap(), After::PowerCut, &context);
                    }
                    Err(error) => panic!("{context}: resume: {error}"),
                }
                let after = if handles.db.close().is_ok() { After::Closed } else { After::Killed };
                assert_eq!(after, After::Closed, "{context}");
                drop(handles);
                promises.check(&open(small(&memory)).unwrap(), after, &format!("{context}, closed"));
                return met;
            }
        }
        fs.clear();
        promises.check(&open(small(&memory)).unwrap(), After::Killed, &context);
        met
    }
}

// S24, S25
#[test]
fn any_single_call_failing_gives_an_error_and_a_correct_database() {
    for (kind, step) in [(FaultKind::Io, 1), (FaultKind::StorageFull, 3)] {
        // A fault that is not met by the workload is met by what follows, or by nobody.
        let (mut nth, mut unmet) = (0, 0);
        while unmet < 8 {
            let met = Case { seed: nth % 5, nth, kind, repeat: false }.run(25);
            unmet = if met { 0 } else { unmet + 1 };
            nth += step;
        }
        assert!(nth > 60, "only {nth} calls");
    }
}

// S24
#[test]
fn all_calls_failing_from_one_on_give_errors_and_a_correct_database() {
    for (kind, step) in [(FaultKind::Io, 2), (FaultKind::StorageFull, 3)] {
        let mut nth = 0;
        while (Case { seed: 10 + nth % 5, nth, kind, repeat: true }).run(40) {
            nth += step;
        }
        assert!(nth > 60, "only {nth} calls");
    }
}

// S24: the same with threads in the background, where it happens to fall
#[test]
fn failing_calls_under_background_threads_neither_hang_nor_panic() {
    for nth in (0..240).step_by(3) {
        let memory = MemFs::new();
        let fs = FaultFs::new(memory.clone());
        let kind = if nth % 2 == 0 { FaultKind::Io } else { FaultKind::StorageFull };
        fs.inject(fault(nth, kind, nth % 4 < 2));
        let options = || small(&memory).background(strandline::Background::Threads).fs(fs.clone());
        let (mut promises, mut dice) = (Promises::default(), Dice::new(nth));
        let context = format!("call {nth}");
        if let Ok(handles) = open(options()) {
            for _ in 0..60 {
                if let Err(error) = promises.step(&handles, &mut dice) {
                    assert!(is_failure(&error), "{context}: {error}");
                }
            }
            fs.clear();
            let failed = handles.db.background_error().is_some();
            handles.db.resume().unwrap_or_else(|error| panic!("{context}: {error}"));
            if failed {
                promises.resumed();
            }
            // A job may tell only now that it had failed.
            if let Err(error) = handles.db.close() {
                assert!(is_failure(&error), "{context}: {error}");
            }
        }
        fs.clear();
        promises.check(&open(small(&memory)).unwrap(), After::Killed, &context);
    }
}

// S25
#[test]
fn a_failed_sync_is_not_taken_back_by_a_later_one_that_succeeds() {
    for (purpose, operation) in [(Purpose::Log, Operation::Sync), (Purpose::Log, Operation::Append)] {
        let memory = MemFs::new();
        let fs = FaultFs::new(memory.clone());
        let db = small(&memory).fs(fs.clone()).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let synced = |key: &str| {
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, key, "v");
            db.commit_with(batch, CommitOptions::new().durability(Durability::Synced))
        };
        synced("before").unwrap();
        fs.inject(Fault {
            purpose: Some(purpose),
            operation: Some(operation),
            nth: 0,
            kind: FaultKind::Io,
            repeat: false,
        });
        assert!(is_failure(&synced("failed").unwrap_err()));
        for _ in 0..3 {
            // Now every call would succeed.
            for result in [synced("after").map(drop), db.sync(), db.flush(), keyspace.put("after", "").map(drop)] {
                assert!(matches!(result, Err(Error::Background(_))), "{result:?}");
            }
            assert_eq!(keyspace.get("failed").unwrap(), None, "undecided is not visible");
            assert_eq!(keyspace.get("before").unwrap().unwrap(), "v", "reads go on");
        }
        assert!(is_failure(&Error::Background(db.background_error().unwrap())));
        assert_eq!(db.last_timestamp(), 1);
        let image = small(&memory.kill()).open("db").unwrap();
        assert!(image.keyspace("k").unwrap().contains("before").unwrap());
        assert!(!image.keyspace("k").unwrap().contains("after").unwrap());
        db.resume().unwrap();
        assert!(db.background_error().is_none());
        for image in [memory.kill(), memory.power_cut(PowerCut::Lose), memory.power_cut(3)] {
            let image = small(&image).open("db").unwrap();
            assert_eq!(pairs(image.keyspace("k").unwrap().iter()).len(), 1, "resume made it never have been");
        }
        synced("after").unwrap();
        let image = small(&memory.power_cut(PowerCut::Lose)).open("db").unwrap();
        assert_eq!(pairs(image.keyspace("k").unwrap().iter()).len(), 2);
    }
}

// S25, S21, S22: a sync fails, the process ends, and the next one finds in the page cache what the disk never got
#[test]
fn a_failed_sync_is_not_taken_back_by_a_restart() {
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let (mut memory, mut promises) = (MemFs::new(), Promises::default());
        let mut context = format!("seed {seed}");
        for life in 0..4 {
            let fs = FaultFs::new(memory.clone());
            let operation = if dice.one_in(4) { Operation::SyncDir } else { Operation::Sync };
            let nth = dice.below(12);
            // The last one meets no fault.
            if life < 3 {
                let (operation, repeat) = (Some(operation), dice.one_in(2));
                fs.inject(Fault { purpose: None, operation, nth, kind: FaultKind::Io, repeat });
                context += &format!(", {operation:?} {nth} fails, from then on: {repeat}");
            }
            if let Ok(handles) = open(small(&memory).fs(fs)) {
                promises.reopened(&handles);
                for _ in 0..5 + dice.below(30) {
                    if promises.step(&handles, &mut dice).is_err() && dice.one_in(2) {
                        break;
                    }
                }
                memory = memory.kill();
            } else {
                memory = memory.kill();
            }
            for cut in [PowerCut::Lose, PowerCut::Random(seed), PowerCut::Keep] {
                let context = format!("{context}, {cut:?}");
                let image = open(small(&memory.power_cut(cut))).unwrap_or_else(|error| panic!("{context}: {error}"));
                promises.check(&image, After::PowerCut, &context);
            }
        }
        promises.check(&open(small(&memory)).unwrap(), After::Killed, &context);
    }
}

// S29, S5
#[test]
fn what_a_failed_edit_has_left_goes_with_resume_and_what_is_still_read_stays() {
    let memory = MemFs::new();
    let fs = FaultFs::new(memory.clone());
    let db = small(&memory).fs(fs.clone()).block_cache_bytes(0).max_open_files(1).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for round in 0..3 {
        for n in 0..200 {
            keyspace.put(format!("{n:03}"), format!("{round}")).unwrap();
        }
        db.flush().unwrap();
    }
    let mut held = keyspace.iter();
    held.next().unwrap().unwrap();
    db.compact().unwrap();
    keyspace.put("000", "later").unwrap();
    let (purpose, operation) = (Some(Purpose::Manifest), Some(Operation::Sync));
    fs.inject(Fault { purpose, operation, nth: 0, kind: FaultKind::Io, repeat: false });
    assert!(is_failure(&db.flush().unwrap_err()));
    db.resume().unwrap();
    assert_eq!(held.map(|pair| assert_eq!(pair.unwrap().1, "2")).count(), 199, "the iterator goes on");
    nothing_is_left(&memory, &db, "resumed");
    assert_eq!(keyspace.get("000").unwrap().unwrap(), "later");
}

fn fill(keyspace: &Keyspace, from: u32) -> (u32, Error) {
    for n in from.. {
        if let Err(error) = keyspace.put(format!("{n:06}"), "a value that takes some room on the disk") {
            return (n, error);
        }
        assert!(n < 100_000, "the disk never gets full");
    }
    unreachable!()
}

/// Bytes in all files.
fn used(fs: &MemFs) -> u64 {
    fs.list(Purpose::Directory, "db".as_ref()).unwrap().iter().map(|entry| entry.len).sum()
}

// S26
#[test]
fn on_a_full_disk_reads_go_on_and_after_space_is_freed_resume_goes_on() {
    for threads in [false, true] {
        for capacity in (20_000..60_000).step_by(3777) {
            let context = format!("capacity {capacity}, threads {threads}");
            let fs = MemFs::new();
            let options = || if threads { small(&fs).background(strandline::Background::Threads) } else { small(&fs) };
            let db = options().open("db").unwrap();
            let keyspace = db.keyspace_with("k", small_keyspace()).unwrap();
            fs.set_capacity(Some(capacity));
            let mut written = 0;
            for round in 0..3u64 {
                let (until, error) = fill(&keyspace, written);
                assert!(until > written, "{context}, round {round}");
                let io = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
                let full = match &error {
                    Error::Background(first) => io(first),
                    error => io(error),
                };
                assert!(full, "{context}: {error}");
                let check = || {
                    assert_eq!(keyspace.iter().count(), until as usize, "{context}");
                    assert!(keyspace.contains(format!("{:06}", until - 1)).unwrap(), "{context}");
                    assert!(!keyspace.contains(format!("{until:06}")).unwrap(), "{context}");
                };
                check();
                assert!(
                    db.resume().is_err() || db.background_error().is_none(),
                    "{context}: either it goes on or it says why not"
                );
                check();
                fs.set_capacity(None);
                db.resume().unwrap_or_else(|error| panic!("{context}: {error}"));
                check();
                keyspace.put(format!("{until:06}"), "after").unwrap_or_else(|error| panic!("{context}: {error}"));
                written = until + 1;
                fs.set_capacity(Some(used(&fs) + capacity));
            }
            drop(keyspace);
            db.close().unwrap();
            let db = options().open("db").unwrap();
            assert_eq!(db.keyspace("k").unwrap().iter().count(), written as usize, "{context}");
            db.verify().unwrap();
        }
    }
}

// S26
#[test]
fn a_database_opens_on_a_full_disk_and_goes_on_when_there_is_room() {
    for killed in [false, true] {
        for spare in [0, 1, 30, 100, 500, 3000, 5000] {
            let context = format!("killed {killed}, {spare} bytes to spare");
            let fs = MemFs::new();
            let db = small(&fs).open("db").unwrap();
            let keyspace = db.keyspace("k").unwrap();
            for n in 0..300 {
                keyspace.put(format!("{n:03}"), "value").unwrap();
            }
            settle(&db);
            let fs = if killed { fs.kill() } else { fs };
            drop((keyspace, db));
            fs.set_capacity(Some(used(&fs) + spare));
            let db = small(&fs).open("db").unwrap_or_else(|error| panic!("{context}: {error}"));
            let keyspace = db.keyspace("k").unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(keyspace.iter().count(), 300, "{context}");
            assert_eq!(db.snapshot().get(&keyspace, "007").unwrap().unwrap(), "value");
            if spare < 100 {
                assert!(keyspace.put("300", "value").is_err() && db.background_error().is_some(), "{context}");
                assert!(db.keyspace("new").is_err());
                assert!(db.resume().is_err());
                assert_eq!(keyspace.iter().count(), 300, "{context}");
            } else if db.background_error().is_none() {
                drop(fill(&keyspace, 1000));
            }
            let count = keyspace.iter().count();
            fs.set_capacity(None);
            db.resume().unwrap_or_else(|error| panic!("{context}: {error}"));
            keyspace.put("goes on", "value").unwrap_or_else(|error| panic!("{context}: {error}"));
            db.keyspace("new").unwrap().put("k", "v").unwrap();
            drop(keyspace);
            db.close().unwrap();
            for fs in [fs.power_cut(PowerCut::Lose), fs] {
                let db = Options::new().fs(fs).open("db").unwrap();
                assert_eq!(db.keyspace("k").unwrap().iter().count(), count + 1, "{context}");
                assert!(db.keyspace("new").unwrap().contains("k").unwrap());
            }
        }
    }
}

// S24: reading fails for one caller and works for the next
// S26
#[test]
fn a_keyspace_whose_drop_has_failed_is_read_as_before_by_older_snapshots_too() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let before = db.snapshot();
    let keyspace = db.keyspace_with("k", small_keyspace()).unwrap();
    keyspace.put("key", "value").unwrap();
    let after = db.snapshot();
    fs.set_capacity(Some(0));
    db.drop_keyspace("k").unwrap_err();
    let reads = || {
        assert_eq!(before.get(&keyspace, "key").unwrap(), None);
        assert_eq!(after.get(&keyspace, "key").unwrap().unwrap(), "value");
        assert_eq!(keyspace.get("key").unwrap().unwrap(), "value");
    };
    reads();
    fs.set_capacity(None);
    db.resume().unwrap();
    reads();
    keyspace.put("key", "value").unwrap();
    db.drop_keyspace("k").unwrap();
    assert!(matches!(before.get(&keyspace, "key"), Err(Error::UnknownKeyspace { .. })));
    assert_eq!(after.get(&keyspace, "key").unwrap().unwrap(), "value");
}

#[test]
fn a_read_that_fails_is_an_error_of_that_call_alone() {
    let memory = MemFs::new();
    let fs = FaultFs::new(memory.clone());
    let db = small(&memory).fs(fs.clone()).block_cache_bytes(0).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for n in 0..300 {
        keyspace.put(format!("{n:03}"), n.to_string()).unwrap();
    }
    db.compact().unwrap();
    for nth in 0..40 {
        for operation in [Operation::Read, Operation::Open] {
            let reads = Fault {
                purpose: Some(Purpose::Table),
                operation: Some(operation),
                nth,
                kind: FaultKind::Io,
                repeat: false,
            };
            fs.inject(reads);
            let mut failed = 0;
            for n in (0..300).step_by(10) {
                match keyspace.get(format!("{n:03}")) {
                    Ok(value) => assert_eq!(value.unwrap(), n.to_string()),
                    Err(error) => {
                        assert!(is_failure(&error), "{error}");
                        failed += 1;
                        assert_eq!(
                            keyspace.get(format!("{n:03}")).unwrap().unwrap(),
                            n.to_string(),
                            "the next one works"
                        );
                    }
                }
            }
            assert!(failed <= 1);
            fs.clear();
            fs.inject(reads);
            let mut iter = keyspace.iter();
            let (mut seen, mut failed) = (0, false);
            for pair in iter.by_ref() {
                match pair {
                    Ok((key, _)) => {
                        assert!(!failed, "after an error an iterator is at its end");
                        assert_eq!(key, format!("{seen:03}"));
                        seen += 1;
                    }
                    Err(error) => {
                        assert!(is_failure(&error), "{error}");
                        failed = true;
                    }
                }
            }
            assert!(failed || seen == 300, "{nth} {operation:?}: an iterator ends early without an error");
            fs.clear();
        }
    }
    assert!(db.background_error().is_none(), "reading fails nobody but the reader");
    keyspace.put("300", "").unwrap();
}
