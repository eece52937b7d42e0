//! What is rewritten because of the floor, when sizes ask for nothing: space comes back in idle ranges too (S18).
//!
//! | what | when | where to |
//! | --- | --- | --- |
//! | a file of which the floor frees a quarter | at once | in place: nothing below is read |
//! | a file with tombstones, a quarter or more, nothing below, all at or below the floor | at once | in place |
//! | a file with any tombstones, or a twentieth free, all at or below the floor | once it is left alone | down to what it hides; in place if nothing lies below |
//!
//! It ends: a file that goes down gets nearer to the last level, and one rewritten in place has been tried at a floor,
//! so that only what a higher floor frees counts from then on ([`FileView::last_tried_floor`]).

use super::job::Draft;
use super::levels::Targets;
use super::{FileView, KeyRange, Pick, Reason, Shape, level0};
use crate::Timestamp;

/// A file is rewritten when one part in so many of it is free.
const WORTH_A_REWRITE: u64 = 4;
/// The same for a file that is left alone.
const WORTH_A_REWRITE_WHEN_IDLE: u64 = 20;
/// A file is left alone if, since it was made, so many files were made for each that there is now.
const FILES_MADE_SINCE: u64 = 4;

/// How many bytes of the file a rewrite at `floor` may free, beyond what was tried before.
pub(crate) fn freed(file: &FileView<'_>, floor: Timestamp) -> u64 {
    let tried = file.last_tried_floor.map_or(0, |tried| file.meta.freeable.at(tried));
    file.meta.freeable.at(floor).saturating_sub(tried)
}

pub(crate) fn pick(shape: &Shape<'_>, targets: &Targets) -> Option<Pick> {
    let mut candidates = Vec::new();
    for level in 1..shape.levels.len() {
        let idle = shape.level(level).iter().filter(|file| !file.busy);
        candidates.extend(idle.filter_map(|file| Candidate::of(shape, level, file)));
    }
    // By urgency; among equals upper levels first, then smaller keys, as they were found.
    candidates.sort_by(|a, b| b.share.total_cmp(&a.share));
    let complete = |Candidate { level, file, output_level, reason, .. }: Candidate<'_, '_>| {
        Draft { level, files: vec![file], output_level, reason }.complete(shape)
    };
    candidates.into_iter().find_map(complete).or_else(|| {
        let idle = |file: &FileView<'_>| left_alone(shape, file) && holds_dead(shape, file);
        level0::pick(shape, targets, Reason::Tombstones, idle)
    })
}

struct Candidate<'s, 'a> {
    /// How much of the file may be freed; 0 for one that is only worth it because it is left alone.
    share: f64,
    level: usize,
    file: &'s FileView<'a>,
    output_level: usize,
    reason: Reason,
}

impl<'s, 'a> Candidate<'s, 'a> {
    fn of(shape: &Shape<'_>, level: usize, file: &'s FileView<'a>) -> Option<Self> {
        let meta = file.meta;
        let tombstones = meta.tombstones.saturating_add(meta.range_tombstones);
        let everything = meta.versions.saturating_add(meta.range_tombstones).max(1);
        if meta.freeable.at(shape.floor) == 0 && (tombstones == 0 || meta.max_timestamp > shape.floor) {
            return None;
        }
        let sinks = tombstones > 0 && shape.holds_below(level, &KeyRange::of(meta));
        // Where something lies below, a tombstone stays in place, whatever it would free elsewhere (R3).
        let kept = if sinks { (meta.bytes / everything).saturating_mul(tombstones) } else { 0 };
        let freed = freed(file, shape.floor).saturating_sub(kept);
        let in_place = |share, reason| Some(Self { share, level, file, output_level: level, reason });
        if freed.saturating_mul(WORTH_A_REWRITE) >= meta.bytes {
            return in_place(freed as f64 / meta.bytes.max(1) as f64, Reason::Garbage);
        }
        if tombstones.saturating_mul(WORTH_A_REWRITE) >= everything && !sinks && untried(shape, file) {
            return in_place(tombstones as f64 / everything as f64, Reason::Tombstones);
        }
        if !left_alone(shape, file) || !holds_dead(shape, file) {
            return None;
        }
        if sinks {
            return Some(Self { share: 0.0, level, file, output_level: level + 1, reason: Reason::Tombstones });
        }
        untried(shape, file).then_some(Self {
            share: 0.0,
            level,
            file,
            output_level: level,
            reason: if tombstones > 0 { Reason::Tombstones } else { Reason::Garbage },
        })
    }
}

/// All of the file is at or below the floor, and it was not written by a merge that knew.
fn untried(shape: &Shape<'_>, file: &FileView<'_>) -> bool {
    let newest = file.meta.max_timestamp;
    newest <= shape.floor && file.last_tried_floor.is_none_or(|tried| tried < newest)
}

/// All of the file is at or below the floor, and some of it is dead there.
fn holds_dead(shape: &Shape<'_>, file: &FileView<'_>) -> bool {
    let meta = file.meta;
    let free = meta.freeable.at(shape.floor).saturating_mul(WORTH_A_REWRITE_WHEN_IDLE) >= meta.bytes.max(1);
    meta.max_timestamp <= shape.floor && (free || meta.tombstones + meta.range_tombstones > 0)
}

/// Nothing is written, or much was written elsewhere since the file was made. Numbers of files are the clock: one such
/// rewrite a file adds at most a quarter to all that compaction writes anyway.
fn left_alone(shape: &Shape<'_>, file: &FileView<'_>) -> bool {
    let made_since = shape.next_file.0.saturating_sub(file.meta.number.0);
    shape.quiet || made_since >= FILES_MADE_SINCE.saturating_mul(shape.files() as u64 + 4)
}
