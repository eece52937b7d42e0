//! Readers, writers, snapshots, background work, floors and faults at once, on real threads, and a record of all that
//! was acknowledged to hold every answer against.
//!
//! *Batches are seen whole*: each puts one value, never used twice, under all keys of two keyspaces. *Sums stay*: other
//! batches move amounts between accounts in both. *Answers are right*: what a read at a timestamp gives is noted, and
//! held against the record when all threads have ended.

mod care;
mod readers;
mod record;
mod writers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use strandline::fs::FaultFs;
use strandline::{Compression, Db, Error, Keyspace, KeyspaceOptions, MemFs, Options, Retention, Timestamp};

use crate::campaign::{Counts, Program};
use crate::random::Random;
use record::Record;

pub struct Stress;

/// Keys that each batch puts, in each of two keyspaces.
const KEYS: usize = 12;
const WRITERS: u64 = 2;
const READERS: u64 = 2;
/// A round ends with so many commits acknowledged, so that a slow machine tries no less, ...
const COMMITS: usize = 2000;
/// ... or, should faults keep them from it, after so long.
const LONGEST: Duration = Duration::from_secs(20);

impl Program for Stress {
    fn name(&self) -> &'static str {
        "stress"
    }

    fn about(&self) -> &'static str {
        "threads that read, write, hold, flush, compact, retain, drop and resume at once"
    }

    // Each round has threads enough of its own.
    fn at_once(&self) -> usize {
        1
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    // S4 S5 S6 S11 S12 S14 S20 S24 S26
    fn round(&self, seed: u64, counts: &mut Counts) {
        let mut random = Random::of_seed(seed);
        let setting = Setting::of(&mut random);
        crate::story::tell(format!("{setting:?}"));
        let shared = Shared::open(&setting, &mut random);
        writers::fill(&shared);
        run(&shared, &mut random);
        care::settle(&shared);
        shared.record.check(setting.late);
        care::check_all(&shared, &shared.db, &shared.pair);
        shared.db.close().unwrap();
        care::check_reopened(&shared);
        shared.record.count(counts);
        counts.add("reads", shared.reads.load(Ordering::Relaxed));
        counts.add("resumes", shared.resumes.load(Ordering::Relaxed));
    }
}

/// What kind of a round it is.
#[derive(Debug, Clone, Copy)]
struct Setting {
    disk: Disk,
    late: bool,
    retention: Retention,
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Memory,
    Failing,
    Real,
}

impl Setting {
    fn of(random: &mut Random) -> Self {
        let retentions = [Retention::Manual, Retention::Latest, Retention::Window(60)];
        Self {
            disk: [Disk::Memory, Disk::Memory, Disk::Memory, Disk::Failing, Disk::Failing, Disk::Real]
                [random.random_range(0..6)],
            late: random.random_range(0..3) == 0,
            retention: retentions[random.random_range(0..3)],
            threads: [1, 2, 4][random.random_range(0..3)],
        }
    }
}

enum Files {
    Memory(MemFs),
    Failing(FaultFs<MemFs>),
    Real(tempfile::TempDir),
}

impl Files {
    fn make(disk: Disk) -> Self {
        match disk {
            Disk::Memory => Self::Memory(MemFs::new()),
            Disk::Failing => Self::Failing(FaultFs::new(MemFs::new())),
            Disk::Real => Self::Real(tempfile::tempdir().unwrap()),
        }
    }

    fn open(&self, options: Options) -> Db {
        match self {
            Self::Memory(files) => options.fs(files.clone()).open("db"),
            Self::Failing(files) => options.fs(files.clone()).open("db"),
            Self::Real(dir) => options.open(dir.path().join("db")),
        }
        .unwrap()
    }
}

/// What all threads of a round have in common.
struct Shared {
    setting: Setting,
    options: Options,
    files: Files,
    db: Db,
    pair: [Keyspace; 2],
    record: Record,
    stop: AtomicBool,
    reads: AtomicU64,
    resumes: AtomicU64,
}

impl Shared {
    fn open(setting: &Setting, random: &mut Random) -> Self {
        let options = Options::new()
            .late_commits(setting.late)
            .background_threads(setting.threads)
            .memtable_bytes(1 << random.random_range(10..15))
            .write_buffer_bytes(64 << 10)
            .wal_segment_bytes(32 << 10)
            .wal_bytes(128 << 10)
            .max_open_files(random.random_range(1..20))
            .block_cache_bytes(random.random_range(0..3) << 14);
        let files = Files::make(setting.disk);
        let db = files.open(options.clone());
        let pair = ["one", "other"].map(|name| db.keyspace_with(name, keyspace_options(setting.retention)).unwrap());
        Self {
            setting: *setting,
            options,
            files,
            db,
            pair,
            record: Record::default(),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
        }
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// What a call gave, unless it met a fault that was injected.
    fn allow<T>(&self, result: strandline::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Io { .. } | Error::Background(_)) if self.setting.disk == Disk::Failing => None,
            Err(error) => panic!("{error}: {error:?}"),
        }
    }

    /// The same of a call at a timestamp, which a floor may have passed.
    fn allow_retained<T>(&self, requested: Timestamp, result: strandline::Result<T>) -> Option<T> {
        match result {
            Err(Error::BelowRetained { retained, .. }) => {
                assert!(requested <= retained, "refused at {requested}, the floor is {retained}");
                None
            }
            result => self.allow(result),
        }
    }
}

fn keyspace_options(retention: Retention) -> KeyspaceOptions {
    KeyspaceOptions::new()
        .retention(retention)
        .compression(Compression::None)
        .block_bytes(256)
        .target_file_bytes(8 << 10)
        .level_base_bytes(32 << 10)
}

fn key(n: usize) -> String {
    format!("key {n:02}")
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(key)
}

type Job = fn(&Shared, Random, u64);

fn run(shared: &Shared, random: &mut Random) {
    let mut jobs: Vec<(Job, u64)> = (0..WRITERS).map(|number| (writers::write as Job, number)).collect();
    jobs.extend((0..READERS).map(|number| (readers::read as Job, number)));
    jobs.extend([(readers::hold as Job, 0), (writers::come_and_go, WRITERS), (care::take_care, 0)]);
    if shared.setting.disk == Disk::Failing {
        jobs.push((care::fail, 0));
    }
    let seeds: Vec<u64> = jobs.iter().map(|_| random.random()).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .zip(seeds)
            .map(|((job, number), seed)| {
                scope.spawn(move || {
                    let _stop = StopOnPanic(shared);
                    job(shared, Random::of_seed(seed), *number);
                })
            })
            .collect();
        let began = Instant::now();
        while shared.record.commits() < COMMITS && began.elapsed() < LONGEST && shared.going() {
            thread::sleep(Duration::from_millis(10));
        }
        shared.stop.store(true, Ordering::Relaxed);
        for thread in threads {
            if let Err(panic) = thread.join() {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                panic!("{}", message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a thread panicked"));
            }
        }
    });
}

/// One thread that fails ends the others as well.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
}
