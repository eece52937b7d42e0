//! The power goes, or the process is killed, while several threads commit and others flush and compact.
//!
//! The other power cuts follow from a seed, and so have one thread. Here commits share syncs, are published out of the
//! order in which they end, and meet flushes half way. Files are in memory; an image of them is what a crash at that
//! moment leaves. It is looked at when all threads have ended and it is known which timestamp each commit got.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use strandline::{
    Background, CommitOptions, Db, Durability, Keyspace, KeyspaceOptions, Options, Retention, Timestamp, WriteBatch,
};

use crate::campaign::{Counts, Program};
use crate::disk::Disk;
use crate::random::Random;

pub struct BusyCuts;

const WRITERS: usize = 3;
const IMAGES: usize = 8;
/// Of each writer, at most.
const COMMITS: usize = 400;
/// Keys that all writers write to.
const SHARED_KEYS: u64 = 7;

/// A commit, named by its writer and its number there.
type Name = (usize, usize);

#[derive(Debug, Clone, Copy)]
struct Sent {
    durability: Durability,
    acknowledged: Option<Timestamp>,
}

/// What each writer has sent so far, in order.
type Book = Vec<Mutex<Vec<Sent>>>;

/// What a crash left, and what had been acknowledged before it.
struct Image {
    files: Disk,
    killed: bool,
    acknowledged: BTreeSet<Name>,
    /// Whether commits were on their way.
    busy: bool,
}

impl Program for BusyCuts {
    fn name(&self) -> &'static str {
        "busy-cuts"
    }

    fn about(&self) -> &'static str {
        "crashes while several threads commit, flush and compact"
    }

    // Each round has threads enough of its own.
    fn at_once(&self) -> usize {
        1
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    // S6 S11 S21 S22
    fn round(&self, seed: u64, counts: &mut Counts) {
        let mut random = Random::of_seed(seed);
        // While a sync takes its time others append, and wait for the next one.
        let fs = Disk::with_slow_syncs(Duration::from_micros(random.random_range(0..3) * 50));
        let options = options(&mut random);
        let db = options.clone().fs(fs.clone()).background_threads(random.random_range(1..3)).open("db").unwrap();
        let history = || KeyspaceOptions::new().retention(Retention::Manual).target_file_bytes(16 << 10);
        let spaces = ["a", "b", "shared"].map(|name| db.keyspace_with(name, history()).unwrap());
        db.sync().unwrap();
        let book: Book = (0..WRITERS).map(|_| Mutex::default()).collect();
        let stop = AtomicBool::new(false);
        let mut images = Vec::new();
        thread::scope(|scope| {
            // Also if something fails in here.
            let _stop = StopAtEnd(&stop);
            for (writer, sent) in book.iter().enumerate() {
                let random = Random::of_seed(seed ^ ((writer as u64 + 1) << 32));
                let (db, spaces, stop) = (&db, &spaces, &stop);
                scope.spawn(move || write(db, spaces, writer, sent, random, stop));
            }
            for nth in 0..IMAGES {
                let share = WRITERS * COMMITS / IMAGES;
                let wanted = nth * share + random.random_range(0..share);
                while begun(&book) < wanted {
                    thread::yield_now();
                }
                match random.random_range(0..6) {
                    0 => db.flush().unwrap(),
                    1 => db.compact().unwrap(),
                    2 => db.sync().unwrap(),
                    _ => {}
                }
                let acknowledged = acknowledged(&book);
                let killed = random.random();
                let files = if killed { fs.kill() } else { fs.power_cut(random.random::<u64>()) };
                let busy = acknowledged.len() < begun(&book);
                images.push(Image { files, killed, acknowledged, busy });
            }
        });
        drop(spaces);
        db.close().unwrap();
        let book: Vec<Vec<Sent>> = book.into_iter().map(|sent| sent.into_inner().unwrap()).collect();
        for image in &images {
            check(image, &book, &options);
        }
        counts.add("commits", book.iter().map(|sent| sent.len() as u64).sum());
        counts.add("crashes", images.len() as u64);
        counts.add("of them while commits ran", images.iter().filter(|image| image.busy).count() as u64);
    }
}

/// Tells the writers to stop when it goes.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn options(random: &mut Random) -> Options {
    Options::new()
        .memtable_bytes(1 << random.random_range(10..16))
        .wal_segment_bytes(1 << random.random_range(10..17))
        .wal_bytes(1 << random.random_range(13..18))
}

fn key((writer, number): Name) -> String {
    format!("{writer}:{number}")
}

fn write(
    db: &Db,
    spaces: &[Keyspace; 3],
    writer: usize,
    sent: &Mutex<Vec<Sent>>,
    mut random: Random,
    stop: &AtomicBool,
) {
    let [a, b, shared] = spaces;
    for number in 0..COMMITS {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let durability = match random.random_range(0..4) {
            0 => Durability::Unlogged,
            1 => Durability::Synced,
            _ => Durability::Buffered,
        };
        let name = key((writer, number));
        let mut batch = WriteBatch::new();
        batch.put(a, &name, vec![b'.'; random.random_range(0..200)]);
        batch.put(shared, (number as u64 % SHARED_KEYS).to_be_bytes(), &name);
        batch.put(b, &name, "");
        sent.lock().unwrap().push(Sent { durability, acknowledged: None });
        let timestamp = db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        sent.lock().unwrap()[number].acknowledged = Some(timestamp);
        if random.random_range(0..4) == 0 {
            // Or all would be over before the others have their turn.
            thread::sleep(Duration::from_micros(10));
        }
    }
}

/// How many commits were sent.
fn begun(book: &Book) -> usize {
    book.iter().map(|sent| sent.lock().unwrap().len()).sum()
}

fn acknowledged(book: &Book) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for (writer, sent) in book.iter().enumerate() {
        let sent = sent.lock().unwrap();
        let done = sent.iter().enumerate().filter(|(_, sent)| sent.acknowledged.is_some());
        names.extend(done.map(|(number, _)| (writer, number)));
    }
    names
}

fn check(image: &Image, book: &[Vec<Sent>], options: &Options) {
    let db = options.clone().fs(image.files.clone()).background(Background::Stepped).open("db").unwrap();
    db.verify().unwrap();
    let [a, b, shared] = ["a", "b", "shared"].map(|name| db.keyspace(name).unwrap());
    let mut survivors = BTreeMap::new();
    // The last logged commit that is there, and the first that is not.
    let (mut last_there, mut first_lost) = (0, Timestamp::MAX);
    for (writer, sent) in book.iter().enumerate() {
        for (number, sent) in sent.iter().enumerate() {
            let name = (writer, number);
            let logged = sent.durability != Durability::Unlogged;
            let timestamp = sent.acknowledged.unwrap();
            let there = a.latest_timestamp(key(name)).unwrap();
            assert_eq!(there, b.latest_timestamp(key(name)).unwrap(), "half of {name:?}, {sent:?}");
            if there.is_some() {
                assert_eq!(there, Some(timestamp), "{name:?}");
                assert!(timestamp <= db.last_timestamp(), "{name:?} is above the last timestamp");
                survivors.insert(timestamp, name);
                last_there = if logged { last_there.max(timestamp) } else { last_there };
            } else {
                let durable = sent.durability == Durability::Synced || (image.killed && logged);
                let lost = durable && image.acknowledged.contains(&name);
                assert!(!lost, "{name:?} is lost, {sent:?}, killed: {}", image.killed);
                first_lost = if logged { first_lost.min(timestamp) } else { first_lost };
            }
        }
    }
    assert!(
        last_there < first_lost,
        "of the logged commits, that at {first_lost} is lost, that at {last_there} is not"
    );
    let mut found = BTreeMap::new();
    for shared_key in 0..SHARED_KEYS {
        for version in shared.history(shared_key.to_be_bytes(), ..).unwrap() {
            let version = version.unwrap();
            found.insert(version.timestamp, version.value.unwrap().to_vec());
        }
    }
    let expected: BTreeMap<_, _> = survivors.into_iter().map(|(at, name)| (at, key(name).into_bytes())).collect();
    assert_eq!(found, expected);
}
