//! One key at one timestamp, asked of one source after the other.
//!
//! The rule of visibility: the newest version at or below the timestamp counts, whichever source it is in; of equal
//! timestamps the one that arrived later (T1). Sources are asked newest first, so between sources a tie goes to the one
//! asked first. The search ends early (T2)
//! * at a version that is not late: what arrived before it for the key has a lower timestamp;
//! * at a version of the very timestamp that is asked for: nothing can count over it;
//! * before a source whose timestamps are all at or below the best one, or all above the one asked for.

use crate::Timestamp;
use crate::version::{Stamp, StoredVersion, VersionRef};

/// A version of a key, owned or borrowed.
pub(crate) trait Point {
    fn stamp(&self) -> Stamp;
    fn is_tombstone(&self) -> bool;
    fn expires_at(&self) -> Option<Timestamp>;
}

impl Point for StoredVersion {
    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl Point for VersionRef<'_> {
    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

/// A version, and something to know it by.
impl<T, P: Point> Point for (T, P) {
    fn stamp(&self) -> Stamp {
        self.1.stamp()
    }

    fn is_tombstone(&self) -> bool {
        self.1.is_tombstone()
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.1.expires_at()
    }
}

/// `version`, unless it is a tombstone or has expired at `now`.
pub(super) fn live<P: Point>(version: Option<P>, now: Timestamp) -> Option<P> {
    version.filter(|v| !v.is_tombstone() && v.expires_at().is_none_or(|expires_at| expires_at > now))
}

/// The newest version of a key at or below a timestamp, over the sources offered so far.
pub(crate) struct Lookup<P = StoredVersion> {
    timestamp: Timestamp,
    best: Option<Best<P>>,
    done: bool,
}

enum Best<P> {
    Point(P),
    /// Covered by a range tombstone.
    Covered(Stamp),
}

impl<P: Point> Best<P> {
    fn stamp(&self) -> Stamp {
        match self {
            Self::Point(point) => point.stamp(),
            Self::Covered(stamp) => *stamp,
        }
    }
}

impl<P: Point> Lookup<P> {
    pub(crate) fn new(timestamp: Timestamp) -> Self {
        Self { timestamp, best: None, done: false }
    }

    /// Whether a source whose timestamps lie between `min` and `max` can change the answer. A memtable that
    /// holds nothing has them inverted.
    pub(crate) fn wants(&self, min: Timestamp, max: Timestamp) -> bool {
        let at_most = max.min(self.timestamp);
        !self.done && min <= at_most && self.newest().is_none_or(|best| best.timestamp < at_most)
    }

    /// Takes what the next older source has at or below the timestamp: its newest point of the key, and its newest
    /// range tombstone over it. `true`: no older source can change the answer.
    pub(crate) fn offer(&mut self, point: Option<P>, tombstone: Option<Stamp>) -> bool {
        let on_time = |stamp: Stamp| !stamp.late;
        self.done |= point.as_ref().map(P::stamp).is_some_and(on_time) || tombstone.is_some_and(on_time);
        let offered = match (point, tombstone) {
            (Some(point), Some(tombstone)) if tombstone.beats(&point.stamp()) => Some(Best::Covered(tombstone)),
            (Some(point), _) => Some(Best::Point(point)),
            (None, tombstone) => tombstone.map(Best::Covered),
        };
        if let Some(offered) = offered
            && self.newest().is_none_or(|best| offered.stamp().timestamp > best.timestamp)
        {
            self.done |= offered.stamp().timestamp >= self.timestamp;
            self.best = Some(offered);
        }
        self.done
    }

    /// The stamp of the newest version, tombstones and range tombstones too.
    pub(crate) fn newest(&self) -> Option<Stamp> {
        self.best.as_ref().map(Best::stamp)
    }

    /// The timestamp of the newest version that history gives over `floor`: any above the floor; at or below it only
    /// one that can be read there.
    pub(crate) fn newest_retained(self, floor: Timestamp) -> Option<Timestamp> {
        let timestamp = self.newest()?.timestamp;
        (timestamp > floor || self.finish(floor).is_some()).then_some(timestamp)
    }

    /// The version found, whatever it says; `None` also where a range tombstone hides it.
    pub(crate) fn into_point(self) -> Option<P> {
        match self.best? {
            Best::Point(point) => Some(point),
            Best::Covered(_) => None,
        }
    }

    /// The version that a read sees, expiry judged at `now`.
    pub(crate) fn finish(self, now: Timestamp) -> Option<P> {
        match self.best? {
            Best::Point(point) => live(Some(point), now),
            Best::Covered(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use crate::version::{TABLE_POINT, TABLE_RANGE};

    fn stamp(timestamp: Timestamp, sequence: u64, late: bool) -> Stamp {
        Stamp { timestamp, sequence, late }
    }

    fn put(stamp: Stamp) -> Option<StoredVersion> {
        Some(StoredVersion { stamp, value: Some(Slice::empty()), expires_at: None })
    }

    #[test]
    fn the_newer_source_wins_a_tie_and_the_later_sequence_inside_one() {
        let mut lookup = Lookup::new(9);
        assert!(!lookup.offer(put(stamp(5, 1, true)), None));
        assert!(!lookup.offer(None, Some(stamp(5, 7, true))));
        assert!(lookup.finish(9).is_some());

        let mut lookup = Lookup::new(9);
        lookup.offer(put(stamp(5, 1, true)), Some(stamp(5, 2, true)));
        assert!(lookup.finish(9).is_none());

        // In a table a point beats a range tombstone of its timestamp.
        let mut lookup = Lookup::new(9);
        lookup.offer(put(stamp(5, TABLE_POINT, true)), Some(stamp(5, TABLE_RANGE, true)));
        assert_eq!(lookup.finish(9).map(|v| v.value), Some(Some(Slice::empty()))); // S3
    }

    #[test]
    fn the_search_goes_on_past_late_versions_only() {
        let mut lookup = Lookup::new(9);
        assert!(lookup.wants(0, 3) && !lookup.wants(10, 20));
        assert!(!lookup.offer(put(stamp(4, 1, true)), None));
        assert!(lookup.wants(1, 5) && !lookup.wants(1, 4));
        assert!(lookup.offer(None, Some(stamp(3, 1, false))));
        assert!(!lookup.wants(1, 8));
        assert_eq!(lookup.newest().map(|s| s.timestamp), Some(4));

        // Nothing counts over the timestamp that was asked for.
        assert!(Lookup::new(9).offer(put(stamp(9, 1, true)), None));
    }

    #[test]
    fn below_the_floor_only_what_can_be_read_there_is_the_newest() {
        let newest = |version: StoredVersion, floor| {
            let mut lookup = Lookup::new(Timestamp::MAX);
            lookup.offer(Some(version), None);
            lookup.newest_retained(floor)
        };
        let expiring = StoredVersion { expires_at: Some(7), ..put(stamp(5, 1, false)).unwrap() };
        let tombstone = StoredVersion { value: None, ..expiring.clone() };
        assert_eq!(newest(expiring.clone(), 4), Some(5));
        assert_eq!(newest(expiring.clone(), 6), Some(5));
        assert_eq!(newest(expiring, 7), None); // S7
        assert_eq!(newest(tombstone.clone(), 4), Some(5));
        assert_eq!(newest(tombstone, 5), None);
    }
}
