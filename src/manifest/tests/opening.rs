//! What an open finds: nothing, the beginnings of a database, a database, or one that lost a part.

use std::io;

use super::*;
use crate::Error;
use crate::format::FileKind;
use crate::fs::{DirEntry, FileLock, Fs, LogFile, MemFs, Purpose, ReadFile, WriteFile};
use crate::sync::{AtomicU64, Ordering};

#[test]
fn a_directory_without_a_database_is_none_and_one_that_lost_its_current_is_corrupt() {
    // S29
    let fs = MemFs::new();
    assert!(load(&fs, dir()).unwrap().is_none());
    for harmless in ["LOCK", "CURRENT.tmp", "000001.manifest", "notes.txt", "7.table"] {
        fs.write_file(dir().join(harmless), "").unwrap();
        assert!(load(&fs, dir()).unwrap().is_none(), "{harmless}");
    }
    for lost in ["000002.table", "000003.log"] {
        fs.write_file(dir().join(lost), "").unwrap();
        let error = load(&fs, dir()).unwrap_err();
        assert!(matches!(&error, Error::Corruption { path, .. } if path.ends_with("CURRENT")), "{error}");
        fs.remove(Purpose::Table, &dir().join(lost)).unwrap();
    }
}

#[test]
fn a_missing_manifest_is_corruption() {
    let fs = MemFs::new();
    Manifest::create(Arc::new(fs.clone()), dir(), FileNumber(1), state_of(&[Edit::from(vec![bound(2)])])).unwrap();
    fs.remove(Purpose::Manifest, &FileKind::Manifest.path(dir(), FileNumber(1))).unwrap();
    let error = load(&fs, dir()).unwrap_err();
    assert!(matches!(&error, Error::Corruption { path, .. } if path.ends_with("000001.manifest")), "{error}");
}

#[test]
fn a_snapshot_over_several_frames_is_read_whole_or_refused() {
    // L3
    let fs = MemFs::new();
    let mut edit = Edit::from(vec![bound(100), create(0, "a")]);
    for number in 2..40 {
        let first = format!("{number:02}{}", "k".repeat(60_000));
        edit.push(add(0, 1, table(number, &first, &format!("{first}z"))));
    }
    let state = state_of(&[edit]);
    Manifest::create(Arc::new(fs.clone()), dir(), FileNumber(1), state.clone()).unwrap();
    let path = FileKind::Manifest.path(dir(), FileNumber(1));
    let bytes = fs.read_file(&path).unwrap();
    assert!(bytes.len() > 4 << 20);
    assert_eq!(load(&fs, dir()).unwrap().unwrap().state, state);
    for len in (0..bytes.len()).step_by(100_003).chain(bytes.len() - 30..bytes.len()) {
        fs.write_file(&path, &bytes[..len]).unwrap();
        assert!(matches!(load(&fs, dir()), Err(Error::Corruption { .. })), "cut to {len}");
    }
}

#[test]
fn a_manifest_that_was_replaced_meanwhile_is_not_missing() {
    let racing = Racing { files: MemFs::new(), number: AtomicU64::new(10) };
    racing.files.create_dir(Purpose::Directory, dir()).unwrap();
    racing.next();
    let loaded = load(&racing, dir()).unwrap().unwrap();
    assert_eq!((loaded.number, loaded.state.closed), (FileNumber(11), 11));
}

/// A writer moves on to the next manifest between the reading of `CURRENT` and that of manifest 10.
struct Racing {
    files: MemFs,
    number: AtomicU64,
}

impl Racing {
    fn next(&self) {
        let number = FileNumber(self.number.fetch_add(1, Ordering::SeqCst));
        let state = state_of(&[Edit::from(vec![bound(50), Change::Closed { timestamp: number.0 }])]);
        Manifest::create(Arc::new(self.files.clone()), dir(), number, state).unwrap();
    }
}

impl Fs for Racing {
    fn open(&self, purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        if path.ends_with("000010.manifest") {
            self.files.remove(purpose, path)?;
            self.next();
        }
        self.files.open(purpose, path)
    }
    fn create(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.files.create(purpose, path)
    }
    fn create_log(&self, purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        self.files.create_log(purpose, path, capacity)
    }
    fn sync_file(&self, purpose: Purpose, path: &Path) -> io::Result<()> {
        self.files.sync_file(purpose, path)
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
        self.files.sync_dir(purpose, dir)
    }
    fn lock(&self, purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.files.lock(purpose, path)
    }
}
