//! fjall's optimistic transactions, which are serializable: what was read is checked, against the transactions that
//! committed meanwhile. Everything else as in [`super::fjall`].

use std::path::Path;

use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, Readable};

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
        let bits = BloomConstructionPolicy::BitsPerKey(settings.filter_bits as f32);
        let codec = if settings.compression { CompressionType::Lz4 } else { CompressionType::None };
        let rows = db.keyspace("rows", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.memtable_bytes as u64)
                .data_block_size_policy(BlockSizePolicy::all(settings.block_bytes as u32))
                .data_block_compression_policy(CompressionPolicy::all(codec))
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
        })?;
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
