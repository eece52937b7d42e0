//! strandline.
//!
//! Durability: `Buffered` is the class asked for, `Synced` the other. Both memtables that RocksDB has by default, the
//! active one and one that is flushed, are given here as `write_buffer_bytes`; the default would be twice that.
//! Checksums are always verified.
//!
//! It has no call that waits for compactions. They are over when its threads sleep ([`rest`]); and then there is what it
//! does only once no commit came for a second, dropping what is obsolete, which belongs to a settled tree too. What is
//! measured includes all that waiting.

use std::path::Path;
use std::time::{Duration, Instant};

use strandline::{
    Change, CommitOptions, Compression, Cursor, Db, Durability, Error, Isolation, Keyspace, KeyspaceOptions, Options,
    Retention, WriteBatch,
};

use super::rest;
use crate::engine::{Map, Reader, Result, Settings, Transactions, Versions, Writer, touch};

/// How long after the last commit its threads may take to find that all is quiet: they look once a second.
const QUIET: Duration = Duration::from_millis(3200);

pub struct Store {
    db: Db,
    rows: Keyspace,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        Self::open_with(dir, settings, Retention::Latest)
    }

    fn open_with(dir: &Path, settings: &Settings, retention: Retention) -> Result<Self> {
        let db = Options::new()
            .memtable_bytes(settings.memtable_bytes)
            .write_buffer_bytes(2 * settings.memtable_bytes)
            .block_cache_bytes(settings.cache_bytes)
            .background_threads(settings.background_threads)
            .durability(if settings.sync { Durability::Synced } else { Durability::Buffered })
            .open(dir)?;
        let options = KeyspaceOptions::new()
            .retention(retention)
            .compression(if settings.compression { Compression::Lz4 } else { Compression::None })
            .block_bytes(settings.block_bytes)
            .filter_bits_per_key(settings.filter_bits as f64);
        let rows = db.keyspace_with("rows", options)?;
        Ok(Self { db, rows })
    }

    fn cursor(&self) -> Cursor {
        self.db.snapshot().cursor(&self.rows)
    }

    fn wait_for_compactions(&self) -> Result<()> {
        self.db.flush()?;
        let flushed = Instant::now();
        rest::wait("strandline")?;
        while self.db.metrics().keyspaces.iter().any(|one| one.freeable_bytes > 0) && flushed.elapsed() < QUIET {
            std::thread::sleep(rest::POLL);
            rest::wait("strandline")?;
        }
        Ok(())
    }

    /// Level 0 is merged once nothing was written for a while and reads have looked through it long enough.
    fn wait_for_merges_for_reads(&self) -> Result<()> {
        let began = Instant::now();
        let waits =
            || self.db.metrics().keyspaces.iter().any(|one| one.levels.first().is_some_and(|level0| level0.files > 0));
        while waits() && began.elapsed() < QUIET {
            std::thread::sleep(rest::POLL);
            rest::wait("strandline")?;
        }
        rest::wait("strandline")
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
        self.wait_for_compactions()
    }

    fn settle_after_reads(&self) -> Result<()> {
        self.wait_for_merges_for_reads()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl Transactions for Store {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        let start = self.db.last_timestamp();
        let mut batch = WriteBatch::new();
        batch.put(&self.rows, key, value);
        committed(self.db.commit_with(batch, CommitOptions::new().started_at(start)))
    }

    fn update(&self, rows: [(&[u8], &[u8]); 2]) -> Result<bool> {
        let mut transaction = self.db.begin(Isolation::Snapshot)?;
        for (key, _) in rows {
            touch(&transaction.get(&self.rows, key)?.ok_or("a key is missing")?);
        }
        for (key, value) in rows {
            transaction.put(&self.rows, key, value)?;
        }
        committed(transaction.commit())
    }

    fn rows(&self) -> Result<u64> {
        Reader::scan(&mut &*self, false, u64::MAX)
    }

    fn settle(&self) -> Result<()> {
        self.wait_for_compactions()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

fn committed(result: strandline::Result<u64>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Writer for &Store {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.put(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.rows.delete(key)?;
        Ok(())
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in rows {
            batch.put(&self.rows, key, value);
        }
        self.db.commit(batch)?;
        Ok(())
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.rows.get(key)?.inspect(|value| touch(value)).is_some())
    }

    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        Ok(self.rows.multi_get(keys)?.iter().flatten().map(|value| touch(value)).count())
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        let mut cursor = self.cursor();
        cursor.seek(key)?;
        Ok(count(&mut cursor, rows as u64, false)? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        let mut cursor = self.cursor();
        if reverse {
            cursor.seek_to_last()?
        } else {
            cursor.seek_to_first()?
        }
        count(&mut cursor, rows, reverse)
    }
}

/// From where the cursor stands.
fn count(cursor: &mut Cursor, rows: u64, reverse: bool) -> Result<u64> {
    let mut found = 0;
    while found < rows
        && let Some((_, value)) = cursor.entry()
    {
        touch(value);
        found += 1;
        if found < rows {
            if reverse { cursor.prev()? } else { cursor.next()? }
        }
    }
    Ok(found)
}

/// Versions are its own: commits at given timestamps, a floor that only [`Versions::drop_below`] moves.
pub struct History(Store);

impl History {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        Ok(Self(Store::open_with(dir, settings, Retention::Manual)?))
    }
}

impl Versions for History {
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(&self.0.rows, key, value);
        self.0.db.commit_with(batch, CommitOptions::new().at(timestamp))?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<bool> {
        Ok(self.0.rows.get(key)?.inspect(|value| touch(value)).is_some())
    }

    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool> {
        Ok(self.0.rows.get_at(key, timestamp)?.inspect(|value| touch(value)).is_some())
    }

    fn scan_at(&self, key: &[u8], timestamp: u64, keys: usize) -> Result<Option<usize>> {
        let mut cursor = self.0.db.snapshot_at(timestamp)?.cursor(&self.0.rows);
        cursor.seek(key)?;
        Ok(Some(count(&mut cursor, keys as u64, false)? as usize))
    }

    fn scan(&self) -> Result<u64> {
        let mut cursor = self.0.cursor();
        cursor.seek_to_first()?;
        count(&mut cursor, u64::MAX, false)
    }

    /// Above a floor that was moved: the versions since, and for each key the one that is read at the floor.
    fn scan_versions(&self) -> Result<Option<u64>> {
        let floor = self.0.rows.retained_from();
        let mut found = 0;
        if floor > 0 {
            let mut cursor = self.0.db.snapshot_at(floor)?.cursor(&self.0.rows);
            cursor.seek_to_first()?;
            found = count(&mut cursor, u64::MAX, false)?;
        }
        Ok(self.changes_since(floor)?.map(|since| since + found))
    }

    fn changes_since(&self, timestamp: u64) -> Result<Option<u64>> {
        let mut found = 0;
        for change in self.0.rows.changes(timestamp + 1..)? {
            if let Change::Put { value, .. } = change? {
                touch(&value);
            }
            found += 1;
        }
        Ok(Some(found))
    }

    fn drop_below(&self, timestamp: u64) -> Result<bool> {
        self.0.db.retain_from(timestamp)?;
        self.0.rows.compact(..)?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.0.wait_for_compactions()
    }

    fn settle_after_reads(&self) -> Result<()> {
        self.0.wait_for_merges_for_reads()
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.db.close()?)
    }
}
