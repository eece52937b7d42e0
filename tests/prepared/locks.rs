//! What one in doubt keeps others from, and what it does not.

use strandline::{
    CommitOptions, Db, Error, Isolation, Keyspace, KeyspaceOptions, MemFs, Result, Retention, WriteBatch,
};

use super::{ids, is_busy, open, options, prepare};

fn at(timestamp: u64) -> CommitOptions {
    CommitOptions::new().at(timestamp)
}

#[test]
fn what_it_will_write_is_not_seen_and_nobody_else_writes_it() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    ks.put("b", "old").unwrap();
    assert_eq!(prepare(&db, "t", &["b", "d"], "new").unwrap(), 1);
    assert_eq!((db.last_timestamp(), ids(&db)), (1, vec!["t".as_bytes().into()]));
    assert_eq!(ks.get("b").unwrap().as_deref(), Some(&b"old"[..]));

    let reason = is_busy(ks.put("b", "x"));
    assert!(reason.contains("\"b\"") && reason.contains("\"ks\"") && reason.contains("\"t\""), "{reason}");
    is_busy(ks.delete("d"));
    is_busy(ks.set_expiry("b", 100));
    let delete = |range: std::ops::Range<&str>| {
        let mut batch = WriteBatch::new();
        batch.delete_range(&ks, range);
        db.commit(batch)
    };
    is_busy(delete("a".."c"));
    is_busy(delete("c".."d\0"));
    is_busy(delete("b".."b\0"));
    delete("b\0".."d").unwrap();
    delete("a".."b").unwrap();
    // Of a batch nothing is done.
    let mut batch = WriteBatch::new();
    batch.put(&ks, "a", "x");
    batch.put(&ks, "d", "x");
    is_busy(db.commit(batch));
    assert_eq!(ks.get("a").unwrap(), None);
    // Nor may it be prepared.
    is_busy(prepare(&db, "u", &["a", "b"], "x"));
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&ks, "d", "x").unwrap();
    is_busy(tx.commit());
    // The same keys of another keyspace, and other keys, are free.
    db.keyspace("other").unwrap().put("b", "x").unwrap();
    ks.put("c", "x").unwrap();

    let ts = db.commit_prepared("t", None).unwrap();
    assert_eq!(ks.get("d").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(ks.get_at("b", ts - 1).unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!((db.last_timestamp(), ids(&db).len()), (ts, 0));
    ks.put("b", "x").unwrap();
    delete("a".."z").unwrap();
}

#[test]
fn a_large_batch_is_held_against_locks_too() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    prepare(&db, "t", &["00999"], "new").unwrap();
    for (last, busy) in [(1000, true), (999, false)] {
        let mut batch = WriteBatch::new();
        (0..last).for_each(|i| batch.put(&ks, format!("{i:05}"), "x"));
        let committed = db.commit(batch);
        assert_eq!(matches!(committed, Err(Error::Busy { .. })), busy, "{committed:?}");
    }
    db.abort_prepared("t").unwrap();
    let mut batch = WriteBatch::new();
    (0..1000).for_each(|i| batch.put(&ks, format!("{i:05}"), "x"));
    db.commit(batch).unwrap();
}

// S15
#[test]
fn what_a_serializable_one_has_read_nobody_writes() {
    for late_commits in [false, true] {
        let fs = MemFs::new();
        let db = options(&fs).late_commits(late_commits).open("db").unwrap();
        let ks = db.keyspace("ks").unwrap();
        ["b", "d", "f"].into_iter().for_each(|key| _ = ks.put(key, "old").unwrap());
        let mut tx = db.begin(Isolation::Serializable).unwrap();
        assert!(tx.get(&ks, "missing").unwrap().is_none());
        assert_eq!(tx.range(&ks, "d".."g").count(), 2);
        tx.put(&ks, "b", "new").unwrap();
        tx.prepare("t").unwrap();

        for key in ["missing", "d", "e", "f", "fz", "b"] {
            is_busy(ks.put(key, "x"));
        }
        for key in ["c", "g", "z"] {
            ks.put(key, "x").unwrap();
        }
        // Others may read the same and be prepared, but not what will be written.
        let mut reader = db.begin(Isolation::Serializable).unwrap();
        assert_eq!(reader.range(&ks, "d".."g").count(), 2);
        reader.put(&ks, "u", "new").unwrap();
        reader.prepare("reader").unwrap();
        for range in [false, true] {
            let mut reader = db.begin(Isolation::Serializable).unwrap();
            if range {
                assert_eq!(reader.range(&ks, ..="b").count(), 1);
            } else {
                reader.get(&ks, "b").unwrap();
            }
            reader.put(&ks, "v", "new").unwrap();
            is_busy(reader.prepare("late reader"));
        }
        // Nor write what another has read, nor the other way round at a commit that may get a greater timestamp.
        is_busy(prepare(&db, "writer", &["e"], "x"));
        let mut reader = db.begin(Isolation::Serializable).unwrap();
        reader.get(&ks, "b").unwrap();
        reader.put(&ks, "w", "new").unwrap();
        let committed = reader.commit();
        assert_eq!(matches!(committed, Err(Error::Busy { .. })), late_commits, "{committed:?}");

        // Those that read the same are told apart.
        db.abort_prepared("t").unwrap();
        is_busy(ks.put("e", "x"));
        ks.put("missing", "x").unwrap();
        db.commit_prepared("reader", None).unwrap();
        ks.put("e", "x").unwrap();
    }
}

#[test]
fn one_that_only_reads_keeps_what_it_has_read() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    ks.put("a", "1").unwrap();
    let tx = db.begin(Isolation::Serializable).unwrap();
    tx.get(&ks, "a").unwrap();
    tx.prepare("t").unwrap();
    is_busy(ks.put("a", "2"));
    is_busy(db.drop_keyspace("ks"));
    drop((db, ks));
    let (db, ks) = open(&fs);
    is_busy(ks.put("a", "2"));
    let ts = db.commit_prepared("t", None).unwrap();
    assert_eq!(db.last_timestamp(), ts);
    ks.put("a", "2").unwrap();
}

fn put_with(db: &Db, keyspace: &Keyspace, key: &str, options: CommitOptions) -> Result<u64> {
    let mut batch = WriteBatch::new();
    batch.put(keyspace, key, "x");
    db.commit_with(batch, options)
}

fn put_in(db: &Db, keyspace: &Keyspace, key: &str, timestamp: u64) -> Result<u64> {
    put_with(db, keyspace, key, at(timestamp))
}

fn prepare_in(db: &Db, keyspace: &str, id: &str, key: &str) {
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&db.keyspace(keyspace).unwrap(), key, "new").unwrap();
    tx.prepare(id).unwrap();
}

// S12
#[test]
fn nothing_comes_below_its_start_and_no_floor_or_closed_time_above_it() {
    let fs = MemFs::new();
    let db = options(&fs).open("db").unwrap();
    let keep = |retention| KeyspaceOptions::new().retention(retention);
    let latest = db.keyspace_with("latest", keep(Retention::Latest)).unwrap();
    let manual = db.keyspace_with("manual", keep(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", keep(Retention::Latest)).unwrap();
    let put = |keyspace: &Keyspace, key: &str, options| put_with(&db, keyspace, key, options);
    for ts in [10, 20] {
        put(&latest, "a", at(ts)).unwrap();
    }
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&latest, "t", "new").unwrap();
    tx.put(&manual, "t", "new").unwrap();
    assert_eq!(tx.prepare("t").unwrap(), 20);
    // Another one that started later is in nobody's way who is prepared.
    put(&other, "x", at(35)).unwrap();
    prepare_in(&db, "other", "u", "z");

    put(&other, "a", at(40)).unwrap();
    put(&latest, "a", at(50)).unwrap();
    put(&latest, "a", at(60)).unwrap();
    is_busy(put(&latest, "a", at(15)));
    is_busy(put(&other, "b", at(20)));
    is_busy(put(&other, "b", at(35)));
    put(&other, "b", at(36)).unwrap();

    // After a restart too.
    drop((latest, manual, other, db));
    let db = options(&fs).open("db").unwrap();
    let [latest, manual, other] = ["latest", "manual", "other"].map(|name| db.keyspace(name).unwrap());
    is_busy(put_in(&db, &other, "b", 35));
    assert_eq!(db.retain_from(55).unwrap(), 20);
    is_busy(db.close_until(21));
    db.close_until(20).unwrap();
    is_busy(db.drop_keyspace("latest"));
    assert_eq!(db.drop_keyspace("unknown").unwrap_err().to_string(), "there is no keyspace named \"unknown\"");
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!((latest.retained_from(), manual.retained_from(), other.retained_from()), (20, 20, 35));
    assert_eq!(latest.history("a", ..).unwrap().count(), 3, "20, 50 and 60 stay");

    assert_eq!(db.commit_prepared("t", 30).unwrap(), 30);
    assert_eq!(latest.get_at("t", 30).unwrap().as_deref(), Some(&b"new"[..]));
    is_busy(db.close_until(36));
    db.abort_prepared("u").unwrap();
    db.close_until(36).unwrap();
    assert_eq!(db.retain_from(55).unwrap(), 55);
    db.compact().unwrap();
    assert_eq!(latest.retained_from(), 60);
    db.drop_keyspace("latest").unwrap();
}

/// Without late commits it can only be committed above the last timestamp; nothing waits for it.
#[test]
fn without_late_commits_floors_go_on() {
    let fs = MemFs::new();
    let db = options(&fs).late_commits(false).open("db").unwrap();
    let ks = db.keyspace("ks").unwrap();
    ks.put("a", "1").unwrap();
    prepare(&db, "t", &["t"], "new").unwrap();
    (0..9).for_each(|i| _ = ks.put("a", i.to_string()).unwrap());
    db.close_until(20).unwrap();
    db.flush().unwrap();
    assert_eq!(ks.retained_from(), 10);
    for ts in [5, 10, 20] {
        assert!(matches!(db.commit_prepared("t", ts), Err(Error::LateCommit { .. })), "{ts}");
    }
    assert_eq!(ids(&db).len(), 1);
    assert_eq!(db.commit_prepared("t", None).unwrap(), 21);
}

/// With late commits from then on it is to be committed above what floors and closed times have passed meanwhile.
#[test]
fn where_late_commits_are_turned_on_bounds_are_raised() {
    let fs = MemFs::new();
    let db = options(&fs).late_commits(false).open("db").unwrap();
    let ks = db.keyspace("ks").unwrap();
    ks.put("a", "1").unwrap();
    prepare(&db, "t", &["t"], "new").unwrap();
    (0..9).for_each(|i| _ = ks.put("a", i.to_string()).unwrap());
    db.flush().unwrap();
    drop((db, ks));
    let (db, ks) = open(&fs);
    (0..9).for_each(|i| _ = ks.put("a", i.to_string()).unwrap());
    assert_eq!((db.prepared()[0].started_at, db.prepared()[0].above), (1, 10));
    db.flush().unwrap();
    drop((db, ks));
    let (db, ks) = open(&fs);
    assert_eq!((db.prepared()[0].above, ks.retained_from()), (10, 10));
    assert_eq!(db.commit_prepared("t", 11).unwrap(), 11);
}

/// A floor that has passed the start while the transaction lived is what it has to be committed above.
#[test]
fn prepare_says_above_what_it_can_be_committed() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    ks.put("a", "1").unwrap();
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&ks, "t", "new").unwrap();
    (0..9).for_each(|i| _ = ks.put("a", i.to_string()).unwrap());
    db.flush().unwrap();
    assert_eq!((tx.started_at(), ks.retained_from()), (1, 10));
    assert_eq!(tx.prepare("t").unwrap(), 10);
    assert_eq!((db.prepared()[0].started_at, db.prepared()[0].above), (1, 10));
    ks.put("a", "last").unwrap();
    ks.put("a", "last").unwrap();
    assert!(matches!(db.commit_prepared("t", 10), Err(Error::InvalidArgument(_))));
    assert_eq!(db.commit_prepared("t", 11).unwrap(), 11);
}

// S9
#[test]
fn what_was_written_meanwhile_stops_a_prepare() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    let begin = || {
        let mut tx = db.begin(Isolation::Serializable).unwrap();
        tx.get(&ks, "read").unwrap();
        tx.put(&ks, "written", "new").unwrap();
        tx
    };
    for key in ["read", "written"] {
        let tx = begin();
        ks.delete(key).unwrap();
        assert!(matches!(tx.prepare("t"), Err(Error::Conflict { .. })), "{key}");
        assert!(db.prepared().is_empty());
        ks.put("written", "x").unwrap();
    }
    begin().prepare("t").unwrap();
}
