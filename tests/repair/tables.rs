//! Tables are damaged or lost.

use std::ops::RangeBounds;
use std::path::Path;

use strandline::{CommitOptions, MemFs, RepairReport, Retention, WriteBatch};

use crate::files::{DIR, flip, names, of_kind, path, remove};
use crate::life::{Course, contents, goes_on, keyspace_options, nothing_new, reopened, repair};
use crate::support::{Dice, small};

/// Whether a lost table may have held a version.
fn may_have_held(report: &RepairReport, name: &str, key: &[u8], timestamp: u64) -> bool {
    report.lost.iter().filter_map(|file| file.table.as_ref()).any(|table| {
        let keys = (table.keys.0.as_ref().map(|key| &key[..]), table.keys.1.as_ref().map(|key| &key[..]));
        table.keyspace == name
            && RangeBounds::<[u8]>::contains(&keys, key)
            && (table.timestamps.0..=table.timestamps.1).contains(&timestamp)
    })
}

#[test]
fn what_a_lost_table_did_not_hold_is_there_and_nothing_dropped_comes_back() {
    for seed in 500..560 {
        let (fs, life) = Course { late: seed % 3 == 0, close: seed % 2 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        let tables = of_kind(&fs, ".table");
        if tables.is_empty() {
            continue;
        }
        for round in 0..4 {
            let image = fs.kill();
            let victim = &tables[usize::try_from(dice.below(tables.len() as u64)).unwrap()];
            let context = format!("seed {seed}, round {round}, {victim}");
            remove(&image, victim);
            let report = repair(&image).unwrap();
            let context = format!("{context}: {report}");
            let db = reopened(&image, &context);
            if report.healthy {
                continue; // An orphan.
            }
            assert_eq!(report.lost.len(), 1, "{context}");
            assert_eq!((&report.lost[0].file, &report.lost[0].moved_to), (victim, &None), "{context}");
            life.check_floors(&db, &context);
            life.check_rest(&db, &context, |name, key, timestamp| !may_have_held(&report, name, key, timestamp));
            // What a late commit had replaced may come back with its loss.
            assert!(seed % 3 == 0 || nothing_new(&contents(&db), &before), "{context}");
            goes_on(&image, db, &context);
        }
    }
}

#[test]
fn of_a_damaged_table_all_is_kept_that_can_be_read() {
    let mut salvaged = 0;
    for seed in 600..640 {
        let (fs, life) = Course { late: seed % 3 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        let tables = of_kind(&fs, ".table");
        if tables.is_empty() {
            continue;
        }
        for round in 0..6 {
            let image = fs.kill();
            let victim = &tables[usize::try_from(dice.below(tables.len() as u64)).unwrap()];
            let bytes = image.read_file(path(victim)).unwrap();
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let context = format!("seed {seed}, round {round}, {victim} at {at} of {}", bytes.len());
            flip(&image, victim, at);
            let damaged = image.read_file(path(victim)).unwrap();
            let report = repair(&image).unwrap();
            let context = format!("{context}: {report}");
            let db = reopened(&image, &context);
            if report.healthy {
                continue; // An orphan.
            }
            assert_eq!(report.lost.len(), 1, "{context}");
            assert_eq!(report.lost[0].moved_to.as_deref(), Some(&victim[..]), "{context}");
            assert_eq!(image.read_file(Path::new("db/lost").join(victim)).unwrap(), damaged, "{context}");
            assert!(!names(&image, DIR).contains(victim), "{context}");
            salvaged += report.lost[0].table.as_ref().unwrap().versions_kept;
            life.check_floors(&db, &context);
            life.check_rest(&db, &context, |name, key, timestamp| !may_have_held(&report, name, key, timestamp));
            assert!(seed % 3 == 0 || nothing_new(&contents(&db), &before), "{context}");
            goes_on(&image, db, &context);
        }
    }
    assert!(salvaged > 500, "{salvaged}");
}

#[test]
fn one_damaged_block_costs_its_own_rows_only() {
    let fs = MemFs::new();
    let db = small(&fs).memtable_bytes(1 << 20).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let mut batch = WriteBatch::new();
    (0..1000).for_each(|n| batch.put(&keyspace, format!("key {n:04}"), format!("value {n}")));
    db.commit(batch).unwrap();
    keyspace.put("key 0500", "newer").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    drop((db, keyspace));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    of_kind(&fs, ".log").iter().for_each(|name| drop(fs.read_file(path(name)).unwrap()));
    flip(&fs, &victim, 4000);
    let report = repair(&fs).unwrap();
    let lost = report.lost[0].table.as_ref().unwrap();
    assert_eq!(lost.versions, 1001);
    // The log may still have it all.
    assert!(lost.versions_kept > 900 || report.log_records_kept > 0, "{report}");
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert!(keyspace.iter().count() > 900);
}

/// The newest table is lost, and the log still has what was in it.
#[test]
fn what_is_still_in_the_log_comes_back_from_there() {
    let fs = MemFs::new();
    let db = small(&fs).wal_bytes(1 << 20).wal_segment_bytes(1 << 20).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", keyspace_options(Retention::Manual)).unwrap();
    other.put("holds", "the log").unwrap();
    (0..20).for_each(|n| _ = keyspace.put(format!("{n}"), "value").unwrap());
    keyspace.compact(..).unwrap();
    keyspace.put("later", "value").unwrap();
    db.close().unwrap();
    drop((db, keyspace, other));
    let tables = of_kind(&fs, ".table");
    for damage in [true, false] {
        let image = fs.kill();
        for victim in &tables {
            if damage { flip(&image, victim, 10) } else { remove(&image, victim) }
        }
        let report = repair(&image).unwrap();
        let db = reopened(&image, &report.to_string());
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        assert_eq!(keyspace.iter().count(), 21, "{report}");
    }
}

/// With late commits the log may hold what something has hidden that it does not hold: from there nothing is taken that
/// tables have covered.
#[test]
fn a_late_commit_that_was_hidden_does_not_come_back_from_the_log() {
    let fs = MemFs::new();
    let db = small(&fs).wal_bytes(1 << 20).wal_segment_bytes(1 << 20).late_commits(true).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", keyspace_options(Retention::Manual)).unwrap();
    let at = |timestamp: u64, fill: &dyn Fn(&mut WriteBatch)| {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        db.commit_with(batch, CommitOptions::new().at(timestamp)).unwrap();
    };
    at(10, &|batch| batch.delete(&keyspace, "a"));
    db.flush().unwrap();
    at(11, &|batch| batch.put(&other, "holds", "the log"));
    at(5, &|batch| batch.put(&keyspace, "a", "dead"));
    at(12, &|batch| batch.put(&keyspace, "b", "alive"));
    db.retain_from(12).unwrap();
    keyspace.compact(..).unwrap();
    assert_eq!((keyspace.get("a").unwrap(), keyspace.iter().count()), (None, 1));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    std::mem::forget((keyspace, other));
    std::mem::forget(db);
    let fs = fs.kill();
    remove(&fs, &victim);
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
}
