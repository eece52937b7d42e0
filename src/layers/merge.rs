//! Several sources merged, for a reader and for a compaction. The sources are rows in memory that cost next to nothing
//! to step over, so that the merge itself is what takes time.

use std::hint::black_box;

use super::{Row, touch};
use crate::merge::{CollectInput, MergingCursor, Output, Outside, RetentionRules, collect};
use crate::sync::Arc;
use crate::version::{Fragment, KeyCursor, Stamp, VersionRef};
use crate::{Result, Slice, Timestamp};

/// What is merged.
pub struct Merge {
    /// Newest first.
    sources: Vec<Arc<[Row]>>,
}

impl Merge {
    /// Sources, newest first, each in order and with one version a key.
    #[must_use]
    pub fn new(sources: Vec<Vec<Row>>) -> Self {
        Self { sources: sources.into_iter().map(Arc::from).collect() }
    }

    /// Reads the live keys at a timestamp, in order; says how many there are.
    ///
    /// # Errors
    /// None: the rows lie in memory.
    pub fn scan(&self, timestamp: Timestamp) -> Result<u64> {
        let mut keys = MergingCursor::new(self.cursors());
        let mut seen = 0;
        keys.seek_to_first()?;
        while keys.key().is_some() {
            if keys.is_live_at(timestamp, timestamp)? {
                touch(keys.value().map_or(&[], |value| value.bytes));
                seen += 1;
            }
            keys.next()?;
        }
        Ok(seen)
    }

    /// Merges as a compaction does that keeps what can be read at `floor` and above; says how many versions stay.
    ///
    /// # Errors
    /// None: the rows lie in memory, and the output drops them.
    pub fn collect(&self, floor: Timestamp) -> Result<u64> {
        let input = CollectInput { sources: self.cursors(), ranges: Vec::new(), lower: Slice::empty(), upper: None };
        let rules = RetentionRules { floor, snapshots: Vec::new() };
        let stats = collect(input, &rules, &Nothing, &mut Nothing, &mut |_| Ok(()))?;
        Ok(stats.versions_out)
    }

    fn cursors(&self) -> Vec<RowCursor> {
        self.sources.iter().map(|rows| RowCursor { rows: Arc::clone(rows), at: None, shown: false }).collect()
    }
}

/// Nothing lies outside the merge, and nothing is done with what comes out.
struct Nothing;

impl Outside for Nothing {
    fn may_hold(&self, _: &[u8], _: Timestamp) -> Result<bool> {
        Ok(false)
    }

    fn spans(&self, _: &[u8], _: Option<&[u8]>, _: Timestamp) -> Result<Vec<(Slice, Option<Slice>)>> {
        Ok(Vec::new())
    }
}

impl Output for Nothing {
    fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        black_box(key);
        Ok(())
    }

    fn version(&mut self, version: VersionRef<'_>) -> Result<()> {
        black_box(version);
        Ok(())
    }

    fn end_key(&mut self) -> Result<()> {
        Ok(())
    }

    fn range_tombstones(&mut self, _: &Fragment) -> Result<()> {
        Ok(())
    }

    fn should_cut(&mut self, _: &[u8]) -> bool {
        false
    }

    fn cut(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A cursor over rows: one version a key.
struct RowCursor {
    rows: Arc<[Row]>,
    /// `None`: off either end.
    at: Option<usize>,
    /// Whether the row's version is the current one.
    shown: bool,
}

impl RowCursor {
    fn stand_on(&mut self, row: Option<usize>) -> Result<()> {
        self.at = row.filter(|row| *row < self.rows.len());
        self.shown = false;
        Ok(())
    }

    fn row(&self) -> Option<&Row> {
        self.rows.get(self.at?)
    }
}

impl KeyCursor for RowCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(Some(0))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(self.rows.len().checked_sub(1))
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.stand_on(Some(self.rows.partition_point(|row| *row.key < *key)))
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.stand_on(self.rows.partition_point(|row| *row.key <= *key).checked_sub(1))
    }

    fn next(&mut self) -> Result<()> {
        self.stand_on(self.at.and_then(|at| at.checked_add(1)))
    }

    fn prev(&mut self) -> Result<()> {
        self.stand_on(self.at.and_then(|at| at.checked_sub(1)))
    }

    fn key(&self) -> Option<&[u8]> {
        self.row().map(|row| &*row.key)
    }

    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        self.shown = self.row().is_some_and(|row| row.timestamp <= timestamp);
        Ok(self.version())
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        self.shown = false;
        Ok(None)
    }

    fn version(&self) -> Option<VersionRef<'_>> {
        self.row().filter(|_| self.shown).map(Row::version)
    }

    fn covering(&mut self, _: &[u8], _: Timestamp) -> Result<Option<Stamp>> {
        Ok(None)
    }

    fn may_cover(&self) -> bool {
        false
    }
}
