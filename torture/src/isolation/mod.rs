//! Transactions and conditional commits on threads, over few keys, while memtables are flushed, merged and dropped from;
//! and a history of them that is held against what isolation promises ([`history`]).

pub mod history;
mod worker;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rand::RngExt;
use strandline::{Compression, Db, Keyspace, KeyspaceOptions, MemFs, Options, Retention};

use crate::campaign::{Counts, Program};
use crate::random::Random;
use history::{End, Key, Level, Read, Record};

pub struct Isolation;

/// Keys of each of two keyspaces.
const KEYS: u8 = 8;
const WORKERS: u64 = 4;
/// Transactions of each worker.
const EACH: u32 = 300;

impl Program for Isolation {
    fn name(&self) -> &'static str {
        "isolation"
    }

    fn about(&self) -> &'static str {
        "transactions and conditional commits on threads, each held against what isolation promises"
    }

    // Each round has threads enough of its own.
    fn at_once(&self) -> usize {
        1
    }

    // S4 S8 S9 S11 S15
    fn round(&self, seed: u64, counts: &mut Counts) {
        let mut random = Random::of_seed(seed);
        let shared = Shared::open(&mut random);
        let seeds: Vec<u64> = (0..=WORKERS).map(|_| random.random()).collect();
        thread::scope(|scope| {
            let workers: Vec<_> = seeds
                .iter()
                .skip(1)
                .map(|seed| scope.spawn(|| worker::work(&shared, &mut Random::of_seed(*seed), EACH)))
                .collect();
            let shakes = scope.spawn(|| shake(&shared, &mut Random::of_seed(seeds[0])));
            let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            shared.stop.store(true, Ordering::Relaxed);
            for end in ended.into_iter().chain([shakes.join()]) {
                end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        let records = shared.records.into_inner().unwrap();
        let keys: Vec<Key> = (0..2).flat_map(|keyspace| (0..KEYS).map(move |key| (keyspace, key))).collect();
        let anomalies = history::check(&records, &keys);
        assert!(anomalies.is_empty(), "{} anomalies, the first: {}", anomalies.len(), anomalies[0]);
        shared.db.close().unwrap();
        count(&records, counts);
    }
}

fn count(records: &[Record], counts: &mut Counts) {
    let started = || records.iter().filter(|record| record.start.is_some());
    let of = |level: Level| started().filter(move |record| record.level == level).count() as u64;
    counts.add("snapshot transactions", of(Level::Snapshot));
    counts.add("serializable transactions", of(Level::Serializable));
    counts.add("conflicts", started().filter(|record| matches!(record.end, End::Conflict(..))).count() as u64);
    counts.add("reads", started().map(|record| record.reads.len() as u64).sum());
    let ranges = |record: &Record| record.reads.iter().filter(|read| matches!(read, Read::Range(..))).count() as u64;
    counts.add("ranges read", started().map(ranges).sum());
}

/// What all threads of a round have in common.
struct Shared {
    db: Db,
    pair: [Keyspace; 2],
    records: Mutex<Vec<Record>>,
    /// Every value that is written is another one.
    next_value: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn open(random: &mut Random) -> Self {
        let options = Options::new()
            .fs(MemFs::new())
            .background_threads(random.random_range(1..3))
            .memtable_bytes(1 << random.random_range(11..16))
            .wal_segment_bytes(32 << 10)
            .block_cache_bytes(random.random_range(0..3) << 14);
        let db = options.open("db").unwrap();
        let retention = [Retention::Latest, Retention::Window(20), Retention::Manual][random.random_range(0..3)];
        let small = KeyspaceOptions::new()
            .retention(retention)
            .compression(Compression::None)
            .block_bytes(256)
            .target_file_bytes(4 << 10)
            .level_base_bytes(16 << 10);
        let pair = ["one", "other"].map(|name| db.keyspace_with(name, small.clone()).unwrap());
        let (records, next_value) = (Mutex::default(), AtomicU64::new(1));
        Self { db, pair, records, next_value, stop: AtomicBool::new(false) }
    }
}

/// Keeps what is stored on the move.
fn shake(shared: &Shared, random: &mut Random) {
    while !shared.stop.load(Ordering::Relaxed) {
        match random.random_range(0..4) {
            0 => shared.db.flush().unwrap(),
            1 => shared.db.compact().unwrap(),
            2 if shared.db.last_timestamp() > 1 => _ = shared.db.retain_from(shared.db.last_timestamp() - 1).unwrap(),
            _ => thread::yield_now(),
        }
    }
}
