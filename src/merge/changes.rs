//! Every version committed in a range of timestamps, in key order.
//!
//! A point that was replaced at its timestamp, by a later point or a later range delete, is not among them (T1). A
//! range delete is given where it starts, before the points there, as pieces that are disjoint for its timestamp and
//! cover exactly what was deleted then: neighbouring pieces of the sources are joined as far as they touch.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::MergingCursor;
use super::ranges::{MergedRanges, Piece, SourceRanges};
use super::versions::KeyVersions;
use crate::version::KeyCursor;
use crate::{Result, Slice, Timestamp};

/// One thing that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was given a value.
    Put {
        /// The key.
        key: Slice,
        /// When it was committed.
        timestamp: Timestamp,
        /// The value.
        value: Slice,
        /// Reads at or above this timestamp do not see it, nor anything older.
        expires_at: Option<Timestamp>,
    },
    /// A key was deleted.
    Delete {
        /// The key.
        key: Slice,
        /// When it was committed.
        timestamp: Timestamp,
    },
    /// All keys in a range were deleted. One range delete may come as several of these, disjoint, that cover its range.
    DeleteRange {
        /// The first key of the range.
        start: Slice,
        /// Where the range ends, exclusive; `None`: it runs to the last key.
        end: Option<Slice>,
        /// When it was committed.
        timestamp: Timestamp,
    },
}

impl Change {
    /// The key, or where the range begins.
    #[must_use]
    pub fn key(&self) -> &Slice {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::DeleteRange { start: key, .. } => key,
        }
    }

    /// When it was committed.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Self::Put { timestamp, .. } | Self::Delete { timestamp, .. } | Self::DeleteRange { timestamp, .. } => {
                *timestamp
            }
        }
    }

    /// As changes are ordered: by key, range deletes before points, newer ones first.
    fn order(&self, other: &Self) -> Ordering {
        let is_point = |change: &Self| !matches!(change, Self::DeleteRange { .. });
        let by_time = || other.timestamp().cmp(&self.timestamp());
        self.key().cmp(other.key()).then_with(|| is_point(self).cmp(&is_point(other))).then_with(by_time)
    }
}

/// An iterator over the changes at or between two timestamps.
pub(crate) struct Changes<S> {
    keys: MergingCursor<S>,
    started: bool,
    points: KeyVersions,
    /// Whether the points of the current key have been started.
    on_key: bool,
    ranges: MergedRanges,
    piece: Option<Piece>,
    /// How many stamps of the piece were looked at.
    looked_at: usize,
    /// Nothing up to it is given.
    behind: Option<Change>,
    /// The range deletes that were given and reach beyond the start of the piece.
    given: BTreeMap<Timestamp, Option<Slice>>,
    from: Timestamp,
    to: Timestamp,
    done: bool,
}

impl<S: KeyCursor> Changes<S> {
    /// `sources` newest first, and `ranges` the range tombstones of each.
    pub(crate) fn new(sources: Vec<S>, ranges: Vec<SourceRanges>, from: Timestamp, to: Timestamp) -> Self {
        let mut ranges = MergedRanges::new(ranges, Slice::empty(), None);
        Self {
            keys: MergingCursor::new(sources),
            started: false,
            points: KeyVersions::default(),
            on_key: false,
            piece: ranges.next_piece(),
            ranges,
            looked_at: 0,
            behind: None,
            given: BTreeMap::new(),
            from,
            to,
            done: from > to,
        }
    }

    /// Goes on behind a change of the same range of time; nothing before is read, but for range deletes. To be called
    /// before the first step.
    pub(crate) fn resume_after(&mut self, last: &Change) {
        self.behind = Some(last.clone());
    }

    fn start(&mut self) -> Result<()> {
        let Some(behind) = &self.behind else { return self.keys.seek_to_first() };
        let from = behind.key().clone();
        // Range deletes that start before are given, and reach as far as they do.
        while self.piece.as_ref().is_some_and(|piece| piece.start < from) {
            while self.next_range().is_some() {}
            self.piece = self.ranges.next_piece();
            self.looked_at = 0;
        }
        self.keys.seek(&from)
    }

    fn advance(&mut self) -> Result<Option<Change>> {
        if !self.started {
            self.started = true;
            self.start()?;
        }
        loop {
            let next = self.next_change()?;
            let is_behind = |change: &Change| self.behind.as_ref().is_none_or(|last| last.order(change).is_lt());
            if next.as_ref().is_none_or(is_behind) {
                self.behind = None;
                return Ok(next);
            }
        }
    }

    fn next_change(&mut self) -> Result<Option<Change>> {
        loop {
            // The current piece is the first one that does not end by the current key.
            while let Some(piece) = &self.piece {
                let starts_by = self.keys.key().is_none_or(|key| *piece.start <= *key);
                if !starts_by {
                    break;
                }
                if let Some(change) = self.next_range() {
                    return Ok(Some(change));
                }
                let ends_by =
                    |key: &[u8]| self.piece.as_ref().is_some_and(|p| p.end.as_deref().is_some_and(|e| e <= key));
                if self.keys.key().is_some_and(|key| !ends_by(key)) {
                    break;
                }
                self.piece = self.ranges.next_piece();
                self.looked_at = 0;
            }
            if self.keys.key().is_none() {
                return Ok(None);
            }
            if let Some(change) = self.next_point()? {
                return Ok(Some(change));
            }
            self.keys.next()?;
            self.on_key = false;
        }
    }

    /// The next range delete that starts where the piece does.
    fn next_range(&mut self) -> Option<Change> {
        let piece = self.piece.as_ref()?;
        if self.looked_at == 0 {
            self.given.retain(|_, end| end.as_ref().is_none_or(|end| *end > piece.start));
        }
        while let Some(arrival) = piece.stamps.get(self.looked_at) {
            self.looked_at += 1;
            let timestamp = arrival.stamp.timestamp;
            if (self.from..=self.to).contains(&timestamp) && !self.given.contains_key(&timestamp) {
                let end = self.ranges.reach(piece, timestamp);
                self.given.insert(timestamp, end.clone());
                return Some(Change::DeleteRange { start: piece.start.clone(), end, timestamp });
            }
        }
        None
    }

    /// The next point of the current key.
    fn next_point(&mut self) -> Result<Option<Change>> {
        let Some(key) = self.keys.key().map(Slice::copy_of) else { return Ok(None) };
        let (sources, on_key) = self.keys.parts();
        if !self.on_key {
            self.points.start(sources, on_key, self.to)?;
            self.on_key = true;
        }
        while let Some((arrival, version)) = self.points.newest() {
            let timestamp = arrival.stamp.timestamp;
            if timestamp < self.from {
                break;
            }
            let covering = self.piece.as_ref().filter(|piece| *piece.start <= *key);
            let replaced = covering.is_some_and(|piece| piece.stamps.iter().any(|range| range.replaces(&arrival)));
            let expires_at = version.expires_at;
            let value = self.points.take_value(arrival.source);
            self.points.step_below(sources, timestamp)?;
            if !replaced {
                return Ok(Some(match value {
                    Some(value) => Change::Put { key, timestamp, value, expires_at },
                    None => Change::Delete { key, timestamp },
                }));
            }
        }
        Ok(None)
    }
}

impl<S: KeyCursor> Iterator for Changes<S> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
