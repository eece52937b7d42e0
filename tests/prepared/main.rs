//! Prepared transactions: what they keep others from, what becomes of them, and that they survive.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod deciding;
mod failures;
mod lives;
mod locks;

use std::fmt::Debug;

use strandline::{Background, Db, Error, Isolation, Keyspace, MemFs, Options, Result, Slice};

/// Small memtables and segments, work step by step, late commits allowed.
fn options(fs: &MemFs) -> Options {
    let options = Options::new().fs(fs.clone()).background(Background::Stepped).late_commits(true);
    options.memtable_bytes(4 << 10).wal_bytes(64 << 10).wal_segment_bytes(8 << 10)
}

fn open(fs: &MemFs) -> (Db, Keyspace) {
    let db = options(fs).open("db").unwrap();
    let keyspace = db.keyspace("ks").unwrap();
    (db, keyspace)
}

/// Prepares a transaction that puts `value` under `keys`.
fn prepare(db: &Db, id: &str, keys: &[&str], value: &str) -> Result<u64> {
    let keyspace = db.keyspace("ks")?;
    let mut tx = db.begin(Isolation::Snapshot)?;
    keys.iter().try_for_each(|key| tx.put(&keyspace, key, value))?;
    tx.prepare(id)
}

fn ids(db: &Db) -> Vec<Slice> {
    db.prepared().into_iter().map(|one| one.id).collect()
}

fn is_busy<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Busy { reason }) => reason.into(),
        other => panic!("not busy: {other:?}"),
    }
}
