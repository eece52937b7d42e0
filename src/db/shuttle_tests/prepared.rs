//! Prepared transactions among others, and several that decide at once.

use super::*;
use crate::{Isolation, Outcome};

/// Writes `mine` if nobody has written anything; what it has read decides.
fn if_nobody(pair: &Pair, mine: &str) -> crate::Transaction {
    let ks = &pair.keyspaces[0];
    let mut tx = pair.db.begin(Isolation::Serializable).unwrap();
    let nobody = match mine {
        "a" => tx.get(ks, "a").unwrap().is_none() && tx.get(ks, "b").unwrap().is_none(),
        _ => tx.range(ks, "a".."c").next().is_none(),
    };
    if nobody {
        tx.put(ks, mine, "mine").unwrap();
    }
    tx
}

// S15
#[test]
fn shuttle_what_is_prepared_does_not_skew() {
    explore(400, || {
        let pair = Pair::open(options(&MemFs::new()), Retention::Latest);
        let threads = [("a", true), ("b", true), ("b", false)].map(|(mine, prepares)| {
            start(&pair, move |pair| {
                let tx = if_nobody(pair, mine);
                let done = if prepares {
                    tx.prepare(mine).and_then(|_| pair.db.commit_prepared(mine, None))
                } else {
                    tx.commit()
                };
                assert!(matches!(done, Ok(_) | Err(Error::Conflict { .. } | Error::Busy { .. })), "{done:?}");
            })
        });
        let flushes = start(&pair, |pair| {
            pair.keyspaces[1].put("unrelated", "1").unwrap();
            pair.db.flush().unwrap();
        });
        join(threads.into_iter().chain([flushes]));
        let found = pair.keyspaces[0].range("a".."c").count();
        assert!(found <= 1, "{found} of two that exclude each other");
        assert!(pair.db.prepared().is_empty());
        pair.db.close().unwrap();
    });
}

#[test]
fn shuttle_of_those_who_decide_all_hear_the_same() {
    explore(400, || {
        let fs = MemFs::new();
        let pair = Pair::open(options(&fs), Retention::Manual);
        let mut tx = pair.db.begin(Isolation::Snapshot).unwrap();
        tx.put(&pair.keyspaces[0], "k", "prepared").unwrap();
        tx.prepare("t").unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let threads = [true, false, true].map(|commits| {
            let heard = Arc::clone(&heard);
            start(&pair, move |pair| {
                let outcome = if commits {
                    pair.db.commit_prepared("t", None).map(Outcome::Committed)
                } else {
                    pair.db.abort_prepared("t").map(|()| Outcome::Aborted)
                };
                let outcome = match outcome {
                    Ok(outcome) => outcome,
                    Err(Error::Decided { committed_at, .. }) => {
                        committed_at.map_or(Outcome::Aborted, Outcome::Committed)
                    }
                    Err(error) => panic!("{error}"),
                };
                // What is heard has happened.
                let is_there = pair.keyspaces[0].get("k").unwrap().is_some();
                assert_eq!(is_there, outcome != Outcome::Aborted);
                assert_eq!(pair.db.prepared_outcome("t"), Some(outcome));
                heard.lock().push(outcome);
            })
        });
        let others = start(&pair, |pair| {
            pair.keyspaces[1].put("unrelated", "1").unwrap();
            pair.db.flush().unwrap();
        });
        join(threads.into_iter().chain([others]));
        let heard = heard.lock().clone();
        assert!(heard.iter().all(|outcome| *outcome == heard[0]), "{heard:?}");
        pair.db.close().unwrap();
        let db = options(&fs).open("db").unwrap();
        assert_eq!(db.prepared_outcome("t"), Some(heard[0]));
    });
}
