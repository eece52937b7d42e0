//! What a caller can choose: for a database ([`Options`]), for a keyspace ([`KeyspaceOptions`]), for a commit
//! ([`CommitOptions`]).
//!
//! Builders take and return themselves by value. They check nothing: `open`, `keyspace_with` and `commit_with` do, so
//! that a wrong value is an error with a name and never a panic.

mod commit;
mod keyspace;

pub use commit::CommitOptions;
pub(crate) use commit::Rewrite;
pub(crate) use keyspace::KeyspaceSettings;
pub use keyspace::{KeyspaceOptions, Retention};

use std::fmt;

use crate::fs::Fs;
use crate::seam::{SystemTime, Time};
use crate::sync::Arc;
use crate::{Error, Result};

/// Where the timestamps of commits come from that do not name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The last timestamp plus one.
    #[default]
    Counter,
    /// 48 bits of Unix milliseconds, then 16 bits of counter. Never runs backwards, not when the wall clock does and
    /// not across a reopen.
    Hybrid,
}

/// What a commit waits for before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: the batch is not written to the log. It becomes durable, whole, when its memtables are flushed; until
    /// then a crash loses it, whole.
    Unlogged,
    /// The operating system has the batch: it survives the process being killed, and a power cut once the system has
    /// written it back.
    #[default]
    Buffered,
    /// The batch is on stable storage, and visible only from then on. Concurrent commits share one sync.
    Synced,
}

/// Who runs flushes and compactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Background {
    /// Threads of the database's own.
    #[default]
    Threads,
    /// Nobody: work is done only inside calls that must wait for it, and in `Db::step_background`. With files and time
    /// that are simulated too, a run depends on the calls made and on nothing else.
    Stepped,
}

/// How a database is opened. Everything has a default that suits a server of moderate size.
///
/// ```
/// use strandline::{Clock, Durability, Options};
///
/// let options = Options::new().block_cache_bytes(512 << 20).clock(Clock::Hybrid).durability(Durability::Synced);
/// # let _ = options;
/// ```
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) create_if_missing: bool,
    pub(crate) error_if_exists: bool,
    pub(crate) read_only: bool,
    pub(crate) block_cache_bytes: usize,
    pub(crate) memtable_bytes: usize,
    pub(crate) write_buffer_bytes: usize,
    pub(crate) wal_segment_bytes: usize,
    pub(crate) wal_bytes: u64,
    pub(crate) max_open_files: usize,
    pub(crate) background_threads: usize,
    pub(crate) clock: Clock,
    pub(crate) late_commits: bool,
    pub(crate) durability: Durability,
    pub(crate) compaction_bytes_per_second: Option<u64>,
    /// `None`: the operating system's.
    pub(crate) fs: Option<Arc<dyn Fs>>,
    pub(crate) time: Arc<dyn Time>,
    pub(crate) background: Background,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create_if_missing: true,
            error_if_exists: false,
            read_only: false,
            block_cache_bytes: 128 << 20,
            memtable_bytes: 64 << 20,
            write_buffer_bytes: 256 << 20,
            wal_segment_bytes: 64 << 20,
            wal_bytes: 1 << 30,
            max_open_files: 1000,
            background_threads: 2,
            clock: Clock::Counter,
            late_commits: false,
            durability: Durability::Buffered,
            compaction_bytes_per_second: None,
            fs: None,
            time: Arc::new(SystemTime),
            background: Background::Threads,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a database is made where there is none; otherwise opening fails with `Io` (`NotFound`). Default: `true`.
    pub fn create_if_missing(mut self, yes: bool) -> Self {
        self.create_if_missing = yes;
        self
    }

    /// Whether opening a database that is already there is `InvalidArgument`. Default: `false`.
    pub fn error_if_exists(mut self, yes: bool) -> Self {
        self.error_if_exists = yes;
        self
    }

    /// Whether to open for reading only: what a crash of the writer at that moment would leave. Keeps no writer out,
    /// writes nothing, and does not follow the writer; a file deleted since gives `Io`, never a wrong answer. Default:
    /// `false`.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// How many bytes of decompressed blocks are kept in memory. `0` keeps none. Default: 128 MiB.
    pub fn block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// The size at which the memtable of a keyspace is sealed and flushed, in bytes. Default: 64 MiB.
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = bytes;
        self
    }

    /// How many bytes the memtables of all keyspaces may take together, sealed ones included; beyond it the largest is
    /// sealed, and writers slow down until flushes catch up. Default: 256 MiB.
    pub fn write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes;
        self
    }

    /// The length of a segment of the write-ahead log, in bytes; at least 4 KiB, and at most a quarter of
    /// [`wal_bytes`](Self::wal_bytes), since only whole segments are freed. A batch that is longer gets a segment of
    /// its own length. Default: 64 MiB.
    pub fn wal_segment_bytes(mut self, bytes: usize) -> Self {
        self.wal_segment_bytes = bytes;
        self
    }

    /// How long the log may grow, in bytes; beyond it the keyspace that holds the oldest log is flushed. Bounds both
    /// disk space and the time that opening takes to replay. Default: 1 GiB.
    pub fn wal_bytes(mut self, bytes: u64) -> Self {
        self.wal_bytes = bytes;
        self
    }

    /// How many tables are held open at most; with the one that was not read for longest goes what the block cache holds
    /// of it. Default: 1000.
    pub fn max_open_files(mut self, files: usize) -> Self {
        self.max_open_files = files;
        self
    }

    /// How many threads flush and compact. Default: 2.
    pub fn background_threads(mut self, threads: usize) -> Self {
        self.background_threads = threads;
        self
    }

    /// Where timestamps come from. Default: [`Clock::Counter`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Whether commits at or below the last timestamp are accepted. Default: `false`.
    pub fn late_commits(mut self, yes: bool) -> Self {
        self.late_commits = yes;
        self
    }

    /// The durability of a commit that names none. Default: [`Durability::Buffered`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many bytes compactions may write in a second; `None`: as many as they can. Default: `None`.
    pub fn compaction_bytes_per_second(mut self, bytes: Option<u64>) -> Self {
        self.compaction_bytes_per_second = bytes;
        self
    }

    /// The file system that the database lies in. Default: the operating system's.
    pub fn fs(mut self, fs: impl Fs) -> Self {
        self.fs = Some(Arc::new(fs));
        self
    }

    /// Where the time is read. For simulations. Default: [`SystemTime`].
    pub fn time(mut self, time: impl Time) -> Self {
        self.time = Arc::new(time);
        self
    }

    /// Who runs flushes and compactions. For simulations. Default: [`Background::Threads`].
    pub fn background(mut self, background: Background) -> Self {
        self.background = background;
        self
    }

    /// Refuses values that no database can work with.
    pub(crate) fn validate(&self) -> Result<()> {
        let zeros = [
            ("memtable_bytes", self.memtable_bytes == 0),
            ("write_buffer_bytes", self.write_buffer_bytes == 0),
            ("wal_segment_bytes", self.wal_segment_bytes == 0),
            ("wal_bytes", self.wal_bytes == 0),
            ("max_open_files", self.max_open_files == 0),
            ("background_threads", self.background_threads == 0 && self.background == Background::Threads),
            ("compaction_bytes_per_second", self.compaction_bytes_per_second == Some(0)),
        ];
        match zeros.iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(Error::invalid(format!("{name} must not be 0"))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("create_if_missing", &self.create_if_missing)
            .field("error_if_exists", &self.error_if_exists)
            .field("read_only", &self.read_only)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("write_buffer_bytes", &self.write_buffer_bytes)
            .field("wal_segment_bytes", &self.wal_segment_bytes)
            .field("wal_bytes", &self.wal_bytes)
            .field("max_open_files", &self.max_open_files)
            .field("background_threads", &self.background_threads)
            .field("clock", &self.clock)
            .field("late_commits", &self.late_commits)
            .field("durability", &self.durability)
            .field("compaction_bytes_per_second", &self.compaction_bytes_per_second)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_zero_sizes_are_refused_by_name() {
        assert!(Options::new().validate().is_ok());
        assert!(Options::new().block_cache_bytes(0).validate().is_ok());
        assert!(Options::new().background(Background::Stepped).background_threads(0).validate().is_ok());
        let cases = [
            ("memtable_bytes", Options::new().memtable_bytes(0)),
            ("write_buffer_bytes", Options::new().write_buffer_bytes(0)),
            ("wal_segment_bytes", Options::new().wal_segment_bytes(0)),
            ("wal_bytes", Options::new().wal_bytes(0)),
            ("max_open_files", Options::new().max_open_files(0)),
            ("background_threads", Options::new().background_threads(0)),
            ("compaction_bytes_per_second", Options::new().compaction_bytes_per_second(Some(0))),
        ];
        for (name, options) in cases {
            let error = options.validate().unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(name), "{error}");
        }
    }
}
