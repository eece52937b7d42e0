//! The only door to the operating system.
//!
//! Everything the engine does with files goes through [`Fs`], and every call names its [`Purpose`], so that a test can
//! count, fail or lose exactly the calls it is about. [`StdFs`] is the operating system; [`MemFs`] keeps files in
//! memory and knows what was synced; [`FaultFs`] wraps either and fails or records calls.

#[cfg(test)]
#[forbid(unsafe_code)]
mod contract;
#[forbid(unsafe_code)]
mod database;
#[forbid(unsafe_code)]
mod fault;
#[cfg_attr(not(all(target_os = "linux", not(miri))), path = "unmapped.rs")]
mod mapped;
#[forbid(unsafe_code)]
mod mem;
#[forbid(unsafe_code)]
mod std_fs;
#[forbid(unsafe_code)]
mod std_log;

pub(crate) use database::DatabaseFs;
pub use fault::{Call, Fault, FaultFs, FaultKind, Operation};
pub use mem::{MemFs, PowerCut};
pub use std_fs::StdFs;

use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a file call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Purpose {
    /// The directory itself: listing, making, syncing.
    Directory,
    /// The lock file.
    Lock,
    /// `CURRENT` and the temporary file that becomes it.
    Current,
    /// The manifest.
    Manifest,
    /// Log segments.
    Log,
    /// A table that a flush writes.
    Flush,
    /// A table that a compaction writes.
    Compaction,
    /// A table that is read or removed.
    Table,
    /// A table that a repair writes, or a damaged file that it puts aside.
    Repair,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The file's name, without the directory. Names that are not UTF-8 are not listed.
    pub name: String,
    /// Whether it is a regular file (not a directory, a link or anything else).
    pub is_file: bool,
    /// Whether it is a directory (not a link to one).
    pub is_dir: bool,
    /// Its length in bytes.
    pub len: u64,
}

/// A file system.
///
/// Names become durable only by [`sync_dir`](Fs::sync_dir); contents only by the file's own `sync`. All methods may be
/// called from any thread. Files made are readable by their owner only; links are not followed at the last component.
pub trait Fs: Send + Sync + 'static {
    /// Opens an existing regular file for reading.
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>>;
    /// Makes a new file that is written from front to back. It must not exist.
    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Makes a new log file with room for `capacity` bytes. It must not exist. Its length as readers see it may be
    /// anything from what was appended up to the capacity; bytes that were not written read as zeros.
    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>>;
    /// Makes all that is in a file durable (not its name), whoever wrote it.
    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()>;
    /// Gives a file another name in the same directory, replacing what has it, atomically.
    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a directory and those above it, durably. One that is there already is no error.
    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()>;
    /// Takes the lock file at `path` (made if missing) for as long as the returned value lives. `WouldBlock`: somebody,
    /// in this or another process, has it.
    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>>;
    /// A wrapper has made a sync of the file or directory at `path` fail. What simulates files may then do what systems
    /// do: take what is not durable for written, so that a later sync succeeds and writes nothing of it. Where files
    /// are real there is nothing to do.
    fn sync_failed(&self, path: &Path) {
        let _ = path;
    }
}

/// A file open for reading at any place.
#[allow(clippy::len_without_is_empty, reason = "a call that can fail, not the size of a collection")]
pub trait ReadFile: Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// A new file that is written from front to back. Dropping it closes it, synced or not.
pub trait WriteFile: Send {
    /// Writes all of `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended durable (not the file's name).
    fn sync(&mut self) -> io::Result<()>;
}

/// A log file: appended to by one thread at a time, synced by any.
pub trait LogFile: Send + Sync {
    /// Writes all of `bytes` behind what was appended before; when this returns they survive the process. Calls must
    /// not overlap.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended before this call durable (not the file's name).
    fn sync(&self) -> io::Result<()>;
    /// Cuts off the room behind what was appended.
    fn truncate(&self) -> io::Result<()>;
}

/// A lock that is held while this lives.
pub trait FileLock: Send + Sync {}

/// What every call on a file gets that was appended to or synced in vain before: what the disk holds is unknown from
/// then on, and a second sync that succeeds would prove nothing (L2).
fn failed_before() -> io::Error {
    io::Error::other("an earlier write or sync of this file failed")
}

/// The two names of a rename must lie in one directory: a move between two could be half durable.
fn check_rename(from: &Path, to: &Path) -> io::Result<()> {
    if from.parent() == to.parent() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a rename stays in one directory"))
    }
}
