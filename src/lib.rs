//! An embedded, ordered key-value store: a log-structured merge tree whose keys carry commit timestamps from the
//! memtable to the last level, so that the past can be read as the present is.
//!
//! # Quick start
//!
//! ```
//! use strandline::{Db, KeyspaceOptions, Retention, WriteBatch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let db = Db::open(dir)?;
//! let accounts = db.keyspace_with("accounts", KeyspaceOptions::new().retention(Retention::Manual))?;
//!
//! let first = accounts.put("alice", "100")?;
//! let mut batch = WriteBatch::new();
//! batch.put(&accounts, "alice", "90");
//! batch.put(&accounts, "bob", "10");
//! let second = db.commit(batch)?;
//!
//! assert_eq!(accounts.get("alice")?.as_deref(), Some(&b"90"[..]));
//! assert_eq!(accounts.get_at("alice", first)?.as_deref(), Some(&b"100"[..]));
//!
//! let snapshot = db.snapshot();
//! accounts.delete("bob")?;
//! assert_eq!(snapshot.timestamp(), second);
//! assert_eq!(snapshot.iter(&accounts).count(), 2);
//! assert_eq!(accounts.iter().count(), 1);
//! db.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - A **timestamp** ([`Timestamp`]) is the commit time of a version, a `u64`. A commit has one for all that it writes.
//!   The [`Clock`] gives it, or the caller with [`CommitOptions::at`]. `0` is before everything and `u64::MAX` is
//!   reserved.
//! - A **version** is one key at one timestamp, with a value or a tombstone. A later write at the same timestamp
//!   replaces it. A read at a time sees the newest version at or below it. A version with an expiry
//!   ([`WriteBatch::put_expiring`]) counts as a tombstone for reads at or above that timestamp.
//! - A **batch** ([`WriteBatch`]) is what commits together, across keyspaces; every reader sees all of it or nothing.
//! - A **keyspace** ([`Keyspace`]) is a named, ordered map with its own tree, options and retention. All keyspaces of a
//!   database ([`Db`]) share its log, its manifest and its clock.
//! - The **floor** of a keyspace ([`Keyspace::retained_from`]) is how far back it can be read: exactly at and above it,
//!   not at all below ([`Error::BelowRetained`]). [`Retention`] says what moves it; only what it covers may be dropped.
//! - A **snapshot** ([`Snapshot`]) is the state of all keyspaces at one timestamp, [now](Db::snapshot) or
//!   [then](Db::snapshot_at). What it sees stays readable while it lives, also when the floor moves past it.
//! - A **conditional commit** ([`CommitOptions::started_at`]) fails if what it writes, or has read, was written since. A
//!   **transaction** ([`Db::begin`], [`Db::transact`]) reads at one time, through its own writes, and commits so; what it
//!   is kept from seeing is its [`Isolation`].
//! - A **subscription** ([`Db::subscribe`]) gives every change from a time on.
//! - A **late commit** is one at or below [the last timestamp](Db::last_timestamp). It is refused unless
//!   [`Options::late_commits`] is on; then it changes what that time was, for snapshots too, while iterators and
//!   cursors that were made before do not see it. [`Db::close_until`] promises that none comes at or below a timestamp
//!   any more.
//!
//! # Durability
//!
//! [`Durability`] says what a commit waits for: nothing (`Unlogged`), that the operating system has it (`Buffered`, the
//! default), or stable storage (`Synced`; concurrent commits share one sync). After a crash each batch is there wholly
//! or not at all, and a batch that is there has all logged ones before it. [`Db::sync`] makes everything so far
//! durable. [`Db::close`] does that too, and so does dropping the last handle, which can only log an error.
//!
//! # Errors
//!
//! Everything that can fail gives an [`Error`]; no public call panics on what it is given or on what lies on disk. What
//! cannot report where it stands (`WriteBatch::put`, [`Keyspace::range`]) reports at the commit or as the first item.
//! Damage is [`Error::Corruption`] with file and offset. A failed write, sync or compaction turns the database
//! read-only: reads go on, writes give [`Error::Background`], [`Db::resume`] tries again once the cause is gone.
//! [`Db::repair`] makes a database that opens of what damage has left.
//!
//! # What things cost
//!
//! - A point read takes no lock, but where it has to load a block. It looks into the memtables, then at most at one table
//!   of each level and the few of level 0, whose filters (in memory, some 10 bits a key) spare most of them. Reads of the
//!   present do not pass over history: old versions lie in blocks of their own. [`Keyspace::multi_get`] waits for the
//!   memory of several keys at once.
//! - A read as of a time searches the versions of its key by timestamp; it does not step over them.
//! - A range delete is one tombstone, however many keys it hides, until compaction removes them. A walk over what it hides
//!   mostly passes over it.
//! - A condition costs nothing where nothing was committed since its start; else a lookup for each key, and a walk over each
//!   range, in memtables and tables with anything newer. Other commits do not wait for it.
//! - A clone of a handle or of a [`Slice`] is O(1); a snapshot looks once at each keyspace. A `Slice` of more than 30
//!   bytes may keep the block that it lies in alive, one of more than 1 KiB its batch; an iterator keeps the
//!   memtables and tables that it was made over.
//! - [`Keyspace::history`] reads one key. [`Keyspace::changes`] walks the tables that hold something of that time.
//! - Memory: memtables ([`Options::write_buffer_bytes`], 256 MiB), cached blocks ([`Options::block_cache_bytes`], 128
//!   MiB), and the indexes and filters of open tables ([`Options::max_open_files`]).
//! - Opening replays the log, at most [`Options::wal_bytes`] or so; it does not depend on the number of rows.
//! - Background threads ([`Options::background_threads`], 2) flush and compact. Where they lag, writers are slowed
//!   down; [`Db::metrics`] says by how much.
//!
//! # Tests of your own
//!
//! [`MemFs`] keeps a database in memory and can lose power, [`FaultFs`] makes calls fail, [`ManualTime`] and
//! [`Background::Stepped`] make a run depend on nothing but the calls made.

// `unsafe` stands in three places only: `fs/mapped.rs`, `memtable/skiplist/`, and `prefetch.rs`.
#[forbid(unsafe_code)]
mod compaction;
#[forbid(unsafe_code)]
mod db;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod format;
pub mod fs;
#[cfg(fuzzing)]
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod fuzzing;
#[cfg(feature = "bench-layers")]
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod layers;
#[forbid(unsafe_code)]
mod log;
#[forbid(unsafe_code)]
mod manifest;
mod memtable;
#[forbid(unsafe_code)]
mod merge;
#[forbid(unsafe_code)]
mod options;
mod prefetch;
#[forbid(unsafe_code)]
mod seam;
#[forbid(unsafe_code)]
mod slice;
#[forbid(unsafe_code)]
mod sync;
#[forbid(unsafe_code)]
mod table;
#[forbid(unsafe_code)]
mod tally;
#[forbid(unsafe_code)]
mod timestamp;
#[forbid(unsafe_code)]
mod version;

pub use db::{
    Change, Changes, Cursor, Db, Event, History, Isolation, Iter, KeyRange, Keyspace, KeyspaceMetrics, LevelMetrics,
    LostFile, LostTable, ManifestFound, Metrics, Outcome, PreparedTransaction, RepairReport, RepairedKeyspace,
    Savepoint, Snapshot, SnapshotMetrics, Subscription, Transaction, TransactionIter, VerifyReport, WriteBatch,
};
pub use error::{Error, Result};
pub use format::codec::Compression;
pub use fs::{FaultFs, Fs, MemFs, StdFs};
pub use options::{Background, Clock, CommitOptions, Durability, KeyspaceOptions, Options, Retention};
pub use seam::{ManualTime, SystemTime, Time};
pub use slice::Slice;
pub use timestamp::Timestamp;
pub use version::Version;

/// The README's example runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
