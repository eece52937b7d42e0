//! A table in memory: written as a flush does, read through a cache that holds all of it.

use std::path::Path;

use super::{Direction, Row, touch, walk};
use crate::format::FileNumber;
use crate::format::codec::Compression;
use crate::fs::{Fs, MemFs, Purpose};
use crate::sync::Arc;
use crate::table::{BlockCache, Caching, TableCursor, TableMeta, TableOptions, TableReader, TableWriter};
use crate::{Result, Timestamp};

const DIR: &str = "db";
const NUMBER: FileNumber = FileNumber(7);
/// What a keyspace has by default.
const OPTIONS: TableOptions =
    TableOptions { block_bytes: 4096, compression: Compression::Lz4, filter_bits_per_key: 10.0 };
/// What a database has by default.
const CACHE_BYTES: u64 = 128 << 20;

/// Writes a table of rows, which are in order; says how long the file is.
///
/// # Errors
/// The rows are not in order.
pub fn write_table(rows: &[Row]) -> Result<u64> {
    write(rows).map(|(_, meta)| meta.bytes)
}

fn write(rows: &[Row]) -> Result<(Arc<dyn Fs>, TableMeta)> {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let dir = Path::new(DIR);
    fs.create_dir(Purpose::Directory, dir).map_err(|error| crate::Error::io(dir, error))?;
    let mut writer = TableWriter::create(&fs, Purpose::Flush, dir, NUMBER, OPTIONS)?;
    for versions in rows.chunk_by(|row, next| row.key == next.key) {
        let Some(newest) = versions.first() else { continue };
        writer.begin_key(&newest.key)?;
        versions.iter().try_for_each(|row| writer.version(row.version()))?;
        writer.end_key()?;
    }
    let meta = writer.finish()?;
    Ok((fs, meta))
}

/// A table that is read.
pub struct Table(Arc<TableReader>);

impl Table {
    /// A table of rows, which are in order. Nothing of it is in the cache yet.
    ///
    /// # Errors
    /// The rows are not in order.
    pub fn of(rows: &[Row]) -> Result<Self> {
        let (fs, meta) = write(rows)?;
        let cache = Arc::new(BlockCache::new(CACHE_BYTES));
        TableReader::open(&fs, Path::new(DIR), meta.number, cache, Arc::default()).map(|reader| Self(Arc::new(reader)))
    }

    /// Whether there is a version of `key` at or below `timestamp`.
    ///
    /// # Errors
    /// The table is damaged.
    pub fn get(&self, key: &[u8], timestamp: Timestamp) -> Result<bool> {
        let value = self.0.get(key, timestamp)?.and_then(|version| version.value);
        Ok(value.inspect(|value| touch(value)).is_some())
    }

    /// Visits every key; says how many had a version at or below `timestamp`.
    ///
    /// # Errors
    /// The table is damaged.
    pub fn scan(&self, direction: Direction, timestamp: Timestamp) -> Result<u64> {
        walk(&mut TableCursor::new(Arc::clone(&self.0), Caching::Fill), direction, timestamp)
    }
}
