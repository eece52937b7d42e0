//! One file in memory: what was written, and how much of it a power cut cannot take back.
//!
//! Files are only ever appended to, so what is durable is a prefix:
//!
//! ```text
//! 0 ......... synced ......... bytes.len() ......... reserved
//!   durable         unsynced                 zeros (logs only)
//! ```
//!
//! Once a sync has failed nothing more of the file becomes durable: systems then take what they hold of it for written,
//! so that later syncs succeed and write nothing.

use std::io::{self, ErrorKind};

use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, RwLock};

/// The room on the disk, shared by all its files.
pub(super) struct Space {
    capacity: AtomicU64,
    used: AtomicU64,
}

impl Space {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity: AtomicU64::new(capacity), used: AtomicU64::new(0) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Release);
    }

    /// Takes up to `wanted` bytes and returns how many there were.
    pub(super) fn take(&self, wanted: u64) -> u64 {
        let mut granted = 0;
        let capacity = self.capacity();
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            granted = wanted.min(capacity.saturating_sub(used));
            Some(used + granted)
        });
        granted
    }

    /// Takes bytes whether there is room or not.
    pub(super) fn force(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn free(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// What is in a file.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// What was written. Images share it until either side writes.
    pub(super) bytes: Arc<Vec<u8>>,
    /// How many of the bytes are durable.
    pub(super) synced: usize,
    /// Where each write since the last sync ended.
    pub(super) unsynced: Vec<usize>,
    /// The length that the file was given ahead; 0 if none.
    pub(super) reserved: u64,
    /// The same, at the last sync.
    pub(super) synced_reserved: u64,
    /// The length that it has on the disk for good, room included: what a power cut left, the next one cannot take.
    pub(super) settled: u64,
    /// A sync has failed.
    pub(super) sync_failed: bool,
    /// Has no name any more and takes no room.
    unlinked: bool,
}

impl Content {
    /// A content that is durable from the start.
    pub(super) fn durable(bytes: Vec<u8>, reserved: u64) -> Self {
        let synced = bytes.len();
        Self {
            bytes: Arc::new(bytes),
            synced,
            reserved,
            synced_reserved: reserved,
            settled: reserved,
            ..Self::default()
        }
    }

    /// The first `len` bytes of this, durable from the start.
    pub(super) fn durable_prefix(&self, len: usize, reserved: u64) -> Self {
        if len == self.bytes.len() {
            let bytes = Arc::clone(&self.bytes);
            Self { bytes, synced: len, reserved, synced_reserved: reserved, settled: reserved, ..Self::default() }
        } else {
            Self::durable(self.bytes.get(..len).unwrap_or_default().to_vec(), reserved)
        }
    }

    /// The length that readers see.
    pub(super) fn len(&self) -> u64 {
        self.reserved.max(self.bytes.len() as u64)
    }

    fn sync(&mut self) {
        if self.sync_failed {
            return;
        }
        self.synced = self.bytes.len();
        self.unsynced.clear();
        self.synced_reserved = self.reserved;
    }
}

/// A file, with or without a name.
pub(super) struct File {
    /// Tells files apart when they are copied into an image.
    pub(super) id: u64,
    pub(super) content: RwLock<Content>,
    space: Arc<Space>,
    locked: AtomicBool,
}

impl File {
    /// A file that holds `content`, whether there is room for it or not.
    pub(super) fn new(id: u64, content: Content, space: &Arc<Space>) -> Self {
        if !content.unlinked {
            space.force(content.len());
        }
        Self { id, content: RwLock::new(content), space: Arc::clone(space), locked: AtomicBool::new(false) }
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.read();
        let end = offset.saturating_add(buf.len() as u64);
        if end > content.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(content.bytes.len());
        let written = content.bytes.get(start..end).unwrap_or_default();
        let (head, zeros) = buf.split_at_mut(written.len());
        head.copy_from_slice(written);
        zeros.fill(0);
        Ok(())
    }

    /// Appends; on a full disk, as much as there is room for.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content.write();
        let before = content.len();
        let end = content.bytes.len() as u64 + bytes.len() as u64;
        let wanted = end.saturating_sub(before);
        let granted = if content.unlinked { wanted } else { self.space.take(wanted) };
        let missing = usize::try_from(wanted - granted).unwrap_or(usize::MAX);
        let written = bytes.get(..bytes.len().saturating_sub(missing)).unwrap_or_default();
        Arc::make_mut(&mut content.bytes).extend_from_slice(written);
        if !written.is_empty() {
            let end = content.bytes.len();
            content.unsynced.push(end);
        }
        if missing > 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Gives the file a length ahead of what will be written.
    pub(super) fn reserve(&self, capacity: u64) -> io::Result<()> {
        let granted = self.space.take(capacity);
        if granted < capacity {
            self.space.free(granted);
            return Err(ErrorKind::StorageFull.into());
        }
        self.content.write().reserved = capacity;
        Ok(())
    }

    pub(super) fn sync(&self) {
        self.content.write().sync();
    }

    /// Cuts the length down to what was written.
    pub(super) fn truncate(&self) {
        let mut content = self.content.write();
        let before = content.len();
        content.reserved = 0;
        if !content.unlinked {
            self.space.free(before - content.len());
        }
    }

    /// Puts other bytes in, durably, whether there is room or not.
    pub(super) fn replace(&self, bytes: Vec<u8>) {
        let mut content = self.content.write();
        self.space.free(content.len());
        *content = Content::durable(bytes, 0);
        self.space.force(content.len());
    }

    /// Gives its room back: it has no name any more.
    pub(super) fn unlink(&self) {
        let mut content = self.content.write();
        content.unlinked = true;
        self.space.free(content.len());
    }

    /// Takes the lock, unless somebody has it.
    pub(super) fn try_lock(&self) -> bool {
        !self.locked.swap(true, Ordering::AcqRel)
    }

    pub(super) fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }
}
