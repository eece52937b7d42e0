//! fjall.
//!
//! Durability: by default each commit of fjall hands its journal to the operating system (`PersistMode::Buffer`), which
//! is the class asked for; for the other, `SyncData` follows each commit. Codec and filters are set for all levels alike:
//! by default it leaves the first levels uncompressed and gives them larger filters. Checksums of blocks are verified.
//!
//! Compactions are started by flushes only. So `settle` waits for those that were started, and levels may stand above
//! their target sizes then; there is no call that brings them down. It has no call for many keys.
//!
//! Versions: in the keys ([`versioned_key`]). Reads are ranges, for which it has no filters. A compaction filter drops
//! what is below the floor, which is zero until [`Versions::drop_below`], and then a major compaction.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::versioned_key::{self, Obsolete};
use crate::engine::{Map, Reader, Result, Settings, Versions, Writer, touch};

const POLL: Duration = Duration::from_millis(5);
/// In so many looks in a row nothing ran.
const STILL: usize = 10;
/// No drain of these workloads takes as long.
const BOUND: Duration = Duration::from_secs(1800);

pub struct Store {
    db: Database,
    rows: Keyspace,
    sync: bool,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        Self::open_with(dir, settings, None)
    }

    fn open_with(dir: &Path, settings: &Settings, filter: Option<Arc<dyn Factory>>) -> Result<Self> {
        let mut builder = Database::builder(dir)
            .cache_size(settings.cache_bytes as u64)
            .worker_threads(settings.background_threads)
            .manual_journal_persist(settings.sync);
        if let Some(filter) = filter {
            builder = builder.with_compaction_filter_factories(Arc::new(move |_| Some(Arc::clone(&filter))));
        }
        let db = builder.open()?;
        let rows = db.keyspace("rows", || row_options(settings))?;
        Ok(Self { db, rows, sync: settings.sync })
    }

    /// Makes a commit durable, where it is to be more than with the operating system.
    fn persist(&self) -> Result<()> {
        if self.sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn wait_for_compactions(&self) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        let started = Instant::now();
        let (mut still, mut done) = (0, 0);
        while still < STILL {
            if started.elapsed() > BOUND {
                return Err(format!("compactions were not done in {BOUND:?}").into());
            }
            std::thread::sleep(POLL);
            let now = self.db.compactions_completed();
            let busy = self.db.outstanding_flushes() + self.rows.sealed_memtable_count() + self.db.active_compactions();
            still = if busy == 0 && now == done { still + 1 } else { 0 };
            done = now;
        }
        Ok(())
    }
}

/// What both the map and the transactions are given.
pub fn row_options(settings: &Settings) -> KeyspaceCreateOptions {
    let bits = BloomConstructionPolicy::BitsPerKey(settings.filter_bits as f32);
    let codec = if settings.compression { CompressionType::Lz4 } else { CompressionType::None };
    KeyspaceCreateOptions::default()
        .max_memtable_size(settings.memtable_bytes as u64)
        .data_block_size_policy(BlockSizePolicy::all(settings.block_bytes as u32))
        .data_block_compression_policy(CompressionPolicy::all(codec))
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
        .manual_journal_persist(settings.sync)
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
        Ok(())
    }
}

impl Writer for &Store {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.insert(key, value)?;
        self.persist()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.rows.remove(key)?;
        self.persist()
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in rows {
            batch.insert(&self.rows, key, value);
        }
        batch.commit()?;
        self.persist()
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.rows.get(key)?.inspect(|value| touch(value)).is_some())
    }

    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        let mut found = 0;
        for key in keys {
            found += usize::from(self.get(key)?);
        }
        Ok(found)
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        Ok(count(self.rows.range(key..).take(rows))? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        let rows = usize::try_from(rows)?;
        if reverse { count(self.rows.iter().rev().take(rows)) } else { count(self.rows.iter().take(rows)) }
    }
}

fn count(rows: impl Iterator<Item = Guard>) -> Result<u64> {
    let mut found = 0;
    for row in rows {
        let (_, value) = row.into_inner()?;
        touch(&value);
        found += 1;
    }
    Ok(found)
}

pub struct History {
    store: Store,
    floor: Arc<AtomicU64>,
}

impl History {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let floor = Arc::new(AtomicU64::new(0));
        let store = Store::open_with(dir, settings, Some(Arc::new(DropObsolete(Arc::clone(&floor)))))?;
        Ok(Self { store, floor })
    }

    /// How many keys there were as of a timestamp, of up to `keys`, among those at or above `key`.
    fn count_at(&self, key: &[u8], timestamp: u64, keys: u64) -> Result<u64> {
        let rows = &self.store.rows;
        let mut iter = rows.range(key..);
        let (mut counted, mut found, mut steps): (Option<Vec<u8>>, u64, usize) = (None, 0, 0);
        while found < keys
            && let Some(row) = iter.next()
        {
            let (versioned, value) = row.into_inner()?;
            let Some((key, at)) = versioned_key::decode(&versioned) else { continue };
            steps += 1;
            if counted.as_deref() != Some(key) && at <= timestamp {
                touch(&value);
                found += 1;
                steps = 0;
                let counted = counted.get_or_insert_default();
                counted.clear();
                counted.extend_from_slice(key);
            } else if steps > SEEK_AFTER {
                // Past the versions that are too new, or, of a key that was counted, past all.
                let mut from = Vec::with_capacity(versioned.len());
                let target = if counted.as_deref() == Some(key) { 0 } else { timestamp };
                versioned_key::encode(key, target, &mut from);
                iter = rows.range(from..);
                steps = 0;
            }
        }
        Ok(found)
    }

    fn count_versions(&self, above: u64) -> Result<u64> {
        let mut found = 0;
        for row in self.store.rows.iter() {
            let (versioned, value) = row.into_inner()?;
            if versioned_key::decode(&versioned).is_some_and(|(_, at)| at > above) {
                touch(&value);
                found += 1;
            }
        }
        Ok(found)
    }
}

/// A new range costs as much as some hundred steps.
const SEEK_AFTER: usize = 100;

impl Versions for History {
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()> {
        let mut versioned = Vec::with_capacity(key.len() + versioned_key::SUFFIX);
        versioned_key::encode(key, timestamp, &mut versioned);
        self.store.rows.insert(versioned, value)?;
        self.store.persist()
    }

    fn get(&self, key: &[u8]) -> Result<bool> {
        self.get_at(key, versioned_key::LATEST)
    }

    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        versioned_key::encode(key, timestamp, &mut from);
        versioned_key::encode(key, 0, &mut to);
        let found = self.store.rows.range(from..=to).next().map(Guard::value).transpose()?;
        Ok(found.inspect(|value| touch(value)).is_some())
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
        self.store.rows.rotate_memtable_and_wait()?;
        self.store.rows.major_compact()?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.store.wait_for_compactions()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Makes the filter of each compaction.
struct DropObsolete(Arc<AtomicU64>);

impl Factory for DropObsolete {
    fn name(&self) -> &str {
        "obsolete versions"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Obsolete::below(self.0.load(Ordering::Relaxed)))
    }
}

impl CompactionFilter for Obsolete {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // No version is written twice, so nothing older can come to light.
        Ok(if self.drops(item.key()) { Verdict::Destroy } else { Verdict::Keep })
    }
}
