//! What reads look at in vain because of level 0, whose files stand in the way to the level below: how a merge of them
//! comes to be worth it (`compaction::pick`).

use super::keyspace::KeyspaceCore;
use super::read::Target;
use super::world::TableTree;
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
        // First: the sum is not below it then.
        let forgotten = self.forgotten();
        self.bytes.get().wrapping_sub(forgotten)
    }

    fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Files of level 0 were merged.
    pub(crate) fn forget(&self) {
        self.forgotten.store(self.bytes.get(), Ordering::Release);
    }

    /// A lookup has asked so many files of level 0 in vain.
    pub(crate) fn looked_up(&self, tree: &TableTree, in_vain: u64) {
        if in_vain > 0 && tree.has_runs() {
            self.bytes.add(in_vain * LOOKUP_BYTES);
        }
    }
}

/// Counts for one cursor. It holds on to nothing that the cursor sees: it may live on when that has ended.
#[derive(Default)]
pub(crate) struct CursorDetours {
    /// `None`: there is nothing to count.
    keyspace: Option<Arc<KeyspaceCore>>,
    /// How many files of level 0 a merge would take away.
    files: u64,
    /// What was forgotten when it was made. Once there is more, those files may be gone.
    forgotten: u64,
    /// Not counted yet.
    steps: u32,
}

impl CursorDetours {
    pub(crate) fn of(target: &Target) -> Self {
        let Target::Keyspace { version, .. } = target else { return Self::default() };
        let level0 = version.tree.level(0).len();
        let files = if version.tree.has_runs() { level0 } else { level0.saturating_sub(1) };
        if files == 0 {
            return Self::default();
        }
        let forgotten = version.core.detours.forgotten();
        Self { keyspace: Some(Arc::clone(&version.core)), files: files as u64, forgotten, steps: 0 }
    }

    /// The cursor was placed anew.
    pub(crate) fn placed(&self) {
        if let Some(keyspace) = &self.keyspace {
            self.count(keyspace, keyspace.options.block_bytes as u64);
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

    fn count(&self, keyspace: &KeyspaceCore, bytes_a_file: u64) {
        if keyspace.detours.forgotten() == self.forgotten {
            keyspace.detours.bytes.add(self.files.saturating_mul(bytes_a_file));
        }
    }
}
