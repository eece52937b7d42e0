//! Who looks after the database, who makes its files fail, and what must hold when all is quiet.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use strandline::fs::{Fault, FaultKind, PowerCut, Purpose};
use strandline::{Db, Error, Keyspace};

use super::{Files, Shared, key};
use crate::random::Random;

/// Flushes, compacts, raises floors, syncs; resumes after a fault.
pub(super) fn take_care(shared: &Shared, mut random: Random, _: u64) {
    while shared.going() {
        if shared.db.background_error().is_some() {
            shared.resumes.fetch_add(u64::from(shared.db.resume().is_ok()), Ordering::Relaxed);
        }
        let last = shared.db.last_timestamp();
        match random.random_range(0..8) {
            0 => drop(shared.allow(shared.db.flush())),
            1 => drop(shared.allow(shared.pair[0].compact(..))),
            2 => drop(shared.allow(shared.pair[1].compact(key(3)..key(9)))),
            3 if last > 80 => drop(shared.allow(shared.db.retain_from(last - random.random_range(20..80)))),
            4 if last > 80 => drop(shared.allow(shared.db.close_until(last - random.random_range(60..80)))),
            5 => drop(shared.allow(shared.db.sync())),
            6 => drop(shared.db.metrics()),
            _ => {}
        }
        thread::sleep(Duration::from_micros(random.random_range(0..3000)));
    }
}

/// Lets a file call fail now and then, once or until further notice.
pub(super) fn fail(shared: &Shared, mut random: Random, _: u64) {
    let Files::Failing(files) = &shared.files else { return };
    while shared.going() {
        thread::sleep(Duration::from_millis(random.random_range(20..120)));
        let purposes = [
            None,
            Some(Purpose::Log),
            Some(Purpose::Manifest),
            Some(Purpose::Flush),
            Some(Purpose::Compaction),
            Some(Purpose::Current),
        ];
        files.inject(Fault {
            purpose: purposes[random.random_range(0..purposes.len())],
            operation: None,
            nth: random.random_range(0..20),
            kind: if random.random() { FaultKind::Io } else { FaultKind::StorageFull },
            repeat: random.random_range(0..4) == 0,
        });
        thread::sleep(Duration::from_millis(random.random_range(0..60)));
        files.clear();
    }
    files.clear();
}

/// After the threads: no fault is left.
pub(super) fn settle(shared: &Shared) {
    let began = Instant::now();
    while shared.db.background_error().is_some() {
        assert!(began.elapsed() < Duration::from_secs(30), "resume does not help: {:?}", shared.db.background_error());
        if let Err(error) = shared.db.resume() {
            crate::story::tell(format!("resume: {error}"));
        }
    }
    shared.db.sync().unwrap();
    shared.db.verify().unwrap();
}

/// Everything that was acknowledged can be read, at every timestamp from the floor on.
pub(super) fn check_all(shared: &Shared, db: &Db, pair: &[Keyspace; 2]) {
    let committed = shared.record.all();
    for keyspace in pair {
        let floor = keyspace.retained_from();
        let mut moments: Vec<_> = committed.range(floor..).flat_map(|(at, _)| [*at - 1, *at]).collect();
        moments.extend([floor, db.last_timestamp()]);
        for at in moments.into_iter().filter(|at| *at >= floor) {
            let expected = committed.range(..=at).next_back().map(|(_, value)| value.as_bytes());
            for n in [0, super::KEYS - 1] {
                let found = match keyspace.get_at(key(n), at) {
                    // A merge in the background has raised the floor since.
                    Err(Error::BelowRetained { .. }) if at < keyspace.retained_from() => continue,
                    found => found.unwrap(),
                };
                assert_eq!(found.as_deref(), expected, "{} at {at}, floor {floor}", key(n));
            }
        }
    }
}

/// The same after a reopen, of what a power cut has left where that can be had: all was synced before the end.
pub(super) fn check_reopened(shared: &Shared) {
    let db = match &shared.files {
        Files::Memory(files) => shared.options.clone().fs(files.power_cut(PowerCut::Lose)).open("db").unwrap(),
        Files::Failing(files) => shared.options.clone().fs(files.inner().power_cut(PowerCut::Lose)).open("db").unwrap(),
        files @ Files::Real(_) => files.open(shared.options.clone()),
    };
    let pair = ["one", "other"].map(|name| db.keyspace(name).unwrap());
    check_all(shared, &db, &pair);
    db.close().unwrap();
}
