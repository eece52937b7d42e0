//! A cursor over the keys of one table, and from each key over its versions.

use super::block::{Caching, Handle};
use super::history::HistoryCursor;
use super::index::{IndexCursor, Span};
use super::reader::TableReader;
use super::rows::Rows;
use crate::format::Reason;
use crate::sync::Arc;
use crate::version::{KeyCursor, Stamp, VersionRef};
use crate::{Result, Timestamp};

/// A cursor over one table. Steps do not allocate, in either direction.
pub(crate) struct TableCursor {
    reader: Arc<TableReader>,
    caching: Caching,
    span: Span,
    index: IndexCursor,
    rows: Rows,
    current: Current,
    history: HistoryCursor,
    /// Where the last fragment was found.
    fragment: usize,
}

/// Where the current version is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Current {
    None,
    Row,
    History,
}

impl TableCursor {
    pub(crate) fn new(reader: Arc<TableReader>, caching: Caching) -> Self {
        Self {
            reader,
            caching,
            span: Span::ALL,
            index: IndexCursor::default(),
            rows: Rows::default(),
            current: Current::None,
            history: HistoryCursor::default(),
            fragment: 0,
        }
    }

    /// Lets the cursor pass over keys of which no version lies between the two, both included. It may still show some
    /// of them, and shows all versions of the others. The position is off the end then.
    pub(crate) fn set_timestamp_range(&mut self, min: Timestamp, max: Timestamp) {
        self.span = Span { min, max };
        self.rows.leave();
        self.current = Current::None;
    }

    /// Moves by `step`, which says whether there is a key; else, and after an error, the position is off the end.
    fn to(&mut self, step: impl FnOnce(&mut Self) -> Result<bool>) -> Result<()> {
        self.current = Current::None;
        self.history.leave();
        let moved = step(self);
        if !matches!(moved, Ok(true)) {
            self.rows.leave();
            self.history.release();
        }
        moved.map(|_| ())
    }

    /// Goes into a block, unless it is the current one.
    fn enter(&mut self, block: Handle) -> Result<()> {
        if self.rows.block().is_none_or(|current| current.offset != block.offset) {
            self.rows.enter(self.reader.data_block(block, self.caching)?);
        }
        Ok(())
    }

    fn first_of(&mut self, block: Option<Handle>) -> Result<bool> {
        let Some(block) = block else { return Ok(false) };
        self.enter(block)?;
        Ok(self.in_rows(Rows::first)? && self.is_in_place()?)
    }

    fn last_of(&mut self, block: Option<Handle>) -> Result<bool> {
        let Some(block) = block else { return Ok(false) };
        self.enter(block)?;
        Ok(self.in_rows(Rows::last)? && self.is_in_place()?)
    }

    /// Whether the row that the cursor has come to lies where the index says; else it is an error.
    fn is_in_place(&self) -> Result<bool> {
        let Some(key) = self.rows.key() else { return Ok(false) };
        self.index.check(&self.reader.index(self.caching, self.span), key).map(|()| true)
    }

    fn next_block(&mut self) -> Result<bool> {
        let block = self.index.next(&self.reader.index(self.caching, self.span))?;
        self.first_of(block)
    }

    fn prev_block(&mut self) -> Result<bool> {
        let block = self.index.prev(&self.reader.index(self.caching, self.span))?;
        self.last_of(block)
    }

    fn in_rows(&mut self, step: impl FnOnce(&mut Rows) -> Result<bool, Reason>) -> Result<bool> {
        step(&mut self.rows).map_err(|reason| {
            let offset = self.rows.block().map_or(0, |block| block.offset);
            self.reader.source.corruption(offset, reason)
        })
    }
}

impl KeyCursor for TableCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.to(|cursor| {
            let block = cursor.index.first(&cursor.reader.index(cursor.caching, cursor.span))?;
            cursor.first_of(block)
        })
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.to(|cursor| {
            let block = cursor.index.last(&cursor.reader.index(cursor.caching, cursor.span))?;
            cursor.last_of(block)
        })
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.to(|cursor| {
            let block = cursor.index.seek(&cursor.reader.index(cursor.caching, cursor.span), key)?;
            let Some(block) = block else { return Ok(false) };
            cursor.enter(block)?;
            // A key between the last one of the block and its entry in the index is in no block.
            Ok(cursor.in_rows(|rows| rows.seek(key))? || cursor.next_block()?)
        })
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.to(|cursor| {
            let block = cursor.index.seek_for_prev(&cursor.reader.index(cursor.caching, cursor.span), key)?;
            let Some(block) = block else { return Ok(false) };
            cursor.enter(block)?;
            Ok(cursor.in_rows(|rows| rows.seek_for_prev(key))? || cursor.prev_block()?)
        })
    }

    fn next(&mut self) -> Result<()> {
        if self.rows.key().is_none() {
            return Ok(());
        }
        self.to(|cursor| Ok(cursor.in_rows(Rows::next)? || cursor.next_block()?))
    }

    fn prev(&mut self) -> Result<()> {
        if self.rows.key().is_none() {
            return Ok(());
        }
        self.to(|cursor| Ok(cursor.in_rows(Rows::prev)? || cursor.prev_block()?))
    }

    fn key(&self) -> Option<&[u8]> {
        self.rows.key()
    }

    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        self.current = Current::None;
        let Some((row, block)) = self.rows.row() else { return Ok(None) };
        if row.version.timestamp <= timestamp {
            self.current = Current::Row;
            return Ok(Some(row.version.borrow(&block.bytes)));
        }
        if !self.history.seek(&self.reader.source, self.caching, (row, block), timestamp)? {
            return Ok(None);
        }
        self.current = Current::History;
        Ok(self.history.version())
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        let current = std::mem::replace(&mut self.current, Current::None);
        let Some((row, block)) = self.rows.row() else { return Ok(None) };
        let found = match current {
            Current::None => false,
            Current::Row => {
                // No version is at timestamp 0 or below it.
                let below = row.version.timestamp.saturating_sub(1);
                self.history.seek(&self.reader.source, self.caching, (row, block), below)?
            }
            Current::History => self.history.older(&self.reader.source, self.caching)?,
        };
        if !found {
            return Ok(None);
        }
        self.current = Current::History;
        Ok(self.history.version())
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        Ok(self.reader.range_tombstones().covering_near(&mut self.fragment, key, timestamp))
    }
}
