//! Conditional commits and transactions: what conflicts and what does not, held against plain models.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod conditions;
mod own_writes;
mod races;

use strandline::{
    Background, CommitOptions, Compression, Db, Error, KeyspaceOptions, MemFs, Options, Result, Retention,
};

/// Small files and blocks, work step by step, late commits allowed.
fn stepped(fs: &MemFs) -> Db {
    let options = Options::new().fs(fs.clone()).background(Background::Stepped).late_commits(true);
    options.open("db").unwrap()
}

fn small(retention: Retention) -> KeyspaceOptions {
    let options = KeyspaceOptions::new().retention(retention).compression(Compression::None).block_bytes(256);
    options.target_file_bytes(4 << 10).level_base_bytes(16 << 10)
}

fn started(at: u64) -> CommitOptions {
    CommitOptions::new().started_at(at)
}

/// Of a conflict: keyspace, key, start, and what was found.
fn conflict<T: std::fmt::Debug>(result: Result<T>) -> (String, Vec<u8>, u64, u64) {
    match result {
        Err(Error::Conflict { keyspace, key, start, found }) => (keyspace.into(), key.into(), start, found),
        other => panic!("no conflict: {other:?}"),
    }
}
