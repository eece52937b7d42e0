//! Data blocks as they are written, and one row of them as it is read.
//!
//! ```text
//! data block  rows, keys strictly ascending
//!             handles, fixed, of the history blocks that the rows name
//!             restarts: the offset in the block of every 16th row, u32 each, the first row's first
//!             base u64, number of handles u32, number of restarts u32
//! row         kind u8
//!             shared varint         how many bytes the key has in common with the key before; 0 at a restart
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

use bytes::Bytes;

use super::block::Handle;
use super::history::HistoryRef;
use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode, Reason, shared_prefix};
use crate::version::{Stamp, TABLE_POINT, ValueRef, VersionRef};

/// How many rows go from one restart to the next.
pub(super) const RESTART_INTERVAL: usize = 16;

const VALUE: u8 = 1;
const TOMBSTONE: u8 = 2;
const EXPIRING: u8 = 3;
const BLOBS: std::ops::RangeInclusive<u8> = 4..=6;
const NUMBER: u8 = 0x0f;
const LATE: u8 = 0x10;
const HISTORY: u8 = 0x20;

/// What a version is, without its timestamp and value. Rows and histories have it in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

pub(crate) fn take_difference(from: &mut Decoder<'_>, base: Timestamp) -> Result<Timestamp, DecodeError> {
    let zigzag = from.varint()?;
    Ok(base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()))
}

/// A version as it lies in a block.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) kind: Kind,
    pub(crate) timestamp: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// Where its value lies in the block.
    pub(crate) value: Range<usize>,
}

impl Version {
    pub(crate) fn borrow<'a>(&self, block: &'a Bytes) -> VersionRef<'a> {
        let value = || ValueRef { bytes: block.get(self.value.clone()).unwrap_or_default(), owner: Some(block) };
        VersionRef {
            stamp: Stamp { timestamp: self.timestamp, sequence: TABLE_POINT, late: self.kind.is_late() },
            value: self.kind.has_value().then(value),
            expires_at: self.kind.expires().then_some(self.expires_at),
        }
    }
}

/// A row as it lies in a block.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// How much of the key before is the front of this one.
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
    /// The row that begins at `start`, before `end`.
    pub(crate) fn decode(block: &[u8], start: usize, end: usize, base: Timestamp) -> Result<Self, Reason> {
        let bytes = block.get(start..end).ok_or("row lies outside of its block")?;
        let mut from = Decoder::new(bytes);
        let kind = Kind::parse(from.u8().map_err(reason)?)?;
        let shared = from.varint_usize().map_err(reason)?;
        let rest = take_range(&mut from, start)?;
        let timestamp = take_difference(&mut from, base).map_err(reason)?;
        let expires_at = if kind.expires() { take_difference(&mut from, timestamp).map_err(reason)? } else { 0 };
        let value = if kind.has_value() { take_range(&mut from, start)? } else { 0..0 };
        let history = if kind.has_history() { take_range(&mut from, start)? } else { 0..0 };
        let end = start + from.offset();
        Ok(Self { shared, rest, version: Version { kind, timestamp, expires_at, value }, history, end })
    }

    /// The key of a row at a restart, which is whole.
    pub(crate) fn restart_key(block: &[u8], start: usize, end: usize) -> Result<&[u8], Reason> {
        let mut from = Decoder::new(block.get(start..end).ok_or("restart lies outside of its block")?);
        Kind::parse(from.u8().map_err(reason)?)?;
        if from.varint().map_err(reason)? != 0 {
            return Err("key at a restart is not whole".into());
        }
        from.bytes().map_err(reason)
    }
}

pub(crate) fn reason(error: DecodeError) -> Reason {
    error.reason
}

/// Where bytes with their length before them lie; `from` began at `start`.
fn take_range(from: &mut Decoder<'_>, start: usize) -> Result<Range<usize>, Reason> {
    let len = from.bytes().map_err(reason)?.len();
    let end = start + from.offset();
    Ok(end - len..end)
}

/// Fills a data block.
#[derive(Default)]
pub(crate) struct DataBlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    rows: usize,
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
        self.bytes.len() + self.restarts.len() * 4 + 16
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
        if self.is_empty() {
            self.base = timestamp;
        }
        let shared = if self.rows.is_multiple_of(RESTART_INTERVAL) {
            // Payloads end at 257 MiB: a block whose offsets do not fit is refused when it is written.
            self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            0
        } else {
            shared_prefix(&self.last_key, key)
        };
        self.rows += 1;
        self.kind_at = self.bytes.len();
        self.last_timestamp = timestamp;
        let rest = key.get(shared..).unwrap_or_default();
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
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
        for restart in &self.restarts {
            self.bytes.put_u32(*restart);
        }
        self.bytes.put_u64(self.base);
        for count in [histories.len(), self.restarts.len()] {
            self.bytes.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
        }
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        self.restarts.clear();
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
