//! Iterators and cursors over the pairs of one consistent state.

use std::fmt;
use std::ops::Bound;

use super::detours::CursorDetours;
use super::handle::Session;
use super::range::KeyBounds;
use super::read::{At, Source, Target};
use crate::merge::{AsOfCursor, MergingCursor, Scan};
use crate::sync::Arc;
use crate::{Error, Result, Slice};

/// The pairs of a range in key order, lazily, from either end.
///
/// Sees the state that was fixed when it was made, whatever is written, flushed, compacted or dropped meanwhile. It
/// holds on to the memtables and tables of that state, so one that is kept for long keeps their memory and space. After
/// an error it is at its end.
pub struct Iter {
    session: Arc<Session>,
    detours: CursorDetours,
    state: State,
}

enum State {
    Scanning(Box<Scan<Source, Open>>),
    /// The error is the first item.
    Refused(Error),
    Ended,
}

/// Makes a cursor over all sources of the state.
type Open = Box<dyn FnMut() -> Result<MergingCursor<Source>> + Send>;

impl Iter {
    pub(crate) fn new(session: &Arc<Session>, target: Result<Target>, bounds: KeyBounds, at: At) -> Self {
        let detours = target.as_ref().map_or_else(|_| CursorDetours::default(), CursorDetours::of);
        detours.placed();
        let state = match target {
            Ok(target) => {
                let open: Open = Box::new(move || Ok(target.merging(at.timestamp)));
                State::Scanning(Box::new(Scan::new(open, at.timestamp, at.now, bounds.0, bounds.1)))
            }
            Err(error) => State::Refused(error),
        };
        Self { session: Arc::clone(session), detours, state }
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut Scan<Source, Open>) -> Option<Result<(Slice, Slice)>>,
    ) -> Option<Result<(Slice, Slice)>> {
        if let Err(closed) = self.session.engine().check_open()
            && !matches!(self.state, State::Ended)
        {
            self.state = State::Ended;
            return Some(Err(closed));
        }
        match &mut self.state {
            State::Scanning(scan) => {
                let item = step(scan);
                if !matches!(item, Some(Ok(_))) {
                    self.state = State::Ended;
                }
                self.detours.stepped();
                item
            }
            State::Refused(_) => match std::mem::replace(&mut self.state, State::Ended) {
                State::Refused(error) => Some(Err(error)),
                State::Scanning(_) | State::Ended => None,
            },
            State::Ended => None,
        }
    }
}

impl Iterator for Iter {
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Scan::next_front)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Scan::next_back)
    }
}

impl std::iter::FusedIterator for Iter {}

impl fmt::Debug for Iter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter")
    }
}

/// A position among the pairs of a snapshot, that moves both ways and allocates nothing a step.
///
/// A new cursor stands off the end. Moving on from off an end stays there. Like an iterator it sees the state that was
/// fixed when it was made.
pub struct Cursor {
    session: Arc<Session>,
    detours: CursorDetours,
    inner: Result<Box<AsOfCursor<Source>>, Option<Error>>,
}

impl Cursor {
    pub(crate) fn new(session: &Arc<Session>, target: Result<Target>, at: At) -> Self {
        let detours = target.as_ref().map_or_else(|_| CursorDetours::default(), CursorDetours::of);
        let inner = match target {
            Ok(target) => Ok(Box::new(AsOfCursor::new(
                target.merging(at.timestamp),
                at.timestamp,
                at.now,
                Bound::Unbounded,
                Bound::Unbounded,
            ))),
            Err(error) => Err(Some(error)),
        };
        Self { session: Arc::clone(session), detours, inner }
    }

    fn place(&mut self, place: impl FnOnce(&mut AsOfCursor<Source>) -> Result<()>) -> Result<()> {
        self.detours.placed();
        self.moving(place)
    }

    fn step(&mut self, step: impl FnOnce(&mut AsOfCursor<Source>) -> Result<()>) -> Result<()> {
        self.detours.stepped();
        self.moving(step)
    }

    fn moving(&mut self, step: impl FnOnce(&mut AsOfCursor<Source>) -> Result<()>) -> Result<()> {
        self.session.engine().check_open()?;
        match &mut self.inner {
            Ok(cursor) => step(cursor),
            Err(error) => {
                Err(error.take().unwrap_or_else(|| Error::invalid("the cursor was refused when it was made")))
            }
        }
    }

    /// The pair at the position; `None` off either end, and after an error.
    #[must_use]
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.inner.as_ref().ok()?.entry()
    }

    /// Moves to the first key at or after `key`.
    ///
    /// # Errors
    /// `Io`, `Corruption`, `Closed`; the first move also gives the error with which the cursor was made. So do the
    /// other moves.
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.place(|cursor| cursor.seek(key.as_ref()))
    }

    /// Moves to the last key at or before `key`.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.place(|cursor| cursor.seek_for_prev(key.as_ref()))
    }

    /// Moves to the first key.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.place(AsOfCursor::seek_to_first)
    }

    /// Moves to the last key.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.place(AsOfCursor::seek_to_last)
    }

    /// Moves to the next key.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    #[expect(clippy::should_implement_trait, reason = "a cursor borrows its entries, an iterator cannot")]
    pub fn next(&mut self) -> Result<()> {
        self.step(AsOfCursor::next)
    }

    /// Moves to the previous key.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn prev(&mut self) -> Result<()> {
        self.step(AsOfCursor::prev)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("entry", &self.entry()).finish()
    }
}
