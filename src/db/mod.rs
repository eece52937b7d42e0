//! What users hold: the database, its keyspaces, snapshots, iterators. The engine behind them is put together here from
//! the layers below.
//!
//! [`world`] is what reads look at, [`pipeline`] the order of commits, [`commit`] and [`flush`] the way from a batch to
//! tables, `retention` the floors, `background` who does the work, `open`, `close` and `resume` how it begins, ends,
//! and goes on after a failure.

mod attempts;
mod background;
mod batch;
#[cfg(fuzzing)]
pub(crate) use batch::fuzzing;
#[cfg(feature = "bench-layers")]
pub(crate) use batch::{Body, OpKind, Operations, Target};
mod clock;
mod close;
mod commit;
mod compaction_job;
mod condition;
mod current;
mod cursor;
mod detours;
mod engine;
mod few;
mod flush;
mod handle;
mod history;
mod keyspace;
mod keyspaces;
#[cfg(all(test, loom))]
mod loom_tests;
mod merge_job;
mod metrics;
mod open;
mod origin;
mod pipeline;
mod prepared;
mod pressure;
mod range;
mod read;
mod record;
mod repair;
mod resume;
mod retention;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod snapshot;
mod subscription;
mod transaction;
mod verify;
mod world;

pub use batch::WriteBatch;
pub use cursor::{Cursor, Iter};
pub use history::{Change, Changes, History};
pub use keyspace::Keyspace;
pub use metrics::{KeyspaceMetrics, LevelMetrics, Metrics, SnapshotMetrics};
pub use prepared::{Outcome, PreparedTransaction};
pub use range::KeyRange;
pub use repair::{LostFile, LostTable, ManifestFound, RepairReport, RepairedKeyspace};
pub use snapshot::Snapshot;
pub use subscription::{Event, Subscription};
pub use transaction::{Isolation, Savepoint, Transaction, TransactionIter};
pub use verify::VerifyReport;

use std::fmt;
use std::path::Path;

use crate::options::{CommitOptions, KeyspaceOptions, Options};
use crate::sync::Arc;
use crate::{Error, Result, Timestamp};
use handle::Session;

/// An open database. Cheap to clone; all clones are the same database, which is closed when the last handle of it
/// (keyspaces, snapshots and iterators are such too) is dropped, or by [`close`](Self::close).
///
/// Every method gives `Closed` after the database was closed.
#[derive(Clone)]
pub struct Db {
    session: Arc<Session>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("dir", &self.engine().dir).finish_non_exhaustive()
    }
}

impl Db {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    fn engine(&self) -> &Arc<engine::Engine> {
        self.session.engine()
    }

    /// Opens the database in `dir` with default options; makes it if there is none.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(dir)
    }

    /// Flushes what must be, ends every handle and frees the lock. Later calls on any handle give `Closed`.
    ///
    /// # Errors
    /// What failed to be made durable; the database is closed all the same. `Closed` if it was closed before.
    pub fn close(&self) -> Result<()> {
        self.engine().check_open()?;
        self.engine().close()
    }

    // ---- keyspaces ----

    /// The keyspace of this name: opened with its own options, or made with the default ones.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty name; `TooLarge` for one of more than 65,535 bytes; `UnknownKeyspace` if there is none and the database was opened for reading
    /// only.
    pub fn keyspace(&self, name: impl AsRef<str>) -> Result<Keyspace> {
        self.keyspace_with(name, KeyspaceOptions::new())
    }

    /// The keyspace of this name, made with `options` if there is none.
    ///
    /// # Errors
    /// As [`keyspace`](Self::keyspace), and `InvalidArgument` where an option that is given differs from the one that
    /// the keyspace is kept with.
    #[expect(clippy::needless_pass_by_value, reason = "options are given away, as to every builder's end")]
    pub fn keyspace_with(&self, name: impl AsRef<str>, options: KeyspaceOptions) -> Result<Keyspace> {
        let core = self.engine().open_keyspace(name.as_ref(), &options)?;
        Ok(Keyspace::new(Arc::clone(&self.session), core))
    }

    /// The names of all keyspaces, sorted.
    #[must_use]
    pub fn keyspace_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.engine().world().keyspaces().iter().map(|one| one.core.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Drops a keyspace and all that it holds, durably. Snapshots and iterators made before go on reading it; its files
    /// go with the last of them.
    ///
    /// # Errors
    /// `UnknownKeyspace` if there is none of this name; `Busy` while a prepared transaction has read or will write in it.
    pub fn drop_keyspace(&self, name: impl AsRef<str>) -> Result<()> {
        self.engine().drop_keyspace(name.as_ref())
    }

    // ---- writing ----

    /// Commits a batch at the next timestamp, which it returns.
    ///
    /// # Errors
    /// As [`commit_with`](Self::commit_with).
    pub fn commit(&self, batch: WriteBatch) -> Result<Timestamp> {
        self.engine().commit(batch, &CommitOptions::new())
    }

    /// Commits a batch as `options` say and returns its timestamp. All of it is visible at once, to every reader; of an
    /// error nothing is (but a commit whose sync failed is undecided until the database is reopened or resumed).
    ///
    /// # Errors
    /// `LateCommit` and `BelowRetained` for a timestamp that may not be committed at (any more); `Busy` where a transaction
    /// lives that would see it in its past, and where a prepared one is in the way ([`Transaction::prepare`]); of a condition ([`CommitOptions::started_at`]) `Conflict`, and `BelowRetained`
    /// or `FutureTimestamp` for its start; `InvalidArgument` for timestamp 0 or `u64::MAX`, one at or below the start, a
    /// keyspace of another database, or a clock with nothing left; `TooLarge`; `UnknownKeyspace`; `ReadOnly`; `Background`
    /// after a failure that turned the database read-only.
    #[expect(clippy::needless_pass_by_value, reason = "options are given away, as to every builder's end")]
    pub fn commit_with(&self, batch: WriteBatch, options: CommitOptions) -> Result<Timestamp> {
        self.engine().commit(batch, &options)
    }

    /// Makes every commit before this call durable, unlogged ones included.
    ///
    /// # Errors
    /// `Io` and `Background`: what is durable is not known then until the database is reopened.
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// Accepts no commit at or below `timestamp` from now on, durably; the clock goes on above it.
    ///
    /// # Errors
    /// `InvalidArgument` for `u64::MAX`; `Busy` above what a prepared transaction may have to be committed at, with late
    /// commits; else as [`sync`](Self::sync).
    pub fn close_until(&self, timestamp: Timestamp) -> Result<()> {
        self.engine().close_until(timestamp)
    }

    /// No commit at or below this is accepted any more: the highest [`close_until`](Self::close_until), and without
    /// late commits at least the last timestamp.
    #[must_use]
    pub fn closed_timestamp(&self) -> Timestamp {
        self.engine().closed()
    }

    /// The highest commit that is visible; 0 before the first. After a crash at least the start of every prepared transaction.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.engine().current.horizon().last_timestamp
    }

    // ---- reading ----

    /// A snapshot at the last timestamp.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::latest(&self.session)
    }

    /// A snapshot at `timestamp`.
    ///
    /// # Errors
    /// `FutureTimestamp` above both the last and the closed timestamp; `BelowRetained` under the floor of every
    /// keyspace (one whose own floor is above it answers `BelowRetained` itself).
    pub fn snapshot_at(&self, timestamp: Timestamp) -> Result<Snapshot> {
        self.engine().check_open()?;
        Snapshot::at(&self.session, timestamp)
    }

    /// Every change from timestamp `from` on: what is retained, then what is committed, in all keyspaces that keep history.
    ///
    /// # Errors
    /// `BelowRetained` if the floor of such a keyspace is at or above `from`, `Closed`.
    pub fn subscribe(&self, from: Timestamp) -> Result<Subscription> {
        self.engine().check_open()?;
        Subscription::new(&self.session, from)
    }

    // ---- retention and care ----

    /// Moves the floor of all `Manual` keyspaces up to `timestamp`, durably, before anything is dropped by it, and
    /// returns the floor in force. A lower one changes nothing. With late commits it goes no further than prepared
    /// transactions that will write to such a keyspace need it.
    ///
    /// # Errors
    /// `InvalidArgument` for 0, `FutureTimestamp` above the last timestamp.
    pub fn retain_from(&self, timestamp: Timestamp) -> Result<Timestamp> {
        self.engine().retain_from(timestamp)
    }

    /// Writes all memtables to tables and waits for it. Every commit before this call is durable then, and more
    /// than 1 MiB of log that nothing needs any more is gone.
    ///
    /// # Errors
    /// `Background` if that failed: the database serves reads and refuses writes then.
    pub fn flush(&self) -> Result<()> {
        self.engine().flush()
    }

    /// Rewrites every keyspace down to its last level, dropping all that retention allows, and waits for it.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn compact(&self) -> Result<()> {
        self.engine().check_writable()?;
        let ids: Vec<_> = self.engine().world().keyspaces().iter().map(|one| one.core.id).collect();
        let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        ids.into_iter().try_for_each(|id| match self.engine().compact_range(id, &everything) {
            Err(Error::UnknownKeyspace { .. }) => Ok(()),
            result => result,
        })
    }

    /// Reads every byte of every file against its checksum, and checks the order of every level.
    ///
    /// # Errors
    /// The first damage found: `Corruption` with file and offset.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.engine().verify()
    }

    /// Figures of this moment.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.engine().metrics()
    }

    /// The failure that turned the database read-only, if there was one.
    #[must_use]
    pub fn background_error(&self) -> Option<Arc<Error>> {
        self.engine().failure()
    }

    /// After a failure in the background, once its cause is gone: writes what is visible to new files and accepts
    /// writes again. Commits that were undecided then never were. Without a failure it does nothing. It needs room on
    /// the disk for all memtables as tables.
    ///
    /// # Errors
    /// What fails still; the database stays as it was.
    pub fn resume(&self) -> Result<()> {
        self.engine().check_open()?;
        self.engine().resume()
    }

    /// Runs one piece of background work, if there is any, and says whether there was. For simulations with
    /// [`Background::Stepped`](crate::Background::Stepped), where nothing else does.
    ///
    /// # Errors
    /// The failure of that work, which turns the database read-only.
    pub fn step_background(&self) -> Result<bool> {
        self.engine().check_open()?;
        let stepped = self.engine().step();
        self.engine().check_sound().map(|()| stepped)
    }
}
