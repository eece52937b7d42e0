//! A keyspace: a named, ordered map of keys with its own tree, options and retention.

use std::fmt;
use std::ops::RangeBounds;

use super::attempts::Attempts;
use super::batch::WriteBatch;
use super::cursor::Iter;
use super::detours::Detours;
use super::engine::Engine;
use super::handle::Session;
use super::history::{Changes, History};
use super::range::{KeyRange, prefix_bounds};
use super::read::{self, At, Target};
use crate::log::LogPosition;
use crate::manifest::KeyspaceId;
use crate::options::{CommitOptions, KeyspaceSettings, Retention};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};
use crate::{Error, Result, Slice, Timestamp};

/// What all versions of a keyspace share.
#[derive(Debug)]
pub(crate) struct KeyspaceCore {
    pub(crate) id: KeyspaceId,
    pub(crate) name: String,
    pub(crate) options: KeyspaceSettings,
    /// Reads below it are refused. Raised before a merge drops anything by it, never lowered (R1).
    floor: AtomicU64,
    floor_log_end: AtomicU64,
    /// Commits at or below it are refused; raised under the commit lock, before `floor`.
    admission_floor: AtomicU64,
    /// The floor goes no further than this while transactions are in doubt; set under the commit lock.
    held_floor: AtomicU64,
    /// Set under the commit lock: no commit is admitted any more, for it is being dropped. For reads it is there until it
    /// has left the world.
    dropped: AtomicBool,
    pub(crate) attempts: Attempts,
    pub(crate) detours: Detours,
}

impl KeyspaceCore {
    pub(crate) fn new(id: KeyspaceId, name: String, options: KeyspaceSettings, floor: Timestamp) -> Self {
        Self {
            id,
            name,
            options,
            floor: AtomicU64::new(floor),
            floor_log_end: AtomicU64::new(0),
            admission_floor: AtomicU64::new(floor),
            held_floor: AtomicU64::new(Timestamp::MAX),
            dropped: AtomicBool::new(false),
            attempts: Attempts::default(),
            detours: Detours::default(),
        }
    }

    pub(crate) fn floor(&self) -> Timestamp {
        self.floor.load(Ordering::SeqCst)
    }

    /// Every commit at or below it lies in the log before `log_end`, or is unlogged.
    pub(crate) fn raise_floor(&self, to: Timestamp, log_end: LogPosition) {
        self.floor_log_end.fetch_max(log_end.0, Ordering::SeqCst);
        self.floor.fetch_max(to, Ordering::SeqCst);
    }

    /// How far the log must be synced before the floor is durable.
    pub(crate) fn floor_log_end(&self) -> LogPosition {
        LogPosition(self.floor_log_end.load(Ordering::SeqCst))
    }

    pub(crate) fn admission_floor(&self) -> Timestamp {
        self.admission_floor.load(Ordering::SeqCst)
    }

    /// Under the commit lock, after a failure: what was raised and did not come about is taken back.
    pub(crate) fn lower_admission_floor(&self) {
        self.admission_floor.store(self.floor(), Ordering::SeqCst);
    }

    /// Under the commit lock.
    pub(crate) fn raise_admission_floor(&self, to: Timestamp) {
        self.admission_floor.fetch_max(to, Ordering::SeqCst);
    }

    /// Up to where the floor may be raised.
    pub(crate) fn held_floor(&self) -> Timestamp {
        self.held_floor.load(Ordering::SeqCst)
    }

    /// Under the commit lock. `None`: nothing holds it.
    pub(crate) fn hold_floor(&self, at: Option<Timestamp>) {
        self.held_floor.store(at.unwrap_or(Timestamp::MAX), Ordering::SeqCst);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn mark_dropped(&self, dropped: bool) {
        self.dropped.store(dropped, Ordering::SeqCst);
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.options.retention, Retention::Manual)
    }

    pub(crate) fn unknown(&self) -> Error {
        Error::UnknownKeyspace { name: self.name.as_str().into() }
    }
}

/// A handle of one keyspace of an open database. Cheap to clone; borrows nothing.
///
/// Writes through the handle commit alone; [`WriteBatch`] and [`Db::commit`](crate::Db::commit) commit several
/// operations at once. Every method gives `UnknownKeyspace` once the keyspace was dropped (also when one of its name
/// was made anew), `Closed` once the database was closed, and `Io` or `Corruption` where a file cannot be read.
#[derive(Clone)]
pub struct Keyspace {
    session: Arc<Session>,
    core: Arc<KeyspaceCore>,
}

impl Keyspace {
    pub(crate) fn new(session: Arc<Session>, core: Arc<KeyspaceCore>) -> Self {
        Self { session, core }
    }

    pub(crate) fn core(&self) -> &Arc<KeyspaceCore> {
        &self.core
    }

    fn engine(&self) -> &Arc<Engine> {
        self.session.engine()
    }

    pub(crate) fn unknown(&self) -> Error {
        self.core.unknown()
    }

    /// Whether it is there. One whose drop is on its way, or has failed, is: it takes no commits, but reads go on.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.engine().world().get(self.core.id).map(drop).ok_or_else(|| self.unknown())
    }

    /// Refuses a handle of another database.
    pub(crate) fn belongs_to(&self, engine: &Engine) -> Result<()> {
        if self.engine().identity == engine.identity {
            return Ok(());
        }
        Err(Error::invalid(format!("keyspace {:?} belongs to another database", self.core.name)))
    }

    /// The keyspace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    // ---- writing ----

    /// Commits one pair at the next timestamp, which it returns.
    ///
    /// # Errors
    /// As [`Db::commit`](crate::Db::commit).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Timestamp> {
        let mut batch = WriteBatch::new();
        batch.put(self, key, value);
        self.engine().commit(batch, &CommitOptions::new())
    }

    /// Commits one tombstone at the next timestamp, which it returns; that the key exists is not asked.
    ///
    /// # Errors
    /// As [`Db::commit`](crate::Db::commit).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Timestamp> {
        let mut batch = WriteBatch::new();
        batch.delete(self, key);
        self.engine().commit(batch, &CommitOptions::new())
    }

    /// Writes the visible value of a key again, with this expiry: read and written in one step, so that no other write
    /// is lost. Gives the timestamp. At the cost of a read and a conditional commit, and of both again where another
    /// write of the key came first.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no visible value; else as [`Db::commit`](crate::Db::commit).
    pub fn set_expiry(&self, key: impl AsRef<[u8]>, expires_at: Timestamp) -> Result<Timestamp> {
        super::transaction::set_expiry(&self.session, self, key.as_ref(), expires_at)
    }

    // ---- reading ----

    /// Runs `read` on this keyspace as it is now.
    fn with_current<T>(
        &self,
        read: impl FnOnce(&super::world::KeyspaceVersion, super::current::Horizon) -> Result<T>,
    ) -> Result<T> {
        self.engine().check_open()?;
        self.engine().current.with_view(|world, horizon| match world.get(self.core.id) {
            Some(version) => read(version, horizon),
            None => Err(self.unknown()),
        })
    }

    fn target(&self) -> Result<(Target, At)> {
        let engine = self.engine();
        engine.check_open()?;
        let view = engine.current.view();
        let version = Arc::clone(view.world.get(self.core.id).ok_or_else(|| self.unknown())?);
        let at = At { timestamp: Timestamp::MAX, now: engine.now(view.horizon.last_timestamp) };
        Ok((Target::Keyspace { version, horizon: view.horizon }, at))
    }

    /// The newest value of `key`, if it has one. No lock and no shared counter is touched but those of the block cache.
    ///
    /// # Errors
    /// See the type's documentation.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.with_current(|version, horizon| {
            let found = read::newest(version, horizon, key.as_ref(), Timestamp::MAX)?;
            Ok(read::value(found, || self.engine().now(horizon.last_timestamp)))
        })
    }

    /// The value of `key` as of `timestamp`: that of the newest version at or below it. Above the last timestamp it is
    /// the newest there is now. Expiry is judged at `timestamp`.
    ///
    /// # Errors
    /// `BelowRetained` for a timestamp below the floor.
    pub fn get_at(&self, key: impl AsRef<[u8]>, timestamp: Timestamp) -> Result<Option<Slice>> {
        self.with_current(|version, horizon| {
            read::check_floor(version, timestamp)?;
            Ok(read::value(read::newest(version, horizon, key.as_ref(), timestamp)?, || timestamp))
        })
    }

    /// Whether `key` has a value now.
    ///
    /// # Errors
    /// See the type's documentation.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|value| value.is_some())
    }

    /// The newest values of several keys, in their order, all at one timestamp. Faster than as many calls of
    /// [`get`](Self::get): what lookups wait for in memory, those of several keys wait for together.
    ///
    /// # Errors
    /// See the type's documentation.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Slice>>> {
        let (target, at) = self.target()?;
        target.multi_get(keys, at)
    }

    /// The timestamp of the newest version of `key` that [`history`](Self::history) gives, a tombstone or range delete
    /// too.
    ///
    /// # Errors
    /// See the type's documentation.
    pub fn latest_timestamp(&self, key: impl AsRef<[u8]>) -> Result<Option<Timestamp>> {
        self.with_current(|version, horizon| {
            Ok(read::newest_timestamp(version, horizon, key.as_ref(), Timestamp::MAX)?.1)
        })
    }

    /// Whether [`history`](Self::history) gives a version of `key` at exactly `timestamp`.
    ///
    /// # Errors
    /// `BelowRetained` for a timestamp below the floor.
    pub fn has_version(&self, key: impl AsRef<[u8]>, timestamp: Timestamp) -> Result<bool> {
        self.with_current(|version, horizon| {
            let (floor, newest) = read::newest_timestamp(version, horizon, key.as_ref(), timestamp)?;
            if timestamp < floor {
                return Err(Error::BelowRetained { requested: timestamp, retained: floor });
            }
            Ok(newest == Some(timestamp))
        })
    }

    /// All pairs in key order, as they are now, whatever is written while the iterator lives. An error comes as the
    /// first item.
    #[must_use]
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// The pairs with keys in `range`, in key order. An error comes as the first item.
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> Iter {
        self.scan(range.into_bounds())
    }

    /// The pairs whose keys begin with `prefix`, in key order. An error comes as the first item.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Iter {
        self.scan(prefix_bounds(prefix.as_ref()))
    }

    fn scan(&self, bounds: super::range::KeyBounds) -> Iter {
        match self.target() {
            Ok((target, at)) => Iter::new(&self.session, Ok(target), bounds, at),
            Err(error) => Iter::new(&self.session, Err(error), bounds, At { timestamp: 0, now: 0 }),
        }
    }

    /// The versions of `key` with timestamps in `range`, newest first: all above the floor, tombstones and range
    /// deletes too, and the one that can be read at the floor. Clips at the floor; is never `BelowRetained`.
    ///
    /// # Errors
    /// See the type's documentation.
    pub fn history(&self, key: impl AsRef<[u8]>, range: impl RangeBounds<u64>) -> Result<History> {
        let (target, _) = self.target()?;
        History::new(&self.session, target, key.as_ref(), read::timestamps(&range))
    }

    /// Every version committed in `range`, ordered by key: at one key or start range deletes first, then points, each
    /// newest first.
    ///
    /// # Errors
    /// `BelowRetained` if the range begins below the floor, or at a floor other than 0.
    pub fn changes(&self, range: impl RangeBounds<u64>) -> Result<Changes> {
        let (target, _) = self.target()?;
        Changes::new(&self.session, target, read::timestamps(&range))
    }

    // ---- care ----

    /// The floor: reads at or above it are exact, reads below it are refused.
    #[must_use]
    pub fn retained_from(&self) -> Timestamp {
        self.core.floor()
    }

    /// Rewrites the keys in `range` down to the last level, dropping all that retention allows. Returns when that is
    /// done.
    ///
    /// # Errors
    /// `Background` and `ReadOnly` where nothing can be written.
    pub fn compact(&self, range: impl KeyRange) -> Result<()> {
        self.engine().check_writable()?;
        self.check_alive()?;
        self.engine().compact_range(self.core.id, &range.into_bounds())
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.core.name).finish_non_exhaustive()
    }
}

impl super::batch::Target for Keyspace {
    fn id(&self) -> u32 {
        self.core.id.0
    }

    fn database(&self) -> u64 {
        self.engine().identity
    }
}
