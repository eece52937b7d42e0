//! Landmarks: entries that a search may begin at.
//!
//! In a list of half a million a search from the front meets some twenty entries before it is near its goal, and those
//! of the lower levels are far away in memory. Partial keys say without any search where about a goal lies. So they are
//! divided into ranges, and each range remembers the entry that was inserted into it last. A search begins at the one of
//! its goal's range, or of a range before; from there it climbs as long as what follows is still before the goal, and
//! comes down (a *finger search*, Pugh 1990): how long it takes depends on how far the landmark is from the goal, not on
//! the list. A bad landmark costs time, never a wrong answer: it is an entry before the goal like any other.
//!
//! Who makes an entry a landmark has linked it on all its levels, and entries stay where they are: from a landmark every
//! level that it has leads on.

use std::cmp::Ordering::Less;

use super::Link;
use super::partial::{BITS, Next};
use crate::sync::Ordering;

/// The ranges are a power of two: some four entries have one together in a memtable of 64 MiB that is full of entries of
/// 16 + 100 bytes.
const RANGES_LOG2: u32 = if cfg!(test) { 4 } else { 17 };
/// How many ranges are looked at for a landmark before a goal: as many as a cache line holds.
const REACH: usize = 8;

/// See the module.
pub(super) struct Landmarks {
    ranges: Box<[Link]>,
}

impl Landmarks {
    pub(super) const BYTES: usize = size_of::<Link>() << RANGES_LOG2;

    pub(super) fn new() -> Self {
        Self { ranges: (0..1 << RANGES_LOG2).map(|_| Link::new(Next::NONE.to_link())).collect() }
    }

    /// Remembers an entry that is linked on all its levels.
    pub(super) fn remember(&self, entry: Next, partial: usize) {
        if let Some(range) = self.ranges.get(range(partial)) {
            range.store(entry.to_link(), Ordering::Release);
        }
    }

    /// Has the landmarks fetched that a search for a goal looks at first.
    pub(super) fn prefetch(&self, partial: usize) {
        self.ranges.get(range(partial)).into_iter().for_each(|range| crate::prefetch::fetch(range));
    }

    /// An entry not far before a goal, as far as partial keys can tell.
    pub(super) fn near(&self, partial: usize) -> Option<Next> {
        self.before(partial, |landmark| landmark.compare(partial) == Some(Less))
    }

    /// An entry not far before a goal, if there is one.
    pub(super) fn before(&self, partial: usize, is_before: impl Fn(Next) -> bool) -> Option<Next> {
        let nearest = range(partial);
        let ranges = self.ranges.get(nearest.saturating_sub(REACH - 1)..=nearest)?;
        let landmarks = ranges.iter().rev().map(|range| Next::of_link(range.load(Ordering::Acquire)));
        landmarks.filter(|landmark| !landmark.is_none()).find(|landmark| is_before(*landmark))
    }
}

fn range(partial: usize) -> usize {
    partial >> (BITS - RANGES_LOG2)
}
