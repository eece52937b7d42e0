//! The operating system's files, for a process that kills itself at a file call: every call is as likely as any other,
//! where a kill from outside mostly finds the process waiting for the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::journal::{Event, Journal};
use strandline::fs::{DirEntry, FileLock, LogFile, Purpose, ReadFile, WriteFile};
use strandline::{Fs, StdFs};

/// The files of a process that may have to die.
#[derive(Clone)]
pub struct MortalFs {
    calls: Arc<AtomicU64>,
    death: Option<Death>,
    /// Where it is told which files were made.
    journal: Arc<Journal>,
}

/// When the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Before its so manieth file call.
    pub at_call: u64,
    /// If that is an append to the log, in the midst of it: the kernel looks between two pages of a write whether the
    /// process was killed.
    pub torn: bool,
}

impl MortalFs {
    pub fn new(death: Option<Death>, journal: Arc<Journal>) -> Self {
        Self { calls: Arc::default(), death, journal }
    }

    /// Whether this call is the last.
    fn is_last(&self) -> bool {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        self.death.is_some_and(|death| death.at_call == nth)
    }

    fn call(&self) {
        if self.is_last() {
            die();
        }
    }

    fn made(&self, path: &Path) -> io::Result<()> {
        match path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()) {
            Some(number) => self.journal.tell(Event::Made(number)),
            None => Ok(()),
        }
    }
}

/// Ends this process as `kill -9` does.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

impl Fs for MortalFs {
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.call();
        StdFs.open(purpose, path)
    }

    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.call();
        let inner = StdFs.create(purpose, path)?;
        self.made(path)?;
        Ok(Box::new(MortalFile { inner, fs: self.clone() }))
    }

    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        self.call();
        let inner = StdFs.create_log(purpose, path, capacity)?;
        self.made(path)?;
        Ok(Arc::new(MortalFile { inner, fs: self.clone() }))
    }

    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.call();
        StdFs.sync_file(purpose, path)
    }

    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        StdFs.rename(purpose, from, to)
    }

    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.call();
        StdFs.remove(purpose, path)
    }

    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.call();
        StdFs.list(purpose, dir)
    }

    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.call();
        StdFs.create_dir(purpose, dir)
    }

    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.call();
        StdFs.remove_dir(purpose, dir)
    }

    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.call();
        StdFs.sync_dir(purpose, dir)
    }

    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.call();
        StdFs.lock(purpose, path)
    }
}

/// A file that is written.
struct MortalFile<F> {
    inner: F,
    fs: MortalFs,
}

impl WriteFile for MortalFile<Box<dyn WriteFile>> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fs.call();
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fs.call();
        self.inner.sync()
    }
}

impl LogFile for MortalFile<Arc<dyn LogFile>> {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if self.fs.is_last() {
            if self.fs.death.is_some_and(|death| death.torn) {
                self.inner.append(&bytes[..bytes.len() / 2])?;
            }
            die();
        }
        self.inner.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.call();
        self.inner.sync()
    }

    fn truncate(&self) -> io::Result<()> {
        self.fs.call();
        self.inner.truncate()
    }
}
