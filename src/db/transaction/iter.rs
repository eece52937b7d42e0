//! The pairs that a transaction sees: those of its snapshot, with its own writes on top.

use std::fmt;
use std::ops::Bound;

use super::super::Iter;
use super::super::range::KeyBounds;
use super::reads::Walk;
use super::writes::{InKeyspace, Write};
use crate::{Result, Slice, Timestamp};

type Pair = (Slice, Slice);

/// The pairs of a range that a transaction sees, in key order, lazily, from either end. After an error it is at its end.
pub struct TransactionIter {
    stored: Iter,
    /// Pairs of the snapshot that were looked at and not given yet.
    front: Option<Pair>,
    back: Option<Pair>,
    own: InKeyspace,
    /// The keys that are left of it.
    left: KeyBounds,
    now: Timestamp,
    walk: Option<Walk>,
    ended: bool,
}

impl TransactionIter {
    pub(super) fn new(stored: Iter, own: InKeyspace, bounds: KeyBounds, now: Timestamp, walk: Option<Walk>) -> Self {
        Self { stored, front: None, back: None, own, left: bounds, now, walk, ended: false }
    }

    fn step(&mut self, from_front: bool) -> Option<Result<Pair>> {
        if self.ended {
            return None;
        }
        let next = self.advance(from_front).transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        if let Some(walk) = &self.walk
            && !matches!(next, Some(Err(_)))
        {
            walk.came_to(next.as_ref().and_then(|pair| pair.as_ref().ok()).map(|(key, _)| key), from_front);
        }
        next
    }

    fn advance(&mut self, from_front: bool) -> Result<Option<Pair>> {
        loop {
            self.peek(from_front)?;
            let Self { front, back, .. } = self;
            let stored = if from_front { front } else { back };
            let own = first_or_last(&self.own, &self.left, from_front);
            let own_is_next = match (stored.as_ref(), own) {
                (None, None) => return Ok(None),
                (Some((key, _)), Some((own, _))) => {
                    if from_front {
                        own <= key
                    } else {
                        own >= key
                    }
                }
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            let Some((key, write)) = own.filter(|_| own_is_next) else { return Ok(stored.take()) };
            // It stands in place of the stored one.
            stored.take_if(|(stored, _)| stored == key);
            let pair = write.visible(self.now).map(|value| (key.clone(), value.clone()));
            let passed = Bound::Excluded(key.clone());
            if from_front {
                self.left.0 = passed;
            } else {
                self.left.1 = passed;
            }
            if pair.is_some() {
                return Ok(pair);
            }
        }
    }

    /// Has the next stored pair at hand, if there is one.
    fn peek(&mut self, from_front: bool) -> Result<()> {
        if from_front && self.front.is_none() {
            self.front = self.stored.next().transpose()?.or_else(|| self.back.take());
        } else if !from_front && self.back.is_none() {
            self.back = self.stored.next_back().transpose()?.or_else(|| self.front.take());
        }
        Ok(())
    }
}

fn first_or_last<'a>(own: &'a InKeyspace, left: &KeyBounds, first: bool) -> Option<(&'a Slice, &'a Write)> {
    if is_empty(left) {
        return None;
    }
    let mut range = own.range::<Slice, _>((left.0.as_ref(), left.1.as_ref()));
    if first { range.next() } else { range.next_back() }
}

/// Whether no key can lie between the two.
fn is_empty((lower, upper): &KeyBounds) -> bool {
    match (lower, upper) {
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
            lower >= upper
        }
        _ => false,
    }
}

impl Iterator for TransactionIter {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl DoubleEndedIterator for TransactionIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl std::iter::FusedIterator for TransactionIter {}

impl fmt::Debug for TransactionIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransactionIter")
    }
}
