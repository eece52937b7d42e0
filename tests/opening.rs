//! Opening, closing, keyspaces: what the documentation of the public API promises, and S30, S37.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use strandline::fs::{Operation, Purpose};
use strandline::{
    Clock, CommitOptions, Compression, Db, Durability, Error, FaultFs, Fs, Keyspace, KeyspaceOptions, ManualTime,
    MemFs, Options, Retention, WriteBatch,
};
use support::{pairs, settle, small, small_keyspace};

fn on(fs: &MemFs) -> Options {
    Options::new().fs(fs.clone())
}

fn is_not_found<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound)
}

fn is_invalid<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::InvalidArgument(_)))
}

fn names(fs: &MemFs, dir: &str) -> Vec<String> {
    fs.list(Purpose::Directory, dir.as_ref()).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn without_a_database_there_opening_is_not_found_unless_it_may_be_made() {
    let fs = MemFs::new();
    assert!(is_not_found(on(&fs).create_if_missing(false).open("a/b")));
    assert!(is_not_found(on(&fs).read_only(true).open("a/b")));
    assert!(fs.list(Purpose::Directory, "a".as_ref()).is_err(), "nothing was made");
    fs.create_dir(Purpose::Directory, "empty".as_ref()).unwrap();
    assert!(is_not_found(on(&fs).create_if_missing(false).open("empty")));
    assert!(is_not_found(on(&fs).read_only(true).open("empty")));
    assert_eq!(names(&fs, "empty"), [""; 0]);
    on(&fs).open("a/b").unwrap().close().unwrap();
    on(&fs).create_if_missing(false).open("a/b").unwrap().close().unwrap();
    on(&fs).read_only(true).open("a/b").unwrap().close().unwrap();
}

#[test]
fn a_database_that_must_not_exist_is_refused_and_left_as_it_was() {
    let fs = MemFs::new();
    let db = on(&fs).error_if_exists(true).open("db").unwrap();
    db.keyspace("k").unwrap().put("a", "1").unwrap();
    db.close().unwrap();
    assert!(is_invalid(on(&fs).error_if_exists(true).open("db")));
    let db = on(&fs).open("db").unwrap();
    assert_eq!(db.keyspace("k").unwrap().get("a").unwrap().unwrap(), "1");
}

#[test]
fn destroy_removes_what_is_the_databases_and_nothing_else() {
    let fs = MemFs::new();
    let options = || on(&fs).memtable_bytes(1 << 10).wal_segment_bytes(1 << 10);
    options().destroy("nothing").unwrap();
    for foreign in [false, true] {
        let db = options().open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for n in 0..200 {
            keyspace.put(format!("{n}"), "value").unwrap();
        }
        db.flush().unwrap();
        assert!(matches!(options().destroy("db"), Err(Error::Locked { .. })));
        assert_eq!(keyspace.get("7").unwrap().unwrap(), "value");
        db.close().unwrap();
        if foreign {
            fs.write_file("db/notes.txt", "mine").unwrap();
        }
        options().destroy("db").unwrap();
        if foreign {
            assert_eq!(names(&fs, "db"), ["notes.txt"]);
        } else {
            assert!(fs.list(Purpose::Directory, "db".as_ref()).is_err());
        }
        assert!(is_not_found(options().create_if_missing(false).open("db")));
        let db = options().open("db").unwrap();
        assert_eq!((db.keyspace_names().len(), db.last_timestamp()), (0, 0));
    }
}

// S30
#[test]
fn a_second_writable_open_is_locked_until_the_first_has_ended() {
    let fs = MemFs::new();
    let db = on(&fs).open("db").unwrap();
    assert!(matches!(on(&fs).open("db"), Err(Error::Locked { path }) if path.ends_with("db")));
    on(&fs).open("other").unwrap().close().unwrap();
    db.close().unwrap();
    let db = on(&fs).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (clone, snapshot, iter) = (db.clone(), db.snapshot(), keyspace.iter());
    let handles: [Box<dyn std::any::Any>; 5] =
        [Box::new(db), Box::new(clone), Box::new(keyspace), Box::new(snapshot), Box::new(iter)];
    for handle in handles {
        assert!(matches!(on(&fs).open("db"), Err(Error::Locked { .. })), "while any handle lives");
        drop(handle);
    }
    on(&fs).open("db").unwrap();
}

// S30, on the operating system's files
#[test]
fn a_directory_is_locked_on_disk_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    assert!(matches!(Db::open(dir.path().join("db")), Err(Error::Locked { .. })));
    assert!(matches!(Options::new().destroy(dir.path().join("db")), Err(Error::Locked { .. })));
    let reader = Options::new().read_only(true).open(dir.path().join("db")).unwrap();
    db.keyspace("k").unwrap().put("a", "1").unwrap();
    drop((db, reader));
    let db = Db::open(dir.path().join("db")).unwrap();
    assert_eq!(db.keyspace("k").unwrap().get("a").unwrap().unwrap(), "1");
    db.close().unwrap();
    Options::new().destroy(dir.path().join("db")).unwrap();
    assert!(!dir.path().join("db").exists());
}

#[test]
fn a_read_only_view_is_what_a_crash_of_the_writer_would_leave_and_does_not_follow_it() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", "1").unwrap();
    let view = on(&fs).read_only(true).open("db").unwrap();
    let seen = view.keyspace("k").unwrap();
    keyspace.put("a", "2").unwrap();
    db.keyspace("later").unwrap().put("x", "y").unwrap();
    assert_eq!(seen.get("a").unwrap().unwrap(), "1");
    assert_eq!(view.last_timestamp(), 1);
    assert!(matches!(view.keyspace("later"), Err(Error::UnknownKeyspace { name }) if &*name == "later"));
    let second = on(&fs).read_only(true).open("db").unwrap();
    assert_eq!(second.keyspace("k").unwrap().get("a").unwrap().unwrap(), "2");
    assert_eq!(second.keyspace_names(), ["k", "later"]);
    // It keeps no writer out, and the writer may take its files away: then reads fail, they do not answer wrongly.
    for n in 0..500 {
        keyspace.put(format!("{n}"), "filled").unwrap();
        keyspace.put("a", n.to_string()).unwrap();
    }
    db.compact().unwrap();
    for view in [&view, &second] {
        let keyspace = view.keyspace("k").unwrap();
        match keyspace.get("a") {
            Ok(value) => assert!(["1", "2"].iter().any(|old| value.as_ref().unwrap() == *old)),
            Err(error) => assert!(is_not_found::<()>(Err(error))),
        }
    }
}

#[test]
fn a_read_only_database_refuses_every_write() {
    let fs = MemFs::new();
    let db = on(&fs).open("db").unwrap();
    db.keyspace("k").unwrap().put("a", "1").unwrap();
    db.close().unwrap();
    let db = on(&fs).read_only(true).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let refused = |result: Result<(), Error>| matches!(result, Err(Error::ReadOnly));
    assert!(refused(keyspace.put("a", "2").map(drop)));
    assert!(refused(keyspace.delete("a").map(drop)));
    assert!(refused(db.commit(WriteBatch::new()).map(drop)));
    assert!(refused(db.drop_keyspace("k")));
    assert!(refused(db.sync()));
    assert!(refused(db.close_until(1)));
    assert!(refused(db.retain_from(1).map(drop)));
    assert!(refused(db.flush()));
    assert!(refused(db.compact()));
    assert!(refused(keyspace.compact(..)));
    assert!(matches!(db.keyspace("absent"), Err(Error::UnknownKeyspace { .. })));
    assert_eq!(keyspace.get("a").unwrap().unwrap(), "1");
    assert_eq!(db.snapshot().iter(&keyspace).count(), 1);
    db.verify().unwrap();
    db.close().unwrap();
}

// S30
#[test]
fn a_read_only_open_writes_nothing() {
    let memory = MemFs::new();
    let db = small(&memory).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for n in 0..300 {
        keyspace.put(format!("{n}"), "value").unwrap();
    }
    settle(&db);
    // Also where a crash has left a torn log and orphans.
    let crashed: Vec<MemFs> = (0..30).map(|seed| memory.power_cut(seed)).collect();
    for image in crashed.into_iter().chain([memory.kill(), memory]) {
        let fs = FaultFs::new(image);
        fs.trace(true);
        let db = Options::new().fs(fs.clone()).read_only(true).open("db").unwrap();
        let found = db.keyspace("k").map(|keyspace| pairs(keyspace.iter()).len());
        assert!(found.is_ok_and(|found| found <= 300) || db.keyspace_names().is_empty());
        db.close().unwrap();
        let reads = [Operation::Open, Operation::Read, Operation::Len, Operation::List];
        let written: Vec<_> = fs.take_trace().into_iter().filter(|call| !reads.contains(&call.operation)).collect();
        assert_eq!(written, []);
    }
}

fn is_closed<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Closed))
}

#[test]
fn closing_ends_every_handle() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    for n in 0..100u8 {
        keyspace.put([n], "value").unwrap();
    }
    let clone = db.clone();
    let snapshot = db.snapshot();
    let mut iter = keyspace.iter();
    let mut cursor = snapshot.cursor(&keyspace);
    cursor.seek_to_first().unwrap();
    iter.next().unwrap().unwrap();
    let mut history = keyspace.history([1], ..).unwrap();
    let mut changes = keyspace.changes(..).unwrap();
    let mut fresh = snapshot.iter(&keyspace);
    db.close().unwrap();

    assert!(is_closed(db.close()) && is_closed(clone.close()));
    assert!(is_closed(clone.keyspace("k")) && is_closed(clone.keyspace("new")));
    assert!(is_closed(clone.drop_keyspace("k")));
    assert!(is_closed(clone.commit(WriteBatch::new())));
    assert!(is_closed(clone.sync()) && is_closed(clone.close_until(1)) && is_closed(clone.retain_from(1)));
    assert!(is_closed(clone.flush()) && is_closed(clone.compact()) && is_closed(clone.verify()));
    assert!(is_closed(clone.snapshot_at(1)) && is_closed(clone.resume()) && is_closed(clone.step_background()));
    assert!(is_closed(keyspace.put("a", "b")) && is_closed(keyspace.delete("a")));
    assert!(is_closed(keyspace.get([1])) && is_closed(keyspace.get_at([1], 1)) && is_closed(keyspace.contains([1])));
    assert!(is_closed(keyspace.multi_get([[1]])) && is_closed(keyspace.latest_timestamp([1])));
    assert!(is_closed(keyspace.has_version([1], 1)) && is_closed(keyspace.history([1], ..)));
    assert!(is_closed(keyspace.changes(..)) && is_closed(keyspace.compact(..)));
    assert!(is_closed(keyspace.iter().next().unwrap()) && is_closed(keyspace.range([1]..).next_back().unwrap()));
    assert!(is_closed(snapshot.get(&keyspace, [1])) && is_closed(snapshot.multi_get(&keyspace, [[1]])));
    assert!(is_closed(snapshot.iter(&keyspace).next().unwrap()));
    assert!(is_closed(snapshot.cursor(&keyspace).seek_to_first()));
    let later = clone.snapshot();
    assert!(is_closed(later.get(&keyspace, [1])), "a snapshot taken after closing reads nothing");
    for item in [iter.next(), fresh.next_back()] {
        assert!(is_closed(item.unwrap()));
    }
    assert!(is_closed(history.next().unwrap()) && is_closed(changes.next().unwrap()));
    assert!(iter.next().is_none() && history.next().is_none() && changes.next().is_none(), "after an error: the end");
    assert!(is_closed(cursor.next()) && is_closed(cursor.seek("a")) && is_closed(cursor.prev()));

    let db = small(&fs).open("db").unwrap();
    assert_eq!(db.keyspace("k").unwrap().iter().count(), 100);
    assert!(is_closed(keyspace.get([1])), "a handle of the earlier opening stays closed");
}

#[test]
fn dropping_the_last_handle_closes_as_well_and_keeps_unlogged_commits() {
    for explicitly in [false, true] {
        let fs = MemFs::new();
        let db = on(&fs).durability(Durability::Unlogged).open("db").unwrap();
        let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
        let mut batch = WriteBatch::new();
        batch.put(&a, "k", "1");
        batch.put(&b, "k", "2");
        db.commit(batch).unwrap();
        if explicitly {
            db.close().unwrap();
        }
        drop((a, b, db));
        let fs = fs.power_cut(strandline::fs::PowerCut::Lose);
        let db = on(&fs).open("db").unwrap();
        for (name, value) in [("a", "1"), ("b", "2")] {
            assert_eq!(db.keyspace(name).unwrap().get("k").unwrap().unwrap(), value);
        }
        assert_eq!(db.last_timestamp(), 1);
    }
}

// ---- keyspaces ----

#[test]
fn a_keyspace_is_kept_with_its_options_and_those_that_are_given_are_compared() {
    let fs = MemFs::new();
    let made = || {
        KeyspaceOptions::new()
            .retention(Retention::Window(7))
            .compression(Compression::Zstd(5))
            .compression_per_level(vec![Compression::None, Compression::Lz4])
            .block_bytes(1234)
            .filter_bits_per_key(7.5)
            .target_file_bytes(12_345)
            .level_base_bytes(123_456)
    };
    let mut db = on(&fs).open("db").unwrap();
    db.keyspace_with("k", made()).unwrap();
    db.keyspace("plain").unwrap();
    for reopened in [false, true] {
        if reopened {
            db.close().unwrap();
            db = on(&fs).open("db").unwrap();
        }
        let new = KeyspaceOptions::new;
        db.keyspace("k").unwrap();
        db.keyspace_with("k", made()).unwrap();
        db.keyspace_with("k", new().block_bytes(1234)).unwrap();
        db.keyspace_with("k", new().retention(Retention::Window(7))).unwrap();
        db.keyspace_with("plain", new().retention(Retention::Latest).digest(false)).unwrap();
        let differing = [
            new().retention(Retention::Window(8)),
            new().retention(Retention::Latest),
            new().retention(Retention::Manual),
            new().compression(Compression::Zstd(4)),
            new().compression(Compression::None),
            new().compression_per_level(vec![Compression::None]),
            new().block_bytes(4096),
            new().filter_bits_per_key(10.0),
            new().target_file_bytes(1),
            new().level_base_bytes(1),
            made().block_bytes(1),
        ];
        for options in differing {
            assert!(is_invalid(db.keyspace_with("k", options.clone())), "{options:?}");
        }
    }
    let reader = on(&fs).read_only(true).open("db").unwrap();
    reader.keyspace_with("k", made()).unwrap();
    assert!(is_invalid(reader.keyspace_with("k", made().block_bytes(1))));
    assert!(matches!(reader.keyspace_with("absent", made()), Err(Error::UnknownKeyspace { .. })));
}

#[test]
fn names_are_any_text_but_the_empty_one() {
    let fs = MemFs::new();
    let db = on(&fs).open("db").unwrap();
    assert!(is_invalid(db.keyspace("")));
    assert!(is_invalid(db.keyspace_with("", KeyspaceOptions::new())));
    let long = "n".repeat(10_000);
    let names = ["b", "a", "a/b", "../x", "CURRENT", "\0", "ü — 名前", long.as_str()];
    for (n, name) in names.iter().enumerate() {
        let keyspace = db.keyspace(name).unwrap();
        assert_eq!(keyspace.name(), *name);
        keyspace.put("k", n.to_string()).unwrap();
    }
    let mut sorted = names.map(str::to_owned);
    sorted.sort();
    assert_eq!(db.keyspace_names(), sorted);
    db.close().unwrap();
    let db = on(&fs).open("db").unwrap();
    assert_eq!(db.keyspace_names(), sorted);
    for (n, name) in names.iter().enumerate() {
        assert_eq!(db.keyspace(name).unwrap().get("k").unwrap().unwrap(), n.to_string());
    }
}

#[test]
fn options_that_make_no_sense_or_are_not_built_are_refused() {
    let fs = MemFs::new();
    let db = on(&fs).open("db").unwrap();
    let new = KeyspaceOptions::new;
    let refused = [
        new().block_bytes(0),
        new().filter_bits_per_key(f64::NAN),
        new().filter_bits_per_key(-1.0),
        new().target_file_bytes(0),
        new().level_base_bytes(0),
        new().compression_per_level(vec![]),
    ];
    for options in refused {
        assert!(is_invalid(db.keyspace_with("k", options.clone())), "{options:?}");
    }
    assert_eq!(db.keyspace_names(), [""; 0], "nothing was made");
    for options in [on(&fs).memtable_bytes(0), on(&fs).wal_bytes(0), on(&fs).background_threads(0)] {
        assert!(is_invalid(options.open("elsewhere")));
    }
    assert!(fs.list(Purpose::Directory, "elsewhere".as_ref()).is_err());
}

#[test]
fn a_keyspace_made_after_a_snapshot_reads_empty_in_it() {
    let db = small(&MemFs::new()).late_commits(true).open("db").unwrap();
    let early = db.keyspace("early").unwrap();
    early.put("k", "1").unwrap();
    early.put("k", "2").unwrap();
    let (snapshot, at) = (db.snapshot(), db.snapshot_at(1).unwrap());
    let late = db.keyspace_with("late", small_keyspace().retention(Retention::Manual)).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&late, "k", "below both");
    db.commit_with(batch, CommitOptions::new().at(1)).unwrap();
    for flush in [false, true] {
        if flush {
            db.flush().unwrap();
        }
        for snapshot in [&snapshot, &at] {
            assert_eq!(snapshot.get(&late, "k").unwrap(), None);
            assert_eq!(snapshot.multi_get(&late, ["k"]).unwrap(), [None]);
            assert_eq!(snapshot.iter(&late).count(), 0);
            let mut cursor = snapshot.cursor(&late);
            cursor.seek_to_first().unwrap();
            assert_eq!(cursor.entry(), None);
        }
        assert_eq!(late.get("k").unwrap().unwrap(), "below both");
        assert_eq!(snapshot.get(&early, "k").unwrap().unwrap(), "2");
    }
    db.drop_keyspace("late").unwrap();
    assert!(matches!(snapshot.get(&late, "k"), Err(Error::UnknownKeyspace { .. })), "never seen, and gone");
}

fn is_unknown<T>(result: Result<T, Error>, name: &str) -> bool {
    matches!(result, Err(Error::UnknownKeyspace { name: found }) if &*found == name)
}

#[test]
fn a_dropped_keyspace_is_unknown_also_when_one_of_its_name_is_made_anew() {
    let fs = MemFs::new();
    let mut db = small(&fs).open("db").unwrap();
    let old = db.keyspace("k").unwrap();
    for n in 0..300 {
        old.put(format!("{n:03}"), "old").unwrap();
    }
    db.flush().unwrap();
    let (snapshot, mut iter) = (db.snapshot(), old.iter());
    let mut batch = WriteBatch::new();
    batch.put(&old, "000", "in a batch made before");
    db.drop_keyspace("k").unwrap();
    assert!(is_unknown(db.drop_keyspace("k"), "k"));
    assert_eq!(db.keyspace_names(), [""; 0]);
    for anew in [false, true] {
        if anew {
            let new = db.keyspace_with("k", small_keyspace().retention(Retention::Manual)).unwrap();
            assert_eq!(new.iter().count(), 0);
            assert_eq!(snapshot.get(&new, "000").unwrap(), None, "made after the snapshot");
            new.put("000", "new").unwrap();
        }
        let last = db.last_timestamp();
        assert!(is_unknown(old.get("000"), "k") && is_unknown(old.put("000", "x"), "k"));
        assert!(is_unknown(old.delete("000"), "k") && is_unknown(old.multi_get(["000"]), "k"));
        assert!(is_unknown(old.get_at("000", 5), "k") && is_unknown(old.has_version("000", 5), "k"));
        assert!(is_unknown(old.history("000", ..), "k") && is_unknown(old.changes(..), "k"));
        assert!(is_unknown(old.iter().next().unwrap(), "k") && is_unknown(old.compact(..), "k"));
        assert!(is_unknown(db.commit(batch.clone()), "k"));
        assert_eq!(db.last_timestamp(), last, "what was refused takes no timestamp");
        assert_eq!(snapshot.get(&old, "000").unwrap().unwrap(), "old");
        assert_eq!(snapshot.iter(&old).count(), 300);
        assert_eq!(old.name(), "k");
    }
    db.compact().unwrap();
    settle(&db);
    assert_eq!(iter.next().unwrap().unwrap().1, "old");
    assert_eq!(iter.count(), 299);
    let tables = |fs: &MemFs| names(fs, "db").into_iter().filter(|name| name.ends_with(".table")).count();
    assert!(tables(&fs) > 1, "a snapshot still reads them");
    drop((snapshot, old));
    db.flush().unwrap();
    assert_eq!(tables(&fs), 1, "its files go with the last that reads them");
    db.close().unwrap();
    db = small(&fs).open("db").unwrap();
    let new = db.keyspace("k").unwrap();
    assert_eq!(pairs(new.iter()), [(b"000".to_vec(), b"new".to_vec())]);
}

#[test]
fn a_drop_survives_a_crash_with_what_was_committed_beside_it() {
    let fs = MemFs::new();
    let db = small(&fs).open("db").unwrap();
    let (kept, dropped) = (db.keyspace("kept").unwrap(), db.keyspace("dropped").unwrap());
    let mut batch = WriteBatch::new();
    batch.put(&kept, "k", "1");
    batch.put(&dropped, "k", "1");
    db.commit(batch).unwrap();
    db.drop_keyspace("dropped").unwrap();
    for image in (0..40).map(|seed| fs.power_cut(seed)).chain([fs.kill()]) {
        let db = small(&image).open("db").unwrap();
        assert_eq!(db.keyspace_names(), ["kept"]);
        assert_eq!(db.keyspace("kept").unwrap().get("k").unwrap().unwrap(), "1");
        assert_eq!(db.keyspace("dropped").unwrap().iter().count(), 0);
    }
}

#[test]
fn keyspaces_of_another_database_are_refused() {
    let (one, other) = (on(&MemFs::new()).open("db").unwrap(), on(&MemFs::new()).open("db").unwrap());
    let (mine, foreign) = (one.keyspace("k").unwrap(), other.keyspace("k").unwrap());
    let batch = |keyspaces: &[&Keyspace]| {
        let mut batch = WriteBatch::new();
        keyspaces.iter().for_each(|keyspace| batch.put(keyspace, "k", "v"));
        batch
    };
    assert!(is_invalid(one.commit(batch(&[&foreign]))));
    assert!(is_invalid(one.commit(batch(&[&mine, &foreign]))));
    assert!(is_invalid(one.commit(batch(&[&foreign, &mine]))));
    let mut reads = WriteBatch::new();
    reads.read(&foreign, "k");
    assert!(is_invalid(one.commit(reads)));
    let snapshot = one.snapshot();
    assert!(is_invalid(snapshot.get(&foreign, "k")));
    assert!(is_invalid(snapshot.iter(&foreign).next().unwrap()));
    assert!(is_invalid(snapshot.cursor(&foreign).seek_to_last()));
    assert_eq!((one.last_timestamp(), other.last_timestamp()), (0, 0));
    assert_eq!(mine.get("k").unwrap(), None);
}

#[test]
fn inverted_ranges_are_empty() {
    let db = on(&MemFs::new()).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let mut batch = WriteBatch::new();
    (b'a'..=b'f').for_each(|key| batch.put(&keyspace, [key], [key]));
    db.commit(batch).unwrap();
    let mut batch = WriteBatch::new();
    batch.delete_range(&keyspace, "e".."b");
    batch.delete_range(&keyspace, "b".."b");
    db.commit(batch).unwrap();
    assert_eq!(keyspace.range("e".."b").count(), 0);
    assert_eq!(keyspace.range("b".."b").next_back().map(Result::unwrap), None);
    assert_eq!(db.snapshot().range(&keyspace, "e"..="b").count(), 0);
    assert_eq!(keyspace.range("b"..="b").count(), 1);
    assert_eq!(keyspace.iter().count(), 6);
    #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
    let inverted = 2..1;
    assert_eq!(keyspace.history("a", inverted.clone()).unwrap().count(), 0);
    assert_eq!(keyspace.changes(inverted).unwrap().count(), 0);
    keyspace.compact("e".."b").unwrap();
}

// ---- the clock ----

// S11
#[test]
fn the_hybrid_clock_never_runs_backwards_not_across_a_reopen_either() {
    let (fs, time) = (MemFs::new(), ManualTime::new(5_000));
    let open = || on(&fs).clock(Clock::Hybrid).time(time.clone()).open("db").unwrap();
    let mut last = 0;
    for millis in [5_000, 5_000, 4_000, 6_000, 1] {
        time.set_unix_millis(millis);
        let db = open();
        assert_eq!(db.last_timestamp(), last);
        let keyspace = db.keyspace("k").unwrap();
        for _ in 0..3 {
            let next = keyspace.put("k", "v").unwrap();
            assert!(next > last && next >= millis << 16, "{millis}");
            last = next;
        }
        time.advance(Duration::from_millis(1));
    }
    assert_eq!(last >> 16, 6_000);
}

#[test]
fn a_clock_with_nothing_left_is_an_invalid_argument() {
    let db = on(&MemFs::new()).open("db").unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let last = u64::MAX - 1;
    assert_eq!(db.commit_with(WriteBatch::new(), CommitOptions::new().at(last)).unwrap(), last);
    assert!(is_invalid(keyspace.put("k", "v")));
    assert_eq!(db.last_timestamp(), last);
    assert_eq!(keyspace.get("k").unwrap(), None);
}

// ---- what opening costs ----

// S37
#[test]
fn opening_does_not_read_tables_and_does_not_depend_on_the_number_of_rows() {
    let mut reads = Vec::new();
    for rows in [10, 30_000] {
        let memory = MemFs::new();
        // What is in tables is not replayed; only the segment that is being written may hold some of it still.
        let db = on(&memory).wal_segment_bytes(16 << 10).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        for start in (0..rows).step_by(100) {
            let mut batch = WriteBatch::new();
            (start..rows.min(start + 100)).for_each(|n| batch.put(&keyspace, format!("{n:08}"), "a value of a row"));
            db.commit(batch).unwrap();
        }
        db.compact().unwrap();
        drop(keyspace);
        db.close().unwrap();
        let fs = FaultFs::new(memory);
        fs.trace(true);
        let db = Options::new().fs(fs.clone()).background(strandline::Background::Stepped).open("db").unwrap();
        let keyspace = db.keyspace("k").unwrap();
        let calls = fs.take_trace();
        assert!(calls.iter().all(|call| call.purpose != Purpose::Table), "{rows} rows");
        let read: u64 = calls.iter().filter(|call| call.operation == Operation::Read).map(|call| call.len).sum();
        reads.push(read);
        assert_eq!(keyspace.get("00000007").unwrap().unwrap(), "a value of a row");
        assert!(fs.take_trace().iter().any(|call| call.purpose == Purpose::Table), "now one was opened");
    }
    assert!(reads[1] < reads[0] + (16 << 10) + 2000, "bytes read for 10 rows and for 30,000: {reads:?}");
}
