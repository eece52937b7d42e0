//! The database that is damaged.

use std::path::Path;

use strandline::fs::Purpose;
use strandline::{Fs, MemFs, Retention};

use crate::support::{Dice, Model, batch_of, small, small_keyspace};

/// A small database with everything in it: tables in several levels with history and range tombstones, and a log.
pub(crate) fn specimen() -> (MemFs, Model) {
    let fs = MemFs::new();
    let db = small(&fs).memtable_bytes(1 << 20).open("db").unwrap();
    let keyspace = db.keyspace_with("k", small_keyspace().retention(Retention::Manual)).unwrap();
    let (mut model, mut dice) = (Model::default(), Dice::new(11));
    let mut commit = |count: u32| {
        for _ in 0..count {
            let ops = dice.ops(model.last);
            model.commit(db.commit(batch_of(&keyspace, &ops)).unwrap(), &ops);
        }
    };
    commit(30);
    db.compact().unwrap();
    commit(10);
    db.flush().unwrap();
    commit(10);
    drop(keyspace);
    db.close().unwrap();
    (fs, model)
}

pub(crate) fn files(fs: &MemFs) -> Vec<String> {
    let entries = fs.list(Purpose::Directory, Path::new("db")).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(|name| name != "LOCK").collect()
}
