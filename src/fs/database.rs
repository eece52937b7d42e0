//! The files of one open database.
//!
//! A file that failed stays failed by itself (L2). The directory has no such memory: each sync of it opens it anew, and
//! after one that failed the next succeeds, though it writes nothing of what the first was about. Others may rely on
//! just that: a flush whose sync of the directory fails takes along the name of a log segment that a commit waits for.
//! So here one failure is the failure of all, until what is still needed has been made anew.

use std::io;
use std::path::Path;

use super::{DirEntry, FileLock, Fs, LogFile, Purpose, ReadFile, WriteFile, failed_before};
use crate::sync::{Arc, Mutex};

pub(crate) struct DatabaseFs {
    fs: Arc<dyn Fs>,
    /// Whether a sync of the directory has failed. Held over each, so that none goes on beside one that fails.
    failed: Mutex<bool>,
}

impl DatabaseFs {
    pub(crate) fn new(fs: Arc<dyn Fs>) -> Self {
        Self { fs, failed: Mutex::new(false) }
    }

    /// Nothing that was named before will be relied on.
    pub(crate) fn begin_anew(&self) {
        *self.failed.lock() = false;
    }
}

impl Fs for DatabaseFs {
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.fs.open(purpose, path)
    }

    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.fs.create(purpose, path)
    }

    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        self.fs.create_log(purpose, path, capacity)
    }

    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.fs.sync_file(purpose, path)
    }

    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(purpose, from, to)
    }

    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.fs.remove(purpose, path)
    }

    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.fs.list(purpose, dir)
    }

    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.fs.create_dir(purpose, dir)
    }

    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.fs.remove_dir(purpose, dir)
    }

    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if *failed {
            return Err(failed_before());
        }
        self.fs.sync_dir(purpose, dir).inspect_err(|_| *failed = true)
    }

    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.fs.lock(purpose, path)
    }

    fn sync_failed(&self, path: &Path) {
        self.fs.sync_failed(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fault, FaultFs, FaultKind, MemFs, Operation, PowerCut};

    #[test]
    fn a_failed_sync_of_the_directory_is_not_taken_back_by_another_ones() {
        // S25
        let memory = MemFs::new();
        let faults = FaultFs::new(memory.clone());
        let fs = DatabaseFs::new(Arc::new(faults.clone()));
        let (flush, log, root) = (Purpose::Flush, Purpose::Log, Path::new("/"));
        drop(fs.create_log(log, Path::new("/1.log"), 10).unwrap());
        let operation = Some(Operation::SyncDir);
        faults.inject(Fault { purpose: Some(flush), operation, nth: 0, kind: FaultKind::Io, repeat: false });
        assert!(fs.sync_dir(flush, root).is_err());
        // By itself it would succeed, and the segment would have no name after a power cut.
        memory.sync_dir(log, root).unwrap();
        assert!(memory.power_cut(PowerCut::Lose).read_file("/1.log").is_err());
        assert!(fs.sync_dir(log, root).is_err());
        // What is made from now on is another matter.
        fs.begin_anew();
        drop(fs.create_log(log, Path::new("/2.log"), 10).unwrap());
        fs.sync_dir(log, root).unwrap();
        assert!(memory.power_cut(PowerCut::Lose).read_file("/2.log").is_ok());
    }
}
