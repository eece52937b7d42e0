//! Ranges of keys: what callers may write, and the bounds that the engine works with.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::Slice;

/// A pair of bounds on keys.
pub(crate) type KeyBounds = (Bound<Slice>, Bound<Slice>);

/// A range of keys: any of std's range types, or a pair of [`Bound`]s, over anything that is bytes.
///
/// Sealed: nothing else implements it. An inverted range is empty.
///
/// ```
/// use std::ops::Bound;
/// use strandline::KeyRange;
///
/// fn takes(_range: impl KeyRange) {}
///
/// takes("a".."f");
/// takes(b"abc"..=b"abd");
/// takes(..);
/// takes(vec![0u8]..);
/// takes(&String::from("a")..&String::from("f"));
/// takes((Bound::Excluded("a"), Bound::Unbounded));
/// ```
pub trait KeyRange: IntoBounds {}

pub(crate) mod sealed {
    /// What a range of keys is to the engine.
    pub trait IntoBounds {
        /// The bounds, owned.
        fn into_bounds(self) -> super::KeyBounds;
    }
}

pub(crate) use sealed::IntoBounds;

fn owned(key: impl AsRef<[u8]>) -> Slice {
    Slice::copy_of(key.as_ref())
}

impl KeyRange for RangeFull {}
impl IntoBounds for RangeFull {
    fn into_bounds(self) -> KeyBounds {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for Range<K> {}
impl<K: AsRef<[u8]>> IntoBounds for Range<K> {
    fn into_bounds(self) -> KeyBounds {
        (Bound::Included(owned(self.start)), Bound::Excluded(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeInclusive<K> {}
impl<K: AsRef<[u8]>> IntoBounds for RangeInclusive<K> {
    fn into_bounds(self) -> KeyBounds {
        let (start, end) = self.into_inner();
        (Bound::Included(owned(start)), Bound::Included(owned(end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeFrom<K> {}
impl<K: AsRef<[u8]>> IntoBounds for RangeFrom<K> {
    fn into_bounds(self) -> KeyBounds {
        (Bound::Included(owned(self.start)), Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeTo<K> {}
impl<K: AsRef<[u8]>> IntoBounds for RangeTo<K> {
    fn into_bounds(self) -> KeyBounds {
        (Bound::Unbounded, Bound::Excluded(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeToInclusive<K> {}
impl<K: AsRef<[u8]>> IntoBounds for RangeToInclusive<K> {
    fn into_bounds(self) -> KeyBounds {
        (Bound::Unbounded, Bound::Included(owned(self.end)))
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {}
impl<K: AsRef<[u8]>> IntoBounds for (Bound<K>, Bound<K>) {
    fn into_bounds(self) -> KeyBounds {
        (self.0.map(owned), self.1.map(owned))
    }
}

/// The keys that begin with `prefix`.
pub(crate) fn prefix_bounds(prefix: &[u8]) -> KeyBounds {
    let end = successor_of_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(Slice::copy_of(prefix)), end)
}

/// The least key above all that begin with `prefix`; `None` where there is none (only bytes 0xff).
fn successor_of_prefix(prefix: &[u8]) -> Option<Slice> {
    let (last, front) = prefix.iter().rposition(|byte| *byte != 0xff).and_then(|at| prefix.get(..=at)?.split_last())?;
    let mut successor = front.to_vec();
    successor.push(last + 1);
    Some(successor.into())
}

/// `bounds` as a half-open range: from a key (included) to another (excluded; `None`: to the last key). `None` when no
/// key can lie in it. A bound may be one byte longer than the longest key.
pub(crate) fn half_open(bounds: KeyBounds) -> Option<(Slice, Option<Slice>)> {
    let start = match bounds.0 {
        Bound::Unbounded => Slice::empty(),
        Bound::Included(key) => key,
        Bound::Excluded(key) => successor(&key),
    };
    let end = match bounds.1 {
        Bound::Unbounded => None,
        Bound::Included(key) => Some(successor(&key)),
        Bound::Excluded(key) => Some(key),
    };
    end.as_ref().is_none_or(|end| start < *end).then_some((start, end))
}

/// The least key above `key`.
fn successor(key: &[u8]) -> Slice {
    let mut longer = Vec::with_capacity(key.len() + 1);
    longer.extend_from_slice(key);
    longer.push(0);
    longer.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::RangeBounds;

    fn bounds(range: impl KeyRange) -> KeyBounds {
        range.into_bounds()
    }

    fn slice(text: &str) -> Slice {
        Slice::copy_of(text.as_bytes())
    }

    #[test]
    fn every_way_to_write_a_range_has_the_bounds_that_it_says() {
        let (a, f) = (slice("a"), slice("f"));
        let half_open = (Bound::Included(a.clone()), Bound::Excluded(f.clone()));
        let closed = (Bound::Included(a.clone()), Bound::Included(f.clone()));
        let (low, high) = (String::from("a"), String::from("f"));
        assert_eq!(bounds("a".."f"), half_open);
        assert_eq!(bounds(b"a"..b"f"), half_open);
        assert_eq!(bounds(&low..&high), half_open);
        assert_eq!(bounds(low.as_str()..high.as_str()), half_open);
        assert_eq!(bounds(a.clone()..f.clone()), half_open);
        assert_eq!(bounds(bytes::Bytes::from("a")..bytes::Bytes::from("f")), half_open);
        assert_eq!(bounds(low.as_bytes()..=high.as_bytes()), closed);
        assert_eq!(bounds(b"a".to_vec()..=b"f".to_vec()), closed);
        assert_eq!(bounds(..), (Bound::Unbounded, Bound::Unbounded));
        assert_eq!(bounds("a"..), (Bound::Included(a.clone()), Bound::Unbounded));
        assert_eq!(bounds(.."f"), (Bound::Unbounded, Bound::Excluded(f.clone())));
        assert_eq!(bounds(..="f"), (Bound::Unbounded, Bound::Included(f.clone())));
        assert_eq!(bounds((Bound::Excluded("a"), Bound::Unbounded)), (Bound::Excluded(a), Bound::Unbounded));
        assert_eq!(bounds((Bound::Unbounded, Bound::Included(&b"f"[..]))), (Bound::Unbounded, Bound::Included(f)));
    }

    /// All keys of up to three bytes over an alphabet that has the edges in it.
    fn keys() -> Vec<Vec<u8>> {
        let mut keys = vec![vec![]];
        for len in 0..3 {
            let longest: Vec<Vec<u8>> = keys.iter().filter(|key| key.len() == len).cloned().collect();
            for key in longest {
                keys.extend([0, 1, 0x7f, 0xfe, 0xff].map(|byte| [&key[..], &[byte]].concat()));
            }
        }
        keys
    }

    #[test]
    fn a_prefix_covers_exactly_the_keys_that_begin_with_it() {
        let keys = keys();
        for prefix in &keys {
            let (start, end) = prefix_bounds(prefix);
            for key in &keys {
                let inside = (start.clone(), end.clone()).contains(&slice_of(key));
                assert_eq!(inside, key.starts_with(prefix), "{prefix:x?} {key:x?}");
            }
        }
    }

    #[test]
    fn a_half_open_range_holds_the_same_keys_as_the_bounds_it_came_from() {
        let keys = keys();
        let ends = |key: &[u8]| [Bound::Included(slice_of(key)), Bound::Excluded(slice_of(key)), Bound::Unbounded];
        let some: Vec<&Vec<u8>> = keys.iter().step_by(7).collect();
        for (low, high) in some.iter().flat_map(|low| some.iter().map(move |high| (low, high))) {
            for (start, end) in ends(low).into_iter().flat_map(|s| ends(high).map(|e| (s.clone(), e))) {
                let half_open = half_open((start.clone(), end.clone()));
                for key in &keys {
                    let key = slice_of(key);
                    let inside = half_open
                        .as_ref()
                        .is_some_and(|(start, end)| *start <= key && end.as_ref().is_none_or(|end| key < *end));
                    assert_eq!(inside, (start.clone(), end.clone()).contains(&key), "{start:?} {end:?} {key:?}");
                }
            }
        }
    }

    fn slice_of(key: &[u8]) -> Slice {
        Slice::copy_of(key)
    }
}
