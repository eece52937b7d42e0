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
