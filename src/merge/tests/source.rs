//! A source in memory: like a memtable (sequences, replaced versions still there) or like a table.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::merge::SourceRanges;
use crate::version::{KeyCursor, Stamp, StoredVersion, VersionRef};
use crate::{Error, Result, Slice, Timestamp};

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Slice,
    /// (timestamp, sequence) descending.
    pub(super) versions: Vec<StoredVersion>,
}

/// What one source holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    pub(super) rows: Vec<Row>,
    pub(super) ranges: SourceRanges,
}

impl Data {
    pub(super) fn stamps(&self) -> impl Iterator<Item = Stamp> {
        let points = self.rows.iter().flat_map(|row| &row.versions).map(|version| version.stamp);
        points.chain(self.ranges.iter().flat_map(|part| part.fragments()).flat_map(|f| &f.stamps).copied())
    }

    pub(super) fn covering(&self, key: &[u8], timestamp: Timestamp) -> Option<Stamp> {
        self.ranges.iter().find_map(|part| part.find(key))?.at(timestamp)
    }

    pub(super) fn point(&self, key: &[u8], timestamp: Timestamp) -> Option<StoredVersion> {
        let row = self.rows.iter().find(|row| row.key == *key)?;
        row.versions.iter().find(|version| version.stamp.timestamp <= timestamp).cloned()
    }
}

#[derive(Clone, Default)]
pub(super) struct TestSource {
    data: Arc<Data>,
    row: Option<usize>,
    version: usize,
    /// How many more calls succeed.
    pub(super) calls_left: Option<Rc<Cell<usize>>>,
    /// Rows without versions are shown once this is set, as a memtable shows what was inserted meanwhile.
    pub(super) ghosts: Rc<Cell<bool>>,
}

impl TestSource {
    pub(super) fn new(data: Arc<Data>) -> Self {
        Self { data, ghosts: Rc::new(Cell::new(true)), ..Self::default() }
    }

    fn call(&mut self) -> Result<()> {
        if let Some(left) = &self.calls_left {
            if left.get() == 0 {
                self.row = None;
                return Err(Error::Closed);
            }
            left.set(left.get() - 1);
        }
        Ok(())
    }

    fn shown(&self, row: &usize) -> bool {
        self.ghosts.get() || !self.data.rows[*row].versions.is_empty()
    }

    fn first_from(&mut self, row: usize) {
        self.row = (row..self.data.rows.len()).find(|row| self.shown(row));
    }

    fn last_before(&mut self, row: usize) {
        self.row = (0..row).rev().find(|row| self.shown(row));
    }
}

impl KeyCursor for TestSource {
    fn seek_to_first(&mut self) -> Result<()> {
        self.call()?;
        self.first_from(0);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.call()?;
        self.last_before(self.data.rows.len());
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.call()?;
        self.first_from(self.data.rows.partition_point(|row| *row.key < *key));
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.call()?;
        self.last_before(self.data.rows.partition_point(|row| *row.key <= *key));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.call()?;
        if let Some(row) = self.row {
            self.first_from(row + 1);
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.call()?;
        if let Some(row) = self.row {
            self.last_before(row);
        }
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        Some(&self.data.rows[self.row?].key)
    }

    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        self.call()?;
        let Some(row) = self.row else { return Ok(None) };
        self.version = self.data.rows[row].versions.partition_point(|version| version.stamp.timestamp > timestamp);
        Ok(self.version())
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        self.call()?;
        self.version += 1;
        Ok(self.version())
    }

    fn version(&self) -> Option<VersionRef<'_>> {
        self.data.rows[self.row?].versions.get(self.version).map(StoredVersion::as_version_ref)
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        self.call()?;
        assert!(self.may_cover());
        Ok(self.data.covering(key, timestamp))
    }

    fn may_cover(&self) -> bool {
        self.data.ranges.iter().any(|part| !part.is_empty())
    }
}
