//! The state of one tree as a picker sees it, and what follows from sizes alone: how much each level may hold, how
//! urgent each is, how much work is owed.
//!
//! The last level holds most of the data; each level above it may hold a tenth of the one below (the multiplier),
//! upwards until what is left fits `level_base_bytes`. That level is the base: level 0 is compacted into it, and the
//! levels between stay empty. A fresh tree goes from level 0 straight to the last one; the base moves up as the tree
//! grows, and down as it shrinks. So what lies above the last level stays near a ninth of it, whatever the size.

use std::ops::Range;

use super::{KeyRange, Running};
use crate::Timestamp;
use crate::format::FileNumber;
use crate::table::TableMeta;

/// What shapes a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompactionOptions {
    /// Outputs are cut at this size.
    pub(crate) target_file_bytes: u64,
    /// The base level may hold this much.
    pub(crate) level_base_bytes: u64,
    /// So many files in level 0 start a compaction.
    pub(crate) level0_files: usize,
    /// How much more a level may hold than the one above.
    pub(crate) level_multiplier: u64,
}

impl CompactionOptions {
    pub(crate) fn new(target_file_bytes: u64, level_base_bytes: u64) -> Self {
        Self { target_file_bytes, level_base_bytes, level0_files: 4, level_multiplier: 10 }
    }

    /// Inputs are not added to a compaction beyond this.
    pub(crate) fn max_compaction_bytes(&self) -> u64 {
        self.target_file_bytes.saturating_mul(25)
    }

    /// An output may overlap this much of the level after its own: it is what compacting it will cost.
    pub(crate) fn max_grandparent_bytes(&self) -> u64 {
        self.target_file_bytes.saturating_mul(10)
    }
}

/// A file as a picker sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileView<'a> {
    pub(crate) meta: &'a TableMeta,
    /// An input of a compaction that runs.
    pub(crate) busy: bool,
    /// The floor of the merge that wrote this file, if this database remembers it: what that floor freed and is still
    /// here was kept for a reason (a snapshot, an older version elsewhere), and is not tried again. Kept in memory
    /// only; forgotten (`None`) when the file moves to another level without a rewrite, and when a snapshot below it
    /// ends.
    pub(crate) last_tried_floor: Option<Timestamp>,
}

impl FileView<'_> {
    /// What its score counts. Tombstones beyond half of the versions weigh as much as what they are taken to hide, so
    /// that they sink fast instead of building up (S18).
    fn weight(&self, average_version: u64) -> u64 {
        let excess = self.meta.tombstones.saturating_mul(2).saturating_sub(self.meta.versions);
        self.meta.bytes.saturating_add(excess.saturating_mul(average_version))
    }
}

/// One tree, with the compactions that run in it.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) options: CompactionOptions,
    /// Level 0 newest first (T2), the others by smallest key (T3). There are [`LEVELS`](crate::manifest::LEVELS) of
    /// them.
    pub(crate) levels: Vec<Vec<FileView<'a>>>,
    /// The compactions that run.
    pub(crate) running: &'a [Running],
    /// The retention floor now.
    pub(crate) floor: Timestamp,
    /// Every file made from now on has this number or a higher one.
    pub(crate) next_file: FileNumber,
    /// Nothing has been written for a while: what was not worth a rewrite under load is worth it now.
    pub(crate) quiet: bool,
    /// So many bytes reads have looked at in vain because of level 0, since files of it were merged last.
    pub(crate) detour_bytes: u64,
}

/// What each level may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The level that level 0 is compacted into.
    pub(crate) base_level: usize,
    /// Zero for levels above the base, which are to be emptied.
    bytes: Vec<u64>,
}

impl Targets {
    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.bytes.get(level).copied().unwrap_or(0)
    }
}

impl<'a> Shape<'a> {
    pub(crate) fn level(&self, level: usize) -> &[FileView<'a>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn last_level(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    pub(crate) fn bytes(&self, level: usize) -> u64 {
        sum(self.level(level))
    }

    pub(crate) fn files(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    /// Which files of a sorted level overlap `range`: they are neighbours (T3).
    pub(crate) fn overlapping(&self, level: usize, range: &KeyRange) -> Range<usize> {
        let files = self.level(level);
        let start = files.partition_point(|file| !file.meta.upper.admits(&range.start));
        let end = files.partition_point(|file| range.end.admits(&file.meta.smallest));
        start..end.max(start)
    }

    pub(crate) fn overlapping_files(&self, level: usize, range: &KeyRange) -> &[FileView<'a>] {
        self.level(level).get(self.overlapping(level, range)).unwrap_or_default()
    }

    /// Whether any file in a level below `level` overlaps `range`.
    pub(crate) fn holds_below(&self, level: usize, range: &KeyRange) -> bool {
        (level + 1..self.levels.len()).any(|level| !self.overlapping(level, range).is_empty())
    }

    pub(crate) fn targets(&self) -> Targets {
        let (last, multiplier) = (self.last_level(), self.options.level_multiplier.max(2));
        let total: u64 = (1..=last).map(|level| self.bytes(level)).fold(0, u64::saturating_add);
        // The share of the last level, were all levels at their targets: it does not change while data sinks.
        let mut target = total - total / multiplier;
        let mut bytes = vec![0; self.levels.len()];
        for level in (1..=last).rev() {
            if let Some(slot) = bytes.get_mut(level) {
                *slot = target;
            }
            if target <= self.options.level_base_bytes || level == 1 {
                return Targets { base_level: level, bytes };
            }
            target /= multiplier;
        }
        Targets { base_level: last, bytes }
    }

    /// How urgent each level but the last is, most urgent first; from 1 on it asks for a compaction.
    pub(crate) fn scores(&self, targets: &Targets) -> Vec<(usize, f64)> {
        let average = self.average_version();
        let base = self.options.level_base_bytes.max(1) as f64;
        let mut scores = vec![(0, self.level0_score())];
        for level in 1..self.last_level() {
            let idle = self.level(level).iter().filter(|file| !file.busy);
            let weight = idle.map(|file| file.weight(average)).fold(0, u64::saturating_add) as f64;
            let score = match targets.bytes(level) {
                // The tree has shrunk: this level is emptied, without haste.
                _ if level < targets.base_level => {
                    if weight > 0.0 {
                        1.0 + weight / base
                    } else {
                        0.0
                    }
                }
                target => weight / target.max(1) as f64,
            };
            scores.push((level, score));
        }
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scores
    }

    /// By files, each of which a read may have to ask, and by bytes. Squared: a merge leaves the base level several
    /// times over its target for a while, and level 0 must pass it before writers feel it (S38).
    fn level0_score(&self) -> f64 {
        let idle = || self.level(0).iter().filter(|file| !file.busy);
        let files = idle().count() as f64 / self.options.level0_files.max(1) as f64;
        let bytes = sum(idle()) as f64 / self.options.level_base_bytes.max(1) as f64;
        files.max(bytes).powi(2)
    }

    /// What a version takes up, on average, where most of them are.
    fn average_version(&self) -> u64 {
        let settled = self.levels.iter().rev().find(|files| !files.is_empty());
        let versions = settled.into_iter().flatten().map(|file| file.meta.versions).fold(0, u64::saturating_add);
        settled.map_or(0, sum) / versions.max(1)
    }

    /// How many bytes compactions have to read before no level asks for one: what back-pressure looks at. An estimate.
    pub(crate) fn debt_bytes(&self, targets: &Targets) -> u64 {
        let base = targets.base_level;
        let mut debt = 0u64;
        // What arrives in a level from above, on top of what it holds.
        let mut arriving = 0;
        if self.level0_score() >= 1.0 {
            arriving = self.bytes(0);
            debt =
                arriving.saturating_add(self.bytes(base).min(arriving.saturating_mul(self.options.level_multiplier)));
        }
        for level in 1..self.last_level() {
            let holds = self.bytes(level).saturating_add(if level >= base { arriving } else { 0 });
            let excess = holds.saturating_sub(targets.bytes(level));
            let below = self.bytes(level + 1) as f64 / holds.max(1) as f64;
            debt = debt.saturating_add(times(excess, 1.0 + below));
            if level >= base {
                arriving = excess;
            }
        }
        debt
    }
}

pub(crate) fn sum<'a, 'b: 'a>(files: impl IntoIterator<Item = &'a FileView<'b>>) -> u64 {
    files.into_iter().map(|file| file.meta.bytes).fold(0, u64::saturating_add)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates; factors are positive"
)]
fn times(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}
