//! A compaction to run, and how one that runs keeps others out of its way.
//!
//! Compactions run in parallel. What keeps the order of arrival (T2) and of levels (T3) whatever the order they finish
//! in:
//!
//! 1. No two share a file.
//! 2. No two write overlapping ranges to the same level.
//! 3. None writes, in its range, to a level that another passes by on its way down, nor to that other's output level.
//! 4. What goes down takes along everything that lies between it and its output in its range: older files of level 0
//!    (see `level0`), files of the output level; the levels that it passes by hold nothing there.

use super::levels::{Shape, sum};
use super::{FileView, KeyRange};
use crate::Slice;
use crate::format::FileNumber;
use crate::table::UpperBound;

/// Why a compaction runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Level 0 holds too many files or bytes.
    Level0,
    /// A level holds more than its target.
    Size,
    /// The floor frees much of a file.
    Garbage,
    /// Tombstones at or below the floor can go, or must sink to what they hide.
    Tombstones,
    /// Reads have looked through level 0 long enough.
    Reads,
    /// Somebody asked for it.
    Manual,
}

/// A file of the level after the output's: outputs are cut at its edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grandparent {
    pub(crate) smallest: Slice,
    pub(crate) upper: UpperBound,
    pub(crate) bytes: u64,
}

/// A compaction to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Files by level, upper levels first; level 0 newest first, others in key order. A rewrite in place has one level,
    /// which is the output level.
    pub(crate) inputs: Vec<(usize, Vec<FileNumber>)>,
    pub(crate) output_level: usize,
    pub(crate) reason: Reason,
    /// The one input can be named in the output level as it is.
    pub(crate) trivial_move: bool,
    /// All inputs lie within.
    pub(crate) range: KeyRange,
    /// Bytes of all inputs.
    pub(crate) bytes: u64,
    /// In key order.
    pub(crate) grandparents: Vec<Grandparent>,
}

/// A compaction that runs, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) first_level: usize,
    pub(crate) output_level: usize,
    pub(crate) range: KeyRange,
}

impl Running {
    fn passes(&self, level: usize) -> bool {
        self.output_level == level || (self.first_level < level && level <= self.output_level)
    }

    /// Whether both cannot run at once.
    fn conflicts(&self, other: &Self) -> bool {
        (self.passes(other.output_level) || other.passes(self.output_level)) && self.range.overlaps(&other.range)
    }
}

impl Pick {
    pub(crate) fn first_level(&self) -> usize {
        self.inputs.first().map_or(self.output_level, |(level, _)| *level)
    }

    /// What stands in [`Shape::running`] while it runs.
    pub(crate) fn running(&self) -> Running {
        Running { first_level: self.first_level(), output_level: self.output_level, range: self.range.clone() }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = FileNumber> + '_ {
        self.inputs.iter().flat_map(|(_, files)| files).copied()
    }
}

/// Files of one level that are to go to another, or be rewritten where they are.
#[derive(Debug)]
pub(crate) struct Draft<'s, 'a> {
    pub(crate) level: usize,
    pub(crate) files: Vec<&'s FileView<'a>>,
    pub(crate) output_level: usize,
    pub(crate) reason: Reason,
}

impl Draft<'_, '_> {
    /// The whole compaction, if it can run beside those that do.
    pub(crate) fn complete(self, shape: &Shape<'_>) -> Option<Pick> {
        let Self { level, files, output_level, reason } = self;
        let mut range = KeyRange::hull(files.iter().map(|file| file.meta))?;
        let met = if output_level == level { &[] } else { shape.overlapping_files(output_level, &range) };
        if files.iter().copied().chain(met).any(|file| file.busy) {
            return None;
        }
        let moves = match files.as_slice() {
            [file] => output_level != level && met.is_empty() && can_move(shape, file, output_level, reason),
            _ => false,
        };
        let bytes = sum(files.iter().copied()).saturating_add(sum(met));
        met.iter().for_each(|file| range.extend(file.meta));
        let mut inputs = vec![(level, files.iter().map(|file| file.meta.number).collect())];
        if !met.is_empty() {
            inputs.push((output_level, met.iter().map(|file| file.meta.number).collect()));
        }
        let grandparents = shape.overlapping_files(output_level + 1, &range).iter().map(|file| Grandparent {
            smallest: file.meta.smallest.clone(),
            upper: file.meta.upper.clone(),
            bytes: file.meta.bytes,
        });
        let grandparents = grandparents.collect();
        let pick = Pick { inputs, output_level, reason, trivial_move: moves, range, bytes, grandparents };
        let running = pick.running();
        (!shape.running.iter().any(|other| other.conflicts(&running))).then_some(pick)
    }
}

/// Whether a file that meets nothing in the output level may go there as it is: a rewrite would free nothing, and its
/// next compaction will not be too large.
fn can_move(shape: &Shape<'_>, file: &FileView<'_>, output_level: usize, reason: Reason) -> bool {
    if reason == Reason::Manual && output_level == shape.last_level() {
        return false;
    }
    let meta = file.meta;
    let range = KeyRange::of(meta);
    let dead = meta.tombstones + meta.range_tombstones > 0
        && meta.min_timestamp <= shape.floor
        && !shape.holds_below(output_level, &range);
    let grandparents = sum(shape.overlapping_files(output_level + 1, &range));
    meta.freeable.at(shape.floor) == 0 && !dead && grandparents <= shape.options.max_grandparent_bytes()
}
