//! What reads look at in vain because of level 0, whose files stand in the way to the level below: how a merge of them
//! comes to be worth it (`compaction::pick`).

use super::read::Target;
use super::world::{KeyspaceVersion, TableTree};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::tally::Sum;

/// What is looked at of one file: by a lookup that it does not help a line of the filter and what leads there, by a step
/// of a cursor part of a row.
const LOOKUP_BYTES: u64 = 128;
const STEP_BYTES: u64 = 32;
/// Steps are counted so many at a time.
const STEPS: u32 = 128;

/// Of one keyspace.
#[derive(Debug, Default)]
pub(crate) struct Detours {
    bytes: Sum,
    /// So much of it counts no more.
    forgotten: AtomicU64,
}

impl Detours {
    /// How many bytes were looked at in vain since [`forget`](Self::forget).
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get().wrapping_sub(self.forgotten.load(Ordering::Relaxed))
    }

    /// Files of level 0 were merged.
    pub(crate) fn forget(&self) {
        self.forgotten.store(self.bytes.get(), Ordering::Relaxed);
    }

    /// A lookup has asked so many tables in vain.
    pub(crate) fn looked_up(&self, tree: &TableTree, in_vain: usize) {
        let files = in_vain.min(tree.level(0).len());
        if files > 0 {
            self.bytes.add(files as u64 * LOOKUP_BYTES);
        }
    }
}

/// Counts for one cursor.
#[derive(Default)]
pub(crate) struct CursorDetours {
    /// `None`: there is nothing to count.
    keyspace: Option<Arc<KeyspaceVersion>>,
    /// How many files of level 0 a merge would take away.
    files: u64,
    /// Not counted yet.
    steps: u32,
}

impl CursorDetours {
    pub(crate) fn of(target: &Target) -> Self {
        let Target::Keyspace { version, .. } = target else { return Self::default() };
        let level0 = version.tree.level(0).len();
        let files = if version.tree.runs().all(|run| run.is_empty()) { level0.saturating_sub(1) } else { level0 };
        let keyspace = (files > 0).then(|| Arc::clone(version));
        Self { keyspace, files: files as u64, steps: 0 }
    }

    /// The cursor was placed anew.
    pub(crate) fn placed(&self) {
        if let Some(keyspace) = &self.keyspace {
            self.count(keyspace, keyspace.core.options.block_bytes as u64);
        }
    }

    pub(crate) fn stepped(&mut self) {
        if let Some(keyspace) = &self.keyspace {
            self.steps += 1;
            if self.steps == STEPS {
                self.steps = 0;
                self.count(keyspace, u64::from(STEPS) * STEP_BYTES);
            }
        }
    }

    fn count(&self, keyspace: &KeyspaceVersion, bytes_a_file: u64) {
        keyspace.core.detours.bytes.add(self.files.saturating_mul(bytes_a_file));
    }
}
