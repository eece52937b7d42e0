//! A cursor over the keys of a memtable at a fixed visible sequence.
//!
//! It remembers entries, which stay where they are as long as the memtable lives, and it keeps that alive: a step forward
//! is a step in the list. The list has no links back, so a step backward is a search. What others insert meanwhile is
//! above the fixed sequence, and passed over.

use crate::sync::Arc;
use crate::version::{Fragment, Hidden, KeyCursor, Sequence, Stamp, VersionRef};
use crate::{Result, Timestamp};

use super::Memtable;
use super::order::Place;
use super::skiplist::{Entry, Kept};

/// How many entries of one key are stepped over before a search is cheaper.
const PATIENCE: usize = 8;

/// See the module.
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    visible: Sequence,
    at: Option<Shown>,
    /// The current version.
    version: Option<Kept>,
    /// The last piece of the range tombstones that was asked for.
    piece: Option<Fragment>,
}

/// The key at the position.
#[derive(Clone, Copy)]
struct Shown {
    /// Its newest visible version, or, where too much lies above that, an entry above: who asks for a version says a
    /// timestamp, and that is a search.
    newest: Kept,
    /// The last entry of the key before, if the way here led past it. Whatever came between them since is not visible.
    before: Option<Kept>,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, visible: Sequence) -> Self {
        Self { memtable, visible, at: None, version: None, piece: None }
    }

    fn entry(&self, kept: Kept) -> Option<Entry<'_>> {
        self.memtable.points.at(kept)
    }

    fn stand_on(&mut self, at: Option<Shown>) {
        self.at = at;
        self.version = None;
    }

    /// The key of `first`, which is the first entry of its key, or the next key of which something may be visible.
    fn forward_from(&self, first: Option<Entry<'_>>) -> Option<Shown> {
        let mut next = first;
        loop {
            match newest(next?, self.visible) {
                Ok(entry) => return Some(Shown { newest: entry.keep(), before: None }),
                Err(after) => next = after,
            }
        }
    }

    /// The key of `last`, which is the last entry of its key, or the next key before of which something may be visible.
    fn backward_from(&self, last: Option<Entry<'_>>) -> Option<Shown> {
        let mut last = last;
        loop {
            let (before, first) = self.memtable.points.around(Place::before(last?.key()));
            match newest(first?, self.visible) {
                Ok(entry) => return Some(Shown { newest: entry.keep(), before: before.map(Entry::keep) }),
                Err(_) => last = before,
            }
        }
    }

    /// The first entry behind the key of `entry`.
    fn behind<'a>(&'a self, entry: Entry<'a>) -> Option<Entry<'a>> {
        let mut last = entry;
        for _ in 0..PATIENCE {
            match last.next() {
                Some(next) if next.key() == entry.key() => last = next,
                behind => return behind,
            }
        }
        self.memtable.points.first_after(Place::after(entry.key()))
    }

    /// The newest visible version of the key of `entry`, which is at or above it, at or below `timestamp`.
    fn older_than<'a>(&'a self, entry: Entry<'a>, timestamp: Timestamp) -> Option<Entry<'a>> {
        let is_it = |entry: Entry<'_>| entry.timestamp() <= timestamp && entry.sequence() <= self.visible;
        let mut older = entry;
        for _ in 0..PATIENCE {
            if is_it(older) {
                return Some(older);
            }
            older = older.next().filter(|next| next.key() == entry.key())?;
        }
        self.visible_from(self.memtable.points.first_from(Place::newest_at(entry.key(), timestamp)), entry.key())
    }

    /// The first visible version among those of `key`, from `entry` on.
    fn visible_from<'a>(&self, entry: Option<Entry<'a>>, key: &[u8]) -> Option<Entry<'a>> {
        let mut next = entry;
        loop {
            let entry = next.filter(|entry| entry.key() == key)?;
            if entry.sequence() <= self.visible {
                return Some(entry);
            }
            next = entry.next();
        }
    }
}

/// From the first entry of a key: its newest visible version, or an entry above after some steps; if nothing of the key is
/// visible, what follows it.
fn newest(first: Entry<'_>, visible: Sequence) -> std::result::Result<Entry<'_>, Option<Entry<'_>>> {
    let mut entry = first;
    for _ in 0..PATIENCE {
        if entry.sequence() <= visible {
            break;
        }
        match entry.next() {
            Some(next) if next.key() == first.key() => entry = next,
            behind => return Err(behind),
        }
    }
    Ok(entry)
}

impl KeyCursor for MemtableCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        self.stand_on(self.forward_from(self.memtable.points.first()));
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.stand_on(self.backward_from(self.memtable.points.last()));
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.stand_on(self.forward_from(self.memtable.points.first_from(Place::before(key))));
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.stand_on(self.backward_from(self.memtable.points.last_until(Place::after(key))));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        let newest = self.at.and_then(|shown| self.entry(shown.newest));
        let behind = newest.and_then(|newest| self.behind(newest));
        self.stand_on(self.forward_from(behind));
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        let before = self.at.and_then(|shown| match shown.before {
            Some(before) => self.entry(before),
            None => self.memtable.points.around(Place::before(self.entry(shown.newest)?.key())).0,
        });
        self.stand_on(self.backward_from(before));
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        Some(self.entry(self.at?.newest)?.key())
    }

    fn version_at(&mut self, timestamp: Timestamp) -> Result<Option<VersionRef<'_>>> {
        let newest = self.at.and_then(|shown| self.entry(shown.newest));
        self.version = newest.and_then(|newest| self.older_than(newest, timestamp)).map(Entry::keep);
        Ok(self.version())
    }

    fn older_version(&mut self) -> Result<Option<VersionRef<'_>>> {
        let current = self.version.and_then(|kept| self.entry(kept));
        self.version = current.and_then(|current| self.visible_from(current.next(), current.key())).map(Entry::keep);
        Ok(self.version())
    }

    fn version(&self) -> Option<VersionRef<'_>> {
        let entry = self.entry(self.version?)?;
        Some(VersionRef { stamp: entry.stamp(), value: entry.value(), expires_at: entry.expires_at() })
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

    fn hidden_around(&mut self, key: &[u8], timestamp: Timestamp) -> Result<Option<Hidden>> {
        self.covering(key, timestamp)?;
        Ok(self.piece.as_ref().and_then(|piece| Hidden::by(piece, timestamp)))
    }

    fn pass_over(&mut self, hidden: &Hidden, forward: bool) -> Result<bool> {
        if self.memtable.max_timestamp() >= hidden.older_than {
            return Ok(false);
        }
        if !forward {
            self.stand_on(self.backward_from(self.memtable.points.around(Place::before(&hidden.start)).0));
        } else if let Some(end) = &hidden.end {
            self.seek(end)?;
        } else {
            self.stand_on(None);
        }
        Ok(true)
    }

    fn may_cover(&self) -> bool {
        !self.memtable.ranges.is_empty()
    }
}
