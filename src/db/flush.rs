//! From memtables to tables: sealing, flush units, and what may be freed afterwards.
//!
//! Memtables are sealed under the commit lock, so a seal is a point in the order of commits: everything reserved before
//! goes to the sealed one or an older one, everything after to its successor. Keyspaces whose active memtables share an
//! unlogged batch are sealed together, as one unit, and a unit is named in one manifest edit, so that such a batch
//! becomes durable whole (L4). Units are flushed in the order in which they were sealed (L5), and only once all their
//! commits are published (V1).

use std::collections::BTreeSet;

use super::engine::{CommitState, Engine, ManifestCell};
use super::keyspace::KeyspaceCore;
use super::merge_job::{MergeInput, MergeOutcome};
use super::prepared::Untold;
use super::retention::Settled;
use super::world::{KeyspaceVersion, Mem};
use crate::fs::Purpose;
use crate::log::{Log, LogPosition, LogStart};
use crate::manifest::{Change, KeyspaceId, LogState};
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::version::Sequence;
use crate::{Error, Result, Timestamp};

/// What a flush that was asked for does not care to free.
const LITTLE_LOG: u64 = 1 << 20;

/// Memtables that are flushed in one edit.
pub(crate) struct FlushUnit {
    /// The last sequence reserved when it was sealed.
    sequence: Sequence,
    /// The log's end when it was sealed: its tables cover everything before.
    log_end: LogPosition,
    /// The highest timestamp reserved when it was sealed.
    last_timestamp: Timestamp,
    mems: Vec<(KeyspaceId, Arc<Mem>)>,
}

/// A memtable that was written to tables.
struct Flushed {
    core: Arc<KeyspaceCore>,
    mem: Arc<Mem>,
    floor: Timestamp,
    outcome: MergeOutcome,
}

impl Flushed {
    /// What an edit says of it, where its tables cover the log up to `log_end`.
    fn changes(&self, log_end: LogPosition) -> impl Iterator<Item = Change> {
        let id = self.core.id;
        let tables = self.outcome.tables.iter();
        let added = tables.map(move |table| Change::AddTable { keyspace: id, level: 0, table: table.shared_meta() });
        let floor = Change::KeyspaceFloor { id, floor: self.floor };
        [floor, Change::KeyspaceLog { id, position: log_end.0 }].into_iter().chain(added)
    }
}

impl FlushUnit {
    /// One that replay has filled.
    pub(crate) fn replayed(
        sequence: Sequence,
        log_end: LogPosition,
        last_timestamp: Timestamp,
        mems: Vec<(KeyspaceId, Arc<Mem>)>,
    ) -> Self {
        Self { sequence, log_end, last_timestamp, mems }
    }

    /// What is durable once its tables are.
    fn settles(&self) -> Settled {
        Settled { timestamp: self.last_timestamp, log_end: self.log_end }
    }
}

impl Engine {
    /// Under the commit lock: seals the active memtables of `ids`, and of those that must be flushed with them, and
    /// queues their flush.
    pub(crate) fn seal(&self, state: &mut MutexGuard<'_, CommitState>, ids: &[KeyspaceId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mems = self.current.change(|world| {
            let mut together: BTreeSet<KeyspaceId> = BTreeSet::new();
            let mut waiting: Vec<KeyspaceId> = ids.to_vec();
            while let Some(id) = waiting.pop() {
                let Some(keyspace) = world.get(id) else { continue };
                if together.insert(id) {
                    waiting.extend(keyspace.active.links());
                }
            }
            let mut next = world.clone();
            let mut mems = Vec::new();
            for id in together {
                let Some(keyspace) = world.get(id).filter(|keyspace| !keyspace.active.is_untouched()) else { continue };
                mems.push((id, Arc::clone(&keyspace.active)));
                next = next.with(keyspace.with_sealed());
            }
            Ok((next, mems))
        })?;
        for (_, mem) in &mems {
            self.counters.buffered_bytes.fetch_sub(mem.charged() as u64, Ordering::Relaxed);
            // What waits is counted as it is: range deletes that overlap take far more than their bytes.
            self.counters.sealed_bytes.fetch_add(mem.charge_in_full() as u64, Ordering::Relaxed);
        }
        if !mems.is_empty() {
            self.enqueue(state, mems);
            self.refresh_pressure(&self.background.jobs.lock());
        }
        Ok(())
    }

    /// At an opening, behind the flushes that replay has queued: lets a scattered log go. Otherwise processes that die,
    /// one after the other, before anything is flushed would leave more and more segments.
    pub(crate) fn gather_log(&self) -> Result<()> {
        if !self.log()?.is_scattered() {
            return Ok(());
        }
        let mut state = self.commit.lock();
        let world = self.world();
        let holders = world.keyspaces().iter().filter(|keyspace| keyspace.active.first_position().is_some());
        let holders: Vec<_> = holders.map(|keyspace| keyspace.core.id).collect();
        if holders.is_empty() {
            self.enqueue_empty_flush(&state);
            return Ok(());
        }
        self.seal(&mut state, &holders)
    }

    /// Under the commit lock: queues a flush of nothing, which moves the log's start.
    pub(crate) fn enqueue_empty_flush(&self, state: &MutexGuard<'_, CommitState>) {
        self.enqueue(state, Vec::new());
    }

    fn enqueue(&self, state: &MutexGuard<'_, CommitState>, mems: Vec<(KeyspaceId, Arc<Mem>)>) {
        let log_end = self.log().map_or(LogPosition(0), |log| log.end());
        let (sequence, last_timestamp) = (state.reserved(), state.last_timestamp);
        self.background.enqueue_flush(FlushUnit { sequence, log_end, last_timestamp, mems });
    }

    /// See [`Db::flush`](crate::Db::flush).
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_writable()?;
        self.flush_where(|_| true)?;
        self.empty_log()?;
        // A commit of nothing is in no memtable, only in the log.
        self.settle_logged()?;
        self.remove_needless_log()
    }

    /// Begins a new segment, unless the active one holds little, or a memtable needs the log, and says that nothing
    /// before it is needed.
    fn empty_log(&self) -> Result<()> {
        let log = self.log()?;
        if log.live_bytes() < LITTLE_LOG {
            return Ok(());
        }
        let state = self.commit.lock();
        let needed = |keyspace: &Arc<KeyspaceVersion>| keyspace.memtables().any(|mem| mem.first_position().is_some());
        if self.world().keyspaces().iter().any(needed) {
            return Ok(());
        }
        log.rotate().map_err(|error| self.fail(error))?;
        self.enqueue_empty_flush(&state);
        let ticket = self.background.flush_ticket();
        drop(state);
        self.wait_for_flushes(ticket)
    }

    /// Removes the segments that lie before the start that the manifest says.
    fn remove_needless_log(&self) -> Result<()> {
        let log = self.log()?;
        let start = self.log_start();
        if log.has_before(start) {
            self.prove_manifest(&log)?;
            remove_before(&log, start);
        }
        Ok(())
    }

    /// Makes sure that the manifest cannot lose an edit unnoticed that it has now, whatever happens to the rest of the
    /// log. Edits at its end that are damaged look torn, and do not count; so before anything relies on an edit that the
    /// log would not show, it has to be proved.
    fn prove_manifest(&self, log: &Arc<Log>) -> Result<()> {
        // Under the lock, as every edit is noted.
        let cell = self.manifest.lock();
        let ManifestCell::Writing(manifest) = &*cell else {
            return self.check_writable().and(Err(Error::ReadOnly));
        };
        log.prove_manifest(&manifest.mark()).map_err(|error| match error {
            Error::Closed => Error::Closed,
            error => self.fail_log(log, error),
        })
    }

    fn log_start(&self) -> LogStart {
        let LogState { start_ordinal: ordinal, start_position, .. } = self.manifest.lock().state().log;
        LogStart { ordinal, position: LogPosition(start_position) }
    }

    /// Seals what `choose` picks and waits until it, and all that was sealed before, is flushed.
    pub(crate) fn flush_where(&self, choose: impl Fn(&KeyspaceVersion) -> bool) -> Result<()> {
        let mut state = self.commit.lock();
        self.check_sound()?;
        let world = self.world();
        let ids: Vec<_> = world.keyspaces().iter().filter(|one| choose(one)).map(|one| one.core.id).collect();
        self.seal(&mut state, &ids)?;
        let ticket = self.background.flush_ticket();
        drop(state);
        self.wait_for_flushes(ticket)
    }

    /// Flushes one unit: the job of a background thread.
    pub(crate) fn flush_unit(&self, unit: &FlushUnit) -> Result<()> {
        if !self.in_flight.wait_published(unit.sequence, &self.current.published) {
            return self.check_sound().and(Err(Error::Closed));
        }
        let log = self.log()?;
        if log.live_bytes() > self.options.wal_bytes {
            // The active segment alone may be beyond the limit; only an older one can be freed.
            log.rotate().map_err(|error| self.fail(error))?;
        }
        // Before the log can do without what it says of prepared transactions.
        let untold = self.commit.lock().prepared.untold();
        let mut flushed = Vec::new();
        let written = self.write_tables(unit, &mut flushed).and_then(|covered| {
            let start = log.start_at(self.log_needed_from(unit));
            let covered = untold.as_ref().map_or(covered, |untold| covered.max(LogPosition(untold.log_position)));
            // L4: what the tables hold must not be ahead of the log, unless the log begins behind it.
            let spared = covered.0.saturating_sub(log.synced().0);
            let unsynced = covered <= start.position && log.is_much(spared);
            let proof = if unsynced { log.proof() } else { self.sync_log(covered)? };
            Ok((start, unsynced, proof))
        });
        let (start, unsynced, proof) = written.inspect_err(|_| flushed.iter().for_each(|one| one.outcome.give_up()))?;
        let mut changes: Vec<Change> = flushed.iter().flat_map(|one| one.changes(unit.log_end)).collect();
        changes.push(Change::LastTimestamp { timestamp: unit.last_timestamp });
        changes.push(Change::LogProved(proof));
        changes.push(Change::LogStart { ordinal: start.ordinal, position: start.position.0 });
        let told = untold.map(|Untold { changes: told, ids, log_position }| {
            let known = self.manifest.lock().state().prepared.clone();
            changes.extend(known.changes_to(ids, log_position));
            told
        });
        self.edit_in_living(changes, |world| {
            let mut next = world.clone();
            for one in &flushed {
                let Some(keyspace) = world.get(one.core.id) else {
                    // Dropped meanwhile: nothing names the new tables.
                    one.outcome.give_up();
                    continue;
                };
                let added: Vec<_> = one.outcome.tables.iter().map(|table| (0, Arc::clone(table))).collect();
                next = next.with(keyspace.without(&one.mem).with_tree(&added, &[])?);
            }
            Ok((next, ()))
        })?;
        if let Some(told) = told {
            self.commit.lock().prepared.is_told(told);
        }
        for one in flushed.iter().filter(|one| one.mem.entries.late() && one.outcome.stats.has_dropped()) {
            one.core.attempts.late_versions_dropped(&one.outcome.tables);
        }
        let freed: usize = unit.mems.iter().map(|(_, mem)| mem.charged()).sum();
        self.counters.sealed_bytes.fetch_sub(freed as u64, Ordering::Relaxed);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let written = flushed.iter().map(|one| one.outcome.bytes()).sum();
        self.counters.flushed_bytes.fetch_add(written, Ordering::Relaxed);
        let relied_on = unsynced || log.has_before(start);
        if relied_on {
            self.prove_manifest(&log)?;
        }
        self.settled.lock().rise(unit.settles());
        if relied_on {
            remove_before(&log, start);
        }
        Ok(())
    }

    /// Writes the memtables of a unit to tables, and says how far the log must be durable once they are named.
    fn write_tables(&self, unit: &FlushUnit, flushed: &mut Vec<Flushed>) -> Result<LogPosition> {
        let mut covered = unit.log_end;
        for (id, mem) in &unit.mems {
            let Some(core) = self.keyspace_core(*id) else { continue };
            let began = core.attempts.now();
            let floor = self.raise_merge_floor(&core, Some((mem, unit.settles())))?;
            covered = covered.max(floor.log_end);
            // Looked at after the floor was raised: all that was ever admitted at or below it is there (R1).
            let world = self.world();
            let Some(keyspace) = world.get(*id) else { continue };
            let input = MergeInput::flush(keyspace, mem, unit.sequence, floor.floor, unit.log_end);
            let outcome = self.run_merge(input, Purpose::Flush, &|_| self.check_sound())?;
            core.attempts.record(began, &outcome.tables, floor.floor);
            flushed.push(Flushed { core, mem: Arc::clone(mem), floor: floor.floor, outcome });
        }
        Ok(covered)
    }

    /// Where replay would have to begin once `unit` is named: no memtable outside it holds anything of the log before.
    fn log_needed_from(&self, unit: &FlushUnit) -> LogPosition {
        let world = self.world();
        let outside = |mem: &&Arc<Mem>| unit.mems.iter().all(|(_, flushed)| !Arc::ptr_eq(flushed, mem));
        let held = world.keyspaces().iter().flat_map(|keyspace| keyspace.memtables()).filter(outside);
        held.filter_map(|mem| mem.first_position()).fold(unit.log_end, LogPosition::min)
    }
}

/// Removes segments that were made needless by an edit that is proved.
fn remove_before(log: &Log, start: LogStart) {
    let removed = log.remove_before(start);
    removed.unwrap_or_else(|error| tracing::warn!(%error, "an old log segment could not be removed"));
}
