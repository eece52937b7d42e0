//! Comparing what the database reads at a timestamp with what git says of that commit.

use std::collections::HashMap;

use strandline::{Db, Error, Keyspace, Timestamp};

use crate::git::{ObjectId, Repository, Result};
use crate::load::Loaded;

/// Compares, and collects the differences.
pub struct Checker<'a> {
    pub repository: &'a Repository,
    pub loaded: &'a Loaded,
    pub db: &'a Db,
    pub files: &'a Keyspace,
    pub differences: Vec<String>,
}

impl Checker<'_> {
    /// The snapshot at `timestamp` is the tree of that commit, in paths and contents, read in both directions.
    pub fn tree_at(&mut self, timestamp: Timestamp) -> Result<()> {
        let expected = self.repository.tree(self.loaded.commit_at(timestamp)?)?;
        let snapshot = self.db.snapshot_at(timestamp)?;
        let named = |pair: strandline::Result<(strandline::Slice, strandline::Slice)>| -> Result<_> {
            let (path, content) = pair?;
            Ok((path.to_vec(), ObjectId::of_blob(&content)))
        };
        let forward = snapshot.iter(self.files).map(named).collect::<Result<Vec<_>>>()?;
        let mut backward = snapshot.iter(self.files).rev().map(named).collect::<Result<Vec<_>>>()?;
        backward.reverse();
        self.compare(&format!("the tree at {timestamp}, read forward,"), &forward, &expected);
        self.compare(&format!("the tree at {timestamp}, read backward,"), &backward, &expected);
        Ok(())
    }

    /// The history of `path` is what `git log` says: every version above the floor, and the one that is read at the
    /// floor. Gives its length.
    pub fn history_of(&mut self, path: &[u8], floor: Timestamp) -> Result<usize> {
        let tip = self.loaded.commit_at(self.loaded.last())?;
        let positions: HashMap<ObjectId, Timestamp> = self.loaded.commits.iter().copied().zip(1..).collect();
        let log = self.repository.log(tip, path)?.into_iter().map(|(commit, change)| {
            let position = positions.get(&commit).ok_or("git log tells of a commit that was not loaded")?;
            Ok((*position, change.to))
        });
        let log = log.collect::<Result<Vec<(Timestamp, Option<ObjectId>)>>>()?;
        let above = log.partition_point(|(timestamp, _)| *timestamp > floor);
        let readable = log.get(above).filter(|(_, content)| content.is_some());
        let expected: Vec<_> = log[..above].iter().chain(readable).copied().collect();
        let found = self.files.history(path, ..)?.map(|version| {
            let version = version?;
            Ok((version.timestamp, version.value.map(|content| ObjectId::of_blob(&content))))
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        self.compare(&format!("the history of {} above {floor}", path.escape_ascii()), &found, &expected);
        Ok(found.len())
    }

    /// Reads at `timestamp` are refused.
    pub fn refused_at(&mut self, timestamp: Timestamp) {
        match self.db.snapshot_at(timestamp) {
            Err(Error::BelowRetained { .. }) => {}
            other => self.differ(format!("a snapshot at {timestamp}, below the floor, gave {:?}", other.map(|_| ()))),
        }
        match self.files.get_at("", timestamp) {
            Err(Error::BelowRetained { .. }) => {}
            other => self.differ(format!("a read at {timestamp}, below the floor, gave {other:?}")),
        }
    }

    pub fn differ(&mut self, difference: String) {
        self.differences.push(difference);
    }

    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &[T], expected: &[T]) {
        let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
        if let Some(i) = first.or_else(|| (found.len() != expected.len()).then_some(found.len().min(expected.len()))) {
            self.differ(format!(
                "{what} differs from git at entry {i} of {}: found {:?}, git says {:?}",
                expected.len(),
                found.get(i),
                expected.get(i)
            ));
        }
    }
}
