//! Which files of level 0 go down together.
//!
//! A key may stand in many files of level 0, and the newer file arrived later (T2). So a file goes down only together
//! with every older file of level 0 that it overlaps, and with those that these overlap, and so on; if one of them is
//! busy, not at all. Newer files come along where they can, since the level below is then rewritten once for all of
//! them. Files that have no key in common go down in parallel.

use std::collections::BTreeSet;

use super::job::Draft;
use super::levels::{Targets, sum};
use super::{FileView, KeyRange, Pick, Reason, Shape};

/// The compaction of level 0 that takes the most files, among those that take a file that is `wanted`.
pub(crate) fn pick(
    shape: &Shape<'_>,
    targets: &Targets,
    reason: Reason,
    wanted: impl Fn(&FileView<'_>) -> bool,
) -> Option<Pick> {
    let files = shape.level(0);
    let mut tried: BTreeSet<usize> = BTreeSet::new();
    let mut best: Option<(usize, Pick)> = None;
    for (seed, file) in files.iter().enumerate().rev() {
        if file.busy || tried.contains(&seed) || !wanted(file) {
            continue;
        }
        let Some(taken) = with_neighbours(shape, targets, seed) else { continue };
        tried.extend(&taken);
        let range = hull(files, &taken);
        let chosen: Vec<_> = taken.iter().filter_map(|at| files.get(*at)).collect();
        let count = chosen.len();
        if best.as_ref().is_some_and(|(most, _)| *most >= count) {
            continue;
        }
        let Some(output_level) = range.map(|range| output_level(shape, targets, &range)) else { continue };
        if let Some(pick) = (Draft { level: 0, files: chosen, output_level, reason }).complete(shape) {
            best = Some((count, pick));
        }
    }
    best.map(|(_, pick)| pick)
}

/// The base level, unless the tree has shrunk and a level above the base still holds something in `range`.
fn output_level(shape: &Shape<'_>, targets: &Targets, range: &KeyRange) -> usize {
    let occupied = (1..targets.base_level).find(|level| !shape.overlapping(*level, range).is_empty());
    occupied.unwrap_or(targets.base_level)
}

fn hull(files: &[FileView<'_>], taken: &BTreeSet<usize>) -> Option<KeyRange> {
    KeyRange::hull(taken.iter().filter_map(|at| files.get(*at)).map(|file| file.meta))
}

/// `seed`, what it needs, and what comes along with it.
fn with_neighbours(shape: &Shape<'_>, targets: &Targets, seed: usize) -> Option<BTreeSet<usize>> {
    let files = shape.level(0);
    let bytes = |taken: &BTreeSet<usize>| sum(taken.iter().filter_map(|at| files.get(*at)));
    let mut taken = with_older(files, &BTreeSet::new(), seed)?;
    let mut range = hull(files, &taken)?;
    // Whatever overlaps, up to the size of a large compaction.
    for (at, file) in files.iter().enumerate().rev() {
        if taken.contains(&at) || !range.overlaps_file(file.meta) {
            continue;
        }
        let Some(more) = with_older(files, &taken, at) else { continue };
        if bytes(&taken).saturating_add(bytes(&more)) <= shape.options.max_compaction_bytes() {
            taken.extend(more);
            range = hull(files, &taken)?;
        }
    }
    // Small files that cost nothing more below: else a stream of rising keys in small flushes leaves small files for
    // good. What is not small goes down as it is, without a rewrite.
    let target = shape.options.target_file_bytes;
    let small = |bytes: u64| bytes <= target / 4;
    if taken.len() == 1 && !small(bytes(&taken)) {
        return Some(taken);
    }
    for (at, file) in files.iter().enumerate().rev() {
        if taken.contains(&at) || !small(file.meta.bytes) {
            continue;
        }
        let more = with_older(files, &taken, at);
        let Some(more) = more.filter(|more| bytes(&taken).saturating_add(bytes(more)) <= target) else { continue };
        let both: BTreeSet<usize> = taken.union(&more).copied().collect();
        let wider = hull(files, &both)?;
        let level = output_level(shape, targets, &wider);
        if level == output_level(shape, targets, &range)
            && shape.overlapping(level, &wider).len() == shape.overlapping(level, &range).len()
        {
            (taken, range) = (both, wider);
        }
    }
    Some(taken)
}

/// `seed` and every older file that has to go down with it, without those already `taken`; `None` if one is busy.
fn with_older(files: &[FileView<'_>], taken: &BTreeSet<usize>, seed: usize) -> Option<BTreeSet<usize>> {
    let mut more = BTreeSet::new();
    let mut open = vec![seed];
    while let Some(at) = open.pop() {
        let file = files.get(at)?;
        if taken.contains(&at) || !more.insert(at) {
            continue;
        }
        if file.busy {
            return None;
        }
        let range = KeyRange::of(file.meta);
        let older = files.iter().enumerate().skip(at + 1);
        open.extend(older.filter(|(_, older)| range.overlaps_file(older.meta)).map(|(at, _)| at));
    }
    Some(more)
}
