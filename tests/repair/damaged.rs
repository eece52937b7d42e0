//! One damage at a time, and all that must be there after the repair of it.

use crate::files::{DIR, bytes_of, flip, keys, killed, of_kind, path, remove_all, reopened};
use crate::support::forge::{change, varint};
use crate::support::{forge, small};
use strandline::fs::{Fault, FaultKind, Purpose};
use strandline::{
    Compression, Db, Error, FaultFs, Fs, Keyspace, KeyspaceOptions, MemFs, Options, Retention, WriteBatch,
};

/// Nothing is flushed, and no segment is left, unless somebody says so.
fn roomy(fs: &MemFs) -> Options {
    small(fs).memtable_bytes(1 << 20).wal_bytes(1 << 20).wal_segment_bytes(1 << 20)
}

fn manual() -> KeyspaceOptions {
    KeyspaceOptions::new().retention(Retention::Manual).block_bytes(128).compression(Compression::None)
}

fn keyspace(db: &Db) -> Keyspace {
    db.keyspace_with("keyspace", manual()).unwrap()
}

// ---- the manifest ----

/// Where each frame of a manifest begins.
fn frames(manifest: &[u8]) -> Vec<usize> {
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < manifest.len() {
        frames.push(at);
        at += 13 + u32::from_le_bytes(manifest[at..at + 4].try_into().unwrap()) as usize;
    }
    frames
}

/// Three keyspaces of one session, so that no snapshot knows them, and the edit damaged that has made the second one.
fn keyspaces_of_which_one_was_not_heard(end: impl FnOnce(&MemFs, &Db)) -> MemFs {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    for name in ["a", "b", "c"] {
        db.keyspace_with(name, manual()).unwrap().put("key", name).unwrap();
    }
    end(&fs, &db);
    let fs = killed(&fs, db);
    let manifest = of_kind(&fs, ".manifest").pop().unwrap();
    flip(&fs, &manifest, frames(&bytes_of(&fs, &manifest))[2] + 13);
    assert!(matches!(small(&fs).open(DIR), Err(Error::Corruption { .. })));
    fs
}

/// Those that were made later must not have it counted as made, and dropped, before the snapshot.
#[test]
fn a_keyspace_whose_making_cannot_be_read_is_kept() {
    for in_tables in [true, false] {
        let fs = keyspaces_of_which_one_was_not_heard(|_, db| {
            if in_tables {
                db.flush().unwrap();
            }
        });
        let report = small(&fs).repair(DIR).unwrap();
        let context = format!("in tables: {in_tables}: {report}");
        assert!(report.keyspaces.iter().all(|one| !one.invented), "{context}");
        let db = reopened(small(&fs), &context);
        assert_eq!(db.keyspace_names(), ["a", "b", "c"], "{context}");
        for name in ["a", "b", "c"] {
            let value = db.keyspace_with(name, manual()).unwrap().get("key").unwrap();
            assert_eq!(value.as_deref(), Some(name.as_bytes()), "{context}");
        }
    }
}

/// The manifest alone tells of the drop: of the log nothing is left, and a file of the keyspace still is.
#[test]
fn a_keyspace_whose_drop_can_be_read_stays_dropped_though_its_making_cannot() {
    let mut tables = Vec::new();
    let fs = keyspaces_of_which_one_was_not_heard(|fs, db| {
        db.flush().unwrap();
        tables = of_kind(fs, ".table").into_iter().map(|name| (bytes_of(fs, &name), name)).collect();
        db.drop_keyspace("b").unwrap();
    });
    tables.into_iter().for_each(|(bytes, name)| fs.write_file(path(&name), bytes).unwrap());
    remove_all(&fs, ".log");
    let report = small(&fs).repair(DIR).unwrap();
    assert_eq!(reopened(small(&fs), &report.to_string()).keyspace_names(), ["a", "c"], "{report}");
}

// ---- the log ----

fn put_all(keyspace: &Keyspace, numbers: std::ops::Range<u64>) {
    numbers.for_each(|n| _ = keyspace.put(format!("{n:04}"), "value".repeat(10)).unwrap());
}

fn flip_header_of_first_segment(fs: &MemFs) {
    flip(fs, &of_kind(fs, ".log")[0], 20);
}

/// An opening has copied the whole log, for nothing in it was proved: then the copy is the log, and the ordinal that the
/// manifest names as the first is one that a cut has ended.
#[test]
fn a_log_of_one_segment_counts_though_its_header_is_damaged() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    put_all(&keyspace(&db), 0..40);
    let fs = killed(&fs, db);
    let fs = killed(&fs, roomy(&fs).open(DIR).unwrap());
    assert_eq!(of_kind(&fs, ".log").len(), 1);
    flip_header_of_first_segment(&fs);
    let report = roomy(&fs).repair(DIR).unwrap();
    let db = reopened(roomy(&fs), &report.to_string());
    assert_eq!(keys(&keyspace(&db)).len(), 40, "{report}");
}

/// The segment that follows has not the next ordinal, where the copy of an opening came to nothing in between.
#[test]
fn a_segment_before_a_cut_counts_though_its_header_is_damaged() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    put_all(&keyspace(&db), 0..20);
    db.sync().unwrap();
    put_all(&keyspace(&db), 20..40);
    let fs = killed(&fs, db);
    let counting = FaultFs::new(fs.kill());
    std::mem::forget(roomy(&fs).fs(counting.clone()).open(DIR).unwrap());
    let mut given_up = 0;
    for call in 0..counting.calls() {
        let image = fs.kill();
        let failing = FaultFs::new(image.clone());
        failing.inject(Fault { purpose: None, operation: None, nth: call, kind: FaultKind::StorageFull, repeat: true });
        std::mem::forget(roomy(&image).fs(failing).open(DIR));
        let image = image.kill();
        given_up += u64::from(of_kind(&image, ".log").len() == 2);
        let db = roomy(&image).open(DIR).unwrap();
        put_all(&keyspace(&db), 40..60);
        db.sync().unwrap();
        let image = killed(&image, db);
        flip_header_of_first_segment(&image);
        let report = roomy(&image).repair(DIR).unwrap();
        let context = format!("call {call}: {report}");
        let db = reopened(roomy(&image), &context);
        assert_eq!(keys(&keyspace(&db)).len(), 60, "{context}");
    }
    assert!(given_up > 0);
}

// ---- tables ----

/// A compaction of old and new: what it has put together was logged on both sides of what another table holds.
#[test]
fn of_a_damaged_table_what_can_be_read_stays_and_the_log_adds_the_rest() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    let keyspace = keyspace(&db);
    db.keyspace("other").unwrap().put("holds", "the log").unwrap();
    let mut batch = WriteBatch::new();
    (0..1000).for_each(|n| batch.put(&keyspace, format!("a{n:04}"), format!("value {n}")));
    db.commit(batch).unwrap();
    keyspace.compact("a".."b").unwrap();
    keyspace.put("z", "value").unwrap();
    keyspace.compact("z"..).unwrap();
    keyspace.put("a0500", "newer").unwrap();
    keyspace.compact("a".."b").unwrap();
    let fs = killed(&fs, (db, keyspace));
    let tables = of_kind(&fs, ".table");
    assert_eq!(tables.len(), 2, "{tables:?}");
    let victim = tables.iter().max_by_key(|name| bytes_of(&fs, name).len()).unwrap();
    flip(&fs, victim, 4000);
    for with_log in [true, false] {
        let image = fs.kill();
        if !with_log {
            remove_all(&image, ".log");
        }
        let report = roomy(&image).repair(DIR).unwrap();
        let context = format!("with the log: {with_log}: {report}");
        let lost = report.lost.iter().find(|file| file.file == *victim).unwrap().table.as_ref().unwrap();
        assert!(lost.versions == 1001 && lost.versions_kept > 950, "{context}");
        let db = reopened(roomy(&image), &context);
        let keyspace = self::keyspace(&db);
        let there = keys(&keyspace).len();
        assert!(if with_log { there == 1001 } else { there > 950 }, "{context}: {there}");
        assert_eq!(keyspace.get("z").unwrap().as_deref(), Some(&b"value"[..]), "{context}");
    }
}

/// Filter, range tombstones, properties and top index: no row lies in any of them. Of the range tombstones only they
/// themselves are lost.
#[test]
fn damage_to_a_block_without_rows_costs_no_row() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    let keyspace = keyspace(&db);
    put_all(&keyspace, 0..400);
    let mut batch = WriteBatch::new();
    batch.delete_range(&keyspace, "0390"..);
    db.commit(batch).unwrap();
    put_all(&keyspace, 0..10);
    db.flush().unwrap();
    let fs = killed(&fs, (db, keyspace));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    let bytes = bytes_of(&fs, &victim);
    let footer = bytes.len() - 84;
    let offset = |handle: usize| {
        let at = footer + handle;
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    };
    for (block, at) in [
        ("top index", offset(0)),
        ("partition", offset(0) - 1),
        ("filter", offset(16)),
        ("range tombstones", offset(32)),
        ("properties", offset(48)),
    ] {
        let image = fs.kill();
        flip(&image, &victim, at);
        let report = roomy(&image).repair(DIR).unwrap();
        let context = format!("{block}: {report}");
        let lost = report.lost[0].table.as_ref().unwrap();
        assert_eq!((lost.versions, lost.versions_kept), (410, 410), "{context}");
        let db = reopened(roomy(&image), &context);
        let there = keys(&self::keyspace(&db)).len();
        assert_eq!(there, if block == "range tombstones" { 400 } else { 390 }, "{context}");
    }
}

/// Without its end nothing in the file says where anything lies; blocks lie back to back.
#[test]
fn of_a_table_that_was_cut_short_the_blocks_are_kept_that_are_left() {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd(1)] {
        let options = manual().compression(compression).block_bytes(400);
        let keyspace = db.keyspace_with(format!("{compression:?}"), options).unwrap();
        put_all(&keyspace, 0..400);
        (0..400).step_by(3).for_each(|n| _ = keyspace.put(format!("{n:04}"), "newer").unwrap());
    }
    db.flush().unwrap();
    let fs = killed(&fs, db);
    for victim in of_kind(&fs, ".table") {
        let bytes = bytes_of(&fs, &victim);
        fs.write_file(path(&victim), &bytes[..bytes.len() / 2]).unwrap();
    }
    let report = roomy(&fs).repair(DIR).unwrap();
    assert_eq!(report.lost.len(), 3, "{report}");
    let db = reopened(roomy(&fs), &report.to_string());
    for lost in report.lost.iter().map(|file| file.table.as_ref().unwrap()) {
        assert!(lost.versions == 534 && lost.versions_kept > 200, "{report}");
        let keyspace = db.keyspace(&lost.keyspace).unwrap();
        let keys = keys(&keyspace);
        assert!(keys.len() > 150 && keys.iter().zip(0..).all(|(key, n)| *key == format!("{n:04}")), "{report}");
        assert_eq!(keyspace.history("0099", ..).unwrap().count(), 2, "{report}");
    }
}

// ---- numbers that leave none above them ----

/// Ten keys in a table, ten in the log.
fn table_and_log() -> MemFs {
    let fs = MemFs::new();
    let db = roomy(&fs).open(DIR).unwrap();
    let keyspace = keyspace(&db);
    put_all(&keyspace, 0..10);
    db.flush().unwrap();
    put_all(&keyspace, 10..20);
    db.sync().unwrap();
    killed(&fs, (db, keyspace))
}

/// Repairs, finds all, commits, and opens again.
fn all_is_there_and_goes_on(fs: &MemFs, what: &str) {
    let report = roomy(fs).repair(DIR).unwrap();
    let context = format!("{what}: {report}");
    let db = reopened(roomy(fs), &context);
    let keyspace = keyspace(&db);
    assert_eq!(keys(&keyspace).len(), 20, "{context}");
    put_all(&keyspace, 20..30);
    db.close().unwrap();
    drop((db, keyspace));
    let db = reopened(roomy(fs), &context);
    assert_eq!(keys(&self::keyspace(&db)).len(), 30, "{context}");
}

#[test]
fn a_table_cannot_say_that_it_covers_all_that_is_ever_logged() {
    for log_end in [u64::MAX, 1 << 63, 1 << 62, (1 << 62) - 1] {
        let fs = table_and_log();
        remove_all(&fs, ".manifest");
        forge::set_log_end(&fs, &of_kind(&fs, ".table")[0], log_end);
        all_is_there_and_goes_on(&fs, &format!("log end {log_end}"));
    }
}

#[test]
fn a_record_cannot_say_that_more_was_synced_than_any_log_holds() {
    for synced in [(1 << 63) - 1, 1 << 62, (1 << 62) - 1] {
        let fs = table_and_log();
        forge::append_proof(&fs, synced);
        flip_header_of_first_segment(&fs);
        all_is_there_and_goes_on(&fs, &format!("synced up to {synced}"));
    }
}

#[test]
fn a_mark_cannot_say_that_numbers_are_used_up() {
    let mark = |bound: u64, next_keyspace: u32, timestamps: [u64; 3]| {
        let rest = timestamps.map(u64::to_le_bytes).concat();
        [&1u64.to_le_bytes()[..], &1u64.to_le_bytes(), &bound.to_le_bytes(), &next_keyspace.to_le_bytes(), &rest]
            .concat()
    };
    for (what, payload) in [
        ("file numbers", mark(u64::MAX, 1, [1; 3])),
        ("file numbers that leave none", mark((1 << 62) - 1, 1, [1; 3])),
        ("last timestamp", mark(1, 1, [u64::MAX, 1, 1])),
        ("closed timestamp", mark(1, 1, [1, u64::MAX, 1])),
        ("manual floor", mark(1, 1, [1, 1, u64::MAX])),
        ("manifest", [&u64::MAX.to_le_bytes()[..], &mark(1, 1, [1; 3])[8..]].concat()),
    ] {
        let fs = table_and_log();
        forge::append_record(&fs, 0x82, 0, &payload);
        if !what.ends_with("leave none") {
            assert!(matches!(roomy(&fs.kill()).open(DIR), Err(Error::Corruption { .. })), "{what}");
        }
        remove_all(&fs, ".manifest");
        all_is_there_and_goes_on(&fs, what);
    }
}

/// What an opening refuses is not healthy.
#[test]
fn a_keyspace_cannot_cover_more_of_the_log_than_was_synced() {
    let fs = table_and_log();
    forge::append_edit(&fs, 3, &change(6, &[&varint(0), &varint(1 << 40)]));
    assert!(matches!(roomy(&fs.kill()).open(DIR), Err(Error::Corruption { .. })));
    all_is_there_and_goes_on(&fs, "covered");
}

/// No repair puts aside what is no file, but it says what is in the way.
#[test]
fn a_directory_whose_number_leaves_none_above_it_is_named() {
    let fs = table_and_log();
    let name = format!("{}.table", (1u64 << 62) - 1);
    fs.create_dir(Purpose::Directory, &path(&name)).unwrap();
    assert!(matches!(roomy(&fs.kill()).open(DIR), Err(Error::Corruption { .. })));
    assert!(matches!(roomy(&fs).repair(DIR), Err(Error::Io { path, .. }) if path.ends_with(&name)));
}
