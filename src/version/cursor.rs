//! What every source of versions offers: a position on a key, and from there the versions of that key.

use super::{Hidden, Stamp, ValueRef, VersionRef};
use crate::{Result, Timestamp};

/// A cursor over one source (a memtable, a table, a level), by key: a key with many versions is one position.
///
/// A new cursor stands off the end. `next` and `prev` from off an end stay there. After an error the position is off
/// the end. Keys are strictly ascending; a source may show a key of which no version is visible (`version_at` gives
/// `None`).
pub(crate) trait KeyCursor {
    /// Moves to the first key.
    fn seek_to_first(&mut self) -> Result<()>;
    /// Moves to the last key.
    fn seek_to_last(&mut self) -> Result<()>;
    /// Moves to the first key at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
    /// Moves to the last key at or before `key`.
    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()>;
    /// Moves to the next key.
    fn next(&mut self) -> Result<()>;
    /// Moves to the previous key.
    fn prev(&mut self) -> Result<()>;
    /// The key at the position; `None` off either end.
    fn key(&self) -> Option<&[u8]>;

    /// The newest version of the current key at or below `timestamp`; it becomes the current version.
    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>>;
    /// The version next older than the current one; it becomes the current version. Amortised O(1).
    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>>;
    /// The current version: what [`version_at`](Self::version_at) or [`older_version`](Self::older_version) gave last,
    /// until the position moves.
    fn version(&self) -> Option<VersionRef<'_>>;

    /// Whether what [`version_at`](Self::version_at) gives is live: a value that has not expired at `now`. It becomes the
    /// current version.
    fn is_live_at(&mut self, timestamp: Timestamp, now: Timestamp) -> Result<bool> {
        Ok(self.version_at(timestamp)?.is_some_and(|version| version.is_live(now)))
    }
    /// The value of the current version.
    fn value(&self) -> Option<ValueRef<'_>> {
        self.version()?.value
    }

    /// The newest range tombstone of this source that covers `key`, at or below `timestamp`. `key` need not be the
    /// current one; calls with neighbouring keys are cheap.
    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>>;

    /// The same, with the range around `key` that it hides.
    fn hidden_around(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Hidden>> {
        let _ = (key, timestamp);
        Ok(None)
    }

    /// Moves past the keys that `hidden` hides, forward or backward, as far as the source can tell without looking at
    /// them that all it has of them is older; says whether the position moved. It stands on a hidden key.
    fn pass_over(&mut self, hidden: &Hidden, forward: bool) -> Result<bool> {
        let _ = (hidden, forward);
        Ok(false)
    }

    /// Whether the source has any range tombstone; asked once, when a merge is made. `false` spares every call of
    /// [`covering`](Self::covering).
    fn may_cover(&self) -> bool {
        true
    }
}
