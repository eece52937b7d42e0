//! fjall's optimistic transactions, which are serializable: what was read is checked, against the transactions that
//! committed meanwhile. Everything else as in [`super::fjall`].

use std::path::Path;

use fjall::{OptimisticTxDatabase, OptimisticTxKeyspace, Readable};

use super::fjall::row_options;
use crate::engine::{Result, Settings, Transactions, touch};

pub struct Store {
    db: OptimisticTxDatabase,
    rows: OptimisticTxKeyspace,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let db = OptimisticTxDatabase::builder(dir)
            .cache_size(settings.cache_bytes as u64)
            .worker_threads(settings.background_threads)
            .open()?;
        let rows = db.keyspace("rows", || row_options(settings))?;
        Ok(Self { db, rows })
    }
}

impl Transactions for Store {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        let mut transaction = self.db.write_tx()?;
        transaction.insert(&self.rows, key, value);
        Ok(transaction.commit()?.is_ok())
    }

    fn update(&self, rows: [(&[u8], &[u8]); 2]) -> Result<bool> {
        let mut transaction = self.db.write_tx()?;
        for (key, _) in rows {
            touch(&transaction.get(&self.rows, key)?.ok_or("a key is missing")?);
        }
        for (key, value) in rows {
            transaction.insert(&self.rows, key, value);
        }
        Ok(transaction.commit()?.is_ok())
    }

    fn rows(&self) -> Result<u64> {
        Ok(self.db.read_tx().len(&self.rows)? as u64)
    }

    fn settle(&self) -> Result<()> {
        self.rows.inner().rotate_memtable_and_wait()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
