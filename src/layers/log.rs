//! The write-ahead log, appended to as commits do.

use std::path::Path;

use crate::format::FileNumber;
use crate::fs::{Fs, Purpose};
use crate::log::{self, COMMIT, LogEnv, LogPosition, LogStart};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::{Result, Timestamp};

/// A log that is written.
pub struct Log(log::Log);

impl Log {
    /// A new log in a directory, which is made if need be, in segments of the usual size.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self> {
        fs.create_dir(Purpose::Directory, dir).map_err(|error| crate::Error::io(dir, error))?;
        let numbers = AtomicU64::new(1);
        let env = LogEnv {
            fs: Arc::clone(fs),
            dir: dir.to_owned(),
            segment_bytes: 64 << 20,
            new_number: Box::new(move || Ok(FileNumber(numbers.fetch_add(1, Ordering::Relaxed)))),
        };
        log::Log::create(env, LogStart { ordinal: 1, position: LogPosition(0) }, Vec::new()).map(Self)
    }

    /// Appends the record of a commit: after this it survives the process.
    ///
    /// # Errors
    /// The file system's.
    pub fn append(&self, timestamp: Timestamp, batch: &[u8]) -> Result<()> {
        self.0.append(COMMIT, 0, &[&timestamp.to_le_bytes(), batch]).map(drop)
    }

    /// The same, and waits until the record is on stable storage.
    ///
    /// # Errors
    /// The file system's.
    pub fn append_synced(&self, timestamp: Timestamp, batch: &[u8]) -> Result<()> {
        let end = self.0.append(COMMIT, 0, &[&timestamp.to_le_bytes(), batch])?;
        self.0.sync_through(end)
    }

    /// How many bytes of records it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.live_bytes()
    }
}
