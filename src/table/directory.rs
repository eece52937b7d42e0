//! Where the keys of a block lie, made when the block is read: the first four bytes of every key, behind what all keys
//! of the block have in common, and where its entry begins.
//!
//! A search among entries that are read where they lie misses the processor's cache at each step, and decodes there.
//! Heads lie side by side, so a search among them touches few lines and decodes nothing; entries are looked at only
//! where heads are equal, which is mostly one. (Heads as in the "poor man's normalized key" of Graefe and Larson, B-tree
//! indexes and CPU caches, ICDE 2001.)
//!
//! ```text
//! in memory   what all keys have in common
//!             for each entry a u64: its key's head above, its place below, little-endian
//!             the payload
//! ```
//!
//! They lie in one piece of memory, an entry's place in the number with its head, and no more of a key than mostly tells
//! it from its neighbours: what counts here is how many lines a search waits
//! for, one after the other, since one from memory takes as long as hundreds of instructions. So a few heads are compared
//! all, which waits for all of their lines at once, and among many it is several at a time.

use std::cmp::Ordering;
use std::ops::Range;

use crate::format::{Reason, shared_prefix};
use crate::sync::Arc;

/// The payload of a block and the directory of its entries.
#[derive(Debug)]
pub(super) struct Directory {
    bytes: Arc<[u8]>,
    len: usize,
    /// How many bytes all keys have in common.
    common: usize,
}

/// Bytes of a head, and of a head with its place.
const HEAD: usize = 4;
const ENTRY: usize = 8;

/// The first four bytes as a number that sorts as they do; a shorter key's are filled with zeros.
fn head(key: &[u8]) -> u32 {
    if let Some(head) = key.first_chunk::<HEAD>() {
        return u32::from_be_bytes(*head);
    }
    let mut head = [0; HEAD];
    head.iter_mut().zip(key).for_each(|(byte, of)| *byte = *of);
    u32::from_be_bytes(head)
}

/// A head and a place.
fn entry(head: u32, place: u32) -> u64 {
    u64::from(head) << 32 | u64::from(place)
}

/// How many of ascending entries have a head below `head`. `near` is told between what it lies before that is known.
fn heads_below(entries: &[[u8; ENTRY]], head: u32, near: impl FnOnce(Range<usize>)) -> usize {
    /// So many heads are compared all.
    const FEW: usize = 48;
    /// Among more, the ends of so many parts.
    const PARTS: usize = 8;
    let least = entry(head, 0);
    let below = |entry: &&[u8; ENTRY]| u64::from_le_bytes(**entry) < least;
    let (mut left, mut skipped) = (entries, 0);
    while left.len() > FEW {
        let part = left.len().div_ceil(PARTS);
        let parts = left.iter().step_by(part).skip(1).filter(below).count();
        let start = parts * part;
        skipped += start;
        left = left.get(start..left.len().min(start + part)).unwrap_or_default();
    }
    near(skipped..skipped + left.len());
    skipped + left.iter().filter(below).count()
}

/// An entry of a block, and where its key lies: the front of the first key, so long as `shared` says, and then the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyAt {
    place: u32,
    shared: u32,
    rest: u32,
    rest_len: u32,
}

impl KeyAt {
    /// Of a payload, whose length bounds all of them.
    pub(super) fn new(place: usize, shared: usize, rest: Range<usize>) -> Result<Self, Reason> {
        let number = |at: usize| u32::try_from(at).map_err(|_| Reason::from("block is too long"));
        Ok(Self {
            place: number(place)?,
            shared: number(shared)?,
            rest: number(rest.start)?,
            rest_len: number(rest.len())?,
        })
    }

    fn shared(&self) -> usize {
        usize::try_from(self.shared).unwrap_or(usize::MAX)
    }

    pub(super) fn rest(&self) -> Range<usize> {
        let at = |number| usize::try_from(number).unwrap_or(usize::MAX);
        at(self.rest)..at(self.rest).saturating_add(at(self.rest_len))
    }
}

/// The keys of a payload's entries. They are compared where they lie: put together they may be far longer than the
/// payload, and what is done for a key must be bounded by what the key has in it.
struct Keys<'a> {
    payload: &'a [u8],
    /// The first one.
    whole: &'a [u8],
}

impl<'a> Keys<'a> {
    fn rest(&self, key: &KeyAt) -> &'a [u8] {
        self.payload.get(key.rest()).unwrap_or_default()
    }

    fn front(&self, from: usize, to: usize) -> &'a [u8] {
        self.whole.get(from..to).unwrap_or_default()
    }

    /// How many bytes a key has in common with the first one.
    fn common(&self, key: &KeyAt) -> usize {
        let shared = key.shared();
        shared + shared_prefix(self.whole.get(shared..).unwrap_or_default(), self.rest(key))
    }

    /// Whether a key begins with so many bytes of the first one.
    fn begins(&self, key: &KeyAt, common: usize) -> bool {
        let shared = key.shared();
        common <= shared || self.rest(key).get(..common - shared) == Some(self.front(shared, common))
    }

    /// The head of a key that begins with so many bytes of the first one.
    fn head(&self, key: &KeyAt, common: usize) -> u32 {
        let (shared, rest) = (key.shared(), self.rest(key));
        if shared <= common {
            return head(rest.get(common - shared..).unwrap_or_default());
        }
        let mut bytes = [0; HEAD];
        let front = self.front(common, shared).iter().take(HEAD).chain(rest);
        bytes.iter_mut().zip(front).for_each(|(byte, of)| *byte = *of);
        u32::from_be_bytes(bytes)
    }

    fn compare(&self, one: &KeyAt, other: &KeyAt) -> Ordering {
        if one.shared > other.shared {
            return self.compare(other, one).reverse();
        }
        // Both have the first key's front, so far as `one` does; `other` goes on with more of it.
        let (rest, more) = (self.rest(one), self.front(one.shared(), other.shared()));
        match rest.split_at_checked(more.len()) {
            Some((front, rest)) => front.cmp(more).then_with(|| rest.cmp(self.rest(other))),
            None => rest.cmp(more),
        }
    }
}

impl Directory {
    /// Of a payload with these entries, whose keys ascend strictly.
    pub(super) fn new(payload: &[u8], entries: &[KeyAt]) -> Result<Self, Reason> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err("block is empty".into()) };
        let whole = payload.get(first.rest()).unwrap_or_default();
        if first.shared != 0 || entries.iter().any(|entry| entry.shared() > whole.len()) {
            return Err("key shares more with the first one than that has".into());
        }
        let keys = Keys { payload, whole };
        // Of keys in order, what the first and the last have in common all have.
        let common = keys.common(last);
        let payload_at = common + entries.len() * ENTRY;
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, payload_at + payload.len()).collect();
        let room = Arc::get_mut(&mut bytes).ok_or("memory of a block is shared")?;
        let (front, room) = room.split_at_mut(common);
        let (directory, behind) = room.split_at_mut(entries.len() * ENTRY);
        front.copy_from_slice(whole.get(..common).unwrap_or_default());
        behind.copy_from_slice(payload);
        let mut before: Option<(u32, &KeyAt)> = None;
        for (key, made) in entries.iter().zip(directory.as_chunks_mut::<ENTRY>().0) {
            let head = keys.head(key, common);
            let ascends = before.is_none_or(|(lower, before)| {
                lower < head || (lower == head && keys.compare(before, key) == Ordering::Less)
            });
            if !ascends || !keys.begins(key, common) {
                return Err("keys of a block are out of order".into());
            }
            before = Some((head, key));
            let place = u32::try_from(payload_at).ok().and_then(|at| at.checked_add(key.place));
            *made = entry(head, place.ok_or("block is too long")?).to_le_bytes();
        }
        Ok(Self { bytes, len: entries.len(), common })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Everything; entries lie where [`place`](Self::place) says.
    pub(super) fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The payload.
    #[cfg(test)]
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload_at()..).unwrap_or_default()
    }

    /// Where the payload begins.
    pub(super) fn payload_at(&self) -> usize {
        self.common + self.len * ENTRY
    }

    fn entries(&self) -> &[[u8; ENTRY]] {
        self.bytes.get(self.common..self.payload_at()).unwrap_or_default().as_chunks::<ENTRY>().0
    }

    /// What all keys have in common.
    pub(super) fn common(&self) -> &[u8] {
        self.bytes.get(..self.common).unwrap_or_default()
    }

    /// Where an entry begins.
    pub(super) fn place(&self, at: usize) -> Option<usize> {
        let entry = u64::from_le_bytes(*self.entries().get(at)?);
        usize::try_from(entry & u64::from(u32::MAX)).ok()
    }

    /// The first entry at or above `key`, or the number of entries; and whether it is that key's. `compare` compares the
    /// key of an entry with `key`, of which it has the front in common.
    pub(super) fn find(
        &self,
        key: &[u8],
        compare: impl FnMut(usize) -> Result<Ordering, Reason>,
    ) -> Result<(usize, bool), Reason> {
        self.find_near(key, |_| (), compare)
    }

    /// The same. `near` is told between which entries it is, before the last lines of the directory are waited for.
    pub(super) fn find_near(
        &self,
        key: &[u8],
        near: impl FnOnce(Range<usize>),
        mut compare: impl FnMut(usize) -> Result<Ordering, Reason>,
    ) -> Result<(usize, bool), Reason> {
        match key.get(..self.common).unwrap_or(key).cmp(self.common()) {
            Ordering::Less => return Ok((0, false)),
            Ordering::Greater => return Ok((self.len, false)),
            Ordering::Equal => {}
        }
        let (entries, head) = (self.entries(), head(key.get(self.common..).unwrap_or_default()));
        let mut low = heads_below(entries, head, near);
        let same = |entry: &[u8; ENTRY]| u64::from_le_bytes(*entry) >> 32 == u64::from(head);
        let from_low = entries.get(low..).unwrap_or_default();
        // Mostly there is one of them at most.
        let mut high = low
            + match from_low.get(1) {
                Some(second) if same(second) => from_low.partition_point(same),
                _ => usize::from(from_low.first().is_some_and(same)),
            };
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of keys one behind the other, each sharing with the first what `shares` says of what it could; and the payload.
    fn directory(keys: &[&[u8]], shares: impl Fn(usize) -> usize) -> (Result<Directory, Reason>, Vec<u8>) {
        let (mut payload, mut entries) = (Vec::new(), Vec::new());
        for key in keys {
            let shared = if entries.is_empty() { 0 } else { shares(shared_prefix(keys[0], key)) };
            let place = payload.len();
            payload.extend_from_slice(&key[shared..]);
            entries.push(KeyAt::new(place, shared, place..payload.len()).unwrap());
        }
        (Directory::new(&payload, &entries), payload)
    }

    #[test]
    fn every_key_is_found_and_others_between_which_they_lie() {
        // S1: keys that heads tell apart and such that they do not, also for the zeros that fill short ones.
        let alphabet = [&b""[..], b"\0", b"\0\0", b"a", b"\xff", b"prefix"];
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for a in alphabet {
            for b in alphabet {
                for c in [&b""[..], b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0\0", b"12345678", b"123456789"] {
                    keys.push([a, b, c].concat());
                }
            }
        }
        keys.sort();
        keys.dedup();
        // Many whose heads are the same, behind one that has nothing in common with them.
        let alike = (0..200u8).map(|end| [&b"the same front "[..], &[end]].concat());
        keys.extend(alike);
        keys.sort();
        for (start, end) in [(0, keys.len()), (1, 2), (3, 40), (20, keys.len() - 9), (keys.len() - 12, keys.len())] {
            let held: Vec<&[u8]> = keys[start..end].iter().step_by(2).map(Vec::as_slice).collect();
            for shares in [|most| most, |most| most / 2, |_| 0] {
                let (made, payload) = directory(&held, shares);
                let made = made.unwrap();
                assert_eq!((made.len(), made.place(held.len())), (held.len(), None));
                assert_eq!(made.payload(), payload);
                assert_eq!(made.place(0), Some(made.payload_at()));
                for key in &keys {
                    let found = made.find(key, |at| Ok(held[at].cmp(key))).unwrap();
                    let expected = held.partition_point(|other| *other < key.as_slice());
                    assert_eq!(found, (expected, held.get(expected) == Some(&key.as_slice())), "{key:?}");
                }
            }
        }
    }

    #[test]
    fn keys_out_of_order_are_refused() {
        // S27
        assert!(directory(&[b"a", b"b", b"c"], |most| most).0.is_ok());
        let long = b"12345678";
        for keys in [[&b"a"[..], b"c", b"b"], [b"b", b"a", b"c"], [b"a", b"b", b"b"], [b"a", b"a", b"b"]] {
            for front in [&b""[..], long] {
                let keys = keys.map(|key| [front, front, key, front].concat());
                assert!(directory(&keys.each_ref().map(Vec::as_slice), |most| most).0.is_err(), "{keys:?}");
                assert!(directory(&keys.each_ref().map(Vec::as_slice), |_| 0).0.is_err(), "{keys:?}");
            }
        }
        // The one in the middle has not what the two others have in common, in all that heads show it is between them.
        for middle in [&b"xxb"[..], b"p", b"", b"zzb"] {
            assert!(directory(&[b"ppa", middle, b"ppc"], |_| 0).0.is_err(), "{middle:?}");
        }
    }
}
