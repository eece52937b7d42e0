//! Prepared transactions: two-phase commit, of which this database is one participant.
//!
//! A transaction that is prepared has been checked and is durable, and from then on can be committed whatever others do: its
//! locks refuse every commit that would get in its way. Who coordinates decides, perhaps after a restart. DESIGN.md, "A
//! prepared transaction", says why it is done this way.

mod locks;
mod pending;
mod replay;
mod table;
#[cfg(test)]
mod tests;

pub use crate::manifest::Outcome;
pub(crate) use pending::Pending;
pub(crate) use table::{PreparedTable, Untold};

use locks::Met;
use table::{Found, Refused, decided};

use super::Db;
use super::batch::{Body, Operations, Reads, WriteBatch};
use super::commit::{Unsynced, Write, cost};
use super::condition::{Condition, FEW_OPERATIONS};
use super::engine::{CommitState, Engine};
use super::keyspace::KeyspaceCore;
use super::pipeline::Reserved;
use super::record::{IS_ABORTED, IS_FORGOTTEN, IS_PREPARED};
use crate::format::Encode;
use crate::log::PREPARED;
use crate::options::Durability;
use crate::sync::{Arc, MutexGuard};
use crate::version::Sequence;
use crate::{Error, Result, Slice, Timestamp};

/// The longest id, in bytes.
const MAX_ID_BYTES: usize = 65_535;

/// A transaction that is prepared, and neither committed nor aborted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreparedTransaction {
    /// The name that its coordinator gave it.
    pub id: Slice,
    /// What it has read is of this time.
    pub started_at: Timestamp,
    /// It can be committed above this, if late commits are on; else above the last timestamp, as everything. It is the start,
    /// or a floor or closed time that had passed that when it was prepared.
    pub above: Timestamp,
}

impl Db {
    /// The transactions that were prepared and neither committed nor aborted, by id; those of before a restart too.
    #[must_use]
    pub fn prepared(&self) -> Vec<PreparedTransaction> {
        self.engine().prepared()
    }

    /// What became of the prepared transaction `id`; `None` if it is in doubt, was never prepared, or is forgotten.
    #[must_use]
    pub fn prepared_outcome(&self, id: impl AsRef<[u8]>) -> Option<Outcome> {
        let state = self.engine().commit.lock();
        state.prepared.outcome(id.as_ref(), self.engine().current.horizon().sequence)
    }

    /// Commits the prepared transaction `id` at `timestamp`, or at the clock's next (`None`), and returns its timestamp. It
    /// is on stable storage when this returns. To call it again changes nothing and returns the same; also after a restart,
    /// until it is [forgotten](Self::forget_prepared).
    ///
    /// # Errors
    /// `UnknownPrepared`; `Decided` if it was aborted, or committed at another timestamp than the one asked for. After all
    /// others it is still prepared: `InvalidArgument` for a timestamp that is not [above](PreparedTransaction::above) what it
    /// must be, or `u64::MAX`; without late commits `LateCommit` for one at or below the last (or closed) timestamp; with
    /// them `Busy` for one that a live transaction would see in its past; `UnknownKeyspace` where a repair could not keep a
    /// keyspace; `ReadOnly`, `Background`, `Closed`.
    pub fn commit_prepared(&self, id: impl AsRef<[u8]>, timestamp: impl Into<Option<Timestamp>>) -> Result<Timestamp> {
        self.engine().commit_prepared(id.as_ref(), timestamp.into())
    }

    /// Aborts the prepared transaction `id`: nothing of it was, and what it had locked is free. That is on stable storage
    /// when this returns. To call it again changes nothing.
    ///
    /// # Errors
    /// `UnknownPrepared`; `Decided` if it was committed; `ReadOnly`, `Background`, `Closed`.
    pub fn abort_prepared(&self, id: impl AsRef<[u8]>) -> Result<()> {
        self.engine().abort_prepared(id.as_ref())
    }

    /// Forgets the outcome of `id`, which is free from then on. To be called once nobody will ask for it again. A power cut
    /// may bring it back. Of an id that is not known nothing is done.
    ///
    /// # Errors
    /// `Busy` while it is in doubt; `ReadOnly`, `Background`, `Closed`.
    pub fn forget_prepared(&self, id: impl AsRef<[u8]>) -> Result<()> {
        self.engine().forget_prepared(id.as_ref())
    }
}

impl Engine {
    pub(super) fn prepared(&self) -> Vec<PreparedTransaction> {
        let state = self.commit.lock();
        state.prepared.in_doubt(self.current.horizon().sequence)
    }

    /// See [`Transaction::prepare`](super::Transaction::prepare).
    pub(super) fn prepare(&self, id: &[u8], start: Timestamp, batch: WriteBatch) -> Result<Timestamp> {
        self.check_writable()?;
        batch.check()?;
        if id.is_empty() {
            return Err(Error::invalid("a prepared transaction needs an id"));
        }
        if id.len() > MAX_ID_BYTES {
            let (len, max) = (id.len() as u64, MAX_ID_BYTES as u64);
            return Err(Error::TooLarge { what: "a transaction's id", len, max });
        }
        let (operations, written, reads) = batch.into_parts();
        let pending = Pending::new(id, start, &reads, &operations);
        let pending = pending.map_err(|error| Error::invalid(format!("a batch does not decode: {}", error.reason)))?;
        self.wait_for_room(pending.bytes())?;
        let mut state = match self.lock_if_newest(start) {
            Some(state) => state,
            None => self.lock_where(&Condition::new(start, &operations, written.as_slice(), &reads))?,
        };
        self.check_writable()?;
        self.find(written.as_slice(), reads.keyspaces.as_slice())?;
        // Its commit will be held against the floors of what it writes.
        let floor = self.find(written.as_slice(), &[])?.floor;
        let published = self.current.horizon().sequence;
        state.prepared.settle(published);
        state.prepared.admit(&pending, published).map_err(|refused| match refused {
            Refused::Because(error) => error,
            Refused::Met(met) => self.locked(&met),
        })?;
        let pending = Arc::new(pending.raised_to(floor.max(state.closed)));
        let mut head = Vec::new();
        pending.told.encode_head(&mut head);
        let step = self.log_step(&mut state, IS_PREPARED, &[&head, &pending.told.rest])?;
        state.prepared.enter(&pending, step.0);
        self.hold_floors(&state, &pending);
        drop(state);
        self.finish_step(step, true)?;
        Ok(pending.above())
    }

    /// The commit lock, and what is published of `id`: never `Forgotten`, and `Decided` only for good.
    fn lock_decided(&self, id: &[u8]) -> Result<(MutexGuard<'_, CommitState>, Found)> {
        loop {
            self.check_writable()?;
            let mut state = self.commit.lock();
            self.check_writable()?;
            let published = self.current.horizon().sequence;
            state.prepared.settle(published);
            let found = state.prepared.find(id);
            let (Found::Decided(_, sequence) | Found::Forgotten(sequence)) = found else { return Ok((state, found)) };
            // What was not published and never will be has been taken back before the horizon passes it.
            if sequence <= published {
                return Ok((state, found));
            }
            drop(state);
            self.in_flight.wait_published(sequence, &self.current.published);
        }
    }

    fn commit_prepared(&self, id: &[u8], at: Option<Timestamp>) -> Result<Timestamp> {
        let mut has_waited = false;
        loop {
            let (state, found) = self.lock_decided(id)?;
            let pending = match found {
                Found::Nothing | Found::Forgotten(_) => return Err(unknown(id)),
                Found::Decided(Outcome::Committed(timestamp), _) if at.is_none_or(|at| at == timestamp) => {
                    return Ok(timestamp);
                }
                Found::Decided(outcome, _) => return Err(decided(id, outcome)),
                Found::InDoubt(pending) => pending,
            };
            let write = Write {
                cost: cost(pending.operations.len(), pending.count),
                operations: Body::Shared(pending.operations.clone()),
                count: pending.count,
                touched: pending.written.as_slice(),
                read: &[],
                at,
                durability: Durability::Synced,
                decides: Some(&pending),
            };
            if !has_waited {
                drop(state);
                self.wait_for_room(write.cost)?;
                has_waited = true;
                continue;
            }
            if let Some(at) = at.filter(|at| *at <= pending.above()) {
                let above = pending.above();
                return Err(Error::invalid(format!("it can be committed above {above}, not at {at}")));
            }
            let committed = self.commit_under(state, write)?;
            self.commit.lock().prepared.settle(self.current.horizon().sequence);
            // What was kept for it may go.
            self.background.wake_all();
            return Ok(committed);
        }
    }

    fn abort_prepared(&self, id: &[u8]) -> Result<()> {
        let (mut state, found) = self.lock_decided(id)?;
        let pending = match found {
            Found::Nothing | Found::Forgotten(_) => return Err(unknown(id)),
            Found::Decided(Outcome::Aborted, _) => return Ok(()),
            Found::Decided(outcome, _) => return Err(decided(id, outcome)),
            Found::InDoubt(pending) => pending,
        };
        let step = self.log_step(&mut state, IS_ABORTED, &[&named(id)])?;
        state.prepared.decide(id, Outcome::Aborted, step.0);
        self.hold_floors(&state, &pending);
        drop(state);
        self.finish_step(step, true)?;
        self.commit.lock().prepared.settle(self.current.horizon().sequence);
        self.background.wake_all();
        Ok(())
    }

    fn forget_prepared(&self, id: &[u8]) -> Result<()> {
        let (mut state, found) = self.lock_decided(id)?;
        match found {
            Found::Nothing | Found::Forgotten(_) => return Ok(()),
            Found::InDoubt(_) => {
                let reason = format!("transaction \"{}\" is in doubt", id.escape_ascii());
                return Err(Error::Busy { reason: reason.into() });
            }
            Found::Decided(..) => {}
        }
        let step = self.log_step(&mut state, IS_FORGOTTEN, &[&named(id)])?;
        state.prepared.forget(id, step.0);
        drop(state);
        self.finish_step(step, false)
    }

    /// Under the commit lock: appends what is no commit, and reserves its place among them.
    fn log_step(
        &self,
        state: &mut MutexGuard<'_, CommitState>,
        flags: u8,
        parts: &[&[u8]],
    ) -> Result<(Sequence, Unsynced)> {
        self.bound_log(state)?;
        let unsynced = self.with_log(|log| {
            let end = log.append(PREPARED, flags, parts).map_err(|error| self.fail(error))?;
            Ok(Unsynced { log: Arc::clone(log), end })
        })?;
        state.prepared.is_logged_to(unsynced.end);
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        self.in_flight.enter(Reserved { sequence, timestamp: 0 });
        Ok((sequence, unsynced))
    }

    fn finish_step(&self, (sequence, unsynced): (Sequence, Unsynced), sync: bool) -> Result<()> {
        self.settle_commit(sequence, Ok(()), sync.then_some(unsynced))
    }

    /// Under the commit lock: floors of what it will write stop where those in doubt there need them.
    pub(super) fn hold_floors(&self, state: &CommitState, pending: &Pending) {
        let world = self.world();
        let written = pending.written.as_slice().iter().filter_map(|id| world.get(*id));
        written.for_each(|keyspace| self.hold_floor_of(state, &keyspace.core));
    }

    /// Under the commit lock: the same for all keyspaces.
    pub(super) fn hold_all_floors(&self, state: &CommitState) {
        self.world().keyspaces().iter().for_each(|keyspace| self.hold_floor_of(state, &keyspace.core));
    }

    /// At an opening: what floors and closed times have passed (late commits may have been off) is noted, and they go no
    /// further.
    pub(super) fn hold_for_prepared(&self) {
        let mut state = self.commit.lock();
        if self.options.late_commits && state.prepared.locks_anything() {
            let (world, closed) = (self.world(), state.closed);
            let floor = |id| world.get(id).map_or(0, |keyspace| keyspace.core.floor());
            state.prepared.raise_bounds(closed, floor);
        }
        self.hold_all_floors(&state);
    }

    fn hold_floor_of(&self, state: &CommitState, core: &KeyspaceCore) {
        // Without late commits it will be committed above the last timestamp, whatever the floor is.
        core.hold_floor(state.prepared.lowest_bound_in(core.id).filter(|_| self.options.late_commits));
    }

    /// Before the commit lock: holds a batch of many operations against what is locked, a few at a time. Returns how often
    /// locks had been added by then.
    pub(super) fn look_for_locks(&self, operations: &[u8], count: usize) -> Result<Option<u64>> {
        if count <= FEW_OPERATIONS {
            return Ok(None);
        }
        let mut locked = None;
        let mut operations = Operations::new(operations).flatten();
        loop {
            let state = self.commit.lock();
            let locked = *locked.get_or_insert(state.prepared.locked());
            if !state.prepared.locks_anything() {
                return Ok(Some(locked));
            }
            let mut looked = 0;
            let some = operations.by_ref().take(FEW_OPERATIONS).inspect(|_| looked += 1);
            let met = state.prepared.met_by_writes(some);
            drop(state);
            match met {
                Some(met) => return Err(self.locked(&met)),
                None if looked < FEW_OPERATIONS => return Ok(Some(locked)),
                None => {}
            }
        }
    }

    /// Under the commit lock: whether nothing that these operations write is locked. `seen`: what
    /// [`look_for_locks`](Self::look_for_locks) gave. With late commits, nor anything that was read: it may be written below
    /// the timestamp that this commit gets.
    pub(super) fn check_locks(
        &self,
        state: &CommitState,
        operations: &[u8],
        reads: &Reads,
        seen: Option<u64>,
    ) -> Result<()> {
        let is_new = seen != Some(state.prepared.locked());
        let by_writes = || state.prepared.met_by_writes(Operations::new(operations).flatten());
        let by_reads = || state.prepared.met_by_reads(reads);
        let met = is_new.then(by_writes).flatten();
        let met = met.or_else(|| self.options.late_commits.then(by_reads).flatten());
        met.map_or(Ok(()), |met| Err(self.locked(&met)))
    }

    fn locked(&self, met: &Met) -> Error {
        let name = self.keyspace_core(met.keyspace).map(|core| core.name.clone()).unwrap_or_default();
        let reason = format!(
            "key \"{}\" in keyspace {name:?} is locked by the prepared transaction \"{}\"",
            met.key.escape_ascii(),
            met.holder.id().escape_ascii()
        );
        Error::Busy { reason: reason.into() }
    }
}

fn unknown(id: &[u8]) -> Error {
    Error::UnknownPrepared { id: id.into() }
}

fn named(id: &[u8]) -> Vec<u8> {
    let mut named = Vec::new();
    named.put_bytes(id);
    named
}
