//! The log is damaged, torn, or parts of it are lost.

use std::collections::BTreeSet;

use strandline::fs::{Fault, FaultKind};
use strandline::{CommitOptions, Db, Durability, FaultFs, MemFs, Retention, WriteBatch};

use crate::files::{DIR, flip, of_kind, path, remove};
use crate::life::{Course, Life, contents, goes_on, keyspace_options, nothing_new, reopened, repair};
use crate::support::{self, Dice, KEYS, small, told};

/// Every commit that touched `manual` is there whole or not at all; returns how many are not.
fn lost_commits(life: &Life, db: &Db, context: &str) -> usize {
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let mut lost = 0;
    for (timestamp, parts) in &life.commits {
        if !parts.iter().any(|(name, _)| *name == "manual") {
            continue;
        }
        let model = &life.models["manual"];
        let touched = KEYS
            .into_iter()
            .filter(|key| model.history(key, timestamp - 1).iter().any(|version| version.0 == *timestamp));
        let there: Vec<bool> = touched.map(|key| keyspace.has_version(key, *timestamp).unwrap()).collect();
        assert!(there.iter().all(|one| *one == there[0]), "{context}: commit {timestamp} is torn: {there:?}");
        lost += usize::from(there.first() == Some(&false));
    }
    lost
}

#[test]
fn one_flipped_byte_of_the_log_costs_one_commit_at_most() {
    let mut repaired = 0;
    for seed in 700..740 {
        let (fs, life) = Course { retain: false, close: seed % 2 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        for round in 0..12 {
            let image = fs.kill();
            let segments = of_kind(&image, ".log");
            let victim = &segments[usize::try_from(dice.below(segments.len() as u64)).unwrap()];
            let len = image.read_file(path(victim)).unwrap().len();
            let at = usize::try_from(if dice.one_in(4) { dice.below(66) } else { dice.below(len as u64) }).unwrap();
            let context = format!("seed {seed}, round {round}, {victim} at {at} of {len}");
            flip(&image, victim, at.min(len - 1));
            let opens = small(&image.kill()).open(DIR).and_then(|db| db.verify()).is_ok();
            let report = repair(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            let context = format!("{context}: {report}");
            assert_eq!(report.healthy, opens, "{context}");
            let db = reopened(&image, &context);
            life.check_floors(&db, &context);
            if !opens {
                repaired += 1;
                let lost = lost_commits(&life, &db, &context);
                assert!(lost <= 1, "{context}: {lost} commits lost");
                assert!(lost == 0 || report.log_bytes_lost > 0, "{context}");
                assert!(report.lost.iter().any(|file| file.file == *victim), "{context}");
                assert!(nothing_new(&contents(&db), &before), "{context}");
                let rest = before.difference(&contents(&db)).map(|(.., told)| told.0).collect::<BTreeSet<_>>();
                assert!(rest.len() <= 1, "{context}: {rest:?}");
            }
            goes_on(&image, db, &context);
        }
    }
    assert!(repaired > 50, "{repaired}");
}

#[test]
fn a_missing_segment_takes_its_own_commits_along() {
    let mut repaired = 0;
    for seed in 800..840 {
        let (fs, life) = Course { retain: false, close: true, steps: 200, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        for victim in of_kind(&fs, ".log") {
            let image = fs.kill();
            remove(&image, &victim);
            let opens = small(&image.kill()).open(DIR).and_then(|db| db.verify()).is_ok();
            let report = repair(&image).unwrap();
            let context = format!("seed {seed}, without {victim}: {report}");
            assert_eq!(report.healthy, opens, "{context}");
            let db = reopened(&image, &context);
            if !opens {
                repaired += 1;
                assert!(report.log_bytes_lost > 0, "{context}");
                assert!(report.unknown.iter().any(|line| line.contains("no segment")), "{context}");
                lost_commits(&life, &db, &context);
                assert!(nothing_new(&contents(&db), &before), "{context}");
            }
            goes_on(&image, db, &context);
        }
    }
    assert!(repaired > 20, "{repaired}");
}

/// What a power cut tore, and a recovery cut off, does not come back: other commits have its timestamps.
#[test]
fn a_tail_that_was_cut_off_stays_dead_without_a_manifest() {
    for seed in 850..900 {
        let memory = MemFs::new();
        let mut dice = Dice::new(seed);
        let options = |fs: &MemFs| small(fs).wal_bytes(1 << 20).memtable_bytes(1 << 20);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..40 {
            let durability = if dice.one_in(10) { Durability::Synced } else { Durability::Buffered };
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, format!("{n:02}"), "first life");
            db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        }
        std::mem::forget((db, keyspace));
        let memory = memory.power_cut(seed);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in keyspace.iter().count()..40 {
            keyspace.put(format!("{n:02}"), "second life").unwrap();
        }
        db.sync().unwrap();
        let expected: Vec<_> = support::pairs(keyspace.iter());
        std::mem::forget((db, keyspace));
        let memory = memory.kill();
        of_kind(&memory, ".manifest").iter().for_each(|name| remove(&memory, name));
        let report = repair(&memory).unwrap();
        let context = format!("seed {seed}: {report}");
        let db = reopened(&memory, &context);
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        assert_eq!(support::pairs(keyspace.iter()), expected, "{context}");
        assert_eq!(db.last_timestamp(), 40, "{context}");
        assert!((0..40).all(|n| told(&keyspace, format!("{n:02}").as_bytes()).len() == 1), "{context}");
    }
}

/// Records behind a torn one were never known to be durable: without a manifest as with it, they are no commits.
#[test]
fn what_a_power_cut_tore_is_no_commit_without_a_manifest_either() {
    let mut torn = 0;
    for seed in 900..960 {
        let memory = MemFs::new();
        let mut dice = Dice::new(seed);
        let db = small(&memory).wal_bytes(1 << 20).memtable_bytes(1 << 20).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..40 {
            let durability = if dice.one_in(10) { Durability::Synced } else { Durability::Buffered };
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, format!("{n:02}"), "value".repeat(30));
            db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        }
        std::mem::forget((db, keyspace));
        let memory = memory.power_cut(seed);
        let there = |db: &Db| {
            let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
            support::pairs(keyspace.iter())
        };
        let expected = there(&small(&memory.kill()).open(DIR).unwrap());
        of_kind(&memory, ".manifest").iter().for_each(|name| remove(&memory, name));
        let report = match repair(&memory) {
            Ok(report) => report,
            Err(error) => {
                assert!(expected.is_empty(), "seed {seed}: {error}");
                continue;
            }
        };
        let db = reopened(&memory, &format!("seed {seed}: {report}"));
        assert_eq!(there(&db), expected, "seed {seed}: {report}");
        torn += u64::from(report.lost.iter().any(|file| file.reason.contains("torn")));
    }
    assert!(torn > 5, "{torn}");
}

/// An opening copies the tail of the log to new segments before it says so: whatever of that was written, and whether
/// the manifest is lost then or not, no commit is.
#[test]
fn an_opening_that_ends_at_any_call_loses_nothing_without_a_manifest() {
    for seed in 960..964 {
        let memory = MemFs::new();
        let options = |fs: &MemFs| small(fs).wal_bytes(1 << 20).memtable_bytes(1 << 20);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..60 {
            keyspace.put(format!("{n:02}"), "value".repeat(20)).unwrap();
            if n == 5 + seed % 3 * 20 {
                db.sync().unwrap();
            }
        }
        std::mem::forget((db, keyspace));
        let memory = memory.kill();
        let counting = FaultFs::new(memory.kill());
        std::mem::forget(options(&memory).fs(counting.clone()).open(DIR).unwrap());
        for call in 0..=counting.calls() {
            let image = memory.kill();
            let failing = FaultFs::new(image.clone());
            let kind = FaultKind::StorageFull;
            failing.inject(Fault { purpose: None, operation: None, nth: call, kind, repeat: true });
            std::mem::forget(options(&image).fs(failing).open(DIR));
            let image = image.kill();
            of_kind(&image, ".manifest").iter().for_each(|name| remove(&image, name));
            let report = repair(&image).unwrap();
            let context = format!("seed {seed}, call {call} of {}: {report}", counting.calls());
            let db = reopened(&image, &context);
            let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
            assert_eq!(keyspace.iter().count(), 60, "{context}");
            assert!((0..60).all(|n| told(&keyspace, format!("{n:02}").as_bytes()).len() == 1), "{context}");
        }
    }
}
