//! The points of one key over several sources, newest first.

use std::cmp::Reverse;

use crate::version::{KeyCursor, Stamp, StoredVersion};
use crate::{Result, Slice, Timestamp};

/// A stamp, and which source it is in (0 is the newest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) source: usize,
    pub(super) stamp: Stamp,
}

impl Arrival {
    /// Whether both have one timestamp and this one arrived later (T1).
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.stamp.timestamp == other.stamp.timestamp
            && (Reverse(self.source), self.stamp.sequence) > (Reverse(other.source), other.stamp.sequence)
    }
}

/// A walk through the points of one key. It holds one version a source, so its memory does not grow with their number
/// (S37); it is made once and started for key after key.
#[derive(Debug, Default)]
pub(super) struct KeyVersions {
    /// By source, newest first.
    heads: Vec<(usize, StoredVersion)>,
}

impl KeyVersions {
    /// Starts at the newest points at or below `timestamp` of the key on which the sources `on_key` stand.
    pub(super) fn start<S: KeyCursor>(
        &mut self,
        sources: &mut [S],
        on_key: &[usize],
        timestamp: Timestamp,
    ) -> Result<()> {
        self.heads.clear();
        for &index in on_key {
            let Some(source) = sources.get_mut(index) else { continue };
            if let Some(version) = source.version_at(timestamp)? {
                self.heads.push((index, version.to_owned()));
            }
        }
        Ok(())
    }

    /// The newest point that is left; of equal timestamps the one that arrived last.
    pub(super) fn newest(&self) -> Option<(Arrival, &StoredVersion)> {
        let (source, version) = self.heads.iter().min_by_key(|(_, version)| Reverse(version.stamp.timestamp))?;
        Some((Arrival { source: *source, stamp: version.stamp }, version))
    }

    /// Takes the value of [`newest`](Self::newest) out, which is to be left behind.
    pub(super) fn take_value(&mut self, source: usize) -> Option<Slice> {
        self.heads.iter_mut().find(|(index, _)| *index == source)?.1.value.take()
    }

    /// Leaves behind every point at or above `timestamp`.
    pub(super) fn step_below<S: KeyCursor>(&mut self, sources: &mut [S], timestamp: Timestamp) -> Result<()> {
        let mut moved = Ok(());
        self.heads.retain_mut(|(index, version)| {
            while version.stamp.timestamp >= timestamp {
                match sources.get_mut(*index).map(S::older_version) {
                    Some(Ok(Some(older))) => *version = older.to_owned(),
                    Some(Err(error)) => {
                        moved = Err(error);
                        return false;
                    }
                    Some(Ok(None)) | None => return false,
                }
            }
            true
        });
        moved
    }
}
