//! Tables as the rest of the engine holds them: known by their meta, opened when they are first read, closed when too
//! many others were read since, and removed with their last holder once nothing names them any more.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Weak;

use super::{Ahead, BlockCache, Caching, HasMeta, HashedKey, TableCursor, TableMeta, TableReader};
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, Purpose};
use crate::sync::{Arc, ArcSwapOption, AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::tally::Tally;
use crate::version::StoredVersion;
use crate::{Result, Timestamp};

/// What all tables of a database share: where they lie, the block cache, and the bound on open files.
pub(crate) struct TableStore {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    cache: Arc<BlockCache>,
    max_open_files: usize,
    /// The open tables, in the order in which they were opened or spared last.
    open: Mutex<VecDeque<Weak<Slot>>>,
    /// The tables that anybody holds, and how many times.
    held: Mutex<BTreeMap<FileNumber, usize>>,
    opened: AtomicU64,
    filtered: Arc<Tally>,
    /// Held for reading while an obsolete file is removed. Once it is set the directory may be another database's.
    ended: RwLock<bool>,
}

impl TableStore {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, cache: Arc<BlockCache>, max_open_files: usize) -> Arc<Self> {
        let (open, opened) = (Mutex::new(VecDeque::new()), AtomicU64::new(0));
        Arc::new(Self {
            fs,
            dir,
            cache,
            max_open_files: max_open_files.max(1),
            open,
            held: Mutex::default(),
            opened,
            filtered: Arc::default(),
            ended: RwLock::new(false),
        })
    }

    /// The database is closed: what is obsolete is left to the next opening.
    pub(crate) fn end(&self) {
        *self.ended.write() = true;
    }

    fn let_go(&self, number: FileNumber) {
        let mut held = self.held.lock();
        match held.get_mut(&number) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&number)),
        }
    }

    /// Whether anybody may still read the table.
    pub(crate) fn is_held(&self, number: FileNumber) -> bool {
        self.held.lock().contains_key(&number)
    }

    pub(crate) fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// What the filters of all tables were good for.
    pub(crate) fn filtered(&self) -> &Tally {
        &self.filtered
    }

    /// How often a file was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Counts an open table, and closes the ones that were not used for longest while there are too many. Cursors that
    /// are in a table keep its file open.
    fn admit(&self, slot: &Arc<Slot>) {
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(slot));
        // Those that were used since they were looked at last are spared once: so it ends after two rounds.
        let mut looks = 2 * open.len();
        while open.len() > self.max_open_files && looks > 0 {
            looks -= 1;
            let Some(oldest) = open.pop_front() else { break };
            let Some(held) = oldest.upgrade() else { continue };
            if Arc::ptr_eq(&held, slot) || held.used.swap(false, Ordering::Relaxed) {
                open.push_back(oldest);
            } else {
                held.reader.store(None);
            }
        }
    }
}

/// The open file of a table, if it is open.
struct Slot {
    reader: ArcSwapOption<TableReader>,
    /// Since the store looked last.
    used: AtomicBool,
    /// Held by who opens the file: others wait for that.
    opening: Mutex<()>,
}

/// One table of a tree. Views, merges and cursors share it; while anyone does, its file stays.
pub(crate) struct Table {
    meta: Arc<TableMeta>,
    store: Arc<TableStore>,
    slot: Arc<Slot>,
    obsolete: AtomicBool,
}

impl Table {
    /// The file must be there by the time it is read.
    pub(crate) fn new(store: &Arc<TableStore>, meta: Arc<TableMeta>) -> Arc<Self> {
        *store.held.lock().entry(meta.number).or_default() += 1;
        let slot = Slot { reader: ArcSwapOption::empty(), used: AtomicBool::new(false), opening: Mutex::new(()) };
        Arc::new(Self { meta, store: store.clone(), slot: Arc::new(slot), obsolete: AtomicBool::new(false) })
    }

    pub(crate) fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// The same, to be kept elsewhere too.
    pub(crate) fn shared_meta(&self) -> Arc<TableMeta> {
        Arc::clone(&self.meta)
    }

    /// The open table; opens it if need be.
    pub(crate) fn reader(&self) -> Result<Arc<TableReader>> {
        if let Some(reader) = self.slot.reader.load_full() {
            self.touch();
            return Ok(reader);
        }
        self.open()
    }

    /// [`TableReader::get`], without touching anything that readers share if the table is open.
    pub(crate) fn get(&self, key: HashedKey<'_>, timestamp: Timestamp) -> Result<Option<StoredVersion>> {
        if let Some(reader) = &*self.slot.reader.load() {
            self.touch();
            return reader.get(key, timestamp);
        }
        self.open()?.get(key, timestamp)
    }

    /// Fetches ahead of [`get`](Self::get), if the table is open.
    pub(crate) fn fetch(&self, key: HashedKey<'_>, ahead: Ahead) {
        if let Some(reader) = &*self.slot.reader.load() {
            reader.fetch(key, ahead);
        }
    }

    pub(crate) fn cursor(&self, caching: Caching) -> Result<TableCursor> {
        Ok(TableCursor::new(self.reader()?, caching))
    }

    /// Nothing durable names the file any more: it is removed when the last holder lets go of the table.
    pub(crate) fn mark_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.slot.reader.load().is_some()
    }

    /// Every reader writes this only once after the store has looked.
    fn touch(&self) {
        if !self.slot.used.load(Ordering::Relaxed) {
            self.slot.used.store(true, Ordering::Relaxed);
        }
    }

    fn open(&self) -> Result<Arc<TableReader>> {
        let _opening = self.slot.opening.lock();
        if let Some(reader) = self.slot.reader.load_full() {
            return Ok(reader);
        }
        let store = &self.store;
        let reader = Arc::new(TableReader::open(
            &store.fs,
            &store.dir,
            self.meta.number,
            store.cache.clone(),
            store.filtered.clone(),
        )?);
        if reader.meta().bytes != self.meta.bytes {
            let reason = format!("file has {} bytes, the manifest says {}", reader.meta().bytes, self.meta.bytes);
            return Err(reader.source.corruption(0, reason));
        }
        store.opened.fetch_add(1, Ordering::Relaxed);
        self.slot.reader.store(Some(reader.clone()));
        store.admit(&self.slot);
        Ok(reader)
    }
}

impl HasMeta for Table {
    fn meta(&self) -> &TableMeta {
        &self.meta
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl fmt::Debug for TableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.store.let_go(self.meta.number);
        if !self.obsolete.load(Ordering::Relaxed) {
            return;
        }
        self.slot.reader.store(None);
        let ended = self.store.ended.read();
        if *ended {
            return;
        }
        let path = FileKind::Table.path(&self.store.dir, self.meta.number);
        // What stays is an orphan, which the next open removes (S29).
        if let Err(error) = self.store.fs.remove(Purpose::Table, &path) {
            tracing::warn!(path = %path.display(), %error, "an obsolete table could not be removed");
        }
    }
}
