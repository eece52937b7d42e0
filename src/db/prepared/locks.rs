//! Which keys and ranges prepared transactions have locked.
//!
//! A key that one will write is locked against everybody, what one has read against those who write. Two may have read the
//! same; of two that meet otherwise the second is not prepared.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::batch::{Op, OpKind, Operations, Reads};
use super::pending::Pending;
use crate::manifest::KeyspaceId;
use crate::sync::Arc;
use crate::{Slice, Timestamp};

/// Starts of transactions, each as often as there is one.
#[derive(Debug, Default)]
struct Starts(BTreeMap<Timestamp, usize>);

impl Starts {
    fn add(&mut self, start: Timestamp) {
        *self.0.entry(start).or_default() += 1;
    }

    fn remove(&mut self, start: Timestamp) {
        if let Some(count) = self.0.get_mut(&start) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&start);
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Locks {
    keyspaces: BTreeMap<KeyspaceId, InKeyspace>,
    starts: Starts,
}

#[derive(Debug, Default)]
struct InKeyspace {
    keys: BTreeMap<Slice, KeyLock>,
    ranges: Vec<RangeLock>,
    /// How often one in doubt has read or will write here.
    uses: usize,
    /// Of those that will write.
    starts: Starts,
}

#[derive(Debug, Default)]
struct KeyLock {
    writer: Option<Arc<Pending>>,
    readers: Vec<Arc<Pending>>,
}

#[derive(Debug)]
struct RangeLock {
    start: Slice,
    /// Exclusive; `None`: to the last key.
    end: Option<Slice>,
    writes: bool,
    holder: Arc<Pending>,
}

/// What somebody wants to write or has read.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Key(&'a [u8]),
    Range(&'a [u8], Option<&'a [u8]>),
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

    pub(super) fn lowest_start(&self) -> Option<Timestamp> {
        self.starts.0.first_key_value().map(|(start, _)| *start)
    }

    pub(super) fn highest_start(&self) -> Option<Timestamp> {
        self.starts.0.last_key_value().map(|(start, _)| *start)
    }

    /// Whether one has read or will write in this keyspace.
    pub(super) fn uses(&self, keyspace: KeyspaceId) -> bool {
        self.keyspaces.contains_key(&keyspace)
    }

    /// Of those that will write in this keyspace.
    pub(super) fn lowest_start_in(&self, keyspace: KeyspaceId) -> Option<Timestamp> {
        self.keyspaces.get(&keyspace)?.starts.0.first_key_value().map(|(start, _)| *start)
    }

    pub(super) fn add(&mut self, pending: &Arc<Pending>) {
        self.starts.add(pending.start());
        for id in pending.keyspaces() {
            self.keyspaces.entry(id).or_default().uses += 1;
        }
        for id in pending.written.as_slice() {
            self.keyspaces.entry(*id).or_default().starts.add(pending.start());
        }
        for op in Operations::new(&pending.operations).flatten() {
            let keyspace = self.keyspaces.entry(KeyspaceId(op.keyspace)).or_default();
            match op.kind {
                OpKind::Put { key, .. } | OpKind::Delete { key } => {
                    keyspace.keys.entry(Slice::copy_of(key)).or_default().writer = Some(Arc::clone(pending));
                }
                OpKind::DeleteRange { start, end } => keyspace.ranges.push(RangeLock {
                    start: Slice::copy_of(start),
                    end: end.map(Slice::copy_of),
                    writes: true,
                    holder: Arc::clone(pending),
                }),
            }
        }
        for (id, key) in &pending.reads.keys {
            let keyspace = self.keyspaces.entry(*id).or_default();
            keyspace.keys.entry(Slice::copy_of(key)).or_default().readers.push(Arc::clone(pending));
        }
        for (id, start, end) in &pending.reads.ranges {
            self.keyspaces.entry(*id).or_default().ranges.push(RangeLock {
                start: start.clone(),
                end: end.clone(),
                writes: false,
                holder: Arc::clone(pending),
            });
        }
    }

    pub(super) fn remove(&mut self, pending: &Arc<Pending>) {
        self.starts.remove(pending.start());
        let is_other = |holder: &Arc<Pending>| !Arc::ptr_eq(holder, pending);
        let written = Operations::new(&pending.operations).flatten().filter_map(|op| match op.kind {
            OpKind::Put { key, .. } | OpKind::Delete { key } => Some((KeyspaceId(op.keyspace), key)),
            OpKind::DeleteRange { .. } => None,
        });
        let read = pending.reads.keys.iter().map(|(id, key)| (*id, &**key));
        for (id, key) in written.chain(read) {
            let Some(keyspace) = self.keyspaces.get_mut(&id) else { continue };
            if let Some(lock) = keyspace.keys.get_mut(key) {
                lock.writer = lock.writer.take().filter(is_other);
                lock.readers.retain(is_other);
                if lock.writer.is_none() && lock.readers.is_empty() {
                    keyspace.keys.remove(key);
                }
            }
        }
        for id in pending.written.as_slice() {
            self.keyspaces.entry(*id).or_default().starts.remove(pending.start());
        }
        for id in pending.keyspaces() {
            let Some(keyspace) = self.keyspaces.get_mut(&id) else { continue };
            keyspace.ranges.retain(|range| is_other(&range.holder));
            keyspace.uses -= 1;
            if keyspace.uses == 0 {
                self.keyspaces.remove(&id);
            }
        }
    }

    /// What is in the way of who writes these operations.
    pub(super) fn met_by_writes<'a>(&self, mut operations: impl Iterator<Item = Op<'a>>) -> Option<Met> {
        operations.find_map(|op| {
            let wanted = match op.kind {
                OpKind::Put { key, .. } | OpKind::Delete { key } => Wanted::Key(key),
                OpKind::DeleteRange { start, end } => Wanted::Range(start, end),
            };
            self.met(KeyspaceId(op.keyspace), wanted, false)
        })
    }

    /// What is in the way of who has read this.
    pub(super) fn met_by_reads(&self, reads: &Reads) -> Option<Met> {
        let keys = reads.keys.iter().map(|(id, key)| (*id, Wanted::Key(key)));
        let ranges = reads.ranges.iter().map(|(id, start, end)| (*id, Wanted::Range(start, end.as_deref())));
        keys.chain(ranges).find_map(|(keyspace, wanted)| self.met(keyspace, wanted, true))
    }

    fn met(&self, id: KeyspaceId, wanted: Wanted<'_>, by_reading: bool) -> Option<Met> {
        let keyspace = self.keyspaces.get(&id)?;
        let met = |key: &[u8], holder: &Arc<Pending>| {
            let holder = Arc::clone(holder);
            Met { keyspace: id, key: Slice::copy_of(key), holder }
        };
        let counts = |lock: &'_ KeyLock| {
            let reader = lock.readers.first().filter(|_| !by_reading);
            lock.writer.as_ref().or(reader).cloned()
        };
        let key = match wanted {
            Wanted::Key(key) => keyspace.keys.get(key).and_then(|lock| Some(met(key, &counts(lock)?))),
            Wanted::Range(start, end) if end.is_none_or(|end| start < end) => {
                let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
                let mut locks = keyspace.keys.range::<[u8], _>(bounds);
                locks.find_map(|(key, lock)| Some(met(key, &counts(lock)?)))
            }
            Wanted::Range(..) => None,
        };
        key.or_else(|| {
            let ranges = keyspace.ranges.iter().filter(|range| range.writes || !by_reading);
            ranges.filter_map(|range| Some(met(range.meets(wanted)?, &range.holder))).next()
        })
    }
}

impl RangeLock {
    /// The first key that both are about.
    fn meets<'a>(&'a self, wanted: Wanted<'a>) -> Option<&'a [u8]> {
        let below = |key: &[u8], end: Option<&[u8]>| end.is_none_or(|end| key < end);
        let (first, end) = match wanted {
            Wanted::Key(key) => return (*self.start <= *key && below(key, self.end.as_deref())).then_some(key),
            Wanted::Range(start, end) => (start.max(&self.start), end),
        };
        (below(first, end) && below(first, self.end.as_deref())).then_some(first)
    }
}
