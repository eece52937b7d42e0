//! Partial keys: a few bits of an entry's key in the link that leads to it (Bohannon, McIlroy and Rastogi, 2001).
//!
//! A search looks at some forty entries, each a cache line that is far away in a large list, and a third of them only to
//! find that they lie behind. What a pointer to an entry does not need, the bits above an address and those below its
//! alignment, holds a *partial key*: a number that does not fall where keys rise. Where two partial keys differ they say
//! how the keys lie to each other, and the entry is not touched; where they are equal, or one is not known, it is.
//!
//! The first bits of a key would be the same for most keys. So a list learns from its first entries between which keys
//! it will mostly be, and divides what lies between; what lies outside has the partial key of the edge. That it guessed
//! badly, if keys come in rising order for instance, costs what there was to gain. What was linked before it learned has
//! no partial key, for ever.
//!
//! Where pointers have no bits to spare links go without, and partial keys still lead to [landmarks](super::landmarks).

use std::cmp::Ordering;

use super::entry::Header;

/// How many bits a partial key has.
pub(super) const BITS: u32 = HIGH_BITS + LOW_BITS;
/// Whether so many bits of a pointer are free: where that is known, and nobody else has a use for them, as for tags of
/// memory.
const IN_LINKS: bool = cfg!(target_arch = "x86_64");
const HIGH_BITS: u32 = 16;
const LOW_BITS: u32 = super::arena::ALIGN.trailing_zeros();
const HIGH_SHIFT: u32 = usize::BITS - HIGH_BITS;
const LOW: usize = (1 << LOW_BITS) - 1;
const ADDRESS: usize = if IN_LINKS { usize::MAX >> HIGH_BITS & !LOW } else { usize::MAX };
const LARGEST: usize = (1 << BITS) - 1;
/// The partial key of the least number that was expected; below it is 1, for what comes before.
const LEAST: usize = 2;
/// How many above it that of the greatest is; then comes the largest, for what comes behind.
const STEPS: u64 = LARGEST as u64 - 3;

/// Every entry has to lie below it.
pub(super) const END_OF_ADDRESSES: usize = if IN_LINKS { 1 << HIGH_SHIFT } else { usize::MAX };

/// What a link holds: the next entry, null at the end, and its partial key, 0 if that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next(*mut Header);

impl Next {
    pub(super) const NONE: Self = Self(std::ptr::null_mut());

    /// `partial`: of the entry's key, or 0.
    pub(super) fn new(entry: *mut Header, partial: usize) -> Self {
        let bits = if IN_LINKS { partial >> LOW_BITS << HIGH_SHIFT | partial & LOW } else { 0 };
        Self(entry.map_addr(|address| address | bits))
    }

    pub(super) fn of_link(link: *mut Header) -> Self {
        Self(link)
    }

    pub(super) fn to_link(self) -> *mut Header {
        self.0
    }

    pub(super) fn is_none(self) -> bool {
        self.0.is_null()
    }

    pub(super) fn entry(self) -> *mut Header {
        self.0.map_addr(|address| address & ADDRESS)
    }

    /// How its key lies to one with this partial key, if that can be told.
    pub(super) fn compare(self, partial: usize) -> Option<Ordering> {
        let bits = self.0.addr();
        let mine = if IN_LINKS { bits >> HIGH_SHIFT << LOW_BITS | bits & LOW } else { 0 };
        (mine != partial && mine != 0 && partial != 0).then(|| mine.cmp(&partial))
    }
}

/// What of a key is its partial key.
#[derive(Debug)]
pub(super) struct PartialKeys {
    /// What the keys have in common.
    prefix: Box<[u8]>,
    /// From which number behind it on, ...
    least: u64,
    /// ... and how far.
    span: u64,
    /// What makes of `span`, shifted until its first bit is set, [`STEPS`] in the bits above 64.
    scale: u64,
}

impl PartialKeys {
    /// For keys that mostly lie between these, or not far beyond.
    pub(super) fn between(first: &[u8], last: &[u8]) -> Option<Self> {
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let (least, most) = (number(first.get(common..)?), number(last.get(common..)?));
        let beyond = most.checked_sub(least).filter(|span| *span > 0)? / 8;
        let least = least.saturating_sub(beyond);
        let span = most.saturating_add(beyond) - least;
        let shifted = span << span.leading_zeros();
        let scale = u64::try_from((u128::from(STEPS) << u64::BITS) / u128::from(shifted)).unwrap_or(STEPS);
        Some(Self { prefix: first.get(..common)?.into(), least, span, scale })
    }

    /// Above 0, and not falling where keys rise.
    pub(super) fn of(&self, key: &[u8]) -> usize {
        let (front, rest) = key.split_at_checked(self.prefix.len()).unwrap_or((key, &[]));
        match front.cmp(&self.prefix) {
            Ordering::Less => 1,
            Ordering::Greater => LARGEST,
            Ordering::Equal => match number(rest).checked_sub(self.least) {
                None => 1,
                Some(above) if above > self.span => LARGEST,
                Some(above) => {
                    let scaled = u128::from(above << self.span.leading_zeros()) * u128::from(self.scale);
                    usize::try_from(scaled >> u64::BITS).map_or(LARGEST, |step| LEAST + step)
                }
            },
        }
    }
}

/// The first bytes, as a number that does not fall where they rise.
fn number(bytes: &[u8]) -> u64 {
    let mut first = [0; size_of::<u64>()];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn key(random: &mut StdRng) -> Vec<u8> {
        let alphabet = if random.random_bool(0.5) { 2..4 } else { 0..255 };
        let len = random.random_range(0..12);
        let mut key = if random.random_bool(0.5) { b"common/".to_vec() } else { Vec::new() };
        key.extend((0..len).map(|_| random.random_range(alphabet.clone())));
        key
    }

    #[test]
    fn partial_keys_do_not_fall_where_keys_rise() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..if cfg!(miri) { 5 } else { 300 } {
            let mut keys: Vec<_> = (0..100).map(|_| key(&mut random)).collect();
            keys.sort();
            let from = random.random_range(0..keys.len());
            let to = random.random_range(from..keys.len());
            let Some(partial) = PartialKeys::between(&keys[from], &keys[to]) else { continue };
            let all: Vec<_> = keys.iter().map(|key| partial.of(key)).collect();
            assert!(all.is_sorted(), "{partial:?} {keys:?} {all:?}");
            assert!(all.iter().all(|one| (1..=LARGEST).contains(one)));
            for (one, next) in keys.iter().zip(&all) {
                let link = Next::new(ptr::without_provenance_mut(4096), *next);
                assert_eq!((link.entry().addr(), link.is_none()), (4096, false));
                for (other, partial) in keys.iter().zip(&all) {
                    let by_link = link.compare(*partial);
                    assert!(by_link.is_none_or(|order| order == one.cmp(other)));
                    assert_eq!(by_link.is_some(), IN_LINKS && next != partial);
                }
            }
        }
    }

    #[test]
    fn keys_of_a_range_are_told_apart() {
        let key = |number: u64| [&b"a prefix of any length/"[..], &number.to_be_bytes(), b"behind"].concat();
        let partial = PartialKeys::between(&key(1_000_000), &key(2_000_000)).unwrap();
        let step = if cfg!(miri) { 10_000 } else { 10 };
        let all: std::collections::BTreeSet<_> =
            (1_000_000..2_000_000).step_by(step).map(|one| partial.of(&key(one))).collect();
        assert_eq!(all.len(), 1_000_000 / step);
        assert_eq!((partial.of(b"a"), partial.of(b"b")), (1, LARGEST));
        assert_eq!((partial.of(&key(0)), partial.of(&key(u64::MAX))), (1, LARGEST));
        assert!(PartialKeys::between(b"same", b"same").is_none());
    }

    #[test]
    fn a_link_without_a_partial_key_tells_nothing() {
        let entry = ptr::without_provenance_mut(8);
        assert_eq!(Next::new(entry, 0).compare(5), None);
        assert_eq!(Next::new(entry, 5).compare(0), None);
        assert!(Next::NONE.is_none() && Next::NONE.entry().is_null());
    }
}
