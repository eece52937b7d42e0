//! Anything is damaged, several files at once; and the repair itself meets crashes, failing calls and a full disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use strandline::fs::{Fault, FaultKind, PowerCut};
use strandline::{Error, FaultFs, MemFs};

use crate::files::{DIR, flip, names, of_kind, path, remove};
use crate::life::{Course, contents, everything, goes_on, reopened, repair};
use crate::support::{Dice, small};

/// Damages some files, one way or another.
fn storm(fs: &MemFs, dice: &mut Dice) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..=dice.below(4) {
        let files: Vec<_> = names(fs, DIR).into_iter().filter(|name| name != "LOCK").collect();
        let victim = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let mut bytes = fs.read_file(path(victim)).unwrap();
        let at = usize::try_from(dice.below(bytes.len().max(1) as u64)).unwrap();
        let how = dice.below(4);
        match how {
            0 => remove(fs, victim),
            1 => fs.write_file(path(victim), &bytes[..at]).unwrap(),
            2 => {
                let end = bytes.len().min(at + 1 + usize::try_from(dice.below(600)).unwrap());
                bytes[at..end].fill(0);
                fs.write_file(path(victim), bytes).unwrap();
            }
            _ if !bytes.is_empty() => flip(fs, victim, at),
            _ => {}
        }
        done.push(format!("{victim}: {how} at {at}"));
    }
    done
}

#[test]
fn whatever_is_damaged_the_rest_is_right() {
    for seed in 1000..1250 {
        let course = Course { late: seed % 4 == 0, close: seed % 2 == 0, retain: seed % 3 != 0, ..Course::new(seed) };
        let (fs, life) = course.live();
        let mut dice = Dice::new(seed);
        let damage = storm(&fs, &mut dice);
        // What a torn log ends with is lost to an opening too.
        let in_log = damage.iter().any(|file| file.contains(".log"));
        let context = format!("seed {seed}, {damage:?}");
        let before = everything(&fs);
        let report = match repair(&fs) {
            Ok(report) => report,
            Err(Error::Corruption { .. }) => continue, // Nothing is left.
            Err(error) => panic!("{context}: {error}"),
        };
        let context = format!("{context}: {report}");
        for name in report.lost.iter().filter_map(|file| file.moved_to.as_ref()) {
            assert_eq!(fs.read_file(Path::new("db/lost").join(name)).unwrap(), before[name], "{context}");
        }
        assert!(repair(&fs).unwrap().healthy, "{context}");
        let db = reopened(&fs, &context);
        for name in db.keyspace_names().iter().filter(|name| name.starts_with("recovered-")) {
            assert!(report.keyspaces.iter().any(|one| one.invented && one.name == *name), "{context}");
        }
        if db.keyspace_names().len() == 3 && report.keyspaces.iter().all(|one| !one.invented) {
            life.check_rest(&db, &context, |_, _, _| report.healthy && !in_log);
        }
        goes_on(&fs, db, &context);
    }
}

/// What is damaged before a repair that does not come to its end.
fn damages(fs: &MemFs, way: u64) {
    let tables = of_kind(fs, ".table");
    match way {
        0 => remove(fs, "CURRENT"),
        1 => of_kind(fs, ".manifest").iter().for_each(|name| remove(fs, name)),
        2 => {
            let name = of_kind(fs, ".manifest").pop().unwrap();
            let middle = fs.read_file(path(&name)).unwrap().len() * 3 / 4;
            flip(fs, &name, middle);
        }
        3 => tables.iter().step_by(2).for_each(|name| flip(fs, name, 30)),
        4 => of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 120)),
        5 => of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 20)),
        6 => {
            remove(fs, "CURRENT");
            of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 300));
            tables.iter().take(1).for_each(|name| remove(fs, name));
        }
        _ => {
            of_kind(fs, ".manifest").iter().for_each(|name| remove(fs, name));
            of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 200));
            tables.iter().take(1).for_each(|name| flip(fs, name, 40));
        }
    }
}

/// The files that a repair had put aside, by content.
fn put_aside(fs: &MemFs) -> BTreeSet<Vec<u8>> {
    let kept = names(fs, "db/lost").into_iter().filter(|name| !name.ends_with(".tmp"));
    kept.map(|name| fs.read_file(Path::new("db/lost").join(name)).unwrap()).collect()
}

fn interrupted(kind: FaultKind, repeat: bool, ways: std::ops::Range<u64>) {
    for way in ways {
        for seed in 0..3 {
            let (fs, _) = Course { steps: 90, close: true, ..Course::new(2000 + seed) }.live();
            damages(&fs, way);
            let whole = fs.kill();
            repair(&whole).unwrap();
            let expected = contents(&reopened(&whole, "not interrupted"));
            let aside = put_aside(&whole);
            let counting = FaultFs::new(fs.kill());
            small(&fs).fs(counting.clone()).repair(DIR).unwrap();
            let mut dice = Dice::new(seed);
            let step = if repeat { 1 + counting.calls() / 60 } else { 1 + counting.calls() / 40 };
            let mut call = dice.below(step);
            while call < counting.calls() {
                let memory = fs.kill();
                let failing = FaultFs::new(memory.clone());
                failing.inject(Fault { purpose: None, operation: None, nth: call, kind, repeat });
                let failed = small(&memory).fs(failing).repair(DIR);
                for cut in 0..4 {
                    let image = match cut {
                        0 => memory.kill(),
                        1 => memory.power_cut(PowerCut::Lose),
                        2 => memory.power_cut(PowerCut::Keep),
                        _ => memory.power_cut(seed * 1000 + call),
                    };
                    let context = format!("way {way}, seed {seed}, call {call} of {}, cut {cut}", counting.calls());
                    let report = match repair(&image) {
                        Ok(report) => report,
                        Err(error) => panic!("{context}: {failed:?}, then {error}"),
                    };
                    let db = reopened(&image, &context);
                    assert_eq!(contents(&db), expected, "{context}: {report}");
                    assert!(put_aside(&image).is_superset(&aside), "{context}: {report}");
                    if call.is_multiple_of(7) && cut == 3 {
                        goes_on(&image, db, &context);
                    }
                }
                call += 1 + dice.below(step);
            }
        }
    }
}

/// Damaged files whose removal was not durable do no harm to the database that was repaired.
#[test]
fn a_power_cut_after_a_repair_changes_nothing() {
    for way in 0..8 {
        for seed in 0..8 {
            let (fs, _) = Course { close: true, ..Course::new(2500 + seed) }.live();
            damages(&fs, way);
            repair(&fs).unwrap();
            let expected = contents(&reopened(&fs.kill(), "no power cut"));
            for cut in [PowerCut::Lose, PowerCut::Keep, PowerCut::Random(seed), PowerCut::Random(seed + 100)] {
                let context = format!("way {way}, seed {seed}, {cut:?}");
                let image = fs.power_cut(cut);
                let db = reopened(&image, &context);
                assert_eq!(contents(&db), expected, "{context}");
                goes_on(&image, db, &context);
            }
        }
    }
}

#[test]
fn a_repair_that_ends_at_any_call_can_be_done_again() {
    interrupted(FaultKind::StorageFull, true, 0..4);
}

#[test]
fn a_repair_of_more_damage_that_ends_at_any_call_can_be_done_again() {
    interrupted(FaultKind::StorageFull, true, 4..8);
}

// S24
#[test]
fn any_single_call_of_a_repair_may_fail() {
    interrupted(FaultKind::Io, false, 0..8);
}

// S26
#[test]
fn on_a_full_disk_a_repair_fails_and_nothing_is_lost() {
    for way in 0..8 {
        let (fs, _) = Course { close: true, ..Course::new(3000 + way) }.live();
        damages(&fs, way);
        let whole = fs.kill();
        repair(&whole).unwrap();
        let expected = contents(&reopened(&whole, "with room"));
        let before = everything(&fs);
        fs.set_capacity(Some(0));
        match repair(&fs) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
            other => panic!("way {way}: {other:?}"),
        }
        assert_eq!(
            everything(&fs).into_iter().filter(|(name, _)| before.contains_key(name)).collect::<BTreeMap<_, _>>(),
            before
        );
        fs.set_capacity(None);
        repair(&fs).unwrap();
        assert_eq!(contents(&reopened(&fs, "afterwards")), expected, "way {way}");
    }
}
