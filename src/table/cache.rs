//! The cache of decoded blocks, bounded by their bytes and shared by all tables of a database.
//!
//! File numbers are never used twice (S29), so a block never changes under its key: nothing is ever invalidated, what
//! belonged to a removed file ages out. A scan does not sweep out what point reads keep warm (the policy is
//! quick_cache's).

use std::hash::{BuildHasher, Hasher};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::tally::Tally;
use crate::format::FileNumber;

/// Blocks by where they lie. `V` clones cheaply (an `Arc`).
pub(crate) struct BlockCache<V: Clone> {
    /// `None` at capacity 0.
    blocks: Option<Cache<Place, Weighed<V>, ByWeight, FixedSeed>>,
    looks: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    file: FileNumber,
    offset: u64,
}

#[derive(Clone)]
struct Weighed<V> {
    block: V,
    bytes: u64,
}

#[derive(Clone)]
struct ByWeight;

impl<V> Weighter<Place, Weighed<V>> for ByWeight {
    fn weight(&self, _: &Place, held: &Weighed<V>) -> u64 {
        held.bytes
    }
}

/// A shard takes nothing larger than itself, and every shard is a lock: few shards of a small cache, many of a large
/// one.
const SHARD_BYTES: u64 = 4 << 20;
const MAX_SHARDS: u64 = 64;
/// What a block weighs about: the policy remembers as many evicted blocks as would be half of the cache at this size.
const TYPICAL_BLOCK_BYTES: u64 = 8 << 10;
/// What the cache itself needs for a block.
const ENTRY_BYTES: u64 = 64;

impl<V: Clone> BlockCache<V> {
    /// A cache that holds blocks of together at most `capacity` bytes; none at 0.
    pub(crate) fn new(capacity: u64) -> Self {
        let shards = (capacity / SHARD_BYTES).clamp(1, MAX_SHARDS);
        // The number of shards must not depend on the machine: which reads reach a file would.
        let options = OptionsBuilder::new()
            .shards(usize::try_from(1 << shards.ilog2()).unwrap_or(1))
            .estimated_items_capacity(
                usize::try_from((capacity / TYPICAL_BLOCK_BYTES).max(32 * shards)).unwrap_or(usize::MAX),
            )
            .weight_capacity(capacity)
            .build();
        let blocks = options
            .ok()
            .filter(|_| capacity > 0)
            .map(|options| Cache::with_options(options, ByWeight, FixedSeed, DefaultLifecycle::default()));
        Self { blocks, looks: Tally::default() }
    }

    /// The block at this place, if it is held; counts as a hit or a miss.
    pub(crate) fn get(&self, file: FileNumber, offset: u64) -> Option<V> {
        let held = self.blocks.as_ref().and_then(|blocks| blocks.get(&Place { file, offset }));
        self.looks.count(held.is_some());
        held.map(|held| held.block)
    }

    /// Holds `block`, which keeps `bytes` of memory, while there is room for it. One larger than the cache is not held.
    pub(crate) fn insert(&self, file: FileNumber, offset: u64, block: V, bytes: usize) {
        if let Some(blocks) = &self.blocks {
            blocks.insert(Place { file, offset }, Weighed { block, bytes: bytes as u64 + ENTRY_BYTES });
        }
    }

    /// What the held blocks weigh.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.as_ref().map_or(0, Cache::weight)
    }

    /// How many calls of `get` found a block.
    pub(crate) fn hits(&self) -> u64 {
        self.looks.hits()
    }

    /// How many calls of `get` found none.
    pub(crate) fn misses(&self) -> u64 {
        self.looks.misses()
    }
}

/// Hashes alike in every run, so that a simulation evicts alike. Users do not choose file numbers and offsets, so a
/// secret seed has nothing to guard.
#[derive(Clone)]
struct FixedSeed;

struct PlaceHasher(u64);

impl BuildHasher for FixedSeed {
    type Hasher = PlaceHasher;

    fn build_hasher(&self) -> PlaceHasher {
        PlaceHasher(0)
    }
}

impl Hasher for PlaceHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }

    /// Places differ in low bits; all bits of the hash must.
    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ (hash >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;

    type Blocks = BlockCache<Arc<u64>>;

    /// Reads a block and loads it where it is missing; says whether it was held.
    fn read(cache: &Blocks, file: u64, offset: u64, bytes: usize) -> bool {
        let held = cache.get(FileNumber(file), offset);
        if let Some(block) = &held {
            assert_eq!(**block, file << 32 | offset);
        } else {
            cache.insert(FileNumber(file), offset, Arc::new(file << 32 | offset), bytes);
        }
        held.is_some()
    }

    #[test]
    fn blocks_are_held_up_to_the_capacity_and_reads_are_counted() {
        for capacity in [100_000, 5 << 20, 64 << 20] {
            let cache = Blocks::new(capacity);
            for i in 0..capacity / 1000 {
                assert!(!read(&cache, i % 7, i * 4096, 4000));
                assert!(cache.bytes() <= capacity);
            }
            assert!(cache.bytes() > capacity / 10 * 8, "{} of {capacity}", cache.bytes());
            assert_eq!((cache.hits(), cache.misses()), (0, capacity / 1000));
        }
        let cache = Blocks::new(1 << 20);
        assert!(!read(&cache, 1, 0, 4000));
        assert!(read(&cache, 1, 0, 4000) && !read(&cache, 2, 0, 4000) && !read(&cache, 1, 4096, 4000));
        assert_eq!((cache.hits(), cache.misses()), (1, 3));
    }

    #[test]
    fn a_cache_of_nothing_and_a_block_larger_than_the_cache_are_no_error() {
        for capacity in [0, 1, 100, 5000] {
            let cache = Blocks::new(capacity);
            assert!(!read(&cache, 1, 0, 10_000) && !read(&cache, 1, 0, 10_000));
            assert_eq!((cache.bytes(), cache.misses()), (0, 2));
        }
    }

    #[test]
    fn a_scan_does_not_sweep_out_what_is_read_again_and_again() {
        let cache = Blocks::new(8 << 20);
        let warm = 500;
        for _ in 0..4 {
            (0..warm).for_each(|i| _ = read(&cache, 1, i * 4096, 4096));
        }
        for i in 0..20_000 {
            read(&cache, 2, i * 4096, 4096);
        }
        let kept = (0..warm).filter(|i| read(&cache, 1, i * 4096, 4096)).count();
        assert!(kept > 450, "{kept} of {warm} kept");
    }

    #[test]
    fn the_same_reads_hit_alike_in_every_run() {
        let run = || {
            let cache = Blocks::new(1 << 20);
            (0..10_000u64).map(|i| read(&cache, i % 3, i * i % 997 * 4096, 4096)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
