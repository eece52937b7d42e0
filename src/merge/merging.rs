//! The distinct keys of several sources, in order, both ways.
//!
//! The sources that stand on the current key (`on_key`) are kept apart from the others, which stand beyond it in the
//! direction of the walk and wait in a heap. So a step within a source that has the keys to itself for a while costs
//! one comparison, with the nearest of the others, and a merge of one source costs none.
//!
//! On a turn the others are brought to the other side of the current key. A memtable may meanwhile have come to show
//! keys of which nothing is visible here, also the current key; a source that lands on it is stepped past it, so that
//! no key is given twice.

use std::cmp::Ordering;

use super::heap::SourceHeap;
use super::lookup::Lookup;
use crate::version::{Hidden, KeyCursor, ValueRef};
use crate::{Result, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// `Less`: a walk in this direction meets `a` before `b`.
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Forward => compare(a, b),
            Self::Backward => compare(b, a),
        }
    }

    fn step<S: KeyCursor>(self, source: &mut S) -> Result<()> {
        match self {
            Self::Forward => source.next(),
            Self::Backward => source.prev(),
        }
    }

    fn seek<S: KeyCursor>(self, source: &mut S, key: &[u8]) -> Result<()> {
        match self {
            Self::Forward => source.seek(key),
            Self::Backward => source.seek_for_prev(key),
        }
    }
}

/// As the keys compare. Mostly their first bytes tell; then nothing is called for it.
#[inline]
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some(first), Some(other)) = (a.first_chunk::<8>(), b.first_chunk::<8>())
        && first != other
    {
        return u64::from_be_bytes(*first).cmp(&u64::from_be_bytes(*other));
    }
    a.cmp(b)
}

/// A cursor over the distinct keys of several sources, newest source first.
///
/// Positions behave as those of a [`KeyCursor`]: a new one stands off the end; `next` and `prev` from off an end stay
/// there; after an error the position is off the end.
pub(crate) struct MergingCursor<S> {
    sources: Vec<S>,
    /// Whether any source has range tombstones.
    covers: bool,
    /// The sources that stand on the current key, newest first. Empty: off the end.
    on_key: Vec<usize>,
    /// The other sources that stand on a key: all of them beyond the current one in `direction`.
    others: SourceHeap,
    direction: Direction,
    /// The source whose current version is the one that is live on the current key, once that was asked.
    live: Option<usize>,
    /// A copy of the current key, for calls that move sources.
    key_copy: Vec<u8>,
}

impl<S: KeyCursor> MergingCursor<S> {
    pub(crate) fn new(sources: Vec<S>) -> Self {
        let covers = sources.iter().any(S::may_cover);
        Self {
            sources,
            covers,
            on_key: Vec::new(),
            others: SourceHeap::default(),
            direction: Direction::Forward,
            live: None,
            key_copy: Vec::new(),
        }
    }

    /// The key at the position; `None` off either end.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.sources.get(*self.on_key.first()?)?.key()
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.position(Direction::Forward, S::seek_to_first)
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.position(Direction::Backward, S::seek_to_last)
    }

    /// Moves to the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.position(Direction::Forward, |source| source.seek(key))
    }

    /// Moves to the last key at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.position(Direction::Backward, |source| source.seek_for_prev(key))
    }

    pub(crate) fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward)
    }

    pub(crate) fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward)
    }

    /// Whether the current key is live at `timestamp`, expiry judged at `now`. Its value is [`value`](Self::value)'s
    /// then, until the position moves.
    pub(crate) fn is_live_at(&mut self, timestamp: Timestamp, now: Timestamp) -> Result<bool> {
        self.live = None;
        let found = match self.on_key.as_slice() {
            &[only] if !self.covers => match self.sources.get_mut(only) {
                Some(source) => source.is_live_at(timestamp, now).map(|live| live.then_some(only)),
                None => Ok(None),
            },
            _ => {
                self.copy_key();
                let Self { sources, on_key, covers, key_copy, .. } = self;
                live_among(sources, on_key, *covers, key_copy, timestamp, now)
            }
        };
        if found.is_err() {
            self.on_key.clear();
        }
        self.live = found?;
        Ok(self.live.is_some())
    }

    /// From a key that is not live at `timestamp`: moves sources past the keys that a range tombstone hides there, where
    /// they can be told from outside to have nothing newer. Says whether any moved; the current key may be the same then.
    pub(crate) fn pass_over_hidden(&mut self, timestamp: Timestamp) -> Result<bool> {
        if !self.covers || self.on_key.is_empty() {
            return Ok(false);
        }
        let passed = self.pass_over(timestamp);
        if !matches!(passed, Ok(false)) {
            self.live = None;
            self.on_key.clear();
        }
        if passed? {
            self.others.clear();
            for index in 0..self.sources.len() {
                self.enqueue(index);
            }
            self.take_next();
            return Ok(true);
        }
        Ok(false)
    }

    fn pass_over(&mut self, timestamp: Timestamp) -> Result<bool> {
        self.copy_key();
        let mut newest: Option<Hidden> = None;
        for source in self.sources.iter_mut().filter(|source| source.may_cover()) {
            let hidden = source.hidden_around(&self.key_copy, timestamp)?;
            let beats = |other: &Hidden| newest.as_ref().is_none_or(|newest| newest.older_than < other.older_than);
            newest = hidden.filter(beats).or(newest);
        }
        let Some(hidden) = newest else { return Ok(false) };
        let mut passed = false;
        for source in &mut self.sources {
            if source.key().is_some_and(|key| hidden.contains(key)) {
                passed |= source.pass_over(&hidden, self.direction == Direction::Forward)?;
            }
        }
        Ok(passed)
    }

    /// The value of the current key, if it was asked for and is live.
    pub(crate) fn value(&self) -> Option<ValueRef<'_>> {
        self.sources.get(self.live?)?.value()
    }

    /// The sources, and which of them stand on the current key (newest first), to read its versions. The caller must
    /// not move them to other keys.
    pub(crate) fn parts(&mut self) -> (&mut [S], &[usize]) {
        (&mut self.sources, &self.on_key)
    }

    fn position(&mut self, direction: Direction, mut seek: impl FnMut(&mut S) -> Result<()>) -> Result<()> {
        self.on_key.clear();
        self.others.clear();
        self.live = None;
        self.direction = direction;
        for source in &mut self.sources {
            seek(source)?;
        }
        for index in 0..self.sources.len() {
            self.enqueue(index);
        }
        self.take_next();
        Ok(())
    }

    fn step(&mut self, direction: Direction) -> Result<()> {
        self.live = None;
        if self.on_key.is_empty() {
            return Ok(());
        }
        let moved =
            if self.direction == direction { Ok(()) } else { self.turn(direction) }.and_then(|()| self.leave_key());
        if moved.is_err() {
            self.on_key.clear();
        }
        moved
    }

    /// Moves the sources on the current key past it, and finds the next one.
    fn leave_key(&mut self) -> Result<()> {
        for &index in &self.on_key {
            if let Some(source) = self.sources.get_mut(index) {
                self.direction.step(source)?;
            }
        }
        let &[winner] = self.on_key.as_slice() else {
            while let Some(index) = self.on_key.pop() {
                self.enqueue(index);
            }
            self.take_next();
            return Ok(());
        };
        let ordering = match (key_of(&self.sources, winner), self.others.top()) {
            (None, _) => None,
            (Some(_), None) => Some(Ordering::Less),
            (Some(key), Some(top)) => key_of(&self.sources, top).map(|other| self.direction.compare(key, other)),
        };
        match ordering {
            Some(Ordering::Less) => {}
            Some(Ordering::Equal) => {
                self.take_equal();
                self.on_key.sort_unstable();
            }
            Some(Ordering::Greater) => {
                self.on_key.clear();
                self.on_key.extend(self.others.replace_top(winner, before(&self.sources, self.direction)));
                self.take_equal();
            }
            None => {
                self.on_key.clear();
                self.take_next();
            }
        }
        Ok(())
    }

    /// Brings the sources that do not stand on the current key to its other side.
    fn turn(&mut self, direction: Direction) -> Result<()> {
        self.copy_key();
        self.direction = direction;
        self.others.clear();
        for (index, source) in self.sources.iter_mut().enumerate() {
            if self.on_key.contains(&index) {
                continue;
            }
            if source.key().is_some() {
                direction.step(source)?;
            } else {
                direction.seek(source, &self.key_copy)?;
            }
            // One that has passed over what a range delete hides may stand far behind.
            if source.key().is_some_and(|key| direction.compare(key, &self.key_copy).is_lt()) {
                direction.seek(source, &self.key_copy)?;
            }
            while source.key().is_some_and(|key| direction.compare(key, &self.key_copy).is_le()) {
                direction.step(source)?;
            }
        }
        for index in 0..self.sources.len() {
            if !self.on_key.contains(&index) {
                self.enqueue(index);
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, index: usize) {
        if key_of(&self.sources, index).is_some() {
            self.others.push(index, before(&self.sources, self.direction));
        }
    }

    /// Makes the nearest key of the others the current one; `on_key` must be empty.
    fn take_next(&mut self) {
        self.on_key.extend(self.others.pop(before(&self.sources, self.direction)));
        self.take_equal();
    }

    /// Takes those of the others that stand on the current key too. They come newest first.
    fn take_equal(&mut self) {
        let current = self.on_key.first().and_then(|&index| key_of(&self.sources, index));
        while let Some(top) = self.others.top().filter(|&top| key_of(&self.sources, top) == current) {
            self.others.pop(before(&self.sources, self.direction));
            self.on_key.push(top);
        }
    }

    fn copy_key(&mut self) {
        self.key_copy.clear();
        if let Some(key) = self.on_key.first().and_then(|&index| key_of(&self.sources, index)) {
            self.key_copy.extend_from_slice(key);
        }
    }
}

fn key_of<S: KeyCursor>(sources: &[S], index: usize) -> Option<&[u8]> {
    sources.get(index)?.key()
}

/// The order of the heap: by key in the direction of the walk, newer sources first.
fn before<S: KeyCursor>(sources: &[S], direction: Direction) -> impl Fn(usize, usize) -> bool {
    move |a, b| match (key_of(sources, a), key_of(sources, b)) {
        (Some(key), Some(other)) => direction.compare(key, other).then(a.cmp(&b)).is_lt(),
        (key, _) => key.is_some(),
    }
}

/// The source whose version of the key is live. One that does not stand on the key can still cover it with a range
/// tombstone.
fn live_among<S: KeyCursor>(
    sources: &mut [S],
    on_key: &[usize],
    covers: bool,
    key: &[u8],
    timestamp: Timestamp,
    now: Timestamp,
) -> Result<Option<usize>> {
    let mut lookup = Lookup::new(timestamp);
    let mut on_key = on_key.iter().copied().peekable();
    if on_key.peek().is_none() {
        return Ok(None);
    }
    for (index, source) in sources.iter_mut().enumerate() {
        let tombstone = if covers && source.may_cover() { source.covering(key, timestamp)? } else { None };
        let point = if on_key.next_if_eq(&index).is_some() { source.version_at(timestamp)? } else { None };
        if lookup.offer(point.map(|version| (index, version)), tombstone) {
            break;
        }
    }
    Ok(lookup.finish(now).map(|(index, _)| index))
}
