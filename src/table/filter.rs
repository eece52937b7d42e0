//! The filter of a table: which keys are surely not in it. A Bloom filter in lines of 64 bytes, so that a lookup
//! touches one cache line.
//!
//! ```text
//! seed     u64   of the hash (xxh3, 64 bits) of whole keys
//! probes   u8    how many bits a key sets, 1 to 14
//! lines    n times 64 bytes, n from 1 to 2^32 - 1: each 8 words of u64
//! ```
//!
//! The upper half of a key's hash, as a fraction of 2^32, chooses the line. The hash times an odd constant gives, from
//! the top, 7 times 9 bits: the numbers of the bits in the line (bit b is bit b mod 64 of word b div 64). Probes 8 to
//! 14 take theirs from that product times the constant again. Numbers are little-endian.

use twox_hash::XxHash3_64;

use crate::format::{Decoder, Encode, Reason};
use crate::prefetch::fetch;

/// The seed of new filters. Each filter keeps its own, so that it can become a secret without a change of the format.
const SEED: u64 = 0;
/// 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const PROBES_A_PRODUCT: u8 = 7;
const MAX_PROBES: u8 = 2 * PROBES_A_PRODUCT;
const WORDS: usize = 8;
const LINE_BYTES: usize = 8 * WORDS;
const LINE_BITS: f64 = 512.0;
/// Beyond this many bits a key the probes there are do not make it better.
const MAX_BITS_PER_KEY: f64 = 24.0;

/// One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; WORDS]);

/// Where the bits of a key lie.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    hash: u64,
    probes: u8,
}

impl Place {
    fn of(hash: u64, lines: usize, probes: u8) -> Self {
        let line = ((hash >> 32) * lines as u64) >> 32;
        Self { line: usize::try_from(line).unwrap_or(0), hash, probes }
    }

    /// The word in the line, and the bit in the word, of each probe.
    fn bits(self) -> impl Iterator<Item = (usize, u64)> {
        let mut product = self.hash.wrapping_mul(SPREAD);
        let mut rest = product;
        (0..self.probes).map(move |probe| {
            if probe == PROBES_A_PRODUCT {
                product = product.wrapping_mul(SPREAD);
                rest = product;
            }
            let bit = rest >> 55;
            rest <<= 9;
            let word = (bit >> 6) as usize & (WORDS - 1);
            (word, 1 << (bit & 63))
        })
    }
}

/// Takes the keys of a table and makes their filter.
pub(crate) struct FilterBuilder {
    bits_per_key: f64,
    hashes: Vec<u64>,
}

impl FilterBuilder {
    /// At 10 bits a key about one absent key in a hundred passes; at 0 (or what is no number) there is no filter.
    pub(crate) fn new(bits_per_key: f64) -> Self {
        let bits_per_key = if bits_per_key > 0.0 { bits_per_key.min(MAX_BITS_PER_KEY) } else { 0.0 };
        Self { bits_per_key, hashes: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: &[u8]) {
        if self.bits_per_key > 0.0 {
            self.hashes.push(XxHash3_64::oneshot_with_seed(SEED, key));
        }
    }

    /// How many bytes `finish` will give.
    pub(crate) fn estimated_bytes(&self) -> usize {
        if self.hashes.is_empty() { 0 } else { 9 + self.lines() * LINE_BYTES }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and clamped to what fits")]
    fn lines(&self) -> usize {
        let lines = (self.hashes.len() as f64 * self.bits_per_key / LINE_BITS).ceil();
        lines.clamp(1.0, f64::from(u32::MAX)) as usize
    }

    /// The best number for a whole Bloom filter is ln 2 times the bits a key; in lines a little less is better.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1 to 14")]
    fn probes(&self) -> u8 {
        (self.bits_per_key * 0.6).round().clamp(1.0, f64::from(MAX_PROBES)) as u8
    }

    /// The filter's bytes; empty without bits or keys.
    pub(crate) fn finish(self) -> Vec<u8> {
        if self.hashes.is_empty() {
            return Vec::new();
        }
        let probes = self.probes();
        let mut lines = vec![Line::default(); self.lines()];
        for hash in &self.hashes {
            let place = Place::of(*hash, lines.len(), probes);
            let Some(line) = lines.get_mut(place.line) else { continue };
            for (word, bit) in place.bits() {
                #[expect(clippy::indexing_slicing, reason = "masked to the length of the array")]
                let word = &mut line.0[word];
                *word |= bit;
            }
        }
        let mut out = Vec::with_capacity(9 + lines.len() * LINE_BYTES);
        out.put_u64(SEED);
        out.put_u8(probes);
        for word in lines.iter().flat_map(|line| line.0) {
            out.put_u64(word);
        }
        out
    }
}

/// The filter of a table, in memory.
pub(crate) struct Filter {
    seed: u64,
    probes: u8,
    /// A copy, because the bytes of a file do not lie on cache lines.
    lines: Box<[Line]>,
}

impl Filter {
    /// What `finish` gave, if it is not empty. All bytes that have the shape of a filter are one; that they are the
    /// right ones is for the checksum around them to say.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, Reason> {
        const SHORT: &str = "filter is too short";
        let mut decoder = Decoder::new(block);
        let seed = decoder.u64().map_err(|_| SHORT)?;
        let probes = decoder.u8().map_err(|_| SHORT)?;
        if !(1..=MAX_PROBES).contains(&probes) {
            return Err("filter has an impossible number of probes".into());
        }
        let (lines, rest) = decoder.rest().as_chunks::<LINE_BYTES>();
        if lines.is_empty() || !rest.is_empty() || u32::try_from(lines.len()).is_err() {
            return Err("filter does not consist of whole lines".into());
        }
        let line = |bytes: &[u8; LINE_BYTES]| {
            let mut line = Line::default();
            for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            line
        };
        Ok(Self { seed, probes, lines: lines.iter().map(line).collect() })
    }

    /// Has the processor fetch what [`may_contain`](Self::may_contain) looks at.
    pub(crate) fn fetch(&self, key: HashedKey<'_>) {
        self.lines.get(self.place(key).line).into_iter().for_each(|line| fetch(line));
    }

    /// `false` only for a key that was not added.
    pub(crate) fn may_contain<'a>(&self, key: impl Into<HashedKey<'a>>) -> bool {
        let place = self.place(key.into());
        let Some(line) = self.lines.get(place.line) else { return true };
        #[expect(clippy::indexing_slicing, reason = "masked to the length of the array")]
        place.bits().all(|(word, bit)| line.0[word] & bit != 0)
    }

    fn place(&self, key: HashedKey<'_>) -> Place {
        let hash = if self.seed == SEED { key.hash } else { XxHash3_64::oneshot_with_seed(self.seed, key.key) };
        Place::of(hash, self.lines.len(), self.probes)
    }
}

/// A key and its hash by the seed of new filters: made once for all filters that are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct HashedKey<'a> {
    pub(crate) key: &'a [u8],
    hash: u64,
}

impl<'a, K: AsRef<[u8]> + ?Sized> From<&'a K> for HashedKey<'a> {
    fn from(key: &'a K) -> Self {
        let key = key.as_ref();
        Self { key, hash: XxHash3_64::oneshot_with_seed(SEED, key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(bits_per_key: f64, keys: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut builder = FilterBuilder::new(bits_per_key);
        keys.for_each(|key| builder.add(&key));
        let estimated = builder.estimated_bytes();
        let bytes = builder.finish();
        assert_eq!(bytes.len(), estimated);
        bytes
    }

    fn key(i: u64) -> Vec<u8> {
        format!("user/{i}").into_bytes()
    }

    fn passing(filter: &Filter, absent: u64) -> f64 {
        let passed = (0..absent).filter(|i| filter.may_contain(&key(1 << 40 | i))).count();
        passed as f64 / absent as f64
    }

    #[test]
    fn an_added_key_is_never_missed_and_an_absent_one_seldom_passes() {
        for (bits_per_key, limit) in [(0.5, 1.0), (1.0, 0.7), (5.0, 0.12), (10.0, 0.013), (16.0, 0.0025), (1e9, 0.0005)]
        {
            for keys in [1, 50, 1000, 100_000] {
                let filter = Filter::parse(&filter_of(bits_per_key, (0..keys).map(key))).unwrap();
                assert!((0..keys).all(|i| filter.may_contain(&key(i))));
                if keys >= 1000 {
                    let rate = passing(&filter, 100_000);
                    assert!(rate < limit, "{rate} of absent keys pass at {bits_per_key} bits");
                }
            }
        }
    }

    // S1
    #[test]
    fn prefixes_and_the_empty_key_are_keys_of_their_own() {
        let keys = [&b""[..], b"a", b"a\0", b"ab", b"a\xff", &[0; 1000], &[0; 1001]];
        let filter = Filter::parse(&filter_of(20.0, keys.iter().map(|k| k.to_vec()))).unwrap();
        assert!(keys.iter().all(|key| filter.may_contain(key)));
        assert!([&b"\0"[..], b"b", b"a\0\0", &[0; 999]].iter().filter(|key| filter.may_contain(key)).count() < 2);
    }

    #[test]
    fn without_bits_or_keys_there_is_no_filter() {
        assert!(filter_of(10.0, std::iter::empty()).is_empty());
        for bits_per_key in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(filter_of(bits_per_key, (0..9).map(key)).is_empty());
        }
    }

    #[test]
    fn bytes_are_frozen() {
        // xxh3 of "a" is 0xe6c632b61e964e1f; its six bits are [1, 351, 282, 452, 196, 91].
        let mut expected = vec![0; 8 + 1 + 64];
        expected[8] = 6;
        for bit in [1, 351, 282, 452, 196, 91] {
            expected[9 + bit / 8] |= 1 << (bit % 8);
        }
        assert_eq!(filter_of(10.0, std::iter::once(b"a".to_vec())), expected);
    }

    // S27
    #[test]
    fn what_has_not_the_shape_of_a_filter_is_refused() {
        let good = filter_of(10.0, (0..200).map(key));
        assert_eq!(good.len(), 9 + 4 * 64);
        for len in 0..good.len() {
            assert_eq!(Filter::parse(&good[..len]).is_ok(), len > 9 && (len - 9) % 64 == 0);
        }
        for probes in [0, MAX_PROBES + 1, 255] {
            let mut bad = good.clone();
            bad[8] = probes;
            assert!(Filter::parse(&bad).is_err());
        }
    }
}
