//! Which tables count, and in which order, where no manifest says so.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Checked, Tables};
use crate::format::FileNumber;
use crate::sync::Arc;
use crate::table::TableMeta;

/// Tables whose content is in others that are all there: what a merge has read, where every table that it wrote is
/// intact. To take one of them in as well would bring back what that merge has dropped; and if the others that it was
/// merged with are gone, there may be no tombstone any more over what it holds.
pub(super) fn superseded(tables: &Tables) -> BTreeSet<FileNumber> {
    let mut jobs: BTreeMap<FileNumber, Vec<&crate::db::origin::Origin>> = BTreeMap::new();
    for checked in tables.values() {
        if let Checked::Intact { origin: Some(origin), .. } = checked {
            jobs.entry(origin.job.unwrap_or_default()).or_default().push(origin);
        }
    }
    let mut superseded = BTreeSet::new();
    for parts in jobs.values_mut() {
        parts.sort_by_key(|origin| origin.part);
        let in_row = parts.iter().zip(0..).all(|(origin, part)| origin.part == part);
        if in_row && parts.last().is_some_and(|origin| origin.last) {
            superseded.extend(parts.iter().flat_map(|origin| origin.inputs.iter().copied()));
        }
    }
    superseded
}

/// Puts tables, newest first, into as few runs as that order allows: in a run none overlaps another, and of two that
/// overlap the newer one lies in an earlier run.
pub(super) fn runs(tables: &[Arc<TableMeta>]) -> Vec<Vec<Arc<TableMeta>>> {
    let mut runs: Vec<Vec<Arc<TableMeta>>> = Vec::new();
    for table in tables {
        let overlaps = |other: &Arc<TableMeta>| other.overlaps_keys(&table.smallest, table.upper.as_bound());
        let last = runs.iter().rposition(|run| run.iter().any(overlaps));
        match runs.get_mut(last.map_or(0, |last| last + 1)) {
            Some(run) => run.push(Arc::clone(table)),
            None => runs.push(vec![Arc::clone(table)]),
        }
    }
    for run in &mut runs {
        run.sort_by(|one, other| one.smallest.cmp(&other.smallest));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use crate::db::origin::Origin;
    use crate::manifest::KeyspaceId;
    use crate::options::KeyspaceSettings;
    use crate::table::UpperBound;

    fn table(number: u64, smallest: &str, greatest: &str) -> Arc<TableMeta> {
        Arc::new(TableMeta::of_keys(
            FileNumber(number),
            Slice::copy_of(smallest.as_bytes()),
            UpperBound::Included(Slice::copy_of(greatest.as_bytes())),
        ))
    }

    fn numbers(runs: &[Vec<Arc<TableMeta>>]) -> Vec<Vec<u64>> {
        runs.iter().map(|run| run.iter().map(|table| table.number.0).collect()).collect()
    }

    #[test]
    fn runs_do_not_overlap_and_keep_the_newer_of_two_tables_first() {
        let tables =
            [table(9, "k", "m"), table(8, "a", "c"), table(7, "b", "l"), table(6, "x", "z"), table(5, "a", "a")];
        assert_eq!(numbers(&runs(&tables)), [vec![8, 9, 6], vec![5, 7]]);
        let nested: Vec<_> = (1..5).map(|number| table(number, "a", "z")).collect();
        assert_eq!(numbers(&runs(&nested)), [[1], [2], [3], [4]]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn inputs_are_superseded_only_by_outputs_that_are_all_there() {
        let of = |number: u64, job: u64, part: u64, last: bool, inputs: &[u64]| {
            let inputs = inputs.iter().copied().map(FileNumber).collect();
            let origin = Origin::of_merge(KeyspaceId(0), ("k", &KeyspaceSettings::default()), 0, inputs);
            let origin = Origin { job: Some(FileNumber(job)), part, last, ..origin };
            (FileNumber(number), Checked::Intact { meta: table(number, "a", "b"), origin: Some(origin) })
        };
        let found = |tables: Vec<(FileNumber, Checked)>| -> Vec<u64> {
            superseded(&tables.into_iter().collect()).into_iter().map(|number| number.0).collect()
        };
        assert_eq!(found(vec![of(5, 5, 0, false, &[1, 2]), of(7, 5, 1, true, &[1, 2])]), [1, 2]);
        // The last, the first, or one between is missing.
        assert!(found(vec![of(5, 5, 0, false, &[1, 2])]).is_empty());
        assert!(found(vec![of(7, 5, 1, true, &[1, 2])]).is_empty());
        assert!(found(vec![of(5, 5, 0, false, &[1]), of(8, 5, 2, true, &[1])]).is_empty());
        // Parts of two tries at one merge do not add up.
        assert!(found(vec![of(5, 5, 0, false, &[1]), of(9, 8, 1, true, &[1])]).is_empty());
        let damaged = Checked::Damaged { reason: String::new(), meta: None, origin: None };
        let parts = vec![(FileNumber(5), damaged), of(7, 5, 1, true, &[1])];
        assert!(found(parts).is_empty());
    }
}
