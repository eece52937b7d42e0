//! A state machine behind an outer log, as a replicated database has it: each entry is applied at its own timestamp,
//! together with its index, in one batch. Nothing is logged a second time (`Unlogged`); after a crash the outer log is
//! replayed from the index that is in the state. Applied twice, or in other batches, it comes to the same state, and no
//! clock decides anything.
//!
//! ```text
//! cargo run --example replay
//! ```

#![allow(clippy::print_stdout, reason = "a program, not the library")]

use strandline::fs::PowerCut;
use strandline::{
    Change, CommitOptions, Db, Durability, Keyspace, KeyspaceOptions, MemFs, Options, Result, Retention, WriteBatch,
};

/// An entry of the outer log: its timestamp is its index.
struct Entry {
    index: u64,
    key: String,
    /// `None`: to be deleted.
    value: Option<String>,
}

fn outer_log() -> Vec<Entry> {
    let entry = |index: u64| Entry {
        index,
        key: format!("key {}", index * 7 % 50),
        value: (!index.is_multiple_of(5)).then(|| format!("written by entry {index}")),
    };
    (1..=1000).map(entry).collect()
}

struct Machine {
    db: Db,
    state: Keyspace,
    meta: Keyspace,
}

impl Machine {
    fn open(fs: &MemFs) -> Result<Self> {
        // Late commits, so that an entry that is there already can be applied again.
        let db = Options::new().fs(fs.clone()).late_commits(true).memtable_bytes(16 << 10).open("machine")?;
        let kept = KeyspaceOptions::new().retention(Retention::Manual);
        let (state, meta) = (db.keyspace_with("state", kept.clone())?, db.keyspace_with("meta", kept)?);
        Ok(Self { db, state, meta })
    }

    fn applied(&self) -> Result<u64> {
        let index = self.meta.get("applied")?;
        Ok(index.and_then(|index| index.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    fn apply(&self, entry: &Entry) -> Result<()> {
        let mut batch = WriteBatch::new();
        match &entry.value {
            Some(value) => batch.put(&self.state, &entry.key, value),
            None => batch.delete(&self.state, &entry.key),
        }
        batch.put(&self.meta, "applied", entry.index.to_le_bytes());
        let options = CommitOptions::new().at(entry.index).durability(Durability::Unlogged);
        self.db.commit_with(batch, options).map(drop)
    }

    /// Everything that ever was.
    fn changes(&self) -> Result<Vec<Change>> {
        self.state.changes(1..)?.chain(self.meta.changes(1..)?).collect()
    }
}

fn main() -> Result<()> {
    let log = outer_log();
    let straight = Machine::open(&MemFs::new())?;
    log.iter().try_for_each(|entry| straight.apply(entry))?;

    // The power goes, again and again. What was not flushed is gone, whole entries of it; the log has it.
    let mut fs = MemFs::new();
    let mut crashes = Vec::new();
    for stop in [150, 420, 421, 900, 1000] {
        let machine = Machine::open(&fs)?;
        let applied = machine.applied()?;
        crashes.push(applied);
        // From some entries too early on: what is applied twice stays as it is.
        let from = applied.saturating_sub(10);
        log.iter()
            .filter(|entry| (from + 1..=stop).contains(&entry.index))
            .try_for_each(|entry| machine.apply(entry))?;
        if stop < 1000 {
            fs = fs.power_cut(PowerCut::Lose);
        } else {
            machine.db.flush()?;
            assert_eq!(machine.changes()?, straight.changes()?);
            assert_eq!(machine.applied()?, 1000);
        }
    }
    println!("{} entries, replayed from {crashes:?} after crashes: the same state and history", log.len());
    Ok(())
}
