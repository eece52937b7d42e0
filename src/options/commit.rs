//! What one commit asks for beyond the defaults.

use super::Durability;
use crate::Timestamp;
use crate::version::Sequence;

/// How one batch is committed.
///
/// ```
/// use strandline::{CommitOptions, Durability};
///
/// let options = CommitOptions::new().at(42).durability(Durability::Synced);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct CommitOptions {
    pub(crate) at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) durability: Option<Durability>,
    /// It writes a value again that was read.
    pub(crate) rewrite: Option<Rewrite>,
}

/// What a commit that writes a value again depends on, beside its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// When the value goes: `KeyNotFound` from then on.
    pub(crate) expires_at: Option<Timestamp>,
    /// It was read when commits were visible so far: `LateCommit` if a late one was reserved since.
    pub(crate) seen: Sequence,
}

impl CommitOptions {
    /// The next timestamp, no condition, the durability of the database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits at this timestamp instead of the clock's next. `0` and `u64::MAX` are `InvalidArgument`. At or below the
    /// last timestamp the commit is late: `LateCommit` unless [`Options::late_commits`](crate::Options::late_commits)
    /// is on, and then it must be above the closed timestamp (`LateCommit`) and above the floor of every keyspace that
    /// it touches (`BelowRetained`), and no transaction that started at or above it may live (`Busy`).
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.at = Some(timestamp);
        self
    }

    /// Makes the commit fail with `Conflict`, and leave no trace, if a key that the batch writes, or one that it names as
    /// read ([`WriteBatch::read`](crate::WriteBatch::read)), alone or in a range, has a version above `start`; a tombstone,
    /// a range delete and an expired version are versions. Check and commit are one step: of several commits with the same
    /// start on the same key one succeeds.
    ///
    /// ```
    /// # use strandline::{CommitOptions, Db, Error, MemFs, Options, WriteBatch};
    /// # let db = Options::new().fs(MemFs::new()).open("db")?;
    /// # let stock = db.keyspace("stock")?;
    /// stock.put("apples", "3")?;
    /// let start = db.last_timestamp();
    /// let seen = stock.get("apples")?;
    /// stock.put("apples", "2")?; // Somebody else.
    /// let mut batch = WriteBatch::new();
    /// batch.put(&stock, "apples", "9");
    /// assert!(matches!(db.commit_with(batch, CommitOptions::new().started_at(start)), Err(Error::Conflict { .. })));
    /// # assert_eq!(seen.as_deref(), Some(&b"3"[..]));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// A start below the floor of a keyspace that the batch touches is `BelowRetained`, unless a snapshot or transaction
    /// at or below it lives; above both the last and the closed timestamp `FutureTimestamp`. What it costs: nothing where no
    /// memtable or table has anything above the start; else a lookup in those for each key, and a walk over each range.
    pub fn started_at(mut self, start: Timestamp) -> Self {
        self.started_at = Some(start);
        self
    }

    /// What the commit waits for, instead of what the database was opened with.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}
