//! RocksDB's optimistic transactions: no locks; a commit checks the keys that it writes against memtables.
//!
//! Everything else as in [`super::rocksdb`]. A transaction has a snapshot, which its reads are of; what it reads it also
//! writes here, so that its reads are checked as well.

use std::path::Path;

use rocksdb::{Cache, IteratorMode, OptimisticTransactionDB, OptimisticTransactionOptions, Options, WriteOptions};

use super::rocksdb::{block_options, common_options, write_options};
use crate::engine::{Result, Settings, Transactions, touch};

pub struct Store {
    db: OptimisticTransactionDB,
    write: WriteOptions,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let mut options = common_options(Options::default(), settings)?;
        let cache = Cache::new_lru_cache(settings.cache_bytes);
        options.set_block_based_table_factory(&block_options(settings, &cache));
        Ok(Self { db: OptimisticTransactionDB::open(&options, dir)?, write: write_options(settings) })
    }

    fn begin(&self) -> rocksdb::Transaction<'_, OptimisticTransactionDB> {
        let mut options = OptimisticTransactionOptions::default();
        options.set_snapshot(true);
        self.db.transaction_opt(&self.write, &options)
    }
}

fn committed(result: std::result::Result<(), rocksdb::Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        // A conflict, or memtables that do not reach back far enough to tell.
        Err(error) if matches!(error.kind(), rocksdb::ErrorKind::Busy | rocksdb::ErrorKind::TryAgain) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Transactions for Store {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        let transaction = self.begin();
        transaction.put(key, value)?;
        committed(transaction.commit())
    }

    fn update(&self, rows: [(&[u8], &[u8]); 2]) -> Result<bool> {
        let transaction = self.begin();
        for (key, _) in rows {
            touch(&transaction.get_pinned(key)?.ok_or("a key is missing")?);
        }
        for (key, value) in rows {
            transaction.put(key, value)?;
        }
        committed(transaction.commit())
    }

    fn rows(&self) -> Result<u64> {
        let mut rows = 0;
        for row in self.db.iterator(IteratorMode::Start) {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    fn settle(&self) -> Result<()> {
        // It has no call that waits for compactions; what is measured here is over by then.
        Ok(self.db.flush()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
