//! The operating system's files.
//!
//! What is asked of it, beyond the plain calls:
//! * links are not followed at the last component, and only regular files are opened, so that nobody who can write to a
//!   directory can make the engine read or write elsewhere, or hang on a pipe;
//! * files are for their owner only;
//! * a file that failed once stays failed (L2).
//!
//! Log segments are in `std_log.rs`.

#![expect(clippy::disallowed_types, reason = "this is the one place that touches files")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::std_log::{Mapping, StdLogFile};
use super::{DirEntry, FileLock, Fs, LogFile, Purpose, ReadFile, WriteFile, check_rename, failed_before};
use crate::sync::Arc;

/// Appends are gathered up to this size before the system sees them.
const WRITE_BUFFER_BYTES: usize = 128 << 10;

/// How often [`Fs::lock`] starts anew because the lock file was removed under it.
const LOCK_TRIES: usize = 16;

/// The files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdFs;

impl Fs for StdFs {
    fn open(&self, _purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let file = open_regular(OpenOptions::new().read(true), path)?;
        Ok(Arc::new(StdReadFile { file }))
    }

    fn create(&self, _purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = open_regular(OpenOptions::new().write(true).create_new(true), path)?;
        Ok(Box::new(StdWriteFile { file, buffer: Vec::new(), failed: false }))
    }

    fn create_log(&self, _purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(create_log(path, capacity, Mapping::default())?))
    }

    fn sync_file(&self, _purpose: Purpose, path: &Path) -> io::Result<()> {
        open_regular(OpenOptions::new().read(true).write(true), path)?.sync_data()
    }

    fn rename(&self, _purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        check_rename(from, to)?;
        fs::rename(from, to)
    }

    fn remove(&self, _purpose: Purpose, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, _purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue, // removed since
                Err(error) => return Err(error),
            };
            if let Ok(name) = entry.file_name().into_string() {
                let (is_file, is_dir) = (metadata.is_file(), metadata.is_dir());
                entries.push(DirEntry { name, is_file, is_dir, len: metadata.len() });
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        create_dir_durably(dir)
    }

    fn remove_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        sync_dir(dir)
    }

    fn lock(&self, _purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        Ok(Box::new(StdLock::take(path)?))
    }
}

struct StdReadFile {
    file: File,
}

impl ReadFile for StdReadFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = buf.split_at_mut(n).1;
                    offset += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// What is in the buffer at a drop is lost; nobody may rely on bytes that were not synced.
struct StdWriteFile {
    file: File,
    buffer: Vec<u8>,
    failed: bool,
}

impl StdWriteFile {
    /// Runs one step and remembers that it failed.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl WriteFile for StdWriteFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|this| {
            if this.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
                this.write_buffer()?;
            }
            if bytes.len() >= WRITE_BUFFER_BYTES {
                return this.file.write_all(bytes);
            }
            this.buffer.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.attempt(|this| {
            this.write_buffer()?;
            this.file.sync_data()
        })
    }
}

struct StdLock {
    file: File,
}

impl StdLock {
    fn take(path: &Path) -> io::Result<Self> {
        for _ in 0..LOCK_TRIES {
            let file = open_regular(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
            // The lock belongs to this open file (flock, LockFileEx), not to the process: a second open of the same
            // process is refused as well, and the lock of a killed process is free.
            file.try_lock()?;
            if is_still_at(&file, path)? {
                return Ok(Self { file });
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

impl FileLock for StdLock {}

impl Drop for StdLock {
    /// A process that is just being started has the open file too, until its program runs: so that the file is closed
    /// here does not free it.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "a lock could not be given back");
        }
    }
}

/// Makes a log segment that is mapped as said. Shared mappings are made of files that can be read as well.
pub(super) fn create_log(path: &Path, capacity: u64, mapping: Mapping) -> io::Result<StdLogFile> {
    let file = open_regular(OpenOptions::new().read(true).write(true).create_new(true), path)?;
    // Best effort: what stays behind is an orphan, which the next open removes.
    StdLogFile::new(file, capacity, mapping).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Opens, and refuses what is not a regular file. Opening never waits, not for a pipe's other end either.
fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    }
    let file = options.open(path).map_err(|error| if is_link(&error) { not_regular() } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "not a regular file")
}

/// Whether opening failed because there is a link at the last component.
#[cfg(unix)]
fn is_link(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::LOOP, Errno::MLINK].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
}

#[cfg(not(unix))]
fn is_link(_error: &io::Error) -> bool {
    false
}

/// The directory that holds `path`'s name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn create_one_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes `dir` and what is missing above it, from the top, each one durable before the next is made. So of a directory
/// that is found, only its own name may still be not durable, left so by a process that was killed here.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    let above = parent(dir);
    let made = match create_one_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound && above != dir => {
            create_dir_durably(above)?;
            create_one_dir(dir)
        }
        made => made,
    };
    match made {
        Ok(()) => sync_dir(above),
        Err(_) if fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir()) => match sync_dir(above) {
            // Somebody else made it, in a place that is not ours.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Ok(()),
            synced => synced,
        },
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = (OFlags::DIRECTORY | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(dir)?.sync_all() {
        // Some file systems have no sync of directories.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Directories cannot be synced here; the system writes names in order.
#[cfg(not(unix))]
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::metadata(dir).map(drop)
}

/// Whether the open file is still the one that has this name: who removes a database removes its lock file as well, and
/// a lock on a file without a name keeps nobody out.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok(held.dev() == named.dev() && held.ino() == named.ino()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that is open keeps its name here.
#[cfg(not(unix))]
fn is_still_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::{Command, Stdio};

    use super::*;

    const P: Purpose = Purpose::Table;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_directories_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        StdFs.create_dir(P, &deep).unwrap();
        drop(StdFs.create(P, &deep.join("file")).unwrap());
        drop(StdFs.create_log(P, &deep.join("log"), 100).unwrap());
        drop(StdFs.lock(P, &deep.join("LOCK")).unwrap());
        assert_eq!([mode(&dir.path().join("a")), mode(&deep)], [0o700; 2]);
        assert_eq!(["file", "log", "LOCK"].map(|name| mode(&deep.join(name))), [0o600; 3]);
    }

    #[test]
    fn links_and_pipes_are_refused_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link, pipe) = (dir.path().join("target"), dir.path().join("link"), dir.path().join("pipe"));
        fs::write(&target, "theirs").unwrap();
        symlink(&target, &link).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&link, &pipe] {
            for refused in [StdFs.open(P, path).err(), StdFs.lock(P, path).err()] {
                assert_eq!(refused.unwrap().to_string(), "not a regular file");
            }
            assert_eq!(StdFs.create(P, path).err().unwrap().kind(), ErrorKind::AlreadyExists);
            assert_eq!(StdFs.create_log(P, path, 1).err().unwrap().kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        let files = StdFs.list(P, dir.path()).unwrap();
        assert_eq!(files.iter().map(|entry| entry.is_file).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_directory_may_be_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        StdFs.create_dir(P, &link).unwrap();
        drop(StdFs.create(P, &link.join("file")).unwrap());
        StdFs.sync_dir(P, &link).unwrap();
        assert!(real.join("file").exists());
    }

    #[test]
    fn a_full_device_is_reported_and_the_file_stays_failed() {
        // S26, L2
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let mut file = StdWriteFile { file: full, buffer: Vec::new(), failed: false };
        file.append(b"gathered").unwrap();
        assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(file.append(b"more").is_err() && file.sync().is_err());
    }

    #[test]
    fn a_lock_is_free_though_a_process_that_is_being_started_has_the_file() {
        // S30
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = StdLock::take(&path).unwrap();
        let inherited = held.file.try_clone().unwrap();
        assert_eq!(StdFs.lock(P, &path).err().unwrap().kind(), ErrorKind::WouldBlock);
        drop(held);
        StdFs.lock(P, &path).unwrap();
        drop(inherited);
    }

    /// Not a test by itself: the other process of the next one.
    #[test]
    #[ignore = "started by a_killed_holders_lock_is_free"]
    fn hold_a_lock() {
        let Some(path) = std::env::var_os("STRANDLINE_LOCK") else { return };
        let _held = StdFs.lock(P, Path::new(&path)).unwrap();
        println!("locked");
        let _ = io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn a_killed_holders_lock_is_free() {
        // S30
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "fs::std_fs::tests::hold_a_lock"])
            .env("STRANDLINE_LOCK", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("locked")));
        assert_eq!(StdFs.lock(P, &path).err().unwrap().kind(), ErrorKind::WouldBlock);
        holder.kill().unwrap();
        holder.wait().unwrap();
        StdFs.lock(P, &path).unwrap();
    }
}
