//! Conditional commits: what one depends on, and how that is held against what was committed since its start.
//!
//! A condition names keys and ranges, and a start; it fails if any of them has a version above the start, among all that
//! was reserved before the commit. The obvious way looks for one under the commit lock: right, but then a lookup in
//! tables, or a walk over a range, holds up every commit. Looking before the lock misses what comes in between. So it is
//! done in two parts:
//!
//! 1. Under the lock it is noted how far commits are reserved, and that somebody watches from there on. If none is above
//!    the start, that is all.
//! 2. Without the lock: once everything up to there is in the memtables, memtables and tables are looked through
//!    ([`stored`]); those without a timestamp above the start are passed over.
//! 3. What was reserved since step 1 is looked through ([`recent`]): while it is much, without the lock, and the last of it
//!    under the lock in which the commit is reserved. Commits leave their operations there only while somebody watches,
//!    shared, not copied.
//!
//! Nothing is waited for under the lock, and only who sets a condition pays for one.

mod recent;
mod stored;

pub(crate) use recent::Recent;
use recent::RecentCommit;

use super::batch::{OpKind, Operations, Reads};
use super::engine::{CommitState, Engine};
use crate::manifest::KeyspaceId;
use crate::sync::MutexGuard;
use crate::version::Sequence;
use crate::{Error, Result, Timestamp};

/// So many operations are compared with a condition under the commit lock.
pub(super) const FEW_OPERATIONS: usize = 256;
/// Of more, so many commits at a time are compared without it.
const FEW_COMMITS: usize = 4096;
/// After so many rounds of that all that is left is compared under the lock: whoever commits faster than this compares
/// waits, and not this.
const ROUNDS: u32 = 32;
/// Who was overtaken so often, by more than is held, has it held however much it is.
const PATIENCE: u32 = 2;

/// The keys and ranges that must have no version above `start`.
pub(crate) struct Condition<'a> {
    pub(crate) start: Timestamp,
    /// All that the commit touches; ascending.
    keyspaces: Vec<KeyspaceId>,
    /// Ascending, each once.
    keys: Vec<(KeyspaceId, &'a [u8])>,
    /// Ascending, none reaching the next.
    ranges: Vec<Watched<'a>>,
}

/// A range of keys in one keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched<'a> {
    keyspace: KeyspaceId,
    start: &'a [u8],
    /// Exclusive; `None`: to the last key.
    end: Option<&'a [u8]>,
}

impl Watched<'_> {
    fn ends_before(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.keyspace < keyspace || (self.keyspace == keyspace && self.end.is_some_and(|end| end <= key))
    }
}

/// What was found above the start: of which keyspace and key, and at which timestamp.
struct Found {
    keyspace: KeyspaceId,
    key: Box<[u8]>,
    timestamp: Timestamp,
}

impl<'a> Condition<'a> {
    /// Of what a batch writes, in the keyspaces `written`, and what it names as read.
    pub(crate) fn new(start: Timestamp, operations: &'a [u8], written: &[KeyspaceId], reads: &'a Reads) -> Self {
        let mut keys: Vec<_> = reads.keys.iter().map(|(keyspace, key)| (*keyspace, &**key)).collect();
        let range = |&(keyspace, ref start, ref end): &'a (KeyspaceId, _, Option<_>)| {
            let (start, end): (&'a crate::Slice, Option<&'a crate::Slice>) = (start, end.as_ref());
            Watched { keyspace, start, end: end.map(|end| &**end) }
        };
        let mut ranges: Vec<_> = reads.ranges.iter().map(range).collect();
        // The batch encoded these bytes itself.
        for op in Operations::new(operations).flatten() {
            let keyspace = KeyspaceId(op.keyspace);
            match op.kind {
                OpKind::Put { key, .. } | OpKind::Delete { key } => keys.push((keyspace, key)),
                OpKind::DeleteRange { start, end } => ranges.push(Watched { keyspace, start, end }),
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let mut keyspaces = [written, reads.keyspaces.as_slice()].concat();
        keyspaces.sort_unstable();
        keyspaces.dedup();
        Self { start, keyspaces, keys, ranges: joined(ranges) }
    }

    /// What a commit of these operations, at `timestamp`, writes of it.
    fn written_by(&self, operations: &[u8], timestamp: Timestamp) -> Option<Found> {
        if timestamp <= self.start {
            return None;
        }
        let key = Operations::new(operations).flatten().find_map(|op| {
            let keyspace = KeyspaceId(op.keyspace);
            let key = match op.kind {
                OpKind::Put { key, .. } | OpKind::Delete { key } => self.names(keyspace, key).then_some(key),
                OpKind::DeleteRange { start, end } => self.first_within(keyspace, start, end),
            };
            Some((keyspace, Box::from(key?)))
        });
        key.map(|(keyspace, key)| Found { keyspace, key, timestamp })
    }

    fn names(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let around = self.ranges.partition_point(|range| range.ends_before(keyspace, key));
        self.keys.binary_search(&(keyspace, key)).is_ok()
            || self.ranges.get(around).is_some_and(|range| range.keyspace == keyspace && range.start <= key)
    }

    /// A key of the condition in a range.
    fn first_within<'k>(&self, keyspace: KeyspaceId, start: &'k [u8], end: Option<&[u8]>) -> Option<&'k [u8]>
    where
        'a: 'k,
    {
        let below_end = |key: &[u8]| end.is_none_or(|end| key < end);
        let at = self.keys.partition_point(|key| *key < (keyspace, start));
        let key = self.keys.get(at).filter(|(of, key)| *of == keyspace && below_end(key)).map(|(_, key)| *key);
        key.or_else(|| {
            let around = self.ranges.partition_point(|range| range.ends_before(keyspace, start));
            let range = self.ranges.get(around)?;
            let first = range.start.max(start);
            (range.keyspace == keyspace && below_end(first)).then_some(first)
        })
    }
}

/// In order, and those that touch made one.
fn joined(mut ranges: Vec<Watched<'_>>) -> Vec<Watched<'_>> {
    ranges.sort_unstable_by_key(|range| (range.keyspace, range.start));
    ranges.dedup_by(|next, range| {
        let touches = range.keyspace == next.keyspace && range.end.is_none_or(|end| next.start <= end);
        if touches {
            range.end = range.end.zip(next.end).map(|(end, other)| end.max(other));
        }
        touches
    });
    ranges
}

/// Whether these come to few operations; does not look at more.
fn are_few<'a>(mut commits: impl Iterator<Item = &'a RecentCommit>) -> bool {
    let mut operations = 0;
    commits.all(|commit| {
        operations += commit.count;
        operations <= FEW_OPERATIONS
    })
}

/// Who watches what is reserved; leaves when it goes.
struct Watcher<'e> {
    engine: &'e Engine,
    /// `None`: it has left.
    number: Option<u64>,
    /// Everything up to here was looked at, or will be in what is stored; everything behind it is in [`Recent`].
    seen: Sequence,
}

impl<'e> Watcher<'e> {
    fn new(engine: &'e Engine, state: &mut CommitState, insists: bool) -> Self {
        let seen = state.reserved();
        Self { engine, number: Some(state.recent.begin_watch(seen, insists)), seen }
    }

    fn end(mut self, state: &mut CommitState) {
        self.number.take().into_iter().for_each(|number| state.recent.end_watch(number));
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.engine.commit.lock().recent.end_watch(number);
        }
    }
}

impl Engine {
    /// The lock, if nothing is reserved above `start`: then any condition holds, and no floor is above it. Most conditions
    /// name what was the last commit a moment ago.
    pub(crate) fn lock_if_newest(&self, start: Timestamp) -> Option<MutexGuard<'_, CommitState>> {
        let state = self.commit.lock();
        (state.last_timestamp <= start).then_some(state)
    }

    /// Holds a condition against everything reserved so far, and gives the lock under which it holds.
    pub(crate) fn lock_where(&self, condition: &Condition<'_>) -> Result<MutexGuard<'_, CommitState>> {
        let mut forgotten = 0;
        loop {
            let mut state = self.commit.lock();
            let watcher = Watcher::new(self, &mut state, forgotten >= PATIENCE);
            drop(state);
            self.in_flight.wait_applied(watcher.seen, &self.current.published);
            if let Some(found) = self.check_stored(condition, watcher.seen)? {
                let seen = watcher.seen;
                drop(watcher);
                return Err(self.conflict(condition, found, seen));
            }
            match self.catch_up(condition, watcher)? {
                Some(state) => return Ok(state),
                None => forgotten += 1,
            }
        }
    }

    /// Holds it against what was reserved since; `None` if not all of that is known any more.
    fn catch_up(
        &self,
        condition: &Condition<'_>,
        mut watcher: Watcher<'_>,
    ) -> Result<Option<MutexGuard<'_, CommitState>>> {
        let mut round = 0;
        loop {
            round += 1;
            let mut state = self.commit.lock();
            let Some(since) = state.recent.since(watcher.seen) else {
                watcher.end(&mut state);
                return Ok(None);
            };
            let written = |commit: &RecentCommit| condition.written_by(&commit.operations, commit.timestamp);
            if round >= ROUNDS || are_few(since.clone()) {
                let found = since.clone().find_map(written);
                let reserved = since.last().map_or(watcher.seen, |commit| commit.sequence);
                watcher.end(&mut state);
                let Some(found) = found else { return Ok(Some(state)) };
                drop(state);
                return Err(self.conflict(condition, found, reserved));
            }
            let some: Vec<RecentCommit> = since.take(FEW_COMMITS).cloned().collect();
            let reserved = some.last().map_or(watcher.seen, |commit| commit.sequence);
            watcher.seen = reserved;
            watcher.number.into_iter().for_each(|number| state.recent.has_seen(number, reserved));
            drop(state);
            if let Some(found) = some.iter().find_map(written) {
                drop(watcher);
                return Err(self.conflict(condition, found, reserved));
            }
        }
    }

    /// The error for what was found among commits up to `reserved`. One that is not visible yet is waited for: who tries
    /// again at once would start before it and fail again; and if it never is, it is no reason to fail.
    fn conflict(&self, condition: &Condition<'_>, found: Found, reserved: Sequence) -> Error {
        let is_visible = !self.options.late_commits && found.timestamp <= self.current.horizon().last_timestamp;
        if !is_visible
            && !self.in_flight.wait_published(reserved, &self.current.published)
            && let Err(failed) = self.check_sound()
        {
            return failed;
        }
        let name = self.keyspace_core(found.keyspace).map(|core| core.name.clone()).unwrap_or_default();
        Error::Conflict {
            keyspace: name.into_boxed_str(),
            key: found.key,
            start: condition.start,
            found: found.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use crate::db::batch::{Target, WriteBatch};

    struct Keyspace(u32);

    impl Target for Keyspace {
        fn id(&self) -> u32 {
            self.0
        }

        fn database(&self) -> u64 {
            1
        }
    }

    const A: Keyspace = Keyspace(1);
    const B: Keyspace = Keyspace(2);

    /// Of a commit at 11 of what `fill` writes: the keyspace and key on which it meets a condition that starts at 10.
    fn met(condition: &Condition<'_>, fill: impl Fn(&mut WriteBatch)) -> Option<(u32, Vec<u8>)> {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        let (body, ..) = batch.into_parts();
        assert!(condition.written_by(&body, 10).is_none(), "equal is no conflict");
        condition.written_by(&body, 11).map(|found| (found.keyspace.0, found.key.to_vec()))
    }

    // S1, S8
    #[test]
    fn a_commit_meets_what_a_condition_names_and_nothing_beside_it() {
        let mut own = WriteBatch::new();
        own.push_put(&A, b"k", b"v");
        own.push_delete_range(&A, "p".."r");
        own.push_read(&B, b"read");
        own.push_read_range(&A, "r".."t");
        own.push_read_range(&A, "x"..);
        let (body, written, reads) = own.into_parts();
        let condition = Condition::new(10, &body, written.as_slice(), &reads);
        assert_eq!(condition.keyspaces, [KeyspaceId(1), KeyspaceId(2)]);
        // Those that touch are one.
        let ends: Vec<_> = condition.ranges.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(ends, [(&b"p"[..], Some(&b"t"[..])), (b"x", None)]);
        for key in ["k", "p", "q", "r", "s\u{7f}", "x", "zz"] {
            let at = Some((1, key.as_bytes().to_vec()));
            assert_eq!(met(&condition, |batch| batch.push_put(&A, key.as_bytes(), b"")), at, "{key}");
            assert_eq!(met(&condition, |batch| batch.push_delete(&A, key.as_bytes())), at, "{key}");
            assert_eq!(met(&condition, |batch| batch.push_put(&B, key.as_bytes(), b"")), None, "{key}");
        }
        for key in ["", "j", "k\0", "o", "t", "w"] {
            assert_eq!(met(&condition, |batch| batch.push_put(&A, key.as_bytes(), b"")), None, "{key}");
        }
        assert_eq!(met(&condition, |batch| batch.push_delete(&B, b"read")), Some((2, b"read".to_vec())));
        // Range deletes over keys and ranges, and between them.
        let deletes = |start: &str, end: Option<&str>| {
            let bounds = |batch: &mut WriteBatch| match end {
                Some(end) => batch.push_delete_range(&A, start..end),
                None => batch.push_delete_range(&A, start..),
            };
            met(&condition, bounds).map(|(_, key)| Slice::from(key))
        };
        let at = |key: &str| Some(Slice::copy_of(key.as_bytes()));
        assert_eq!(deletes("a", Some("k")), None);
        assert_eq!(deletes("a", Some("l")), at("k"));
        assert_eq!(deletes("k\0", Some("p")), None);
        assert_eq!(deletes("l", Some("q")), at("p"));
        assert_eq!(deletes("s", Some("u")), at("s"));
        assert_eq!(deletes("t", Some("x")), None);
        assert_eq!(deletes("y", None), at("y"));
    }
}
