//! What a serializable transaction has read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::super::range::KeyBounds;
use super::super::{Keyspace, WriteBatch};
use crate::Slice;
use crate::manifest::KeyspaceId;
use crate::sync::{Arc, Mutex};

/// See the module. Keys are noted once, found or missing; of walks how far they have come.
#[derive(Default)]
pub(super) struct Tracked {
    keys: BTreeMap<KeyspaceId, (Keyspace, BTreeSet<Slice>)>,
    walks: Vec<Walked>,
}

struct Walked {
    keyspace: Keyspace,
    bounds: KeyBounds,
    /// The last key that came from the front, and from the back.
    front: Option<Slice>,
    back: Option<Slice>,
    /// Front and back have met.
    ended: bool,
}

impl Tracked {
    pub(super) fn key(&mut self, keyspace: &Keyspace, key: &[u8]) {
        let id = keyspace.core().id;
        let (_, keys) = self.keys.entry(id).or_insert_with(|| (keyspace.clone(), BTreeSet::new()));
        if !keys.contains(key) {
            keys.insert(Slice::copy_of(key));
        }
    }

    pub(super) fn add_to(&self, batch: &mut WriteBatch) {
        for (keyspace, keys) in self.keys.values() {
            keys.iter().for_each(|key| batch.read(keyspace, key));
        }
        for Walked { keyspace, bounds: (lower, upper), front, back, ended } in &self.walks {
            if *ended {
                batch.note_range(keyspace, (lower.clone(), upper.clone()));
                continue;
            }
            if let Some(front) = front {
                batch.note_range(keyspace, (lower.clone(), Bound::Included(front.clone())));
            }
            if let Some(back) = back {
                batch.note_range(keyspace, (Bound::Included(back.clone()), upper.clone()));
            }
        }
    }
}

/// A walk that notes how far it has come. It may outlive the transaction.
pub(super) struct Walk {
    reads: Arc<Mutex<Tracked>>,
    at: usize,
}

impl Walk {
    pub(super) fn new(reads: &Arc<Mutex<Tracked>>, keyspace: &Keyspace, bounds: KeyBounds) -> Self {
        let mut tracked = reads.lock();
        let at = tracked.walks.len();
        tracked.walks.push(Walked { keyspace: keyspace.clone(), bounds, front: None, back: None, ended: false });
        Self { reads: Arc::clone(reads), at }
    }

    /// `None`: there are no more.
    pub(super) fn came_to(&self, key: Option<&Slice>, from_front: bool) {
        if let Some(walked) = self.reads.lock().walks.get_mut(self.at) {
            match key {
                None => walked.ended = true,
                Some(key) if from_front => walked.front = Some(key.clone()),
                Some(key) => walked.back = Some(key.clone()),
            }
        }
    }
}
