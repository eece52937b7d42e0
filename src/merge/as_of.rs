//! The keys that are live at one timestamp, within bounds: what a user's cursor walks over.

use std::ops::Bound;

use super::MergingCursor;
use crate::version::KeyCursor;
use crate::{Result, Slice, Timestamp};

/// A cursor over the live keys at a timestamp. A new one stands off the end; `next` and `prev` from off an end stay
/// there; after an error the position is off the end. Inverted bounds hold nothing.
pub(crate) struct AsOfCursor<S> {
    keys: MergingCursor<S>,
    timestamp: Timestamp,
    /// What expiry is compared with.
    now: Timestamp,
    lower: Bound<Slice>,
    upper: Bound<Slice>,
    /// Whether the position is on a live key; else it is off the end.
    live: bool,
}

impl<S: KeyCursor> AsOfCursor<S> {
    pub(crate) fn new(
        keys: MergingCursor<S>,
        timestamp: Timestamp,
        now: Timestamp,
        lower: Bound<Slice>,
        upper: Bound<Slice>,
    ) -> Self {
        Self { keys, timestamp, now, lower, upper, live: false }
    }

    /// The key and value at the position.
    pub(crate) fn entry(&self) -> Option<(&[u8], &[u8])> {
        let value = if self.live { self.keys.value()? } else { return None };
        Some((self.keys.key()?, value.bytes))
    }

    /// The same, owned.
    pub(crate) fn entry_slices(&self) -> Option<(Slice, Slice)> {
        let value = if self.live { self.keys.value()? } else { return None };
        Some((Slice::copy_of(self.keys.key()?), value.to_slice()))
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        if self.live { self.keys.key() } else { None }
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.live = false;
        match &self.lower {
            Bound::Unbounded => self.keys.seek_to_first()?,
            Bound::Included(lower) => self.keys.seek(lower)?,
            Bound::Excluded(lower) => {
                self.keys.seek(lower)?;
                if self.keys.key() == Some(lower) {
                    self.keys.next()?;
                }
            }
        }
        self.settle_forward()
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.live = false;
        match &self.upper {
            Bound::Unbounded => self.keys.seek_to_last()?,
            Bound::Included(upper) => self.keys.seek_for_prev(upper)?,
            Bound::Excluded(upper) => {
                self.keys.seek_for_prev(upper)?;
                if self.keys.key() == Some(upper) {
                    self.keys.prev()?;
                }
            }
        }
        self.settle_backward()
    }

    /// Moves to the first live key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        if below(key, &self.lower) {
            return self.seek_to_first();
        }
        self.live = false;
        self.keys.seek(key)?;
        self.settle_forward()
    }

    /// Moves to the last live key at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if above(key, &self.upper) {
            return self.seek_to_last();
        }
        self.live = false;
        self.keys.seek_for_prev(key)?;
        self.settle_backward()
    }

    pub(crate) fn next(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.live) {
            return Ok(());
        }
        self.keys.next()?;
        self.settle_forward()
    }

    pub(crate) fn prev(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.live) {
            return Ok(());
        }
        self.keys.prev()?;
        self.settle_backward()
    }

    fn settle_forward(&mut self) -> Result<()> {
        let mut patience = Patience::default();
        while self.keys.key().is_some_and(|key| !above(key, &self.upper)) {
            self.live = self.keys.is_live_at(self.timestamp, self.now)?;
            if self.live {
                break;
            }
            if !patience.has_ended(|| self.keys.pass_over_hidden(self.timestamp))? {
                self.keys.next()?;
            }
        }
        Ok(())
    }

    fn settle_backward(&mut self) -> Result<()> {
        let mut patience = Patience::default();
        while self.keys.key().is_some_and(|key| !below(key, &self.lower)) {
            self.live = self.keys.is_live_at(self.timestamp, self.now)?;
            if self.live {
                break;
            }
            if !patience.has_ended(|| self.keys.pass_over_hidden(self.timestamp))? {
                self.keys.prev()?;
            }
        }
        Ok(())
    }
}

/// So many keys are stepped over at first, and after each time that some were passed over.
const FEW: u32 = 4;

/// How many keys that are not live are stepped over before it is tried to pass over all that a range tombstone hides,
/// which costs about as much as so many steps; and after one in vain.
struct Patience {
    stepped: u32,
    until: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stepped: 0, until: FEW }
    }
}

impl Patience {
    /// Tries `pass_over` if it is time for it, and says whether that moved anything.
    fn has_ended(&mut self, pass_over: impl FnOnce() -> Result<bool>) -> Result<bool> {
        self.stepped = self.stepped.saturating_add(1);
        if self.stepped < self.until {
            return Ok(false);
        }
        let passed = pass_over()?;
        self.until = if passed { self.stepped.saturating_add(FEW) } else { self.stepped.saturating_mul(2) };
        Ok(passed)
    }
}

/// Whether `key` lies below what `lower` lets in.
fn below(key: &[u8], lower: &Bound<Slice>) -> bool {
    match lower {
        Bound::Unbounded => false,
        Bound::Included(lower) => *key < **lower,
        Bound::Excluded(lower) => *key <= **lower,
    }
}

/// Whether `key` lies above what `upper` lets in.
fn above(key: &[u8], upper: &Bound<Slice>) -> bool {
    match upper {
        Bound::Unbounded => false,
        Bound::Included(upper) => *key > **upper,
        Bound::Excluded(upper) => *key >= **upper,
    }
}
