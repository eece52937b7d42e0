//! The bytes of a key or value as readers get them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use crate::sync::Arc;

/// Bytes up to this length are held in the slice itself: they pin nothing and cost no allocation.
const INLINE: usize = 30;

/// Immutable bytes that clone in O(1).
///
/// A short slice is held in place; a longer one shares the block that it lies in (a long one also the batch) and keeps
/// that alive, without a copy. Turns into [`Bytes`] or `Vec<u8>`.
#[derive(Clone)]
pub struct Slice(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    Shared(Bytes),
    /// Those from `start` on, `len` of them. The count of who shares a block lies in front of its bytes: they are not
    /// shared through anything that lies elsewhere, and would have to be fetched for it.
    Part {
        block: Arc<[u8]>,
        start: u32,
        len: u32,
    },
}

/// What bytes are a part of, and can be shared with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A batch, or a value that was given.
    Bytes(&'a Bytes),
    /// A block of a table.
    Block(&'a Arc<[u8]>),
}

impl Deref for Owner<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Block(block) => block,
        }
    }
}

impl Owner<'_> {
    fn share(self, part: &[u8]) -> Option<Repr> {
        match self {
            Self::Bytes(bytes) => Some(Repr::Shared(bytes.slice_ref(part))),
            Self::Block(block) => {
                let start = part.as_ptr().addr().checked_sub(block.as_ptr().addr())?;
                block.get(start..start.checked_add(part.len())?)?;
                let (start, len) = (u32::try_from(start).ok()?, u32::try_from(part.len()).ok()?);
                Some(Repr::Part { block: block.clone(), start, len })
            }
        }
    }
}

impl Slice {
    /// The empty slice.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Repr::Inline { len: 0, bytes: [0; INLINE] })
    }

    /// Copies `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Repr::Shared(Bytes::copy_from_slice(bytes))))
    }

    /// The part of `owner` that `part` (which must lie in it) covers.
    pub(crate) fn part_of(owner: Owner<'_>, part: &[u8]) -> Self {
        Self::inline(part).or_else(|| owner.share(part).map(Self)).unwrap_or_else(|| Self::copy_of(part))
    }

    /// What it shares, if it does not hold its bytes itself.
    pub(crate) fn owner(&self) -> Option<Owner<'_>> {
        match &self.0 {
            Repr::Inline { .. } => None,
            Repr::Shared(bytes) => Some(Owner::Bytes(bytes)),
            Repr::Part { block, .. } => Some(Owner::Block(block)),
        }
    }

    fn inline(source: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self(Repr::Inline { len: u8::try_from(source.len()).ok()?, bytes }))
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Shared(bytes) => bytes,
            Repr::Part { block, start, len } => {
                let front = usize::try_from(*start).ok().and_then(|start| block.get(start..)).unwrap_or_default();
                usize::try_from(*len).ok().and_then(|len| front.get(..len)).unwrap_or_default()
            }
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_of(bytes)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self(Repr::Shared(bytes.into())))
    }
}

impl From<Slice> for Bytes {
    fn from(slice: Slice) -> Self {
        match slice.0 {
            Repr::Inline { .. } => Bytes::copy_from_slice(&slice),
            Repr::Shared(bytes) => bytes,
            Repr::Part { .. } => Bytes::from_owner(slice),
        }
    }
}

impl From<Slice> for Vec<u8> {
    fn from(slice: Slice) -> Self {
        match slice.0 {
            Repr::Inline { .. } | Repr::Part { .. } => slice.to_vec(),
            Repr::Shared(bytes) => bytes.into(),
        }
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice
where
    T: NotSlice,
{
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

/// The byte types a [`Slice`] compares with.
pub trait NotSlice {}
impl NotSlice for [u8] {}
impl NotSlice for &[u8] {}
impl NotSlice for Vec<u8> {}
impl NotSlice for str {}
impl NotSlice for &str {}
impl NotSlice for String {}
impl NotSlice for Bytes {}
impl<const N: usize> NotSlice for [u8; N] {}
impl<const N: usize> NotSlice for &[u8; N] {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_bytes_are_held_in_place_and_long_ones_shared() {
        let (batch, block) = (Bytes::from(vec![7u8; 100]), Arc::from(vec![7u8; 100]));
        for owner in [Owner::Bytes(&batch), Owner::Block(&block)] {
            let bytes: &[u8] = &owner;
            let long = Slice::part_of(owner, &bytes[10..90]);
            assert_eq!(long.as_ptr(), bytes[10..].as_ptr());
            let short = Slice::part_of(owner, &bytes[10..20]);
            assert_ne!(short.as_ptr(), bytes[10..].as_ptr());
            assert_eq!(short, [7u8; 10]);
            for len in [0, 1, INLINE, INLINE + 1, 100] {
                assert_eq!(Slice::copy_of(&bytes[..len]), bytes[..len]);
                assert_eq!(Vec::from(Slice::part_of(owner, &bytes[..len])), &bytes[..len]);
                assert_eq!(Bytes::from(Slice::part_of(owner, &bytes[..len])), &bytes[..len]);
                assert_eq!(Bytes::from(Slice::from(bytes[..len].to_vec())), &bytes[..len]);
            }
        }
        assert_eq!(size_of::<Slice>(), 40);
    }

    #[test]
    fn what_lies_elsewhere_is_copied() {
        let block = Arc::from(vec![7u8; 100]);
        let other = vec![8u8; 200];
        assert_eq!(Slice::part_of(Owner::Block(&block), &other), other);
    }
}
