//! Something is appended at the very moment at which a file was synced.

use std::io;

use super::*;
use crate::fs::{DirEntry, FileLock, LogFile, PowerCut, ReadFile, WriteFile};
use crate::sync::Mutex;

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Runs each hook once: after the next sync of a log file, and of the directory.
#[derive(Clone)]
struct Hooked {
    inner: MemFs,
    after_sync: Hook,
    after_sync_dir: Hook,
}

impl Hooked {
    fn new() -> Self {
        Self { inner: mem_fs(), after_sync: Hook::default(), after_sync_dir: Hook::default() }
    }
}

struct HookedLog {
    inner: Arc<dyn LogFile>,
    after_sync: Hook,
}

impl LogFile for HookedLog {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()?;
        let hook = self.after_sync.lock().take();
        hook.into_iter().for_each(|hook| hook());
        Ok(())
    }
    fn truncate(&self) -> io::Result<()> {
        self.inner.truncate()
    }
}

impl Fs for Hooked {
    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        let inner = self.inner.create_log(purpose, path, capacity)?;
        Ok(Arc::new(HookedLog { inner, after_sync: Arc::clone(&self.after_sync) }))
    }
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.inner.open(purpose, path)
    }
    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.inner.create(purpose, path)
    }
    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.inner.sync_file(purpose, path)
    }
    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(purpose, from, to)
    }
    fn remove(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.inner.remove(purpose, path)
    }
    fn list(&self, purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(purpose, dir)
    }
    fn create_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(purpose, dir)
    }
    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(purpose, dir)
    }
    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(purpose, dir)?;
        let hook = self.after_sync_dir.lock().take();
        hook.into_iter().for_each(|hook| hook());
        Ok(())
    }
    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.inner.lock(purpose, path)
    }
}

#[test]
fn what_is_appended_during_a_sync_does_not_count_as_synced() {
    // In the active segment, and in a new one that the sync knows nothing of.
    for len in [5, 500] {
        let fs = Hooked::new();
        let log = Arc::new(fresh(&fs, 300));
        let first = commit(&log, b"first");
        let during = Arc::clone(&log);
        *fs.after_sync.lock() = Some(Box::new(move || drop(commit(&during, &vec![1; len]))));
        log.sync_through(first.end).unwrap();
        assert_eq!(log.synced(), first.end);
        let lost = || replay(&fs.inner.power_cut(PowerCut::Lose), &expecting(BEGIN, log.proof())).unwrap();
        assert_eq!(payloads(&lost().1), [b"first"]);
        log.sync_through(log.end()).unwrap();
        assert_eq!((log.synced(), lost().1.len()), (log.end(), 2));
    }
}

#[test]
fn a_close_proves_what_came_in_while_it_synced() {
    let fs = Hooked::new();
    let log = Arc::new(fresh(&fs, 300));
    commit(&log, b"first");
    let during = Arc::clone(&log);
    *fs.after_sync.lock() = Some(Box::new(move || drop(commit(&during, b"second"))));
    log.close().unwrap();
    let (recovered, commits) = replay(&fs.inner.power_cut(PowerCut::Lose), &from_begin()).unwrap();
    assert_eq!(payloads(&commits), [&b"first"[..], b"second"]);
    assert!(recovered.clean);
}

// S25
#[test]
fn a_log_that_is_given_up_during_a_sync_says_no_more_that_anything_is_synced() {
    let fs = Hooked::new();
    let log = Arc::new(fresh(&fs, 300));
    let first = commit(&log, b"first");
    // The name of its segment may be one that an earlier sync of the directory has lost.
    let during = Arc::clone(&log);
    *fs.after_sync_dir.lock() = Some(Box::new(move || during.give_up()));
    assert!(log.sync_through(first.end).is_err());
    assert_eq!((log.synced(), log.proof().ordinal), (BEGIN.position, 0));
}
