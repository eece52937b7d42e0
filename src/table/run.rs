//! A cursor over one level: its tables, which do not overlap, one behind the other.

use std::fmt;
use std::ops::Deref;

use super::{Caching, Level, Table, TableCursor};
use crate::sync::Arc;
use crate::version::{Hidden, KeyCursor, RangeTombstones, Stamp, ValueRef, VersionRef};
use crate::{Result, Timestamp};

/// A cursor over tables in key order that do not overlap (T3). Opens a table when it comes to it.
pub(crate) struct RunCursor {
    tables: Tables,
    caching: Caching,
    span: (Timestamp, Timestamp),
    /// The table of the position, and the position in it; `None` off an end.
    current: Option<(usize, TableCursor)>,
    /// The table whose range tombstones were asked last, and where in them the answer was.
    covering: Option<(usize, Arc<RangeTombstones>, usize)>,
}

/// Shared with the tree: a cursor is made without counting every table.
enum Tables {
    One(Arc<Table>),
    Run(Arc<Level<Arc<Table>>>),
}

impl Deref for Tables {
    type Target = [Arc<Table>];

    fn deref(&self) -> &[Arc<Table>] {
        match self {
            Self::One(table) => std::slice::from_ref(table),
            Self::Run(tables) => tables,
        }
    }
}

impl RunCursor {
    /// Over a run.
    pub(crate) fn new(tables: Arc<Level<Arc<Table>>>) -> Self {
        Self::of(Tables::Run(tables), Caching::Fill)
    }

    /// Over one table.
    pub(crate) fn one(table: Arc<Table>) -> Self {
        Self::of(Tables::One(table), Caching::Fill)
    }

    /// What a merge reads is read once: it leaves nothing in the block cache.
    pub(crate) fn for_merge(tables: Arc<Level<Arc<Table>>>) -> Self {
        Self::of(Tables::Run(tables), Caching::LookUp)
    }

    fn of(tables: Tables, caching: Caching) -> Self {
        Self { tables, caching, span: (0, Timestamp::MAX), current: None, covering: None }
    }

    /// As [`TableCursor::set_timestamp_range`]; tables without a timestamp in the range are not even opened.
    pub(crate) fn set_timestamp_range(&mut self, min: Timestamp, max: Timestamp) {
        self.span = (min, max);
        self.current = None;
    }

    /// Whether a table can have keys that matter.
    fn matters(&self, place: usize) -> bool {
        let (min, max) = self.span;
        self.tables.get(place).is_some_and(|table| {
            let meta = table.meta();
            meta.keys > 0 && meta.min_timestamp <= max && min <= meta.max_timestamp
        })
    }

    /// Tries the tables in `places` until one has a key where `step` moves to.
    fn to(&mut self, places: impl Iterator<Item = usize>, step: impl Fn(&mut TableCursor) -> Result<()>) -> Result<()> {
        let mut held = self.current.take();
        for place in places {
            if !self.matters(place) {
                continue;
            }
            let mut cursor = match held.take().filter(|(at, _)| *at == place) {
                Some((_, cursor)) => cursor,
                None => self.open(place)?,
            };
            step(&mut cursor)?;
            if cursor.key().is_some() {
                self.current = Some((place, cursor));
                break;
            }
        }
        Ok(())
    }

    fn open(&self, place: usize) -> Result<TableCursor> {
        let Some(table) = self.tables.get(place) else { return Err(crate::Error::invalid("no such table in a level")) };
        let mut cursor = table.cursor(self.caching)?;
        cursor.set_timestamp_range(self.span.0, self.span.1);
        Ok(cursor)
    }

    /// The first table that ends at or after `key`, which is the only one that can hold it.
    fn table_at(&self, key: &[u8]) -> usize {
        match &self.tables {
            Tables::One(table) => usize::from(!table.meta().upper.admits(key)),
            Tables::Run(tables) => tables.place_for_key(key),
        }
    }

    #[inline]
    fn on_next(&mut self, mut step: impl FnMut(&mut TableCursor) -> Result<()>) -> Result<Option<usize>> {
        let Some((place, cursor)) = &mut self.current else { return Ok(None) };
        let place = *place;
        let moved = step(cursor);
        if moved.is_err() || cursor.key().is_none() {
            self.current = None;
            moved?;
            return Ok(Some(place));
        }
        Ok(None)
    }
}

impl fmt::Debug for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<_> = self.tables.iter().map(|table| table.meta().number).collect();
        f.debug_struct("RunCursor").field("tables", &tables).field("key", &self.key()).finish_non_exhaustive()
    }
}

impl KeyCursor for RunCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.to(0..self.tables.len(), TableCursor::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.to((0..self.tables.len()).rev(), TableCursor::seek_to_last)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.to(self.table_at(key)..self.tables.len(), |cursor| cursor.seek(key))
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        let end = self.table_at(key).saturating_add(1).min(self.tables.len());
        self.to((0..end).rev(), |cursor| cursor.seek_for_prev(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        match self.on_next(TableCursor::next)? {
            Some(left) => self.to(left + 1..self.tables.len(), TableCursor::seek_to_first),
            None => Ok(()),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        match self.on_next(TableCursor::prev)? {
            Some(left) => self.to((0..left).rev(), TableCursor::seek_to_last),
            None => Ok(()),
        }
    }

    #[inline]
    fn key(&self) -> Option<&[u8]> {
        self.current.as_ref()?.1.key()
    }

    #[inline]
    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        match &mut self.current {
            Some((_, cursor)) => cursor.version_at(timestamp),
            None => Ok(None),
        }
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        match &mut self.current {
            Some((_, cursor)) => cursor.older_version(),
            None => Ok(None),
        }
    }

    #[inline]
    fn version(&self) -> Option<VersionRef<'_>> {
        self.current.as_ref()?.1.version()
    }

    #[inline]
    fn is_live_at(&mut self, timestamp: Timestamp, now: Timestamp) -> Result<bool> {
        match &mut self.current {
            Some((_, cursor)) => cursor.is_live_at(timestamp, now),
            None => Ok(false),
        }
    }

    #[inline]
    fn value(&self) -> Option<ValueRef<'_>> {
        self.current.as_ref()?.1.value()
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        let asked = self.covering.as_ref().map(|(place, ..)| *place);
        let holds = |place: &usize| self.tables.get(*place).is_some_and(|table| table.meta().contains(key));
        let place = asked.filter(holds).unwrap_or_else(|| self.table_at(key));
        let Some(table) = self.tables.get(place).filter(|table| table.meta().contains(key)) else { return Ok(None) };
        if table.meta().range_tombstones == 0 || table.meta().min_timestamp > timestamp {
            return Ok(None);
        }
        let (_, ranges, hint) = match self.covering.take().filter(|_| asked == Some(place)) {
            Some(held) => self.covering.insert(held),
            None => self.covering.insert((place, table.reader()?.range_tombstones().clone(), 0)),
        };
        Ok(ranges.covering_near(hint, key, timestamp))
    }

    fn hidden_around(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Hidden>> {
        let Some(table) = self.tables.get(self.table_at(key)).filter(|table| table.meta().contains(key)) else {
            return Ok(None);
        };
        if table.meta().range_tombstones == 0 || table.meta().min_timestamp > timestamp {
            return Ok(None);
        }
        Ok(table.reader()?.range_tombstones().find(key).and_then(|fragment| Hidden::by(fragment, timestamp)))
    }

    fn pass_over(&mut self, hidden: &Hidden, forward: bool) -> Result<bool> {
        let Some((place, _)) = self.current else { return Ok(false) };
        let is_older =
            |place: usize| self.tables.get(place).is_some_and(|table| table.meta().max_timestamp < hidden.older_than);
        if !is_older(place) {
            return Ok(false);
        }
        if forward {
            // The first table that holds something newer, or that does not end within the range.
            let ends_within =
                |table: &Arc<Table>| hidden.end.as_ref().is_none_or(|end| !table.meta().upper.admits(end));
            let within = |place: &usize| is_older(*place) && self.tables.get(*place).is_some_and(ends_within);
            let left = (place..self.tables.len()).take_while(within).count();
            let (first, end) = (place + left, hidden.end.as_deref().filter(|_| is_older(place + left)));
            self.to(first..self.tables.len(), |cursor| match end {
                Some(end) => cursor.seek(end),
                None => cursor.seek_to_first(),
            })?;
        } else {
            let starts_within = |table: &Arc<Table>| table.meta().smallest >= hidden.start;
            let within = |place: &usize| is_older(*place) && self.tables.get(*place).is_some_and(starts_within);
            let left = (0..=place).rev().take_while(within).count();
            let last = (place + 1).saturating_sub(left);
            let start = last.checked_sub(1).filter(|place| is_older(*place)).map(|_| &*hidden.start);
            self.to((0..last).rev(), |cursor| match start {
                Some(start) => {
                    cursor.seek_for_prev(start)?;
                    if cursor.key() == Some(start) { cursor.prev() } else { Ok(()) }
                }
                None => cursor.seek_to_last(),
            })?;
        }
        Ok(true)
    }

    fn may_cover(&self) -> bool {
        self.tables.iter().any(|table| table.meta().range_tombstones > 0)
    }
}
