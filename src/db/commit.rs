//! Committing a batch: the steps of [`pipeline`](super::pipeline) on the real log and memtables.

use bytes::Bytes;

use super::batch::{Body, Op, OpKind, Operations, WriteBatch};
use super::condition::Condition;
use super::engine::{CommitState, Engine};
use super::few::Few;
use super::pipeline::{Admission, Admitted, Reserved};
use super::prepared::{Outcome, Pending};
use super::record::commit_head;
use super::world::Mem;
use crate::format::DecodeError;
use crate::log::{COMMIT, Log, LogPosition};
use crate::manifest::KeyspaceId;
use crate::memtable::Memtable;
use crate::options::{CommitOptions, Durability, Rewrite};
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::version::{RangeTombstone, Sequence, Stamp};
use crate::{Error, Result, Slice, Timestamp};

/// What a memtable entry costs beside its bytes, about: header, numbers, and links.
const ENTRY_OVERHEAD: usize = 40;

/// What so many operations look at is on its way from memory before it is needed.
const AHEAD: usize = 2;

/// What an operation will cost a memtable, in bytes.
pub(crate) fn operation_cost(kind: &OpKind<'_>) -> usize {
    let bytes = match kind {
        OpKind::Put { key, value, .. } => key.len() + value.len(),
        OpKind::Delete { key } => key.len(),
        OpKind::DeleteRange { start, end } => start.len() + end.map_or(0, <[u8]>::len),
    };
    bytes + ENTRY_OVERHEAD
}

/// The same of a whole batch.
pub(super) fn cost(bytes: usize, count: usize) -> usize {
    bytes + count * ENTRY_OVERHEAD
}

/// What is committed, and how.
pub(super) struct Write<'a> {
    pub(super) operations: Body,
    pub(super) count: usize,
    /// What its operations will cost memtables.
    pub(super) cost: usize,
    /// Ascending, each once.
    pub(super) touched: &'a [KeyspaceId],
    /// What is only read.
    pub(super) read: &'a [KeyspaceId],
    pub(super) at: Option<Timestamp>,
    pub(super) durability: Durability,
    /// The prepared transaction that this is.
    pub(super) decides: Option<&'a Arc<Pending>>,
}

/// What a commit writes to.
pub(super) struct Found {
    /// The highest floor.
    pub(super) floor: Timestamp,
    /// The memtables of the keyspaces touched, ascending by id.
    targets: Few<(KeyspaceId, Arc<Mem>)>,
}

/// Where a commit ends that has to be synced: in the log that it went to, whichever there is meanwhile.
pub(super) struct Unsynced {
    pub(super) log: Arc<Log>,
    pub(super) end: LogPosition,
}

impl Engine {
    /// Commits `batch`. See [`Db::commit_with`](crate::Db::commit_with).
    pub(crate) fn commit(&self, batch: WriteBatch, options: &CommitOptions) -> Result<Timestamp> {
        self.check_writable()?;
        batch.check()?;
        if batch.database().is_some_and(|database| database != self.identity) {
            return Err(Error::invalid("the batch names a keyspace of another database"));
        }
        let durability = options.durability.unwrap_or(self.options.durability);
        let (count, cost) = (batch.len(), cost(batch.bytes(), batch.len()));
        self.wait_for_room(cost)?;

        let (operations, written, reads) = batch.into_parts();
        let touched = written.as_slice();
        let seen = self.look_for_locks(&operations, count)?;
        let state = match options.started_at {
            None => self.commit.lock(),
            Some(start) => {
                self.check_start(start, options.at)?;
                match self.lock_if_newest(start) {
                    Some(state) => state,
                    None => self.lock_where(&Condition::new(start, &operations, touched, &reads))?,
                }
            }
        };
        self.check_writable()?;
        if let Some(rewrite) = options.rewrite {
            self.check_rewrite(rewrite, &state)?;
        }
        if state.prepared.locks_anything() {
            self.check_locks(&state, &operations, &reads, seen)?;
        }
        let read = reads.keyspaces.as_slice();
        self.commit_under(
            state,
            Write { operations, count, cost, touched, read, at: options.at, durability, decides: None },
        )
    }

    /// Under the commit lock, which it ends: commits what nothing but its timestamp can stop.
    pub(super) fn commit_under(&self, mut state: MutexGuard<'_, CommitState>, write: Write<'_>) -> Result<Timestamp> {
        let Write { mut operations, count, cost, touched, read, at, durability, decides } = write;
        let (sequences, bytes) = (count.max(1) as u64, operations.len() as u64);
        let mut found = self.find(touched, read)?;
        // What was told to be above a floor, or a closed time, that then did not come about is so all the same.
        let floor = decides.map_or(found.floor, |pending| found.floor.max(pending.above()));
        let admitted = self.admit(&state, floor, at, decides.is_some())?;
        if self.lacks_room(&found)? {
            self.make_room(&mut state, touched)?;
            found = self.find(touched, &[])?;
        }
        let targets = found.targets;
        Operations::new(&operations).take(AHEAD).for_each(|first| prefetch(&first, targets.as_slice()));
        let unsynced = match durability {
            // What is in no memtable has no other place than the log.
            Durability::Unlogged if !touched.is_empty() => {
                for (_, mem) in targets.as_slice() {
                    mem.expect_unlogged(admitted.timestamp, touched);
                }
                None
            }
            Durability::Unlogged | Durability::Buffered | Durability::Synced => {
                self.append(admitted, decides, &operations, targets.as_slice(), durability)?
            }
        };
        let first_sequence = state.next_sequence;
        state.next_sequence += sequences;
        state.last_timestamp = state.last_timestamp.max(admitted.timestamp);
        let last_sequence = state.reserved();
        if admitted.late {
            state.last_late = last_sequence;
        }
        if let Some(pending) = decides {
            unsynced.iter().for_each(|unsynced| state.prepared.is_logged_to(unsynced.end));
            state.prepared.decide(pending.id(), Outcome::Committed(admitted.timestamp), last_sequence);
            self.hold_floors(&state, pending);
        }
        self.in_flight.enter(Reserved { sequence: last_sequence, timestamp: admitted.timestamp });
        if state.recent.is_watched() {
            let most = self.options.memtable_bytes;
            state.recent.push((last_sequence, admitted.timestamp), operations.share_all(), count, most);
        }
        let share = cost / touched.len().max(1);
        for (_, mem) in targets.as_slice() {
            mem.charge(share);
            self.counters.buffered_bytes.fetch_add(share as u64, Ordering::Relaxed);
        }
        drop(state);

        let applied = apply(&operations, first_sequence, admitted, targets.as_slice());
        operations.recycle();
        self.settle_commit(last_sequence, applied, unsynced)?;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.committed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(admitted.timestamp)
    }

    /// Syncs, if that is left to be done, and publishes what was reserved up to `sequence`.
    pub(super) fn settle_commit(
        &self,
        sequence: Sequence,
        applied: Result<()>,
        unsynced: Option<Unsynced>,
    ) -> Result<()> {
        let settled = applied.and_then(|()| match unsynced {
            Some(Unsynced { log, end }) => {
                // A condition is held against it without waiting for the sync.
                self.in_flight.applied(sequence);
                log.sync_through(end)
            }
            None => Ok(()),
        });
        if let Err(error) = settled {
            // Failed first: whoever is woken by the poison finds the reason.
            let failed = self.fail(error);
            self.in_flight.poison(sequence, &failed);
            return Err(failed);
        }
        self.in_flight.publish(sequence, &self.current.published)
    }

    /// Under the commit lock: whether a value that is written again is still what is seen, as far as that does not show
    /// above the start.
    fn check_rewrite(&self, rewrite: Rewrite, state: &CommitState) -> Result<()> {
        if rewrite.expires_at.is_some_and(|expires_at| expires_at <= self.now(state.last_timestamp)) {
            return Err(Error::KeyNotFound);
        }
        if state.last_late > rewrite.seen {
            let last = state.last_timestamp;
            return Err(Error::LateCommit { requested: last, last });
        }
        Ok(())
    }

    /// Whether a condition may name this start, for a commit at `at`.
    fn check_start(&self, start: Timestamp, at: Option<Timestamp>) -> Result<()> {
        if let Some(at) = at.filter(|at| *at <= start) {
            return Err(Error::invalid(format!("a commit at {at} cannot have started at {start}")));
        }
        let last = self.current.horizon().last_timestamp.max(self.closed());
        if start > last {
            return Err(Error::FutureTimestamp { requested: start, last });
        }
        Ok(())
    }

    /// Under the commit lock: what a commit writes to, if that and what it has read is all there.
    pub(super) fn find(&self, written: &[KeyspaceId], read: &[KeyspaceId]) -> Result<Found> {
        self.current.with_world(|world| {
            let mut found = Found { floor: 0, targets: Few::default() };
            let get = |id| world.get(id).filter(|keyspace| !keyspace.core.is_dropped());
            for id in written {
                let keyspace = get(*id).ok_or_else(|| self.unknown_keyspace(*id))?;
                found.floor = found.floor.max(keyspace.core.admission_floor());
                found.targets.push((*id, Arc::clone(&keyspace.active)));
            }
            for id in read {
                let keyspace = get(*id).ok_or_else(|| self.unknown_keyspace(*id))?;
                found.floor = found.floor.max(keyspace.core.admission_floor());
            }
            Ok(found)
        })
    }

    /// Under the commit lock: whether the commit may be, and at which timestamp.
    ///
    /// A prepared one (`decides`) is in nobody's way who is prepared too: what the other one has read was held against it then,
    /// as far as it mattered.
    fn admit(&self, state: &CommitState, floor: Timestamp, at: Option<Timestamp>, decides: bool) -> Result<Admitted> {
        let admission = Admission {
            clock: self.options.clock,
            late_commits: self.options.late_commits,
            unix_millis: self.time.unix_millis(),
            last: state.last_timestamp,
            closed: state.closed,
            floor,
        };
        let admitted = admission.admit(at)?;
        let is_seen = || {
            (!decides && state.prepared.has_start_from(admitted.timestamp))
                || self.snapshots.lock().has_transaction_from(admitted.timestamp)
        };
        if admitted.late && is_seen() {
            let reason = format!("a transaction that started at or above timestamp {} is not over", admitted.timestamp);
            return Err(Error::Busy { reason: reason.into() });
        }
        Ok(admitted)
    }

    /// Under the commit lock: appends the record, and says what is left to be synced.
    fn append(
        &self,
        admitted: Admitted,
        decides: Option<&Arc<Pending>>,
        operations: &[u8],
        targets: &[(KeyspaceId, Arc<Mem>)],
        durability: Durability,
    ) -> Result<Option<Unsynced>> {
        self.with_log(|log| {
            let start = log.end();
            for (_, mem) in targets {
                mem.expect_logged(start);
            }
            let (flags, head) = commit_head(admitted.timestamp, admitted.late, decides.map(|pending| pending.id()));
            let end = log.append(COMMIT, flags, &head.parts(operations)).map_err(|error| self.fail(error))?;
            Ok((durability == Durability::Synced).then(|| Unsynced { log: Arc::clone(log), end }))
        })
    }

    /// Under the commit lock: whether [`make_room`](Self::make_room) has anything to do.
    fn lacks_room(&self, found: &Found) -> Result<bool> {
        let is_full = found.targets.as_slice().iter().any(|(_, mem)| mem.size() >= self.options.memtable_bytes);
        Ok(is_full || self.buffers_are_full() || self.log_is_large()?)
    }

    fn buffers_are_full(&self) -> bool {
        self.counters.buffered_bytes.load(Ordering::Relaxed) >= self.options.write_buffer_bytes as u64
    }

    fn log_is_large(&self) -> Result<bool> {
        Ok(self.numbers_run_low() || self.with_log(|log| Ok(log.live_bytes() > self.options.wal_bytes))?)
    }

    /// Under the commit lock: seals memtables that are full, and those that keep the log or the write buffer too large.
    fn make_room(&self, state: &mut MutexGuard<'_, CommitState>, touched: &[KeyspaceId]) -> Result<()> {
        let world = self.world();
        let full: Vec<_> = touched
            .iter()
            .copied()
            .filter(|id| world.get(*id).is_some_and(|keyspace| keyspace.active.size() >= self.options.memtable_bytes))
            .collect();
        self.seal(state, &full)?;
        if self.buffers_are_full() {
            let world = self.world();
            let largest = world.keyspaces().iter().max_by_key(|keyspace| keyspace.active.charged());
            let largest: Vec<_> =
                largest.filter(|one| one.active.charged() > 0).map(|one| one.core.id).into_iter().collect();
            self.seal(state, &largest)?;
        }
        self.bound_log(state)
    }

    /// Under the commit lock: where the log has grown beyond its limit, the keyspace that holds its oldest part is
    /// sealed, so that its flush lets the segments go. Where no memtable holds it, an empty flush does. The same where
    /// its segments have used up file numbers: a flush is an edit, which sets more aside.
    pub(super) fn bound_log(&self, state: &mut MutexGuard<'_, CommitState>) -> Result<()> {
        if !self.log_is_large()? || self.background.flush_waits() {
            return Ok(());
        }
        let world = self.world();
        let oldest = world.keyspaces().iter().filter_map(|one| Some((one.active.first_position()?, one.core.id))).min();
        match oldest {
            Some((_, id)) => self.seal(state, &[id]),
            None => {
                self.enqueue_empty_flush(state);
                Ok(())
            }
        }
    }

    pub(crate) fn unknown_keyspace(&self, id: KeyspaceId) -> Error {
        let name = self.counters.dropped_names.lock().get(&id).cloned().unwrap_or_default();
        Error::UnknownKeyspace { name: name.into_boxed_str() }
    }
}

/// Inserts what was reserved into the memtables.
fn apply(body: &Body, first_sequence: Sequence, admitted: Admitted, targets: &[(KeyspaceId, Arc<Mem>)]) -> Result<()> {
    // Those before are on their way since before the append.
    let mut ahead = Operations::new(body).skip(AHEAD);
    for (sequence, op) in (first_sequence..).zip(Operations::new(body)) {
        ahead.next().into_iter().for_each(|op| prefetch(&op, targets));
        // The batch encoded these bytes itself.
        let op = op.map_err(|error| Error::invalid(format!("a batch does not decode: {}", error.reason)))?;
        let stamp = Stamp { timestamp: admitted.timestamp, sequence, late: admitted.late };
        if let Some((_, mem)) = targets.iter().find(|(id, _)| id.0 == op.keyspace) {
            insert(&mem.entries, op.kind, stamp, |part| body.share(part));
        }
    }
    Ok(())
}

/// Has what the insert of an operation looks at first fetched from memory.
fn prefetch(op: &Result<Op<'_>, DecodeError>, targets: &[(KeyspaceId, Arc<Mem>)]) {
    if let Ok(Op { keyspace, kind: OpKind::Put { key, .. } | OpKind::Delete { key } }) = op
        && let Some((_, mem)) = targets.iter().find(|(id, _)| id.0 == *keyspace)
    {
        mem.entries.prefetch(key);
    }
}

/// Inserts one operation. `share` gives something to share that holds a value of it.
pub(crate) fn insert(entries: &Memtable, kind: OpKind<'_>, stamp: Stamp, share: impl FnOnce(&[u8]) -> Bytes) {
    match kind {
        OpKind::Put { key, value, expires_at } => entries.insert(key, stamp, Some(value), expires_at, share),
        OpKind::Delete { key } => entries.insert(key, stamp, None, None, share),
        OpKind::DeleteRange { start, end } => {
            let (start, end) = (Slice::copy_of(start), end.map(Slice::copy_of));
            entries.insert_range(RangeTombstone { start, end, stamp });
        }
    }
}
