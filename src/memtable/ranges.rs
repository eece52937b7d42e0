//! The range tombstones of a memtable, cut into pieces that do not overlap, so that one search finds all that cover a
//! key.
//!
//! A range delete cuts the pieces at its edges and adds its stamp to every piece within. That costs memory for each
//! piece it covers, which is counted, so that a memtable of very many overlapping range deletes is full early.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::sync::{AtomicBool, Ordering, RwLock};
use crate::version::{Fragment, RangeTombstone, RangeTombstones, Sequence, Stamp};
use crate::{Slice, Timestamp};

#[derive(Default)]
pub(super) struct Ranges {
    /// Lets reads of a memtable without range tombstones, which is most of them, take no lock.
    any: AtomicBool,
    /// By their starts.
    pieces: RwLock<BTreeMap<Slice, Piece>>,
}

struct Piece {
    /// Exclusive; `None`: to the last key.
    end: Option<Slice>,
    /// (timestamp, sequence) descending. Of one timestamp there may be several: which counts depends on what is
    /// visible.
    stamps: Vec<Stamp>,
}

impl Piece {
    fn contains(&self, key: &[u8]) -> bool {
        self.end.as_deref().is_none_or(|end| key < end)
    }

    fn add(&mut self, stamp: Stamp) {
        let newer = self.stamps.partition_point(|other| other.beats(&stamp));
        self.stamps.insert(newer, stamp);
    }

    fn at(&self, timestamp: Timestamp, visible: Sequence) -> Option<Stamp> {
        let newer = self.stamps.partition_point(|stamp| stamp.timestamp > timestamp);
        self.stamps.iter().skip(newer).find(|stamp| stamp.sequence <= visible).copied()
    }

    /// What a view sees: of equal timestamps the later only.
    fn seen(&self, visible: Sequence) -> Vec<Stamp> {
        let mut seen: Vec<Stamp> = self.stamps.iter().filter(|stamp| stamp.sequence <= visible).copied().collect();
        seen.dedup_by_key(|stamp| stamp.timestamp);
        seen
    }
}

/// What a piece takes beside the bytes of its edge.
const PIECE_BYTES: usize = size_of::<Slice>() + size_of::<Piece>();

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Adds a range delete and says how many bytes of memory it took. An empty or inverted range is none.
    pub(super) fn insert(&self, tombstone: &RangeTombstone) -> usize {
        let RangeTombstone { start, end, stamp } = tombstone;
        if end.as_ref().is_some_and(|end| end <= start) {
            return 0;
        }
        let mut pieces = self.pieces.write();
        let mut bytes = cut(&mut pieces, start);
        if let Some(end) = end {
            bytes += cut(&mut pieces, end);
        }
        // Up to where the range is covered by pieces; `None` once that is to the last key.
        let mut reached = Some(start.clone());
        let mut gaps = Vec::new();
        let within = (Bound::Included(&**start), end.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        for (piece_start, piece) in pieces.range_mut::<[u8], _>(within) {
            gaps.extend(reached.filter(|reached| reached < piece_start).map(|gap| (gap, Some(piece_start.clone()))));
            piece.add(*stamp);
            bytes += size_of::<Stamp>();
            reached = piece.end.clone();
        }
        let left = reached.filter(|reached| end.as_ref().is_none_or(|end| reached < end));
        gaps.extend(left.map(|gap| (gap, end.clone())));
        for (gap, end) in gaps {
            bytes += PIECE_BYTES + gap.len() + size_of::<Stamp>();
            pieces.insert(gap, Piece { end, stamps: vec![*stamp] });
        }
        self.any.store(true, Ordering::Release);
        bytes
    }

    /// The newest stamp over `key` at or below `timestamp` that is visible.
    pub(super) fn covering(&self, key: &[u8], timestamp: Timestamp, visible: Sequence) -> Option<Stamp> {
        if self.is_empty() {
            return None;
        }
        let pieces = self.pieces.read();
        let (_, piece) = pieces.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        if piece.contains(key) { piece.at(timestamp, visible) } else { None }
    }

    /// See [`Memtable::range_tombstone_within`](super::Memtable::range_tombstone_within).
    pub(super) fn within(
        &self,
        (start, end): (&[u8], Option<&[u8]>),
        timestamp: Timestamp,
        visible: Sequence,
    ) -> Option<(Box<[u8]>, Timestamp)> {
        if self.is_empty() {
            return None;
        }
        let newer = |piece: &Piece| piece.at(Timestamp::MAX, visible).map(|s| s.timestamp).filter(|at| *at > timestamp);
        let pieces = self.pieces.read();
        let around = pieces.range::<[u8], _>((Bound::Unbounded, Bound::Included(start))).next_back();
        if let Some(found) = around.filter(|(_, piece)| piece.contains(start)).and_then(|(_, piece)| newer(piece)) {
            return Some((start.into(), found));
        }
        let behind = pieces.range::<[u8], _>((Bound::Excluded(start), Bound::Unbounded));
        let mut behind = behind.take_while(|(from, _)| end.is_none_or(|end| &***from < end));
        behind.find_map(|(from, piece)| Some((Box::from(&**from), newer(piece)?)))
    }

    /// The piece around `key` as a view sees it; between pieces it has no stamps. What comes later cuts it smaller, but
    /// changes nothing that the view sees.
    pub(super) fn around(&self, key: &[u8], visible: Sequence) -> Fragment {
        let pieces = self.pieces.read();
        let before = pieces.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        if let Some((start, piece)) = before.filter(|(_, piece)| piece.contains(key)) {
            return Fragment { start: start.clone(), end: piece.end.clone(), stamps: piece.seen(visible) };
        }
        let start = before.and_then(|(_, piece)| piece.end.clone()).unwrap_or_default();
        let after = pieces.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next();
        Fragment { start, end: after.map(|(start, _)| start.clone()), stamps: Vec::new() }
    }

    /// All that a view sees.
    pub(super) fn seen(&self, visible: Sequence) -> RangeTombstones {
        let pieces = self.pieces.read();
        let fragments = pieces.iter().map(|(start, piece)| Fragment {
            start: start.clone(),
            end: piece.end.clone(),
            stamps: piece.seen(visible),
        });
        RangeTombstones::new(fragments.filter(|fragment| !fragment.stamps.is_empty()).collect())
    }
}

/// Makes `edge` an edge of the pieces, and says how many bytes that took.
fn cut(pieces: &mut BTreeMap<Slice, Piece>, edge: &Slice) -> usize {
    let before = pieces.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(&**edge))).next_back();
    let Some((_, piece)) = before.filter(|(_, piece)| piece.contains(edge)) else { return 0 };
    let right = Piece { end: piece.end.replace(edge.clone()), stamps: piece.stamps.clone() };
    let bytes = PIECE_BYTES + edge.len() + size_of_val(&*right.stamps);
    pieces.insert(edge.clone(), right);
    bytes
}
