//! Data blocks as they are written, and one row of them as it is read.
//!
//! ```text
//! data block  rows, keys strictly ascending
//!             handles, fixed, of the history blocks that the rows name
//!             base u64, number of handles u32, number of rows u32
//! row         kind u8
//!             shared varint         how many bytes the key has in common with the block's first key; 0 of that one
//!             rest of the key       length varint, bytes
//!             timestamp varint      zigzag of its difference to base
//!             expires_at varint     kind 3: zigzag of its difference to the timestamp
//!             value                 kinds 1 and 3: length varint, bytes
//!             history               with the bit 20: length varint, then where the older versions lie (history.rs)
//! kind        1 value, 2 tombstone, 3 value that expires; 4 to 6 are kept for references to blobs
//!             bit 10: the version is late (T2); bit 20: the file has older versions of the key
//! ```
//!
//! An unknown kind, or bit, is refused: a row cannot be passed over without changing what older versions mean (F1).

use std::ops::Range;

use super::block::Handle;
use super::history::HistoryRef;
use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode, Reason, shared_prefix};
use crate::slice::Owner;
use crate::sync::Arc;
use crate::version::{Stamp, TABLE_POINT, ValueRef, VersionRef};

const VALUE: u8 = 1;
const TOMBSTONE: u8 = 2;
const EXPIRING: u8 = 3;
const BLOBS: std::ops::RangeInclusive<u8> = 4..=6;
const NUMBER: u8 = 0x0f;
const LATE: u8 = 0x10;
const HISTORY: u8 = 0x20;

/// What a version is, without its timestamp and value. Rows and histories have it in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kind(u8);

impl Kind {
    pub(crate) fn of(version: &VersionRef<'_>) -> Self {
        let number = match (version.value, version.expires_at) {
            (None, _) => TOMBSTONE,
            (Some(_), None) => VALUE,
            (Some(_), Some(_)) => EXPIRING,
        };
        Self(number | if version.stamp.late { LATE } else { 0 })
    }

    #[inline]
    pub(crate) fn parse(byte: u8) -> Result<Self, Reason> {
        match byte & NUMBER {
            VALUE | TOMBSTONE | EXPIRING if byte & !(NUMBER | LATE | HISTORY) == 0 => Ok(Self(byte)),
            number if BLOBS.contains(&number) => {
                Err(Reason::unknown("version refers to a blob, which this build cannot read: kind", byte))
            }
            _ => Err(Reason::unknown("version of unknown kind", byte)),
        }
    }

    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    pub(crate) fn has_value(self) -> bool {
        self.0 & NUMBER != TOMBSTONE
    }

    pub(crate) fn expires(self) -> bool {
        self.0 & NUMBER == EXPIRING
    }

    pub(crate) fn is_late(self) -> bool {
        self.0 & LATE != 0
    }

    pub(crate) fn has_history(self) -> bool {
        self.0 & HISTORY != 0
    }
}

/// The difference of two timestamps as a number that is small when they are near each other, in both directions.
pub(crate) fn put_difference(out: &mut Vec<u8>, timestamp: Timestamp, base: Timestamp) {
    let difference = timestamp.wrapping_sub(base).cast_signed();
    out.put_varint(((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

#[inline]
pub(crate) fn take_difference(from: &mut Decoder<'_>, base: Timestamp) -> Result<Timestamp, DecodeError> {
    from.varint().map(|zigzag| add_difference(base, zigzag))
}

#[inline]
fn add_difference(base: Timestamp, zigzag: u64) -> Timestamp {
    base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg())
}

/// A version as it lies in a block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    pub(crate) kind: Kind,
    pub(crate) timestamp: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// Where its value lies in the block.
    pub(crate) value: Range<usize>,
}

impl Version {
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.kind.has_value() && (!self.kind.expires() || self.expires_at > now)
    }

    pub(crate) fn value<'a>(&self, block: &'a Arc<[u8]>) -> Option<ValueRef<'a>> {
        let bytes = || block.get(self.value.clone()).unwrap_or_default();
        self.kind.has_value().then(|| ValueRef { bytes: bytes(), owner: Some(Owner::Block(block)) })
    }

    pub(crate) fn borrow<'a>(&self, block: &'a Arc<[u8]>) -> VersionRef<'a> {
        VersionRef {
            stamp: Stamp { timestamp: self.timestamp, sequence: TABLE_POINT, late: self.kind.is_late() },
            value: self.value(block),
            expires_at: self.kind.expires().then_some(self.expires_at),
        }
    }
}

/// A row as it lies in a block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// How much of the block's first key is the front of this one.
    pub(crate) shared: usize,
    /// Where the rest of the key lies.
    pub(crate) rest: Range<usize>,
    pub(crate) version: Version,
    /// Where the place of the older versions lies; empty without.
    pub(crate) history: Range<usize>,
    /// Where the next row begins.
    pub(crate) end: usize,
}

impl Row {
    /// Reads the row that begins at `start`, before `end`, in place. Scans spend much of their time here: a row that is
    /// handed on costs as much again, and so does an error of its own for everything that can be wrong.
    #[inline]
    pub(crate) fn read(&mut self, block: &[u8], start: usize, end: usize, base: Timestamp) -> Result<(), Reason> {
        let mut from = Decoder::new(block.get(start..end).ok_or("row lies outside of its block")?);
        let kind = Kind::parse(from.u8().map_err(reason)?)?;
        Ok(self.read_on(kind, &mut from, start, base).ok_or("row is cut off, or has a number that cannot be")?)
    }

    #[inline(always)]
    fn read_on(&mut self, kind: Kind, from: &mut Decoder<'_>, start: usize, base: Timestamp) -> Option<()> {
        self.version.kind = kind;
        self.shared = usize::try_from(from.next_varint()?).ok()?;
        self.rest = range(from, start)?;
        self.version.timestamp = add_difference(base, from.next_varint()?);
        self.version.expires_at =
            if kind.expires() { add_difference(self.version.timestamp, from.next_varint()?) } else { 0 };
        self.version.value = if kind.has_value() { range(from, start)? } else { 0..0 };
        self.history = if kind.has_history() { range(from, start)? } else { 0..0 };
        self.end = start + from.offset();
        Some(())
    }
}

/// Where bytes with their length before them lie; `from` began at `start`.
#[inline(always)]
fn range(from: &mut Decoder<'_>, start: usize) -> Option<Range<usize>> {
    let len = from.next_bytes()?.len();
    let end = start + from.offset();
    Some(end - len..end)
}

#[inline]
pub(crate) fn reason(error: DecodeError) -> Reason {
    error.reason
}

/// Fills a data block.
#[derive(Default)]
pub(crate) struct DataBlockBuilder {
    bytes: Vec<u8>,
    rows: usize,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    base: Timestamp,
    /// Of the last row.
    kind_at: usize,
    last_timestamp: Timestamp,
}

impl DataBlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How long the block is by now.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 16
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// About how many bytes a row takes.
    pub(crate) fn row_len(key: &[u8], version: &VersionRef<'_>) -> usize {
        key.len() + version.value.map_or(0, |value| value.bytes.len()) + 12
    }

    pub(crate) fn add(&mut self, key: &[u8], version: &VersionRef<'_>) {
        let timestamp = version.stamp.timestamp;
        let shared = if self.is_empty() {
            self.base = timestamp;
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
            0
        } else {
            shared_prefix(&self.first_key, key)
        };
        self.rows += 1;
        self.kind_at = self.bytes.len();
        self.last_timestamp = timestamp;
        let rest = key.get(shared..).unwrap_or_default();
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.bytes.put_u8(Kind::of(version).byte());
        self.bytes.put_varint(shared as u64);
        self.bytes.put_bytes(rest);
        put_difference(&mut self.bytes, timestamp, self.base);
        if let Some(value) = version.value {
            if let Some(expires_at) = version.expires_at {
                put_difference(&mut self.bytes, expires_at, timestamp);
            }
            self.bytes.put_bytes(value.bytes);
        }
    }

    /// Says where the older versions of the last row's key lie.
    pub(crate) fn add_history(&mut self, history: &HistoryRef) {
        if let Some(kind) = self.bytes.get_mut(self.kind_at) {
            *kind |= HISTORY;
        }
        history.put(self.last_timestamp, &mut self.bytes);
    }

    /// The whole payload. The builder is to be cleared then.
    pub(crate) fn finish(&mut self, histories: &[Handle]) -> &[u8] {
        for handle in histories {
            handle.put_fixed(&mut self.bytes);
        }
        self.bytes.put_u64(self.base);
        for count in [histories.len(), self.rows] {
            self.bytes.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
        }
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        self.rows = 0;
        self.last_key.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_any_two_timestamps_are_read_back_and_small_ones_are_short() {
        let ends = [0, 1, 5, 1000, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
        for base in ends {
            for timestamp in ends {
                let mut bytes = Vec::new();
                put_difference(&mut bytes, timestamp, base);
                assert_eq!(take_difference(&mut Decoder::new(&bytes), base), Ok(timestamp));
                assert!(timestamp.abs_diff(base) > 60 || bytes.len() == 1);
            }
        }
    }

    #[test]
    fn unknown_kinds_are_refused_by_name() {
        // S31
        for byte in 0..=u8::MAX {
            let known = (1..=3).contains(&(byte & 0xf)) && byte & 0xc0 == 0;
            assert_eq!(Kind::parse(byte).is_ok(), known, "{byte:x}");
        }
        let refused = |kind| Kind::parse(kind).unwrap_err().to_string();
        assert_eq!(refused(4), "version refers to a blob, which this build cannot read: kind 0x04");
        assert_eq!(refused(0x81), "version of unknown kind 0x81");
    }
}
