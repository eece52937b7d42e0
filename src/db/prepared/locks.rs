//! Which keys and ranges prepared transactions have locked.
//!
//! A key that one will write is locked against everybody, what one has read against those who write. Two may have read the
//! same; of two that meet otherwise the second is not prepared.
//!
//! Keys are found in one map for all that hold any, ranges in a list of each holder's own: many transactions with a few keys
//! each are what is common.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::batch::{Op, OpKind, Reads};
use super::pending::{Pending, ReadRange};
use crate::manifest::KeyspaceId;
use crate::sync::Arc;
use crate::{Slice, Timestamp};

/// Timestamps, each as often as a transaction has it.
#[derive(Debug, Default)]
struct Times(BTreeMap<Timestamp, usize>);

impl Times {
    fn add(&mut self, timestamp: Timestamp) {
        *self.0.entry(timestamp).or_default() += 1;
    }

    fn remove(&mut self, timestamp: Timestamp) {
        if let Some(count) = self.0.get_mut(&timestamp) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&timestamp);
            }
        }
    }

    fn lowest(&self) -> Option<Timestamp> {
        self.0.first_key_value().map(|(timestamp, _)| *timestamp)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Locks {
    keyspaces: BTreeMap<KeyspaceId, InKeyspace>,
    starts: Times,
    /// What they can be committed above.
    bounds: Times,
}

#[derive(Debug, Default)]
struct InKeyspace {
    keys: BTreeMap<Slice, KeyLock>,
    /// Those that have read ranges, and which of their lists is of this keyspace.
    walkers: Vec<(Arc<Pending>, usize)>,
    /// What those that will write can be committed above.
    bounds: Times,
    /// How many have read or will write here.
    users: usize,
}

#[derive(Debug, Default)]
struct KeyLock {
    writer: Option<Arc<Pending>>,
    readers: Vec<Arc<Pending>>,
}

/// A lock that is in somebody's way.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: Slice,
    pub(crate) holder: Arc<Pending>,
}

impl Locks {
    pub(super) fn is_empty(&self) -> bool {
        self.starts.0.is_empty()
    }

    /// All can be committed above this.
    pub(super) fn lowest_bound(&self) -> Option<Timestamp> {
        self.bounds.lowest()
    }

    pub(super) fn highest_start(&self) -> Option<Timestamp> {
        self.starts.0.last_key_value().map(|(start, _)| *start)
    }

    /// Whether one has read or will write in this keyspace.
    pub(super) fn uses(&self, keyspace: KeyspaceId) -> bool {
        self.keyspaces.contains_key(&keyspace)
    }

    /// All that will write in this keyspace can be committed above this.
    pub(super) fn lowest_bound_in(&self, keyspace: KeyspaceId) -> Option<Timestamp> {
        self.keyspaces.get(&keyspace)?.bounds.lowest()
    }

    pub(super) fn add(&mut self, pending: &Arc<Pending>) {
        self.starts.add(pending.start());
        self.bounds.add(pending.above());
        for id in pending.keyspaces.as_slice() {
            self.keyspaces.entry(*id).or_default().users += 1;
        }
        for id in pending.written.as_slice() {
            self.keyspaces.entry(*id).or_default().bounds.add(pending.above());
        }
        for (id, key) in pending.written_keys() {
            let keys = &mut self.keyspaces.entry(id).or_default().keys;
            keys.entry(Slice::copy_of(key)).or_default().writer = Some(Arc::clone(pending));
        }
        for (id, key) in &pending.reads.keys {
            let keys = &mut self.keyspaces.entry(*id).or_default().keys;
            keys.entry(Slice::copy_of(key)).or_default().readers.push(Arc::clone(pending));
        }
        for (at, (id, _)) in pending.ranges.iter().enumerate() {
            self.keyspaces.entry(*id).or_default().walkers.push((Arc::clone(pending), at));
        }
    }

    pub(super) fn remove(&mut self, pending: &Arc<Pending>) {
        let is_other = |holder: &Arc<Pending>| !Arc::ptr_eq(holder, pending);
        self.starts.remove(pending.start());
        self.bounds.remove(pending.above());
        let read = pending.reads.keys.iter().map(|(id, key)| (*id, &**key));
        for (id, key) in pending.written_keys().chain(read) {
            let Some(keyspace) = self.keyspaces.get_mut(&id) else { continue };
            let Some(lock) = keyspace.keys.get_mut(key) else { continue };
            lock.writer = lock.writer.take().filter(is_other);
            lock.readers.retain(is_other);
            if lock.writer.is_none() && lock.readers.is_empty() {
                keyspace.keys.remove(key);
            }
        }
        for id in pending.written.as_slice() {
            self.keyspaces.entry(*id).or_default().bounds.remove(pending.above());
        }
        for id in pending.keyspaces.as_slice() {
            let Some(keyspace) = self.keyspaces.get_mut(id) else { continue };
            keyspace.walkers.retain(|(holder, _)| is_other(holder));
            keyspace.users -= 1;
            if keyspace.users == 0 {
                self.keyspaces.remove(id);
            }
        }
    }

    /// What is in the way of who writes these operations.
    pub(super) fn met_by_writes<'a>(&self, mut operations: impl Iterator<Item = Op<'a>>) -> Option<Met> {
        operations.find_map(|op| {
            let (id, keyspace) = self.keyspaces.get_key_value(&KeyspaceId(op.keyspace))?;
            let (key, holder) = match op.kind {
                OpKind::Put { key, .. } | OpKind::Delete { key } => {
                    let holder = keyspace.keys.get(key).and_then(KeyLock::any);
                    (key, holder.or_else(|| keyspace.walker_of(key, None))?)
                }
                OpKind::DeleteRange { start, end } => keyspace.met_in_range(start, end, KeyLock::any)?,
            };
            Some(Met { keyspace: *id, key: Slice::copy_of(key), holder: Arc::clone(holder) })
        })
    }

    /// What is in the way of who has read this: what will be written.
    pub(super) fn met_by_reads(&self, reads: &Reads) -> Option<Met> {
        let met = |id: &KeyspaceId, found: (&[u8], &Arc<Pending>)| {
            let (key, holder) = found;
            Met { keyspace: *id, key: Slice::copy_of(key), holder: Arc::clone(holder) }
        };
        let by_key = reads.keys.iter().find_map(|(id, key)| {
            let writer = self.keyspaces.get(id)?.keys.get(&**key)?.writer.as_ref()?;
            Some(met(id, (key, writer)))
        });
        by_key.or_else(|| {
            reads.ranges.iter().find_map(|(id, start, end)| {
                let keyspace = self.keyspaces.get(id)?;
                Some(met(id, keyspace.written_in_range(start, end.as_deref(), |lock| lock.writer.as_ref())?))
            })
        })
    }
}

impl KeyLock {
    fn any(&self) -> Option<&Arc<Pending>> {
        self.writer.as_ref().or(self.readers.first())
    }
}

impl InKeyspace {
    /// The first key in a range that is locked as `holder` says.
    fn written_in_range<'a>(
        &'a self,
        start: &[u8],
        end: Option<&[u8]>,
        holder: impl Fn(&'a KeyLock) -> Option<&'a Arc<Pending>>,
    ) -> Option<(&'a [u8], &'a Arc<Pending>)> {
        if end.is_some_and(|end| end <= start) {
            return None;
        }
        let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        self.keys.range::<[u8], _>(bounds).find_map(|(key, lock)| Some((&**key, holder(lock)?)))
    }

    /// A key of a range, and who has locked it, or read a range around it.
    fn met_in_range<'a>(
        &'a self,
        start: &'a [u8],
        end: Option<&[u8]>,
        holder: impl Fn(&'a KeyLock) -> Option<&'a Arc<Pending>>,
    ) -> Option<(&'a [u8], &'a Arc<Pending>)> {
        self.written_in_range(start, end, holder).or_else(|| Some((start, self.walker_of(start, Some(end))?)))
    }

    /// Who has read a range that holds `key` or, if that is where a range begins which ends at `to`, meets that one.
    fn walker_of(&self, key: &[u8], to: Option<Option<&[u8]>>) -> Option<&Arc<Pending>> {
        let ends_behind = |range: &ReadRange| range.1.as_ref().is_none_or(|end| **end > *key);
        let begins_before = |range: &ReadRange| match to {
            None => *range.0 <= *key,
            Some(to) => to.is_none_or(|to| *range.0 < *to),
        };
        let has_read = |(walker, at): &&(Arc<Pending>, usize)| {
            // In order, and none reaches the next: of those that end behind the key the first begins first.
            let ranges = walker.ranges.get(*at).map_or(&[][..], |(_, ranges)| ranges);
            ranges.get(ranges.partition_point(|range| !ends_behind(range))).is_some_and(begins_before)
        };
        self.walkers.iter().find(has_read).map(|(walker, _)| walker)
    }
}
