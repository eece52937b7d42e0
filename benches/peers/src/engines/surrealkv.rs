//! SurrealKV.
//!
//! Durability: with `Eventual` a commit's log records are with the operating system when it returns, which is the class
//! asked for; `Immediate` is the other. It knows no LZ4: Snappy, the nearest, is taken for all levels. Its default filter
//! has 10 bits a key; other numbers are refused. Checksums of blocks are verified. It flushes and compacts as tasks of a
//! tokio runtime, which gets the background threads; commits are awaited on the thread that makes them, as from any
//! program that is not asynchronous itself. Each read takes a transaction of its own. It has no call for many keys, and
//! none that waits for compactions: `settle` flushes, and waits until the runtime's threads rest ([`rest`]).
//!
//! Versions are its own, at given timestamps. There is no scan as of a time. How long they are kept is an age by the wall
//! clock, fixed when it is opened, not a timestamp: it cannot be told to drop what is below one.

use std::path::Path;

use surrealkv::{
    CompactRangeOptions, CompressionType, Durability, Error, HistoryOptions, LSMIterator, Mode, Options, Transaction,
    Tree, TreeBuilder,
};
use tokio::runtime::Runtime;

use super::rest;
use crate::engine::{Map, Reader, Result, Settings, Transactions, Versions, Writer, touch};

/// The bits a key of the filter that it has by default.
const FILTER_BITS: usize = 10;

/// The name of the runtime's threads.
const THREADS: &str = "surrealkv";

/// Above all keys of the workloads: its history asks for an end.
const END: [u8; 64] = [0xff; 64];

pub struct Store {
    tree: Tree,
    runtime: Runtime,
    durability: Durability,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings, versions: bool) -> Result<Self> {
        if settings.filter_bits != FILTER_BITS {
            return Err(format!("SurrealKV's filter has {FILTER_BITS} bits a key").into());
        }
        let codec = if settings.compression { CompressionType::SnappyCompression } else { CompressionType::None };
        let options = Options::new()
            .with_path(dir.to_path_buf())
            .with_max_memtable_size(settings.memtable_bytes)
            .with_block_cache_capacity(settings.cache_bytes as u64)
            .with_block_size(settings.block_bytes)
            .with_compression_per_level(vec![codec])
            .with_versioning(versions, 0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.background_threads)
            .thread_name(THREADS)
            .build()?;
        let tree = {
            let _entered = runtime.enter();
            TreeBuilder::with_options(options).build()?
        };
        let durability = if settings.sync { Durability::Immediate } else { Durability::Eventual };
        Ok(Self { tree, runtime, durability })
    }

    fn begin(&self) -> Result<Transaction> {
        Ok(self.tree.begin_with_mode(Mode::WriteOnly)?.with_durability(self.durability))
    }

    fn commit(&self, mut transaction: Transaction) -> std::result::Result<(), Error> {
        self.runtime.block_on(transaction.commit())
    }

    /// Every commit of SurrealKV is a transaction's, and conflicts with one that wrote the same key meanwhile: it is made
    /// anew, as its users do.
    fn commit_one(&self, write: impl Fn(&mut Transaction) -> std::result::Result<(), Error>) -> Result<()> {
        loop {
            let mut transaction = self.begin()?;
            write(&mut transaction)?;
            match self.commit(transaction) {
                Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
                result => return Ok(result?),
            }
        }
    }

    fn read(&self) -> Result<Transaction> {
        Ok(self.tree.begin_with_mode(Mode::ReadOnly)?)
    }

    fn found(&self, key: &[u8]) -> Result<bool> {
        Ok(self.read()?.get(key)?.inspect(|value| touch(value)).is_some())
    }

    fn count_all(&self, reverse: bool, most: u64) -> Result<u64> {
        let transaction = self.read()?;
        let mut rows = transaction.iter()?;
        if reverse {
            rows.seek_last()?
        } else {
            rows.seek_first()?
        };
        count(&mut rows, most, reverse)
    }

    fn count_versions(&self, from: u64) -> Result<u64> {
        let transaction = self.read()?;
        let options = HistoryOptions::new().with_ts_range(from, u64::MAX);
        let mut rows = transaction.history_with_options(&[][..], &END[..], &options)?;
        rows.seek_first()?;
        count(&mut rows, u64::MAX, false)
    }

    fn wait_for_compactions(&self) -> Result<()> {
        // Down to level 0: the memtables are flushed and nothing is compacted.
        let flush = CompactRangeOptions { flush_memtable: true, target_level: Some(0), rewrite_bottommost: false };
        self.tree.compact_range(None, None, &flush)?;
        rest::wait(THREADS)
    }

    fn shut(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

impl Transactions for Store {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        let mut transaction = self.begin()?;
        transaction.set(key, value)?;
        committed(self.commit(transaction))
    }

    fn update(&self, rows: [(&[u8], &[u8]); 2]) -> Result<bool> {
        let mut transaction = self.tree.begin_with_mode(Mode::ReadWrite)?.with_durability(self.durability);
        for (key, _) in rows {
            touch(&transaction.get(key)?.ok_or("a key is missing")?);
        }
        for (key, value) in rows {
            transaction.set(key, value)?;
        }
        committed(self.commit(transaction))
    }

    fn rows(&self) -> Result<u64> {
        self.count_all(false, u64::MAX)
    }

    fn settle(&self) -> Result<()> {
        self.wait_for_compactions()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.shut()
    }
}

fn committed(result: std::result::Result<(), Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::TransactionWriteConflict | Error::TransactionRetry) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// From where the iterator stands.
fn count(rows: &mut impl LSMIterator, most: u64, reverse: bool) -> Result<u64> {
    let mut found = 0;
    while found < most && rows.valid() {
        touch(&rows.value_ref()?);
        found += 1;
        if found < most {
            if reverse {
                rows.prev()?
            } else {
                rows.next()?
            };
        }
    }
    Ok(found)
}

impl Map for Store {
    fn writer(&self) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        self.wait_for_compactions()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.shut()
    }
}

impl Writer for &Store {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit_one(|transaction| transaction.set(key, value))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.commit_one(|transaction| transaction.delete(key))
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        let mut transaction = self.begin()?;
        for (key, value) in rows {
            transaction.set(key, value)?;
        }
        Ok(self.commit(transaction)?)
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        self.found(key)
    }

    /// In one transaction.
    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        let transaction = self.read()?;
        let mut found = 0;
        for key in keys {
            found += usize::from(transaction.get(*key)?.inspect(|value| touch(value)).is_some());
        }
        Ok(found)
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        let transaction = self.read()?;
        let mut range = transaction.scan(key..)?;
        range.seek_first()?;
        Ok(count(&mut range, rows as u64, false)? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        self.count_all(reverse, rows)
    }
}

impl Versions for Store {
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()> {
        self.commit_one(|transaction| transaction.set_at(key, value, timestamp))
    }

    fn get(&self, key: &[u8]) -> Result<bool> {
        self.found(key)
    }

    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool> {
        Ok(self.read()?.get_at(key, timestamp)?.inspect(|value| touch(value)).is_some())
    }

    fn scan_at(&self, _: &[u8], _: u64, _: usize) -> Result<Option<usize>> {
        Ok(None)
    }

    fn scan(&self) -> Result<u64> {
        self.count_all(false, u64::MAX)
    }

    fn scan_versions(&self) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(0)?))
    }

    fn changes_since(&self, timestamp: u64) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(timestamp + 1)?))
    }

    fn drop_below(&self, _: u64) -> Result<bool> {
        Ok(false)
    }

    fn settle(&self) -> Result<()> {
        self.wait_for_compactions()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.shut()
    }
}
