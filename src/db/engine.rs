//! The state behind every handle of an open database, and the few moves that the rest of `db` is made of.
//!
//! Locks, in the order in which they may be taken: `keyspaces` (making, dropping, raising the shared floor, closing
//! times, resuming), then `manifest` (edits, one at a time) or `commit` (reserving), then the world (inside
//! [`Current::change`]), `snapshots`, and last the leaves (the log's own, the in-flight queue, the background's).
//! Nothing waits for a commit to be published, or for a file, while holding `commit`, but for the append to the log
//! itself.

use std::path::{Path, PathBuf};

use super::background::Background;
use super::condition::Recent;
use super::current::Current;
use super::keyspace::KeyspaceCore;
use super::metrics::Counters;
use super::origin::keyspace_records;
use super::pipeline::InFlight;
use super::prepared::PreparedTable;
use super::retention::Settled;
use super::snapshot::SnapshotRegistry;
use super::world::World;
use crate::compaction::RateLimiter;
use crate::error::Result;
use crate::format::{COUNTER_LIMIT, FileKind, FileNumber};
use crate::fs::{DatabaseFs, FileLock, Fs, Purpose};
use crate::log::{self, Log, LogPosition, LogStart, Proof};
use crate::manifest::{Change, Edit, KeyspaceId, Manifest, ManifestState};
use crate::options::{Clock, Options};
use crate::seam::Time;
use crate::sync::{Arc, ArcSwapOption, AtomicBool, AtomicU64, Mutex, Ordering, ProcessCount};
use crate::table::TableStore;
use crate::version::Sequence;
use crate::{Error, Timestamp};

/// How many file numbers a manifest edit sets aside at once. Numbers below the bound that are lost with a crash are
/// never used (S29).
const NUMBERS_SET_ASIDE: u64 = 1 << 16;

/// What the commit lock guards: the order of commits.
#[derive(Debug)]
pub(crate) struct CommitState {
    pub(crate) next_sequence: Sequence,
    /// The highest timestamp reserved.
    pub(crate) last_timestamp: Timestamp,
    /// The highest `close_until`.
    pub(crate) closed: Timestamp,
    pub(crate) recent: Recent,
    /// The last sequence of the last late commit that was reserved.
    pub(crate) last_late: Sequence,
    pub(crate) prepared: PreparedTable,
}

impl CommitState {
    /// The last sequence that was reserved.
    pub(crate) fn reserved(&self) -> Sequence {
        self.next_sequence - 1
    }
}

/// The manifest, and the state that it describes.
pub(crate) enum ManifestCell {
    Writing(Box<Manifest>),
    /// Opened for reading only, or not able to write yet: what was recovered.
    Recovered(Box<ManifestState>),
}

impl ManifestCell {
    pub(crate) fn state(&self) -> &ManifestState {
        match self {
            Self::Writing(manifest) => manifest.state(),
            Self::Recovered(state) => state,
        }
    }
}

/// An open database.
pub(crate) struct Engine {
    /// Tells handles of one open database from those of another.
    pub(crate) identity: u64,
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    /// The same.
    pub(crate) database_fs: Arc<DatabaseFs>,
    pub(crate) time: Arc<dyn Time>,
    pub(crate) options: Options,
    pub(crate) store: Arc<TableStore>,
    pub(crate) current: Current,
    pub(crate) commit: Mutex<CommitState>,
    pub(crate) in_flight: InFlight,
    /// `None`: opened for reading only, or not able to write (see [`Engine::failure`]).
    log: ArcSwapOption<Log>,
    /// Where the next log begins, while there is none.
    pub(crate) next_log: Mutex<LogStart>,
    /// Held while a keyspace is made or dropped, while the floor of `Manual` ones is raised or a time is closed, and by
    /// `resume`.
    pub(crate) keyspaces: Mutex<()>,
    pub(crate) compaction_rate: Option<Mutex<RateLimiter>>,
    pub(crate) pressure: super::pressure::PressureGauge,
    pub(crate) manifest: Mutex<ManifestCell>,
    pub(crate) snapshots: Mutex<SnapshotRegistry>,
    pub(crate) background: Background,
    pub(crate) counters: Counters,
    /// Never falls.
    pub(crate) settled: Mutex<Settled>,
    /// The floor that all `Manual` keyspaces share.
    pub(crate) manual_floor: AtomicU64,
    /// The same for admission, raised before it (R1); keyspaces made meanwhile begin with it.
    pub(crate) manual_admission_floor: AtomicU64,
    /// The highest `close_until`, for readers; the commit lock's own is the one that decides.
    pub(crate) closed_timestamp: AtomicU64,
    /// The highest "now" that a read has judged an expiry by; it never goes back.
    latest_now: AtomicU64,
    next_file: AtomicU64,
    file_bound: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<Arc<Error>>>,
    ended: AtomicBool,
    pub(crate) lock: Mutex<Option<Box<dyn FileLock>>>,
}

/// What [`Engine::new`] starts from.
pub(crate) struct Parts {
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<DatabaseFs>,
    pub(crate) options: Options,
    pub(crate) store: Arc<TableStore>,
    pub(crate) current: Current,
    pub(crate) commit: CommitState,
    pub(crate) manifest: ManifestCell,
    pub(crate) next_file: FileNumber,
    pub(crate) next_log: LogStart,
    pub(crate) lock: Option<Box<dyn FileLock>>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        static IDENTITIES: ProcessCount = ProcessCount::new(1);
        let manual_floor = parts.manifest.state().manual_floor;
        let counters = Counters::default();
        for keyspace in parts.current.world().keyspaces() {
            let sealed = keyspace.sealed.iter().map(|mem| mem.charged() as u64).sum();
            counters.sealed_bytes.fetch_add(sealed, Ordering::Relaxed);
            counters.buffered_bytes.fetch_add(keyspace.active.charged() as u64, Ordering::Relaxed);
        }
        let file_bound = parts.manifest.state().file_number_bound.0;
        Self {
            identity: IDENTITIES.fetch_add(1, Ordering::Relaxed),
            dir: parts.dir,
            fs: Arc::clone(&parts.fs) as Arc<dyn Fs>,
            database_fs: parts.fs,
            time: Arc::clone(&parts.options.time),
            background: Background::new(&parts.options),
            store: parts.store,
            current: parts.current,
            closed_timestamp: AtomicU64::new(parts.commit.closed),
            commit: Mutex::new(parts.commit),
            in_flight: InFlight::default(),
            log: ArcSwapOption::empty(),
            next_log: Mutex::new(parts.next_log),
            keyspaces: Mutex::new(()),
            compaction_rate: parts.options.compaction_bytes_per_second.map(|rate| Mutex::new(RateLimiter::new(rate))),
            pressure: super::pressure::PressureGauge::default(),
            snapshots: Mutex::default(),
            counters,
            settled: Mutex::default(),
            manual_floor: AtomicU64::new(manual_floor),
            manual_admission_floor: AtomicU64::new(manual_floor),
            latest_now: AtomicU64::new(0),
            next_file: AtomicU64::new(parts.next_file.0),
            file_bound: AtomicU64::new(file_bound),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            ended: AtomicBool::new(false),
            options: parts.options,
            lock: Mutex::new(parts.lock),
            manifest: Mutex::new(parts.manifest),
        }
    }

    // ---- state of the whole ----

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.ended.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether anything may be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_sound()
    }

    /// Whether no background failure stands.
    pub(crate) fn check_sound(&self) -> Result<()> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.failure().map_or(Ok(()), |failure| Err(Error::Background(failure)))
    }

    pub(crate) fn failure(&self) -> Option<Arc<Error>> {
        self.failure.lock().clone()
    }

    /// From here on the database serves reads and refuses writes (L2). The first failure stays.
    pub(crate) fn fail(&self, error: Error) -> Error {
        self.fail_if(error, || true)
    }

    /// The same if `concerned` says so, while no `resume` can have cleared the failure in between.
    fn fail_if(&self, error: Error, concerned: impl FnOnce() -> bool) -> Error {
        let mut failure = self.failure.lock();
        if !concerned() {
            return error;
        }
        let error = match error {
            Error::Background(first) => first,
            error => Arc::new(error),
        };
        let first = Arc::clone(failure.get_or_insert_with(|| {
            tracing::error!(%error, "the database turns read-only");
            error
        }));
        self.failed.store(true, Ordering::Release);
        drop(failure);
        self.background.wake_all();
        Error::Background(first)
    }

    /// `resume` has put everything right.
    pub(crate) fn clear_failure(&self) {
        let mut failure = self.failure.lock();
        *failure = None;
        self.failed.store(false, Ordering::Release);
    }

    /// Ends every handle; `false` if that was done before.
    pub(crate) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    // ---- time ----

    /// The time by which latest reads judge an expiry, for a horizon's last timestamp.
    pub(crate) fn now(&self, last_timestamp: Timestamp) -> Timestamp {
        if self.options.clock == Clock::Counter {
            return last_timestamp;
        }
        let passed = self.latest_now.load(Ordering::Relaxed);
        let now = self.options.clock.now(last_timestamp, passed, self.time.unix_millis());
        self.latest_now.fetch_max(now, Ordering::Relaxed).max(now)
    }

    // ---- files and the manifest ----

    /// A file number that was never used and never will be again.
    pub(crate) fn allocate_file(&self) -> Result<FileNumber> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        if number >= self.file_bound.load(Ordering::Acquire) {
            return Err(Error::Busy {
                reason: "file numbers are used up faster than the manifest sets them aside".into(),
            });
        }
        Ok(FileNumber(number))
    }

    /// The bound that a new manifest should set aside.
    pub(crate) fn number_bound_above(number: FileNumber) -> FileNumber {
        FileNumber(number.0.saturating_add(NUMBERS_SET_ASIDE).min(COUNTER_LIMIT - 1))
    }

    /// Sets numbers aside in memory; a manifest that says so is about to be written.
    pub(crate) fn set_numbers_aside(&self) -> FileNumber {
        let bound = Self::number_bound_above(self.next_file_number());
        self.file_bound.fetch_max(bound.0, Ordering::AcqRel);
        bound
    }

    /// Whether the next edit sets more numbers aside. What may go on without one for long makes one.
    pub(crate) fn numbers_run_low(&self) -> bool {
        let (used, bound) = (self.next_file.load(Ordering::Relaxed), self.file_bound.load(Ordering::Acquire));
        bound.saturating_sub(used) < NUMBERS_SET_ASIDE / 2
    }

    /// Every file made from now on has this number or a higher one.
    pub(crate) fn next_file_number(&self) -> FileNumber {
        FileNumber(self.next_file.load(Ordering::Relaxed))
    }

    /// Makes one edit durable, then lets `install` change the world accordingly, all in the order of edits. If it
    /// cannot be made durable the database fails: whether the edit is on disk is not known then, so nothing that it
    /// names may be removed (L3). What `install` holds is let go after the world has changed.
    pub(crate) fn edit<Held>(
        &self,
        build: impl FnOnce(&ManifestState) -> Result<Edit>,
        install: impl FnOnce(&World) -> Result<(World, Held)>,
    ) -> Result<()> {
        let mut cell = self.manifest.lock();
        let mut edit = build(cell.state())?;
        let mut bound = self.file_bound.load(Ordering::Acquire);
        if self.numbers_run_low() {
            bound = Self::number_bound_above(self.next_file_number()).0;
            edit.push(Change::FileNumberBound { bound: FileNumber(bound) });
        }
        let ManifestCell::Writing(manifest) = &mut *cell else {
            return self.check_writable().and(Err(Error::ReadOnly));
        };
        self.check_sound()?;
        manifest.append(&edit).map_err(|error| self.fail(error))?;
        self.file_bound.fetch_max(bound, Ordering::AcqRel);
        self.current.change(install).map(drop)?;
        if manifest.should_rotate() {
            self.rotate(manifest).map_err(|error| self.fail(error))?;
        }
        // The log proves the manifest's length, so that a manifest cut short later is noticed (S28). Still under the
        // lock: `close` takes it last, so nothing is appended to a log that another opening may be reading already.
        let Some(log) = self.log.load_full() else { return Ok(()) };
        let records = keyspace_records(&edit, manifest.state());
        let noted = log.mark_manifest(&manifest.mark()).and_then(|_| log_keyspaces(&log, records));
        match noted {
            // Closed in order: the log's end is proved otherwise.
            Ok(()) | Err(Error::Closed) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn rotate(&self, manifest: &mut Manifest) -> Result<()> {
        let old = FileKind::Manifest.path(&self.dir, manifest.number());
        manifest.rotate(self.allocate_file()?)?;
        self.remove_quietly(Purpose::Manifest, &old);
        Ok(())
    }

    /// Removes a file that nothing names any more. If that fails it is an orphan, which the next opening removes.
    pub(crate) fn remove_quietly(&self, purpose: Purpose, path: &Path) {
        remove_quietly(&*self.fs, purpose, path);
    }

    // ---- the log ----

    /// The log that commits go to.
    pub(crate) fn log(&self) -> Result<Arc<Log>> {
        match self.log.load_full() {
            Some(log) => Ok(log),
            // Where nothing is wrong any more `resume` has put one in place meanwhile.
            None => self.check_writable().and_then(|()| self.log_if_any().ok_or(Error::ReadOnly)),
        }
    }

    /// Does something with the log that commits go to, without touching a shared counter.
    pub(crate) fn with_log<T>(&self, act: impl FnOnce(&Arc<Log>) -> Result<T>) -> Result<T> {
        match &*self.log.load() {
            Some(log) => act(log),
            None => self.log().and_then(|log| act(&log)),
        }
    }

    /// Makes durable what was logged before `position`, unless it is already, and says what may be said of the log.
    pub(crate) fn sync_log(&self, position: LogPosition) -> Result<Proof> {
        let log = self.log()?;
        if self.settled.lock().log_end < position {
            log.sync_through(position).map_err(|error| self.fail_log(&log, error))?;
        }
        Ok(log.proof())
    }

    /// A call on `log` has failed. Where that log was replaced by `resume` meanwhile the database has not.
    pub(crate) fn fail_log(&self, log: &Arc<Log>, error: Error) -> Error {
        self.fail_if(error, || self.log_if_any().is_none_or(|current| Arc::ptr_eq(&current, log)))
    }

    pub(crate) fn log_if_any(&self) -> Option<Arc<Log>> {
        self.log.load_full()
    }

    /// Where a new log would begin.
    pub(crate) fn log_successor(&self) -> LogStart {
        self.log_if_any().map_or_else(|| *self.next_log.lock(), |log| log.successor())
    }

    pub(crate) fn set_log(&self, log: Option<Arc<Log>>) {
        self.log.store(log);
    }

    // ---- keyspaces ----

    /// The keyspaces that flushes and merges of this moment see.
    pub(crate) fn world(&self) -> Arc<World> {
        self.current.world()
    }

    pub(crate) fn keyspace_core(&self, id: KeyspaceId) -> Option<Arc<KeyspaceCore>> {
        self.world().get(id).map(|keyspace| Arc::clone(&keyspace.core))
    }
}

/// As [`Engine::remove_quietly`].
pub(crate) fn remove_quietly(fs: &dyn Fs, purpose: Purpose, path: &Path) {
    if let Err(error) = fs.remove(purpose, path) {
        tracing::warn!(path = %path.display(), %error, "a file that is no longer needed could not be removed");
    }
}

/// Appends what the log is to say of keyspaces.
pub(crate) fn log_keyspaces(log: &Log, records: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Result<()> {
    records.into_iter().try_for_each(|(flags, payload)| log.append(log::KEYSPACE, flags, &[&payload]).map(drop))
}
