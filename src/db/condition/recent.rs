//! The commits that were reserved while conditions are being checked: what the checks could not see.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Timestamp;
use crate::version::Sequence;

/// See the module. Under the commit lock.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    watchers: Vec<Watch>,
    next: u64,
    /// In order; none that every watcher has seen.
    commits: VecDeque<RecentCommit>,
    bytes: usize,
    /// Commits up to here may be missing.
    forgotten: Sequence,
}

#[derive(Debug)]
struct Watch {
    number: u64,
    /// It has seen everything up to here.
    seen: Sequence,
    /// Whatever it comes to: nothing is forgotten.
    insists: bool,
}

/// A commit as far as a condition is concerned.
#[derive(Debug, Clone)]
pub(super) struct RecentCommit {
    /// Its last sequence.
    pub(super) sequence: Sequence,
    pub(super) timestamp: Timestamp,
    pub(super) operations: Bytes,
    /// How many; 1 of none, so that commits are no more.
    pub(super) count: usize,
}

impl Recent {
    /// From here on what is reserved behind `seen` is held. Gives a number to name the watcher by.
    pub(super) fn begin_watch(&mut self, seen: Sequence, insists: bool) -> u64 {
        self.next += 1;
        self.watchers.push(Watch { number: self.next, seen, insists });
        self.next
    }

    pub(super) fn end_watch(&mut self, number: u64) {
        self.watchers.retain(|watch| watch.number != number);
        self.trim();
    }

    /// The watcher has looked at everything up to `seen`.
    pub(super) fn has_seen(&mut self, number: u64, seen: Sequence) {
        for watch in self.watchers.iter_mut().filter(|watch| watch.number == number) {
            watch.seen = seen;
        }
        self.trim();
    }

    fn trim(&mut self) {
        let needed = self.watchers.iter().map(|watch| watch.seen).min().unwrap_or(Sequence::MAX);
        while self.commits.front().is_some_and(|commit| commit.sequence <= needed) {
            let gone = self.commits.pop_front();
            self.bytes -= gone.map_or(0, |commit| commit.bytes());
        }
    }

    /// Whether what is reserved now must be [`push`](Self::push)ed.
    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// A commit was reserved. No more than `most` bytes are held, unless somebody insists.
    pub(crate) fn push(
        &mut self,
        (sequence, timestamp): (Sequence, Timestamp),
        operations: Bytes,
        count: usize,
        most: usize,
    ) {
        let commit = RecentCommit { sequence, timestamp, operations, count: count.max(1) };
        self.bytes += commit.bytes();
        self.commits.push_back(commit);
        if self.bytes > most && !self.watchers.iter().any(|watch| watch.insists) {
            self.forget(sequence);
        }
    }

    /// What was reserved up to `sequence` is not known any more.
    pub(crate) fn forget(&mut self, sequence: Sequence) {
        self.commits.clear();
        self.bytes = 0;
        self.forgotten = sequence;
    }

    /// Those behind `sequence`, in order; `None`: not all are here.
    pub(super) fn since(&self, sequence: Sequence) -> Option<impl Iterator<Item = &RecentCommit> + Clone> {
        if self.forgotten > sequence {
            return None;
        }
        let first = self.commits.partition_point(|commit| commit.sequence <= sequence);
        Some(self.commits.range(first..))
    }
}

impl RecentCommit {
    fn bytes(&self) -> usize {
        self.operations.len() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(recent: &mut Recent, sequence: Sequence, most: usize) {
        recent.push((sequence, sequence), Bytes::from(vec![0; 100]), 1, most);
    }

    fn behind(recent: &Recent, sequence: Sequence) -> Option<Vec<Sequence>> {
        recent.since(sequence).map(|commits| commits.map(|commit| commit.sequence).collect())
    }

    #[test]
    fn what_no_watcher_needs_is_let_go_and_what_one_needs_is_not() {
        let mut recent = Recent::default();
        assert!(!recent.is_watched());
        let early = recent.begin_watch(10, false);
        (11..=13).for_each(|sequence| push(&mut recent, sequence, 1 << 20));
        let late = recent.begin_watch(13, false);
        push(&mut recent, 14, 1 << 20);
        assert_eq!(behind(&recent, 10), Some(vec![11, 12, 13, 14]));
        assert_eq!(behind(&recent, 13), Some(vec![14]));
        recent.has_seen(early, 12);
        assert_eq!(behind(&recent, 12), Some(vec![13, 14]));
        assert_eq!(recent.commits.len(), 2);
        recent.end_watch(early);
        assert_eq!((behind(&recent, 13), recent.commits.len()), (Some(vec![14]), 1));
        recent.end_watch(late);
        assert_eq!((recent.is_watched(), recent.commits.len(), recent.bytes), (false, 0, 0));
    }

    // S8, S38
    #[test]
    fn beyond_the_bound_it_is_forgotten_and_said_unless_somebody_insists() {
        let mut recent = Recent::default();
        let watcher = recent.begin_watch(0, false);
        (1..=3).for_each(|sequence| push(&mut recent, sequence, 400));
        assert_eq!(behind(&recent, 0), None, "not all are here");
        assert_eq!(behind(&recent, 3), Some(vec![]));
        push(&mut recent, 4, 400);
        assert_eq!((behind(&recent, 2), behind(&recent, 3)), (None, Some(vec![4])));
        recent.end_watch(watcher);
        recent.begin_watch(4, true);
        (5..=20).for_each(|sequence| push(&mut recent, sequence, 400));
        assert_eq!(behind(&recent, 4).map(|commits| commits.len()), Some(16));
        recent.forget(20);
        assert_eq!((behind(&recent, 19), behind(&recent, 20)), (None, Some(vec![])));
    }
}
