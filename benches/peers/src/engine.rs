//! What a workload asks of an engine, and what every engine is given alike.
//!
//! An engine is opened in one of two ways: as an ordered map ([`Map`]), or as a map with versions ([`Versions`]). Each
//! thread of a workload has a [`Writer`] or a [`Reader`] of its own, so that an engine may keep there what its users
//! would keep in a thread: a handle, a buffer, a transaction. Nothing here is generic: the call through a table of
//! functions costs every engine the same.
//!
//! A value counts as read when its first and its last byte were touched ([`touch`]).

use std::error::Error;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// An engine under one of the settings that its users would choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Strandline,
    /// As the others are set; for versions, user-defined timestamps.
    RocksDb,
    /// With what its users would tune: see the adapter.
    RocksDbTuned,
    /// For versions only: inverted timestamps behind the key, and filters over the key without them.
    RocksDbKeys,
    /// For versions: as [`Kind::RocksDbKeys`].
    Fjall,
    /// For versions: its own.
    SurrealKv,
    Redb,
    Lmdb,
}

/// What all engines are given.
#[derive(Debug, Clone)]
pub struct Settings {
    pub memtable_bytes: usize,
    pub cache_bytes: usize,
    pub block_bytes: usize,
    pub filter_bits: usize,
    pub compression: bool,
    pub background_threads: usize,
    /// Whether a commit waits for stable storage; if not, it survives a killed process.
    pub sync: bool,
    /// How many bytes all that is written may take; for engines whose file has a bound (LMDB).
    #[cfg_attr(not(feature = "lmdb"), expect(dead_code, reason = "no engine here has such a bound"))]
    pub most_bytes: u64,
}

/// An ordered map.
pub trait Map: Send + Sync {
    fn writer(&self) -> Result<Box<dyn Writer + '_>>;
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;
    /// Until everything is in tables, no compaction runs, and none is due. Returns at once where there is nothing of
    /// the kind.
    fn settle(&self) -> Result<()>;
    /// After reads: until the engine has done what reads have it do.
    fn settle_after_reads(&self) -> Result<()> {
        self.settle()
    }
    /// Closes it well: what was written is there when it is opened again.
    fn close(self: Box<Self>) -> Result<()>;
}

pub trait Writer {
    /// One commit of one put, with the durability of the settings.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// One commit of one delete, without a read.
    fn delete(&mut self, key: &[u8]) -> Result<()>;
    /// One commit of many puts.
    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()>;
}

pub trait Reader {
    /// Whether it is there.
    fn get(&mut self, key: &[u8]) -> Result<bool>;
    /// How many of them are there, by the call that the engine has for many keys, if it has one.
    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize>;
    /// From the first key at or above `key`, by a fresh cursor: how many rows there were, of up to `rows`.
    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize>;
    /// How many rows there were, of up to `rows`, from one end on, by one cursor.
    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64>;
}

/// A map that keeps versions. Timestamps rise with the writes, from 1.
pub trait Versions: Send + Sync {
    /// One commit of one put at a timestamp.
    fn put(&self, key: &[u8], timestamp: u64, value: &[u8]) -> Result<()>;
    fn get(&self, key: &[u8]) -> Result<bool>;
    fn get_at(&self, key: &[u8], timestamp: u64) -> Result<bool>;
    /// How many keys there were as of a timestamp, of up to `keys`, from the first at or above `key` on. `None` where
    /// the engine does not offer it.
    fn scan_at(&self, key: &[u8], timestamp: u64, keys: usize) -> Result<Option<usize>>;
    /// How many keys there are in the present, by one scan over all of them.
    fn scan(&self) -> Result<u64>;
    /// How many versions there are, of all times, by one scan. `None` where the engine does not offer it.
    fn scan_versions(&self) -> Result<Option<u64>>;
    /// How many versions came after a timestamp. `None` where the engine does not offer it.
    fn changes_since(&self, timestamp: u64) -> Result<Option<u64>>;
    /// Drops what is not needed to read at or above a timestamp, until the space is back. False where the engine does
    /// not offer it.
    fn drop_below(&self, timestamp: u64) -> Result<bool>;
    /// As for [`Map`].
    fn settle(&self) -> Result<()>;
    /// As for [`Map`].
    fn settle_after_reads(&self) -> Result<()> {
        self.settle()
    }
    fn close(self: Box<Self>) -> Result<()>;
}

/// A map with optimistic transactions: they see the time when they began, and fail if somebody else has written what they
/// write since. What is read in them is also written, so it is checked too, whatever the engine checks of reads.
pub trait Transactions: Send + Sync {
    /// One put; false: a conflict.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<bool>;
    /// Two keys read and written again; false: a conflict.
    fn update(&self, rows: [(&[u8], &[u8]); 2]) -> Result<bool>;
    /// How many rows there are.
    fn rows(&self) -> Result<u64>;
    /// Until the memtables are in tables, at least.
    fn settle(&self) -> Result<()>;
    fn close(self: Box<Self>) -> Result<()>;
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Strandline,
        Self::RocksDb,
        Self::RocksDbTuned,
        Self::RocksDbKeys,
        Self::Fjall,
        Self::SurrealKv,
        Self::Redb,
        Self::Lmdb,
    ];

    /// As it is named in commands and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strandline => "strandline",
            Self::RocksDb => "rocksdb",
            Self::RocksDbTuned => "rocksdb-tuned",
            Self::RocksDbKeys => "rocksdb-keys",
            Self::Fjall => "fjall",
            Self::SurrealKv => "surrealkv",
            Self::Redb => "redb",
            Self::Lmdb => "lmdb",
        }
    }

    /// Whether the ratios are between this one and the others like it. The rest is there to see where they stand.
    pub fn is_compared(self) -> bool {
        matches!(self, Self::Strandline | Self::RocksDb | Self::RocksDbKeys)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The first and the last byte of a value.
#[inline]
pub fn touch(value: &[u8]) {
    std::hint::black_box((value.first().copied(), value.last().copied()));
}
