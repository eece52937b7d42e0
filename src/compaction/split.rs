//! Where the outputs of a compaction are cut, and how one compaction is spread over workers.
//!
//! Cuts prefer the edges of the level after the output's (grandparents), so that compacting an output later reads no file of
//! that level for a sliver. All cuts lie between keys (T3).

use std::ops::RangeInclusive;

use super::job::Grandparent;
use super::{CompactionOptions, Pick, Shape};
use crate::Slice;
use crate::format::shared_prefix;
use crate::table::{TableMeta, UpperBound};

/// Decides where one output ends and the next begins.
#[derive(Debug)]
pub(crate) struct Splitter<'a> {
    target_file_bytes: u64,
    max_grandparent_bytes: u64,
    grandparents: &'a [Grandparent],
    /// How many grandparents end before the last key.
    passed: usize,
    /// How many grandparents begin at or before the last key.
    begun: usize,
    /// What the output that is being written overlaps of them.
    overlapped: u64,
    /// How many of their edges it has crossed.
    edges: u64,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(options: &CompactionOptions, grandparents: &'a [Grandparent]) -> Self {
        Self {
            target_file_bytes: options.target_file_bytes.max(1),
            max_grandparent_bytes: options.max_grandparent_bytes(),
            grandparents,
            passed: 0,
            begun: 0,
            overlapped: 0,
            edges: 0,
        }
    }

    /// Whether the output, which has `bytes_so_far`, ends before `next_key`. To be asked before every key, in order, also
    /// before the first one.
    pub(crate) fn should_cut(&mut self, bytes_so_far: u64, next_key: &[u8]) -> bool {
        let before = self.passed;
        let ended = |grandparent: &&Grandparent| !grandparent.upper.admits(next_key);
        self.passed += self.rest(self.passed).iter().take_while(ended).count();
        let begun = |grandparent: &&Grandparent| *grandparent.smallest <= *next_key;
        let entered: u64 = self.rest(self.begun).iter().take_while(begun).map(|grandparent| grandparent.bytes).sum();
        self.begun += self.rest(self.begun).iter().take_while(begun).count();

        let crossed = self.passed > before;
        self.edges += u64::from(crossed);
        let overlapped = self.overlapped.saturating_add(entered);
        let too_wide = entered > 0 && overlapped > self.max_grandparent_bytes;
        let cut = bytes_so_far > 0
            && (bytes_so_far >= self.target_file_bytes || too_wide || (crossed && self.ends_well(bytes_so_far)));
        if cut || bytes_so_far == 0 {
            let within = self.grandparents.get(self.passed..self.begun).unwrap_or_default();
            (self.overlapped, self.edges) = (within.iter().map(|grandparent| grandparent.bytes).sum(), 0);
        } else {
            self.overlapped = overlapped;
        }
        cut
    }

    fn rest(&self, at: usize) -> &'a [Grandparent] {
        self.grandparents.get(at..).unwrap_or_default()
    }

    /// Whether this edge is a good end: half full at least, and at this pace over full at the next edge.
    fn ends_well(&self, bytes: u64) -> bool {
        let next_edge = bytes.saturating_add(bytes / self.edges.max(1));
        let half = self.target_file_bytes / 2;
        bytes >= half && (next_edge > self.target_file_bytes || bytes >= half.saturating_add(half / 5 * 4))
    }
}

/// Up to `parts - 1` keys at which the work of `pick` falls into parts of about equal bytes: a part holds the keys from one of
/// them (or the start) up to, but not with, the next. Fewer where files have too few edges, or parts would be smaller than a
/// file.
pub(crate) fn subranges(shape: &Shape<'_>, pick: &Pick, parts: usize) -> Vec<Slice> {
    let least = shape.options.target_file_bytes.max(1);
    let parts = (pick.bytes / least).min(parts as u64);
    if pick.trivial_move || parts < 2 {
        return Vec::new();
    }
    let mut inputs: Vec<&TableMeta> = Vec::new();
    for (level, numbers) in &pick.inputs {
        inputs.extend(shape.level(*level).iter().map(|file| file.meta).filter(|meta| numbers.contains(&meta.number)));
    }
    let spans: Vec<Span> = inputs.iter().map(|meta| Span::of(meta, pick)).collect();
    let mut edges: Vec<&Slice> = inputs.iter().map(|meta| &meta.smallest).collect();
    edges.extend(pick.grandparents.iter().map(|grandparent| &grandparent.smallest));
    edges.retain(|edge| **edge > pick.range.start && pick.range.end.admits(edge));
    edges.sort_unstable();
    edges.dedup();

    let before = |edge: &Slice| {
        let at = position(edge, pick);
        spans.iter().map(|span| span.before(at)).fold(0, u64::saturating_add)
    };
    let edges: Vec<(&Slice, u64)> = edges.into_iter().map(|edge| (edge, before(edge))).collect();
    let mut cuts = Vec::new();
    let mut cut_at = 0;
    for part in 1..parts {
        let due = pick.bytes / parts * part;
        let Some((edge, at)) = edges.iter().min_by_key(|(_, at)| at.abs_diff(due)) else { break };
        if at.saturating_sub(cut_at) >= least / 2 && pick.bytes.saturating_sub(*at) >= least / 2 {
            cuts.push((*edge).clone());
            cut_at = *at;
        }
    }
    cuts
}

/// Where a file lies among the keys of a compaction, if keys are spread evenly over what their next bytes can say.
struct Span {
    keys: RangeInclusive<u64>,
    bytes: u64,
}

impl Span {
    fn of(meta: &TableMeta, pick: &Pick) -> Self {
        let end = match &meta.upper {
            UpperBound::Included(key) | UpperBound::Excluded(key) => position(key, pick),
            UpperBound::Unbounded => u64::MAX,
        };
        Self { keys: position(&meta.smallest, pick)..=end, bytes: meta.bytes }
    }

    /// How many of its bytes lie before `position`.
    fn before(&self, position: u64) -> u64 {
        let (start, end) = (*self.keys.start(), *self.keys.end());
        if position <= start {
            return 0;
        }
        let part = u128::from(position.min(end) - start) * u128::from(self.bytes) / u128::from(end - start).max(1);
        u64::try_from(part).map_or(self.bytes, |part| part.min(self.bytes))
    }
}

/// The eight bytes of `key` after what all keys of the compaction have in common, as a number.
fn position(key: &[u8], pick: &Pick) -> u64 {
    let common = match &pick.range.end {
        UpperBound::Included(end) | UpperBound::Excluded(end) => shared_prefix(&pick.range.start, end),
        UpperBound::Unbounded => 0,
    };
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(key.get(common..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}
