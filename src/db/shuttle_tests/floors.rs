//! R1: floors that rise beside snapshots and late commits. What needs one thread to stand still at one step while
//! another runs far has databases that are stepped: with fewer threads, and fewer steps, PCT finds it sooner.

use super::*;
use crate::Background;

fn stepped() -> Options {
    options(&MemFs::new()).background(Background::Stepped)
}

fn value_at(timestamp: u64) -> Option<Slice> {
    Some(Slice::from(timestamp.to_string().as_bytes()))
}

// S20, R1
#[test]
fn shuttle_a_snapshot_keeps_what_it_sees_from_merges_that_raise_the_floor() {
    explore(1600, || {
        let pair = Pair::open(options(&MemFs::new()), Retention::Latest);
        pair.commit("1", CommitOptions::new()).unwrap();
        let working = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&working);
        let writer = start(&pair, move |pair| {
            pair.commit("2", CommitOptions::new()).unwrap();
            pair.db.flush().unwrap();
            still.store(false, Ordering::SeqCst);
        });
        let mut held = Vec::new();
        for _ in 0..40 {
            let snapshot = pair.db.snapshot();
            held.push((snapshot.timestamp(), snapshot));
            match pair.keyspaces[1].get_at(KEYS[0], 1) {
                Ok(found) => assert_eq!(found, value_at(1)),
                Err(error) => assert!(matches!(error, Error::BelowRetained { retained: 2, .. })),
            }
            match pair.db.snapshot_at(1) {
                Ok(snapshot) => held.push((1, snapshot)),
                Err(error) => assert!(matches!(error, Error::BelowRetained { retained: 2, .. })),
            }
            if !working.load(Ordering::SeqCst) {
                break;
            }
            // Some live on, and most do not: what one keeps must not hide that another keeps nothing.
            held.drain(..held.len().saturating_sub(1));
        }
        join([writer]);
        for (timestamp, snapshot) in held {
            for keyspace in &pair.keyspaces {
                match snapshot.get(keyspace, KEYS[0]) {
                    Ok(found) => assert_eq!(found, value_at(timestamp)),
                    Err(error) => assert!(matches!(error, Error::BelowRetained { requested: 1, retained: 2 })),
                }
            }
        }
        pair.check();
        pair.db.close().unwrap();
    });
}

// S20, R1: whichever comes second, the snapshot or the merge, sees the other
#[test]
fn shuttle_a_snapshot_is_in_the_list_of_a_merge_or_sees_its_floor() {
    for at in [None, Some(1)] {
        explore(2000, move || {
            let pair = Pair::open(stepped(), Retention::Latest);
            pair.commit("1", CommitOptions::new()).unwrap();
            let merge = start(&pair, |pair| {
                pair.commit("2", CommitOptions::new()).unwrap();
                pair.db.flush().unwrap();
            });
            let snapshot = at.map_or_else(|| Ok(pair.db.snapshot()), |at| pair.db.snapshot_at(at));
            join([merge]);
            match snapshot {
                Ok(snapshot) => {
                    for keyspace in &pair.keyspaces {
                        match snapshot.get(keyspace, KEYS[0]) {
                            Ok(found) => assert_eq!(found, value_at(snapshot.timestamp())),
                            Err(error) => assert!(matches!(error, Error::BelowRetained { requested: 1, retained: 2 })),
                        }
                    }
                }
                Err(error) => assert!(matches!(error, Error::BelowRetained { requested: 1, retained: 2 })),
            }
            pair.db.close().unwrap();
        });
    }
}

// S19, R1: a late version that comes into a memtable which is made beside a merge
#[test]
fn shuttle_a_merge_knows_every_memtable_that_a_late_commit_came_into_below_its_floor() {
    for in_table in [false, true] {
        explore(1000, move || {
            let pair = Pair::open(stepped().late_commits(true).memtable_bytes(1), Retention::Window(3));
            let commit = |pair: &Pair, at: u64, write: fn(&mut WriteBatch, &[Keyspace; 2])| {
                let mut batch = WriteBatch::new();
                write(&mut batch, &pair.keyspaces);
                pair.db.commit_with(batch, CommitOptions::new().at(at))
            };
            commit(&pair, 9, |batch, [keyspace, _]| batch.delete(keyspace, "k")).unwrap();
            if in_table {
                pair.db.flush().unwrap();
            }
            commit(&pair, 12, |batch, [_, other]| batch.put(other, "k", "v")).unwrap();
            let late = start(&pair, move |pair| {
                // Fills the active memtable, so that the late one goes into the next.
                commit(pair, 13, |batch, [keyspace, _]| batch.put(keyspace, "other", "v")).unwrap();
                match commit(pair, 8, |batch, [keyspace, _]| batch.put(keyspace, "k", "revived")) {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, Error::BelowRetained { requested: 8, .. }), "{error}"),
                }
            });
            let [keyspace, _] = &pair.keyspaces;
            if in_table {
                keyspace.compact(..).unwrap()
            } else {
                pair.db.flush().unwrap()
            }
            join([late]);
            assert_eq!(keyspace.get("k").unwrap(), None);
            pair.db.close().unwrap();
        });
    }
}

// S19, R1: a late version that is on its way while a merge makes up its mind about the tombstone above it
#[test]
fn shuttle_nothing_dead_is_revived_by_a_late_commit_beside_a_merge() {
    for retention in [Retention::Latest, Retention::Manual] {
        explore(1200, move || {
            let pair = Pair::open(options(&MemFs::new()).late_commits(true), retention);
            let [keyspace, other] = &pair.keyspaces;
            let at = |timestamp| CommitOptions::new().at(timestamp);
            let mut batch = WriteBatch::new();
            batch.delete(keyspace, "k");
            pair.db.commit_with(batch, at(8)).unwrap();
            let mut batch = WriteBatch::new();
            batch.put(other, "k", "v");
            pair.db.commit_with(batch, at(10)).unwrap();
            let late = start(&pair, move |pair| {
                let mut batch = WriteBatch::new();
                batch.put(&pair.keyspaces[0], "k", "revived");
                match pair.db.commit_with(batch, CommitOptions::new().at(6)) {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, Error::BelowRetained { requested: 6, .. }), "{error}"),
                }
            });
            if retention == Retention::Manual {
                pair.db.retain_from(9).unwrap();
            }
            pair.db.flush().unwrap();
            join([late]);
            assert_eq!(keyspace.get("k").unwrap(), None);
            pair.db.compact().unwrap();
            assert_eq!(keyspace.get("k").unwrap(), None);
            pair.db.close().unwrap();
        });
    }
}

#[test]
fn shuttle_no_late_commit_is_lost_below_a_floor_that_rises() {
    for retention in [Retention::Manual, Retention::Window(2)] {
        explore(300, move || {
            let pair = Pair::open(options(&MemFs::new()).late_commits(true), retention);
            pair.commit("ten", CommitOptions::new().at(10)).unwrap();
            let late = [6, 8].map(|timestamp| {
                start(&pair, move |pair| {
                    match pair.commit(&format!("late {timestamp}"), CommitOptions::new().at(timestamp)) {
                        Ok(_) | Err(Error::BelowRetained { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                })
            });
            let raising = start(&pair, move |pair| match retention {
                Retention::Manual => {
                    pair.db.retain_from(8).unwrap();
                    pair.db.compact().unwrap();
                }
                _ => pair.db.compact().unwrap(),
            });
            let floor = pair.keyspaces[0].retained_from();
            let read = pair.keyspaces[0].get_at(KEYS[0], 8);
            if floor == 0 {
                assert!(matches!(read, Ok(_) | Err(Error::BelowRetained { .. })));
            }
            join(late);
            join([raising]);
            pair.check();
            pair.db.compact().unwrap();
            pair.check();
            pair.db.close().unwrap();
        });
    }
}
