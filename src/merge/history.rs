//! All versions of one key, newest first, read as they are asked for.
//!
//! Of each source it holds one point and the stamp of one range tombstone; the next older range tombstone over the key
//! is found by asking for the one below the last, so memory does not grow with the number of versions (S37).
//!
//! Over a floor it gives every version above, tombstones too, and then the newest at or below, if it can be read at the
//! floor. Nothing else below a floor is promised, and so nothing else is given, whether or not a merge has dropped it
//! yet.

use super::lookup::live;
use super::versions::{Arrival, KeyVersions};
use crate::version::{KeyCursor, Stamp, StoredVersion, Version};
use crate::{Result, Slice, Timestamp};

/// An iterator over the versions of one key; range tombstones are tombstones of the key. Timestamps descend strictly.
pub(crate) struct History<S> {
    sources: Vec<S>,
    key: Slice,
    points: KeyVersions,
    /// Each source's newest range tombstone over the key that was not given yet.
    ranges: Vec<Option<Stamp>>,
    from: Timestamp,
    to: Timestamp,
    floor: Timestamp,
    done: bool,
}

impl<S: KeyCursor> History<S> {
    /// `sources` newest first, wherever they stand; the versions given lie at or between `from` and `to`.
    pub(crate) fn new(
        mut sources: Vec<S>,
        key: Slice,
        from: Timestamp,
        to: Timestamp,
        floor: Timestamp,
    ) -> Result<Self> {
        let mut history = Self {
            key,
            points: KeyVersions::default(),
            ranges: Vec::with_capacity(sources.len()),
            from,
            to,
            floor,
            done: from > to,
            sources: Vec::new(),
        };
        // Which version is the newest at or below the floor does not depend on `to`.
        let start = to.max(floor);
        let mut on_key = Vec::new();
        for (index, source) in sources.iter_mut().enumerate() {
            source.seek(&history.key)?;
            if source.key() == Some(&history.key) {
                on_key.push(index);
            }
            history.ranges.push(if source.may_cover() { source.covering(&history.key, start)? } else { None });
        }
        history.points.start(&mut sources, &on_key, start)?;
        history.sources = sources;
        Ok(history)
    }

    fn advance(&mut self) -> Result<Option<Version>> {
        while let Some(version) = self.next_version()? {
            let timestamp = version.stamp.timestamp;
            if timestamp <= self.floor {
                self.done = true;
                let readable = live(Some(version), self.floor);
                return Ok(readable.filter(|_| self.from <= timestamp && timestamp <= self.to).map(public));
            }
            if timestamp < self.from {
                return Ok(None);
            }
            if timestamp <= self.to {
                return Ok(Some(public(version)));
            }
        }
        Ok(None)
    }

    /// The next older version, whatever the bounds.
    fn next_version(&mut self) -> Result<Option<StoredVersion>> {
        let range = self
            .ranges
            .iter()
            .enumerate()
            .filter_map(|(source, stamp)| stamp.map(|stamp| Arrival { source, stamp }))
            .min_by_key(|arrival| std::cmp::Reverse(arrival.stamp.timestamp));
        let version = match (self.points.newest(), range) {
            (Some((point, version)), Some(range))
                if point.stamp.timestamp > range.stamp.timestamp || point.replaces(&range) =>
            {
                version.clone()
            }
            (_, Some(range)) => StoredVersion { stamp: range.stamp, value: None, expires_at: None },
            (Some((_, version)), None) => version.clone(),
            (None, None) => return Ok(None),
        };
        let timestamp = version.stamp.timestamp;
        self.points.step_below(&mut self.sources, timestamp)?;
        for (source, range) in self.sources.iter_mut().zip(&mut self.ranges) {
            if range.is_some_and(|stamp| stamp.timestamp >= timestamp) {
                *range = match timestamp.checked_sub(1) {
                    Some(below) => source.covering(&self.key, below)?,
                    None => None,
                };
            }
        }
        Ok(Some(version))
    }
}

impl<S: KeyCursor> Iterator for History<S> {
    type Item = Result<Version>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done |= !matches!(next, Some(Ok(_)));
        next
    }
}

fn public(version: StoredVersion) -> Version {
    Version { timestamp: version.stamp.timestamp, value: version.value, expires_at: version.expires_at }
}
