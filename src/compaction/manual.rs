//! Compaction of a range of keys, on request: everything in it that was there at the start goes down to the last level,
//! and every file there is rewritten, so that all that retention allows is dropped (S16).
//!
//! One level after the other, each pass ending when none of the files that were in its level as it began is left there.
//! What arrives later comes from above, where by then nothing of the start is left. So it ends under any load.

use super::job::Draft;
use super::levels::sum;
use super::{FileView, KeyRange, Pick, Reason, Shape, level0};
use crate::format::FileNumber;

/// How far a manual compaction has come. Kept by whoever runs it, and asked for the next step whenever one has ended.
#[derive(Debug)]
pub(crate) struct ManualProgress {
    range: KeyRange,
    /// The first number given after it began: a file of the last level from there on was rewritten since.
    started: FileNumber,
    /// The level of this pass, and the first number given after the pass began.
    level: usize,
    watermark: FileNumber,
}

/// What a manual compaction does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ManualStep {
    /// Run this, and ask again; also at once, for what can run beside it.
    Run(Pick),
    /// All that is left waits for compactions that run: ask again when one has ended.
    Wait,
    /// All is done.
    Done,
}

impl ManualProgress {
    /// For everything in `range` that is in a file now.
    pub(crate) fn new(shape: &Shape<'_>, range: KeyRange) -> Self {
        let level = if range.is_empty() { shape.levels.len() } else { 0 };
        Self { range, started: shape.next_file, level, watermark: shape.next_file }
    }

    pub(crate) fn next(&mut self, shape: &Shape<'_>) -> ManualStep {
        while self.level < shape.levels.len() {
            let pick = match self.level {
                0 => level0::pick(shape, &shape.targets(), Reason::Manual, |file| self.wants(shape, file)),
                _ => self.pick_from_level(shape),
            };
            if let Some(pick) = pick {
                return ManualStep::Run(pick);
            }
            if shape.level(self.level).iter().any(|file| self.wants(shape, file)) {
                return ManualStep::Wait;
            }
            self.level += 1;
            self.watermark = if self.level == shape.last_level() { self.started } else { shape.next_file };
        }
        ManualStep::Done
    }

    fn wants(&self, shape: &Shape<'_>, file: &FileView<'_>) -> bool {
        // In the last level a file is passed over only if nothing in it can be dropped: nothing is at or below the
        // floor, or a merge has tried. A running one is waited for all the same: it may end without a result.
        let settled = self.level == shape.last_level()
            && (file.meta.min_timestamp > shape.floor
                || file.last_tried_floor.is_some_and(|tried| tried >= shape.floor));
        file.meta.number < self.watermark && !settled && self.range.overlaps_file(file.meta)
    }

    fn pick_from_level(&self, shape: &Shape<'_>) -> Option<Pick> {
        let level = self.level;
        let output_level = (level + 1).min(shape.last_level());
        let complete = |files: &[FileView<'_>]| {
            let files = files.iter().collect();
            Draft { level, files, output_level, reason: Reason::Manual }.complete(shape)
        };
        let files = shape.level(level);
        let cost = |files: &[FileView<'_>]| {
            let below = KeyRange::hull(files.iter().map(|file| file.meta)).filter(|_| level != output_level);
            sum(files).saturating_add(below.map_or(0, |range| sum(shape.overlapping_files(output_level, &range))))
        };
        for start in 0..files.len() {
            let wanted = |at: usize| files.get(at).is_some_and(|file| !file.busy && self.wants(shape, file));
            let Some(alone) = files.get(start..=start).filter(|_| wanted(start)).and_then(complete) else { continue };
            if alone.trivial_move {
                return Some(alone);
            }
            // Neighbours share what they meet below, and small ones become one.
            let mut end = start + 1;
            while wanted(end)
                && files.get(start..=end).is_some_and(|files| cost(files) <= shape.options.max_compaction_bytes())
            {
                end += 1;
            }
            return files.get(start..end).and_then(complete).or(Some(alone));
        }
        None
    }
}
