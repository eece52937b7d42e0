//! RocksDB with versions, in the two ways that its users have. Both are set as the map is ([`super::rocksdb`]).
//!
//! [`Timestamps`]: user-defined timestamps, 8 bytes each, compared by the comparator that RocksDB brings along (found by
//! its name, so that no call goes through this process's code). To drop history is a compaction of everything with a
//! `full_history_ts_low`.
//!
//! [`Keys`]: inverted timestamps behind the key ([`versioned_key`]). Filters, of tables and of the memtable, are over the
//! key without the timestamp, and a read is a seek that does not leave the key. A compaction filter drops what is below
//! the floor, which is zero until [`Versions::drop_below`], and then a compaction of everything.

use std::cell::RefCell;
use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    BottommostLevelCompaction, Cache, CompactOptions, DB, DBRawIterator, Options, ReadOptions, SliceTransform,
    WriteOptions,
};

use super::rocksdb::{ROWS, block_options, common_options, count, settle, write_options};
use super::versioned_key::{self, Obsolete};
use crate::engine::{Result, Settings, Versions, touch};

pub struct Timestamps {
    db: DB,
    write: WriteOptions,
    /// Above all timestamps.
    latest: ReadOptions,
}

impl Timestamps {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let options = Options::default().get_options_from_string("comparator=leveldb.BytewiseComparator.u64ts")?;
        let mut options = common_options(options, settings)?;
        options.set_block_based_table_factory(&block_options(settings, &Cache::new_lru_cache(settings.cache_bytes)));
        let db = DB::open_cf_with_opts(&options, dir, [(ROWS, options.clone())])?;
        Ok(Self { db, write: write_options(settings), latest: as_of(u64::MAX) })
    }

    fn get_with(&self, key: &[u8], read: &ReadOptions) -> Result<bool> {
        Ok(self.db.get_pinned_opt(key, read)?.inspect(|value| touch(value)).is_some())
    }

    fn count_versions(&self, from: u64) -> Result<u64> {
        let mut read = as_of(u64::MAX);
        read.set_iter_start_ts(from.to_le_bytes());
        let mut rows = self.db.raw_iterator_opt(read);
        rows.seek_to_first();
        count(&mut rows, u64::MAX, false)
    }
}

/// The comparator takes timestamps in little endian.
fn as_of(timestamp: u64) -> ReadOptions {
    let mut read = ReadOptions::default();
    read.set_timestamp(timestamp.to_le_bytes());
    read
}

thread_local! {
    /// Made once a thread; its timestamp is set anew for each read.
    static AS_OF: RefCell<ReadOptions> = RefCell::new(ReadOptions::default());
}

impl Versions for Timestamps {
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()> {
        Ok(self.db.put_with_ts_opt(key, timestamp.to_le_bytes(), value, &self.write)?)
    }

    fn get(&self, key: &[u8]) -> Result<bool> {
        self.get_with(key, &self.latest)
    }

    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool> {
        AS_OF.with_borrow_mut(|read| {
            read.set_timestamp(timestamp.to_le_bytes());
            self.get_with(key, read)
        })
    }

    fn scan_at(&self, key: &[u8], timestamp: u64, keys: usize) -> Result<Option<usize>> {
        let mut rows = self.db.raw_iterator_opt(as_of(timestamp));
        rows.seek(key);
        Ok(Some(count(&mut rows, keys as u64, false)? as usize))
    }

    fn scan(&self) -> Result<u64> {
        let mut rows = self.db.raw_iterator_opt(as_of(u64::MAX));
        rows.seek_to_first();
        count(&mut rows, u64::MAX, false)
    }

    fn scan_versions(&self) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(0)?))
    }

    fn changes_since(&self, timestamp: u64) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(timestamp + 1)?))
    }

    fn drop_below(&self, timestamp: u64) -> Result<bool> {
        let mut options = CompactOptions::default();
        options.set_full_history_ts_low(timestamp.to_le_bytes());
        compact(&self.db, options)?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        settle(&self.db)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Everything, in the last level too, with no table rewritten twice.
fn compact(db: &DB, mut options: CompactOptions) -> Result<()> {
    db.flush()?;
    options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    // The call tells no errors; the wait for what it has started does.
    db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    settle(db)
}

pub struct Keys {
    db: DB,
    write: WriteOptions,
    floor: Arc<AtomicU64>,
}

impl Keys {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let floor = Arc::new(AtomicU64::new(0));
        let mut options = common_options(Options::default(), settings)?;
        let mut blocks = block_options(settings, &Cache::new_lru_cache(settings.cache_bytes));
        blocks.set_whole_key_filtering(false);
        options.set_block_based_table_factory(&blocks);
        options.set_prefix_extractor(SliceTransform::create("key", without_timestamp, Some(has_timestamp)));
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_compaction_filter_factory(DropObsolete(Arc::clone(&floor)));
        let db = DB::open_cf_with_opts(&options, dir, [(ROWS, options.clone())])?;
        Ok(Self { db, write: write_options(settings), floor })
    }

    /// An iterator that leaves keys.
    fn iterator(&self) -> DBRawIterator<'_> {
        let mut read = ReadOptions::default();
        read.set_total_order_seek(true);
        self.db.raw_iterator_opt(read)
    }

    /// How many keys there were as of a timestamp, of up to `keys`, among those at or above `key`.
    fn count_at(&self, key: &[u8], timestamp: u64, keys: u64) -> Result<u64> {
        let mut rows = self.iterator();
        let (mut target, mut counted) = (Vec::new(), Vec::new());
        let (mut found, mut steps) = (0, 0);
        rows.seek(key);
        while found < keys
            && let Some((versioned, value)) = rows.item()
        {
            let Some((key, at)) = versioned_key::decode(versioned) else { return Err("not a version".into()) };
            let passed = found > 0 && counted == key;
            if !passed && at <= timestamp {
                touch(value);
                found += 1;
                steps = 0;
                counted.clear();
                counted.extend_from_slice(key);
            }
            if steps < versioned_key::STEPS {
                steps += 1;
                rows.next();
            } else {
                // Past the versions that are too new, or, of a key that was counted, to its oldest.
                steps = 0;
                versioned_key::encode(key, if passed { 0 } else { timestamp }, &mut target);
                rows.seek(&target);
            }
        }
        rows.status()?;
        Ok(found)
    }

    fn count_versions(&self, above: u64) -> Result<u64> {
        let mut rows = self.iterator();
        let mut found = 0;
        rows.seek_to_first();
        while let Some((versioned, value)) = rows.item() {
            if versioned_key::decode(versioned).is_some_and(|(_, at)| at > above) {
                touch(value);
                found += 1;
            }
            rows.next();
        }
        rows.status()?;
        Ok(found)
    }
}

fn without_timestamp(versioned: &[u8]) -> &[u8] {
    versioned_key::decode(versioned).map_or(versioned, |(key, _)| key)
}

fn has_timestamp(versioned: &[u8]) -> bool {
    versioned.len() >= versioned_key::SUFFIX
}

impl Versions for Keys {
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()> {
        TARGET.with_borrow_mut(|versioned| {
            versioned_key::encode(key, timestamp, versioned);
            Ok(self.db.put_opt(versioned, value, &self.write)?)
        })
    }

    fn get(&self, key: &[u8]) -> Result<bool> {
        self.get_at(key, versioned_key::LATEST)
    }

    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool> {
        let mut read = ReadOptions::default();
        read.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_opt(read);
        TARGET.with_borrow_mut(|target| {
            versioned_key::encode(key, timestamp, target);
            rows.seek(target);
        });
        Ok(count(&mut rows, 1, false)? == 1)
    }

    fn scan_at(&self, key: &[u8], timestamp: u64, keys: usize) -> Result<Option<usize>> {
        Ok(Some(self.count_at(key, timestamp, keys as u64)? as usize))
    }

    fn scan(&self) -> Result<u64> {
        self.count_at(&[], versioned_key::LATEST, u64::MAX)
    }

    fn scan_versions(&self) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(0)?))
    }

    fn changes_since(&self, timestamp: u64) -> Result<Option<u64>> {
        Ok(Some(self.count_versions(timestamp)?))
    }

    fn drop_below(&self, timestamp: u64) -> Result<bool> {
        self.floor.store(timestamp, Ordering::Relaxed);
        compact(&self.db, CompactOptions::default())?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        settle(&self.db)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

thread_local! {
    static TARGET: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes the filter of each compaction.
struct DropObsolete(Arc<AtomicU64>);

impl CompactionFilterFactory for DropObsolete {
    type Filter = Obsolete;

    fn create(&mut self, _: CompactionFilterContext) -> Obsolete {
        Obsolete::below(self.0.load(Ordering::Relaxed))
    }

    fn name(&self) -> &CStr {
        c"obsolete versions"
    }
}

impl CompactionFilter for Obsolete {
    fn filter(&mut self, _: u32, versioned: &[u8], _: &[u8]) -> Decision {
        if self.drops(versioned) { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        c"obsolete versions"
    }
}
