//! What retention keeps of a key: the rules R2 and R3 for one version, as a pure function.
//!
//! Versions above the floor stay. Of those at or below it, of one key, newest first:
//!
//! * **The newest** stays while it can be read at the floor. If it is dead there (a tombstone, or expired), it stays
//!   while a live snapshot lies below `dead_from`, else it goes if nothing older lies outside the merge (R3; the caller
//!   asks). `dead_from` is its timestamp for a tombstone. For an expired version it is its expiry, but not less than
//!   its timestamp: of a version that was dead from birth, the timestamp still hides what is older from snapshots
//!   between, and still is a conflict for transactions that started between.
//! * **Any other** stays only if a live snapshot sees it: stands at or above it and below the next newer one (R2).
//!
//! That R3 asks for snapshots below the dead version makes "this merge keeps nothing older of the key" true by itself:
//! an older version stays only for a snapshot below the next newer version, hence below this one.

use crate::Timestamp;

/// What must stay readable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RetentionRules {
    /// Everything above it stays, and what can be read at it.
    pub(crate) floor: Timestamp,
    /// The timestamps of the live snapshots and transactions, ascending.
    pub(crate) snapshots: Vec<Timestamp>,
}

/// What a version says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Tombstone,
    Value { expires_at: Option<Timestamp> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    /// To be dropped if no source outside the merge can hold a version of the key at or below this one's timestamp.
    DropIfLast,
}

impl RetentionRules {
    /// On the version at `timestamp`; `newer` is the timestamp of the next newer version of the key in the same merge,
    /// range tombstones and what was itself dropped included.
    pub(super) fn verdict(&self, timestamp: Timestamp, newer: Option<Timestamp>, content: Content) -> Verdict {
        if timestamp > self.floor {
            return Verdict::Keep;
        }
        if let Some(newer) = newer.filter(|&newer| newer <= self.floor) {
            return if self.snapshot_within(timestamp, newer) { Verdict::Keep } else { Verdict::Drop };
        }
        let dead_from = match content {
            Content::Tombstone => timestamp,
            Content::Value { expires_at: Some(expires_at) } if expires_at <= self.floor => expires_at.max(timestamp),
            Content::Value { .. } => return Verdict::Keep,
        };
        if self.snapshot_within(0, dead_from) { Verdict::Keep } else { Verdict::DropIfLast }
    }

    /// Whether anything older than the version at `timestamp` can stay, so that it is worth looking at.
    pub(super) fn may_keep_below(&self, timestamp: Timestamp) -> bool {
        timestamp > self.floor || self.snapshot_within(0, timestamp)
    }

    /// Whether a live snapshot stands at or above `from` and below `to`.
    fn snapshot_within(&self, from: Timestamp, to: Timestamp) -> bool {
        let first = self.snapshots.partition_point(|&snapshot| snapshot < from);
        self.snapshots.get(first).is_some_and(|&snapshot| snapshot < to)
    }
}

#[cfg(test)]
mod tests {
    use super::Content::{Tombstone, Value};
    use super::Verdict::{Drop, DropIfLast, Keep};
    use super::*;

    const LASTING: Content = Value { expires_at: None };

    fn expiring(expires_at: Timestamp) -> Content {
        Value { expires_at: Some(expires_at) }
    }

    #[test]
    fn each_rule_decides_where_it_should() {
        // (floor, snapshots, timestamp, next newer, content) → verdict
        type Case<'a> = (Timestamp, &'a [Timestamp], Timestamp, Option<Timestamp>, Content, Verdict);
        let cases: &[Case] = &[
            // S16: above the floor everything stays, the dead too.
            (10, &[], 11, None, LASTING, Keep),
            (10, &[], 11, Some(12), Tombstone, Keep),
            (10, &[], 11, Some(12), expiring(3), Keep),
            (0, &[], 1, Some(2), Tombstone, Keep),
            // At the floor or below it: the newest, if it can be read at the floor.
            (10, &[], 10, Some(11), LASTING, Keep),
            (10, &[], 10, None, LASTING, Keep),
            (10, &[], 4, None, LASTING, Keep),
            (10, &[], 4, None, expiring(11), Keep),
            // S18: dead at the floor.
            (10, &[], 4, None, expiring(10), DropIfLast),
            (10, &[], 4, Some(11), Tombstone, DropIfLast),
            (10, &[], 10, None, Tombstone, DropIfLast),
            // R2: shadowed by one at or below the floor.
            (10, &[], 4, Some(10), LASTING, Drop),
            (10, &[], 4, Some(5), Tombstone, Drop),
            (10, &[], 4, Some(10), expiring(20), Drop),
            // S20: a snapshot between keeps it: at it, up to without the newer one.
            (10, &[4], 4, Some(6), LASTING, Keep),
            (10, &[5], 4, Some(6), Tombstone, Keep),
            (10, &[6], 4, Some(6), LASTING, Drop),
            (10, &[3, 8, 20], 4, Some(6), LASTING, Drop),
            (10, &[3, 5, 20], 4, Some(6), LASTING, Keep),
            // R3 waits for snapshots below the tombstone, or below the expiry.
            (10, &[3], 4, None, Tombstone, Keep),
            (10, &[4, 9, 10], 4, None, Tombstone, DropIfLast),
            (10, &[4], 4, None, expiring(7), Keep),
            (10, &[6], 4, None, expiring(7), Keep),
            (10, &[7], 4, None, expiring(7), DropIfLast),
            (10, &[3], 4, None, expiring(7), Keep),
            // Dead from birth: it still hides what is older from a snapshot between its expiry and its timestamp.
            (10, &[5], 8, None, expiring(2), Keep),
            (10, &[8], 8, None, expiring(2), DropIfLast),
        ];
        for &(floor, snapshots, timestamp, newer, content, expected) in cases {
            let rules = RetentionRules { floor, snapshots: snapshots.to_vec() };
            let verdict = rules.verdict(timestamp, newer, content);
            assert_eq!(verdict, expected, "{rules:?} {timestamp} {newer:?} {content:?}");
        }
    }

    #[test]
    fn nothing_older_than_a_last_tombstone_stays() {
        // The argument in the module's head, for every small case.
        for bits in 0u32..64 {
            let rules = RetentionRules { floor: 5, snapshots: (0..6).filter(|s| bits & (1 << s) != 0).collect() };
            for timestamp in 1..=5 {
                for content in [Tombstone, expiring(1), expiring(3), expiring(5)] {
                    if rules.verdict(timestamp, None, content) != DropIfLast {
                        continue;
                    }
                    assert!(!rules.may_keep_below(timestamp));
                    for (older, newer) in (1..timestamp).flat_map(|o| (o + 1..=timestamp).map(move |n| (o, n))) {
                        assert_eq!(rules.verdict(older, Some(newer), LASTING), Drop, "{rules:?} {timestamp} {older}");
                    }
                }
            }
        }
    }
}
