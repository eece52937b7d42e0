//! The range tombstones of several sources as one run of pieces that do not overlap, made one at a time.

use std::sync::Arc;

use super::versions::Arrival;
use crate::version::{Fragment, RangeTombstones};
use crate::{Slice, Timestamp};

/// The range tombstones of one source, in key order and disjoint: one part for a memtable or a table, one a table for a
/// level.
pub(crate) type SourceRanges = Vec<Arc<RangeTombstones>>;

/// A piece of the key space, and the range tombstones of all sources that cover it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: Slice,
    /// Exclusive; `None`: to the last key.
    pub(super) end: Option<Slice>,
    /// Never empty; timestamps descending, one a timestamp: the one that arrived last.
    pub(super) stamps: Vec<Arrival>,
}

/// Where one source's walk is: the first fragment that ends after the edge.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    part: usize,
    fragment: usize,
}

/// A walk over the pieces between two keys.
#[derive(Debug, Clone)]
pub(super) struct MergedRanges {
    sources: Arc<[SourceRanges]>,
    places: Vec<Place>,
    /// Where the pieces given so far end; `None`: at the last key.
    edge: Option<Slice>,
    upper: Option<Slice>,
}

impl MergedRanges {
    /// `sources` newest first; the pieces are cut to `lower` (inclusive) and `upper` (exclusive).
    pub(super) fn new(mut sources: Vec<SourceRanges>, lower: Slice, upper: Option<Slice>) -> Self {
        // A part without a fragment has no place in the order, and would lead the search below astray.
        sources.iter_mut().for_each(|parts| parts.retain(|part| !part.is_empty()));
        let places = sources
            .iter()
            .map(|parts| Place {
                part: parts.partition_point(|part| part.fragments().last().is_none_or(|last| ends_by(last, &lower))),
                fragment: 0,
            })
            .collect();
        Self { sources: sources.into(), places, edge: Some(lower), upper }
    }

    /// The next piece.
    pub(super) fn next_piece(&mut self) -> Option<Piece> {
        let edge = self.edge.clone()?;
        let mut start: Option<&Slice> = None;
        for (parts, place) in self.sources.iter().zip(&mut self.places) {
            if let Some(fragment) = place.reach(parts, &edge) {
                let from = (&fragment.start).max(&edge);
                start = Some(start.map_or(from, |least| least.min(from)));
            }
        }
        let start = start.filter(|&start| self.upper.as_ref().is_none_or(|upper| start < upper)).cloned();
        let Some(start) = start else {
            self.edge = None;
            return None;
        };
        let mut piece = Piece { start, end: self.upper.clone(), stamps: Vec::new() };
        for (source, (parts, place)) in self.sources.iter().zip(&self.places).enumerate() {
            let Some(fragment) = place.fragment(parts) else { continue };
            let covers = fragment.start <= piece.start;
            let edge = if covers { fragment.end.as_ref() } else { Some(&fragment.start) };
            if let Some(edge) = edge
                && piece.end.as_ref().is_none_or(|end| edge < end)
            {
                piece.end = Some(edge.clone());
            }
            if covers {
                piece.stamps.extend(fragment.stamps.iter().map(|&stamp| Arrival { source, stamp }));
            }
        }
        // Stable: of equal timestamps the newest source comes first, and stays.
        piece.stamps.sort_by_key(|arrival| std::cmp::Reverse(arrival.stamp.timestamp));
        piece.stamps.dedup_by_key(|arrival| arrival.stamp.timestamp);
        self.edge.clone_from(&piece.end);
        Some(piece)
    }

    /// How far the range deletes of one timestamp reach over `piece`, the one given last, and those behind it that
    /// touch. Pieces are not made for it: under many nested range deletes that would cost as much as all of them
    /// together for each.
    pub(super) fn reach(&self, piece: &Piece, timestamp: Timestamp) -> Option<Slice> {
        let mut places = self.places.clone();
        let mut reached = piece.end.clone();
        while let Some(edge) = &reached {
            let goes_on = self.sources.iter().zip(&mut places).find_map(|(parts, place)| {
                let fragment = place.reach(parts, edge).filter(|fragment| fragment.start <= *edge)?;
                fragment.at(timestamp).is_some_and(|stamp| stamp.timestamp == timestamp).then_some(&fragment.end)
            });
            match goes_on {
                Some(end) => reached.clone_from(end),
                None => break,
            }
        }
        reached
    }
}

impl Place {
    fn fragment<'a>(&self, parts: &'a SourceRanges) -> Option<&'a Fragment> {
        parts.get(self.part)?.fragments().get(self.fragment)
    }

    /// Moves to the first fragment that ends after `edge`.
    fn reach<'a>(&mut self, parts: &'a SourceRanges, edge: &Slice) -> Option<&'a Fragment> {
        loop {
            let fragments = parts.get(self.part)?.fragments();
            match fragments.get(self.fragment) {
                Some(fragment) if !ends_by(fragment, edge) => return Some(fragment),
                Some(_) if self.fragment == 0 => {
                    self.fragment = fragments.partition_point(|fragment| ends_by(fragment, edge));
                }
                Some(_) => self.fragment += 1,
                None => *self = Self { part: self.part + 1, fragment: 0 },
            }
        }
    }
}

fn ends_by(fragment: &Fragment, edge: &Slice) -> bool {
    fragment.end.as_ref().is_some_and(|end| end <= edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{RangeTombstone, Stamp, fragment};

    fn ranges(tombstones: &[(&str, &str, u64)]) -> Arc<RangeTombstones> {
        let tombstone = |&(start, end, timestamp): &(&str, &str, u64)| RangeTombstone {
            start: Slice::copy_of(start.as_bytes()),
            end: (end != "∞").then(|| Slice::copy_of(end.as_bytes())),
            stamp: Stamp { timestamp, sequence: 0, late: false },
        };
        Arc::new(fragment(&tombstones.iter().map(tombstone).collect::<Vec<_>>()))
    }

    fn pieces(sources: Vec<SourceRanges>, lower: &str, upper: Option<&str>) -> Vec<String> {
        let slice = |s: &str| Slice::copy_of(s.as_bytes());
        let mut merged = MergedRanges::new(sources, slice(lower), upper.map(slice));
        let show = |piece: Piece| {
            let stamps: Vec<String> =
                piece.stamps.iter().map(|a| format!("{}@{}", a.stamp.timestamp, a.source)).collect();
            let end = piece.end.map_or("∞".to_owned(), |end| end.escape_ascii().to_string());
            format!("{}..{end} {}", piece.start.escape_ascii(), stamps.join(" "))
        };
        std::iter::from_fn(|| merged.next_piece()).map(show).collect()
    }

    #[test]
    fn the_pieces_of_all_sources_are_cut_at_each_others_edges() {
        let newer = vec![ranges(&[("b", "f", 5)])];
        let none = ranges(&[]);
        let older =
            vec![none.clone(), ranges(&[("a", "c", 3)]), none.clone(), none, ranges(&[("e", "g", 5), ("x", "∞", 1)])];
        assert_eq!(
            pieces(vec![newer.clone(), older.clone()], "", None),
            ["a..b 3@1", "b..c 5@0 3@1", "c..e 5@0", "e..f 5@0", "f..g 5@1", "x..∞ 1@1"]
        );
        assert_eq!(
            pieces(vec![newer, older], "bb", Some("y")),
            ["bb..c 5@0 3@1", "c..e 5@0", "e..f 5@0", "f..g 5@1", "x..y 1@1"]
        );
        assert!(pieces(vec![], "", None).is_empty());
    }
}
