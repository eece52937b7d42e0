//! The files of one level, and which of them can hold a key.
//!
//! A binary search over files asks each that it comes to for its least key: that is the file, what is known of it, and the
//! key, one behind the other. The first eight bytes of all least keys, behind what they have in common, lie side by side
//! here, so that a search reads a line or two, and looks at files only where those bytes are equal.

use std::ops::{Deref, Range};

use super::TableMeta;
use crate::format::shared_prefix;
use crate::sync::Arc;

/// What stands for a file.
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

/// The files of one level: a run, whose files lie in key order and do not overlap (T3), or files that may overlap.
#[derive(Debug, Clone)]
pub(crate) struct Level<T> {
    files: Vec<T>,
    /// Of a run.
    fences: Fences,
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Self { files: Vec::new(), fences: Fences::default() }
    }
}

impl<T: PartialEq> PartialEq for Level<T> {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl<T> Deref for Level<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.files
    }
}

impl<T: HasMeta> Level<T> {
    /// Of files in key order that do not overlap.
    pub(crate) fn run(files: Vec<T>) -> Self {
        let fences = Fences::new(&files);
        Self { files, fences }
    }

    /// The same files for which `make` makes others of the same bounds.
    pub(crate) fn map<U>(&self, make: impl Fn(&T) -> U) -> Level<U> {
        Level { files: self.files.iter().map(make).collect(), fences: self.fences.clone() }
    }

    /// Among files that may overlap, which are not searched by key.
    pub(crate) fn put_in_front(&mut self, file: T) {
        self.files.insert(0, file);
    }

    /// Into a run, where it belongs by key.
    pub(crate) fn insert(&mut self, at: usize, file: T) {
        self.files.insert(at, file);
        self.fences.insert(at, &self.files);
    }

    pub(crate) fn remove(&mut self, at: usize) -> T {
        self.fences.remove(at);
        self.files.remove(at)
    }

    /// The one file of a run within whose bounds `key` lies.
    pub(crate) fn file_for_key(&self, key: &[u8]) -> Option<&T> {
        let before = self.begin_at_or_below(key).checked_sub(1)?;
        self.files.get(before).filter(|file| file.meta().upper.admits(key))
    }

    /// The place of the first file of a run that ends at or above `key`, which is the only one that can hold it; or the
    /// number of files.
    pub(crate) fn place_for_key(&self, key: &[u8]) -> usize {
        let after = self.begin_at_or_below(key);
        let before = after.checked_sub(1).filter(|before| {
            let file = self.files.get(*before);
            file.is_some_and(|file| file.meta().upper.admits(key))
        });
        before.unwrap_or(after)
    }

    /// How many files of a run have a least key at or below `key`.
    fn begin_at_or_below(&self, key: &[u8]) -> usize {
        let same = self.fences.find(key);
        let files = self.files.get(same.clone()).unwrap_or_default();
        same.start + files.partition_point(|file| *file.meta().smallest <= *key)
    }
}

/// The heads of the least keys of the files of a run.
#[derive(Debug, Clone, Default)]
struct Fences {
    /// What all least keys have in common.
    common: Vec<u8>,
    heads: Vec<u64>,
}

impl Fences {
    fn new<T: HasMeta>(files: &[T]) -> Self {
        let common = common(files);
        let heads = files.iter().map(|file| head(behind(file, common.len()))).collect();
        Self { common: common.to_vec(), heads }
    }

    /// One of the files is new.
    fn insert<T: HasMeta>(&mut self, at: usize, files: &[T]) {
        // Those that were there before begin with what is in common; without any, nothing does.
        if let Some(file) = files.get(at)
            && !self.heads.is_empty()
            && at <= self.heads.len()
            && common(files).len() == self.common.len()
        {
            self.heads.insert(at, head(behind(file, self.common.len())));
        } else {
            *self = Self::new(files);
        }
    }

    /// A file goes. What all had in common, those that stay have.
    fn remove(&mut self, at: usize) {
        if at < self.heads.len() {
            self.heads.remove(at);
        }
    }

    /// The files whose least key cannot be told from `key` here: those before are below it, those behind above.
    fn find(&self, key: &[u8]) -> Range<usize> {
        /// So many heads are compared all: that waits for all their lines at once.
        const FEW: usize = 64;
        let (front, rest) = key.split_at_checked(self.common.len()).unwrap_or((key, &[]));
        let none = match front.cmp(&self.common) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => self.heads.len(),
            std::cmp::Ordering::Equal => {
                let head = head(rest);
                let low = match self.heads.len() {
                    ..=FEW => self.heads.iter().filter(|other| **other < head).count(),
                    _ => self.heads.partition_point(|other| *other < head),
                };
                let same = self.heads.iter().skip(low).take_while(|other| **other == head).count();
                return low..low + same;
            }
        };
        none..none
    }
}

/// What the least keys of files in key order have in common: what the first and the last have, all have.
fn common<T: HasMeta>(files: &[T]) -> &[u8] {
    let (Some(first), Some(last)) = (files.first(), files.last()) else { return &[] };
    let first = &first.meta().smallest;
    first.get(..shared_prefix(first, &last.meta().smallest)).unwrap_or_default()
}

fn behind<T: HasMeta>(file: &T, common: usize) -> &[u8] {
    file.meta().smallest.get(common..).unwrap_or_default()
}

/// The first eight bytes as a number that sorts as they do; a shorter key's are filled with zeros.
fn head(key: &[u8]) -> u64 {
    if let Some(head) = key.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; size_of::<u64>()];
    head.iter_mut().zip(key).for_each(|(byte, of)| *byte = *of);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::Slice;
    use crate::format::FileNumber;
    use crate::table::UpperBound;

    fn file(smallest: &[u8]) -> TableMeta {
        TableMeta::of_keys(FileNumber(1), Slice::copy_of(smallest), UpperBound::Included(Slice::copy_of(smallest)))
    }

    fn check(level: &Level<TableMeta>, keys: &[Vec<u8>]) {
        for key in keys {
            let expected = level.iter().find(|file| *file.smallest == **key);
            assert_eq!(level.file_for_key(key), expected, "{key:?}");
            let place = level.iter().position(|file| *file.smallest >= **key);
            assert_eq!(level.place_for_key(key), place.unwrap_or(level.len()), "{key:?}");
        }
    }

    // S1, T3
    #[test]
    fn the_file_of_a_key_is_found_whatever_files_came_and_went_before() {
        // Keys that eight bytes tell apart and such that they do not, also for the zeros that fill short ones.
        let fronts = [&b""[..], b"\0", b"one front for many", b"one front for most"];
        let ends = [&b""[..], b"\0", b"\0\0\0\0\0\0\0\0", b"a", b"a\0", b"12345678", b"123456789", b"\xff"];
        let mut keys: Vec<Vec<u8>> = fronts.iter().flat_map(|a| ends.map(|b| [*a, b].concat())).collect();
        keys.extend((0..100u8).map(|end| [&b"one front for many more"[..], &[end]].concat()));
        keys.sort();
        keys.dedup();
        for seed in 0..20 {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut level: Level<TableMeta> = Level::default();
            // Of every other key, so that there are keys between them; more and fewer, from the ends and the middle.
            for round in 0..300 {
                let key = &keys[dice.random_range(0..keys.len() / 2) * 2];
                let at = level.partition_point(|file| *file.smallest < **key);
                let there = level.get(at).is_some_and(|file| *file.smallest == **key);
                if there && dice.random_range(0..3) < 2 {
                    level.remove(at);
                } else if !there && round % 100 < 80 {
                    level.insert(at, file(key));
                }
                if round % 10 == 0 {
                    check(&level, &keys);
                    check(&level.map(TableMeta::clone), &keys);
                    check(&Level::run(level.to_vec()), &keys);
                }
            }
            println!("seed {seed}: {} files", level.len());
            while !level.is_empty() {
                level.remove(dice.random_range(0..level.len()));
                check(&level, &keys);
            }
            // What was in common goes with the last file.
            for key in keys.iter().filter(|_| dice.random_range(0..4) == 0) {
                level.insert(0, file(key));
                check(&level, &keys);
                level.remove(0);
            }
        }
    }
}
