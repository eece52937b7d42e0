//! Going on after a failure (L2, S26).
//!
//! A file whose write or sync failed is never written again: what of it is on disk is not known. So what is visible is
//! written to *new* files: all memtables, as far as they were published, to tables, and the whole state to a new
//! manifest, which says that the log begins with a new segment. The moment `CURRENT` names that manifest, whatever the
//! failed log or manifest may hold behind what was published does not exist; undecided commits never were. Only then
//! are the memtables (which may hold entries of undecided commits) replaced, and writes accepted. If any step fails the
//! database stays as it was, and `resume` may be tried again.

use super::engine::{Engine, ManifestCell, log_keyspaces};
use super::merge_job::{MergeInput, MergeOutcome};
use super::origin::records_of_unwritten;
use super::prepared::Untold;
use super::retention::Settled;
use super::world::Mem;
use crate::format::FileKind;
use crate::fs::Purpose;
use crate::log::{LogStart, Proof};
use crate::manifest::{Change, Edit, KeyspaceId, Manifest};
use crate::sync::{Arc, Ordering};
use crate::{Error, Result};

impl Engine {
    /// See [`Db::resume`](crate::Db::resume).
    pub(crate) fn resume(self: &Arc<Self>) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let _one_at_a_time = self.keyspaces.lock();
        if self.failure().is_none() {
            return Ok(());
        }
        self.pause_background();
        // Whoever holds the commit lock sees the failure; once it was ours nothing is reserved any more.
        drop(self.commit.lock());
        self.in_flight.wait_idle();
        let resumed = self.start_anew(self.published_prepared());
        if resumed.is_ok() {
            let mut state = self.commit.lock();
            self.in_flight.forget_undecided(state.reserved(), &self.current.published);
            state.last_timestamp = self.current.horizon().last_timestamp;
            // Undecided commits among them never were.
            let reserved = state.reserved();
            state.recent.forget(reserved);
            // What was raised on the way to something that failed is taken back.
            state.closed = self.closed_timestamp.load(Ordering::SeqCst);
            self.manual_admission_floor.store(self.manual_floor.load(Ordering::SeqCst), Ordering::SeqCst);
            for keyspace in self.world().keyspaces() {
                keyspace.core.lower_admission_floor();
            }
            state.prepared.is_logged_to(self.log_successor().position);
            self.hold_all_floors(&state);
            self.clear_failure();
        }
        self.background.resume_jobs();
        resumed
    }

    /// What was prepared, decided and forgotten, as far as it was published; the rest never was.
    fn published_prepared(&self) -> Option<Untold> {
        let mut state = self.commit.lock();
        state.prepared.take_back(self.current.horizon().sequence);
        state.prepared.untold()
    }

    fn start_anew(self: &Arc<Self>, prepared: Option<Untold>) -> Result<()> {
        let mut cell = self.manifest.lock();
        self.check_open()?;
        // Nothing of the log, and no name that is not proved, will be relied on: who still waits for it waits in vain.
        if let Some(log) = self.log_if_any() {
            log.give_up();
        }
        self.database_fs.begin_anew();
        let bound = self.set_numbers_aside();
        let horizon = self.current.horizon();
        let world = self.world();
        let start = self.log_successor();
        let mut flushed: Vec<(KeyspaceId, MergeOutcome)> = Vec::new();
        for keyspace in world.keyspaces().iter().filter(|one| one.filled_memtables().next().is_some()) {
            let input = MergeInput::flush_all(keyspace, horizon.sequence, start.position);
            let made = self.run_merge(input, Purpose::Flush, &|_| self.check_open());
            flushed.push((keyspace.core.id, made.inspect_err(|_| give_up(&flushed))?));
        }
        let known = cell.state();
        let mut changes = vec![Change::LogStart { ordinal: start.ordinal, position: start.position.0 }];
        if bound > known.file_number_bound {
            changes.push(Change::FileNumberBound { bound });
        }
        let proved = known.log.proved;
        changes.push(Change::LogProved(Proof { position: start.position.max(proved.position), ..proved }));
        if horizon.last_timestamp > known.last_timestamp {
            changes.push(Change::LastTimestamp { timestamp: horizon.last_timestamp });
        }
        for keyspace in world.keyspaces() {
            let (id, floor) = (keyspace.core.id, keyspace.core.floor());
            changes.push(Change::KeyspaceLog { id, position: start.position.0 });
            // The merges above have dropped by it.
            if known.keyspaces.get(&id).is_some_and(|known| known.floor < floor) {
                changes.push(Change::KeyspaceFloor { id, floor });
            }
        }
        let prepared = prepared.map_or_else(Vec::new, |untold| untold.ids);
        changes.extend(known.prepared.changes_to(prepared, start.position.0));
        for (id, outcome) in &flushed {
            changes.extend(outcome.tables.iter().map(|table| Change::AddTable {
                keyspace: *id,
                level: 0,
                table: table.shared_meta(),
            }));
        }
        let prepared = known.after(&Edit::from(changes)).map_err(Error::from);
        let prepared = prepared.and_then(|state| Ok((state, self.allocate_file()?)));
        let (state, number) = prepared.inspect_err(|_| give_up(&flushed))?;
        let manifest = Manifest::prepare(Arc::clone(&self.fs), &self.dir, number, state);
        let manifest = manifest.inspect_err(|_| give_up(&flushed))?;
        // From an error of this on `CURRENT` may name it, so nothing that it names may be removed (L3).
        manifest.take_over()?;

        // From here on the old log and the old manifest do not exist.
        *cell = ManifestCell::Writing(Box::new(manifest));
        self.set_log(None);
        // Should the new log not come into use its ordinal is spent all the same.
        *self.next_log.lock() = LogStart { ordinal: start.ordinal.saturating_add(1), ..start };
        self.background.forget_flushes();
        self.settled.lock().rise(Settled { timestamp: horizon.last_timestamp, log_end: start.position });
        self.current.change(|world| {
            let mut next = world.clone();
            for keyspace in world.keyspaces() {
                let tables =
                    flushed.iter().filter(|(id, _)| *id == keyspace.core.id).flat_map(|(_, done)| &done.tables);
                let added: Vec<_> = tables.map(|table| (0, Arc::clone(table))).collect();
                let mut renewed = keyspace.with_tree(&added, &[])?;
                renewed.active = Arc::new(Mem::new());
                renewed.sealed.clear();
                // A drop that failed has not happened.
                keyspace.core.mark_dropped(false);
                next = next.with(renewed);
            }
            Ok((next, ()))
        })?;
        self.counters.buffered_bytes.store(0, Ordering::Relaxed);
        self.counters.sealed_bytes.store(0, Ordering::Relaxed);

        let ManifestCell::Writing(manifest) = &*cell else { return Ok(()) };
        // First, for the new segment may need the room, and another try leaves no more than this one.
        self.sweep(manifest);
        let log = self.begin_log(start, Vec::new())?;
        log.mark_manifest(&manifest.mark())?;
        log_keyspaces(&log, records_of_unwritten(manifest.state()))?;
        self.set_log(Some(log));
        Ok(())
    }

    /// Removes what failures have left and this manifest, from which no log goes on yet, does not need.
    fn sweep(&self, manifest: &Manifest) {
        let swept = self.remove_orphans(|kind, found| match kind {
            // What nothing names may still be read by who held it before.
            FileKind::Table => !manifest.state().has_table(found) && !self.store.is_held(found),
            FileKind::Log => true,
            FileKind::Manifest => found != manifest.number(),
        });
        swept.unwrap_or_else(|error| tracing::warn!(%error, "what a failure has left stays for now"));
    }
}

/// Nothing names these tables, so they go.
fn give_up(flushed: &[(KeyspaceId, MergeOutcome)]) {
    flushed.iter().for_each(|(_, made)| made.give_up());
}
