//! Files in memory that know what a crash would leave of them.
//!
//! A lock over all names doubles as the gate between the living and an image: whatever changes anything holds it,
//! shared or alone, and taking an image holds it alone. So an image is of one moment, however many threads write.
//! Reading passes no gate.
//!
//! A sync that failed is never taken back by a later one: what it did not make durable can only become so by being
//! written anew, in another file or under another name.

mod file;
mod image;
mod random;
mod tree;

#[cfg(test)]
mod tests;

pub use image::PowerCut;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{DirEntry, FileLock, Fs, LogFile, Purpose, ReadFile, WriteFile, check_rename, failed_before};
use crate::sync::{Arc, AtomicBool, Ordering, RwLock};
use file::{Content, File, Space};
use tree::{Node, Tree};

/// Files in memory: for databases that need no disk, and for simulations of crashes. Clones share their files.
///
/// It knows what was made durable and what was not: [`power_cut`](Self::power_cut) gives the files as a power cut at
/// this moment would leave them. Relative paths start at the root.
#[derive(Clone)]
pub struct MemFs {
    shared: Arc<Shared>,
}

struct Shared {
    tree: RwLock<Tree>,
    space: Arc<Space>,
}

impl MemFs {
    /// No files, and no limit.
    #[must_use]
    pub fn new() -> Self {
        Self::holding(|_| Tree::new(), u64::MAX)
    }

    fn holding(tree: impl FnOnce(&Arc<Space>) -> Tree, capacity: u64) -> Self {
        let space = Arc::new(Space::new(capacity));
        let tree = RwLock::new(tree(&space));
        Self { shared: Arc::new(Shared { tree, space }) }
    }

    /// What a power cut at this moment would leave, as files of their own. Takes a seed, or a [`PowerCut`]. Locks are
    /// free.
    #[must_use]
    pub fn power_cut(&self, cut: impl Into<PowerCut>) -> Self {
        let tree = self.shared.tree.write();
        Self::holding(|space| image::without_power(&tree, cut.into(), space), self.shared.space.capacity())
    }

    /// What a process killed at this moment would leave, as files of their own: everything that was written, as durable
    /// or not as it was. Locks are free.
    #[must_use]
    pub fn kill(&self) -> Self {
        let tree = self.shared.tree.write();
        Self::holding(|space| image::killed(&tree, space), self.shared.space.capacity())
    }

    /// Limits the bytes in all files together, as a disk does. What needs more fails with
    /// [`StorageFull`](ErrorKind::StorageFull); what is there stays. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.space.set_capacity(bytes.unwrap_or(u64::MAX));
    }

    /// All bytes of a file, for tests and simulations.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let file = Arc::clone(self.shared.tree.read().file(path.as_ref())?);
        let content = file.content.read();
        let mut bytes = content.bytes.to_vec();
        bytes.resize(usize::try_from(content.len()).unwrap_or(usize::MAX), 0);
        Ok(bytes)
    }

    /// Puts other bytes into a file, for tests and simulations: durably, without regard to the limit, and seen by those
    /// who have the file open. A file that is not there is made, and its name and the directories above are durable as
    /// well.
    ///
    /// # Errors
    /// The path leads through a file, or is a directory.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        let path = path.as_ref();
        let mut tree = self.shared.tree.write();
        if let Some(above) = path.parent() {
            tree.create_dir(above)?;
        }
        let id = tree.take_id();
        let (dir, name) = tree.place(path)?;
        match dir.file(name) {
            Ok(file) => file.replace(bytes.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let content = Content::durable(bytes.into(), 0);
                let node = Node::File(Arc::new(File::new(id, content, &self.shared.space)));
                dir.names.insert(name.to_owned(), node.clone());
                dir.durable.insert(name.to_owned(), node);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn create_file(&self, path: &Path, reserved: u64) -> io::Result<Arc<File>> {
        let mut tree = self.shared.tree.write();
        let id = tree.take_id();
        let (dir, name) = tree.place(path)?;
        if dir.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(File::new(id, Content::default(), &self.shared.space));
        file.reserve(reserved)?;
        dir.create(name, Node::File(Arc::clone(&file)));
        Ok(file)
    }
}

impl Default for MemFs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = self.shared.tree.read();
        let names: usize = tree.dirs.values().map(|dir| dir.names.len()).sum();
        f.debug_struct("MemFs").field("names", &names).finish_non_exhaustive()
    }
}

impl Fs for MemFs {
    fn open(&self, _purpose: Purpose, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let file = Arc::clone(self.shared.tree.read().file(path)?);
        Ok(Arc::new(MemReadFile { file }))
    }

    fn create(&self, _purpose: Purpose, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(MemWriteFile {
            file: self.create_file(path, 0)?,
            fs: self.clone(),
            failed: AtomicBool::new(false),
        }))
    }

    fn create_log(&self, _purpose: Purpose, path: &Path, capacity: u64) -> io::Result<Arc<dyn LogFile>> {
        let file = self.create_file(path, capacity)?;
        Ok(Arc::new(MemWriteFile { file, fs: self.clone(), failed: AtomicBool::new(false) }))
    }

    fn sync_file(&self, _purpose: Purpose, path: &Path) -> io::Result<()> {
        self.shared.tree.read().file(path)?.sync();
        Ok(())
    }

    fn rename(&self, _purpose: Purpose, from: &Path, to: &Path) -> io::Result<()> {
        check_rename(from, to)?;
        let mut tree = self.shared.tree.write();
        let (_, to) = tree.place(to)?;
        let (dir, from) = tree.place(from)?;
        if let Some(Node::File(replaced)) = dir.rename(from, to)? {
            replaced.unlink();
        }
        Ok(())
    }

    fn remove(&self, _purpose: Purpose, path: &Path) -> io::Result<()> {
        let mut tree = self.shared.tree.write();
        let (dir, name) = tree.place(path)?;
        dir.file(name)?;
        if let Some(Node::File(removed)) = dir.remove(name) {
            removed.unlink();
        }
        Ok(())
    }

    fn list(&self, _purpose: Purpose, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let tree = self.shared.tree.read();
        let names = tree.dir(dir)?.names.iter();
        Ok(names
            .map(|(name, node)| match node {
                Node::File(file) => {
                    DirEntry { name: name.clone(), is_file: true, is_dir: false, len: file.content.read().len() }
                }
                Node::Dir(_) => DirEntry { name: name.clone(), is_file: false, is_dir: true, len: 0 },
            })
            .collect())
    }

    fn create_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.shared.tree.write().create_dir(dir)
    }

    fn remove_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.shared.tree.write().remove_dir(dir)
    }

    fn sync_dir(&self, _purpose: Purpose, dir: &Path) -> io::Result<()> {
        self.shared.tree.write().sync_path(dir)
    }

    fn lock(&self, _purpose: Purpose, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let mut tree = self.shared.tree.write();
        let id = tree.take_id();
        let (dir, name) = tree.place(path)?;
        let file = match dir.file(name) {
            Ok(file) => Arc::clone(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = Arc::new(File::new(id, Content::default(), &self.shared.space));
                dir.create(name, Node::File(Arc::clone(&file)));
                file
            }
            Err(error) => return Err(error),
        };
        if file.try_lock() { Ok(Box::new(MemLock { file })) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn sync_failed(&self, path: &Path) {
        self.shared.tree.write().sync_failed(path);
    }
}

struct MemReadFile {
    file: Arc<File>,
}

impl ReadFile for MemReadFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.content.read().len())
    }
}

/// A file that is written to, table or log.
struct MemWriteFile {
    file: Arc<File>,
    fs: MemFs,
    failed: AtomicBool,
}

impl MemWriteFile {
    /// Changes the file, unless a write failed before; not while an image is taken.
    fn attempt(&self, step: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let _gate = self.fs.shared.tree.read();
        if self.failed.load(Ordering::Acquire) {
            return Err(failed_before());
        }
        let result = step(&self.file);
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result
    }
}

impl WriteFile for MemWriteFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|file| file.append(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.attempt(|file| {
            file.sync();
            Ok(())
        })
    }
}

impl LogFile for MemWriteFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.attempt(|file| file.append(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.attempt(|file| {
            file.sync();
            Ok(())
        })
    }

    fn truncate(&self) -> io::Result<()> {
        self.attempt(|file| {
            file.truncate();
            Ok(())
        })
    }
}

struct MemLock {
    file: Arc<File>,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.file.unlock();
    }
}

impl FileLock for MemLock {}
