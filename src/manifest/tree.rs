//! The files of a keyspace, level by level. A tree that is shared never changes: an edit makes the next one.
//!
//! ```text
//! level 0     newest first; files may overlap (T2)
//! level 1..   one run each: files by key, none overlapping another (T3)
//! ```
//!
//! The same type holds open tables for reading (`Tree<Arc<Table>>`) and what the manifest knows of them
//! (`Tree<Arc<TableMeta>>`), so that both follow one rule.

use std::ops::Bound;

use super::EditError;
use crate::format::FileNumber;
use crate::sync::Arc;
use crate::table::{HasMeta, Level, TableMeta};

/// How many levels a tree has, level 0 included.
pub(crate) const LEVELS: usize = 7;

/// The files of a keyspace. Trees share the levels that are the same, and so do who read them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree<T> {
    levels: [Arc<Level<T>>; LEVELS],
    /// Which of them hold anything, a bit for each: lookups do not even look at the others.
    filled: u8,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { levels: Default::default(), filled: 0 }
    }
}

impl<T: HasMeta> Tree<T> {
    /// A tree of what `make` makes of each file.
    pub(crate) fn map<U>(&self, make: impl Fn(&T) -> U) -> Tree<U> {
        Tree { levels: self.levels.each_ref().map(|files| Arc::new(files.map(&make))), filled: self.filled }
    }

    /// Whether each level below level 0 is in order and free of overlaps (T3).
    pub(crate) fn check_order(&self) -> Result<(), EditError> {
        self.levels().enumerate().skip(1).try_for_each(|(level, files)| check_run(level, files))
    }

    /// The files of a level: of level 0 newest first, of the others by key.
    pub(crate) fn level(&self, level: usize) -> &[T] {
        self.levels.get(level).map_or(&[], |files| &***files)
    }

    /// The levels below level 0, for who holds on to one.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<Level<T>>> {
        self.levels.iter().skip(1)
    }

    /// All levels, from level 0 down.
    pub(crate) fn levels(&self) -> impl DoubleEndedIterator<Item = &[T]> + ExactSizeIterator {
        self.levels.iter().map(|files| &***files)
    }

    /// Every file with its level, newer sources first (T2).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.levels.iter().enumerate().flat_map(|(level, files)| files.iter().map(move |file| (level, file)))
    }

    /// The size of a level's files together.
    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.level(level).iter().fold(0, |sum, file| sum.saturating_add(file.meta().bytes))
    }

    /// Whether anything lies below level 0.
    pub(crate) fn has_runs(&self) -> bool {
        self.filled > 1
    }

    /// The files that may hold `key`, with their levels, newer sources first (T2): any number in level 0, of each other
    /// level one at most.
    pub(crate) fn files_for_key<'t>(&'t self, key: &'t [u8]) -> impl Iterator<Item = (usize, &'t T)> {
        let newer = self.level(0).iter().filter(|file| file.meta().contains(key)).map(|file| (0, file));
        let filled = self.filled;
        let runs = (1..LEVELS).filter(move |level| filled & 1 << level != 0);
        newer.chain(runs.filter_map(|level| Some((level, self.level_for_key(level, key)?))))
    }

    /// The one file of a level below level 0 within whose bounds `key` lies.
    pub(crate) fn level_for_key(&self, level: usize, key: &[u8]) -> Option<&T> {
        self.levels.get(level)?.file_for_key(key)
    }

    /// The files of a level that may hold keys from `start` to `end`, in the level's order.
    pub(crate) fn tables_overlapping<'t>(
        &'t self,
        level: usize,
        start: &'t [u8],
        end: Bound<&'t [u8]>,
    ) -> impl Iterator<Item = &'t T> {
        let files = self.level(level);
        // In a run all that overlap lie together; finding where they begin spares a walk over those before.
        let first = if level == 0 { 0 } else { files.partition_point(|file| !file.meta().upper.admits(start)) };
        let files = files.get(first..).unwrap_or_default();
        let overlaps = move |file: &&T| file.meta().overlaps_keys(start, end);
        files.iter().take_while(move |file| level == 0 || overlaps(file)).filter(overlaps)
    }
}

impl<T: HasMeta + Clone> Tree<T> {
    /// Takes a file out.
    pub(super) fn remove(&mut self, level: usize, number: FileNumber) -> Result<T, EditError> {
        let files = self.levels.get_mut(level).ok_or(EditError::UnknownLevel { level })?;
        let at = files.iter().position(|file| file.meta().number == number);
        let at = at.ok_or(EditError::MissingTable { level, number })?;
        let files = Arc::make_mut(files);
        let file = files.remove(at);
        if files.is_empty() {
            self.filled &= !(1 << level);
        }
        Ok(file)
    }

    /// Puts a file in: in front of level 0, at its place by key in the others. Refuses one that overlaps another (T3).
    /// That its number is new is for the caller to see to.
    pub(super) fn add(&mut self, level: usize, file: T) -> Result<(), EditError> {
        let files = self.levels.get_mut(level).ok_or(EditError::UnknownLevel { level })?;
        let filled = self.filled | 1 << level;
        if level == 0 {
            Arc::make_mut(files).put_in_front(file);
            self.filled = filled;
            return Ok(());
        }
        let meta = file.meta();
        let at = files.partition_point(|other| other.meta().smallest < meta.smallest);
        let before = at.checked_sub(1).and_then(|before| files.get(before)).map(T::meta);
        let after = files.get(at).map(T::meta);
        let overlapping = before.filter(|before| reaches(before, meta)).or(after.filter(|after| reaches(meta, after)));
        if let Some(other) = overlapping {
            return Err(EditError::Overlap { level, number: meta.number, other: other.number });
        }
        Arc::make_mut(files).insert(at, file);
        self.filled = filled;
        Ok(())
    }

    /// The tree after an edit: first `removed` go, then `added` come, the last one newest in level 0.
    pub(crate) fn apply(&self, added: &[(usize, T)], removed: &[(usize, FileNumber)]) -> Result<Self, EditError> {
        let mut next = self.clone();
        for (level, number) in removed {
            next.remove(*level, *number)?;
        }
        for (level, file) in added {
            let number = file.meta().number;
            if next.iter().any(|(_, other)| other.meta().number == number) {
                return Err(EditError::DuplicateTable { number });
            }
            next.add(*level, file.clone())?;
        }
        Ok(next)
    }
}

/// Whether a file's bounds reach to those of the one that comes behind it by key.
fn reaches(file: &TableMeta, behind: &TableMeta) -> bool {
    file.upper.admits(&behind.smallest)
}

/// Whether files are in order and do not overlap, as those of a level below level 0 must not (T3).
fn check_run<T: HasMeta>(level: usize, files: &[T]) -> Result<(), EditError> {
    let metas = || files.iter().map(T::meta);
    match metas().zip(metas().skip(1)).find(|(file, behind)| reaches(file, behind)) {
        Some((other, file)) => Err(EditError::Overlap { level, number: file.number, other: other.number }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use crate::table::UpperBound;

    fn file(number: u64, smallest: &str, upper: UpperBound) -> TableMeta {
        TableMeta::of_keys(FileNumber(number), Slice::copy_of(smallest.as_bytes()), upper)
    }

    fn to(key: &str) -> UpperBound {
        UpperBound::Included(Slice::copy_of(key.as_bytes()))
    }

    fn before(key: &str) -> UpperBound {
        UpperBound::Excluded(Slice::copy_of(key.as_bytes()))
    }

    fn numbers<'t>(files: impl Iterator<Item = &'t TableMeta>) -> Vec<u64> {
        files.map(|file| file.number.0).collect()
    }

    /// The same files in a run and in level 0.
    fn tree() -> Tree<TableMeta> {
        let run = [
            file(1, "b", to("d")),
            file(2, "d\0", before("g")),
            file(3, "g", to("g")),
            file(4, "m", UpperBound::Unbounded),
        ];
        let above = run.iter().map(|file| (0, TableMeta { number: FileNumber(file.number.0 + 10), ..file.clone() }));
        let added: Vec<_> = run.iter().map(|file| (1, file.clone())).rev().chain(above).collect();
        Tree::default().apply(&added, &[]).unwrap()
    }

    #[test]
    fn lookups_find_the_same_files_as_a_walk_over_all() {
        // S1, T3
        let tree = tree();
        assert_eq!(numbers(tree.level(1).iter()), [1, 2, 3, 4]);
        let keys = ["", "a", "b", "b\0", "c", "d", "d\0", "e", "f\u{7f}", "g", "g\0", "h", "m", "z"].map(str::as_bytes);
        for key in keys {
            let holding: Vec<_> = tree.level(1).iter().filter(|file| file.contains(key)).collect();
            assert!(holding.len() <= 1);
            assert_eq!(tree.level_for_key(1, key), holding.first().copied(), "{key:?}");
            assert_eq!(tree.level_for_key(2, key), None);
            for end in keys {
                for end in [Bound::Included(end), Bound::Excluded(end), Bound::Unbounded] {
                    for level in [0, 1, 2, LEVELS] {
                        let walked = tree.level(level).iter().filter(|file| file.overlaps_keys(key, end));
                        let found = tree.tables_overlapping(level, key, end);
                        assert_eq!(numbers(found), numbers(walked), "level {level}, {key:?} to {end:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_edit_makes_another_tree_and_leaves_this_one() {
        let tree = tree();
        let next = tree.apply(&[(2, file(1, "b", to("d")))], &[(1, FileNumber(1)), (0, FileNumber(13))]).unwrap();
        assert_eq!(tree, self::tree());
        assert_eq!(numbers(next.level(0).iter()), [14, 12, 11]);
        assert_eq!((numbers(next.level(1).iter()), numbers(next.level(2).iter())), (vec![2, 3, 4], vec![1]));
        assert_eq!((next.bytes(0), next.bytes(1), next.bytes(2), next.bytes(99)), (30, 30, 10, 0));
        assert_eq!(next.iter().map(|(level, _)| level).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!(Tree::<TableMeta>::default().iter().count(), 0);
        assert_eq!(next.levels().len(), LEVELS);
    }

    #[test]
    fn a_run_is_checked_for_order_and_overlap() {
        // T3
        let tree = tree();
        assert_eq!(check_run(1, tree.level(1)), Ok(()));
        assert_eq!(check_run::<TableMeta>(1, &[]), Ok(()));
        let overlap =
            |number, other| Err(EditError::Overlap { level: 1, number: FileNumber(number), other: FileNumber(other) });
        let reversed: Vec<_> = tree.level(1).iter().rev().cloned().collect();
        assert_eq!(check_run(1, &reversed), overlap(3, 4));
        assert_eq!(check_run(1, &[file(1, "a", to("b")), file(2, "b", to("c"))]), overlap(2, 1));
        assert_eq!(check_run(1, &[file(1, "a", before("b")), file(2, "b", to("c"))]), Ok(()));
    }

    #[test]
    fn files_of_a_run_never_overlap() {
        // T3
        let tree = tree();
        for (smallest, upper) in [
            ("", UpperBound::Unbounded),
            ("a", to("b")),
            ("d", to("d")),
            ("f", to("f")),
            ("e", before("g")),
            ("g", to("h")),
            ("h", to("m")),
            ("z", to("z")),
        ] {
            let refused = tree.apply(&[(1, file(9, smallest, upper.clone()))], &[]);
            assert!(matches!(refused, Err(EditError::Overlap { level: 1, .. })), "{smallest:?} to {upper:?}");
        }
        for (smallest, upper) in [("a", before("b")), ("", to("a")), ("g\0", before("m")), ("h", to("l"))] {
            tree.apply(&[(1, file(9, smallest, upper))], &[]).unwrap();
        }
        assert_eq!(
            tree.apply(&[(3, file(1, "", to("")))], &[]),
            Err(EditError::DuplicateTable { number: FileNumber(1) })
        );
    }
}
