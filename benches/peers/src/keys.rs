//! Keys, values, and the orders in which they come: all from one seed, with little memory and little time, as making them
//! counts in the time of every engine.

/// Everything random follows from it.
pub const SEED: u64 = 0x5eed_0f7a_b1e5;

const PREFIX: &[u8; 24] = b"tenant/0000000042/events";
const INDEX_BYTES: usize = 8;
const PADDING: &[u8; 8] = b"00000000";
/// Above [`PADDING`]: a missing key lies right behind the present one of the same index.
const MISSING_PADDING: &[u8; 8] = b"0000000~";

/// One key: a prefix if there is one, eight bytes of index in big-endian, eight bytes of padding.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    bytes: [u8; 40],
    start: usize,
}

impl Key {
    pub fn new(prefix: bool) -> Self {
        let mut bytes = [0; 40];
        bytes[..PREFIX.len()].copy_from_slice(PREFIX);
        Self { bytes, start: if prefix { 0 } else { PREFIX.len() } }
    }

    pub fn present(&mut self, index: u64) -> &[u8] {
        self.set(index, PADDING)
    }

    /// Between the present keys of `index` and of its successor.
    pub fn missing(&mut self, index: u64) -> &[u8] {
        self.set(index, MISSING_PADDING)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn set(&mut self, index: u64, padding: &[u8; 8]) -> &[u8] {
        let (index_bytes, padding_bytes) = self.bytes[PREFIX.len()..].split_at_mut(INDEX_BYTES);
        index_bytes.copy_from_slice(&index.to_be_bytes());
        padding_bytes.copy_from_slice(padding);
        self.bytes()
    }
}

/// A random order of `0..count` that takes no memory: a Feistel network over the next power of four, walked on until it
/// falls below `count`.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    count: u64,
    half_bits: u32,
    round_keys: [u64; 4],
}

impl Permutation {
    pub fn new(count: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Self { count, half_bits: bits.div_ceil(2).max(1), round_keys: std::array::from_fn(|_| random.next()) }
    }

    /// What comes at `position`.
    pub fn at(&self, position: u64) -> u64 {
        debug_assert!(position < self.count);
        let mut value = position;
        loop {
            value = self.network(value);
            if value < self.count {
                return value;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Values that compress by half: slices of a pool in which every piece is followed by its copy.
pub struct Values {
    pool: Vec<u8>,
    value_bytes: usize,
    random: Random,
}

/// The size of a short value, so that each holds a whole pair.
const PAIR_BYTES: usize = 100;
const POOL_PAIRS: u64 = (1 << 20) / PAIR_BYTES as u64;

impl Values {
    /// `stream` tells threads, and passes over the same keys, from one another.
    pub fn new(value_bytes: usize, stream: u64) -> Self {
        let mut random = Random::new(SEED ^ 0x7a1);
        let mut pool = Vec::with_capacity(POOL_PAIRS as usize * PAIR_BYTES + value_bytes);
        while pool.len() < POOL_PAIRS as usize * PAIR_BYTES + value_bytes {
            let start = pool.len();
            pool.extend((0..PAIR_BYTES / 2).map(|_| random.next() as u8));
            pool.extend_from_within(start..);
        }
        Self { pool, value_bytes, random: Random::new(SEED ^ stream) }
    }

    pub fn next(&mut self) -> &[u8] {
        let place = self.place();
        self.at(place)
    }

    /// Where the next value is: for a batch, of which all values are looked at together.
    pub fn place(&mut self) -> usize {
        self.random.below(POOL_PAIRS) as usize * PAIR_BYTES
    }

    pub fn at(&self, place: usize) -> &[u8] {
        &self.pool[place..place + self.value_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_gives_each_number_once_and_not_in_order() {
        for count in [1, 2, 3, 7, 64, 65, 1000, 65_537] {
            let permutation = Permutation::new(count, SEED);
            let mut seen = vec![false; count as usize];
            for position in 0..count {
                let number = permutation.at(position) as usize;
                assert!(!std::mem::replace(&mut seen[number], true), "{number} twice, of {count}");
            }
        }
        let permutation = Permutation::new(1000, SEED);
        let rises = (1..1000).filter(|&position| permutation.at(position) > permutation.at(position - 1)).count();
        assert!((400..600).contains(&rises), "{rises} of 999 steps go up");
        let other = Permutation::new(1000, SEED + 1);
        assert!((0..1000).filter(|&position| permutation.at(position) == other.at(position)).count() < 20);
    }

    #[test]
    fn a_missing_key_lies_between_two_that_are_present() {
        for prefix in [false, true] {
            let (mut below, mut missing, mut above) = (Key::new(prefix), Key::new(prefix), Key::new(prefix));
            for index in [0, 1, 255, 256, 1_999_998] {
                assert!(below.present(index) < missing.missing(index));
                assert!(missing.bytes() < above.present(index + 1));
            }
            assert_eq!(below.bytes().len(), if prefix { 40 } else { 16 });
        }
    }

    #[test]
    fn values_compress_by_half() {
        for (value_bytes, values) in [(100, 40), (4096, 1)] {
            let mut maker = Values::new(value_bytes, 1);
            for _ in 0..20 {
                let mut block = Vec::new();
                (0..values).for_each(|_| block.extend_from_slice(maker.next()));
                let ratio = lz4_flex::block::compress(&block).len() as f64 / block.len() as f64;
                assert!((0.48..0.58).contains(&ratio), "{value_bytes}: {ratio}");
            }
        }
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(SEED);
        let mut counts = [0u32; 10];
        (0..10_000).for_each(|_| counts[random.below(10) as usize] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
