//! Opening a database: what is on disk becomes the engine's state, and the disk is made ready for writing.
//!
//! The first part only reads ([`recover`]): the manifest's state, the log replayed behind it into memtables. The second
//! writes ([`Engine::start_writing`]), and each step makes durable what the next one relies on (L1, L3):
//!
//! 1. write the log's tail anew, what nothing proves synced, into new segments, and sync them: the old ones may be in
//!    the page cache only, and a sync of them may succeed without writing (L2);
//! 2. write a new manifest with the state, with the cut if there was a tail, and with fresh file numbers set aside, and
//!    switch `CURRENT` to it: from here on the old tail does not exist;
//! 3. remove what nothing names: orphans of a crash, dead segments, older manifests;
//! 4. begin a new log segment, if step 1 had nothing to do; nothing is ever appended to an old one.
//!
//! Nothing is flushed, but for a log that lies in very many segments, and that in the background. Where the disk is full
//! the second part fails; the database opens all the same, serves reads, and `resume` tries again (S26). A read-only
//! opening ends after the first part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Db;
use super::batch::Operations;
use super::commit::{insert, operation_cost};
use super::condition::Recent;
use super::current::{Current, Horizon};
use super::engine::{CommitState, Engine, ManifestCell, Parts, log_keyspaces};
use super::flush::FlushUnit;
use super::handle::Session;
use super::keyspace::KeyspaceCore;
use super::origin::records_of_unwritten;
use super::prepared::PreparedTable;
use super::record::{Logged, LoggedCommit};
use super::retention::Settled;
use super::world::{KeyspaceVersion, Mem, World, tree_of};
use crate::error::AtPath;
use crate::format::{COUNTER_LIMIT, FileKind, FileNumber, Reason, parse_file_name};
use crate::fs::{DatabaseFs, DirEntry, FileLock, Fs, Purpose, StdFs};
use crate::log::{self, Expectation, Log, LogEnv, LogPosition, LogStart, Proof, RecordRef, Recovered};
use crate::manifest::{self, Change, Edit, KeyspaceId, Loaded, Manifest, ManifestState};
use crate::options::Options;
use crate::sync::Arc;
use crate::table::{BlockCache, TableStore};
use crate::version::{Sequence, Stamp};
use crate::{Error, Result, Timestamp};

impl Options {
    /// Opens the database in `dir`, or makes it.
    ///
    /// # Errors
    /// `Io` (`NotFound`) if there is none and it may not be made; `InvalidArgument` if there is one and
    /// [`error_if_exists`](Self::error_if_exists) is set, or an option makes no sense; `Locked` while another handle,
    /// in any process, has it open for writing; `Corruption` and `UnsupportedFormat` for what is on disk; `Io`.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Db> {
        self.validate()?;
        let dir = dir.as_ref().to_owned();
        let fs = self.fs.clone().unwrap_or_else(|| Arc::new(StdFs));
        let lock = if self.read_only { None } else { Some(self.take(&*fs, &dir)?) };
        let (recovered, parts) = self.recover(Arc::new(DatabaseFs::new(fs)), dir, lock)?;
        let engine = Arc::new(Engine::new(parts));
        engine.hold_for_prepared();
        if !engine.options.read_only {
            for unit in recovered.units {
                engine.background.enqueue_flush(unit);
            }
            match engine.start_writing(&recovered.log) {
                Ok(()) => engine.gather_log()?,
                Err(error) if is_full(&error) => drop(engine.fail(error)),
                Err(error) => return Err(error),
            }
            engine.start_threads().inspect_err(|_| {
                // First, for what is queued will never be done, and closing would wait for it.
                engine.stop_background();
                drop(engine.close());
            })?;
        }
        Ok(Db::new(Session::new(engine)))
    }

    /// Removes the database in `dir`: its files, and the directory if nothing else is in it. No database there is no
    /// error.
    ///
    /// # Errors
    /// `Locked` while it is open for writing; `Io`.
    pub fn destroy(self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let fs = self.fs.clone().unwrap_or_else(|| Arc::new(StdFs));
        if !exists(&*fs, dir)? {
            return Ok(());
        }
        let lock = take_lock(&*fs, dir)?;
        // The name by which everything is found goes last: after a crash the rest can be removed by another call.
        let mut entries = fs.list(Purpose::Directory, dir).at_path(dir)?;
        entries.sort_by_key(|entry| entry.name == manifest::CURRENT);
        for entry in &entries {
            let path = dir.join(&entry.name);
            let ours = parse_file_name(&entry.name).is_some()
                || [manifest::CURRENT, manifest::CURRENT_TEMPORARY].contains(&entry.name.as_str());
            if entry.is_file && ours {
                if entry.name == manifest::CURRENT {
                    fs.sync_dir(Purpose::Directory, dir).at_path(dir)?;
                }
                fs.remove(Purpose::Directory, &path).at_path(&path)?;
            }
        }
        let path = dir.join(LOCK);
        fs.remove(Purpose::Lock, &path).at_path(&path)?;
        drop(lock);
        if fs.list(Purpose::Directory, dir).at_path(dir)?.is_empty() {
            fs.remove_dir(Purpose::Directory, dir).at_path(dir)?;
        }
        Ok(())
    }

    /// Makes the directory if it may be made, and takes its lock.
    fn take(&self, fs: &dyn Fs, dir: &Path) -> Result<Box<dyn FileLock>> {
        if self.create_if_missing {
            fs.create_dir(Purpose::Directory, dir).at_path(dir)?;
        } else if !exists(fs, dir)? {
            return Err(missing(dir));
        }
        take_lock(fs, dir)
    }

    /// Reads what is on disk. Without the lock a writer may have moved on between one file and the next: then it is
    /// read again.
    fn recover(self, fs: Arc<DatabaseFs>, dir: PathBuf, lock: Option<Box<dyn FileLock>>) -> Result<(Rest, Parts)> {
        let any = Arc::clone(&fs) as Arc<dyn Fs>;
        let mut tries = if self.read_only { READ_ONLY_TRIES } else { 1 };
        loop {
            tries -= 1;
            let read = manifest::load(&*any, &dir).and_then(|loaded| {
                self.check_existence(&dir, loaded.is_some())?;
                read_state(&self, &any, &dir, loaded)
            });
            match read {
                Err(Error::Corruption { .. } | Error::Io { .. }) if tries > 0 => {}
                read => return read.map(|found| found.into_parts(self, fs, dir, lock)),
            }
        }
    }

    fn check_existence(&self, dir: &Path, is_there: bool) -> Result<()> {
        if !is_there && (self.read_only || !self.create_if_missing) {
            return Err(missing(dir));
        }
        if is_there && self.error_if_exists {
            return Err(Error::invalid(format!("there is a database at {} already", dir.display())));
        }
        Ok(())
    }
}

const LOCK: &str = "LOCK";

/// No segment is made smaller, whatever the options say.
const LEAST_SEGMENT_BYTES: u64 = 4096;

/// How often files are read that a writer may be changing.
pub(crate) const READ_ONLY_TRIES: u32 = 4;

pub(crate) fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn FileLock>> {
    let path = dir.join(LOCK);
    match fs.lock(Purpose::Lock, &path) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(Error::Locked { path: dir.to_owned() }),
        taken => taken.at_path(&path),
    }
}

/// Whether there is something that says it is a database.
fn exists(fs: &dyn Fs, dir: &Path) -> Result<bool> {
    let entries = fs.list(Purpose::Directory, dir).or_else(none_if_missing).at_path(dir)?;
    Ok(entries.iter().any(|entry| entry.name == manifest::CURRENT))
}

pub(crate) fn missing(dir: &Path) -> Error {
    Error::io(dir, std::io::Error::new(std::io::ErrorKind::NotFound, "there is no database"))
}

pub(crate) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => {
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        }
        Error::Background(first) => is_full(first),
        _ => false,
    }
}

/// What recovery leaves to be done.
struct Rest {
    log: Recovered,
    /// Memtables that were full before the log's end.
    units: Vec<FlushUnit>,
}

/// What is on disk, read.
struct Found {
    state: ManifestState,
    store: Arc<TableStore>,
    world: World,
    horizon: Horizon,
    prepared: PreparedTable,
    /// Above the number of every file in the directory.
    above_all: FileNumber,
    rest: Rest,
}

/// Reads everything that an open database needs, and writes nothing.
fn read_state(options: &Options, fs: &Arc<dyn Fs>, dir: &Path, loaded: Option<Loaded>) -> Result<Found> {
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes as u64));
    let store = TableStore::new(Arc::clone(fs), dir.to_owned(), cache, options.max_open_files);
    let state = loaded.as_ref().map_or_else(fresh_state, |loaded| loaded.state.clone());
    let synced = state.log.synced();
    if let Some(loaded) = &loaded
        && let Some(ahead) = state.ahead_of(synced)
    {
        // Commits to come would count as covered by its tables, and not be replayed (L4, L5).
        let reason = format!("{ahead} covers more of the log than was synced");
        return Err(Error::corruption(FileKind::Manifest.path(dir, loaded.number), 0, reason));
    }
    let prepared = PreparedTable::known(&state.prepared, state.next_keyspace_id).map_err(|reason| {
        let number = loaded.as_ref().map_or(FileNumber(0), |loaded| loaded.number);
        Error::corruption(FileKind::Manifest.path(dir, number), 0, reason)
    })?;
    let mut replay = Replay::new(&state, &store, options.memtable_bytes, prepared);
    let log = log::recover(&**fs, dir, &expectation(&state), &mut |record| replay.apply(&record, dir));
    let log = log.map_err(|error| whose_fault(&**fs, dir, loaded.as_ref(), error))?;
    if let (Some(loaded), Some((number, len))) = (&loaded, log.manifest_proof) {
        loaded.check_proof(number, len)?;
    }
    let horizon = Horizon { sequence: replay.sequence, last_timestamp: replay.last_timestamp };
    let (world, units, prepared) = (replay.world(), replay.units, replay.prepared);
    let above_all = number_above_all(&**fs, dir)?;
    Ok(Found { state, store, world, horizon, prepared, above_all, rest: Rest { log, units } })
}

/// What is to be said of a log that is not what the manifest expects: if its marks show that the manifest is not whole,
/// or not the newest, that is what is damaged.
pub(crate) fn whose_fault(fs: &dyn Fs, dir: &Path, loaded: Option<&Loaded>, error: Error) -> Error {
    let (Some(loaded), Error::Corruption { .. }) = (loaded, &error) else { return error };
    match log::marks(fs, dir).map(|marks| marks.furthest) {
        Ok(Some((number, len))) => loaded.check_proof(number, len).err().unwrap_or(error),
        _ => error,
    }
}

impl Found {
    fn into_parts(
        self,
        options: Options,
        fs: Arc<DatabaseFs>,
        dir: PathBuf,
        lock: Option<Box<dyn FileLock>>,
    ) -> (Rest, Parts) {
        let commit = CommitState {
            next_sequence: self.horizon.sequence + 1,
            last_timestamp: self.horizon.last_timestamp,
            closed: self.state.closed,
            recent: Recent::default(),
            last_late: 0,
            prepared: self.prepared,
        };
        let parts = Parts {
            dir,
            fs,
            options,
            store: self.store,
            current: Current::new(self.world, self.horizon),
            commit,
            next_file: self.state.file_number_bound.max(self.above_all),
            next_log: LogStart { position: self.rest.log.end, ..self.rest.log.next },
            manifest: ManifestCell::Recovered(Box::new(self.state)),
            lock,
        };
        (self.rest, parts)
    }
}

fn fresh_state() -> ManifestState {
    let mut state = ManifestState::default();
    state.log.start_ordinal = 1;
    state
}

/// What the manifest knows of the log.
pub(crate) fn expectation(state: &ManifestState) -> Expectation {
    let start = LogStart { ordinal: state.log.start_ordinal, position: LogPosition(state.log.start_position) };
    Expectation { start, cuts: state.log.cuts.clone(), proved: state.log.proved }
}

/// A number above that of every file in the directory.
fn number_above_all(fs: &dyn Fs, dir: &Path) -> Result<FileNumber> {
    let mut above = 1;
    for entry in fs.list(Purpose::Directory, dir).or_else(none_if_missing).at_path(dir)? {
        if let Some((_, number)) = parse_file_name(&entry.name) {
            if number.0 >= COUNTER_LIMIT - 1 {
                let reason = "no file has a number above the one of this name";
                return Err(Error::corruption(dir.join(&entry.name), 0, reason));
            }
            above = above.max(number.0 + 1);
        }
    }
    Ok(FileNumber(above))
}

fn none_if_missing(error: std::io::Error) -> std::io::Result<Vec<DirEntry>> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) }
}

/// The log on its way into memtables.
struct Replay<'a> {
    state: &'a ManifestState,
    keyspaces: BTreeMap<KeyspaceId, KeyspaceVersion>,
    memtable_bytes: usize,
    sequence: Sequence,
    last_timestamp: Timestamp,
    units: Vec<FlushUnit>,
    prepared: PreparedTable,
}

impl<'a> Replay<'a> {
    fn new(state: &'a ManifestState, store: &Arc<TableStore>, memtable_bytes: usize, prepared: PreparedTable) -> Self {
        let keyspaces = state.keyspaces.iter().map(|(id, keyspace)| {
            let floor = state.floor(keyspace);
            let core = KeyspaceCore::new(*id, keyspace.name.clone(), keyspace.options.clone(), floor);
            let version = KeyspaceVersion {
                core: Arc::new(core),
                active: Arc::new(Mem::new()),
                sealed: Vec::new(),
                tree: tree_of(&keyspace.tables, store),
            };
            (*id, version)
        });
        // After a crash no floor stands above the last timestamp.
        let floors = state.keyspaces.values().map(|keyspace| state.floor(keyspace)).max();
        Self {
            keyspaces: keyspaces.collect(),
            memtable_bytes,
            sequence: 0,
            last_timestamp: [state.manual_floor, floors.unwrap_or(0), prepared.highest_start().unwrap_or(0)]
                .into_iter()
                .fold(state.last_timestamp, Timestamp::max),
            units: Vec::new(),
            prepared,
            state,
        }
    }

    fn apply(&mut self, record: &RecordRef<'_>, dir: &Path) -> Result<()> {
        let damaged = |reason: Reason| {
            let path = FileKind::Log.path(dir, record.segment);
            Error::corruption(path, record.offset, format!("in a log record: {reason}"))
        };
        let logged = Logged::read(record).map_err(damaged)?;
        if record.position.0 >= self.state.prepared.log_position {
            self.prepared.replay(&logged, record.end, self.state.next_keyspace_id).map_err(damaged)?;
            self.last_timestamp = self.last_timestamp.max(self.prepared.highest_start().unwrap_or(0));
        }
        let Logged::Commit(LoggedCommit { timestamp, late, operations, .. }) = logged else { return Ok(()) };
        self.last_timestamp = self.last_timestamp.max(timestamp);
        self.sequence += 1;
        for op in Operations::new(operations) {
            let op = op.map_err(|error| damaged(error.reason))?;
            let id = KeyspaceId(op.keyspace);
            let Some(keyspace) = self.keyspaces.get(&id) else {
                if id >= self.state.next_keyspace_id {
                    return Err(damaged("names a keyspace that never was".into()));
                }
                continue; // It was dropped.
            };
            let covered = self.state.keyspaces.get(&id).map_or(0, |keyspace| keyspace.log_position);
            if record.position.0 >= covered {
                self.sequence += 1;
                let stamp = Stamp { timestamp, sequence: self.sequence, late };
                keyspace.active.expect_logged(record.position);
                keyspace.active.charge(operation_cost(&op.kind));
                insert(&keyspace.active.entries, op.kind, stamp, Bytes::copy_from_slice);
            }
        }
        self.seal_full(record.end);
        Ok(())
    }

    /// Between records: what is full is sealed, to be flushed later.
    fn seal_full(&mut self, log_end: LogPosition) {
        let full = |keyspace: &KeyspaceVersion| keyspace.active.charged() >= self.memtable_bytes;
        let ids: Vec<_> = self.keyspaces.iter().filter(|(_, one)| full(one)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(keyspace) = self.keyspaces.get_mut(&id) {
                let mems = vec![(id, Arc::clone(&keyspace.active))];
                *keyspace = keyspace.with_sealed();
                self.units.push(FlushUnit::replayed(self.sequence, log_end, self.last_timestamp, mems));
            }
        }
    }

    fn world(&self) -> World {
        self.keyspaces.values().fold(World::default(), |world, keyspace| world.with(keyspace.clone()))
    }
}

impl Engine {
    /// The second part of opening; see the top of this file.
    fn start_writing(self: &Arc<Self>, found: &Recovered) -> Result<()> {
        let (proved, end) = (found.next.position.0, found.end.0);
        tracing::debug!(clean = found.clean, proved, end, "log replayed");
        let mut cell = self.manifest.lock();
        let mut state = cell.state().clone();
        state.file_number_bound = self.set_numbers_aside();
        if let Some(cut) = found.cut {
            state = state.after(&Edit::from(vec![Change::LogCut(cut)]))?;
        }
        let number = self.allocate_file()?;
        let copied = if found.has_tail() { Some(self.copy_tail(found)?) } else { None };
        let proof = copied.as_ref().map_or_else(|| found.proof(), |log| log.proof());
        let proved = &mut state.log.proved;
        *proved = Proof { ordinal: proved.ordinal.max(proof.ordinal), position: proved.position.max(proof.position) };
        let manifest = Manifest::prepare(Arc::clone(&self.fs), &self.dir, number, state)
            .inspect_err(|_| copied.iter().for_each(|log| self.give_up_copy(log, found)))?;
        // From an error of this on `CURRENT` may name it, so nothing that it names may be removed (L3).
        manifest.take_over()?;
        self.remove_orphans(|kind, number| match kind {
            FileKind::Table => !manifest.state().has_table(number),
            FileKind::Log => found.dead.contains(&number),
            FileKind::Manifest => number != manifest.number(),
        })?;
        let begun = match copied {
            Some(log) => log,
            None => self.begin_next_log(found)?,
        };
        let timestamp = self.current.horizon().last_timestamp;
        self.settled.lock().rise(Settled { timestamp, log_end: begun.synced() });
        begun.mark_manifest(&manifest.mark())?;
        log_keyspaces(&begun, records_of_unwritten(manifest.state()))?;
        *cell = ManifestCell::Writing(Box::new(manifest));
        self.set_log(Some(begun));
        Ok(())
    }

    /// The log that goes on behind what was found proved.
    fn begin_next_log(self: &Arc<Self>, found: &Recovered) -> Result<Arc<Log>> {
        // Should it not come into use its ordinal is spent all the same.
        self.next_log.lock().ordinal = found.next.ordinal.saturating_add(1);
        self.begin_log(found.next, found.kept())
    }

    /// The same, with the tail in it, on stable storage.
    fn copy_tail(self: &Arc<Self>, found: &Recovered) -> Result<Arc<Log>> {
        let log = self.begin_next_log(found)?;
        let copied = log::copy_tail(&*self.fs, &self.dir, found, &log);
        self.next_log.lock().ordinal = log.successor().ordinal;
        copied.inspect_err(|_| self.give_up_copy(&log, found))?;
        Ok(log)
    }

    /// Removes what [`copy_tail`](Self::copy_tail) has begun: nothing names it, and a full disk needs the room.
    fn give_up_copy(&self, log: &Log, found: &Recovered) {
        for segment in log.segments().iter().filter(|segment| segment.ordinal >= found.next.ordinal) {
            self.remove_quietly(Purpose::Log, &FileKind::Log.path(&self.dir, segment.number));
        }
    }

    pub(crate) fn begin_log(self: &Arc<Self>, start: LogStart, live: Vec<log::SegmentInfo>) -> Result<Arc<Log>> {
        let engine = Arc::downgrade(self);
        let new_number = move || engine.upgrade().map_or(Err(Error::Closed), |engine| engine.allocate_file());
        let env = LogEnv {
            fs: Arc::clone(&self.fs),
            dir: self.dir.clone(),
            // Only whole segments are freed, so the limit of the log takes several.
            segment_bytes: (self.options.wal_segment_bytes as u64)
                .min(self.options.wal_bytes / 4)
                .max(LEAST_SEGMENT_BYTES),
            new_number: Box::new(new_number),
        };
        Ok(Arc::new(Log::create(env, start, live)?))
    }

    /// Removes numbered files that neither the manifest nor the log names: what a crash, or a failure, left behind
    /// (S29).
    pub(crate) fn remove_orphans(&self, is_orphan: impl Fn(FileKind, FileNumber) -> bool) -> Result<()> {
        for entry in self.fs.list(Purpose::Directory, &self.dir).at_path(&self.dir)? {
            let orphan = parse_file_name(&entry.name).is_some_and(|(kind, number)| is_orphan(kind, number));
            if orphan && entry.is_file {
                self.remove_quietly(Purpose::Directory, &self.dir.join(&entry.name));
            }
        }
        Ok(())
    }
}
