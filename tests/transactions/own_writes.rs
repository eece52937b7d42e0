//! What a transaction reads: its start, through its own writes.

use std::collections::BTreeMap;
use std::ops::Bound;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{CommitOptions, Error, Isolation, Keyspace, MemFs, Retention, Transaction, WriteBatch};

use super::{conflict, small, stepped};

type State = BTreeMap<Vec<u8>, Vec<u8>>;

const KEYS: u32 = 30;

fn key(i: u32) -> Vec<u8> {
    format!("{i:03}").into_bytes()
}

fn random_bounds(dice: &mut StdRng) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut bound = || match dice.random_range(0..4) {
        0 => Bound::Unbounded,
        1 => Bound::Excluded(key(dice.random_range(0..KEYS))),
        _ => Bound::Included(key(dice.random_range(0..KEYS))),
    };
    (bound(), bound())
}

fn check(tx: &Transaction, ks: &Keyspace, state: &State, dice: &mut StdRng) {
    for i in 0..KEYS {
        assert_eq!(tx.get(ks, key(i)).unwrap().as_deref(), state.get(&key(i)).map(Vec::as_slice));
        assert_eq!(tx.contains(ks, key(i)).unwrap(), state.contains_key(&key(i)));
    }
    for _ in 0..4 {
        let (lower, upper) = random_bounds(dice);
        let within = |key: &Vec<u8>| {
            (match &lower {
                Bound::Unbounded => true,
                Bound::Included(lower) => key >= lower,
                Bound::Excluded(lower) => key > lower,
            }) && match &upper {
                Bound::Unbounded => true,
                Bound::Included(upper) => key <= upper,
                Bound::Excluded(upper) => key < upper,
            }
        };
        let mut expected: Vec<_> = state.iter().filter(|(key, _)| within(key)).collect();
        let mut walk = tx.range(ks, (lower.clone(), upper.clone()));
        // From both ends.
        loop {
            let front = dice.random_range(0..2) == 0;
            let (found, wanted) = if front {
                (walk.next(), if expected.is_empty() { None } else { Some(expected.remove(0)) })
            } else {
                (walk.next_back(), expected.pop())
            };
            let found = found.map(Result::unwrap);
            assert_eq!(found.as_ref().map(|(key, value)| (&**key, &**value)), wanted.map(|(k, v)| (&**k, &**v)));
            if wanted.is_none() {
                break;
            }
        }
        assert!(walk.next().is_none() && walk.next_back().is_none());
    }
    let prefix = tx.prefix(ks, "01").map(|pair| pair.unwrap().0.to_vec());
    assert!(prefix.eq(state.keys().filter(|key| key.starts_with(b"01")).cloned()));
}

#[test]
fn a_transaction_reads_its_start_through_its_own_writes() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let db = stepped(&MemFs::new());
        let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
        let mut committed = State::new();
        for _ in 0..8 {
            let isolation = [Isolation::Snapshot, Isolation::Serializable][dice.random_range(0..2)];
            let mut tx = db.begin(isolation).unwrap();
            assert_eq!(tx.started_at(), db.last_timestamp());
            let mut state = committed.clone();
            let mut marks = Vec::new();
            for _ in 0..dice.random_range(0..12) {
                let i = dice.random_range(0..KEYS);
                match dice.random_range(0..8) {
                    0 | 1 => {
                        tx.delete(&ks, key(i)).unwrap();
                        state.remove(&key(i));
                    }
                    2 => marks.push((tx.savepoint(), state.clone())),
                    3 if !marks.is_empty() => {
                        let at = dice.random_range(0..marks.len());
                        // The later ones go.
                        let gone = marks.split_off(at + 1);
                        tx.rollback_to(marks[at].0).unwrap();
                        state = marks[at].1.clone();
                        for (mark, _) in gone {
                            assert!(matches!(tx.rollback_to(mark), Err(Error::InvalidArgument(_))));
                        }
                    }
                    4 => {
                        tx.put_expiring(&ks, key(i), "dead from birth", 0).unwrap();
                        state.remove(&key(i));
                    }
                    _ => {
                        let value = dice.random_range(0..1000u32).to_string().into_bytes();
                        tx.put(&ks, key(i), &value).unwrap();
                        state.insert(key(i), value);
                    }
                }
                check(&tx, &ks, &state, &mut dice);
            }
            // Others write beside it, and it does not see that.
            let unrelated = db.keyspace("unrelated").unwrap();
            unrelated.put("k", "v").unwrap();
            if dice.random_range(0..2) == 0 {
                db.compact().unwrap();
            }
            check(&tx, &ks, &state, &mut dice);
            if dice.random_range(0..4) == 0 {
                drop(tx);
            } else {
                let start = tx.started_at();
                let at = tx.commit().unwrap();
                assert!(at >= start);
                committed = state;
            }
            let found: State = ks.iter().map(|pair| pair.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            assert_eq!(found, committed);
        }
        db.close().unwrap();
    }
}

#[test]
fn iterators_see_what_was_written_before_them() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
    ks.put("b", "stored").unwrap();
    let mut tx = db.begin(Isolation::Serializable).unwrap();
    tx.put(&ks, "a", "own").unwrap();
    let walk = tx.iter(&ks);
    tx.put(&ks, "a", "later").unwrap();
    tx.delete(&ks, "b").unwrap();
    let seen: Vec<_> = walk.map(|pair| pair.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    assert_eq!(seen, [(b"a".to_vec(), b"own".to_vec()), (b"b".to_vec(), b"stored".to_vec())]);
    assert_eq!(tx.iter(&ks).count(), 1);
    let long = vec![0; 65_536];
    assert!(matches!(tx.put(&ks, &long, "v"), Err(Error::TooLarge { what: "key", .. })));
    let other = stepped(&MemFs::new()).keyspace("k").unwrap();
    assert!(matches!(tx.put(&other, "k", "v"), Err(Error::InvalidArgument(_))));
    assert!(matches!(tx.get(&other, "k"), Err(Error::InvalidArgument(_))));
    assert!(matches!(tx.iter(&other).next(), Some(Err(Error::InvalidArgument(_)))));
    let foreign = db.begin(Isolation::Snapshot).unwrap().savepoint();
    assert!(matches!(tx.rollback_to(foreign), Err(Error::InvalidArgument(_))));
}

// S15
#[test]
fn what_conflicts_at_which_level() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
    for (key, value) in [("a", "1"), ("b", "1"), ("d", "1")] {
        ks.put(key, value).unwrap();
    }
    type Does = fn(&mut Transaction, &Keyspace);
    // What the transaction does, which key somebody else writes, and whether it fails at either level.
    let cases: [(&str, Does, &str, bool, bool); 9] = [
        ("lost update", |tx, ks| tx.put(ks, "a", "2").unwrap(), "a", true, true),
        ("blind delete", |tx, ks| tx.delete(ks, "a").unwrap(), "a", true, true),
        ("write skew", |tx, ks| drop(tx.get(ks, "b").unwrap()), "b", false, true),
        ("found missing", |tx, ks| assert_eq!(tx.get(ks, "c").unwrap(), None), "c", false, true),
        ("phantom", |tx, ks| assert!(tx.range(ks, "b".."d").count() >= 1), "c", false, true),
        ("phantom, from behind", |tx, ks| assert!(tx.range(ks, "b".."d").rev().count() >= 1), "c", false, true),
        ("behind what was walked", |tx, ks| drop(tx.iter(ks).next()), "c", false, false),
        ("before what was walked", |tx, ks| drop(tx.iter(ks).next_back()), "c", false, false),
        (
            "its own write",
            |tx, ks| {
                tx.put(ks, "own", "1").unwrap();
                tx.get(ks, "own").unwrap().unwrap();
            },
            "c",
            false,
            false,
        ),
    ];
    for (what, does, key, in_snapshot, in_serializable) in cases {
        for (isolation, fails) in [(Isolation::Snapshot, in_snapshot), (Isolation::Serializable, in_serializable)] {
            for place in ["memtable", "table"] {
                let mut tx = db.begin(isolation).unwrap();
                does(&mut tx, &ks);
                tx.put(&ks, "result", what).unwrap();
                let found = ks.put(key, "somebody else").unwrap();
                if place == "table" {
                    // What the transaction needs is kept.
                    ks.delete(key).unwrap();
                    db.compact().unwrap();
                }
                let start = tx.started_at();
                let result = tx.commit();
                if fails {
                    let (name, on, named, at) = conflict(result);
                    assert_eq!((name.as_str(), on.as_slice(), named), ("k", key.as_bytes(), start), "{what}");
                    assert!(at >= found);
                } else {
                    result.unwrap_or_else(|error| panic!("{what} at {isolation:?}: {error}"));
                }
                ks.put("a", "1").unwrap();
                ks.put("b", "1").unwrap();
                ks.delete("c").unwrap();
            }
        }
    }
}

#[test]
fn a_live_transaction_is_never_refused_for_its_start_and_nothing_comes_in_below_it() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
    ks.put("k", "1").unwrap();
    let mut tx = db.begin(Isolation::Serializable).unwrap();
    assert_eq!(tx.get(&ks, "k").unwrap().unwrap(), "1");
    let start = tx.started_at();
    for i in 0..20 {
        ks.put("other", i.to_string()).unwrap();
    }
    // A floor far above, and a keyspace that is made, and raised, only now.
    let newer = db.keyspace_with("newer", small(Retention::Latest)).unwrap();
    newer.put("gone", "1").unwrap();
    let gone = newer.delete("gone").unwrap();
    newer.put("kept", "1").unwrap();
    db.retain_from(db.last_timestamp()).unwrap();
    db.compact().unwrap();
    assert!(ks.retained_from() > start && newer.retained_from() > gone);
    let mut late = WriteBatch::new();
    late.put(&newer, "late", "v");
    for at in [1, start] {
        let refused = db.commit_with(late.clone(), CommitOptions::new().at(at));
        assert!(matches!(refused, Err(Error::Busy { .. } | Error::BelowRetained { .. })), "{refused:?}");
    }
    assert_eq!(tx.get(&newer, "kept").unwrap(), None);
    // It was there and went, after the start.
    let mut other = db.begin(Isolation::Snapshot).unwrap();
    other.put(&newer, "fine", "1").unwrap();
    tx.put(&newer, "gone", "2").unwrap();
    assert_eq!(conflict(tx.commit()).3, gone);
    other.commit().unwrap();
}

// S15: a late commit below the start of a live transaction would change what it has read.
#[test]
fn late_commits_wait_for_transactions() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
    let write = |at: u64| {
        let mut batch = WriteBatch::new();
        batch.put(&ks, "k", at.to_string());
        db.commit_with(batch, CommitOptions::new().at(at))
    };
    write(10).unwrap();
    write(20).unwrap();
    let tx = db.begin(Isolation::Snapshot).unwrap();
    write(30).unwrap();
    assert!(matches!(write(20), Err(Error::Busy { .. })));
    assert!(matches!(write(15), Err(Error::Busy { .. })));
    write(25).unwrap();
    assert_eq!(tx.get(&ks, "k").unwrap().unwrap(), "20");
    assert_eq!(tx.commit().unwrap(), 20, "one without writes gives its start");
    write(15).unwrap();
}

#[test]
fn transact_tries_again_until_it_wins() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
    ks.put("n", "0").unwrap();
    let mut tries = 0;
    let seen = db
        .transact(Isolation::Snapshot, |tx| {
            tries += 1;
            let n: u32 = std::str::from_utf8(&tx.get(&ks, "n")?.unwrap()).unwrap().parse().unwrap();
            if tries < 4 {
                ks.put("n", (n + 10).to_string())?;
            }
            tx.put(&ks, "n", (n + 1).to_string())?;
            Ok(n)
        })
        .unwrap();
    assert_eq!((tries, seen), (4, 30));
    assert_eq!(ks.get("n").unwrap().unwrap(), "31");
    // Not for ever; and what the caller gives up is rolled back.
    let mut tries = 0;
    let lost = db.transact(Isolation::Snapshot, |tx| {
        tries += 1;
        ks.put("n", tries.to_string())?;
        tx.put(&ks, "n", "never")
    });
    assert!(matches!(lost, Err(Error::Conflict { .. })) && tries == 25, "{tries}");
    let given_up: Result<(), Box<dyn std::error::Error>> = db.transact_with(Isolation::Serializable, |tx| {
        tx.put(&ks, "n", "never")?;
        Err("no".into())
    });
    assert_eq!(given_up.unwrap_err().to_string(), "no");
    assert_eq!(ks.get("n").unwrap().unwrap(), "25");
    assert!(db.metrics().snapshots.is_empty());
}

#[test]
fn a_key_that_cannot_be_is_missing_and_no_hindrance() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
    let long = vec![b'x'; 70_000];
    let mut tx = db.begin(Isolation::Serializable).unwrap();
    assert_eq!(tx.get(&ks, &long).unwrap(), None);
    assert_eq!(tx.range(&ks, &long[..]..).count(), 0);
    assert_eq!(tx.range(&ks, ..&long[..]).count(), 0);
    tx.put(&ks, "k", "v").unwrap();
    tx.commit().unwrap();
    // Ranges with such bounds are held against what was written all the same.
    let mut tx = db.begin(Isolation::Serializable).unwrap();
    assert_eq!(tx.range(&ks, ..&long[..]).count(), 1);
    tx.put(&ks, "l", "v").unwrap();
    let found = ks.put("m", "v").unwrap();
    assert_eq!(conflict(tx.commit()).3, found);
}

#[test]
fn a_transaction_ends_with_its_database() {
    let db = stepped(&MemFs::new());
    let ks = db.keyspace_with("k", small(Retention::Latest)).unwrap();
    let mut tx = db.begin(Isolation::Snapshot).unwrap();
    tx.put(&ks, "k", "v").unwrap();
    let empty = db.begin(Isolation::Snapshot).unwrap();
    db.close().unwrap();
    assert!(matches!(tx.get(&ks, "k"), Err(Error::Closed)));
    assert!(matches!(tx.put(&ks, "k", "v"), Err(Error::Closed)));
    assert!(matches!(tx.delete(&ks, "k"), Err(Error::Closed)));
    assert!(matches!(tx.iter(&ks).next(), Some(Err(Error::Closed))));
    assert!(matches!(tx.commit(), Err(Error::Closed)));
    assert!(matches!(empty.commit(), Err(Error::Closed)));
    assert!(matches!(db.begin(Isolation::Snapshot), Err(Error::Closed)));
}
