//! RocksDB.
//!
//! Durability: a commit writes its log record with `write(2)` before it returns, which is the class asked for; with
//! `sync` it waits for `fdatasync`. Checksums are verified on reads by default. Everything that is not in [`Settings`]
//! is the default: leveled compaction with dynamic level sizes, two memtables, index and filters of open tables in
//! memory beside the cache, an LRU cache.
//!
//! Tuned, it has what its users would turn on for these workloads without giving it more memory or threads, and without
//! other promises:
//!
//! - HyperClockCache, which readers do not have to lock;
//! - a hash index in data blocks, so that a point read does not search them;
//! - a filter over whole keys before the memtable, of 5 % of its size, so that reads of keys that are not in it do not
//!   search it;
//! - pipelined writes: the log of one group of commits beside the memtable of the one before;
//! - `bytes_per_sync`, so that a finished table does not wait for all of its bytes at once.
//!
//! Not turned on: a larger memtable count, `cache_index_and_filter_blocks` (slower where all fits), ribbon filters (less
//! memory, slower), `unordered_write` (snapshots change), mapped reads (checksums and cache are passed by), direct I/O,
//! subcompactions (threads beyond those given), larger blocks.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DBRawIterator, DataBlockIndexType, Options,
    ReadOptions, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::engine::{Map, Reader, Result, Settings, Writer, touch};

/// The column family that every database has. It is opened by name because the call for many keys asks for a handle.
pub const ROWS: &str = "default";

/// What both the map and the versions are given.
pub fn block_options(settings: &Settings, cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(settings.block_bytes);
    blocks.set_bloom_filter(settings.filter_bits as f64, false);
    blocks.set_block_cache(cache);
    blocks
}

/// As [`block_options`].
pub fn common_options(mut options: Options, settings: &Settings) -> Result<Options> {
    options.create_if_missing(true);
    options.set_write_buffer_size(settings.memtable_bytes);
    options.set_max_background_jobs(i32::try_from(settings.background_threads)?);
    options.set_compression_type(if settings.compression { DBCompressionType::Lz4 } else { DBCompressionType::None });
    Ok(options)
}

pub fn write_options(settings: &Settings) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(settings.sync);
    options
}

pub fn settle(db: &DB) -> Result<()> {
    db.flush()?;
    Ok(db.wait_for_compact(&WaitForCompactOptions::default())?)
}

/// From where the iterator stands.
pub fn count(rows: &mut DBRawIterator<'_>, most: u64, reverse: bool) -> Result<u64> {
    let mut found = 0;
    while found < most
        && let Some(value) = rows.value()
    {
        touch(value);
        found += 1;
        if found < most {
            if reverse { rows.prev() } else { rows.next() }
        }
    }
    rows.status()?;
    Ok(found)
}

pub struct Store {
    db: DB,
    write: WriteOptions,
    read: ReadOptions,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings, tuned: bool) -> Result<Self> {
        let mut options = common_options(Options::default(), settings)?;
        let cache = if tuned {
            Cache::new_hyper_clock_cache(settings.cache_bytes, 0)
        } else {
            Cache::new_lru_cache(settings.cache_bytes)
        };
        let mut blocks = block_options(settings, &cache);
        if tuned {
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.05);
            options.set_enable_pipelined_write(true);
            options.set_bytes_per_sync(1 << 20);
        }
        options.set_block_based_table_factory(&blocks);
        let db = DB::open_cf_with_opts(&options, dir, [(ROWS, options.clone())])?;
        Ok(Self { db, write: write_options(settings), read: ReadOptions::default() })
    }

    fn rows(&self) -> Result<&ColumnFamily> {
        Ok(self.db.cf_handle(ROWS).ok_or("no column family")?)
    }
}

impl Map for Store {
    fn writer(&self) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        settle(&self.db)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Writer for &Store {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.db.get_pinned_opt(key, &self.read)?.inspect(|value| touch(value)).is_some())
    }

    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        let mut found = 0;
        for value in self.db.batched_multi_get_cf_opt(self.rows()?, keys.iter().copied(), false, &self.read) {
            found += usize::from(value?.inspect(|value| touch(value)).is_some());
        }
        Ok(found)
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek(key);
        Ok(count(&mut iterator, rows as u64, false)? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        let mut iterator = self.db.raw_iterator();
        if reverse {
            iterator.seek_to_last()
        } else {
            iterator.seek_to_first()
        }
        count(&mut iterator, rows, reverse)
    }
}
