//! The core of a double-ended iterator: two cursors that come towards each other and never cross.

use std::ops::Bound;

use super::{AsOfCursor, MergingCursor};
use crate::version::KeyCursor;
use crate::{Result, Slice, Timestamp};

/// What a user's iterator gives: a key and its value.
type Entry = (Slice, Slice);

/// A scan from both ends over the live keys at a timestamp. The cursor of an end is made when that end is first used;
/// all that `make` makes must see the same state. After an error, and after the end, nothing more comes and nothing is
/// held.
pub(crate) struct Scan<S, F> {
    make: F,
    timestamp: Timestamp,
    now: Timestamp,
    lower: Bound<Slice>,
    upper: Bound<Slice>,
    front: Option<AsOfCursor<S>>,
    back: Option<AsOfCursor<S>>,
    done: bool,
}

impl<S: KeyCursor, F: FnMut() -> Result<MergingCursor<S>>> Scan<S, F> {
    pub(crate) fn new(make: F, timestamp: Timestamp, now: Timestamp, lower: Bound<Slice>, upper: Bound<Slice>) -> Self {
        Self { make, timestamp, now, lower, upper, front: None, back: None, done: false }
    }

    pub(crate) fn next_front(&mut self) -> Option<Result<Entry>> {
        if self.done {
            return None;
        }
        let moved = match &mut self.front {
            Some(front) => front.next(),
            None => self.open().and_then(|front| self.front.insert(front).seek_to_first()),
        };
        let entry = self.front.as_ref().and_then(AsOfCursor::entry_slices);
        let met = |(key, _): &Entry| self.back.as_ref().and_then(AsOfCursor::key).is_some_and(|back| **key >= *back);
        let entry = entry.filter(|entry| !met(entry));
        self.give(moved, entry)
    }

    pub(crate) fn next_back(&mut self) -> Option<Result<Entry>> {
        if self.done {
            return None;
        }
        let moved = match &mut self.back {
            Some(back) => back.prev(),
            None => self.open().and_then(|back| self.back.insert(back).seek_to_last()),
        };
        let entry = self.back.as_ref().and_then(AsOfCursor::entry_slices);
        let met = |(key, _): &Entry| self.front.as_ref().and_then(AsOfCursor::key).is_some_and(|front| **key <= *front);
        let entry = entry.filter(|entry| !met(entry));
        self.give(moved, entry)
    }

    /// Ends the scan where there is no entry to give.
    fn give(&mut self, moved: Result<()>, entry: Option<Entry>) -> Option<Result<Entry>> {
        if entry.is_none() || moved.is_err() {
            self.done = true;
            self.front = None;
            self.back = None;
        }
        moved.map(|()| entry).transpose()
    }

    fn open(&mut self) -> Result<AsOfCursor<S>> {
        let keys = (self.make)()?;
        Ok(AsOfCursor::new(keys, self.timestamp, self.now, self.lower.clone(), self.upper.clone()))
    }
}
