//! The immutable picture of all memtables and trees that a read looks at. It is never changed, only replaced
//! ([`Current`](super::current::Current)).

use super::keyspace::KeyspaceCore;
use crate::format::FileNumber;
use crate::log::LogPosition;
use crate::manifest::{KeyspaceId, Tree};
use crate::memtable::Memtable;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::table::{Table, TableMeta, TableStore};
use crate::{Result, Timestamp};

/// The tree of one keyspace.
pub(crate) type TableTree = Tree<Arc<Table>>;

/// The tree of these tables, to be opened when they are needed.
pub(crate) fn tree_of(tables: &Tree<Arc<TableMeta>>, store: &Arc<TableStore>) -> Arc<TableTree> {
    Arc::new(tables.map(|meta| Table::new(store, Arc::clone(meta))))
}

/// A memtable and what the engine knows of it.
pub(crate) struct Mem {
    pub(crate) entries: Arc<Memtable>,
    /// Where the first logged commit of this memtable begins in the log; `u64::MAX`: nowhere yet. Set under the commit
    /// lock, before the entry is inserted, so that a log segment is never freed under a commit that is on its way.
    first_position: AtomicU64,
    /// The least timestamp of an unlogged commit here; `u64::MAX`: none. Set under the commit lock.
    first_unlogged: AtomicU64,
    /// Bytes that commits have charged to this memtable, from their reservation on.
    charged: AtomicUsize,
    /// Keyspaces whose active memtables share an unlogged batch with this one: they are sealed, and flushed, with it
    /// (L4).
    links: Mutex<Vec<KeyspaceId>>,
}

impl Mem {
    pub(crate) fn new() -> Self {
        Self {
            entries: Arc::new(Memtable::new()),
            first_position: AtomicU64::new(u64::MAX),
            first_unlogged: AtomicU64::new(u64::MAX),
            charged: AtomicUsize::new(0),
            links: Mutex::new(Vec::new()),
        }
    }

    /// Under the commit lock: a logged commit that begins at `position` will be inserted.
    pub(crate) fn expect_logged(&self, position: LogPosition) {
        // Under the lock nobody else changes it, and positions rise: the first one stays.
        if self.first_position.load(Ordering::Relaxed) > position.0 {
            self.first_position.store(position.0, Ordering::SeqCst);
        }
    }

    /// Under the commit lock: an unlogged commit at `timestamp`, which also touches `others`, will be inserted.
    pub(crate) fn expect_unlogged(&self, timestamp: Timestamp, others: &[KeyspaceId]) {
        self.first_unlogged.fetch_min(timestamp, Ordering::SeqCst);
        let mut links = self.links.lock();
        links.extend_from_slice(others);
        links.sort_unstable();
        links.dedup();
    }

    /// Adds to the bytes charged and returns the new sum.
    pub(crate) fn charge(&self, bytes: usize) -> usize {
        self.charged.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// When it is sealed: charges what it has really come to, and returns the sum.
    pub(crate) fn charge_in_full(&self) -> usize {
        self.charged.store(self.size(), Ordering::Relaxed);
        self.charged()
    }

    /// What counts towards the limit of a memtable: what was charged, or what it has really come to.
    pub(crate) fn size(&self) -> usize {
        self.charged().max(self.entries.bytes())
    }

    pub(crate) fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }

    /// Whether a commit was ever directed here.
    pub(crate) fn is_untouched(&self) -> bool {
        self.first_position().is_none() && self.first_unlogged().is_none()
    }

    pub(crate) fn first_position(&self) -> Option<LogPosition> {
        let position = self.first_position.load(Ordering::SeqCst);
        (position != u64::MAX).then_some(LogPosition(position))
    }

    pub(crate) fn first_unlogged(&self) -> Option<Timestamp> {
        let timestamp = self.first_unlogged.load(Ordering::SeqCst);
        (timestamp != u64::MAX).then_some(timestamp)
    }

    pub(crate) fn links(&self) -> Vec<KeyspaceId> {
        self.links.lock().clone()
    }
}

/// One keyspace at one moment. Sources by arrival: `active`, `sealed` newest first, then the tree.
#[derive(Clone)]
pub(crate) struct KeyspaceVersion {
    pub(crate) core: Arc<KeyspaceCore>,
    pub(crate) active: Arc<Mem>,
    pub(crate) sealed: Vec<Arc<Mem>>,
    pub(crate) tree: Arc<TableTree>,
}

impl KeyspaceVersion {
    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Mem>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// The memtables that hold anything now, newest first. One that is empty may not be so a moment later: who numbers
    /// sources by it asks once.
    pub(crate) fn filled_memtables(&self) -> impl Iterator<Item = &Arc<Mem>> {
        self.memtables().filter(|mem| !mem.entries.is_empty())
    }

    /// This version with the active memtable sealed and a new one in its place.
    pub(crate) fn with_sealed(&self) -> Self {
        let mut next = self.clone();
        next.sealed.insert(0, std::mem::replace(&mut next.active, Arc::new(Mem::new())));
        next
    }

    /// This version without a memtable that was flushed.
    pub(crate) fn without(&self, flushed: &Arc<Mem>) -> Self {
        let mut next = self.clone();
        next.sealed.retain(|mem| !Arc::ptr_eq(mem, flushed));
        next
    }

    pub(crate) fn with_tree(&self, added: &[(usize, Arc<Table>)], removed: &[(usize, FileNumber)]) -> Result<Self> {
        let mut next = self.clone();
        next.tree = Arc::new(self.tree.apply(added, removed)?);
        Ok(next)
    }
}

/// Every keyspace at one moment, sorted by id.
#[derive(Clone, Default)]
pub(crate) struct World {
    keyspaces: Vec<Arc<KeyspaceVersion>>,
}

impl World {
    pub(crate) fn keyspaces(&self) -> &[Arc<KeyspaceVersion>] {
        &self.keyspaces
    }

    pub(crate) fn get(&self, id: KeyspaceId) -> Option<&Arc<KeyspaceVersion>> {
        let at = self.keyspaces.binary_search_by_key(&id, |keyspace| keyspace.core.id).ok()?;
        self.keyspaces.get(at)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<KeyspaceVersion>> {
        self.keyspaces.iter().find(|keyspace| keyspace.core.name == name)
    }

    /// This world with `keyspace` put in, or put in the place of its earlier version.
    pub(crate) fn with(&self, keyspace: KeyspaceVersion) -> Self {
        let mut next = self.clone();
        let id = keyspace.core.id;
        match next.keyspaces.binary_search_by_key(&id, |other| other.core.id) {
            Ok(at) => {
                if let Some(place) = next.keyspaces.get_mut(at) {
                    *place = Arc::new(keyspace);
                }
            }
            Err(at) => next.keyspaces.insert(at, Arc::new(keyspace)),
        }
        next
    }

    pub(crate) fn without(&self, id: KeyspaceId) -> Self {
        let mut next = self.clone();
        next.keyspaces.retain(|keyspace| keyspace.core.id != id);
        next
    }
}
