//! The first steps: open, write, read, commit a batch, take a snapshot, open again.
//!
//! ```text
//! cargo run --example quick_start -- [DIR]
//! ```
//!
//! Without `DIR` the database lies in a temporary directory that is removed at the end.

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use std::error::Error;
use std::path::PathBuf;

use strandline::{CommitOptions, Db, Durability, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| temporary.path().join("db"), PathBuf::from);

    let db = Db::open(&dir)?;
    let accounts = db.keyspace("accounts")?;
    let log = db.keyspace("log")?;

    // A write through the keyspace commits alone and returns its timestamp.
    let opened = accounts.put("alice", "100")?;
    accounts.put("bob", "20")?;

    // A batch commits as one, across keyspaces, here on stable storage before the call returns.
    let before = db.snapshot();
    let mut transfer = WriteBatch::new();
    transfer.put(&accounts, "alice", "70");
    transfer.put(&accounts, "bob", "50");
    transfer.put(&log, "transfer/1", "alice to bob: 30");
    let moved = db.commit_with(transfer, CommitOptions::new().durability(Durability::Synced))?;
    println!("opened at {opened}, moved at {moved}");

    // The snapshot still sees what was there before the batch; other reads see all of the batch.
    for (key, value) in [("alice", "100"), ("bob", "20")] {
        assert_eq!(before.get(&accounts, key)?.as_deref(), Some(value.as_bytes()));
    }
    for pair in accounts.range("a".."c") {
        let (key, value) = pair?;
        println!("{} has {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }

    // After reopening everything is there, timestamps included.
    db.close()?;
    let db = Db::open(&dir)?;
    assert_eq!(db.last_timestamp(), moved);
    assert_eq!(db.keyspace("accounts")?.get("alice")?.as_deref(), Some(&b"70"[..]));
    println!("reopened at {}", db.last_timestamp());
    db.close()?;
    Ok(())
}
