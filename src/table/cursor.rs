//! A cursor over the keys of one table, and from each key over its versions.

use super::block::{BlockSource, Caching};
use super::history::HistoryCursor;
use super::index::{Index, IndexCursor, Span};
use super::reader::TableReader;
use super::row::Row;
use super::rows::Rows;
use crate::format::Reason;
use crate::sync::Arc;
use crate::version::{KeyCursor, Stamp, ValueRef, VersionRef};
use crate::{Result, Timestamp};

/// A cursor over one table. Steps do not allocate, in either direction.
pub(crate) struct TableCursor {
    reader: Arc<TableReader>,
    caching: Caching,
    span: Span,
    index: IndexCursor,
    /// In the block that `entered` says: its place in the index.
    rows: Rows,
    entered: Option<(usize, usize)>,
    current: Current,
    history: HistoryCursor,
    ahead: HistoriesAhead,
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

/// The place of a block in the index, and of a row in it.
type RowPlace = ((usize, usize), usize);

/// A walk at a time in the past needs an older version of one row after the other, and waits for several lines of memory
/// for each. So the next row's version is looked up while the current one is used, and what that will look at for the row
/// behind it is fetched.
#[derive(Default)]
struct HistoriesAhead {
    /// Where an older version was needed last, and how many rows in a row it has been by now.
    last: Option<RowPlace>,
    walked: u32,
    /// On the version of that row at that time.
    history: HistoryCursor,
    ready: Option<(RowPlace, Timestamp)>,
    row: Row,
}

impl HistoriesAhead {
    /// It is a walk after so many steps in one direction within a block: who looks at a row or two must not pay for more.
    const WALK: u32 = 3;

    /// Gives the version, if it was looked up.
    fn take(&mut self, place: Option<RowPlace>, timestamp: Timestamp, into: &mut HistoryCursor) -> bool {
        let is_ready = self.ready.take().is_some_and(|(at, time)| Some(at) == place && time == timestamp);
        if is_ready {
            std::mem::swap(into, &mut self.history);
        }
        is_ready
    }

    /// Looks ahead from a row of which an older version was needed.
    fn look(&mut self, rows: &Rows, place: Option<RowPlace>, timestamp: Timestamp, from: (&BlockSource, Caching)) {
        let Some((block, at)) = place else { return };
        let before = self.last.replace((block, at)).filter(|(other, _)| *other == block).map(|(_, before)| before);
        let step = |from: usize| match before {
            Some(before) if before.checked_add(1) == Some(at) => from.checked_add(1),
            Some(before) if at.checked_add(1) == Some(before) => from.checked_sub(1),
            _ => None,
        };
        let Some(next) = step(at) else {
            self.walked = 0;
            return;
        };
        self.walked = self.walked.saturating_add(1);
        if self.walked < Self::WALK {
            return;
        }
        if let Some(block_there) = rows.peek(next, &mut self.row)
            && self.row.version.timestamp > timestamp
            // An error is for who comes there.
            && matches!(self.history.seek(from.0, from.1, (&self.row, block_there), timestamp), Ok(true))
        {
            self.history.fetch_value();
            self.ready = Some(((block, next), timestamp));
        }
        if let Some(behind) = step(next)
            && let Some(block_there) = rows.peek(behind, &mut self.row)
        {
            HistoryCursor::fetch(&self.row, block_there);
        }
    }
}

impl TableCursor {
    pub(crate) fn new(reader: Arc<TableReader>, caching: Caching) -> Self {
        Self {
            reader,
            caching,
            span: Span::ALL,
            index: IndexCursor::default(),
            rows: Rows::default(),
            entered: None,
            current: Current::None,
            history: HistoryCursor::default(),
            ahead: HistoriesAhead::default(),
            fragment: 0,
        }
    }

    /// Lets the cursor pass over keys of which no version lies between the two, both included. It may still show some
    /// of them, and shows all versions of the others. The position is off the end then.
    pub(crate) fn set_timestamp_range(&mut self, min: Timestamp, max: Timestamp) {
        self.span = self.reader.span(Span { min, max });
        self.rows.leave();
        self.current = Current::None;
    }

    /// Moves by `step`, which says whether there is a key; else, and after an error, the position is off the end.
    #[inline]
    fn to(&mut self, step: impl FnOnce(&mut Self) -> Result<bool>) -> Result<()> {
        if self.current == Current::History {
            self.history.leave();
        }
        self.current = Current::None;
        let moved = step(self);
        if !matches!(moved, Ok(true)) {
            self.rows.leave();
            self.history.release();
            self.ahead = HistoriesAhead::default();
        }
        moved.map(|_| ())
    }

    /// Moves the index by `step`, and goes into the block there, unless it is the current one; says whether there is
    /// one.
    fn enter(&mut self, step: impl FnOnce(&mut IndexCursor, &Index<'_>) -> Result<bool>) -> Result<bool> {
        let index = self.reader.index(self.caching, self.span);
        if !step(&mut self.index, &index)? {
            return Ok(false);
        }
        let place = self.index.place();
        if self.entered != place || self.rows.block().is_none() {
            self.entered = None;
            let Some(block) = self.index.block(&index)? else { return Ok(false) };
            self.rows.enter(block);
            self.entered = place;
        }
        Ok(true)
    }

    fn next_block(&mut self) -> Result<bool> {
        let entered = self.enter(IndexCursor::next)?;
        self.index.fetch_next(true);
        Ok(entered && self.in_rows(Rows::first)?)
    }

    fn prev_block(&mut self) -> Result<bool> {
        let entered = self.enter(IndexCursor::prev)?;
        self.index.fetch_next(false);
        Ok(entered && self.in_rows(Rows::last)?)
    }

    #[inline]
    fn in_rows(&mut self, step: impl FnOnce(&mut Rows) -> Result<bool, Reason>) -> Result<bool> {
        step(&mut self.rows).map_err(|reason| {
            let offset = self.rows.block().map_or(0, |block| block.offset);
            self.reader.source.corruption(offset, reason)
        })
    }
}

impl KeyCursor for TableCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.to(|cursor| Ok(cursor.enter(IndexCursor::first)? && cursor.in_rows(Rows::first)?))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.to(|cursor| Ok(cursor.enter(IndexCursor::last)? && cursor.in_rows(Rows::last)?))
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.to(|cursor| {
            // A key between the last one of the block and its entry in the index is in no block.
            Ok(cursor.enter(|at, index| at.seek(index, key))?
                && (cursor.in_rows(|rows| rows.seek(key))? || cursor.next_block()?))
        })
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.to(|cursor| {
            Ok(cursor.enter(|at, index| at.seek_for_prev(index, key))?
                && (cursor.in_rows(|rows| rows.seek_for_prev(key))? || cursor.prev_block()?))
        })
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.rows.key().is_none() {
            return Ok(());
        }
        self.to(|cursor| Ok(cursor.in_rows(Rows::next)? || cursor.next_block()?))
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if self.rows.key().is_none() {
            return Ok(());
        }
        self.to(|cursor| Ok(cursor.in_rows(Rows::prev)? || cursor.prev_block()?))
    }

    #[inline]
    fn key(&self) -> Option<&[u8]> {
        self.rows.key()
    }

    #[inline]
    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        self.current = Current::None;
        let Some((row, block)) = self.rows.row() else { return Ok(None) };
        if row.version.timestamp <= timestamp {
            self.current = Current::Row;
        } else {
            let place = self.entered.zip(self.rows.at());
            let found = self.ahead.take(place, timestamp, &mut self.history)
                || self.history.seek(&self.reader.source, self.caching, (row, block), timestamp)?;
            if found {
                self.current = Current::History;
            }
            self.ahead.look(&self.rows, place, timestamp, (&self.reader.source, self.caching));
        }
        Ok(self.version())
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
        if found {
            self.current = Current::History;
        }
        Ok(self.version())
    }

    #[inline]
    fn version(&self) -> Option<VersionRef<'_>> {
        match self.current {
            Current::None => None,
            Current::Row => self.rows.row().map(|(row, block)| row.version.borrow(block.bytes())),
            Current::History => self.history.version(),
        }
    }

    #[inline]
    fn is_live_at(&mut self, timestamp: Timestamp, now: Timestamp) -> Result<bool> {
        if let Some((row, _)) = self.rows.row()
            && row.version.timestamp <= timestamp
        {
            self.current = Current::Row;
            return Ok(row.version.is_live(now));
        }
        Ok(self.version_at(timestamp)?.is_some_and(|version| version.is_live(now)))
    }

    #[inline]
    fn value(&self) -> Option<ValueRef<'_>> {
        if self.current == Current::Row
            && let Some((row, block)) = self.rows.row()
        {
            return row.version.value(block.bytes());
        }
        self.version()?.value
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        Ok(self.reader.range_tombstones().covering_near(&mut self.fragment, key, timestamp))
    }
}
