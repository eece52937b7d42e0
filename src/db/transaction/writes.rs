//! What a transaction has written.

use std::collections::BTreeMap;

use super::super::{Keyspace, WriteBatch};
use crate::manifest::KeyspaceId;
use crate::sync::{Arc, Ordering, ProcessCount};
use crate::{Slice, Timestamp};

/// The last write of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// `None`: deleted.
    pub(super) value: Option<Slice>,
    pub(super) expires_at: Option<Timestamp>,
}

impl Write {
    /// The value that the transaction itself sees.
    pub(super) fn visible(&self, now: Timestamp) -> Option<&Slice> {
        self.value.as_ref().filter(|_| self.expires_at.is_none_or(|expires_at| expires_at > now))
    }
}

/// The writes in one keyspace. Iterators share them: what is written while one lives is written to a copy.
pub(super) type InKeyspace = Arc<BTreeMap<Slice, Write>>;

/// See the module.
#[derive(Default)]
pub(super) struct Writes {
    keyspaces: BTreeMap<KeyspaceId, (Keyspace, InKeyspace)>,
    /// The savepoints, and how much there was to undo at each.
    marks: Vec<(Mark, usize)>,
    /// What each write since the first savepoint has replaced.
    undo: Vec<(KeyspaceId, Slice, Option<Write>)>,
}

/// Names a savepoint, of any transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.keyspaces.values().all(|(_, keys)| keys.is_empty())
    }

    pub(super) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Option<&Write> {
        self.keyspaces.get(&keyspace.core().id)?.1.get(key)
    }

    /// What was written in a keyspace by now.
    pub(super) fn of(&self, keyspace: &Keyspace) -> InKeyspace {
        self.keyspaces.get(&keyspace.core().id).map(|(_, keys)| Arc::clone(keys)).unwrap_or_default()
    }

    pub(super) fn put(&mut self, keyspace: &Keyspace, key: &[u8], write: Write) {
        let id = keyspace.core().id;
        let (_, keys) = self.keyspaces.entry(id).or_insert_with(|| (keyspace.clone(), InKeyspace::default()));
        let key = Slice::copy_of(key);
        let before = Arc::make_mut(keys).insert(key.clone(), write);
        if !self.marks.is_empty() {
            self.undo.push((id, key, before));
        }
    }

    pub(super) fn mark(&mut self) -> Mark {
        static MARKS: ProcessCount = ProcessCount::new(1);
        let mark = Mark(MARKS.fetch_add(1, Ordering::Relaxed));
        self.marks.push((mark, self.undo.len()));
        mark
    }

    /// `false`: there is no such mark.
    pub(super) fn roll_back_to(&mut self, mark: Mark) -> bool {
        // They ascend.
        let Ok(at) = self.marks.binary_search_by_key(&mark, |(mark, _)| *mark) else { return false };
        let undone = self.marks.get(at).map_or(0, |(_, undone)| *undone);
        self.marks.truncate(at + 1);
        for (id, key, before) in self.undo.drain(undone..).rev() {
            let Some((_, keys)) = self.keyspaces.get_mut(&id) else { continue };
            match before {
                Some(before) => _ = Arc::make_mut(keys).insert(key, before),
                None => _ = Arc::make_mut(keys).remove(&key),
            }
        }
        true
    }

    pub(super) fn add_to(&self, batch: &mut WriteBatch) {
        for (keyspace, keys) in self.keyspaces.values() {
            for (key, Write { value, expires_at }) in &**keys {
                match (value, expires_at) {
                    (Some(value), None) => batch.put(keyspace, key, value),
                    (Some(value), Some(expires_at)) => batch.put_expiring(keyspace, key, value, *expires_at),
                    (None, _) => batch.delete(keyspace, key),
                }
            }
        }
    }
}
