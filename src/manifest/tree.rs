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
use crate::table::TableMeta;

/// How many levels a tree has, level 0 included.
pub(crate) const LEVELS: usize = 7;

/// What stands for a file in a tree.
pub(crate) trait HasMeta {
    fn meta(&self) -> &TableMeta;
}

impl HasMeta for TableMeta {
    fn meta(&self) -> &TableMeta {
        self
    }
}

impl<T: HasMeta> HasMeta for Arc<T> {
    fn meta(&self) -> &TableMeta {
        (**self).meta()
    }
}

/// The files of a keyspace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree<T> {
    levels: [Vec<T>; LEVELS],
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { levels: Default::default() }
    }
}

impl<T: HasMeta> Tree<T> {
    /// The files of a level: of level 0 newest first, of the others by key.
    pub(crate) fn level(&self, level: usize) -> &[T] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// All levels, from level 0 down.
    pub(crate) fn levels(&self) -> impl DoubleEndedIterator<Item = &[T]> + ExactSizeIterator {
        self.levels.iter().map(Vec::as_slice)
    }

    /// Every file with its level, newer sources first (T2).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.levels.iter().enumerate().flat_map(|(level, files)| files.iter().map(move |file| (level, file)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.iter().all(Vec::is_empty)
    }

    /// The size of a level's files together.
    pub(crate) fn bytes(&self, level: usize) -> u64 {
        self.level(level).iter().fold(0, |sum, file| sum.saturating_add(file.meta().bytes))
    }

    /// The one file of a level below level 0 within whose bounds `key` lies.
    pub(crate) fn level_for_key(&self, level: usize, key: &[u8]) -> Option<&T> {
        let files = self.level(level);
        let after = files.partition_point(|file| *file.meta().smallest <= *key);
        files.get(after.checked_sub(1)?).filter(|file| file.meta().upper.admits(key))
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

    /// Takes a file out.
    pub(super) fn remove(&mut self, level: usize, number: FileNumber) -> Result<T, EditError> {
        let files = self.levels.get_mut(level).ok_or(EditError::UnknownLevel { level })?;
        let at = files.iter().position(|file| file.meta().number == number);
        Ok(files.remove(at.ok_or(EditError::MissingTable { level, number })?))
    }

    /// Puts a file in: in front of level 0, at its place by key in the others. Refuses one that overlaps another (T3).
    /// That its number is new is for the caller to see to.
    pub(super) fn add(&mut self, level: usize, file: T) -> Result<(), EditError> {
        let files = self.levels.get_mut(level).ok_or(EditError::UnknownLevel { level })?;
        if level == 0 {
            files.insert(0, file);
            return Ok(());
        }
        let meta = file.meta();
        let at = files.partition_point(|other| other.meta().smallest < meta.smallest);
        let before = at.checked_sub(1).and_then(|before| files.get(before)).map(T::meta);
        let after = files.get(at).map(T::meta);
        let reaches = |lower: &TableMeta, upper: &TableMeta| lower.upper.admits(&upper.smallest);
        let overlapping = before.filter(|before| reaches(before, meta)).or(after.filter(|after| reaches(meta, after)));
        if let Some(other) = overlapping {
            return Err(EditError::Overlap { level, number: meta.number, other: other.number });
        }
        files.insert(at, file);
        Ok(())
    }
}

impl<T: HasMeta + Clone> Tree<T> {
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
