//! An entry of the list, as it lies in the arena.
//!
//! ```text
//!                 links         the next entry on each of its levels, the lowest last
//! entry ───────►  key_len       u16
//!                 extent        u16     height << 11 | length of a value that is held here
//!                 key           filled up with zeros to at least 8 bytes
//!                 timestamp     u64
//!                 mark          u64     sequence << 8 | what else there is
//!                 expires_at    u64     if it expires
//!                 value         its bytes; of a long one a `Bytes`, aligned
//! ```
//!
//! What a search compares lies together: the link that leads on, and the front of the key. All but the links is written
//! before the entry is linked, and never again.

use std::cmp::Ordering;
use std::ptr::{self, NonNull, null_mut};
use std::slice;

use bytes::Bytes;

use super::arena::{ALIGN, Arena};
use super::partial::PartialKeys;
use super::{Link, MAX_HEIGHT};
use crate::Timestamp;
use crate::memtable::order::Place;
use crate::slice::Owner;
use crate::version::{Sequence, Stamp, ValueRef};

/// Longer values stay where they are and are shared: to copy them would cost more than it spares.
pub(crate) const LONGEST_INLINE: usize = 1024;

/// The front of an entry.
#[repr(C)]
pub(super) struct Header {
    key_len: u16,
    extent: u16,
}

const HEIGHT_SHIFT: u32 = 11;
const VALUE_LEN: u16 = (1 << HEIGHT_SHIFT) - 1;
const LINK: usize = size_of::<Link>();
const KEY: usize = size_of::<Header>();
/// How many bytes of a key are compared as one number.
const HEAD: usize = size_of::<u64>();
const NUMBER: usize = size_of::<u64>();
const _: () = assert!(align_of::<Link>() <= ALIGN && LINK.is_multiple_of(ALIGN) && align_of::<Bytes>() <= ALIGN);
const _: () = assert!(LONGEST_INLINE <= VALUE_LEN as usize && MAX_HEIGHT <= (u16::MAX >> HEIGHT_SHIFT) as usize);

const LATE: u64 = 1;
const TOMBSTONE: u64 = 2;
const EXPIRES: u64 = 4;
/// The value is a `Bytes`.
const LONG: u64 = 8;
const SEQUENCE_SHIFT: u32 = 8;
/// Two thousand years of a million operations a second.
const LARGEST_SEQUENCE: Sequence = Sequence::MAX >> SEQUENCE_SHIFT;

/// A value to be inserted.
pub(super) enum Value<'a> {
    Inline(&'a [u8]),
    Long(Bytes),
}

/// What an entry will hold.
pub(super) struct Draft<'a> {
    pub(super) key: &'a [u8],
    pub(super) stamp: Stamp,
    /// `None`: a tombstone.
    pub(super) value: Option<Value<'a>>,
    pub(super) expires_at: Option<Timestamp>,
}

impl Draft<'_> {
    /// Writes an entry whose links lead nowhere yet.
    ///
    /// # Panics
    /// If a key, an inline value or a sequence is larger than batches let it be.
    pub(super) fn write(self, arena: &Arena, height: usize) -> NonNull<Header> {
        let Self { key, stamp, value, expires_at } = self;
        let (inline, flag, long) = match value {
            None => (&[][..], TOMBSTONE, None),
            Some(Value::Inline(bytes)) => (bytes, 0, None),
            Some(Value::Long(bytes)) => (&[][..], LONG, Some(bytes)),
        };
        assert!(key.len() <= usize::from(u16::MAX) && inline.len() <= LONGEST_INLINE, "too long for a memtable");
        assert!(stamp.sequence <= LARGEST_SEQUENCE && (1..=MAX_HEIGHT).contains(&height));
        #[expect(clippy::cast_possible_truncation, reason = "looked at above")]
        let header = Header { key_len: key.len() as u16, extent: (height << HEIGHT_SHIFT | inline.len()) as u16 };
        let flags = flag | if stamp.late { LATE } else { 0 } | if expires_at.is_some() { EXPIRES } else { 0 };
        let mark = stamp.sequence << SEQUENCE_SHIFT | flags;

        let timestamp_at = header.timestamp_at();
        let value_at = value_at(timestamp_at, flags);
        let len = value_at + if long.is_some() { size_of::<Bytes>() } else { inline.len() };
        let front = height * LINK;
        let start = arena.allocate(front + len);
        // SAFETY: the piece has `front + len` bytes that nobody else knows of. Links and `Bytes` are written aligned: the
        // piece is, and a link is a multiple of it; numbers need not be. Everything ends at or before `len`: the key's
        // room before `timestamp_at`, the numbers before `value_at`, the value at `len`.
        unsafe {
            for link in 0..height {
                start.cast::<Link>().add(link).write(Link::new(null_mut()));
            }
            let entry = start.add(front);
            entry.cast::<Header>().write(header);
            entry.add(KEY).cast::<u64>().write_unaligned(0);
            ptr::copy_nonoverlapping(key.as_ptr(), entry.add(KEY).as_ptr(), key.len());
            entry.add(timestamp_at).cast::<u64>().write_unaligned(stamp.timestamp);
            entry.add(timestamp_at + NUMBER).cast::<u64>().write_unaligned(mark);
            if let Some(expires_at) = expires_at {
                entry.add(timestamp_at + 2 * NUMBER).cast::<u64>().write_unaligned(expires_at);
            }
            match long {
                Some(bytes) => entry.add(value_at).cast::<Bytes>().write(bytes),
                None => ptr::copy_nonoverlapping(inline.as_ptr(), entry.add(value_at).as_ptr(), inline.len()),
            }
            entry.cast()
        }
    }
}

impl Header {
    fn timestamp_at(&self) -> usize {
        KEY + usize::from(self.key_len).max(HEAD)
    }

    fn value_len(&self) -> usize {
        usize::from(self.extent & VALUE_LEN)
    }
}

fn value_at(timestamp_at: usize, flags: u64) -> usize {
    let at = timestamp_at + 2 * NUMBER + if flags & EXPIRES == 0 { 0 } else { NUMBER };
    if flags & LONG == 0 { at } else { at.next_multiple_of(ALIGN) }
}

/// An entry that can be read: it was written in full, is in the list or about to be, and its list lives for `'a`.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    header: NonNull<Header>,
    list: std::marker::PhantomData<&'a Link>,
}

impl<'a> Raw<'a> {
    /// # Safety
    /// `header` comes from [`Draft::write`] with an arena that lives for `'a`, and that write happened before this.
    pub(super) unsafe fn new(header: NonNull<Header>) -> Self {
        Self { header, list: std::marker::PhantomData }
    }

    pub(super) fn header(self) -> NonNull<Header> {
        self.header
    }

    /// The link of a level.
    ///
    /// # Safety
    /// The entry has more than `level` levels.
    pub(super) unsafe fn link(self, level: usize) -> &'a Link {
        // SAFETY: there are as many links before the header as it has levels, written with it and changed only as the
        // atomics that they are.
        unsafe { self.header.cast::<Link>().sub(level + 1).as_ref() }
    }

    /// On how many levels it is, at least one.
    pub(super) fn height(self) -> usize {
        usize::from(self.lens().extent >> HEIGHT_SHIFT)
    }

    /// The first bytes of the key as a number that sorts like them.
    fn head(self) -> u64 {
        // SAFETY: a key has room for at least that many bytes, all written.
        u64::from_be(unsafe { self.header.byte_add(KEY).cast::<u64>().read_unaligned() })
    }

    fn lens(self) -> &'a Header {
        // SAFETY: written, and never again.
        unsafe { self.header.as_ref() }
    }

    pub(super) fn key(self) -> &'a [u8] {
        // SAFETY: so many bytes were written there, and never again.
        unsafe { slice::from_raw_parts(self.header.byte_add(KEY).cast().as_ptr(), self.lens().key_len.into()) }
    }

    fn number(self, index: usize) -> u64 {
        let at = self.lens().timestamp_at() + index * NUMBER;
        // SAFETY: timestamp and mark are in every entry, the expiry where the mark says so, and nobody asks otherwise.
        unsafe { self.header.byte_add(at).cast::<u64>().read_unaligned() }
    }

    fn flags(self) -> u64 {
        self.number(1) & ((1 << SEQUENCE_SHIFT) - 1)
    }

    pub(super) fn timestamp(self) -> Timestamp {
        self.number(0)
    }

    pub(super) fn sequence(self) -> Sequence {
        self.number(1) >> SEQUENCE_SHIFT
    }

    pub(super) fn stamp(self) -> Stamp {
        Stamp { timestamp: self.timestamp(), sequence: self.sequence(), late: self.flags() & LATE != 0 }
    }

    pub(super) fn expires_at(self) -> Option<Timestamp> {
        (self.flags() & EXPIRES != 0).then(|| self.number(2))
    }

    pub(super) fn value(self) -> Option<ValueRef<'a>> {
        let flags = self.flags();
        if flags & TOMBSTONE != 0 {
            return None;
        }
        if let Some(long) = self.long() {
            // SAFETY: it was written, and is dropped with the list only.
            let owner = unsafe { long.as_ref() };
            return Some(ValueRef { bytes: owner, owner: Some(Owner::Bytes(owner)) });
        }
        let at = value_at(self.lens().timestamp_at(), flags);
        // SAFETY: so many bytes were written there, and never again.
        let bytes = unsafe { slice::from_raw_parts(self.header.byte_add(at).cast().as_ptr(), self.lens().value_len()) };
        Some(ValueRef { bytes, owner: None })
    }

    /// Where the value lies, if it is a `Bytes`.
    pub(super) fn long(self) -> Option<NonNull<Bytes>> {
        let flags = self.flags();
        // SAFETY: within the entry.
        (flags & LONG != 0).then(|| unsafe { self.header.byte_add(value_at(self.lens().timestamp_at(), flags)).cast() })
    }

    /// How it lies to a place (T1). Of most entries the first bytes of their keys decide.
    pub(super) fn compare(self, goal: &Goal<'_>) -> Ordering {
        self.head().cmp(&goal.head).then_with(|| self.compare_all(&goal.place))
    }

    fn compare_all(self, place: &Place<'_>) -> Ordering {
        self.key()
            .cmp(place.key)
            .then_with(|| place.timestamp.cmp(&self.timestamp()).then_with(|| place.sequence.cmp(&self.sequence())))
    }
}

/// A place to be looked for.
pub(super) struct Goal<'a> {
    place: Place<'a>,
    head: u64,
    /// Of the key; 0 if it is not known.
    pub(super) partial: usize,
}

impl<'a> Goal<'a> {
    pub(super) fn new(place: Place<'a>, partial: Option<&PartialKeys>) -> Self {
        let partial = partial.map_or(0, |partial| partial.of(place.key));
        let mut head = [0; HEAD];
        for (to, from) in head.iter_mut().zip(place.key) {
            *to = *from;
        }
        Self { place, head: u64::from_be_bytes(head), partial }
    }
}
