//! What every file system must do: each test runs over all of them.

use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use std::time::Duration;

use super::std_fs::create_log;
use super::std_log::Mapping;
use super::{DirEntry, FaultFs, FileLock, Fs, LogFile, MemFs, Purpose, ReadFile, StdFs, WriteFile};
use crate::sync::{Arc, spawn};

const P: Purpose = Purpose::Table;

/// Runs a statement over each file system, in an empty directory.
fn for_each_fs(statement: impl Fn(&dyn Fs, &Path)) {
    // Of the systems that segments are mapped on: what temporary files lie on, and one in memory.
    for home in [std::env::temp_dir(), PathBuf::from("/dev/shm")].iter().filter(|home| home.is_dir()) {
        statement(&StdFs, tempfile::tempdir_in(home).unwrap().path());
        for mapping in mappings() {
            statement(&MappedFs(mapping), tempfile::tempdir_in(home).unwrap().path());
        }
    }
    let in_memory = PathBuf::from("/some/where");
    let mem = MemFs::new();
    mem.create_dir(P, &in_memory).unwrap();
    statement(&mem, &in_memory);
    let fault = FaultFs::new(MemFs::new());
    fault.create_dir(P, &in_memory).unwrap();
    statement(&fault, &in_memory);
}

/// Ways to map a log that differ from the usual one: never; from the first byte, in windows that a few appends fill;
/// the same, but each window is old when it is looked at again; with some bytes between a sync and a window.
fn mappings() -> [Mapping; 4] {
    let never = Mapping { written_first: u64::MAX, ..Mapping::default() };
    let small = Mapping { written_first: 0, window_bytes: 4096, largest_stored: 4096, ..Mapping::default() };
    let old = Mapping { lives: Duration::ZERO, ..small };
    [never, small, old, Mapping { written_first: 300, window_bytes: 16_384, piece_bytes: 4096, ..small }]
}

/// The files of the operating system, with logs that are mapped in a certain way.
struct MappedFs(Mapping);

impl Fs for MappedFs {
    fn open(&self, purpose: Purpose, path: &Path) -> Result<Arc<dyn ReadFile>> {
        StdFs.open(purpose, path)
    }

    fn create(&self, purpose: Purpose, path: &Path) -> Result<Box<dyn WriteFile>> {
        StdFs.create(purpose, path)
    }

    fn create_log(&self, _purpose: Purpose, path: &Path, capacity: u64) -> Result<Arc<dyn LogFile>> {
        Ok(Arc::new(create_log(path, capacity, self.0)?))
    }

    fn sync_file(&self, purpose: Purpose, path: &Path) -> Result<()> {
        StdFs.sync_file(purpose, path)
    }

    fn rename(&self, purpose: Purpose, from: &Path, to: &Path) -> Result<()> {
        StdFs.rename(purpose, from, to)
    }

    fn remove(&self, purpose: Purpose, path: &Path) -> Result<()> {
        StdFs.remove(purpose, path)
    }

    fn list(&self, purpose: Purpose, dir: &Path) -> Result<Vec<DirEntry>> {
        StdFs.list(purpose, dir)
    }

    fn create_dir(&self, purpose: Purpose, dir: &Path) -> Result<()> {
        StdFs.create_dir(purpose, dir)
    }

    fn remove_dir(&self, purpose: Purpose, dir: &Path) -> Result<()> {
        StdFs.remove_dir(purpose, dir)
    }

    fn sync_dir(&self, purpose: Purpose, dir: &Path) -> Result<()> {
        StdFs.sync_dir(purpose, dir)
    }

    fn lock(&self, purpose: Purpose, path: &Path) -> Result<Box<dyn FileLock>> {
        StdFs.lock(purpose, path)
    }
}

fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) {
    let mut file = fs.create(P, path).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

fn read(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    let file = fs.open(P, path).unwrap();
    let mut bytes = vec![1; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error.kind(),
    }
}

fn names(fs: &dyn Fs, dir: &Path) -> Vec<String> {
    fs.list(P, dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn what_is_appended_and_synced_is_read_anywhere() {
    for_each_fs(|fs, dir| {
        let path = dir.join("a");
        let mut file = fs.create(P, &path).unwrap();
        let mut expected = Vec::new();
        for (step, len) in [1, 0, 500, 131_071, 131_072, 3, 300_000, 7].into_iter().enumerate() {
            let bytes = vec![u8::try_from(step).unwrap() + 1; len];
            file.append(&bytes).unwrap();
            expected.extend(bytes);
        }
        file.sync().unwrap();
        assert_eq!(read(fs, &path), expected);
        file.append(b"more").unwrap();
        file.sync().unwrap();
        expected.extend(b"more");
        assert_eq!(read(fs, &path), expected);

        let reader = fs.open(P, &path).unwrap();
        assert_eq!(reader.len().unwrap(), expected.len() as u64);
        for (start, len) in [(0, 0), (0, 1), (130_000, 70_000), (expected.len() - 4, 4), (expected.len(), 0)] {
            let mut bytes = vec![0; len];
            reader.read_at(&mut bytes, start as u64).unwrap();
            assert_eq!(bytes, expected[start..start + len]);
        }
    });
}

#[test]
fn reading_past_the_end_is_an_unexpected_end() {
    for_each_fs(|fs, dir| {
        write(fs, &dir.join("a"), b"12345");
        let reader = fs.open(P, &dir.join("a")).unwrap();
        for (offset, len) in [(0, 6), (5, 1), (1 << 40, 1), (i64::MAX as u64 - 1, 1)] {
            assert_eq!(kind(reader.read_at(&mut vec![0; len], offset)), ErrorKind::UnexpectedEof, "{offset}+{len}");
        }
    });
}

#[test]
fn a_file_is_made_once_and_opened_only_if_there() {
    for_each_fs(|fs, dir| {
        let path = dir.join("a");
        assert_eq!(kind(fs.open(P, &path)), ErrorKind::NotFound);
        write(fs, &path, b"first");
        assert_eq!(kind(fs.create(P, &path)), ErrorKind::AlreadyExists);
        assert_eq!(kind(fs.create_log(P, &path, 10)), ErrorKind::AlreadyExists);
        assert_eq!(read(fs, &path), b"first");
        assert_eq!(kind(fs.create(P, &dir.join("no/such"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.open(P, &dir.join("no/such"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.create_log(P, &dir.join("no/such"), 0)), ErrorKind::NotFound);
    });
}

#[test]
fn a_directory_is_no_file() {
    for_each_fs(|fs, dir| {
        let sub = dir.join("sub");
        fs.create_dir(P, &sub).unwrap();
        assert!(fs.open(P, &sub).is_err());
        assert!(fs.lock(P, &sub).is_err());
        assert!(fs.remove(P, &sub).is_err());
        assert_eq!(kind(fs.create(P, &sub)), ErrorKind::AlreadyExists);
        write(fs, &dir.join("a"), b"");
        assert!(fs.rename(P, &dir.join("a"), &sub).is_err());
        assert!(fs.create_dir(P, &dir.join("a")).is_err());
        assert!(fs.create_dir(P, &dir.join("a/b")).is_err());
        assert!(fs.list(P, &dir.join("a")).is_err());
        assert!(fs.remove_dir(P, &dir.join("a")).is_err());
        assert_eq!(names(fs, dir), ["a", "sub"]);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    for_each_fs(|fs, dir| {
        let path = dir.join("a");
        write(fs, &path, b"still here");
        let reader = fs.open(P, &path).unwrap();
        fs.remove(P, &path).unwrap();
        assert_eq!(kind(fs.open(P, &path)), ErrorKind::NotFound);
        assert_eq!(kind(fs.remove(P, &path)), ErrorKind::NotFound);
        let mut bytes = [0; 10];
        reader.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"still here");
    });
}

#[test]
fn a_rename_replaces_and_stays_in_its_directory() {
    for_each_fs(|fs, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        write(fs, &a, b"new");
        write(fs, &b, b"old");
        let old = fs.open(P, &b).unwrap();
        fs.rename(P, &a, &b).unwrap();
        assert_eq!(names(fs, dir), ["b"]);
        assert_eq!(read(fs, &b), b"new");
        let mut bytes = [0; 3];
        old.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"old");
        assert_eq!(kind(fs.rename(P, &a, &b)), ErrorKind::NotFound);
        fs.rename(P, &b, &b).unwrap();
        assert_eq!(read(fs, &b), b"new");
        fs.create_dir(P, &dir.join("sub")).unwrap();
        assert_eq!(kind(fs.rename(P, &b, &dir.join("sub/b"))), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_list_is_sorted_and_tells_files_from_directories() {
    for_each_fs(|fs, dir| {
        assert_eq!(kind(fs.list(P, &dir.join("no"))), ErrorKind::NotFound);
        assert!(fs.list(P, dir).unwrap().is_empty());
        for name in ["b", "a", "000010.log", "000009.table", "ü", "B"] {
            write(fs, &dir.join(name), name.as_bytes());
        }
        fs.create_dir(P, &dir.join("c/deep")).unwrap();
        let entries = fs.list(P, dir).unwrap();
        let files: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.is_file)).collect();
        let expected = [("000009.table", true), ("000010.log", true), ("B", true), ("a", true), ("b", true)];
        assert_eq!(files, [&expected[..], &[("c", false), ("ü", true)]].concat());
        assert!(entries.iter().filter(|entry| entry.is_file).all(|entry| entry.len == entry.name.len() as u64));
    });
}

#[test]
fn directories_are_made_with_those_above_and_removed_empty() {
    for_each_fs(|fs, dir| {
        let deep = dir.join("x/y/z");
        fs.create_dir(P, &deep).unwrap();
        fs.create_dir(P, &deep).unwrap();
        write(fs, &deep.join("f"), b"");
        assert_eq!(kind(fs.remove_dir(P, &deep)), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(fs.remove_dir(P, &dir.join("x"))), ErrorKind::DirectoryNotEmpty);
        fs.remove(P, &deep.join("f")).unwrap();
        fs.remove_dir(P, &deep).unwrap();
        assert_eq!(kind(fs.remove_dir(P, &deep)), ErrorKind::NotFound);
        assert_eq!(names(fs, &dir.join("x")), ["y"]);
        fs.sync_dir(P, &dir.join("x/y")).unwrap();
        assert_eq!(kind(fs.sync_dir(P, &deep)), ErrorKind::NotFound);
    });
}

#[test]
fn a_log_reads_as_appended_and_zeros_behind() {
    for_each_fs(|fs, dir| {
        for capacity in [0, 10, 4096, 1 << 20] {
            let path = dir.join(format!("{capacity}.log"));
            let log = fs.create_log(P, &path, capacity).unwrap();
            let mut expected = Vec::new();
            for bytes in [&b"one"[..], b"", b"two", &[7; 5000], b"three"] {
                log.append(bytes).unwrap();
                expected.extend(bytes);
                // Seen by others at once, whether synced or not.
                let seen = read(fs, &path);
                assert!(seen.len() >= expected.len() && seen.len() as u64 <= capacity.max(expected.len() as u64));
                assert_eq!(seen[..expected.len()], expected);
                assert!(seen[expected.len()..].iter().all(|byte| *byte == 0));
            }
            log.sync().unwrap();
            log.truncate().unwrap();
            log.sync().unwrap();
            assert_eq!(read(fs, &path), expected);
            log.append(b"after").unwrap();
            expected.extend(b"after");
            assert_eq!(read(fs, &path), expected);
        }
    });
}

#[test]
fn a_log_reads_as_appended_whatever_came_between_two_appends() {
    // Small and large appends, across any border that there may be, over the end of the room; syncs, also two in a row.
    for_each_fs(|fs, dir| {
        let path = dir.join("a.log");
        let log = fs.create_log(P, &path, 20_000).unwrap();
        let mut expected = Vec::new();
        for (step, len) in [1, 4094, 1, 1, 0, 3000, 3000, 4096, 150, 10_000, 7, 4095, 8193, 5].into_iter().enumerate() {
            let bytes = vec![u8::try_from(step).unwrap() + 1; len];
            log.append(&bytes).unwrap();
            expected.extend(bytes);
            (0..step % 3).for_each(|_| log.sync().unwrap());
            assert_eq!(read(fs, &path)[..expected.len()], expected, "after append {step}");
        }
        log.truncate().unwrap();
        log.truncate().unwrap();
        (0..50).for_each(|_| log.append(&[9; 150]).unwrap());
        log.sync().unwrap();
        drop(log);
        expected.extend([9; 50 * 150]);
        assert_eq!(read(fs, &path), expected);
    });
}

#[test]
fn a_log_that_was_dropped_without_a_sync_reads_as_appended() {
    for_each_fs(|fs, dir| {
        let path = dir.join("a.log");
        let log = fs.create_log(P, &path, 1 << 20).unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        bytes.chunks(151).for_each(|some| log.append(some).unwrap());
        // A reader that was there before sees what comes later.
        let reader = fs.open(P, &path).unwrap();
        log.append(b"more").unwrap();
        let mut more = [0; 4];
        reader.read_at(&mut more, bytes.len() as u64).unwrap();
        assert_eq!(&more, b"more");
        drop(log);
        fs.sync_file(P, &path).unwrap();
        assert_eq!(read(fs, &path)[..bytes.len()], bytes);
    });
}

#[test]
fn a_log_is_synced_by_others_while_it_grows() {
    for_each_fs(|fs, dir| {
        let log = fs.create_log(P, &dir.join("a.log"), 1 << 16).unwrap();
        let other: Arc<dyn LogFile> = Arc::clone(&log);
        let syncs = spawn("syncs", move || (0..20).for_each(|_| other.sync().unwrap())).unwrap();
        for byte in 0..200 {
            log.append(&[byte; 100]).unwrap();
        }
        syncs.join().unwrap();
        let bytes = read(fs, &dir.join("a.log"));
        assert!((0..200).all(|byte| bytes[usize::from(byte) * 100..][..100] == [byte; 100]));
    });
}

#[test]
fn a_file_is_synced_by_its_name_only_if_there() {
    for_each_fs(|fs, dir| {
        let log = fs.create_log(P, &dir.join("a.log"), 10).unwrap();
        log.append(b"one").unwrap();
        fs.sync_file(P, &dir.join("a.log")).unwrap();
        log.append(b"two").unwrap();
        assert_eq!(read(fs, &dir.join("a.log"))[..6], *b"onetwo");
        assert_eq!(kind(fs.sync_file(P, &dir.join("b.log"))), ErrorKind::NotFound);
    });
}

#[test]
fn a_lock_keeps_everybody_else_out_until_it_is_dropped() {
    // S30
    for_each_fs(|fs, dir| {
        let path = dir.join("LOCK");
        let held = fs.lock(P, &path).unwrap();
        assert_eq!(kind(fs.lock(P, &path)), ErrorKind::WouldBlock);
        let _other = fs.lock(P, &dir.join("LOCK2")).unwrap();
        drop(held);
        let held = fs.lock(P, &path).unwrap();
        assert_eq!(kind(fs.lock(P, &path)), ErrorKind::WouldBlock);
        assert_eq!(names(fs, dir), ["LOCK", "LOCK2"]);
        // A lock on a file that lost its name keeps nobody out of the new one.
        fs.remove(P, &path).unwrap();
        let again = fs.lock(P, &path).unwrap();
        drop(held);
        assert_eq!(kind(fs.lock(P, &path)), ErrorKind::WouldBlock);
        drop(again);
    });
}
