//! Committing a batch: the steps of [`pipeline`](super::pipeline) on the real log and memtables.

use bytes::Bytes;

use super::batch::{OpKind, Operations, WriteBatch};
use super::engine::{CommitState, Engine};
use super::pipeline::{Admission, Admitted, Reserved};
use super::world::Mem;
use crate::log::LogPosition;
use crate::manifest::KeyspaceId;
use crate::options::{CommitOptions, Durability};
use crate::sync::{Arc, MutexGuard, Ordering};
use crate::version::{RangeTombstone, Sequence, Stamp};
use crate::{Error, Result, Slice, Timestamp};

/// Set in the flags of a commit record whose timestamp was at or below the last one.
pub(crate) const LATE: u8 = 1;

/// What a memtable entry costs beside its bytes, about: header, numbers, and links.
const ENTRY_OVERHEAD: usize = 40;

/// What an operation will cost a memtable, in bytes.
pub(crate) fn operation_cost(kind: &OpKind<'_>) -> usize {
    let bytes = match kind {
        OpKind::Put { key, value, .. } => key.len() + value.len(),
        OpKind::Delete { key } => key.len(),
        OpKind::DeleteRange { start, end } => start.len() + end.map_or(0, <[u8]>::len),
    };
    bytes + ENTRY_OVERHEAD
}

/// The body of a commit record: the timestamp, then the operations as the batch encoded them.
pub(crate) fn split_record(payload: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (timestamp, operations) = payload.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*timestamp), operations))
}

/// A commit that was reserved and has to be applied.
struct Apply {
    operations: Bytes,
    first_sequence: Sequence,
    admitted: Admitted,
    /// The memtables of the keyspaces touched, ascending by id.
    targets: Vec<(KeyspaceId, Arc<Mem>)>,
}

impl Engine {
    /// Commits `batch`. See [`Db::commit_with`](crate::Db::commit_with).
    pub(crate) fn commit(&self, batch: WriteBatch, options: &CommitOptions) -> Result<Timestamp> {
        self.check_writable()?;
        batch.check()?;
        if batch.database().is_some_and(|database| database != self.identity) {
            return Err(Error::invalid("the batch names a keyspace of another database"));
        }
        if options.started_at.is_some() {
            return Err(Error::invalid("conditional commits (started_at) are not built yet"));
        }
        let durability = options.durability.unwrap_or(self.options.durability);
        let cost = batch.bytes() + batch.len() * ENTRY_OVERHEAD;
        self.wait_for_room(cost)?;

        let sequences = batch.len().max(1) as u64;
        let touched: Vec<KeyspaceId> = batch.keyspaces().iter().copied().map(KeyspaceId).collect();
        let operations = batch.into_body();
        let bytes = operations.len() as u64;
        let mut state = self.commit.lock();
        let admitted = self.validate(&state, &touched, options)?;
        self.make_room(&mut state, &touched)?;
        let world = self.world();
        let targets: Vec<_> = touched
            .iter()
            .filter_map(|id| world.get(*id).map(|keyspace| (*id, Arc::clone(&keyspace.active))))
            .collect();
        let logged_to = match durability {
            // What is in no memtable has no other place than the log.
            Durability::Unlogged if !targets.is_empty() => {
                for (_, mem) in &targets {
                    mem.expect_unlogged(admitted.timestamp, &touched);
                }
                None
            }
            Durability::Unlogged | Durability::Buffered | Durability::Synced => {
                Some(self.append(admitted, &operations, &targets)?)
            }
        };
        let first_sequence = state.next_sequence;
        state.next_sequence += sequences;
        state.last_timestamp = state.last_timestamp.max(admitted.timestamp);
        let last_sequence = state.reserved();
        self.in_flight.enter(Reserved { sequence: last_sequence, timestamp: admitted.timestamp });
        let share = cost / targets.len().max(1);
        for (_, mem) in &targets {
            mem.charge(share);
            self.counters.buffered_bytes.fetch_add(share as u64, Ordering::Relaxed);
        }
        drop(state);

        let applied = Apply { operations, first_sequence, admitted, targets }.run();
        let settled = applied.and_then(|()| match (durability, logged_to) {
            (Durability::Synced, Some((log, end))) => log.sync_through(end),
            _ => Ok(()),
        });
        if let Err(error) = settled {
            // Failed first: whoever is woken by the poison finds the reason.
            let failed = self.fail(error);
            self.in_flight.poison(last_sequence, &failed);
            return Err(failed);
        }
        self.in_flight.publish(last_sequence, &self.current.published)?;
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.committed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(admitted.timestamp)
    }

    /// Under the commit lock: whether the commit may be, and at which timestamp.
    fn validate(&self, state: &CommitState, touched: &[KeyspaceId], options: &CommitOptions) -> Result<Admitted> {
        self.check_writable()?;
        let world = self.world();
        let mut floor = 0;
        for id in touched {
            let keyspace = world.get(*id).filter(|keyspace| !keyspace.core.is_dropped());
            let keyspace = keyspace.ok_or_else(|| self.unknown_keyspace(*id))?;
            floor = floor.max(keyspace.core.admission_floor());
        }
        let admission = Admission {
            clock: self.options.clock,
            late_commits: self.options.late_commits,
            unix_millis: self.time.unix_millis(),
            last: state.last_timestamp,
            closed: state.closed,
            floor,
        };
        admission.admit(options.at)
    }

    /// Under the commit lock: appends the record.
    fn append(
        &self,
        admitted: Admitted,
        operations: &Bytes,
        targets: &[(KeyspaceId, Arc<Mem>)],
    ) -> Result<(Arc<crate::log::Log>, LogPosition)> {
        let log = self.log()?;
        let start = log.end();
        for (_, mem) in targets {
            mem.expect_logged(start);
        }
        let flags = if admitted.late { LATE } else { 0 };
        let head = admitted.timestamp.to_le_bytes();
        let end = log.append(crate::log::COMMIT, flags, &[&head, operations]).map_err(|error| self.fail(error))?;
        Ok((log, end))
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
        if self.counters.buffered_bytes.load(Ordering::Relaxed) >= self.options.write_buffer_bytes as u64 {
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
    fn bound_log(&self, state: &mut MutexGuard<'_, CommitState>) -> Result<()> {
        let is_large = self.log()?.live_bytes() > self.options.wal_bytes || self.numbers_run_low();
        if !is_large || self.background.flush_waits() {
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

impl Apply {
    fn run(self) -> Result<()> {
        for (sequence, op) in (self.first_sequence..).zip(Operations::new(&self.operations)) {
            // The batch encoded these bytes itself.
            let op = op.map_err(|error| Error::invalid(format!("a batch does not decode: {}", error.reason)))?;
            let stamp = Stamp { timestamp: self.admitted.timestamp, sequence, late: self.admitted.late };
            if let Some((_, mem)) = self.targets.iter().find(|(id, _)| id.0 == op.keyspace) {
                insert(&mem.entries, &self.operations, op.kind, stamp);
            }
        }
        Ok(())
    }
}

/// Inserts one operation whose bytes are a part of `body`.
pub(crate) fn insert(entries: &crate::memtable::Memtable, body: &Bytes, kind: OpKind<'_>, stamp: Stamp) {
    match kind {
        OpKind::Put { key, value, expires_at } => {
            entries.insert(key, stamp, Some(value), expires_at, |value| body.slice_ref(value));
        }
        OpKind::Delete { key } => entries.insert(key, stamp, None, None, |value| body.slice_ref(value)),
        OpKind::DeleteRange { start, end } => {
            let (start, end) = (Slice::part_of(body, start), end.map(|end| Slice::part_of(body, end)));
            entries.insert_range(RangeTombstone { start, end, stamp });
        }
    }
}
