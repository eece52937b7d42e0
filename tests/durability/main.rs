//! What survives: S21 to S23, S27 to S31.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod damage;
mod files;
mod specimen;
#[path = "../support/mod.rs"]
mod support;
mod unsynced;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use strandline::fs::{Fault, FaultKind, PowerCut};
use strandline::{Db, Durability, Error, FaultFs, Keyspace, MemFs, Options, Retention, WriteBatch};
use support::promises::{After, Promises, open};
use support::{Dice, Model, Op, batch_of, small, small_keyspace};

const STEPS: usize = 70;

/// Runs the workload until the disk is gone, which it is from call `crash_at` on.
fn crash(seed: u64, crash_at: u64) -> (MemFs, FaultFs, Promises) {
    let memory = MemFs::new();
    let fs = FaultFs::new(memory.clone());
    fs.inject(Fault { purpose: None, operation: None, nth: crash_at, kind: FaultKind::StorageFull, repeat: true });
    let (mut promises, mut dice) = (Promises::default(), Dice::new(seed));
    if let Ok(handles) = open(small(&memory).fs(fs.clone())) {
        for _ in 0..STEPS {
            if promises.step(&handles, &mut dice).is_err() {
                break;
            }
        }
        // Closing comes too late.
        fs.inject(Fault { purpose: None, operation: None, nth: 0, kind: FaultKind::StorageFull, repeat: true });
        let memory = memory.kill();
        return (memory, fs, promises);
    }
    (memory.kill(), fs, promises)
}

fn calls_of(seed: u64) -> u64 {
    let (_, fs, _) = crash(seed, u64::MAX);
    fs.calls()
}

// S21, S22
#[test]
fn a_crash_at_any_call_leaves_what_was_promised() {
    for seed in 0..200 {
        let mut dice = Dice::new(1000 + seed);
        let calls = calls_of(seed);
        for round in 0..3 {
            let crash_at = if round == 0 { calls } else { dice.below(calls) };
            let (memory, _, promises) = crash(seed, crash_at);
            let cut = seed * 10 + round;
            for (after, image) in [(After::Killed, memory.kill()), (After::PowerCut, memory.power_cut(cut))] {
                let context = format!("seed {seed}, crash at call {crash_at} of {calls}, cut {cut}");
                let handles = open(small(&image)).unwrap_or_else(|error| panic!("{context}, {after:?}: {error}"));
                promises.check(&handles, after, &context);
            }
        }
    }
}

// S21
#[test]
fn a_power_cut_that_loses_all_it_may_loses_nothing_that_was_durable() {
    for seed in 300..330 {
        let (memory, _, promises) = crash(seed, u64::MAX);
        for cut in [PowerCut::Lose, PowerCut::Keep] {
            promises.check(
                &open(small(&memory.power_cut(cut))).unwrap(),
                After::PowerCut,
                &format!("seed {seed}, {cut:?}"),
            );
        }
    }
}

// S23
#[test]
fn crashes_during_recovery_three_deep_change_nothing() {
    for seed in 400..480 {
        let mut dice = Dice::new(seed);
        let crash_at = dice.below(calls_of(seed));
        let (memory, _, promises) = crash(seed, crash_at);
        let mut context = format!("seed {seed}, crash at call {crash_at}");
        let mut image = memory.power_cut(seed);
        for depth in 0..3 {
            let counting = FaultFs::new(image.kill());
            drop(open(small(&image).fs(counting.clone())).unwrap());
            let again = dice.below(counting.calls());
            let failing = FaultFs::new(image.clone());
            failing.inject(Fault {
                purpose: None,
                operation: None,
                nth: again,
                kind: FaultKind::StorageFull,
                repeat: true,
            });
            let opened = open(small(&image).fs(failing));
            let left = image.kill();
            drop(opened);
            image = left.power_cut(seed * 3 + depth);
            context += &format!(", then at call {again} of recovery");
        }
        let handles = open(small(&image)).unwrap_or_else(|error| panic!("{context}: {error}"));
        promises.check(&handles, After::PowerCut, &context);
    }
}

// S29
#[test]
fn a_crash_during_the_first_open_leaves_a_directory_that_opens() {
    let clean = FaultFs::new(MemFs::new());
    drop(Options::new().fs(clean.clone()).open("db").unwrap());
    for crash_at in 0..clean.calls() {
        for cut in 0..8 {
            let memory = MemFs::new();
            let fs = FaultFs::new(memory.clone());
            fs.inject(Fault {
                purpose: None,
                operation: None,
                nth: crash_at,
                kind: FaultKind::StorageFull,
                repeat: true,
            });
            let opened = Options::new().fs(fs).open("db");
            let image = if cut == 0 { memory.kill() } else { memory.power_cut(cut) };
            drop(opened);
            let context = format!("crash at call {crash_at}, cut {cut}");
            let db = small(&image).open("db").unwrap_or_else(|error| panic!("{context}: {error}"));
            db.keyspace("k").unwrap().put("a", "1").unwrap();
            assert_eq!(db.last_timestamp(), 1, "{context}");
        }
    }
}

// The base of every simulation: a run depends on its seed alone.
#[test]
fn the_same_seed_makes_the_same_file_calls() {
    for seed in 500..510 {
        let run = || {
            let fs = FaultFs::new(MemFs::new());
            fs.trace(true);
            let (mut promises, mut dice) = (Promises::default(), Dice::new(seed));
            let handles = open(small(fs.inner()).fs(fs.clone())).unwrap();
            (0..200).for_each(|_| promises.step(&handles, &mut dice).unwrap());
            handles.db.close().unwrap();
            fs.take_trace()
        };
        let (one, other) = (run(), run());
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        assert_eq!(differs.map(|at| (&one[at], &other[at])), None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

// ---- S22, with a real process ----

const CHILD_DIR: &str = "STRANDLINE_TEST_CHILD_DIR";
/// Set if the child's memtables and log segments are small.
const CHILD_SMALL: &str = "STRANDLINE_TEST_CHILD_SMALL";

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "run by the test below, as another process"]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let small = std::env::var_os(CHILD_SMALL).is_some();
    let options = Options::new();
    let options = if small { options.memtable_bytes(16 << 10).wal_segment_bytes(32 << 10) } else { options };
    let db = options.open(dir).unwrap();
    let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    for n in db.last_timestamp() + 1..1_000_000 {
        let mut batch = WriteBatch::new();
        batch.put(&a, n.to_string(), format!("value of {n}"));
        batch.put(&b, n.to_string(), format!("value of {n}"));
        assert_eq!(db.commit(batch).unwrap(), n);
        writeln!(out, "{n}").unwrap();
    }
}

// S22, S30
#[test]
fn a_killed_process_loses_no_acknowledged_commit_and_frees_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut last = 0;
    for round in 0..4u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // Large ones are not synced while they are filled: then most commits are stored into mapped segments.
        if round % 2 == 0 {
            command.env(CHILD_SMALL, "");
        }
        let mut child = command
            .args(["--ignored", "--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"), "round {round}: the child has not come up");
        assert!(matches!(Db::open(&path), Err(Error::Locked { .. })), "round {round}");
        let until = last + 100 + round * 2900;
        for line in lines.by_ref() {
            last = line.parse().unwrap();
            if last >= until {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(|line| line.parse().ok()).max().unwrap_or(last).max(last);
        let db = Db::open(&path).unwrap();
        assert!(db.last_timestamp() >= last, "round {round}");
        let [a, b] = ["a", "b"].map(|name| db.keyspace(name).unwrap());
        for n in 1..=db.last_timestamp() {
            for keyspace in [&a, &b] {
                assert_eq!(keyspace.get(n.to_string()).unwrap().unwrap(), format!("value of {n}"), "round {round}");
            }
        }
        db.verify().unwrap();
        last = db.last_timestamp();
    }
}

// S22: everything in one place, on the operating system's files
#[test]
fn a_database_on_disk_reads_back_after_closing_and_after_none() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().memtable_bytes(8 << 10).wal_segment_bytes(16 << 10);
    let open = |name: &str| -> (Db, Keyspace) {
        let db = options().open(dir.path().join(name)).unwrap();
        let keyspace = db.keyspace_with("k", small_keyspace().retention(Retention::Manual)).unwrap();
        (db, keyspace)
    };
    let (mut model, mut dice) = (Model::default(), Dice::new(21));
    for life in 0..4 {
        let (db, keyspace) = open("db");
        support::check(&db, &keyspace, &model, &format!("life {life}"));
        for n in 0..30 {
            let ops: Vec<Op> = dice.ops(model.last);
            let durability = [Durability::Buffered, Durability::Synced, Durability::Unlogged][n % 3];
            let commit = strandline::CommitOptions::new().durability(durability);
            model.commit(db.commit_with(batch_of(&keyspace, &ops), commit).unwrap(), &ops);
        }
        if life == 1 {
            db.compact().unwrap();
        }
        db.verify().unwrap();
        if life % 2 == 0 {
            db.close().unwrap();
        }
    }
}
