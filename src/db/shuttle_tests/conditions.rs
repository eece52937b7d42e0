//! Conditional commits and transactions: check and commit are one step, whatever comes in between.

use super::*;
use crate::Isolation;

/// Commits to the first keyspace, if nothing was since `start`.
fn commit_if(pair: &Pair, start: u64, fill: impl FnOnce(&Keyspace, &mut WriteBatch), options: CommitOptions) -> bool {
    let mut batch = WriteBatch::new();
    fill(&pair.keyspaces[0], &mut batch);
    match pair.db.commit_with(batch, options.started_at(start)) {
        Ok(_) => true,
        Err(Error::Conflict { start: named, found, .. }) => {
            assert!(named == start && found > start);
            // What stood in the way can be seen by now.
            assert!(found <= pair.db.last_timestamp());
            false
        }
        Err(error) => panic!("{error}"),
    }
}

// S8
#[test]
fn shuttle_of_conditions_with_one_start_on_one_key_one_holds() {
    explore(400, || {
        let pair = Pair::open(options(&MemFs::new()), Retention::Manual);
        let start_at = pair.keyspaces[1].put("other", "1").unwrap();
        let won = Arc::new(Mutex::new(0u32));
        let count = |won: &Arc<Mutex<u32>>, held: bool| *won.lock() += u32::from(held);
        let (a, b, c) = (Arc::clone(&won), Arc::clone(&won), Arc::clone(&won));
        let threads = [
            start(&pair, move |pair| {
                let held = commit_if(pair, start_at, |ks, batch| batch.put(ks, "k", "put"), CommitOptions::new());
                count(&a, held);
            }),
            start(&pair, move |pair| {
                let synced = CommitOptions::new().durability(Durability::Synced);
                let held = commit_if(pair, start_at, |ks, batch| batch.delete_range(ks, "a".."z"), synced);
                count(&b, held);
            }),
            start(&pair, move |pair| {
                // What it reads is what the others write, and the other way round.
                let fill = |ks: &Keyspace, batch: &mut WriteBatch| {
                    batch.read_range(ks, "j"..);
                    batch.delete(ks, "k");
                };
                let held = commit_if(pair, start_at, fill, CommitOptions::new());
                count(&c, held);
            }),
            start(&pair, |pair| {
                pair.keyspaces[1].put("unrelated", "1").unwrap();
                pair.db.flush().unwrap();
                pair.keyspaces[1].put("unrelated", "2").unwrap();
            }),
        ];
        join(threads);
        assert_eq!(*won.lock(), 1);
        pair.db.close().unwrap();
    });
}

// S15
#[test]
fn shuttle_serializable_transactions_do_not_skew() {
    explore(400, || {
        let pair = Pair::open(options(&MemFs::new()), Retention::Latest);
        let threads = ["a", "b"].map(|mine| {
            start(&pair, move |pair| {
                let ks = &pair.keyspaces[0];
                let mut tx = pair.db.begin(Isolation::Serializable).unwrap();
                let nobody = match mine {
                    "a" => tx.get(ks, "a").unwrap().is_none() && tx.get(ks, "b").unwrap().is_none(),
                    _ => tx.range(ks, "a".."c").next().is_none(),
                };
                if nobody {
                    tx.put(ks, mine, "mine").unwrap();
                }
                assert!(matches!(tx.commit(), Ok(_) | Err(Error::Conflict { .. })));
            })
        });
        let flushes = start(&pair, |pair| {
            pair.keyspaces[1].put("unrelated", "1").unwrap();
            pair.db.flush().unwrap();
        });
        join(threads.into_iter().chain([flushes]));
        assert_eq!(pair.keyspaces[0].iter().count(), 1);
        pair.db.close().unwrap();
    });
}

// S15
#[test]
fn shuttle_nothing_comes_in_below_a_transaction() {
    explore(400, || {
        let pair = Pair::open(options(&MemFs::new()).late_commits(true), Retention::Manual);
        for at in [10, 20] {
            pair.commit(&at.to_string(), CommitOptions::new().at(at)).unwrap();
        }
        let threads = [
            start(&pair, |pair| {
                let tx = pair.db.begin(Isolation::Snapshot).unwrap();
                let seen = || {
                    let found = |keyspace| KEYS.map(|key| tx.get(keyspace, key).unwrap());
                    pair.keyspaces.each_ref().map(found)
                };
                let before = seen();
                assert_eq!(before[0], before[1], "half a batch");
                crate::sync::yield_now();
                assert_eq!(seen(), before);
            }),
            start(&pair, |pair| {
                for at in [20, 15, 21] {
                    let result = pair.commit(&format!("late {at}"), CommitOptions::new().at(at));
                    assert!(matches!(result, Ok(_) | Err(Error::Busy { .. })), "{result:?}");
                }
            }),
        ];
        join(threads);
        pair.db.close().unwrap();
    });
}
