//! Repairs that come after another one: after one that did not come to its end, or after new damage to what it has made.

use std::path::Path;

use crate::files::{DIR, bytes_of, find, flip, keys, killed, names, of_kind, remove, remove_all, reopened};
use crate::support::small;
use strandline::fs::{Fault, FaultKind, Operation, PowerCut, Purpose};
use strandline::{
    CommitOptions, Compression, Db, Durability, FaultFs, Keyspace, KeyspaceOptions, ManifestFound, MemFs, Options,
    Retention, WriteBatch,
};

/// Nothing is flushed, and no segment is left, unless somebody says so.
fn roomy(fs: &MemFs) -> Options {
    small(fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 20)
}

fn keyspace(db: &Db) -> Keyspace {
    let options = KeyspaceOptions::new().retention(Retention::Manual).block_bytes(128).compression(Compression::None);
    db.keyspace_with("keyspace", options).unwrap()
}

fn put_all(keyspace: &Keyspace, prefix: &str, count: u64) {
    (0..count).for_each(|n| _ = keyspace.put(format!("{prefix}{n:03}"), "value".repeat(20)).unwrap());
}

fn fault(purpose: Purpose, operation: Operation, nth: u64, repeat: bool) -> Fault {
    Fault { purpose: Some(purpose), operation: Some(operation), nth, kind: FaultKind::Io, repeat }
}

/// How many keys there are after one more repair.
fn repaired_keys(fs: &MemFs, context: &str) -> usize {
    let report = roomy(fs).repair(DIR).unwrap_or_else(|error| panic!("{context}: {error}"));
    let db = reopened(roomy(fs), &format!("{context}: {report}"));
    keys(&keyspace(&db)).len()
}

/// What a repair had written of the log is removed where it fails; of those removals a power cut may keep some. A table
/// that is left must not say that it covers what the others held.
#[test]
fn tables_of_a_log_that_a_failed_repair_has_left_stand_for_no_other() {
    for late in [false, true] {
        let fs = MemFs::new();
        let db = roomy(&fs).late_commits(late).open(DIR).unwrap();
        put_all(&keyspace(&db), "key", 200);
        if late {
            let mut batch = WriteBatch::new();
            batch.put(&keyspace(&db), "key000", "late");
            db.commit_with(batch, CommitOptions::new().at(100)).unwrap();
        }
        db.sync().unwrap();
        let fs = killed(&fs, db);
        remove_all(&fs, ".manifest");
        for removed in 0..12 {
            for seed in 0..4 {
                let image = fs.kill();
                let failing = FaultFs::new(image.clone());
                failing.inject(fault(Purpose::Manifest, Operation::Create, 0, false));
                failing.inject(Fault { purpose: None, ..fault(Purpose::Repair, Operation::Remove, removed, true) });
                assert!(roomy(&image).fs(failing).memtable_bytes(2 << 10).repair(DIR).is_err());
                let image = if seed == 0 { image.kill() } else { image.power_cut(seed) };
                let context = format!("late: {late}, {removed} removed, seed {seed}");
                assert_eq!(repaired_keys(&image, &context), 200, "{context}");
            }
        }
    }
}

/// One intact table, one damaged, and a log that begins within what the damaged one holds.
fn log_that_begins_within_a_damaged_table() -> MemFs {
    let fs = MemFs::new();
    let options = roomy(&fs).wal_segment_bytes(4 << 10);
    let db = options.open(DIR).unwrap();
    let keyspace = keyspace(&db);
    put_all(&keyspace, "a", 10);
    db.flush().unwrap();
    put_all(&keyspace, "b", 80);
    db.keyspace("other").unwrap().put("holds", "the log").unwrap();
    put_all(&keyspace, "c", 80);
    keyspace.compact("zzz"..).unwrap();
    db.sync().unwrap();
    let fs = killed(&fs, (db, keyspace));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    let at = find(&fs, &victim, b"c040");
    flip(&fs, &victim, at);
    fs
}

#[test]
fn the_rest_of_a_damaged_table_does_not_stand_for_what_the_log_adds_to_it() {
    let fs = log_that_begins_within_a_damaged_table();
    remove_all(&fs, ".manifest");
    let victim = of_kind(&fs, ".table").pop().unwrap();
    let counting = FaultFs::new(fs.kill());
    roomy(&fs).fs(counting.clone()).repair(DIR).unwrap();
    let expected = repaired_keys(&fs.kill(), "not interrupted");
    assert_eq!(expected, 170);
    for call in (0..counting.calls()).step_by(3) {
        let image = fs.kill();
        let failing = FaultFs::new(image.clone());
        failing.inject(Fault { purpose: None, operation: None, nth: call, kind: FaultKind::StorageFull, repeat: true });
        let failed = roomy(&image).fs(failing).repair(DIR);
        for cut in [PowerCut::Keep, PowerCut::Lose, PowerCut::Random(call)] {
            let context = format!("call {call} of {}, {cut:?}: {failed:?}", counting.calls());
            let image = image.power_cut(cut);
            let report = roomy(&image).repair(DIR).unwrap();
            let lost = report.lost.iter().find(|file| file.file == victim).and_then(|file| file.table.as_ref());
            // Else the first repair has come about.
            if report.manifest == ManifestFound::Lost {
                assert!(lost.unwrap().versions_kept > 100, "{context}: {report}");
            }
            let db = reopened(roomy(&image), &context);
            assert_eq!(keys(&keyspace(&db)).len(), expected, "{context}: {report}");
        }
    }
}

#[test]
fn nor_if_the_manifest_is_lost_before_the_next_flush() {
    let fs = log_that_begins_within_a_damaged_table();
    assert_eq!(repaired_keys(&fs, "with the manifest"), 170);
    let fs = killed(&fs, roomy(&fs).open(DIR).unwrap());
    remove_all(&fs, ".manifest");
    assert_eq!(repaired_keys(&fs, "without the manifest"), 170);
}

/// A flush whose sync has failed, and whose file could not be removed: it reads well until the power goes. L2, L3
#[test]
fn a_table_that_nobody_has_synced_is_written_anew() {
    for late in [false, true] {
        let memory = MemFs::new();
        let failing = FaultFs::new(memory.clone());
        let db = roomy(&memory).fs(failing.clone()).late_commits(late).open(DIR).unwrap();
        let keyspace = keyspace(&db);
        for n in 0..40 {
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, format!("{n:03}"), "value");
            let at = CommitOptions::new().durability(Durability::Synced);
            db.commit_with(batch, if late && n == 30 { at.at(20) } else { at }).unwrap();
        }
        failing.inject(fault(Purpose::Flush, Operation::Sync, 0, true));
        failing.inject(fault(Purpose::Flush, Operation::Remove, 0, true));
        assert!(db.flush().is_err());
        let memory = killed(&memory, (db, keyspace));
        assert_eq!(of_kind(&memory, ".table").len(), 1);
        remove_all(&memory, ".manifest");
        let report = roomy(&memory).repair(DIR).unwrap();
        let memory = memory.power_cut(PowerCut::Lose);
        let db = reopened(roomy(&memory), &format!("late: {late}: {report}"));
        assert_eq!(keys(&self::keyspace(&db)).len(), 40, "late: {late}: {report}");
    }
}

/// The manifest that was there before is still there, and whole; but it is not the last word.
#[test]
fn a_repair_is_not_undone_by_the_loss_of_its_manifest() {
    for lost in [true, false] {
        let fs = MemFs::new();
        let db = roomy(&fs).open(DIR).unwrap();
        put_all(&keyspace(&db), "key", 40);
        db.sync().unwrap();
        // Says that all before was synced: else what is damaged would be torn (L1).
        put_all(&keyspace(&db), "proof", 1);
        let fs = killed(&fs, db);
        let segment = of_kind(&fs, ".log").pop().unwrap();
        let at = find(&fs, &segment, b"key020");
        flip(&fs, &segment, at);
        roomy(&fs).repair(DIR).unwrap();
        let manifest = of_kind(&fs, ".manifest").pop().unwrap();
        if lost {
            remove(&fs, &manifest);
        } else {
            flip(&fs, &manifest, 40);
        }
        assert_eq!(repaired_keys(&fs, &format!("manifest lost: {lost}")), 40);
    }
}

/// The older manifest may be the only one whose tables are all there; `CURRENT` knows better.
#[test]
fn a_repair_is_not_undone_by_the_loss_of_one_of_its_tables() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    put_all(&keyspace(&db), "key", 80);
    db.sync().unwrap();
    put_all(&keyspace(&db), "proof", 1);
    let fs = killed(&fs, db);
    let segment = of_kind(&fs, ".log").pop().unwrap();
    let at = find(&fs, &segment, b"key020");
    flip(&fs, &segment, at);
    roomy(&fs).memtable_bytes(2 << 10).repair(DIR).unwrap();
    let tables = of_kind(&fs, ".table");
    assert!(tables.len() > 3, "{tables:?}");
    remove(&fs, &tables[1]);
    let report = roomy(&fs).repair(DIR).unwrap();
    assert_eq!((report.manifest, report.lost.len()), (ManifestFound::Whole, 1), "{report}");
    let db = reopened(roomy(&fs), &report.to_string());
    assert!(keys(&keyspace(&db)).len() > 40, "{report}");
}

/// The name of the copy may be in the page cache only, and a sync that succeeds now proves nothing. L2
#[test]
fn a_copy_in_lost_that_an_earlier_repair_could_not_sync_is_put_there_anew() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    put_all(&keyspace(&db), "key", 40);
    db.flush().unwrap();
    let fs = killed(&fs, db);
    let victim = of_kind(&fs, ".table").pop().unwrap();
    flip(&fs, &victim, 30);
    let damaged = bytes_of(&fs, &victim);
    for tries in 1..4 {
        let image = fs.kill();
        for _ in 0..tries {
            let failing = FaultFs::new(image.clone());
            failing.inject(fault(Purpose::Repair, Operation::SyncDir, 0, false));
            assert!(roomy(&image).fs(failing).repair(DIR).is_err());
        }
        let report = roomy(&image).repair(DIR).unwrap();
        let image = image.power_cut(PowerCut::Lose);
        let kept = report.lost[0].moved_to.as_ref().unwrap();
        assert_eq!(image.read_file(Path::new("db/lost").join(kept)).unwrap(), damaged, "{tries} tries: {report}");
        assert!(names(&image, "db/lost").len() == 1, "{tries} tries: {:?}", names(&image, "db/lost"));
    }
}

#[test]
fn on_a_full_disk_no_part_of_a_copy_is_left_in_lost() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    put_all(&keyspace(&db), "key", 40);
    db.flush().unwrap();
    let fs = killed(&fs, db);
    flip(&fs, &of_kind(&fs, ".table")[0], 30);
    let failing = FaultFs::new(fs.clone());
    let kind = FaultKind::StorageFull;
    failing.inject(Fault { kind, ..fault(Purpose::Repair, Operation::Append, 0, true) });
    assert!(roomy(&fs).fs(failing).repair(DIR).is_err());
    assert!(names(&fs, "db/lost").is_empty(), "{:?}", names(&fs, "db/lost"));
}

/// What lies there is not this database's to write to.
#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_lost_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (database, elsewhere) = (dir.path().join("db"), dir.path().join("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    let db = Db::open(&database).unwrap();
    keyspace(&db).put("a", "1").unwrap();
    db.close().unwrap();
    drop(db);
    std::fs::write(database.join("CURRENT"), "x").unwrap();
    std::os::unix::fs::symlink(&elsewhere, database.join("lost")).unwrap();
    assert!(Db::repair(&database).is_err());
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(std::fs::read(database.join("CURRENT")).unwrap(), b"x");
    std::fs::remove_file(database.join("lost")).unwrap();
    Db::repair(&database).unwrap();
    assert_eq!(keys(&keyspace(&Db::open(&database).unwrap())), ["a"]);
}
