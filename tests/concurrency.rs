//! Readers, writers, snapshots, flushes, compactions and floors at once: S5, S6, S11.
//!
//! Each batch puts its number under many keys of two keyspaces, and never the same number twice. So a reader that sees
//! two numbers in one state has seen half a batch.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strandline::{
    Change, CommitOptions, Compression, Db, Durability, Error, Keyspace, KeyspaceOptions, MemFs, Options, Retention,
    Snapshot, WriteBatch,
};
use support::{Dice, small_keyspace};

const KEYS: usize = 24;

fn key(n: usize) -> String {
    format!("key {n:02}")
}

struct Shared {
    db: Db,
    pair: [Keyspace; 2],
    stop: AtomicBool,
    commits: AtomicU64,
    reads: AtomicU64,
}

impl Shared {
    fn open(fs: &MemFs, late: bool, retention: Retention) -> Arc<Self> {
        let db = Options::new()
            .fs(fs.clone())
            .late_commits(late)
            .memtable_bytes(16 << 10)
            .write_buffer_bytes(64 << 10)
            .wal_segment_bytes(32 << 10)
            .wal_bytes(256 << 10)
            .block_cache_bytes(32 << 10)
            .open("db")
            .unwrap();
        let pair = ["one", "other"].map(|name| {
            let options = small_keyspace().retention(retention).target_file_bytes(8 << 10).level_base_bytes(32 << 10);
            db.keyspace_with(name, options).unwrap()
        });
        let (stop, commits, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { db, pair, stop, commits, reads })
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// All keys of both keyspaces, to one value; some batches delete everything first.
    fn batch(&self, value: &str, dice: &mut Dice) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for keyspace in &self.pair {
            match dice.below(8) {
                0 => batch.delete_range(keyspace, ..),
                1 => batch.delete_prefix(keyspace, "key"),
                _ => {}
            }
            for n in 0..KEYS {
                batch.put(keyspace, key(n), value);
            }
        }
        batch
    }

    /// The one value that a state shows; `None` before the first batch.
    fn state(&self, snapshot: &Snapshot, dice: &mut Dice) -> Option<String> {
        let mut found = Vec::new();
        for keyspace in &self.pair {
            match dice.below(4) {
                0 => found.extend(snapshot.multi_get(keyspace, (0..KEYS).map(key)).unwrap()),
                1 => found.extend((0..KEYS).map(|n| snapshot.get(keyspace, key(n)).unwrap())),
                2 => found.extend(all(snapshot.iter(keyspace))),
                _ => {
                    let mut cursor = snapshot.cursor(keyspace);
                    cursor.seek_to_last().unwrap();
                    let mut seen = Vec::new();
                    while let Some((_, value)) = cursor.entry() {
                        seen.push(Some(value.into()));
                        cursor.prev().unwrap();
                    }
                    if seen.is_empty() {
                        seen = vec![None; KEYS];
                    }
                    found.extend(seen);
                }
            }
        }
        assert_eq!(found.len(), 2 * KEYS, "at {}: {found:?}", snapshot.timestamp());
        assert!(found.iter().all(|value| *value == found[0]), "half a batch at {}: {found:?}", snapshot.timestamp());
        self.reads.fetch_add(1, Ordering::Relaxed);
        found[0].as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }
}

fn all(iter: strandline::Iter) -> Vec<Option<strandline::Slice>> {
    let found: Vec<_> = iter.map(|pair| Some(pair.unwrap().1)).collect();
    if found.is_empty() { vec![None; KEYS] } else { found }
}

/// What one thread does; told its number.
type Job = Box<dyn FnOnce(&Shared, u64) + Send>;

fn run(shared: &Arc<Shared>, length: Duration, jobs: Vec<Job>) {
    std::thread::scope(|scope| {
        for (number, job) in jobs.into_iter().enumerate() {
            let shared = Arc::clone(shared);
            scope.spawn(move || {
                // One that panics ends the others as well.
                struct StopOnPanic(Arc<Shared>);
                impl Drop for StopOnPanic {
                    fn drop(&mut self) {
                        if std::thread::panicking() {
                            self.0.stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
                let guard = StopOnPanic(shared);
                job(&guard.0, number as u64);
            });
        }
        let start = Instant::now();
        while start.elapsed() < length && shared.going() {
            std::thread::sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
}

fn caretaker(shared: &Shared, number: u64) {
    let mut dice = Dice::new(number);
    while shared.going() {
        match dice.below(6) {
            0 => shared.db.flush().unwrap(),
            1 => shared.pair[0].compact(..).unwrap(),
            2 => shared.pair[1].compact(key(3)..key(15)).unwrap(),
            3 => {
                let last = shared.db.last_timestamp();
                if last > 50 {
                    shared.db.retain_from(last - 50).unwrap();
                }
            }
            4 => drop(shared.db.metrics()),
            _ => shared.db.sync().unwrap(),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

// S5, S6, S11
#[test]
fn every_state_that_anybody_sees_is_one_of_whole_batches() {
    for retention in [Retention::Manual, Retention::Latest] {
        let fs = MemFs::new();
        let shared = Shared::open(&fs, false, retention);
        let writer = |shared: &Shared, number: u64| {
            let mut dice = Dice::new(number);
            while shared.going() {
                let count = shared.commits.fetch_add(1, Ordering::Relaxed);
                let batch = shared.batch(&format!("writer {number}, {count}"), &mut dice);
                let durability = match dice.below(20) {
                    0 => Durability::Synced,
                    1 => Durability::Unlogged,
                    _ => Durability::Buffered,
                };
                let timestamp = shared.db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
                assert!(shared.db.last_timestamp() >= timestamp, "what was acknowledged is visible");
                // S11: and can be read, by this or a newer value.
                assert!(shared.pair[0].latest_timestamp(key(0)).unwrap() >= Some(timestamp));
            }
        };
        let reader = |shared: &Shared, number: u64| {
            let mut dice = Dice::new(number);
            let mut last = 0;
            while shared.going() {
                let snapshot = shared.db.snapshot();
                assert!(snapshot.timestamp() >= last, "time runs backwards");
                last = snapshot.timestamp();
                let first = shared.state(&snapshot, &mut dice);
                for keyspace in &shared.pair {
                    let now = all(keyspace.iter());
                    assert!(now.iter().all(|value| *value == now[0]) && now.len() == KEYS, "{now:?}");
                    let many = keyspace.multi_get((0..KEYS).map(key)).unwrap();
                    assert!(many.iter().all(|value| *value == many[0]), "{many:?}");
                }
                assert_eq!(shared.state(&snapshot, &mut dice), first, "a snapshot has changed");
            }
        };
        // Holds on to snapshots and half-consumed iterators for long.
        let holder = |shared: &Shared, number: u64| {
            let mut dice = Dice::new(number);
            let mut held: Vec<(Snapshot, Option<String>)> = Vec::new();
            while shared.going() {
                let snapshot = shared.db.snapshot();
                let value = shared.state(&snapshot, &mut dice);
                let mut iter = snapshot.iter(&shared.pair[1]);
                let before = iter.next().map(|pair| pair.unwrap().1);
                held.push((snapshot, value));
                if held.len() > 6 {
                    let at = usize::try_from(dice.below(held.len() as u64)).unwrap();
                    let (snapshot, value) = held.swap_remove(at);
                    assert_eq!(shared.state(&snapshot, &mut dice), value, "at {}", snapshot.timestamp());
                }
                std::thread::sleep(Duration::from_millis(3));
                assert!(iter.all(|pair| Some(pair.unwrap().1) == before), "an iterator has changed");
            }
        };
        run(
            &shared,
            Duration::from_millis(1500),
            vec![Box::new(writer), Box::new(writer), Box::new(reader), Box::new(holder), Box::new(caretaker)],
        );
        let (commits, reads) = (shared.commits.load(Ordering::Relaxed), shared.reads.load(Ordering::Relaxed));
        println!("{retention:?}: {commits} commits, {reads} states read");
        assert!(commits > 100 && reads > 100, "{commits} commits, {reads} states read");
        assert_eq!(shared.db.last_timestamp(), commits, "each took one timestamp");
        shared.db.verify().unwrap();
        shared.db.close().unwrap();
    }
}

// S6, S14
#[test]
fn late_batches_are_seen_whole_too() {
    let fs = MemFs::new();
    let shared = Shared::open(&fs, true, Retention::Manual);
    let written: Arc<parking_lot::Mutex<BTreeMap<u64, String>>> = Arc::default();
    let writer = |written: Arc<parking_lot::Mutex<BTreeMap<u64, String>>>| {
        move |shared: &Shared, number: u64| {
            let mut dice = Dice::new(number);
            while shared.going() {
                let count = shared.commits.fetch_add(1, Ordering::Relaxed);
                let value = format!("writer {number}, {count}");
                // Each writer has timestamps of its own, so that none is replaced.
                let last = shared.db.last_timestamp();
                let timestamp = (last + 1 + dice.below(3)).saturating_sub(dice.below(40)).max(1);
                let timestamp = timestamp - timestamp % 2 + number % 2 + 2;
                if written.lock().contains_key(&timestamp) {
                    continue;
                }
                let batch = shared.batch(&value, &mut dice);
                match shared.db.commit_with(batch, CommitOptions::new().at(timestamp)) {
                    Ok(found) => {
                        assert_eq!(found, timestamp);
                        written.lock().insert(timestamp, value);
                    }
                    Err(Error::BelowRetained { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let reader = |shared: &Shared, number: u64| {
        let mut dice = Dice::new(number);
        while shared.going() {
            let last = shared.db.last_timestamp();
            let floor = shared.pair[0].retained_from();
            let timestamp = floor + dice.below((last + 1).saturating_sub(floor).max(1));
            match shared.db.snapshot_at(timestamp) {
                // A late batch may come between the two keyspaces of one pass, and between two gets. A scan is one
                // state.
                Ok(snapshot) => {
                    for keyspace in &shared.pair {
                        let found = all(snapshot.iter(keyspace));
                        assert_eq!(found.len(), KEYS, "at {timestamp}");
                        assert!(found.iter().all(|value| *value == found[0]), "half a batch at {timestamp}: {found:?}");
                        let found = snapshot.multi_get(keyspace, (0..KEYS).map(key)).unwrap();
                        assert!(found.iter().all(|value| *value == found[0]), "half a batch at {timestamp}: {found:?}");
                    }
                    shared.reads.fetch_add(1, Ordering::Relaxed);
                }
                Err(Error::BelowRetained { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    run(
        &shared,
        Duration::from_millis(1500),
        vec![
            Box::new(writer(Arc::clone(&written))),
            Box::new(writer(Arc::clone(&written))),
            Box::new(reader),
            Box::new(reader),
            Box::new(caretaker),
        ],
    );
    let written = written.lock();
    println!("{} commits, {} states read", written.len(), shared.reads.load(Ordering::Relaxed));
    assert!(written.len() > 50 && shared.reads.load(Ordering::Relaxed) > 50);
    let check = |db: &Db, keyspace: &Keyspace| {
        let floor = keyspace.retained_from();
        for timestamp in floor..=db.last_timestamp() {
            let expected = written.range(..=timestamp).next_back().map(|(_, value)| value.as_str());
            for n in [0, KEYS / 2, KEYS - 1] {
                let found = keyspace.get_at(key(n), timestamp).unwrap();
                let found = found.as_ref().map(|value| std::str::from_utf8(value).unwrap());
                assert_eq!(found, expected, "{} at {timestamp}, floor {floor}", key(n));
            }
        }
    };
    shared.pair.iter().for_each(|keyspace| check(&shared.db, keyspace));
    shared.db.verify().unwrap();
    let db = Options::new().fs(fs.kill()).late_commits(true).open("db").unwrap();
    for name in ["one", "other"] {
        check(&db, &db.keyspace(name).unwrap());
    }
}

// S6: batches that delete a range and put into it, beside a reader of changes
#[test]
fn changes_beside_a_writer_have_every_batch_whole() {
    let shared = Shared::open(&MemFs::new(), false, Retention::Manual);
    let writer = |shared: &Shared, _: u64| {
        while shared.going() {
            let mut batch = WriteBatch::new();
            for keyspace in &shared.pair {
                batch.delete_range(keyspace, ..);
                (0..KEYS).for_each(|n| batch.put(keyspace, key(n), vec![b'v'; 100]));
            }
            shared.commits.store(shared.db.commit(batch).unwrap(), Ordering::SeqCst);
        }
    };
    let reader = |shared: &Shared, _: u64| {
        while shared.going() {
            let last = shared.commits.load(Ordering::SeqCst);
            let mut found = BTreeMap::<u64, usize>::new();
            for change in shared.pair[0].changes(last.saturating_sub(20).max(1)..=last).unwrap() {
                if let Change::Put { timestamp, .. } = change.unwrap() {
                    *found.entry(timestamp).or_default() += 1;
                }
            }
            for timestamp in last.saturating_sub(20).max(1)..=last {
                assert_eq!(found.get(&timestamp), Some(&KEYS), "changes up to {last}, at {timestamp}");
            }
        }
    };
    run(&shared, Duration::from_millis(1000), vec![Box::new(writer), Box::new(reader)]);
    assert!(shared.commits.load(Ordering::SeqCst) > 50);
}

// S5: keyspaces come and go beside it
#[test]
fn keyspaces_that_are_made_and_dropped_disturb_nobody() {
    let fs = MemFs::new();
    let shared = Shared::open(&fs, false, Retention::Latest);
    let churn = |shared: &Shared, number: u64| {
        while shared.going() {
            let name = format!("of {number}");
            let keyspace = shared.db.keyspace_with(&name, small_keyspace()).unwrap();
            assert_eq!(keyspace.iter().count(), 0, "made anew it is empty");
            for n in 0..50 {
                let mut batch = shared.batch(&format!("churn {number} {n}"), &mut Dice::new(number));
                batch.put(&keyspace, n.to_string(), "v".repeat(200));
                shared.db.commit(batch).unwrap();
            }
            let (snapshot, mut iter) = (shared.db.snapshot(), keyspace.iter());
            shared.db.drop_keyspace(&name).unwrap();
            assert!(matches!(keyspace.put("k", "v"), Err(Error::UnknownKeyspace { .. })));
            assert_eq!(snapshot.iter(&keyspace).count(), 50);
            assert!(iter.next().is_some_and(|pair| pair.is_ok()) && iter.count() == 49);
            shared.commits.fetch_add(50, Ordering::Relaxed);
        }
    };
    let reader = |shared: &Shared, number: u64| {
        let mut dice = Dice::new(number);
        while shared.going() {
            shared.state(&shared.db.snapshot(), &mut dice);
        }
    };
    run(
        &shared,
        Duration::from_millis(1200),
        vec![Box::new(churn), Box::new(churn), Box::new(reader), Box::new(caretaker)],
    );
    println!(
        "{} commits, {} states read",
        shared.commits.load(Ordering::Relaxed),
        shared.reads.load(Ordering::Relaxed)
    );
    assert_eq!(shared.db.keyspace_names(), ["one", "other"]);
    shared.db.close().unwrap();
    let db = Options::new().fs(fs).open("db").unwrap();
    assert_eq!(db.keyspace_names(), ["one", "other"]);
    db.verify().unwrap();
}

// S38, as far as it can be seen here: closing ends, whoever is at work
#[test]
fn closing_under_load_ends_everybody_with_closed() {
    for round in 0..10u64 {
        let fs = MemFs::new();
        let shared = Shared::open(&fs, false, Retention::Latest);
        let acknowledged = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (shared, acknowledged) = (Arc::clone(&shared), Arc::clone(&acknowledged));
                scope.spawn(move || {
                    let mut dice = Dice::new(number);
                    loop {
                        let result = match number {
                            0 => shared.db.flush(),
                            _ => shared.db.commit(shared.batch("v", &mut dice)).map(|timestamp| {
                                acknowledged.fetch_max(timestamp, Ordering::SeqCst);
                            }),
                        };
                        match result {
                            Ok(()) => {}
                            Err(Error::Closed) => return,
                            Err(error) => panic!("round {round}: {error}"),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(10 + 7 * round));
            shared.db.close().unwrap_or_else(|error| panic!("round {round}: {error}"));
        });
        let db = Options::new().fs(fs.power_cut(strandline::fs::PowerCut::Lose)).open("db").unwrap();
        assert!(db.last_timestamp() >= acknowledged.load(Ordering::SeqCst), "round {round}");
    }
}

#[test]
fn reads_that_look_through_level_0_long_enough_have_it_merged() {
    let fs = MemFs::new();
    let db = Options::new().fs(fs).open("db").unwrap();
    // So much that no cursor comes to it by being placed once.
    let options = KeyspaceOptions::new().retention(Retention::Manual).compression(Compression::None);
    let keyspace = db.keyspace_with("one", options).unwrap();
    let fill = || (0..500).for_each(|n| _ = keyspace.put(key(n), vec![7; 100]).unwrap());
    let files = |level: usize| db.metrics().keyspaces[0].levels[level].files;
    fill();
    db.compact().unwrap();
    fill();
    db.flush().unwrap();
    assert_eq!(files(0), 1);
    // Each kind of read alone comes to it. Nothing is written for a second before.
    let began = Instant::now();
    for (kind, reads) in ["lookups", "cursors", "steps", "an iterator"].into_iter().enumerate() {
        // Placed once: what it comes to is its steps.
        let mut walk = db.snapshot().cursor(&keyspace);
        walk.seek_to_first().unwrap();
        while files(0) > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "{reads}");
            for n in 0..100 {
                match kind {
                    0 => assert_eq!(keyspace.get(format!("{}x", key(n))).unwrap(), None),
                    1 => db.snapshot().cursor(&keyspace).seek(key(n)).unwrap(),
                    2 => {
                        (1..500).for_each(|_| walk.next().unwrap());
                        (1..500).for_each(|_| walk.prev().unwrap());
                    }
                    _ => assert_eq!(keyspace.iter().count(), 500),
                }
            }
        }
        fill();
        db.flush().unwrap();
    }
    assert_eq!(keyspace.iter().count(), 500);
}
