//! At which floor each table was last rewritten, so that one from which nothing can be dropped is not rewritten for
//! ever.
//!
//! What a merge had to keep, for a snapshot or for a late version elsewhere, may be droppable once that is gone: then
//! tables are worth another try, also those that a merge is writing at that very moment. Such a merge knows nothing of
//! it, so what it has to say counts only if nothing was forgotten since it began.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::format::FileNumber;
use crate::sync::{Arc, Mutex};
use crate::table::Table;

/// The attempts in one keyspace. Kept in memory only.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    floors: BTreeMap<FileNumber, Timestamp>,
    /// How often something was forgotten.
    forgotten: u64,
}

/// A moment before a merge looks at what it has to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(u64);

impl Attempts {
    pub(crate) fn now(&self) -> Moment {
        Moment(self.state.lock().forgotten)
    }

    /// The floor of the merge that wrote this table, if it is worth nothing to try again at it.
    pub(crate) fn last_tried(&self, table: FileNumber) -> Option<Timestamp> {
        self.state.lock().floors.get(&table).copied()
    }

    /// A merge that began at `since` has written `tables` by `floor`.
    pub(crate) fn record(&self, since: Moment, tables: &[Arc<Table>], floor: Timestamp) {
        let mut state = self.state.lock();
        if state.forgotten == since.0 {
            state.floors.extend(tables.iter().map(|table| (table.meta().number, floor)));
        }
    }

    /// Tables that are gone, or stand elsewhere now.
    pub(crate) fn drop_tables(&self, tables: impl Iterator<Item = FileNumber>) {
        let mut state = self.state.lock();
        tables.for_each(|table| _ = state.floors.remove(&table));
    }

    /// A snapshot has ended: what merges above it kept for it is worth another try.
    pub(crate) fn snapshot_ended(&self, timestamp: Timestamp) {
        let mut state = self.state.lock();
        state.floors.retain(|_, floor| *floor < timestamp);
        state.forgotten += 1;
    }

    /// A merge has dropped late versions and written `tables`: merges before it may have kept tombstones because of
    /// them (R3).
    pub(crate) fn late_versions_dropped(&self, tables: &[Arc<Table>]) {
        let mut state = self.state.lock();
        state.floors.retain(|number, _| tables.iter().any(|table| table.meta().number == *number));
        state.forgotten += 1;
    }
}
