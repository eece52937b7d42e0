//! Log segments as files of the operating system.
//!
//! They get their blocks ahead, so that a commit's sync has no allocation to write down. Appended bytes go one of two
//! ways, into the same page cache:
//!
//! * **written** (`pwrite`): a call each, good before a sync;
//! * **stored** into a [`Window`] of the segment: no call, but a window costs its page faults, and a sync write-protects
//!   its pages and writes all of them. Good where many appends follow each other without a sync.
//!
//! Which way is [`Mapping`]'s: what follows a sync is written, until so much has come without another one that the room
//! which a window would add to it is small. Then one window after the other is made, filled and left. A sync first
//! leaves the window. So does an append that finds it old: its pages may have been written back, then a store asks the
//! file system for leave again, and one that has failed since can only refuse by SIGBUS.

#![expect(clippy::disallowed_types, reason = "this and its neighbours are the places that touch files")]

use std::fs::File;
use std::io;
use std::time::Duration;

use super::mapped::{Window, may_be_mapped};
use super::{LogFile, failed_before};
use crate::sync::{AtomicBool, Mutex, Ordering};

/// When a segment is mapped, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    /// So many bytes since the last sync are written before the first window is made.
    pub(super) written_first: u64,
    /// How much of the file a window shows. It begins at a multiple of it.
    pub(super) window_bytes: u64,
    /// A larger append is written.
    pub(super) largest_stored: usize,
    /// How much of a window is made ready at once.
    pub(super) piece_bytes: u64,
    /// A window is old if its last piece was made ready longer ago.
    pub(super) lives: Duration,
}

/// Measured on ext4: of four pages that are made ready at once each costs 1.5 µs, of one or two some 3, of many 1, but
/// then a put waits longer; a call that writes 2 KiB or more costs no more than the pages. To take a window away takes 50 to
/// 100 µs beside other threads, which have to hear of it: so windows are not small; but they count as memory of the process.
impl Default for Mapping {
    fn default() -> Self {
        let (window_bytes, piece_bytes, lives) = (4 << 20, 16 << 10, Duration::from_millis(100));
        Self { written_first: 64 << 10, window_bytes, largest_stored: 2 << 10, piece_bytes, lives }
    }
}

pub(super) struct StdLogFile {
    file: File,
    mapping: Mapping,
    end: Mutex<End>,
    /// Of several syncs of one open file at once the system tells only one that a write failed. So they go one by one,
    /// and those that waited see `failed`.
    syncing: Mutex<()>,
    failed: AtomicBool,
}

/// Where the next bytes go.
struct End {
    appended: u64,
    /// Appends that begin below are written.
    mapped_from: u64,
    /// No window reaches behind: up to here the file has its blocks and its length.
    mapped_until: u64,
    window: Option<Window>,
}

impl StdLogFile {
    /// Gives the empty `file` room for `capacity` bytes.
    pub(super) fn new(file: File, capacity: u64, mapping: Mapping) -> io::Result<Self> {
        let mapped_until = if preallocate(&file, capacity)? && may_be_mapped(&file) { capacity } else { 0 };
        let mapped_from = mapping.written_first;
        let end = Mutex::new(End { appended: 0, mapped_from, mapped_until, window: None });
        Ok(Self { file, mapping, end, syncing: Mutex::new(()), failed: AtomicBool::new(false) })
    }

    /// Runs one step and remembers that it failed.
    fn attempt(&self, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(failed_before());
        }
        let result = step();
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result
    }
}

impl LogFile for StdLogFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|| self.end.lock().append(&self.file, self.mapping, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let _one_by_one = self.syncing.lock();
        self.attempt(|| {
            self.end.lock().leave_window(self.mapping);
            self.file.sync_data()
        })
    }

    fn truncate(&self) -> io::Result<()> {
        self.attempt(|| {
            let mut end = self.end.lock();
            end.give_up_mapping();
            self.file.set_len(end.appended)
        })
    }
}

impl End {
    fn append(&mut self, file: &File, mapping: Mapping, mut bytes: &[u8]) -> io::Result<()> {
        let little = bytes.len() <= mapping.largest_stored;
        while little && !bytes.is_empty() {
            let at = self.appended;
            let Some(window) = self.window(file, mapping) else { break };
            let Ok(stored) = window.store(file, at, bytes) else {
                self.give_up_mapping();
                break;
            };
            self.appended += stored as u64;
            bytes = bytes.get(stored..).unwrap_or_default();
        }
        if !bytes.is_empty() {
            write_all_at(file, bytes, self.appended)?;
            self.appended += bytes.len() as u64;
        }
        Ok(())
    }

    /// The window that the next byte goes into, unless it is to be written.
    fn window(&mut self, file: &File, mapping: Mapping) -> Option<&mut Window> {
        if !self.window.as_ref().is_some_and(|window| window.range().contains(&self.appended)) {
            self.window = self.next_window(file, mapping);
        } else if self.window.as_ref().is_some_and(|window| window.age() >= mapping.lives) {
            self.leave_window(mapping);
        }
        self.window.as_mut()
    }

    fn next_window(&mut self, file: &File, mapping: Mapping) -> Option<Window> {
        if self.appended < self.mapped_from || self.appended >= self.mapped_until {
            return None;
        }
        let start = self.appended - self.appended % mapping.window_bytes;
        let end = start.saturating_add(mapping.window_bytes).min(self.mapped_until);
        Window::over(file, start..end, mapping.piece_bytes).inspect_err(|_| self.give_up_mapping()).ok()
    }

    /// From now on all is written: a write can report whatever the reason is.
    fn give_up_mapping(&mut self) {
        (self.window, self.mapped_until) = (None, 0);
    }

    fn leave_window(&mut self, mapping: Mapping) {
        self.window = None;
        self.mapped_from = self.appended.saturating_add(mapping.written_first);
    }
}

/// Gives a new file its blocks and its length, and says whether it has; where the file system cannot, it simply grows.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn preallocate(file: &File, capacity: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    if capacity == 0 {
        return Ok(false);
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, capacity)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn preallocate(_file: &File, _capacity: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.split_at(n).1;
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::{BufRead, BufReader, ErrorKind};
    use std::ops::Range;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::super::std_fs::create_log;
    use super::super::{Fs, Purpose, StdFs};
    use super::*;

    /// Whether segments are mapped in this directory.
    fn maps_files(dir: &Path) -> bool {
        let file = File::create(dir.join("asked")).unwrap();
        preallocate(&file, 1).unwrap() && may_be_mapped(&file)
    }

    fn window(log: &StdLogFile) -> Option<Range<u64>> {
        log.end.lock().window.as_ref().map(|window| window.range().clone())
    }

    const SMALL: Mapping = Mapping {
        written_first: 100,
        window_bytes: 4096,
        largest_stored: 4000,
        piece_bytes: 512,
        lives: Duration::from_secs(3600),
    };

    #[test]
    fn what_follows_a_sync_is_written_and_what_follows_that_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        if !maps_files(dir.path()) {
            return;
        }
        let log = create_log(&dir.path().join("log"), 10_000, SMALL).unwrap();
        let append = |len: usize| {
            log.append(&vec![7; len]).unwrap();
            window(&log)
        };
        assert_eq!([append(99), append(1), append(1)], [None, None, Some(0..4096)]);
        log.sync().unwrap();
        // A sync of pages that are mapped costs more, so none are.
        assert_eq!(window(&log), None);
        assert_eq!([append(100), append(1)], [None, Some(0..4096)]);
        // Across a border, and up to the end of the room, which is none of a page.
        assert_eq!(
            [append(4000), append(3900), append(1000)],
            [Some(4096..8192), Some(4096..8192), Some(8192..10_000)]
        );
        // What is large is written, and so is what lies behind the room.
        assert_eq!([append(4096), append(1)], [Some(8192..10_000), None]);
        log.truncate().unwrap();
        assert_eq!(append(200), None);
        assert!(fs::read(dir.path().join("log")).unwrap().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_window_that_is_old_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let log = create_log(&dir.path().join("log"), 10_000, Mapping { lives: Duration::ZERO, ..SMALL }).unwrap();
        log.append(&[7; 100]).unwrap();
        log.append(&[7; 10]).unwrap();
        let made = window(&log).is_some();
        assert_eq!(made, maps_files(dir.path()));
        log.append(&[7; 90]).unwrap();
        assert_eq!((window(&log), log.end.lock().mapped_from >= 110), (None, made));
        let bytes = fs::read(dir.path().join("log")).unwrap();
        assert!(bytes[..200].iter().all(|byte| *byte == 7) && bytes[200..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_cannot_be_mapped_is_written() {
        // A file that is open for writing only; the system has no mapping of it.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        let log = StdLogFile::new(file, 10_000, Mapping { written_first: 0, ..SMALL }).unwrap();
        for _ in 0..10 {
            log.append(b"1234567890").unwrap();
            assert_eq!((window(&log), log.end.lock().mapped_until), (None, 0));
        }
        log.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap()[..100], b"1234567890".repeat(10));
    }

    #[test]
    fn a_log_too_large_for_the_disk_is_refused_and_leaves_nothing() {
        // S26: no promise of room that is not there. 2^62 bytes are too many for any disk.
        let dir = tempfile::tempdir().unwrap();
        if cfg!(target_os = "linux") {
            let refused = StdFs.create_log(Purpose::Log, &dir.path().join("log"), 1 << 62).err().unwrap().kind();
            assert!(matches!(refused, ErrorKind::StorageFull | ErrorKind::FileTooLarge), "{refused:?}");
            assert!(StdFs.list(Purpose::Log, dir.path()).unwrap().is_empty());
        }
    }

    #[test]
    fn a_full_device_is_reported_and_the_file_stays_failed() {
        // S26, L2
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let log = StdLogFile::new(full, 0, Mapping::default()).unwrap();
        assert_eq!(log.append(b"record").unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(log.append(b"more").is_err() && log.sync().is_err() && log.truncate().is_err());
    }

    /// Not a test by itself: the other process of the next one.
    #[test]
    #[ignore = "started by what_was_stored_survives_a_killed_process"]
    fn store_and_wait() {
        let Some(path) = std::env::var_os("STRANDLINE_LOG") else { return };
        let log = create_log(Path::new(&path), 1 << 20, SMALL).unwrap();
        (0..2000_u32).for_each(|n| log.append(&n.to_le_bytes().repeat(20)).unwrap());
        println!("appended, the last ones in {:?}", window(&log));
        let _ = io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn what_was_stored_survives_a_killed_process() {
        // S22
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "fs::std_log::tests::store_and_wait"])
            .env("STRANDLINE_LOG", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().unwrap().contains("appended")).unwrap().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(said.contains("Some(159744..163840)"), maps_files(dir.path()), "{said}");
        let expected: Vec<u8> = (0..2000_u32).flat_map(|n| n.to_le_bytes().repeat(20)).collect();
        assert_eq!(fs::read(&path).unwrap()[..160_000], expected);
    }
}
