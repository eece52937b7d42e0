//! Whole databases, their background threads too, in orders of steps that a scheduler draws from a seed:
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --lib shuttle_`.
//!
//! Half of the schedules are random, half are PCT's: threads with priorities that change at a few moments, which finds
//! what needs one thread to stand still while another runs far. Memory is one for all here; what the memory orderings
//! allow is loom's part. A failure names its seed; `SHUTTLE_SEED` begins there, `SHUTTLE_SCHEDULES` says how many.

use std::collections::BTreeMap;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::fs::{Fault, FaultFs, FaultKind, Operation, PowerCut, Purpose};
use crate::sync::{Arc, AtomicBool, JoinHandle, Mutex, Ordering, spawn};
use crate::{
    Change, CommitOptions, Db, Durability, Error, Keyspace, KeyspaceOptions, ManualTime, MemFs, Options, Retention,
    Slice, Snapshot, WriteBatch,
};

mod conditions;
mod floors;
mod prepared;

/// Keys a batch writes in each of the two keyspaces.
const KEYS: [&str; 2] = ["a", "z"];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// Runs `body` under `schedules` schedules.
fn explore(schedules: u64, body: impl Fn() + Send + Sync + 'static) {
    struct SayWhich(u64);
    impl Drop for SayWhich {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("SHUTTLE_SEED={}", self.0);
            }
        }
    }
    let body = Arc::new(body);
    let first = from_env("SHUTTLE_SEED", 1);
    for seed in first..first + from_env("SHUTTLE_SCHEDULES", schedules).div_ceil(20) {
        let _which = SayWhich(seed);
        let scheduler: Box<dyn Scheduler + Send> = match seed % 2 {
            0 => Box::new(RandomScheduler::new_from_seed(seed, 20)),
            _ => Box::new(PctScheduler::new_from_seed(seed, 3, 20)),
        };
        let mut config = Config::new();
        config.stack_size = 1 << 19;
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        let body = Arc::clone(&body);
        Runner::new(scheduler, config).run(move || body());
    }
}

/// A database of two keyspaces into which every batch writes one value, under all keys.
struct Pair {
    db: Db,
    keyspaces: [Keyspace; 2],
    /// What was acknowledged, by timestamp.
    committed: Mutex<BTreeMap<u64, String>>,
}

impl Pair {
    fn open(options: Options, retention: Retention) -> Arc<Self> {
        let db = options.time(ManualTime::new(1)).block_cache_bytes(0).open("db").unwrap();
        let keyspaces = ["one", "other"].map(|name| {
            db.keyspace_with(name, KeyspaceOptions::new().retention(retention).filter_bits_per_key(0.0)).unwrap()
        });
        Arc::new(Self { db, keyspaces, committed: Mutex::default() })
    }

    fn commit(&self, value: &str, options: CommitOptions) -> crate::Result<u64> {
        let mut batch = WriteBatch::new();
        for keyspace in &self.keyspaces {
            for key in KEYS {
                batch.put(keyspace, key, value);
            }
        }
        let timestamp = self.db.commit_with(batch, options)?;
        self.committed.lock().insert(timestamp, value.to_owned());
        Ok(timestamp)
    }

    /// The one value that all reads of a snapshot give.
    fn state(&self, snapshot: &Snapshot) -> Option<Slice> {
        let [one, other] = &self.keyspaces;
        let mut found = snapshot.multi_get(one, KEYS).unwrap();
        found.extend(KEYS.map(|key| snapshot.get(other, key).unwrap()));
        let first = found[0].clone();
        assert!(found.iter().all(|value| *value == first), "half a batch at {}: {found:?}", snapshot.timestamp());
        first
    }

    /// Every acknowledged state that must be readable is there.
    fn check(&self) {
        let committed = self.committed.lock().clone();
        for keyspace in &self.keyspaces {
            let floor = keyspace.retained_from();
            for timestamp in floor..=self.db.last_timestamp() {
                let expected = committed.range(..=timestamp).next_back().map(|(_, value)| value.as_bytes());
                for key in KEYS {
                    let found = keyspace.get_at(key, timestamp).unwrap();
                    assert_eq!(found.as_deref(), expected, "{key} at {timestamp}, floor {floor}, of {committed:?}");
                }
            }
        }
    }
}

fn options(fs: &MemFs) -> Options {
    Options::new().fs(fs.clone()).memtable_bytes(1 << 20).background_threads(1)
}

fn start(pair: &Arc<Pair>, body: impl FnOnce(&Pair) + Send + 'static) -> JoinHandle {
    let pair = Arc::clone(pair);
    spawn("shuttle", move || body(&pair)).unwrap()
}

fn join(threads: impl IntoIterator<Item = JoinHandle>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

// S5, S6, S11
#[test]
fn shuttle_every_view_is_of_whole_batches_while_memtables_are_sealed_and_flushed() {
    explore(600, || {
        // Each commit seals what the one before has filled.
        let pair = Pair::open(options(&MemFs::new()).memtable_bytes(1), Retention::Manual);
        let writers = ["v", "w"].map(|name| {
            start(&pair, move |pair| {
                for n in 0..2 {
                    let timestamp = pair.commit(&format!("{name}{n}"), CommitOptions::new()).unwrap();
                    assert!(pair.db.last_timestamp() >= timestamp);
                    assert!(pair.keyspaces[0].latest_timestamp(KEYS[0]).unwrap() >= Some(timestamp));
                }
            })
        });
        let mut last = 0;
        for _ in 0..2 {
            for keyspace in &pair.keyspaces {
                let found = keyspace.multi_get(KEYS).unwrap();
                assert_eq!(found[0], found[1]);
                let mut iter = keyspace.iter().map(|pair| pair.unwrap().1);
                assert_eq!(iter.next(), iter.next());
            }
            let snapshot = pair.db.snapshot();
            assert!(snapshot.timestamp() >= last, "time runs backwards");
            last = snapshot.timestamp();
            let before = pair.state(&snapshot);
            assert_eq!(pair.state(&snapshot), before, "a snapshot has changed");
        }
        join(writers);
        pair.check();
        pair.db.close().unwrap();
    });
}

// V1: a view is one moment. Its "now" is that of its commits, neither later nor earlier.
#[test]
fn shuttle_what_is_renewed_in_time_is_always_there_and_what_is_dead_from_birth_never() {
    explore(1600, || {
        let pair = Pair::open(options(&MemFs::new()).memtable_bytes(1), Retention::Manual);
        let commit = |pair: &Pair, timestamp: u64| {
            let [keyspace, _] = &pair.keyspaces;
            let mut batch = WriteBatch::new();
            batch.put_expiring(keyspace, "renewed", "v", timestamp + 1);
            batch.put_expiring(keyspace, "dead", "v", timestamp);
            assert_eq!(pair.db.commit(batch).unwrap(), timestamp);
        };
        commit(&pair, 1);
        let working = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&working);
        let writer = start(&pair, move |pair| {
            (2..5).for_each(|timestamp| commit(pair, timestamp));
            still.store(false, Ordering::SeqCst);
        });
        for _ in 0..100 {
            assert!(pair.keyspaces[0].contains("renewed").unwrap());
            assert!(!pair.keyspaces[0].contains("dead").unwrap());
            assert_eq!(pair.keyspaces[0].iter().count(), 1);
            if !working.load(Ordering::SeqCst) {
                break;
            }
        }
        join([writer]);
        pair.db.close().unwrap();
    });
}

// S12, R1
// S6: a memtable that is empty at one moment and not at the next does not shift the sources of a read
#[test]
fn shuttle_changes_have_every_batch_whole_while_the_next_is_written() {
    explore(400, || {
        let pair = Pair::open(options(&MemFs::new()).memtable_bytes(1), Retention::Manual);
        let commit = |pair: &Pair| {
            let [keyspace, _] = &pair.keyspaces;
            let mut batch = WriteBatch::new();
            batch.delete_range(keyspace, ..);
            KEYS.iter().for_each(|key| batch.put(keyspace, key, "v"));
            pair.db.commit(batch).unwrap()
        };
        let first = commit(&pair);
        let writer = start(&pair, move |pair| _ = commit(pair));
        let changes = pair.keyspaces[0].changes(first..=first).unwrap();
        let puts = changes.filter(|change| matches!(change, Ok(Change::Put { .. })));
        assert_eq!(puts.count(), KEYS.len());
        join([writer]);
        pair.db.close().unwrap();
    });
}

// S25, S24
#[test]
fn shuttle_a_sync_that_fails_leaves_nobody_waiting_and_nothing_half_there() {
    explore(400, || {
        let files = FaultFs::new(MemFs::new());
        let pair = Pair::open(Options::new().fs(files.clone()).background_threads(1), Retention::Manual);
        files.inject(Fault {
            purpose: Some(Purpose::Log),
            operation: Some(Operation::Sync),
            nth: 0,
            kind: FaultKind::Io,
            repeat: false,
        });
        let writers = [0, 1, 2].map(|number| {
            start(&pair, move |pair| {
                let durability = if number == 2 { Durability::Buffered } else { Durability::Synced };
                match pair.commit(&number.to_string(), CommitOptions::new().durability(durability)) {
                    Ok(_) | Err(Error::Io { .. } | Error::Background(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let flush = start(&pair, |pair| drop(pair.db.flush()));
        join(writers);
        join([flush]);
        files.clear();
        pair.db.resume().unwrap();
        pair.check();
        pair.commit("after", CommitOptions::new().durability(Durability::Synced)).unwrap();
        pair.db.flush().unwrap();
        pair.check();
        pair.db.close().unwrap();
    });
}

// S21: what was acknowledged as synced is there after a power cut at that moment
#[test]
fn shuttle_what_is_synced_together_survives() {
    explore(600, || {
        let fs = MemFs::new();
        let pair = Pair::open(options(&fs), Retention::Manual);
        let writers = [0, 1].map(|number| {
            start(&pair, move |pair| {
                for n in 0..2 {
                    let options = CommitOptions::new().durability(Durability::Synced);
                    pair.commit(&format!("{number} {n}"), options).unwrap();
                }
            })
        });
        let images = [0; 3].map(|_| {
            pair.db.metrics();
            let acknowledged = pair.committed.lock().clone();
            (acknowledged, fs.power_cut(PowerCut::Lose))
        });
        join(writers);
        pair.db.close().unwrap();
        for (acknowledged, fs) in images {
            let db = options(&fs).background(crate::Background::Stepped).open("db").unwrap();
            let keyspace = db.keyspace("one").unwrap();
            for (timestamp, value) in acknowledged {
                let found = keyspace.get_at(KEYS[0], timestamp).unwrap();
                assert_eq!(found.as_deref(), Some(value.as_bytes()), "at {timestamp}");
            }
        }
    });
}

// S38: closing ends, whoever is at work, and what was acknowledged is there afterwards
#[test]
fn shuttle_closing_ends_everybody_and_loses_nothing() {
    explore(400, || {
        let fs = MemFs::new();
        let pair = Pair::open(options(&fs).background_threads(2), Retention::Latest);
        let threads = [0, 1, 2].map(|number| {
            start(&pair, move |pair| {
                let result = match number {
                    0 => pair.db.compact(),
                    1 => pair.db.drop_keyspace("none").or(Ok(())),
                    _ => (0..2).try_for_each(|n| {
                        pair.commit(&n.to_string(), CommitOptions::new().durability(Durability::Unlogged)).map(drop)
                    }),
                };
                match result {
                    Ok(()) | Err(Error::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
            })
        });
        pair.db.close().unwrap();
        join(threads);
        let fs = fs.power_cut(PowerCut::Lose);
        let again = Pair::open(options(&fs), Retention::Latest);
        let committed = std::mem::take(&mut *pair.committed.lock());
        let expected = committed.last_key_value().map(|(_, value)| value.as_bytes());
        assert_eq!(again.keyspaces[0].get(KEYS[0]).unwrap().as_deref(), expected);
        again.db.close().unwrap();
    });
}

// S5: a keyspace is in the world or among what snapshots keep of those that are gone, never in neither
#[test]
fn shuttle_a_snapshot_goes_on_reading_a_keyspace_that_is_dropped() {
    explore(300, || {
        let pair = Pair::open(options(&MemFs::new()), Retention::Latest);
        pair.commit("kept", CommitOptions::new()).unwrap();
        let dropper = start(&pair, |pair| pair.db.drop_keyspace("other").unwrap());
        let mut held = Vec::new();
        for _ in 0..40 {
            let snapshot = pair.db.snapshot();
            match snapshot.get(&pair.keyspaces[1], KEYS[0]) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&b"kept"[..])),
                // Taken after it was dropped.
                Err(error) => {
                    assert!(matches!(error, Error::UnknownKeyspace { .. }), "{error}");
                    break;
                }
            }
            held.push(snapshot);
        }
        join([dropper]);
        for snapshot in held {
            assert_eq!(snapshot.get(&pair.keyspaces[1], KEYS[1]).unwrap().as_deref(), Some(&b"kept"[..]));
        }
        pair.db.close().unwrap();
    });
}

// S38, L2: resume and close meet commits and background work
#[test]
fn shuttle_resume_and_close_meet() {
    explore(300, || {
        let files = FaultFs::new(MemFs::new());
        let pair = Pair::open(Options::new().fs(files.clone()).background_threads(1), Retention::Latest);
        pair.commit("kept", CommitOptions::new()).unwrap();
        files.inject(Fault {
            purpose: Some(Purpose::Manifest),
            operation: None,
            nth: 0,
            kind: FaultKind::Io,
            repeat: false,
        });
        let _ = pair.db.flush();
        let resume = start(&pair, |pair| match pair.db.resume() {
            Ok(()) | Err(Error::Closed | Error::Background(_)) => {}
            Err(error) => panic!("{error}"),
        });
        let writer = start(&pair, |pair| match pair.commit("more", CommitOptions::new()) {
            Ok(_) | Err(Error::Closed | Error::Background(_)) => {}
            Err(error) => panic!("{error}"),
        });
        let _ = pair.db.close();
        join([resume, writer]);
        let again = Pair::open(Options::new().fs(files.clone()), Retention::Latest);
        let expected = pair.committed.lock().last_key_value().map(|(_, value)| value.clone());
        let found = again.keyspaces[0].get(KEYS[0]).unwrap();
        assert_eq!(found.as_deref(), expected.as_deref().map(str::as_bytes));
        again.db.close().unwrap();
    });
}
