//! What one commit asks for beyond the defaults.

use super::Durability;
use crate::Timestamp;

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
}

impl CommitOptions {
    /// The next timestamp, no condition, the durability of the database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits at this timestamp instead of the clock's next. `0` and `u64::MAX` are `InvalidArgument`. At or below the
    /// last timestamp the commit is late: `LateCommit` unless [`Options::late_commits`](crate::Options::late_commits)
    /// is on, and then it must be above the closed timestamp (`LateCommit`) and above the floor of every keyspace that
    /// it touches (`BelowRetained`).
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.at = Some(timestamp);
        self
    }

    /// Makes the commit fail with `Conflict`, and leave no trace, if a key that the batch writes or names as read has a
    /// version above `start`.
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
