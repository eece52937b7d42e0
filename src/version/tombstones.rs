//! Range tombstones, cut into fragments that do not overlap, so that one search finds all that cover a key.

use super::Stamp;
use crate::{Slice, Timestamp};

/// A range delete as it was written: the keys from `start` up to, and without, `end` (`None`: to the last key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeTombstone {
    pub(crate) start: Slice,
    pub(crate) end: Option<Slice>,
    pub(crate) stamp: Stamp,
}

/// A piece of the key space and all the range tombstones that cover it, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) start: Slice,
    /// Exclusive; `None`: to the last key.
    pub(crate) end: Option<Slice>,
    /// Never empty; (timestamp, sequence) descending, one a timestamp.
    pub(crate) stamps: Vec<Stamp>,
}

impl Fragment {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// The newest stamp at or below `timestamp`.
    pub(crate) fn at(&self, timestamp: Timestamp) -> Option<Stamp> {
        let newer = self.stamps.partition_point(|stamp| stamp.timestamp > timestamp);
        self.stamps.get(newer).copied()
    }
}

/// A range of keys of which nothing older than a timestamp can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) start: Slice,
    /// Exclusive; `None`: to the last key.
    pub(crate) end: Option<Slice>,
    pub(crate) older_than: Timestamp,
}

impl Hidden {
    /// By the newest tombstone of a fragment at or below `timestamp`.
    pub(crate) fn by(fragment: &Fragment, timestamp: Timestamp) -> Option<Self> {
        let older_than = fragment.at(timestamp)?.timestamp;
        Some(Self { start: fragment.start.clone(), end: fragment.end.clone(), older_than })
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// The fragments of one source in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeTombstones {
    fragments: Vec<Fragment>,
}

impl RangeTombstones {
    /// `fragments` must be in key order and must not overlap.
    pub(crate) fn new(fragments: Vec<Fragment>) -> Self {
        Self { fragments }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    pub(crate) fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The fragment that covers `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Fragment> {
        let after = self.fragments.partition_point(|fragment| *fragment.start <= *key);
        self.fragments.get(after.checked_sub(1)?).filter(|fragment| fragment.contains(key))
    }

    /// The newest tombstone over `key` at or below `timestamp`.
    pub(crate) fn covering(&self, key: &[u8], timestamp: Timestamp) -> Option<Stamp> {
        self.find(key)?.at(timestamp)
    }

    /// As `covering`, but looks first where the last call with the same `hint` found its answer, and beside it.
    pub(crate) fn covering_near(&self, hint: &mut usize, key: &[u8], timestamp: Timestamp) -> Option<Stamp> {
        if self.fragments.is_empty() {
            return None;
        }
        // The hint is how many fragments start at or before the key.
        let fits = |after: usize| {
            let starts_before = |place: usize| self.fragments.get(place).is_some_and(|f| *f.start <= *key);
            after <= self.fragments.len() && (after == 0 || starts_before(after - 1)) && !starts_before(after)
        };
        let near = [*hint, hint.saturating_add(1), hint.saturating_sub(1)].into_iter().find(|after| fits(*after));
        *hint = near.unwrap_or_else(|| self.fragments.partition_point(|fragment| *fragment.start <= *key));
        self.fragments.get(hint.checked_sub(1)?).filter(|fragment| fragment.contains(key))?.at(timestamp)
    }
}

/// Cuts tombstones at each other's edges. Empty and inverted ranges vanish; of equal timestamps the higher sequence
/// stays.
#[cfg(any(test, fuzzing))]
pub(crate) fn fragment(tombstones: &[RangeTombstone]) -> RangeTombstones {
    let live = || tombstones.iter().filter(|t| t.end.as_ref().is_none_or(|end| t.start < *end));
    let mut edges: Vec<&Slice> = live().flat_map(|t| std::iter::once(&t.start).chain(&t.end)).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut fragments: Vec<Fragment> = edges
        .iter()
        .enumerate()
        .map(|(i, start)| Fragment {
            start: (*start).clone(),
            end: edges.get(i + 1).map(|end| (*end).clone()),
            stamps: Vec::new(),
        })
        .collect();
    for tombstone in live() {
        let first = edges.partition_point(|edge| **edge < tombstone.start);
        for piece in fragments.iter_mut().skip(first) {
            if tombstone.end.as_ref().is_some_and(|end| piece.start >= *end) {
                break;
            }
            piece.stamps.push(tombstone.stamp);
        }
    }
    fragments.retain_mut(|piece| {
        piece.stamps.sort_unstable_by_key(|stamp| std::cmp::Reverse((stamp.timestamp, stamp.sequence)));
        piece.stamps.dedup_by_key(|stamp| stamp.timestamp);
        !piece.stamps.is_empty()
    });
    RangeTombstones::new(fragments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(start: &str, end: Option<&str>, timestamp: Timestamp) -> RangeTombstone {
        let bytes = |s: &str| Slice::copy_of(s.as_bytes());
        RangeTombstone {
            start: bytes(start),
            end: end.map(bytes),
            stamp: Stamp { timestamp, sequence: timestamp, late: false },
        }
    }

    #[test]
    fn overlapping_ranges_are_cut_at_each_others_edges() {
        let cut = fragment(&[
            tombstone("b", Some("f"), 5),
            tombstone("d", None, 7),
            tombstone("x", Some("x"), 8),
            tombstone("z", Some("y"), 9),
            tombstone("a", Some("c"), 3),
        ]);
        type Seen<'a> = (&'a [u8], Option<&'a [u8]>, Vec<Timestamp>);
        let seen: Vec<Seen<'_>> = cut
            .fragments()
            .iter()
            .map(|f| (&*f.start, f.end.as_deref(), f.stamps.iter().map(|s| s.timestamp).collect()))
            .collect();
        assert_eq!(
            seen,
            [
                (&b"a"[..], Some(&b"b"[..]), vec![3]),
                (b"b", Some(b"c"), vec![5, 3]),
                (b"c", Some(b"d"), vec![5]),
                (b"d", Some(b"f"), vec![7, 5]),
                (b"f", None, vec![7]),
            ]
        );
        assert_eq!(cut.covering(b"b", 4).map(|s| s.timestamp), Some(3));
        assert_eq!(cut.covering(b"b", 2), None);
        assert_eq!(cut.covering(b"zzz", u64::MAX).map(|s| s.timestamp), Some(7));
        assert_eq!(cut.covering(b"", u64::MAX), None);
        let mut keys: Vec<[u8; 1]> = (b'a' - 1..b'i').map(|byte| [byte]).collect();
        keys.extend(keys.clone().into_iter().rev().chain([*b"a", *b"h", *b"b", *b"g"]));
        let mut hint = 77;
        for key in keys {
            assert_eq!(cut.covering_near(&mut hint, &key, 6), cut.covering(&key, 6), "{key:?}");
        }
    }
}
