//! Spans of keys: what a file, or a compaction, covers.
//!
//! An end may be exclusive, because a range tombstone ends before a key: `[a, m)` and `[m, z]` touch and share nothing.

use crate::Slice;
use crate::table::{TableMeta, UpperBound};

/// All keys from `start` to `end`. Inverted ones are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) start: Slice,
    pub(crate) end: UpperBound,
}

impl KeyRange {
    /// What a file covers.
    pub(crate) fn of(meta: &TableMeta) -> Self {
        Self { start: meta.smallest.clone(), end: meta.upper.clone() }
    }

    /// The least range that holds all of the files; `None` without files.
    pub(crate) fn hull<'a>(metas: impl IntoIterator<Item = &'a TableMeta>) -> Option<Self> {
        let mut metas = metas.into_iter();
        let mut range = Self::of(metas.next()?);
        metas.for_each(|meta| range.extend(meta));
        Some(range)
    }

    /// Grows until it holds the file.
    pub(crate) fn extend(&mut self, meta: &TableMeta) {
        if meta.smallest < self.start {
            self.start = meta.smallest.clone();
        }
        if meta.upper > self.end {
            self.end = meta.upper.clone();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.end.admits(&self.start)
    }

    /// Whether some key lies in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let first = (&self.start).max(&other.start);
        self.end.admits(first) && other.end.admits(first)
    }

    /// Whether some key lies in both.
    pub(crate) fn overlaps_file(&self, meta: &TableMeta) -> bool {
        meta.overlaps_keys(&self.start, self.end.as_bound())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(key: &str) -> Slice {
        Slice::from(key.as_bytes())
    }

    #[test]
    fn ranges_overlap_where_they_share_a_key() {
        let to = |start: &str, end: UpperBound| KeyRange { start: slice(start), end };
        let cases = [
            (to("a", UpperBound::Excluded(slice("m"))), to("m", UpperBound::Included(slice("z"))), false),
            (to("a", UpperBound::Included(slice("m"))), to("m", UpperBound::Included(slice("z"))), true),
            (to("a", UpperBound::Unbounded), to("zz", UpperBound::Unbounded), true),
            (to("a", UpperBound::Excluded(slice("m\0"))), to("m", UpperBound::Included(slice("m"))), true),
            (to("b", UpperBound::Excluded(slice("a"))), to("a", UpperBound::Unbounded), false),
            (to("", UpperBound::Included(slice(""))), to("", UpperBound::Unbounded), true),
        ];
        for (a, b, overlap) in cases {
            assert_eq!(a.overlaps(&b), overlap, "{a:?} {b:?}");
            assert_eq!(b.overlaps(&a), overlap, "{b:?} {a:?}");
        }
        assert!(to("b", UpperBound::Excluded(slice("b"))).is_empty());
        assert!(!to("b", UpperBound::Included(slice("b"))).is_empty());
    }
}
