//! Which blocks stay in memory: bounded by their bytes, for all tables of a database.
//!
//! Blocks lie in slots (slots.rs). The cache knows of each, in the order in which they came, and empties slots when
//! there are too many bytes. File numbers are never used twice (S29), so a block never changes under its place: nothing
//! is ever invalidated.
//!
//! The policy is S3-FIFO (Yang et al., FIFO queues are all you need for cache eviction, SOSP 2023): what is new goes
//! through a small queue, and from there into the main one only if it was read again, or if it was there not long ago;
//! so a scan does not sweep out what point reads keep warm. What was read since the main queue's hand came by is spared
//! once. A hit writes nothing but that bit, and that only if it is not set.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::tally::Tally;

/// A block, as the cache knows it.
pub(super) trait Evict: Send + Sync {
    /// Whether it was read since this was asked last.
    fn take_visited(&self) -> bool;

    /// Lets go of it: nobody finds it any more, and it counts no longer.
    fn evict(&self);
}

/// See the module.
pub(crate) struct BlockCache {
    /// A power of two of them; none at capacity 0.
    shards: Box<[Shard]>,
    shard_bytes: u64,
    looks: Tally,
}

/// A shard takes nothing larger than itself, and every shard is a lock: few shards of a small cache, many of a large
/// one. How many must not depend on the machine: which reads reach a file would.
const SHARD_BYTES: u64 = 4 << 20;
const MAX_SHARDS: u64 = 64;
/// What a block weighs about: as many evicted blocks are remembered as would fill the cache at this size.
const TYPICAL_BLOCK_BYTES: u64 = 4 << 10;
/// No shard remembers more, however large it may become.
const MOST_REMEMBERED: u64 = 1 << 18;
/// What holding a block takes beside it: counts, its slot, its place in a queue.
const ENTRY_BYTES: u64 = 128;
/// One part in so many of a shard is the small queue.
const SMALL: u64 = 10;

impl BlockCache {
    /// A cache that holds blocks of together at most `capacity` bytes; none at 0.
    pub(crate) fn new(capacity: u64) -> Self {
        let shards = 1u64 << (capacity / SHARD_BYTES).clamp(1, MAX_SHARDS).ilog2();
        let shard_bytes = capacity / shards;
        let remembered = usize::try_from((shard_bytes / TYPICAL_BLOCK_BYTES).min(MOST_REMEMBERED)).unwrap_or(0);
        let remembered = remembered.next_power_of_two();
        let shards = if capacity == 0 { 0 } else { shards };
        Self { shards: (0..shards).map(|_| Shard::new(remembered)).collect(), shard_bytes, looks: Tally::default() }
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        let number = usize::try_from(hash >> 32).unwrap_or(0) & self.shards.len().checked_sub(1)?;
        self.shards.get(number)
    }

    /// Counts a look for a block.
    pub(super) fn count(&self, hit: bool) {
        self.looks.count(hit);
    }

    /// Counts a block of so many bytes in; `None` if it is too large to be held.
    pub(super) fn usage(&self, place: u64, bytes: usize) -> Option<Usage> {
        let bytes = bytes as u64 + ENTRY_BYTES;
        let shard = self.shard(spread(place)).filter(|_| bytes <= self.shard_bytes)?;
        shard.used.bytes.fetch_add(bytes, Ordering::Relaxed);
        shard.used.blocks.fetch_add(1, Ordering::Relaxed);
        Some(Usage { bytes, counts: AtomicBool::new(true), used: shard.used.clone() })
    }

    /// Takes a block in that was counted, and evicts others until there is room for it.
    pub(super) fn admit(&self, place: u64, block: Weak<dyn Evict>) {
        let hash = spread(place);
        if let Some(shard) = self.shard(hash) {
            shard.queues.lock().admit(hash, block, &shard.used, self.shard_bytes);
        }
    }

    /// What the held blocks weigh.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.used.bytes.load(Ordering::Relaxed)).sum()
    }

    /// How many looks found their block.
    pub(crate) fn hits(&self) -> u64 {
        self.looks.hits()
    }

    /// How many looks did not.
    pub(crate) fn misses(&self) -> u64 {
        self.looks.misses()
    }
}

/// What the blocks of one shard weigh that are held.
#[derive(Default)]
struct Used {
    bytes: AtomicU64,
    blocks: AtomicUsize,
}

/// What one block counts for, until it ends or goes.
pub(super) struct Usage {
    bytes: u64,
    counts: AtomicBool,
    used: Arc<Used>,
}

impl Usage {
    /// Counts no longer.
    pub(super) fn end(&self) {
        if self.counts.swap(false, Ordering::Relaxed) {
            self.used.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.used.blocks.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.end();
    }
}

struct Shard {
    used: Arc<Used>,
    queues: Mutex<Queues>,
}

impl Shard {
    fn new(remembered: usize) -> Self {
        Self { used: Arc::default(), queues: Mutex::new(Queues::new(remembered)) }
    }
}

/// A block in a queue. It goes with its slot: what stands here may be gone already.
struct Queued {
    hash: u64,
    block: Weak<dyn Evict>,
}

struct Queues {
    small: VecDeque<Queued>,
    main: VecDeque<Queued>,
    /// What was evicted from the small queue lately: parts of hashes, each at the place that its hash says.
    ghosts: Box<[u32]>,
}

impl Queues {
    fn new(remembered: usize) -> Self {
        Self { small: VecDeque::new(), main: VecDeque::new(), ghosts: vec![0; remembered].into() }
    }

    fn admit(&mut self, hash: u64, block: Weak<dyn Evict>, used: &Used, capacity: u64) {
        let queue = if self.forget(hash) { &mut self.main } else { &mut self.small };
        queue.push_back(Queued { hash, block });
        while used.bytes.load(Ordering::Relaxed) > capacity && self.evict(used.blocks.load(Ordering::Relaxed)) {}
        // Blocks that went with their tables leave their places here.
        if self.small.len() + self.main.len() > 2 * used.blocks.load(Ordering::Relaxed) + 64 {
            for queue in [&mut self.small, &mut self.main] {
                queue.retain(|queued| queued.block.strong_count() > 0);
            }
        }
    }

    /// Evicts a block of the queue that is over its share, or finds out something about one; `false` if there is none.
    fn evict(&mut self, blocks: usize) -> bool {
        let small = self.small.len() as u64 * SMALL >= blocks as u64 || self.main.is_empty();
        let (queue, other) = if small { (&mut self.small, &mut self.main) } else { (&mut self.main, &mut self.small) };
        let Some(queued) = queue.pop_front().or_else(|| other.pop_front()) else { return false };
        let Some(block) = queued.block.upgrade() else { return true };
        if block.take_visited() {
            self.main.push_back(queued);
        } else {
            block.evict();
            if small {
                self.remember(queued.hash);
            }
        }
        true
    }

    fn ghost(&mut self, hash: u64) -> Option<(&mut u32, u32)> {
        let place = usize::try_from(hash & 0xffff_ffff).unwrap_or(0) & self.ghosts.len().checked_sub(1)?;
        // Not 0, which is nothing.
        let part = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        Some((self.ghosts.get_mut(place)?, part))
    }

    fn remember(&mut self, hash: u64) {
        if let Some((ghost, part)) = self.ghost(hash) {
            *ghost = part;
        }
    }

    /// Whether it is remembered; it is not any more then.
    fn forget(&mut self, hash: u64) -> bool {
        match self.ghost(hash) {
            Some((ghost, part)) if *ghost == part => {
                *ghost = 0;
                true
            }
            _ => false,
        }
    }
}

/// Spreads a place over all bits (the finalizer of SplitMix64). Users do not choose places, so a secret seed has nothing
/// to guard; and alike in every run, so that a simulation evicts alike.
fn spread(place: u64) -> u64 {
    let mut hash = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Held, Slots};
    use super::*;

    impl Held for u64 {
        const FRONT_LINES: usize = 0;

        fn front(&self) -> &[u8] {
            &[]
        }
    }

    /// Blocks of some files, each of a thousand.
    struct Files {
        cache: BlockCache,
        slots: Vec<Slots<u64>>,
    }

    impl Files {
        fn new(capacity: u64) -> Self {
            Self { cache: BlockCache::new(capacity), slots: (0..8).map(|_| Slots::new(40_000)).collect() }
        }

        /// Reads a block and loads it where it is missing; says whether it was held.
        fn read(&self, file: usize, at: usize, bytes: usize) -> bool {
            let value = (file as u64) << 32 | at as u64;
            let held = self.slots[file].with(at, true, |block| assert_eq!(***block, value)).is_some();
            self.cache.count(held);
            if !held {
                assert_eq!(**self.slots[file].hold(at, value, bytes, &self.cache, value), value);
            }
            held
        }
    }

    #[test]
    fn blocks_are_held_up_to_the_capacity_and_reads_are_counted() {
        for capacity in [100_000, 5 << 20, 64 << 20] {
            let files = Files::new(capacity);
            let reads = usize::try_from(capacity / 1000).unwrap();
            for i in 0..reads {
                assert!(!files.read(i % 7, i / 7, 4000));
                assert!(files.cache.bytes() <= capacity);
            }
            assert!(files.cache.bytes() > capacity / 10 * 8, "{} of {capacity}", files.cache.bytes());
            assert_eq!((files.cache.hits(), files.cache.misses()), (0, reads as u64));
        }
        let files = Files::new(1 << 20);
        assert!(!files.read(1, 0, 4000));
        assert!(files.read(1, 0, 4000) && !files.read(2, 0, 4000) && !files.read(1, 1, 4000));
        assert_eq!((files.cache.hits(), files.cache.misses()), (1, 3));
    }

    #[test]
    fn a_cache_may_be_larger_than_all_memory() {
        let files = Files::new(u64::MAX);
        assert!(!files.read(1, 0, 4000) && files.read(1, 0, 4000));
    }

    #[test]
    fn a_cache_of_nothing_and_a_block_larger_than_the_cache_are_no_error() {
        for capacity in [0, 1, 100, 5000] {
            let files = Files::new(capacity);
            assert!(!files.read(1, 0, 10_000) && !files.read(1, 0, 10_000));
            assert_eq!((files.cache.bytes(), files.cache.misses()), (0, 2));
        }
    }

    #[test]
    fn a_scan_does_not_sweep_out_what_is_read_again_and_again() {
        let files = Files::new(8 << 20);
        let warm = 500;
        for _ in 0..4 {
            (0..warm).for_each(|i| _ = files.read(1, i, 4096));
        }
        for i in 0..20_000 {
            files.read(2, i, 4096);
        }
        let kept = (0..warm).filter(|i| files.read(1, *i, 4096)).count();
        assert!(kept > 450, "{kept} of {warm} kept");
    }

    #[test]
    fn what_comes_back_soon_after_it_was_evicted_stays() {
        let files = Files::new(4 << 20);
        // A loop over twice what fits: a queue alone would never hit.
        let hits = |rounds: usize| (0..rounds * 2000).filter(|i| files.read(3, i % 2000, 4000)).count();
        hits(3);
        let hits = hits(5);
        assert!(hits > 10_000 / 4, "{hits} hits in 10000");
    }

    #[test]
    fn the_same_reads_hit_alike_in_every_run() {
        let run = || {
            let files = Files::new(1 << 20);
            (0..10_000usize).map(|i| files.read(i % 3, i * i % 997, 4096)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn with_its_slots_a_file_is_forgotten_and_who_reads_a_block_keeps_it() {
        let mut files = Files::new(1 << 20);
        for round in 0..1000 {
            assert!(!files.read(0, round, 4000));
            let read = files.slots[0].with(round, true, Arc::clone).unwrap();
            assert!(files.cache.bytes() > 4000);
            files.slots[0] = Slots::new(1000);
            assert_eq!(**read, round as u64);
            drop(read);
            assert_eq!(files.cache.bytes(), 0);
        }
        let queues = files.cache.shards.iter().map(|shard| shard.queues.lock());
        let queued: usize = queues.map(|queues| queues.small.len() + queues.main.len()).sum();
        assert!(queued < 200, "{queued} places in queues of blocks that are gone");
    }

    #[test]
    fn threads_that_load_and_evict_the_same_blocks_never_see_another_one() {
        let files = Arc::new(Files::new(200_000));
        let threads: Vec<_> = (0..4)
            .map(|thread: usize| {
                let files = Arc::clone(&files);
                crate::sync::spawn("reader", move || {
                    for i in 0..20_000 {
                        files.read(i % 2, (i * 7919 + thread * 13) % 97, 4000);
                    }
                })
                .unwrap()
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(files.cache.bytes() <= 200_000);
        let held: usize =
            (0..2).map(|file| (0..97).filter(|at| files.slots[file].with(*at, true, |_| ()).is_some()).count()).sum();
        assert!(held as u64 * 4000 <= files.cache.bytes(), "{held} blocks in slots, {} bytes", files.cache.bytes());
    }
}
