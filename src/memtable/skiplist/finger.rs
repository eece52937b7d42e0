//! Where a thread has inserted last.
//!
//! Commits often bring keys in rising order, or near each other. So each thread remembers, for each level, the entry
//! behind which it has linked last, and begins the next search there, on the lowest level on which that is good for
//! anything: rising keys then cost a few comparisons, however large the list is. The list itself remembers nothing,
//! since that would be a cache line that all inserts write.
//!
//! What is remembered can be outlived by the thread, never followed: it is looked at only together with the id of its
//! list, which no other list ever has, and only by an insert into that list, while it lives.

use std::cell::Cell;
use std::cmp::Ordering::Less;

use super::entry::Goal;
use super::partial::Next;
use super::{MAX_HEIGHT, SkipList, Start};
use crate::sync::thread_local;

thread_local! {
    pub(super) static FINGER: Finger = Finger::nowhere();
}

/// See the module.
pub(super) struct Finger {
    /// The id of the list; 0: of none.
    list: Cell<u64>,
    /// On each level an entry that has it, each at or before the one below; null: the head.
    before: [Cell<Next>; MAX_HEIGHT],
    /// How many levels, from below, that is so for; above a finger is of an earlier place.
    levels: Cell<usize>,
}

/// The levels on which a search may begin below the top. What is so far off that more would be needed is looked for from
/// the top at once.
const REACH: usize = if MAX_HEIGHT < 4 { MAX_HEIGHT } else { 4 };

impl Finger {
    fn nowhere() -> Self {
        Self { list: Cell::new(0), before: [const { Cell::new(Next::NONE) }; MAX_HEIGHT], levels: Cell::new(0) }
    }

    pub(super) fn before(&self, level: usize) -> Next {
        self.before.get(level).map_or(Next::NONE, Cell::get)
    }

    pub(super) fn set(&self, level: usize, entry: Next) {
        if let Some(before) = self.before.get(level) {
            before.set(entry);
        }
    }
}

impl SkipList {
    /// Puts the finger, on so many levels at least, on an entry before the goal that is near to it.
    pub(super) fn approach(&self, finger: &Finger, goal: &Goal<'_>, levels: usize) {
        let is_before = |entry: Next| self.compare(entry, goal) == Less;
        let start = match self.beginning(finger, goal) {
            Some(start) if levels <= finger.levels.get() => start,
            _ => {
                let start = self.start(goal, is_before, levels);
                finger.levels.set(start.level + 1);
                start
            }
        };
        self.descend(start, is_before, |level, before| finger.set(level, before));
    }

    /// The lowest level on which the goal lies between the finger and the entry after it.
    fn beginning(&self, finger: &Finger, goal: &Goal<'_>) -> Option<Start> {
        if finger.list.replace(self.id) != self.id {
            // Before anything else is put there.
            finger.levels.set(0);
            return None;
        }
        let is_before = |entry: Next| entry.is_none() || self.compare(entry, goal) == Less;
        // Once one is before the goal, those on higher levels are too.
        let mut known = false;
        for level in 0..REACH.min(finger.levels.get()) {
            let from = finger.before(level);
            known = known || is_before(from);
            if known {
                // SAFETY: the finger's entry has the level, and is of this list.
                let after = unsafe { self.following(from, level) };
                if after.is_none() || !is_before(after) {
                    return Some(Start { from, level, after });
                }
            }
        }
        None
    }
}
