//! What a read looks at: the immutable picture of all memtables and trees, and how far commits are published.
//!
//! V1. The obvious way, a lock around "memtables, tables, newest commit", makes every reader touch a shared line.
//! Instead the picture ([`World`]) is immutable and swapped whole; memtable entries carry commit sequences; and a
//! [`View`] is one picture together with one sequence. A reader loads the picture, then the sequence, and tries again
//! if the picture changed in between: otherwise a memtable could have been replaced, and its successor filled, between
//! the two loads, and the view would promise commits that its picture does not hold. A memtable leaves the picture only
//! after every commit in it was published, so a table, which knows no sequences, never shows an unpublished one.

use arc_swap::ArcSwap;

use super::keyspace::KeyspaceCore;
use crate::format::FileNumber;
use crate::log::LogPosition;
use crate::manifest::{KeyspaceId, Tree};
use crate::memtable::Memtable;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::table::{Table, TableMeta, TableStore};
use crate::version::Sequence;
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
        self.first_position.fetch_min(position.0, Ordering::SeqCst);
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

/// How far commits are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Everything up to here is visible.
    pub(crate) sequence: Sequence,
    /// The highest timestamp among it.
    pub(crate) last_timestamp: Timestamp,
}

/// How many horizons are kept for readers that were overtaken.
const RING: usize = 64;

/// The newest [`Horizon`], read without a lock: both numbers belong together, so they are written to the next place of
/// a small ring before the count moves on, and a reader that was overtaken by a whole round reads again.
#[derive(Debug)]
pub(crate) struct Published {
    count: AtomicU64,
    ring: [(AtomicU64, AtomicU64); RING],
}

impl Published {
    pub(crate) fn new(horizon: Horizon) -> Self {
        let published =
            Self { count: AtomicU64::new(0), ring: [const { (AtomicU64::new(0), AtomicU64::new(0)) }; RING] };
        published.publish(horizon);
        published
    }

    fn place(&self, count: u64) -> &(AtomicU64, AtomicU64) {
        #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the remainder is below RING")]
        &self.ring[count as usize % RING]
    }

    /// Moves the horizon. One caller at a time, in commit order (V2).
    pub(crate) fn publish(&self, horizon: Horizon) {
        let count = self.count.load(Ordering::Relaxed) + 1;
        let (sequence, last_timestamp) = self.place(count);
        // Release, so that a reader who sees either number also sees that the count had come this far.
        sequence.store(horizon.sequence, Ordering::Release);
        last_timestamp.store(horizon.last_timestamp, Ordering::Release);
        self.count.store(count, Ordering::SeqCst);
    }

    pub(crate) fn horizon(&self) -> Horizon {
        loop {
            let count = self.count.load(Ordering::SeqCst);
            let (sequence, last_timestamp) = self.place(count);
            let horizon = Horizon {
                sequence: sequence.load(Ordering::Acquire),
                last_timestamp: last_timestamp.load(Ordering::Acquire),
            };
            if self.count.load(Ordering::SeqCst) - count < RING as u64 - 1 {
                return horizon;
            }
        }
    }
}

/// One consistent state to read from.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) world: Arc<World>,
    pub(crate) horizon: Horizon,
}

/// The current world and horizon.
pub(crate) struct Current {
    world: ArcSwap<World>,
    /// Held while a new world is made from the current one.
    changing: Mutex<()>,
    pub(crate) published: Published,
}

impl Current {
    pub(crate) fn new(world: World, horizon: Horizon) -> Self {
        Self { world: ArcSwap::from_pointee(world), changing: Mutex::new(()), published: Published::new(horizon) }
    }

    pub(crate) fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    pub(crate) fn horizon(&self) -> Horizon {
        self.published.horizon()
    }

    /// Runs `read` on a view without touching a shared counter.
    pub(crate) fn with_view<T>(&self, read: impl FnOnce(&World, Horizon) -> T) -> T {
        loop {
            let world = self.world.load();
            let horizon = self.published.horizon();
            if Arc::ptr_eq(&world, &self.world.load()) {
                return read(&world, horizon);
            }
        }
    }

    /// A view that lives on.
    pub(crate) fn view(&self) -> View {
        loop {
            let world = self.world.load_full();
            let horizon = self.published.horizon();
            if Arc::ptr_eq(&world, &self.world.load()) {
                return View { world, horizon };
            }
        }
    }

    /// Replaces the world by what `change` makes of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&World) -> Result<(World, T)>) -> Result<T> {
        let _guard = self.changing.lock();
        let (next, result) = change(&self.world.load())?;
        self.world.store(Arc::new(next));
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // V1
    #[test]
    fn a_horizon_is_never_torn() {
        let published = Arc::new(Published::new(Horizon { sequence: 0, last_timestamp: 0 }));
        let writer = {
            let published = Arc::clone(&published);
            crate::sync::spawn("publisher", move || {
                for n in 1..200_000 {
                    published.publish(Horizon { sequence: n, last_timestamp: 3 * n });
                }
            })
            .unwrap()
        };
        let mut seen = 0;
        while !writer.is_finished() {
            let horizon = published.horizon();
            assert_eq!(horizon.last_timestamp, 3 * horizon.sequence);
            assert!(horizon.sequence >= seen);
            seen = horizon.sequence;
        }
        writer.join().unwrap();
        assert_eq!(published.horizon().sequence, 199_999);
    }
}
