//! The manifest, or `CURRENT`, is damaged or lost.

use std::collections::BTreeMap;

use strandline::{Error, ManifestFound, MemFs, Retention};

use crate::files::{DIR, flip, names, of_kind, path, remove};
use crate::life::{Course, goes_on, keyspace_options, reopened, repair};
use crate::support::{Dice, small};

#[test]
fn without_current_everything_is_there() {
    for seed in 100..130 {
        let (fs, life) = Course { late: seed % 2 == 0, close: seed % 3 == 0, ..Course::new(seed) }.live();
        let context = format!("seed {seed}");
        if seed % 5 == 0 {
            flip(&fs, "CURRENT", usize::try_from(seed % 24).unwrap());
        } else {
            remove(&fs, "CURRENT");
        }
        assert!(matches!(small(&fs).open(DIR), Err(Error::Corruption { .. })), "{context}");
        let report = repair(&fs).unwrap();
        assert!(!report.healthy && report.manifest == ManifestFound::Whole, "{context}: {report}");
        assert_eq!(report.lost.len(), usize::from(seed % 5 == 0), "{context}: {report}");
        let db = reopened(&fs, &context);
        life.check_whole(&db, &context);
        life.check_floors(&db, &context);
        goes_on(&fs, db, &context);
    }
}

/// Without late commits nothing that retention has dropped may come back, and nothing may be missing.
#[test]
fn without_a_manifest_everything_is_there() {
    for seed in 200..260 {
        let (fs, life) = Course { close: seed % 3 == 0, steps: 40 + seed % 7 * 40, ..Course::new(seed) }.live();
        let context = format!("seed {seed}");
        of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
        let report = repair(&fs).unwrap();
        assert_eq!(report.manifest, ManifestFound::Lost, "{context}: {report}");
        assert!(report.keyspaces.iter().all(|keyspace| !keyspace.invented), "{context}: {report}");
        let db = reopened(&fs, &context);
        life.check_whole(&db, &context);
        goes_on(&fs, db, &context);
    }
}

#[test]
fn with_late_commits_and_without_a_manifest_everything_is_there_that_no_other_has_replaced() {
    for seed in 300..340 {
        let (fs, life) = Course { late: true, ..Course::new(seed) }.live();
        of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
        repair(&fs).unwrap();
        let context = format!("seed {seed}");
        let db = reopened(&fs, &context);
        let mut times = BTreeMap::new();
        life.ever.iter().for_each(|(name, key, told)| *times.entry((*name, key.clone(), told.0)).or_insert(0) += 1);
        life.check_rest(&db, &context, |name, key, timestamp| {
            times
                .iter()
                .any(|((one, other, at), times)| *one == name && other == key && *at == timestamp && *times == 1)
        });
        goes_on(&fs, db, &context);
    }
}

#[test]
fn a_damaged_or_shortened_manifest_takes_nothing_along() {
    for seed in 400..412 {
        let (fs, life) = Course { close: seed % 2 == 0, ..Course::new(seed) }.live();
        let name = of_kind(&fs, ".manifest").pop().unwrap();
        let bytes = fs.read_file(path(&name)).unwrap();
        let mut dice = Dice::new(seed);
        for round in 0..40 {
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let context = format!("seed {seed}, round {round}, at {at} of {} bytes", bytes.len());
            let image = fs.kill();
            match round % 3 {
                0 => image.write_file(path(&name), &bytes[..at]).unwrap(),
                1 => flip(&image, &name, at),
                _ => {
                    let end = bytes.len().min(at + 200);
                    image.write_file(path(&name), [&bytes[..at], &vec![0; end - at], &bytes[end..]].concat()).unwrap();
                }
            }
            if round % 5 == 0 {
                remove(&image, "CURRENT");
            }
            let report = repair(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            let db = reopened(&image, &context);
            life.check_whole(&db, &format!("{context}: {report}"));
            if !report.healthy && report.manifest == ManifestFound::Damaged {
                assert!(report.unknown.iter().any(|line| line.contains("manifest")), "{context}: {report}");
            }
            if round % 8 == 0 {
                goes_on(&image, db, &context);
            }
        }
    }
}

#[test]
fn dropped_keyspaces_stay_dropped_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let options = || keyspace_options(Retention::Manual);
    for (name, value) in [("gone", "old"), ("anew", "old"), ("kept", "old")] {
        let keyspace = db.keyspace_with(name, options()).unwrap();
        keyspace.put("a", value).unwrap();
        keyspace.put("b", value).unwrap();
    }
    db.drop_keyspace("gone").unwrap();
    db.drop_keyspace("anew").unwrap();
    db.keyspace_with("anew", options()).unwrap().put("a", "new").unwrap();
    std::mem::forget(db);
    let fs = fs.kill();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    assert_eq!(db.keyspace_names(), ["anew", "kept"]);
    let anew = db.keyspace_with("anew", options()).unwrap();
    assert_eq!(anew.get("a").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(anew.get("b").unwrap(), None);
}

/// Tables that were not removed yet must not bring back what the compaction that replaced them has dropped: with the
/// tombstone gone, nothing would hide it any more.
#[test]
fn tables_that_others_have_replaced_stay_dead_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    keyspace.put("a", "dead").unwrap();
    keyspace.put("b", "alive").unwrap();
    db.flush().unwrap();
    let old = of_kind(&fs, ".table").pop().unwrap();
    let bytes = fs.read_file(path(&old)).unwrap();
    keyspace.delete("a").unwrap();
    keyspace.put("c", "alive").unwrap();
    db.flush().unwrap();
    db.retain_from(db.last_timestamp()).unwrap();
    db.compact().unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    assert!(!of_kind(&fs, ".table").contains(&old));
    fs.write_file(path(&old), bytes).unwrap();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    of_kind(&fs, ".log").iter().for_each(|name| remove(&fs, name));
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
    assert_eq!(keyspace.iter().count(), 2);
    assert_eq!(keyspace.retained_from(), 4);
}

/// The same where no table is left that tells of it, but the manifest does.
#[test]
fn tables_that_the_manifest_has_taken_out_stay_dead_though_its_end_is_damaged() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    keyspace.put("a", "dead").unwrap();
    db.flush().unwrap();
    let old = of_kind(&fs, ".table").pop().unwrap();
    let bytes = fs.read_file(path(&old)).unwrap();
    keyspace.delete("a").unwrap();
    db.flush().unwrap();
    db.retain_from(2).unwrap();
    db.compact().unwrap();
    assert!(of_kind(&fs, ".table").is_empty());
    db.close_until(10).unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    fs.write_file(path(&old), bytes).unwrap();
    let manifest = of_kind(&fs, ".manifest").pop().unwrap();
    let len = fs.read_file(path(&manifest)).unwrap().len();
    flip(&fs, &manifest, len - 1);
    let report = repair(&fs).unwrap();
    assert_eq!(report.manifest, ManifestFound::Damaged, "{report}");
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
    assert_eq!(db.closed_timestamp(), 10);
}

// S11, S12, S29
#[test]
fn what_only_rises_does_not_fall_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    (0..30).for_each(|_| _ = keyspace.put("a", "value").unwrap());
    db.flush().unwrap();
    // Nothing is written by the floor, and nothing at the time that is closed.
    db.retain_from(20).unwrap();
    db.close_until(1000).unwrap();
    let numbers = names(&fs, DIR).into_iter().filter_map(|name| name.split_once('.')?.0.parse::<u64>().ok());
    let highest = numbers.max().unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    repair(&fs).unwrap();
    let new = names(&fs, DIR).into_iter().find(|name| name.ends_with(".manifest")).unwrap();
    assert!(new.split_once('.').unwrap().0.parse::<u64>().unwrap() > highest);
    let db = reopened(&fs, "rises");
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!((keyspace.retained_from(), db.closed_timestamp()), (20, 1000));
    assert!(keyspace.put("b", "value").unwrap() > 1000);
}
