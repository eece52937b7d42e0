//! Change feeds: walks over changes that go on where they ended, and subscriptions.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{
    Background, Change, CommitOptions, Compression, Db, Error, Event, KeyspaceOptions, MemFs, Options, Retention,
    Subscription, WriteBatch,
};

fn small(retention: Retention) -> KeyspaceOptions {
    let options = KeyspaceOptions::new().retention(retention).compression(Compression::None).block_bytes(256);
    options.target_file_bytes(4 << 10).level_base_bytes(16 << 10)
}

fn stepped() -> Db {
    let options = Options::new().fs(MemFs::new()).background(Background::Stepped).late_commits(true);
    options.open("db").unwrap()
}

/// A batch of points and range deletes, on few keys so that many of one key and of one start come together.
fn random_batch(dice: &mut StdRng, keyspace: &strandline::Keyspace) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..dice.random_range(1..5) {
        let key = |i: u32| format!("k{i:02}");
        let i = dice.random_range(0..20);
        match dice.random_range(0..6) {
            0 => batch.delete(keyspace, key(i)),
            1 => batch.delete_range(keyspace, key(i)..key(dice.random_range(i..=20))),
            _ => batch.put(keyspace, key(i), dice.random_range(0..1000u32).to_string()),
        }
    }
    batch
}

#[test]
fn a_walk_over_changes_goes_on_wherever_it_ended() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let db = stepped();
        let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
        for _ in 0..60 {
            let last = db.last_timestamp();
            let late = dice.random_range(0..4) == 0 && last > 3;
            let at = if late { last - dice.random_range(0..3) } else { last + 1 };
            let batch = random_batch(&mut dice, &ks);
            db.commit_with(batch, CommitOptions::new().at(at)).unwrap();
            match dice.random_range(0..12) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                _ => {}
            }
        }
        let last = db.last_timestamp();
        let (from, to) = (dice.random_range(1..last), last - dice.random_range(0..5));
        let walk = || ks.changes(from..=to).unwrap();
        let all: Vec<Change> = walk().map(Result::unwrap).collect();
        for (at, change) in all.iter().enumerate() {
            let rest: Vec<Change> = walk().resume_after(change).map(Result::unwrap).collect();
            assert_eq!(rest, all[at + 1..], "behind {change:?}");
        }
        db.close().unwrap();
    }
}

/// All that is there now, span by span: what `Resolved` said, and the changes before it.
fn drain(feed: &mut Subscription) -> Vec<(u64, Vec<(String, Change)>)> {
    let (mut spans, mut span) = (Vec::new(), Vec::new());
    while let Some(event) = feed.try_next().unwrap() {
        match event {
            Event::Change { keyspace, change } => span.push((keyspace.to_string(), change)),
            Event::Resolved(at) => spans.push((at, std::mem::take(&mut span))),
            other => panic!("{other:?}"),
        }
    }
    assert!(span.is_empty(), "a span that does not end");
    spans
}

#[test]
fn a_subscription_gives_what_is_retained_and_then_what_comes_up_to_what_is_closed() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let db = stepped();
        let names = ["one", "other"];
        let keyspaces = names.map(|name| db.keyspace_with(name, small(Retention::Manual)).unwrap());
        let latest = db.keyspace_with("latest", small(Retention::Latest)).unwrap();
        let mut feed: Option<(u64, Subscription)> = None;
        let mut resolved = 0;
        for _ in 0..40 {
            let last = db.last_timestamp();
            let which = dice.random_range(0..2);
            let batch = random_batch(&mut dice, &keyspaces[which]);
            let late = last > 3 && dice.random_range(0..3) == 0;
            let at = if late { last - dice.random_range(0..3) } else { last + 1 };
            let _late_or_not = db.commit_with(batch, CommitOptions::new().at(at));
            latest.put("not", "given").unwrap();
            match dice.random_range(0..6) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                2 => db.close_until(db.last_timestamp() - dice.random_range(0..3).min(db.last_timestamp())).unwrap(),
                3 if feed.is_none() => {
                    let from = dice.random_range(1..=db.last_timestamp());
                    resolved = from - 1;
                    feed = Some((from, db.subscribe(from).unwrap()));
                }
                _ => {}
            }
            let Some((_, feed)) = &mut feed else { continue };
            for (end, span) in drain(feed) {
                assert!(end > resolved && end <= db.closed_timestamp());
                let mut expected = Vec::new();
                for (name, keyspace) in names.iter().zip(&keyspaces) {
                    let changes = keyspace.changes(resolved + 1..=end).unwrap();
                    expected.extend(changes.map(|change| (name.to_string(), change.unwrap())));
                }
                assert_eq!(span, expected);
                resolved = end;
            }
            assert!(resolved >= db.closed_timestamp(), "something is left");
        }
        db.close().unwrap();
        if let Some((_, mut feed)) = feed {
            assert!(matches!(feed.next(), Some(Err(Error::Closed))) && feed.next().is_none());
        }
    }
}

#[test]
fn a_slow_reader_is_told_that_it_fell_behind() {
    let db = Options::new().fs(MemFs::new()).background(Background::Stepped).open("db").unwrap();
    let ks = db.keyspace_with("k", small(Retention::Manual)).unwrap();
    for i in 0..10 {
        ks.put("k", i.to_string()).unwrap();
    }
    let mut slow = db.subscribe(3).unwrap();
    db.retain_from(5).unwrap();
    let told = slow.try_next();
    assert!(matches!(told, Err(Error::BelowRetained { requested: 3, retained: 5 })), "{told:?}");
    assert!(slow.next().is_none());
    assert!(matches!(db.subscribe(5), Err(Error::BelowRetained { requested: 5, retained: 5 })));
    // One that has a span in hand ends that, and is told then.
    let mut feed = db.subscribe(6).unwrap();
    let first = feed.try_next().unwrap();
    assert!(matches!(first, Some(Event::Change { .. })));
    db.retain_from(9).unwrap();
    db.compact().unwrap();
    let events: Vec<_> = std::iter::from_fn(|| feed.try_next().unwrap()).collect();
    assert!(events.len() == 5 && events[4] == Event::Resolved(10), "{events:?}");
    let mut batch = WriteBatch::new();
    batch.put(&ks, "k", "more");
    db.commit(batch).unwrap();
    db.retain_from(11).unwrap();
    assert!(matches!(feed.try_next(), Err(Error::BelowRetained { requested: 11, retained: 11 })));
}

#[test]
fn a_reader_that_waits_gets_every_commit_once() {
    let db = Options::new().fs(MemFs::new()).memtable_bytes(16 << 10).open("db").unwrap();
    let ks = db.keyspace_with("k", small(Retention::Window(100_000))).unwrap();
    const EACH: u64 = 2000;
    let read = AtomicU64::new(0);
    let mut feed = db.subscribe(1).unwrap();
    assert_eq!(feed.next_within(Duration::from_millis(5)).unwrap(), None);
    thread::scope(|scope| {
        for writer in 0..2u64 {
            let ks = &ks;
            scope.spawn(move || {
                for i in 0..EACH {
                    ks.put(format!("{writer} {}", i % 50), i.to_le_bytes()).unwrap();
                }
            });
        }
        let (mut seen, mut resolved) = (BTreeMap::new(), 0);
        for event in &mut feed {
            match event.unwrap() {
                Event::Change { change: Change::Put { key, timestamp, .. }, .. } => {
                    assert!(timestamp > resolved);
                    assert!(seen.insert(timestamp, key).is_none(), "twice");
                    read.fetch_add(1, Ordering::Relaxed);
                }
                Event::Resolved(at) => {
                    assert!(at > resolved);
                    resolved = at;
                    assert_eq!(seen.len() as u64, at, "every timestamp up to there");
                }
                other => panic!("{other:?}"),
            }
            if resolved == 2 * EACH {
                break;
            }
        }
    });
    assert_eq!(read.into_inner(), 2 * EACH);
    db.close().unwrap();
}
