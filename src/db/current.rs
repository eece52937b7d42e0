//! The picture that counts now, and how far commits are published.
//!
//! V1. The obvious way, a lock around "memtables, tables, newest commit", makes every reader touch a shared line.
//! Instead the picture ([`World`]) is immutable and swapped whole; memtable entries carry commit sequences; and a
//! [`View`] is one picture together with one sequence. A reader loads the picture, then the sequence, and tries again
//! if the picture changed in between: otherwise a memtable could have been replaced, and its successor filled, between
//! the two loads, and the view would promise commits that its picture does not hold. A memtable leaves the picture only
//! after every commit in it was published, so a table, which knows no sequences, never shows an unpublished one.

use super::world::World;
use crate::sync::{Arc, ArcSwap, AtomicU64, Mutex, Ordering};
use crate::version::Sequence;
use crate::{Result, Timestamp};

/// How far commits are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Everything up to here is visible.
    pub(crate) sequence: Sequence,
    /// The highest timestamp among it.
    pub(crate) last_timestamp: Timestamp,
}

/// The newest [`Horizon`], read without a lock: both numbers belong together, so they are written to the next place of
/// a small ring before the count moves on, and a reader that was overtaken by a whole round reads again.
#[derive(Debug)]
pub(crate) struct Published<const RING: usize = 64> {
    count: AtomicU64,
    ring: [(AtomicU64, AtomicU64); RING],
}

impl<const RING: usize> Published<RING> {
    pub(crate) fn new(horizon: Horizon) -> Self {
        let ring = std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0)));
        let published = Self { count: AtomicU64::new(0), ring };
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
        self.count.store(count, Ordering::Release);
    }

    pub(crate) fn horizon(&self) -> Horizon {
        loop {
            let count = self.count.load(Ordering::Acquire);
            let (sequence, last_timestamp) = self.place(count);
            let horizon = Horizon {
                sequence: sequence.load(Ordering::Acquire),
                last_timestamp: last_timestamp.load(Ordering::Acquire),
            };
            if self.count.load(Ordering::Acquire) - count < RING as u64 - 1 {
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

    /// Looks at the world without touching a shared counter.
    pub(crate) fn with_world<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.load())
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
        let published = Arc::new(Published::<64>::new(Horizon { sequence: 0, last_timestamp: 0 }));
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
        while seen < 199_999 {
            let horizon = published.horizon();
            assert_eq!(horizon.last_timestamp, 3 * horizon.sequence);
            assert!(horizon.sequence >= seen);
            seen = horizon.sequence;
        }
        writer.join().unwrap();
        assert_eq!(published.horizon().sequence, 199_999);
    }
}
