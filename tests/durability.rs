//! What survives: S21 to S23, S27 to S31.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use strandline::fs::{Fault, FaultKind, Operation, PowerCut, Purpose};
use strandline::{Db, Durability, Error, FaultFs, Fs, Keyspace, MemFs, Options, Retention, WriteBatch};
use support::promises::{After, Promises, open};
use support::{Dice, KEYS, Key, Model, Op, batch_of, pairs, settle, small, small_keyspace};

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

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "run by the test below, as another process"]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let db = Options::new().memtable_bytes(16 << 10).wal_segment_bytes(32 << 10).open(dir).unwrap();
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
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"), "round {round}: the child has not come up");
        assert!(matches!(Db::open(&path), Err(Error::Locked { .. })), "round {round}");
        let until = last + 100 + round * 900;
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

// ---- damage ----

/// A small database with everything in it: tables in several levels with history and range tombstones, and a log.
fn specimen() -> (MemFs, Model) {
    let fs = MemFs::new();
    let db = small(&fs).memtable_bytes(1 << 20).open("db").unwrap();
    let keyspace = db.keyspace_with("k", small_keyspace().retention(Retention::Manual)).unwrap();
    let (mut model, mut dice) = (Model::default(), Dice::new(11));
    let mut commit = |count: u32| {
        for _ in 0..count {
            let ops = dice.ops(model.last);
            model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        }
    };
    commit(30);
    db.compact().unwrap();
    commit(10);
    db.flush().unwrap();
    commit(10);
    drop(keyspace);
    db.close().unwrap();
    (fs, model)
}

fn files(fs: &MemFs) -> Vec<String> {
    let entries = fs.list(Purpose::Directory, Path::new("db")).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(|name| name != "LOCK").collect()
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corruption { .. } => true,
        Error::Background(first) => is_damage(first),
        _ => false,
    }
}

/// Everything that can be read is right, or `Corruption`. Whether anything was found damaged.
fn read_all(image: &MemFs, model: &Model, context: &str) -> bool {
    let db = match small(image).create_if_missing(false).open("db") {
        Ok(db) => db,
        Err(error) => {
            assert!(is_damage(&error), "{context}: {error}");
            return true;
        }
    };
    assert_eq!(db.last_timestamp(), model.last, "{context}");
    let keyspace = db.keyspace_with("k", small_keyspace()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut damaged = false;
    let mut right = |found: Result<bool, Error>, what: &str| match found {
        Ok(right) => assert!(right, "{context}: a wrong answer to {what}"),
        Err(error) => {
            assert!(is_damage(&error), "{context}: {what}: {error}");
            damaged = true;
        }
    };
    for timestamp in (0..=model.last).step_by(7).chain([model.last]) {
        for key in KEYS {
            let found = keyspace.get_at(key, timestamp);
            right(found.map(|value| value.map(Vec::from) == model.get(key, timestamp)), "get");
        }
        let snapshot = db.snapshot_at(timestamp).unwrap();
        let expected = model.scan(&support::everything(), timestamp);
        let owned = |pair: Result<(strandline::Slice, strandline::Slice), Error>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        let forward: Result<Vec<(Key, Vec<u8>)>, Error> = snapshot.iter(&keyspace).map(owned).collect();
        right(forward.map(|found| found == expected), "scan");
        let backward: Result<Vec<(Key, Vec<u8>)>, Error> = snapshot.iter(&keyspace).rev().map(owned).collect();
        right(backward.map(|found| found.into_iter().rev().eq(expected)), "backward scan");
    }
    for key in KEYS {
        let told: Result<Vec<_>, Error> = keyspace.history(key, ..).and_then(Iterator::collect);
        let told = told.map(|versions| {
            let told = versions
                .into_iter()
                .map(|version| (version.timestamp, version.value.map(Vec::from), version.expires_at));
            told.collect::<Vec<_>>() == model.history(key, 0)
        });
        right(told, "history");
    }
    match db.verify() {
        Ok(_) => assert!(!damaged, "{context}: damage that was met and that verify did not see"),
        Err(error) => {
            assert!(is_damage(&error), "{context}: {error}");
            damaged = true;
        }
    }
    // A merge reads everything as well, and must carry no damage on.
    match db.compact() {
        Ok(()) => {
            let found = pairs(db.snapshot().iter(&keyspace));
            assert_eq!(found, model.scan(&support::everything(), model.last), "{context}: after a compaction");
        }
        Err(error) => assert!(is_damage(&error), "{context}: {error}"),
    }
    damaged
}

// S27
#[test]
fn a_flipped_bit_gives_the_right_answer_or_corruption() {
    let (fs, model) = specimen();
    let mut dice = Dice::new(5);
    assert!(!read_all(&fs.kill(), &model, "undamaged"));
    let kinds: BTreeSet<_> = files(&fs).iter().map(|name| name.rsplit('.').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().collect::<Vec<_>>(), ["CURRENT", "log", "manifest", "table"]);
    let (mut flips, mut noticed) = (0, 0);
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let bytes = fs.read_file(&path).unwrap();
        // About 600 places in each file, every one of the first and the last bytes among them.
        let stride = (bytes.len() / 400).max(1);
        let places = (0..bytes.len()).filter(|at| *at < 100 || *at + 100 > bytes.len() || at % stride == 0);
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << dice.below(8);
            let image = fs.kill();
            image.write_file(&path, damaged).unwrap();
            flips += 1;
            let seen = read_all(&image, &model, &format!("{name}, a bit of byte {at} of {}", bytes.len()));
            // What tables cover of the log is not read again. Everything else is, or verify reads it.
            assert!(seen || name.ends_with(".log"), "{name}: nobody has noticed byte {at}");
            noticed += u32::from(seen);
        }
    }
    assert!(flips > 1000 && noticed * 10 > flips * 8, "{noticed} of {flips} noticed");
}

// S27
#[test]
fn zeroed_ranges_and_truncated_files_give_the_right_answer_or_corruption() {
    let (fs, model) = specimen();
    let mut dice = Dice::new(6);
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let bytes = fs.read_file(&path).unwrap();
        let len = bytes.len() as u64;
        for round in 0..120 {
            let start = usize::try_from(dice.below(len)).unwrap();
            let end = if dice.one_in(2) {
                bytes.len()
            } else {
                start + usize::try_from(dice.below(len - start as u64)).unwrap()
            };
            let mut damaged = bytes.clone();
            match round % 3 {
                0 => damaged[start..end].fill(0),
                1 => damaged.truncate(start),
                _ => damaged.extend((0..dice.below(200)).map(|n| u8::try_from(n).unwrap() ^ 0x5a)),
            }
            let image = fs.kill();
            image.write_file(&path, damaged).unwrap();
            read_all(&image, &model, &format!("{name} of {len} bytes, round {round}: {start}..{end}"));
        }
    }
}

// S27, S28
#[test]
fn a_file_that_is_missing_is_an_error_and_never_a_smaller_answer() {
    let (fs, model) = specimen();
    for name in files(&fs) {
        let image = fs.kill();
        image.remove(Purpose::Directory, &Path::new("db").join(&name)).unwrap();
        let kind = name.rsplit('.').next().unwrap();
        match small(&image).create_if_missing(false).open("db") {
            // Without it there is no database, and none is made.
            Err(Error::Io { .. }) => assert!(matches!(kind, "CURRENT" | "manifest"), "{name}"),
            Err(error) => assert!(is_damage(&error), "{name}: {error}"),
            Ok(db) => {
                assert_eq!(kind, "table", "{name}: opened without it");
                let keyspace = db.keyspace("k").unwrap();
                let mut failed = 0;
                for key in KEYS {
                    match keyspace.get_at(key, 17) {
                        Ok(value) => assert_eq!(value.map(Vec::from), model.get(key, 17), "{name}"),
                        Err(Error::Io { .. } | Error::Corruption { .. }) => failed += 1,
                        Err(error) => panic!("{name}: {error}"),
                    }
                }
                assert!(
                    db.verify().is_err() && keyspace.iter().any(|pair| pair.is_err()) && failed <= KEYS.len(),
                    "{name}"
                );
            }
        }
    }
}

// S28
#[test]
fn a_missing_segment_is_an_error_not_a_shorter_replay() {
    for closed in [false, true] {
        let fs = MemFs::new();
        let db = small(&fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..600 {
            keyspace.put(format!("{n:03}"), "a value of twenty or so").unwrap();
        }
        db.sync().unwrap();
        keyspace.put("last", "").unwrap();
        db.sync().unwrap();
        let image = fs.kill();
        if closed {
            drop(keyspace);
            db.close().unwrap();
        }
        let fs = if closed { fs } else { image };
        let segments: Vec<_> = files(&fs).into_iter().filter(|name| name.ends_with(".log")).collect();
        assert!(segments.len() > 5, "{segments:?}");
        for (at, name) in segments.iter().enumerate() {
            let image = fs.kill();
            image.remove(Purpose::Log, &Path::new("db").join(name)).unwrap();
            match small(&image).open("db") {
                Err(error) => assert!(is_damage(&error), "{name}: {error}"),
                // Only what no proof speaks of may go unnoticed: the last one, if nobody had the time to prove it.
                Ok(db) => {
                    assert!(at + 1 == segments.len() && !closed, "{name} of {segments:?}, closed {closed}");
                    assert!(db.keyspace("k").unwrap().iter().count() <= 601);
                }
            }
        }
    }
}

// S28: a tail that was cut off stays cut off
#[test]
fn what_a_torn_log_has_lost_never_comes_back() {
    for seed in 0..60 {
        let fs = MemFs::new();
        let db = small(&fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..60 {
            keyspace.put(format!("{n:03}"), "of the first life").unwrap();
            if n == 20 {
                db.sync().unwrap();
            }
        }
        let mut image = fs.power_cut(seed);
        let mut expected: Option<Vec<(Key, Vec<u8>)>> = None;
        for life in 0..4 {
            let db =
                small(&image).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 10).open("db").unwrap();
            let keyspace = db.keyspace("k").unwrap();
            let found = pairs(keyspace.iter());
            assert!(found.len() >= 21);
            if let Some(expected) = expected {
                assert_eq!(found, expected, "seed {seed}, life {life}");
            }
            keyspace.put(format!("of life {life}"), "v").unwrap();
            db.sync().unwrap();
            expected = Some(pairs(keyspace.iter()));
            image = if life % 2 == 0 { image.power_cut(seed + 100) } else { image.kill() };
        }
    }
}

// ---- files ----

// S29
#[test]
fn file_numbers_are_never_used_twice_over_any_number_of_crashes() {
    let mut used = BTreeSet::new();
    let mut memory = MemFs::new();
    let mut dice = Dice::new(9);
    for life in 0..30u64 {
        let fs = FaultFs::new(memory.clone());
        fs.trace(true);
        let opened = small(&memory).fs(fs.clone()).open("db").and_then(|db| {
            let keyspace = db.keyspace("k")?;
            if life % 3 == 2 {
                let nth = dice.below(60);
                fs.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::StorageFull, repeat: true });
            }
            for n in 0..100 {
                keyspace.put(format!("{n:03}"), "value".repeat(10))?;
                db.step_background()?;
            }
            Ok(db)
        });
        let left = memory.kill();
        for call in
            fs.take_trace().into_iter().filter(|call| call.operation == Operation::Create && call.file != "CURRENT.tmp")
        {
            let number: u64 = call.file.split('.').next().unwrap().parse().unwrap();
            assert!(used.insert(number), "life {life}: {call} has been there before");
        }
        drop(opened);
        memory = if life % 2 == 0 { left } else { left.power_cut(life) };
    }
    assert!(used.len() > 100, "{}", used.len());
}

// S29
#[test]
fn orphans_are_gone_after_a_reopen_and_what_is_not_the_databases_stays() {
    let (fs, model) = specimen();
    let before = files(&fs);
    for name in ["000900.table", "000901.log", "000902.manifest", "CURRENT.tmp"] {
        fs.write_file(Path::new("db").join(name), "left by a crash").unwrap();
    }
    let foreign = ["notes.txt", "000903.txt", "table", "x000904.table"];
    for name in foreign {
        fs.write_file(Path::new("db").join(name), "not ours").unwrap();
    }
    let db = small(&fs).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    assert_eq!(pairs(keyspace.iter()), model.scan(&support::everything(), model.last));
    let after = files(&fs);
    for name in ["000900.table", "000901.log", "000902.manifest", "CURRENT.tmp"] {
        assert!(!after.contains(&name.to_owned()), "{name} in {after:?}");
    }
    assert!(foreign.iter().all(|name| after.contains(&(*name).to_owned())), "{after:?}");
    assert!(
        before.iter().filter(|name| name.ends_with(".table")).all(|name| after.contains(name)),
        "no live file is deleted"
    );
    db.compact().unwrap();
    settle(&db);
    let tables =
        files(&fs).into_iter().filter(|name| name.ends_with(".table") && !name.starts_with('x')).count() as u64;
    assert_eq!(tables, db.metrics().table_files, "no file that nothing names stays");
    assert!(
        files(&fs).iter().filter_map(|name| name.split('.').next()?.parse::<u64>().ok()).max() > Some(902),
        "numbers go on above"
    );
}

// ---- formats ----

/// As `format::checksum` in the engine: over what the bytes are, where they lie, and the bytes.
fn checksum(kind: u8, file: u64, offset: u64, bytes: &[u8]) -> [u8; 4] {
    let place = [&file.to_le_bytes()[..], &offset.to_le_bytes(), &[kind]].concat();
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes).to_le_bytes()
}

// S31
#[test]
fn a_format_version_that_is_not_known_is_refused_by_name() {
    let (fs, _) = specimen();
    for name in files(&fs) {
        let path = Path::new("db").join(&name);
        let (stem, kind) = name.split_once('.').unwrap_or((&name, &name));
        let number: u64 = stem.parse().unwrap_or(0);
        let mut bytes = fs.read_file(&path).unwrap();
        let version = 77u32.to_le_bytes();
        match kind {
            "CURRENT" | "manifest" => {
                bytes[8..12].copy_from_slice(&version);
                let sum = checksum(if kind == "CURRENT" { 0x43 } else { 0x40 }, number, 0, &bytes[..20]);
                bytes[20..24].copy_from_slice(&sum);
            }
            "log" => {
                bytes[8..12].copy_from_slice(&version);
                let sum = checksum(0, number, 0, &bytes[..12]);
                bytes[12..16].copy_from_slice(&sum);
            }
            "table" => {
                let end = bytes.len();
                let footer = u32::from_le_bytes(bytes[end - 20..end - 16].try_into().unwrap()) as usize;
                bytes[end - 16..end - 12].copy_from_slice(&version);
                let sum = checksum(9, number, (end - footer) as u64, &bytes[end - footer..end - 12]);
                bytes[end - 12..end - 8].copy_from_slice(&sum);
            }
            other => panic!("{other}"),
        }
        let image = fs.kill();
        image.write_file(&path, bytes).unwrap();
        let refused = small(&image).open("db").and_then(|db| db.verify().map(drop)).unwrap_err();
        let named = matches!(&refused, Error::UnsupportedFormat { path: found, found: 77, supported: 2 } if found.ends_with(&name));
        assert!(named, "{name}: {refused:?}");
        assert!(refused.to_string().contains("77"));
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
