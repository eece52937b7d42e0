//! A cursor over the keys of a memtable at a fixed visible sequence.
//!
//! It may live as long as its owner likes, so it holds nothing inside the skip list: it reads ahead a *run* of
//! neighbouring keys, each with its newest visible version, and goes back to the list by key when the run is used up.
//! That is sound because entries are never removed and what the fixed sequence makes visible never changes. Runs grow
//! from a single key after a seek to [`LONGEST_RUN`], so that a short scan reads little and a long one seldom searches.
//! Older versions of the current key are read ahead in the same way.

use std::mem;
use std::ops::Bound;

use bytes::Bytes;
use crossbeam_epoch as epoch;

use super::order::Place;
use super::{EntryRef, Memtable, ReadEntry};
use crate::sync::Arc;
use crate::version::{Fragment, KeyCursor, Sequence, Stamp, ValueRef, VersionRef};
use crate::{Result, Slice, Timestamp};

const LONGEST_RUN: usize = 32;
const MOST_VERSIONS_AHEAD: usize = 64;
/// How many entries of one key are stepped over before a search is cheaper.
const PATIENCE: usize = 8;
/// How many invisible keys reading ahead, which may be for nothing, steps over.
const BUDGET: usize = 256;

/// See the module.
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    visible: Sequence,
    /// Neighbouring keys, in the order of `direction`.
    run: Vec<Shown>,
    direction: Direction,
    /// The current key in the run; `None` off either end.
    at: Option<usize>,
    /// How many keys the last run was to have.
    ahead: usize,
    /// Versions of the current key, newest first, without a gap.
    versions: Vec<Held>,
    /// Whether nothing visible follows the last of `versions`.
    versions_end: bool,
    version: Current,
    /// The last piece of the range tombstones that was asked for.
    piece: Option<Fragment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Which version is the current one.
#[derive(Debug, Clone, Copy)]
enum Current {
    None,
    /// The one that is in the run.
    Newest,
    /// One of `versions`.
    Ahead(usize),
}

/// A key of the run.
struct Shown {
    key: Slice,
    /// The newest visible version; `None` where the search for it was given up.
    newest: Option<Held>,
    /// Whether there is none but the newest.
    sole: bool,
}

/// A version, out of the list.
struct Held {
    stamp: Stamp,
    value: Option<Bytes>,
    expires_at: Option<Timestamp>,
}

impl Held {
    fn of(entry: &EntryRef<'_, '_>) -> Self {
        Self { stamp: entry.stamp(), value: entry.value().value.clone(), expires_at: entry.value().expires_at }
    }

    fn as_ref(&self) -> VersionRef<'_> {
        VersionRef {
            stamp: self.stamp,
            value: self.value.as_ref().map(|owner| ValueRef { bytes: owner, owner }),
            expires_at: self.expires_at,
        }
    }
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, visible: Sequence) -> Self {
        Self {
            memtable,
            visible,
            run: Vec::new(),
            direction: Direction::Forward,
            at: None,
            ahead: 0,
            versions: Vec::new(),
            versions_end: false,
            version: Current::None,
            piece: None,
        }
    }

    fn shown(&self) -> Option<&Shown> {
        self.run.get(self.at?)
    }

    /// One key on: within the run in either direction, else by a new run.
    fn step(&mut self, direction: Direction) {
        let Some(at) = self.at else { return };
        let neighbour = if direction == self.direction { at.checked_add(1) } else { at.checked_sub(1) };
        if let Some(neighbour) = neighbour.filter(|neighbour| *neighbour < self.run.len()) {
            self.stand_on(Some(neighbour));
            return;
        }
        let key = self.run.get_mut(at).map(|shown| mem::take(&mut shown.key)).unwrap_or_default();
        let ahead = if direction == self.direction { (self.ahead * 4).min(LONGEST_RUN) } else { 2 };
        match direction {
            Direction::Forward => self.read_on(Bound::Excluded(Place::after(&key)), ahead),
            Direction::Backward => self.read_back(Bound::Excluded(Place::before(&key)), ahead),
        }
    }

    fn stand_on(&mut self, at: Option<usize>) {
        self.at = at;
        self.versions.clear();
        self.version = Current::None;
    }

    /// A new run of up to `count` keys, forward, from the first entry at or after a place, which has to be the first
    /// entry of its key.
    fn read_on(&mut self, from: Bound<Place<'_>>, count: usize) {
        let memtable = &*self.memtable;
        let guard = epoch::pin();
        self.run.clear();
        let mut unseen = 0;
        let mut next = memtable.first_from(from.as_ref(), &guard);
        while let Some(first) = next.take().filter(|_| self.run.len() < count) {
            let shown = first.key();
            match newest(first, self.visible) {
                Newest::Is(entry) => {
                    next = entry.next();
                    let sole = next.as_ref().is_none_or(|next| next.key().key != shown.key);
                    self.run.push(Shown { key: shown.key.clone(), newest: Some(Held::of(&entry)), sole });
                }
                Newest::Unknown => {
                    self.run.push(Shown { key: shown.key.clone(), newest: None, sole: false });
                    next = memtable.first_from(Bound::Excluded(&Place::after(&shown.key)), &guard);
                }
                Newest::None(after) => {
                    next = after;
                    unseen += 1;
                    if unseen > BUDGET && !self.run.is_empty() {
                        break;
                    }
                }
            }
            let mut steps = 0;
            while let Some(older) = next.take_if(|next| next.key().key == shown.key) {
                steps += 1;
                next = if steps < PATIENCE {
                    older.next()
                } else {
                    memtable.first_from(Bound::Excluded(&Place::after(&shown.key)), &guard)
                };
            }
        }
        self.arrive(Direction::Forward, count);
    }

    /// A new run of up to `count` keys, backward, from the last entry at or before a place, which has to be the last
    /// entry of its key.
    fn read_back(&mut self, from: Bound<Place<'_>>, count: usize) {
        let memtable = &*self.memtable;
        let guard = epoch::pin();
        self.run.clear();
        let mut unseen = 0;
        let mut next = memtable.last_until(from.as_ref(), &guard);
        while let Some(last) = next.take().filter(|_| self.run.len() < count) {
            let shown = last.key();
            // The list has no links back, each step is a search: this one finds the next key at once if `last` is all
            // there is of its own.
            next = last.prev();
            let sole = next.as_ref().is_none_or(|next| next.key().key != shown.key);
            let newest = if sole {
                newest(last, self.visible)
            } else {
                next = memtable.last_until(Bound::Excluded(&Place::before(&shown.key)), &guard);
                match memtable.first_from(Bound::Included(&Place::before(&shown.key)), &guard) {
                    Some(first) => newest(first, self.visible),
                    None => Newest::None(None),
                }
            };
            match newest {
                Newest::Is(entry) => {
                    self.run.push(Shown { key: shown.key.clone(), newest: Some(Held::of(&entry)), sole });
                }
                Newest::Unknown => self.run.push(Shown { key: shown.key.clone(), newest: None, sole: false }),
                Newest::None(_) => {
                    unseen += 1;
                    if unseen > BUDGET && !self.run.is_empty() {
                        break;
                    }
                }
            }
        }
        self.arrive(Direction::Backward, count);
    }

    fn arrive(&mut self, direction: Direction, ahead: usize) {
        self.direction = direction;
        self.ahead = ahead;
        self.stand_on((!self.run.is_empty()).then_some(0));
    }

    /// Reads up to `count` visible versions of the current key, from a place on, and makes the first the current one.
    fn read_versions(&mut self, from: impl Fn(&[u8]) -> Bound<Place<'_>>, count: usize) {
        self.versions.clear();
        self.versions_end = true;
        self.version = Current::None;
        let Some(Shown { key, .. }) = self.at.and_then(|at| self.run.get(at)) else { return };
        let guard = epoch::pin();
        let mut next = self.memtable.first_from(from(key).as_ref(), &guard);
        while let Some(entry) = next.take_if(|next| next.key().key == *key) {
            if self.versions.len() == count {
                self.versions_end = false;
                break;
            }
            if entry.key().sequence <= self.visible {
                self.versions.push(Held::of(&entry));
                self.version = Current::Ahead(0);
            }
            next = entry.next();
        }
    }

    fn current(&self) -> Option<&Held> {
        match self.version {
            Current::None => None,
            Current::Newest => self.shown()?.newest.as_ref(),
            Current::Ahead(at) => self.versions.get(at),
        }
    }
}

/// The newest visible version of a key.
enum Newest<'a, 'g> {
    Is(EntryRef<'a, 'g>),
    /// Nothing is visible; the entry after the key.
    None(Option<EntryRef<'a, 'g>>),
    /// Too much lies above. The key is shown; who asks for a version of it says a timestamp, and that is a search.
    Unknown,
}

/// Looks for it from the first entry of the key on.
fn newest<'a, 'g>(first: EntryRef<'a, 'g>, visible: Sequence) -> Newest<'a, 'g> {
    let key = &first.key().key;
    let mut entry = first;
    for _ in 0..PATIENCE {
        if entry.key().sequence <= visible {
            return Newest::Is(entry);
        }
        match entry.next() {
            Some(next) if next.key().key == *key => entry = next,
            after => return Newest::None(after),
        }
    }
    Newest::Unknown
}

impl KeyCursor for MemtableCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.read_on(Bound::Unbounded, 1);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.read_back(Bound::Unbounded, 1);
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.read_on(Bound::Included(Place::before(key)), 1);
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.read_back(Bound::Included(Place::after(key)), 1);
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward);
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        self.shown().map(|shown| &*shown.key)
    }

    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        self.version = Current::None;
        if let Some(Shown { newest, sole, .. }) = self.shown() {
            if newest.as_ref().is_some_and(|newest| newest.stamp.timestamp <= timestamp) {
                self.version = Current::Newest;
            } else if !sole {
                self.read_versions(|key| Bound::Included(Place::newest_at(key, timestamp)), 1);
            }
        }
        Ok(self.current().map(Held::as_ref))
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        let Some(Stamp { timestamp, sequence, .. }) = self.current().map(|current| current.stamp) else {
            return Ok(None);
        };
        match self.version {
            Current::Ahead(at) if at + 1 < self.versions.len() => self.version = Current::Ahead(at + 1),
            Current::Ahead(_) if self.versions_end => self.version = Current::None,
            Current::Newest if self.shown().is_some_and(|shown| shown.sole) => self.version = Current::None,
            _ => {
                let count = (self.versions.len() * 4).clamp(4, MOST_VERSIONS_AHEAD);
                self.read_versions(|key| Bound::Excluded(Place::at(key, timestamp, sequence)), count);
            }
        }
        Ok(self.current().map(Held::as_ref))
    }

    fn covering(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Stamp>> {
        if self.memtable.ranges.is_empty() {
            return Ok(None);
        }
        let piece = match self.piece.take() {
            Some(piece) if piece.contains(key) => piece,
            _ => self.memtable.ranges.around(key, self.visible),
        };
        let stamp = piece.at(timestamp);
        self.piece = Some(piece);
        Ok(stamp)
    }

    fn may_cover(&self) -> bool {
        !self.memtable.ranges.is_empty()
    }
}
