//! The most urgent compaction that can run now.
//!
//! Sizes first: the level with the highest score of 1 or more from which something can go down. Only if no level asks,
//! what retention frees (`retention`); and then what reads have paid for.

use super::job::Draft;
use super::levels::{Targets, sum};
use super::{FileView, KeyRange, Pick, Reason, Shape, level0, retention};

pub(crate) fn pick(shape: &Shape<'_>) -> Option<Pick> {
    let targets = shape.targets();
    let scores = shape.scores(&targets);
    let mut asking = scores.iter().filter(|(_, score)| *score >= 1.0).peekable();
    if asking.peek().is_none() {
        return retention::pick(shape, &targets).or_else(|| for_reads(shape, &targets));
    }
    let mut level0_waits = false;
    for (level, _) in asking {
        let found = match *level {
            0 => level0::pick(shape, &targets, Reason::Level0, |_| true),
            // Level 0 could not be compacted into the base level. Were more of the base level made busy, it might never
            // be.
            level if level0_waits && level == targets.base_level => None,
            level => from_level(shape, level),
        };
        if found.is_some() {
            return found;
        }
        level0_waits |= *level == 0;
    }
    None
}

/// What is done in the background while nothing is written counts for so much less than what reads wait for.
const READS_COUNT: u64 = 4;

/// Level 0, once nothing is written and reads have paid enough for it.
fn for_reads(shape: &Shape<'_>, targets: &Targets) -> Option<Pick> {
    if !shape.quiet || shape.detour_bytes == 0 {
        return None;
    }
    level0::pick(shape, targets, Reason::Reads, |_| true).filter(|pick| pick.bytes / READS_COUNT <= shape.detour_bytes)
}

/// The file of `level` that costs the least for what leaves the level and what is freed; of equal ones that with the
/// smallest key.
fn from_level(shape: &Shape<'_>, level: usize) -> Option<Pick> {
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for (at, file) in shape.level(level).iter().enumerate() {
        let below = shape.overlapping_files(level + 1, &KeyRange::of(file.meta));
        if file.busy || below.iter().any(|file| file.busy) {
            continue;
        }
        let freed = retention::freed(file, shape.floor);
        let cost = file.meta.bytes.saturating_add(sum(below));
        candidates.push((cost as f64 / file.meta.bytes.saturating_add(freed).max(1) as f64, at));
    }
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    candidates.into_iter().find_map(|(_, at)| {
        let files = with_neighbours(shape, level, at);
        Draft { level, files, output_level: level + 1, reason: Reason::Size }.complete(shape)
    })
}

/// The file, and the neighbours that meet nothing below but what it meets anyway.
fn with_neighbours<'s, 'a>(shape: &'s Shape<'a>, level: usize, at: usize) -> Vec<&'s FileView<'a>> {
    let files = shape.level(level);
    let Some(file) = files.get(at) else { return Vec::new() };
    let mut range = KeyRange::of(file.meta);
    let met = shape.overlapping(level + 1, &range);
    let below = sum(shape.overlapping_files(level + 1, &range));
    let (mut start, mut end, mut bytes) = (at, at + 1, file.meta.bytes);
    let mut fits = |next: Option<&FileView<'_>>| {
        let Some(next) = next.filter(|next| !next.busy && !met.is_empty()) else { return false };
        let mut wider = range.clone();
        wider.extend(next.meta);
        let all = bytes.saturating_add(next.meta.bytes);
        let fits = shape.overlapping(level + 1, &wider) == met
            && all.saturating_add(below) <= shape.options.max_compaction_bytes();
        if fits {
            (range, bytes) = (wider, all);
        }
        fits
    };
    while fits(files.get(end)) {
        end += 1;
    }
    while start > 0 && fits(files.get(start - 1)) {
        start -= 1;
    }
    files.get(start..end).unwrap_or_default().iter().collect()
}
