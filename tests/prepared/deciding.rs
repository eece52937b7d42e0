//! One outcome for each id, however often it is asked for.

use strandline::{CommitOptions, Db, Error, Isolation, MemFs, Options, Outcome, Result, WriteBatch};

use super::{ids, is_busy, open, prepare};

fn is_unknown<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(&result, Err(Error::UnknownPrepared { id }) if **id == *b"t"), "{result:?}");
}

/// The error that says that it was committed at this timestamp, or (`None`) aborted.
fn is_decided<T: std::fmt::Debug>(result: Result<T>, at: Option<u64>) {
    assert!(matches!(&result, Err(Error::Decided { committed_at, .. }) if *committed_at == at), "{result:?}");
}

/// A flush that has something to write, and so tells the manifest what there is.
fn flush_with(db: &Db) {
    db.keyspace("unrelated").unwrap().put("key", "value").unwrap();
    db.flush().unwrap();
}

/// Every call in every state, also after a restart and a flush.
#[test]
fn each_call_in_each_state() {
    for restart in [false, true] {
        for flush in [false, true] {
            let fs = MemFs::new();
            let (mut db, ks) = open(&fs);
            drop(ks);
            let again = |db: Db| {
                if flush {
                    flush_with(&db);
                }
                if !restart {
                    return db;
                }
                drop(db);
                open(&fs).0
            };
            is_unknown(db.commit_prepared("t", None));
            is_unknown(db.abort_prepared("t"));
            db.forget_prepared("t").unwrap();
            assert_eq!(db.prepared_outcome("t"), None);

            prepare(&db, "t", &["a"], "1").unwrap();
            db = again(db);
            is_busy(prepare(&db, "t", &["z"], "1"));
            is_busy(db.forget_prepared("t"));
            assert_eq!((db.prepared_outcome("t"), ids(&db).len()), (None, 1));
            let ts = db.commit_prepared("t", 7).unwrap();
            for _ in 0..2 {
                assert_eq!(ts, 7);
                assert_eq!(db.commit_prepared("t", None).unwrap(), 7);
                assert_eq!(db.commit_prepared("t", 7).unwrap(), 7);
                is_decided(db.commit_prepared("t", 8), Some(7));
                is_decided(db.abort_prepared("t"), Some(7));
                is_decided(prepare(&db, "t", &["z"], "1"), Some(7));
                assert_eq!((db.prepared_outcome("t"), ids(&db).len()), (Some(Outcome::Committed(7)), 0));
                db = again(db);
            }
            db.forget_prepared("t").unwrap();
            db.forget_prepared("t").unwrap();
            db = again(db);
            is_unknown(db.commit_prepared("t", None));

            prepare(&db, "t", &["b"], "1").unwrap();
            db = again(db);
            db.abort_prepared("t").unwrap();
            for _ in 0..2 {
                db.abort_prepared("t").unwrap();
                is_decided(db.commit_prepared("t", None), None);
                is_decided(prepare(&db, "t", &["z"], "1"), None);
                assert_eq!((db.prepared_outcome("t"), ids(&db).len()), (Some(Outcome::Aborted), 0));
                db = again(db);
            }
            db.forget_prepared("t").unwrap();
            db = again(db);
            is_unknown(db.abort_prepared("t"));
            let ks = db.keyspace("ks").unwrap();
            assert_eq!((ks.get("a").unwrap().as_deref(), ks.get("b").unwrap()), (Some(&b"1"[..]), None));
            assert_eq!(ks.latest_timestamp("a").unwrap(), Some(7));
        }
    }
}

#[test]
fn one_that_is_refused_stays_prepared() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    let put = |ts| {
        let mut batch = WriteBatch::new();
        batch.put(&ks, "other", "x");
        db.commit_with(batch, CommitOptions::new().at(ts)).unwrap();
    };
    put(10);
    prepare(&db, "t", &["a"], "1").unwrap();
    put(20);
    for ts in [0, 5, 10, u64::MAX] {
        assert!(matches!(db.commit_prepared("t", ts), Err(Error::InvalidArgument(_))), "{ts}");
    }
    let reader = db.begin(Isolation::Snapshot).unwrap();
    assert_eq!(reader.started_at(), 20);
    is_busy(db.commit_prepared("t", 15));
    assert_eq!(reader.get(&ks, "a").unwrap(), None);
    is_busy(ks.put("a", "2"));
    drop(reader);
    assert_eq!(db.commit_prepared("t", 15).unwrap(), 15);
    assert_eq!((ks.get_at("a", 14).unwrap(), ks.get_at("a", 15).unwrap().as_deref()), (None, Some(&b"1"[..])));
    assert_eq!(db.last_timestamp(), 20);
}

#[test]
fn ids_are_any_bytes_within_a_limit() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    let prepare = |id: &[u8]| {
        let mut tx = db.begin(Isolation::Snapshot)?;
        tx.put(&ks, id, "x").and_then(|()| tx.prepare(id))
    };
    assert!(matches!(prepare(b""), Err(Error::InvalidArgument(_))));
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&ks, "k", "x").unwrap();
    assert!(matches!(tx.prepare(vec![7; 65_536]), Err(Error::TooLarge { len: 65_536, max: 65_535, .. })));
    for id in [&b"\0"[..], b"\xff\xff", &[7; 65_535]] {
        prepare(id).unwrap();
    }
    flush_with(&db);
    drop((db, ks));
    let (db, _) = open(&fs);
    let lens: Vec<_> = ids(&db).iter().map(|id| id.len()).collect();
    assert_eq!(lens, [1, 65_535, 2]);
    db.commit_prepared([7; 65_535], None).unwrap();
    db.abort_prepared(b"\xff\xff").unwrap();
    db.abort_prepared(vec![0]).unwrap();
    assert!(db.prepared().is_empty());
}

#[test]
fn reading_only_shows_them_and_decides_nothing() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    prepare(&db, "t", &["a"], "1").unwrap();
    prepare(&db, "u", &["b"], "1").unwrap();
    db.abort_prepared("u").unwrap();
    let reading = Options::new().fs(fs.clone()).read_only(true).open("db").unwrap();
    assert_eq!(ids(&reading), ["t"]);
    assert_eq!((db.metrics().prepared, reading.metrics().prepared), (1, 1));
    assert_eq!(reading.prepared_outcome("u"), Some(Outcome::Aborted));
    assert!(matches!(reading.commit_prepared("t", None), Err(Error::ReadOnly)));
    assert!(matches!(reading.abort_prepared("t"), Err(Error::ReadOnly)));
    assert!(matches!(reading.forget_prepared("u"), Err(Error::ReadOnly)));
    db.close().unwrap();
    assert!(matches!(db.commit_prepared("t", None), Err(Error::Closed)));
    assert!(matches!(db.abort_prepared("t"), Err(Error::Closed)));
    drop(ks);
}

/// In doubt for long, it keeps neither the log nor, once it is decided, anything else.
#[test]
fn the_log_goes_on_without_them() {
    let fs = MemFs::new();
    let (db, ks) = open(&fs);
    prepare(&db, "t", &["a"], &"long".repeat(1000)).unwrap();
    for round in 0..400 {
        ks.put(format!("{:04}", round % 100), "v".repeat(500)).unwrap();
        while db.step_background().unwrap() {}
        // Steps alone are no commits, and bound the log all the same.
        prepare(&db, "u", &["b"], &"other".repeat(100)).unwrap();
        db.abort_prepared("u").unwrap();
        db.forget_prepared("u").unwrap();
    }
    let log = db.metrics().log_bytes;
    assert!(log <= 96 << 10, "{log} bytes of log");
    for round in 0..1000 {
        prepare(&db, "u", &["b"], &"other".repeat(100)).unwrap();
        db.abort_prepared("u").unwrap();
        db.forget_prepared("u").unwrap();
        while db.step_background().unwrap() {}
        let log = db.metrics().log_bytes;
        assert!(log <= 96 << 10, "{log} bytes of log in round {round}");
    }
    drop((db, ks));
    let (db, ks) = open(&fs);
    assert_eq!(ids(&db), ["t"]);
    db.commit_prepared("t", None).unwrap();
    assert_eq!(ks.get("a").unwrap().unwrap().len(), 4000);
}
