//! A file system that fails when told to, and keeps a record of what was asked of it.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{DirEntry, FileLock, Fs, LogFile, MemFs, Purpose, ReadFile, WriteFile, failed_before};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a file for reading.
    Open,
    /// Making a file, a log included.
    Create,
    /// Reading.
    Read,
    /// Asking an open file for its length.
    Len,
    /// Appending.
    Append,
    /// Making a file's content durable.
    Sync,
    /// Cutting off the room behind a log.
    Truncate,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing a directory.
    List,
    /// Making a directory.
    CreateDir,
    /// Removing a directory.
    RemoveDir,
    /// Making a directory's names durable.
    SyncDir,
    /// Taking a lock.
    Lock,
}

/// One call, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// What it was for.
    pub purpose: Purpose,
    /// What it did.
    pub operation: Operation,
    /// The file's or directory's name, without the directories above; of a rename, both names.
    pub file: String,
    /// Where reading or appending started; 0 for anything else.
    pub offset: u64,
    /// How many bytes were read or appended, or the capacity of a log that was made; 0 for anything else.
    pub len: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {} {}+{}", self.purpose, self.operation, self.file, self.offset, self.len)
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The device failed. Half of an append may have been written.
    Io,
    /// The disk is full.
    StorageFull,
}

impl FaultKind {
    fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::other("injected I/O error"),
            Self::StorageFull => io::Error::new(ErrorKind::StorageFull, "injected: the disk is full"),
        }
    }
}

/// Which calls are to fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Only calls for this purpose; `None`: for any.
    pub purpose: Option<Purpose>,
    /// Only calls that do this; `None`: whatever they do.
    pub operation: Option<Operation>,
    /// Which of the calls that match from now on, counted from 0.
    pub nth: u64,
    /// What happens to it.
    pub kind: FaultKind,
    /// Whether all later ones fail as well.
    pub repeat: bool,
}

/// A fault that waits, with the number of matching calls to let pass.
struct Waiting {
    fault: Fault,
    left: u64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    trace: Option<Vec<Call>>,
}

#[derive(Default)]
struct Desk {
    calls: AtomicU64,
    state: Mutex<State>,
}

impl Desk {
    /// Every call passes here before it goes on.
    fn pass(&self, call: impl FnOnce() -> Call, purpose: Purpose, operation: Operation) -> Result<(), FaultKind> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let state = &mut *self.state.lock();
        if let Some(trace) = &mut state.trace {
            trace.push(call());
        }
        let mut failure = None;
        state.waiting.retain_mut(|waiting| {
            let fault = waiting.fault;
            let matches = fault.purpose.is_none_or(|p| p == purpose) && fault.operation.is_none_or(|o| o == operation);
            if !matches {
                return true;
            }
            if waiting.left > 0 {
                waiting.left -= 1;
                return true;
            }
            failure.get_or_insert(fault.kind);
            fault.repeat
        });
        failure.map_or(Ok(()), Err)
    }
}

/// Wraps a file system, fails chosen calls and records all of them. Clones share faults and record.
///
/// A file that an injected fault hit while it was appended to or synced stays failed: later appends and syncs fail as
/// well, as with the real files. A sync that was made to fail is told to the file system within
/// ([`Fs::sync_failed`]).
#[derive(Clone)]
pub struct FaultFs<F = MemFs> {
    inner: Arc<F>,
    desk: Arc<Desk>,
}

impl<F: Fs> FaultFs<F> {
    /// Lets everything pass, at first, and records nothing.
    #[must_use]
    pub fn new(inner: F) -> Self {
        Self { inner: Arc::new(inner), desk: Arc::default() }
    }

    /// The file system within.
    #[must_use]
    pub fn inner(&self) -> &F {
        &self.inner
    }

    /// Makes calls fail. Faults add up; of several that hit one call, the one injected first decides how it fails.
    pub fn inject(&self, fault: Fault) {
        self.desk.state.lock().waiting.push(Waiting { fault, left: fault.nth });
    }

    /// Takes all faults back. Files that failed stay failed.
    pub fn clear(&self) {
        self.desk.state.lock().waiting.clear();
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.desk.calls.load(Ordering::Acquire)
    }

    /// Starts a new record of calls, or stops recording.
    pub fn trace(&self, on: bool) {
        self.desk.state.lock().trace = on.then(Vec::new);
    }

    /// What was recorded since the last time, in order; recording goes on.
    #[must_use]
    pub fn take_trace(&self) -> Vec<Call> {
        self.desk.state.lock().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn pass(&self, purpose: Purpose, operation: Operation, path: &Path) -> io::Result<()> {
        self.spot(purpose, path).pass(operation, 0, 0).map_err(FaultKind::error)
    }

    /// The same for a sync of what is at `path`.
    fn pass_sync(&self, purpose: Purpose, operation: Operation, path: &Path) -> io::Result<()> {
        self.pass(purpose, operation, path).inspect_err(|_| self.inner.sync_failed(path))
    }

    fn progress(&self, purpose: Purpose, path: &Path) -> Progress {
        let (inner, of) = (Arc::clone(&self.inner), path.to_owned());
        Progress {
            spot: self.spot(purpose, path),
            appended: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            sync_failed: Box::new(move || inner.sync_failed(&of)),
        }
    }

    fn spot(&self, purpose: Purpose, path: &Path) -> Spot {
        Spot { desk: Arc::clone(&self.desk), purpose, file: name_of(path) }
    }
}

impl<F> fmt::Debug for FaultFs<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultFs").field("calls", &self.desk.calls).finish_non_exhaustive()
    }
}

impl<F: Fs> Fs for FaultFs<F> {
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.pass(purpose, Operation::Open, path)?;
        let inner = self.inner.open(purpose, path)?;
        Ok(Arc::new(FaultReadFile { inner, spot: self.spot(purpose, path) }))
    }

    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.pass(purpose, Operation::Create, path)?;
        let inner = self.inner.create(purpose, path)?;
        Ok(Box::new(FaultWriteFile { inner, progress: self.progress(purpose, path) }))
    }

    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        let progress = self.progress(purpose, path);
        progress.spot.pass(Operation::Create, 0, capacity).map_err(FaultKind::error)?;
        let inner = self.inner.create_log(purpose, path, capacity)?;
        Ok(Arc::new(FaultLogFile { inner, progress }))
    }

    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.pass_sync(purpose, Operation::Sync, path)?;
        self.inner.sync_file(purpose, path)
    }

    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        let file = format!("{} -> {}", name_of(from), name_of(to));
        let spot = Spot { desk: Arc::clone(&self.desk), purpose, file };
        spot.pass(Operation::Rename, 0, 0).map_err(FaultKind::error)?;
        self.inner.rename(purpose, from, to)
    }

    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.pass(purpose, Operation::Remove, path)?;
        self.inner.remove(purpose, path)
    }

    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.pass(purpose, Operation::List, dir)?;
        self.inner.list(purpose, dir)
    }

    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.pass(purpose, Operation::CreateDir, dir)?;
        self.inner.create_dir(purpose, dir)
    }

    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.pass(purpose, Operation::RemoveDir, dir)?;
        self.inner.remove_dir(purpose, dir)
    }

    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.pass_sync(purpose, Operation::SyncDir, dir)?;
        self.inner.sync_dir(purpose, dir)
    }

    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.pass(purpose, Operation::Lock, path)?;
        self.inner.lock(purpose, path)
    }

    fn sync_failed(&self, path: &Path) {
        self.inner.sync_failed(path);
    }
}

/// One file, at the desk.
struct Spot {
    desk: Arc<Desk>,
    purpose: Purpose,
    file: String,
}

impl Spot {
    fn pass(&self, operation: Operation, offset: u64, len: u64) -> Result<(), FaultKind> {
        let call = || Call { purpose: self.purpose, operation, file: self.file.clone(), offset, len };
        self.desk.pass(call, self.purpose, operation)
    }
}

struct FaultReadFile {
    inner: Arc<dyn ReadFile>,
    spot: Spot,
}

impl ReadFile for FaultReadFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.spot.pass(Operation::Read, offset, buf.len() as u64).map_err(FaultKind::error)?;
        self.inner.read_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.spot.pass(Operation::Len, 0, 0).map_err(FaultKind::error)?;
        self.inner.len()
    }
}

/// How far a file is written, and whether it failed.
struct Progress {
    spot: Spot,
    appended: AtomicU64,
    failed: AtomicBool,
    sync_failed: Box<dyn Fn() + Send + Sync>,
}

impl Progress {
    fn append(&self, bytes: &[u8], mut inner: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let offset = self.appended.load(Ordering::Acquire);
        self.pass(Operation::Append, offset, bytes.len() as u64).map_err(|failure| {
            if let Some(FaultKind::Io) = failure {
                // The call fails whether its first half gets to the file or not.
                let _ = inner(bytes.get(..bytes.len() / 2).unwrap_or_default());
            }
            failure.map_or_else(failed_before, FaultKind::error)
        })?;
        inner(bytes)?;
        self.appended.store(offset + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    fn change(&self, operation: Operation, inner: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.pass(operation, 0, 0).map_err(|failure| {
            if failure.is_some() && operation == Operation::Sync {
                (self.sync_failed)();
            }
            failure.map_or_else(failed_before, FaultKind::error)
        })?;
        inner()
    }

    /// What failed before fails again, with `None` to say why.
    fn pass(&self, operation: Operation, offset: u64, len: u64) -> Result<(), Option<FaultKind>> {
        let passed = self.spot.pass(operation, offset, len);
        if self.failed.load(Ordering::Acquire) {
            return Err(None);
        }
        passed.map_err(|kind| {
            self.failed.store(true, Ordering::Release);
            Some(kind)
        })
    }
}

struct FaultWriteFile {
    inner: Box<dyn WriteFile>,
    progress: Progress,
}

impl WriteFile for FaultWriteFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.progress.append(bytes, |bytes| self.inner.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.progress.change(Operation::Sync, || self.inner.sync())
    }
}

struct FaultLogFile {
    inner: Arc<dyn LogFile>,
    progress: Progress,
}

impl LogFile for FaultLogFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.progress.append(bytes, |bytes| self.inner.append(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.progress.change(Operation::Sync, || self.inner.sync())
    }

    fn truncate(&self) -> io::Result<()> {
        self.progress.change(Operation::Truncate, || self.inner.truncate())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
