//! Floors: raising the retained timestamp, closing times to late commits.
//!
//! R1. The obvious way, "store the floor, then drop", lets a late commit that was admitted just before land below the
//! floor in a memtable that the merge never saw. So a floor rises in commit order: the admission floor under the commit
//! lock, then a wait until everything reserved so far is published, hence in memtables; then the floor that reads are
//! held against; only then does a merge look at its sources and at the live snapshots. And a floor becomes durable only
//! when every commit at or below it is: the log is synced first, and unlogged commits are flushed first. A merge, which
//! cannot wait for that, stays below unlogged ones, and goes no further than what is durable anyhow ([`Settled`]). So
//! after a crash no floor stands above commits that are lost.

use super::engine::{CommitState, Engine};
use super::keyspace::KeyspaceCore;
use super::world::Mem;
use crate::log::LogPosition;
use crate::manifest::Change;
use crate::options::Retention;
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::{Error, Result, Timestamp};

/// A floor that a merge may drop by, once what was logged before `log_end` is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeFloor {
    pub(crate) floor: Timestamp,
    pub(crate) log_end: LogPosition,
}

/// How far commits are durable without another sync of the log: those logged before `log_end`, in tables or in a log
/// that was synced. They include all at or below `timestamp`, but for unlogged and for late ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settled {
    pub(crate) timestamp: Timestamp,
    pub(crate) log_end: LogPosition,
}

impl Settled {
    pub(crate) fn rise(&mut self, to: Self) {
        self.timestamp = self.timestamp.max(to.timestamp);
        self.log_end = self.log_end.max(to.log_end);
    }
}

impl Engine {
    /// The floor that a merge beside `memtables` may drop by now, where `last` is the last timestamp that counts.
    ///
    /// It is the floor that pickers have to reckon with: one that no merge reaches would have them pick the same files
    /// for ever.
    pub(crate) fn reachable_floor<'a>(
        &self,
        core: &KeyspaceCore,
        memtables: impl Iterator<Item = &'a Arc<Mem>>,
        last: Timestamp,
    ) -> Timestamp {
        let standing = core.floor();
        let wanted = match core.options.retention {
            Retention::Manual => return standing,
            Retention::Latest => last,
            Retention::Window(length) => last.saturating_sub(length),
        };
        let unlogged = memtables.filter_map(|mem| mem.first_unlogged()).min();
        // Another merge may have raised the floor to where it stands and not have named it yet. What that one relies on
        // holds for this one as well: the log is to be synced as far, and what only its own flush makes durable is
        // stayed below.
        let wanted = wanted.min(core.held_floor()).max(standing);
        unlogged.map_or(wanted, |unlogged| wanted.min(unlogged - 1))
    }

    /// The last timestamp, for floors of merges. By a higher one the log would have to be synced, and hardly more could be
    /// dropped: tables hold nothing that is newer than what was settled with them. With late commits that are not durable
    /// it says nothing: they may be older.
    pub(crate) fn last_that_counts(&self) -> Timestamp {
        if self.options.late_commits { self.current.horizon().last_timestamp } else { self.settled.lock().timestamp }
    }

    /// The floor for a merge in a keyspace, raised to where its retention allows. `flushed`: the memtable that this
    /// very merge makes durable, and what is settled with it.
    pub(crate) fn raise_merge_floor(
        &self,
        core: &KeyspaceCore,
        flushed: Option<(&Arc<Mem>, Settled)>,
    ) -> Result<MergeFloor> {
        let state = self.commit.lock();
        let standing = core.floor();
        if core.is_manual() {
            // Durable before anybody sees it.
            return Ok(MergeFloor { floor: standing, log_end: LogPosition(0) });
        }
        let world = self.world();
        let mems = world.get(core.id).into_iter().flat_map(|keyspace| keyspace.memtables());
        let others = mems.filter(|mem| flushed.is_none_or(|(flushed, _)| !Arc::ptr_eq(flushed, mem)));
        let mut settled = *self.settled.lock();
        settled.rise(flushed.map_or(Settled::default(), |(_, with_it)| with_it));
        if self.options.late_commits {
            settled = Settled { timestamp: self.current.horizon().last_timestamp, log_end: self.log()?.end() };
        }
        let floor = self.reachable_floor(core, others, settled.timestamp);
        if floor <= standing {
            return Ok(MergeFloor { floor, log_end: core.floor_log_end() });
        }
        core.raise_admission_floor(floor);
        let reserved = state.reserved();
        drop(state);
        if !self.in_flight.wait_published(reserved, &self.current.published) {
            self.check_sound()?;
            return Err(Error::Closed);
        }
        core.raise_floor(floor, settled.log_end);
        Ok(MergeFloor { floor, log_end: settled.log_end })
    }

    /// See [`Db::retain_from`](crate::Db::retain_from).
    pub(crate) fn retain_from(&self, floor: Timestamp) -> Result<Timestamp> {
        self.check_writable()?;
        if floor == 0 {
            return Err(Error::invalid("the retained timestamp must be above 0"));
        }
        // No keyspace is made meanwhile, so none misses the floor.
        let _one_at_a_time = self.keyspaces.lock();
        let last = self.current.horizon().last_timestamp;
        if floor > last {
            return Err(Error::FutureTimestamp { requested: floor, last });
        }
        let standing = self.manual_floor.load(Ordering::SeqCst);
        if floor <= standing {
            return Ok(standing);
        }
        let state = self.commit.lock();
        // What is in doubt may have to be committed anywhere above its bound.
        let world = self.world();
        let manual = world.keyspaces().iter().filter(|keyspace| keyspace.core.is_manual());
        let floor = manual.map(|keyspace| keyspace.core.held_floor()).fold(floor, Timestamp::min);
        if floor <= standing {
            return Ok(standing);
        }
        self.manual_admission_floor.fetch_max(floor, Ordering::SeqCst);
        for keyspace in self.world().keyspaces().iter().filter(|keyspace| keyspace.core.is_manual()) {
            keyspace.core.raise_admission_floor(floor);
        }
        let (reserved, to) = (state.reserved(), self.settled_by_sync(&state)?);
        drop(state);
        self.make_durable(reserved, to, |keyspace| keyspace.is_manual(), floor)?;
        self.edit_in_living(vec![Change::ManualFloor { floor }, Change::LogProved(self.log()?.proof())], |world| {
            self.manual_floor.fetch_max(floor, Ordering::SeqCst);
            for keyspace in world.keyspaces().iter().filter(|keyspace| keyspace.core.is_manual()) {
                keyspace.core.raise_floor(floor, to.log_end);
            }
            Ok((world.clone(), ()))
        })?;
        self.background.wake_all();
        Ok(floor)
    }

    /// See [`Db::close_until`](crate::Db::close_until).
    pub(crate) fn close_until(&self, timestamp: Timestamp) -> Result<()> {
        self.check_writable()?;
        if timestamp == Timestamp::MAX {
            return Err(Error::invalid("the highest timestamp is reserved"));
        }
        // A resume takes back what did not come about; it does not run meanwhile.
        let _one_at_a_time = self.keyspaces.lock();
        // Only what is durable already needs nothing more.
        if timestamp <= self.closed_timestamp.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = self.commit.lock();
        // Without late commits nothing is committed below the last timestamp in any case.
        let held = state.prepared.lowest_bound().filter(|bound| self.options.late_commits && *bound < timestamp);
        if let Some(bound) = held {
            let reason = format!("a prepared transaction may have to be committed anywhere above {bound}");
            return Err(Error::Busy { reason: reason.into() });
        }
        state.closed = state.closed.max(timestamp);
        let (reserved, to) = (state.reserved(), self.settled_by_sync(&state)?);
        drop(state);
        self.make_durable(reserved, to, |_| true, timestamp)?;
        let changes = vec![Change::Closed { timestamp }, Change::LogProved(self.log()?.proof())];
        // With the edit, not with the success of what follows it: the next manifest says so in any case.
        self.edit_in_living(changes, |world| {
            self.closed_timestamp.fetch_max(timestamp, Ordering::SeqCst);
            Ok((world.clone(), ()))
        })
    }

    /// The closed timestamp: the highest `close_until`, and without late commits at least the last timestamp.
    pub(crate) fn closed(&self) -> Timestamp {
        let closed = self.closed_timestamp.load(Ordering::SeqCst);
        if self.options.late_commits { closed } else { closed.max(self.current.horizon().last_timestamp) }
    }

    /// Makes every commit reserved so far durable in the keyspaces chosen, as far as it is at or below `timestamp`, and
    /// those that were logged in all.
    fn make_durable(
        &self,
        reserved: u64,
        to: Settled,
        choose: impl Fn(&KeyspaceCore) -> bool,
        timestamp: Timestamp,
    ) -> Result<()> {
        let published = self.in_flight.wait_published(reserved, &self.current.published);
        if !published {
            self.check_sound()?;
        }
        self.sync_log(to.log_end)?;
        if published {
            self.settled.lock().rise(to);
        }
        let unlogged = |mem: &Arc<Mem>| mem.first_unlogged().is_some_and(|first| first <= timestamp);
        let world = self.world();
        if world.keyspaces().iter().any(|one| choose(&one.core) && one.memtables().any(unlogged)) {
            self.flush_where(|one| choose(&one.core) && unlogged(&one.active))?;
        }
        Ok(())
    }

    /// See [`Db::sync`](crate::Db::sync).
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        self.make_all_durable(|_| true, Timestamp::MAX)
    }

    /// Makes durable all that was logged until now.
    pub(crate) fn settle_logged(&self) -> Result<()> {
        self.make_all_durable(|_| false, 0)
    }

    fn make_all_durable(&self, choose: impl Fn(&KeyspaceCore) -> bool, timestamp: Timestamp) -> Result<()> {
        let state = self.commit.lock();
        let (reserved, to) = (state.reserved(), self.settled_by_sync(&state)?);
        drop(state);
        self.make_durable(reserved, to, choose, timestamp)
    }

    /// What a sync of all that was logged until now settles.
    fn settled_by_sync(&self, state: &MutexGuard<'_, CommitState>) -> Result<Settled> {
        Ok(Settled { timestamp: state.last_timestamp, log_end: self.log()?.end() })
    }
}
