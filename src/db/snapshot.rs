//! Snapshots, and the registry that keeps what they see from being dropped.
//!
//! R1. A snapshot registers its timestamp first and looks at the floors afterwards; a merge raises the floor first and
//! looks at the registry afterwards. Whichever comes second sees the other: either the snapshot is refused (or takes a
//! newer timestamp), or the merge keeps what it sees.

use std::collections::BTreeMap;
use std::fmt;

use super::current::Horizon;
use super::cursor::{Cursor, Iter};
use super::engine::Engine;
use super::handle::Session;
use super::keyspace::Keyspace;
use super::range::{KeyRange, prefix_bounds};
use super::read::{At, Target};
use super::world::KeyspaceVersion;
use crate::manifest::KeyspaceId;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::version::{Sequence, StoredVersion};
use crate::{Error, Result, Slice, Timestamp};

/// What the registry knows of one live snapshot.
pub(crate) struct Registered {
    pub(crate) timestamp: Timestamp,
    /// When it was taken, on the monotonic clock.
    pub(crate) taken_nanos: u64,
    /// Keyspaces whose floor was above the timestamp already: nothing is kept there.
    refused: Vec<(KeyspaceId, Timestamp)>,
    /// Keyspaces from here on did not exist.
    keyspaces_below: KeyspaceId,
    /// Of a transaction: no commit comes in at or below it.
    transaction: bool,
    /// It was seen that no floor was above it when it was registered: so merges have kept everything for it since.
    confirmed: AtomicBool,
    /// Keyspaces dropped since, as they were then.
    dropped: Mutex<Vec<Arc<KeyspaceVersion>>>,
}

impl Registered {
    /// Whether merges in this keyspace have regard to it. Also in one that was made later: a condition that starts with this
    /// snapshot needs to know of everything since.
    fn keeps_in(&self, keyspace: KeyspaceId) -> bool {
        self.refused.iter().all(|(refused, _)| *refused != keyspace)
    }
}

/// All live snapshots.
#[derive(Default)]
pub(crate) struct SnapshotRegistry {
    next: u64,
    live: BTreeMap<u64, Arc<Registered>>,
}

impl SnapshotRegistry {
    /// The timestamps, ascending, that a merge in this keyspace must keep readable.
    pub(crate) fn timestamps_in(&self, keyspace: KeyspaceId) -> Vec<Timestamp> {
        let mut timestamps: Vec<_> =
            self.live.values().filter(|one| one.keeps_in(keyspace)).map(|one| one.timestamp).collect();
        timestamps.sort_unstable();
        timestamps.dedup();
        timestamps
    }

    /// Whether of everything newer than `timestamp` in this keyspace something was kept for each key, whatever the floor.
    pub(crate) fn keeps_from(&self, keyspace: KeyspaceId, timestamp: Timestamp) -> bool {
        let keeps = |one: &Arc<Registered>| one.timestamp <= timestamp && one.keeps_in(keyspace);
        self.live.values().any(|one| keeps(one) && one.confirmed.load(Ordering::SeqCst))
    }

    /// Whether a transaction lives that would see a commit at `timestamp`.
    pub(crate) fn has_transaction_from(&self, timestamp: Timestamp) -> bool {
        self.live.values().any(|one| one.transaction && one.timestamp >= timestamp)
    }

    /// Before a keyspace leaves the world: snapshots of now go on reading it.
    pub(crate) fn keep_dropped(&self, keyspace: &Arc<KeyspaceVersion>) {
        for one in self.live.values().filter(|one| keyspace.core.id < one.keyspaces_below) {
            one.dropped.lock().push(Arc::clone(keyspace));
        }
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.live.values()
    }

    fn enter(&mut self, registered: Registered) -> (u64, Arc<Registered>) {
        let number = self.next;
        self.next += 1;
        let registered = Arc::new(registered);
        self.live.insert(number, Arc::clone(&registered));
        (number, registered)
    }
}

/// A consistent state of the whole database at one timestamp.
///
/// What it sees stays readable while it lives, also when a floor moves past it. A late commit at or below its timestamp
/// is seen from then on, whole. Cheap to clone; the last clone to be dropped releases it.
#[derive(Clone)]
pub struct Snapshot {
    shared: Arc<Shared>,
}

struct Shared {
    session: Arc<Session>,
    number: u64,
    registered: Arc<Registered>,
    now: Timestamp,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let engine = self.session.engine();
        engine.snapshots.lock().live.remove(&self.number);
        // What merges above it had to keep for it is worth another try.
        for keyspace in engine.world().keyspaces() {
            keyspace.core.attempts.snapshot_ended(self.registered.timestamp);
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}

impl Engine {
    fn register(&self, timestamp: Timestamp, transaction: bool) -> (u64, Arc<Registered>) {
        let mut registry = self.snapshots.lock();
        let world = self.world();
        let registered = Registered {
            timestamp,
            taken_nanos: self.time.monotonic_nanos(),
            refused: Vec::new(),
            keyspaces_below: world.keyspaces().last().map_or(KeyspaceId(0), |last| KeyspaceId(last.core.id.0 + 1)),
            transaction,
            confirmed: AtomicBool::new(false),
            dropped: Mutex::new(Vec::new()),
        };
        registry.enter(registered)
    }
}

impl Snapshot {
    /// At the last timestamp.
    pub(crate) fn latest(session: &Arc<Session>) -> Self {
        let engine = session.engine();
        loop {
            let last = engine.current.horizon().last_timestamp;
            let snapshot = Self::registered(session, last, engine.now(last), false);
            // A merge may have raised a floor between the two; then newer commits are there as well.
            if snapshot.is_above_floors() {
                return snapshot;
            }
        }
    }

    /// At the last timestamp, for a transaction: no commit comes in at or below it while it lives.
    pub(crate) fn of_transaction(session: &Arc<Session>) -> Self {
        let engine = session.engine();
        loop {
            // Late commits look for transactions under this lock. One that was reserved before is seen, or waited for.
            let late = engine.options.late_commits.then(|| engine.commit.lock());
            let reserved = late.as_ref().map(|state| state.last_late);
            let last = engine.current.horizon().last_timestamp;
            let snapshot = Self::registered(session, last, engine.now(last), true);
            drop(late);
            if !snapshot.is_above_floors() {
                continue;
            }
            if let Some(reserved) = reserved {
                engine.in_flight.wait_published(reserved, &engine.current.published);
            }
            return snapshot;
        }
    }

    /// Whether no floor was above it when it was registered.
    fn is_above_floors(&self) -> bool {
        let above = self.floors().all(|(_, floor)| floor <= self.timestamp());
        self.shared.registered.confirmed.store(above, Ordering::SeqCst);
        above
    }

    /// At `timestamp`, if a keyspace still has it.
    pub(crate) fn at(session: &Arc<Session>, timestamp: Timestamp) -> Result<Self> {
        let engine = session.engine();
        let last = engine.current.horizon().last_timestamp.max(engine.closed());
        if timestamp > last {
            return Err(Error::FutureTimestamp { requested: timestamp, last });
        }
        let snapshot = Self::registered(session, timestamp, timestamp, false);
        let refused: Vec<_> = snapshot.floors().filter(|(_, floor)| *floor > timestamp).collect();
        if refused.is_empty() {
            snapshot.shared.registered.confirmed.store(true, Ordering::SeqCst);
            return Ok(snapshot);
        }
        if refused.len() == snapshot.floors().count() {
            let retained = refused.iter().map(|(_, floor)| *floor).min().unwrap_or(timestamp);
            return Err(Error::BelowRetained { requested: timestamp, retained });
        }
        Ok(snapshot.refusing(refused))
    }

    fn registered(session: &Arc<Session>, timestamp: Timestamp, now: Timestamp, transaction: bool) -> Self {
        let (number, registered) = session.engine().register(timestamp, transaction);
        Self { shared: Arc::new(Shared { session: Arc::clone(session), number, registered, now }) }
    }

    fn floors(&self) -> impl Iterator<Item = (KeyspaceId, Timestamp)> {
        let world = self.shared.session.engine().world();
        let below = self.shared.registered.keyspaces_below;
        let floors: Vec<_> = world.keyspaces().iter().map(|one| (one.core.id, one.core.floor())).collect();
        floors.into_iter().filter(move |(id, _)| *id < below)
    }

    /// The same snapshot, registered as one that keeps nothing in the keyspaces whose floors are above it.
    fn refusing(self, refused: Vec<(KeyspaceId, Timestamp)>) -> Self {
        let registered = &self.shared.registered;
        let mut registry = self.shared.session.engine().snapshots.lock();
        let (number, registered) = registry.enter(Registered {
            timestamp: registered.timestamp,
            taken_nanos: registered.taken_nanos,
            refused,
            keyspaces_below: registered.keyspaces_below,
            transaction: false,
            confirmed: AtomicBool::new(true),
            dropped: Mutex::new(registered.dropped.lock().clone()),
        });
        drop(registry);
        Self {
            shared: Arc::new(Shared {
                session: Arc::clone(&self.shared.session),
                number,
                registered,
                now: self.shared.now,
            }),
        }
    }

    /// The timestamp that it reads at.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.shared.registered.timestamp
    }

    /// What it sees of a key.
    pub(super) fn version(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<StoredVersion>> {
        self.target(keyspace)?.version(key, self.at_time())
    }

    /// What it compares expiries with.
    pub(super) fn now(&self) -> Timestamp {
        self.shared.now
    }

    fn at_time(&self) -> At {
        At { timestamp: self.timestamp(), now: self.shared.now }
    }

    /// What a read of `keyspace` through this snapshot looks at.
    fn target(&self, keyspace: &Keyspace) -> Result<Target> {
        let engine = self.shared.session.engine();
        engine.check_open()?;
        keyspace.belongs_to(engine)?;
        let id = keyspace.core().id;
        let registered = &self.shared.registered;
        if id >= registered.keyspaces_below {
            keyspace.check_alive()?;
            return Ok(Target::Empty);
        }
        if let Some((_, retained)) = registered.refused.iter().find(|(refused, _)| *refused == id) {
            return Err(Error::BelowRetained { requested: self.timestamp(), retained: *retained });
        }
        let view = engine.current.view();
        if let Some(found) = view.world.get(id) {
            return Ok(Target::Keyspace { version: Arc::clone(found), horizon: view.horizon });
        }
        // A keyspace leaves the world and enters `dropped` under one lock, so it is found in one of them.
        let _registry = engine.snapshots.lock();
        match registered.dropped.lock().iter().find(|version| version.core.id == id) {
            Some(version) => Ok(Target::Keyspace {
                version: Arc::clone(version),
                horizon: Horizon { sequence: Sequence::MAX - 1, last_timestamp: self.timestamp() },
            }),
            None => Err(keyspace.unknown()),
        }
    }

    /// The value of `key`, if it has one at this time.
    ///
    /// # Errors
    /// `BelowRetained` where this keyspace's floor was above the snapshot's timestamp when it was taken,
    /// `UnknownKeyspace`, `InvalidArgument` for a keyspace of another database, `Closed`, `Io`, `Corruption`.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.target(keyspace)?.get(key.as_ref(), self.at_time())
    }

    /// The values of several keys, in their order. Errors as [`get`](Self::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.target(keyspace)?.multi_get(keys, self.at_time())
    }

    /// All pairs in key order. An error comes as the first item.
    #[must_use]
    pub fn iter(&self, keyspace: &Keyspace) -> Iter {
        self.range(keyspace, ..)
    }

    /// The pairs with keys in `range`, in key order. An error comes as the first item.
    #[must_use]
    pub fn range(&self, keyspace: &Keyspace, range: impl KeyRange) -> Iter {
        Iter::new(&self.shared.session, self.target(keyspace), range.into_bounds(), self.at_time())
    }

    /// The pairs whose keys begin with `prefix`, in key order. An error comes as the first item.
    #[must_use]
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Iter {
        Iter::new(&self.shared.session, self.target(keyspace), prefix_bounds(prefix.as_ref()), self.at_time())
    }

    /// A cursor over all pairs, off the end until it is moved. An error comes with the first move.
    #[must_use]
    pub fn cursor(&self, keyspace: &Keyspace) -> Cursor {
        Cursor::new(&self.shared.session, self.target(keyspace), self.at_time())
    }
}
