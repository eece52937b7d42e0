//! The simulated disk of a run: files in memory, with a sync that can be made to lie, or to take its time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use strandline::fs::{DirEntry, FileLock, LogFile, PowerCut, Purpose, ReadFile, WriteFile};
use strandline::{Fs, MemFs};

/// Which calls that make something durable do nothing, and say that they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Syncs of file contents for a purpose.
    Files(Purpose),
    /// Syncs of directories, for a purpose or for any.
    Directories(Option<Purpose>),
    /// One sync of any kind: that which comes after so many.
    One(u64),
}

/// Files in memory. Clones share their files.
#[derive(Clone)]
pub struct Disk {
    files: MemFs,
    lie: Option<Lie>,
    syncs: Arc<AtomicU64>,
    sync_takes: Duration,
}

impl Disk {
    pub fn new(lie: Option<Lie>) -> Self {
        Self { files: MemFs::new(), lie, syncs: Arc::default(), sync_takes: Duration::ZERO }
    }

    /// A disk whose syncs of the log return some time after they have made durable what was there when they began.
    pub fn with_slow_syncs(takes: Duration) -> Self {
        Self { sync_takes: takes, ..Self::new(None) }
    }

    pub fn files(&self) -> &MemFs {
        &self.files
    }

    /// What a killed process leaves.
    pub fn kill(&self) -> Self {
        Self { files: self.files.kill(), ..self.clone() }
    }

    /// What a power cut leaves.
    pub fn power_cut(&self, cut: impl Into<PowerCut>) -> Self {
        Self { files: self.files.power_cut(cut), ..self.clone() }
    }

    /// Whether this sync, of a file or of a directory, is to be left out.
    fn lies(&self, purpose: Purpose, of_file: bool) -> bool {
        let nth = self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.lie {
            None => false,
            Some(Lie::Files(of)) => of_file && purpose == of,
            Some(Lie::Directories(of)) => !of_file && of.is_none_or(|of| purpose == of),
            Some(Lie::One(after)) => nth == after,
        }
    }
}

impl Fs for Disk {
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.files.open(purpose, path)
    }

    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let inner = self.files.create(purpose, path)?;
        Ok(Box::new(DiskFile { inner, purpose, disk: self.clone() }))
    }

    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        let inner = self.files.create_log(purpose, path, capacity)?;
        Ok(Arc::new(DiskFile { inner, purpose, disk: self.clone() }))
    }

    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        if self.lies(purpose, true) { Ok(()) } else { self.files.sync_file(purpose, path) }
    }

    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(purpose, from, to)
    }

    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.files.remove(purpose, path)
    }

    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.files.list(purpose, dir)
    }

    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.files.create_dir(purpose, dir)
    }

    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.files.remove_dir(purpose, dir)
    }

    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        if self.lies(purpose, false) { Ok(()) } else { self.files.sync_dir(purpose, dir) }
    }

    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.files.lock(purpose, path)
    }

    fn sync_failed(&self, path: &Path) {
        self.files.sync_failed(path);
    }
}

/// A file whose sync may lie.
struct DiskFile<F> {
    inner: F,
    purpose: Purpose,
    disk: Disk,
}

impl WriteFile for DiskFile<Box<dyn WriteFile>> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.lies(self.purpose, true) { Ok(()) } else { self.inner.sync() }
    }
}

impl LogFile for DiskFile<Arc<dyn LogFile>> {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.lies(self.purpose, true) {
            return Ok(());
        }
        let synced = self.inner.sync();
        if !self.disk.sync_takes.is_zero() {
            thread::sleep(self.disk.sync_takes);
        }
        synced
    }

    fn truncate(&self) -> io::Result<()> {
        self.inner.truncate()
    }
}
