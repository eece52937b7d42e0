//! Threads that ask while something fails, and repairs.

use std::thread;

use strandline::fs::{Fault, FaultKind, Operation};
use strandline::{Error, FaultFs, Isolation, MemFs, Outcome};

use super::{ids, is_busy, open, options, prepare};

/// Who asks for the outcome while its sync is under way hears nothing that a failure takes back.
#[test]
fn what_others_hear_of_an_undecided_outcome_is_true() {
    for nth in 0..40 {
        let memory = MemFs::new();
        let faults = FaultFs::new(memory.clone());
        let db = options(&memory).fs(faults.clone()).open("db").unwrap();
        prepare(&db, "t", &["a"], "1").unwrap();
        let fault =
            |nth| Fault { purpose: None, operation: Some(Operation::Sync), nth, kind: FaultKind::Io, repeat: false };
        faults.inject(fault(nth % 2));
        let heard: Vec<_> = thread::scope(|scope| {
            let ask = |i: u32| {
                let db = db.clone();
                scope.spawn(move || match i % 2 {
                    0 => db.commit_prepared("t", None).map(Outcome::Committed),
                    _ => db.abort_prepared("t").map(|()| Outcome::Aborted),
                })
            };
            let asking: Vec<_> = (0..4).map(ask).collect();
            while db.background_error().is_none() && asking.iter().any(|one| !one.is_finished()) {
                thread::yield_now();
            }
            if db.background_error().is_some() {
                faults.clear();
                db.resume().unwrap();
            }
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        faults.clear();
        let outcome = db.prepared_outcome("t");
        for heard in heard {
            match heard {
                Ok(heard) => assert_eq!(Some(heard), outcome, "{nth}"),
                Err(Error::Decided { committed_at, .. }) => {
                    let heard = committed_at.map_or(Outcome::Aborted, Outcome::Committed);
                    assert_eq!(Some(heard), outcome, "{nth}");
                }
                Err(Error::Background(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let ks = db.keyspace("ks").unwrap();
        let is_committed = matches!(outcome, Some(Outcome::Committed(_)));
        assert_eq!(ks.get("a").unwrap().is_some(), is_committed);
        assert_eq!(ids(&db).len(), usize::from(outcome.is_none()));
        if outcome.is_none() {
            is_busy(ks.put("a", "2"));
        }
    }
}

fn remove_all(fs: &MemFs, suffix: &str) {
    use strandline::Fs;
    use strandline::fs::Purpose;
    let entries = fs.list(Purpose::Directory, "db".as_ref()).unwrap();
    for entry in entries.iter().filter(|entry| entry.name.ends_with(suffix)) {
        fs.remove(Purpose::Directory, &std::path::Path::new("db").join(&entry.name)).unwrap();
    }
}

/// Of prepared transactions a repair keeps what log and manifest say.
#[test]
fn a_repair_knows_what_log_and_manifest_say() {
    for lost in [".manifest", ".log"] {
        for flush in [false, true] {
            let fs = MemFs::new();
            let (db, ks) = open(&fs);
            ks.put("x", "1").unwrap();
            for (id, key) in [("doubt", "a"), ("committed", "b"), ("aborted", "c"), ("forgotten", "d")] {
                prepare(&db, id, &[key], "new").unwrap();
            }
            db.commit_prepared("committed", None).unwrap();
            db.abort_prepared("aborted").unwrap();
            db.commit_prepared("forgotten", None).unwrap();
            db.forget_prepared("forgotten").unwrap();
            if flush {
                db.flush().unwrap();
            }
            db.sync().unwrap();
            drop((db, ks));
            remove_all(&fs, lost);
            let report = options(&fs).repair("db").unwrap();
            assert!(!report.healthy);
            let (db, ks) = open(&fs);
            // Without a flush nothing but the log knows them, with one the manifest does, and the log still.
            if lost == ".log" && !flush {
                assert!(ids(&db).is_empty() && db.prepared_outcome("committed").is_none());
                continue;
            }
            assert_eq!(ids(&db), ["doubt"], "{lost} {flush}");
            assert!(matches!(db.prepared_outcome("committed"), Some(Outcome::Committed(_))), "{lost} {flush}");
            assert_eq!(db.prepared_outcome("aborted"), Some(Outcome::Aborted));
            assert_eq!(db.prepared_outcome("forgotten"), None);
            is_busy(ks.put("a", "x"));
            db.commit_prepared("doubt", None).unwrap();
            for (key, value) in [("a", true), ("b", true), ("c", false), ("d", true)] {
                assert_eq!(ks.get(key).unwrap().is_some(), value, "{lost} {flush} {key}");
            }
        }
    }
}

/// Threads prepare and decide on few keys: what was decided is what can be read.
#[test]
fn threads_that_prepare_and_decide() {
    let fs = MemFs::new();
    let db = strandline::Options::new().fs(fs).memtable_bytes(16 << 10).open("db").unwrap();
    let ks = db.keyspace("ks").unwrap();
    thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (db, ks) = (db.clone(), ks.clone());
            scope.spawn(move || {
                let mut done = 0;
                for round in 0..3000_u64 {
                    let id = format!("{worker}-{round}");
                    let mut tx = db.begin(Isolation::Serializable).unwrap();
                    // A counter in two keys that are always equal.
                    let (one, other) = ("left", "right");
                    let read = |key| tx.get(&ks, key).unwrap().map_or(0, |value| value.len());
                    let count = read(one);
                    assert_eq!(count, read(other));
                    let value = "x".repeat(count + 1);
                    tx.put(&ks, one, &value).unwrap();
                    tx.put(&ks, other, &value).unwrap();
                    match tx.prepare(&id) {
                        Ok(_) if round % 3 == 0 => db.abort_prepared(&id).unwrap(),
                        Ok(_) => {
                            db.commit_prepared(&id, None).unwrap();
                            done += 1;
                        }
                        Err(Error::Busy { .. } | Error::Conflict { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    }
                    db.forget_prepared(&id).unwrap();
                    if done == 200 {
                        break;
                    }
                }
                let mut batch = strandline::WriteBatch::new();
                batch.put(&ks, format!("done {worker}"), done.to_string());
                db.commit(batch).unwrap();
            });
        }
    });
    let done: usize = ks
        .prefix("done ")
        .map(|item| String::from_utf8(item.unwrap().1.to_vec()).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(ks.get("left").unwrap().unwrap().len(), done);
    assert!(done > 0 && db.prepared().is_empty());
}
