//! What is known of a table without opening it. The manifest keeps it for every file; the file itself holds it as its
//! properties.
//!
//! ```text
//! meta      count varint, then so many properties, their kinds strictly ascending
//! property  kind u8, length varint, payload
//!    1  file        number u64, length of the file u64
//!    2  smallest    the least key, or start of a range tombstone
//!    3  upper       0 and the greatest key | 1 and the exclusive end of a range tombstone | 2
//!    4  timestamps  least varint, greatest varint; over points, history and range tombstones
//!    5  counts      keys, versions, point tombstones, fragments of range tombstones, as varints
//!    6  late        1 if any version or range tombstone is late, or 0
//!   87  freeable    count varint; then the steps: timestamp varint, bytes varint, both as the difference to the step before
//!   88  log end     varint: what the table holds of the log lies before this position
//!   89  origin      in the file only: what a repair has to know if the manifest is lost (db/origin.rs)
//! ```
//!
//! Kinds are hexadecimal; an unknown one is passed over if it has the bit `MAY_SKIP`, and refused otherwise (F1).

use std::ops::Bound;

use super::freeable::Freeable;
use crate::format::{DecodeError, Decoder, Encode, FileNumber, MAY_SKIP, Reason};
use crate::{Slice, Timestamp};

const FILE: u8 = 1;
const SMALLEST: u8 = 2;
const UPPER: u8 = 3;
const TIMESTAMPS: u8 = 4;
const COUNTS: u8 = 5;
const LATE: u8 = 6;
const FREEABLE: u8 = 7 | MAY_SKIP;
const LOG_END: u8 = 8 | MAY_SKIP;
const ORIGIN: u8 = 9 | MAY_SKIP;

/// No table has more bytes, or more of anything: sums over tables fit.
const MOST: u64 = 1 << 48;

/// Where the keys of a table end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpperBound {
    /// The greatest key.
    Included(Slice),
    /// A range tombstone ends before this key, which is above every key of the table.
    Excluded(Slice),
    /// A range tombstone reaches to the last key.
    Unbounded,
}

impl UpperBound {
    pub(crate) fn as_bound(&self) -> Bound<&[u8]> {
        match self {
            Self::Included(key) => Bound::Included(key),
            Self::Excluded(key) => Bound::Excluded(key),
            Self::Unbounded => Bound::Unbounded,
        }
    }

    /// Whether `key` lies below it.
    pub(crate) fn admits(&self, key: &[u8]) -> bool {
        below(key, self.as_bound())
    }
}

impl Ord for UpperBound {
    /// A bound is greater when it admits more keys.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |bound: &Self| match bound {
            Self::Excluded(_) => 0,
            Self::Included(_) => 1,
            Self::Unbounded => 2,
        };
        match (self, other) {
            (Self::Included(a) | Self::Excluded(a), Self::Included(b) | Self::Excluded(b)) => {
                a.cmp(b).then(rank(self).cmp(&rank(other)))
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl PartialOrd for UpperBound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether `key` lies below an upper bound.
fn below(key: &[u8], bound: Bound<&[u8]>) -> bool {
    match bound {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    }
}

/// What is known of a table without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMeta {
    pub(crate) number: FileNumber,
    /// The file's length.
    pub(crate) bytes: u64,
    /// No key, and no start of a range tombstone, is less.
    pub(crate) smallest: Slice,
    /// All keys and range tombstones lie below it.
    pub(crate) upper: UpperBound,
    /// Over everything in the file, history and range tombstones too.
    pub(crate) min_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) keys: u64,
    /// Points, tombstones among them.
    pub(crate) versions: u64,
    /// Point tombstones.
    pub(crate) tombstones: u64,
    /// Fragments of range tombstones.
    pub(crate) range_tombstones: u64,
    /// Whether any version or range tombstone is late (T2).
    pub(crate) late: bool,
    pub(crate) freeable: Freeable,
    /// Whatever it holds of the log was logged before this position. What a repair wrote may hold more: it says no more
    /// than another repair may rely on.
    pub(crate) log_end: u64,
}

impl TableMeta {
    /// Of a small file of one key, for tests that ask for bounds only.
    #[cfg(test)]
    pub(crate) fn of_keys(number: FileNumber, smallest: Slice, upper: UpperBound) -> Self {
        Self {
            number,
            bytes: 10,
            smallest,
            upper,
            min_timestamp: 1,
            max_timestamp: 1,
            keys: 1,
            versions: 1,
            tombstones: 0,
            range_tombstones: 0,
            late: false,
            freeable: Freeable::default(),
            log_end: 0,
        }
    }

    /// Whether `key` lies within the table's bounds.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        *self.smallest <= *key && self.upper.admits(key)
    }

    /// Whether the table's bounds and the keys from `start` to `end` have anything in common.
    pub(crate) fn overlaps_keys(&self, start: &[u8], end: Bound<&[u8]>) -> bool {
        let first = start.max(&self.smallest);
        below(first, end) && self.upper.admits(first)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(out, None);
    }

    /// As the properties of its file, which name its origin as well.
    pub(crate) fn encode_with(&self, out: &mut Vec<u8>, origin: Option<&[u8]>) {
        let mut payload = Vec::new();
        out.put_varint(8 + u64::from(origin.is_some()));
        let mut put = |kind: u8, fill: &dyn Fn(&mut Vec<u8>)| {
            payload.clear();
            fill(&mut payload);
            out.put_u8(kind);
            out.put_bytes(&payload);
        };
        // The number and the length are of fixed width, so that a writer knows how long its file will be before it says
        // so.
        put(FILE, &|p| {
            p.put_u64(self.number.0);
            p.put_u64(self.bytes);
        });
        put(SMALLEST, &|p| p.extend_from_slice(&self.smallest));
        put(UPPER, &|p| match &self.upper {
            UpperBound::Included(key) => {
                p.put_u8(0);
                p.extend_from_slice(key);
            }
            UpperBound::Excluded(key) => {
                p.put_u8(1);
                p.extend_from_slice(key);
            }
            UpperBound::Unbounded => p.put_u8(2),
        });
        put(TIMESTAMPS, &|p| {
            p.put_varint(self.min_timestamp);
            p.put_varint(self.max_timestamp);
        });
        put(COUNTS, &|p| {
            for count in [self.keys, self.versions, self.tombstones, self.range_tombstones] {
                p.put_varint(count);
            }
        });
        put(LATE, &|p| p.put_u8(u8::from(self.late)));
        put(FREEABLE, &|p| self.freeable.encode(p));
        put(LOG_END, &|p| p.put_varint(self.log_end));
        if let Some(origin) = origin {
            put(ORIGIN, &|p| p.extend_from_slice(origin));
        }
    }

    /// The origin that stands among the properties, if one does.
    pub(crate) fn origin_in<'a>(from: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
        let mut origin = None;
        for _ in 0..from.varint()? {
            let (kind, payload) = (from.u8()?, from.bytes()?);
            if kind == ORIGIN {
                origin = Some(payload);
            }
        }
        Ok(origin)
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (mut file, mut smallest, mut upper, mut timestamps) = (None, None, None, None);
        let (mut counts, mut late, mut freeable, mut log_end) = (None, None, Freeable::default(), 0);
        let mut last = 0;
        for _ in 0..from.varint()? {
            let start = *from;
            let kind = from.u8()?;
            if kind <= last {
                return Err(start.error("properties out of order"));
            }
            last = kind;
            let whole = from.bytes()?;
            let mut payload = Decoder::new(whole);
            // Errors inside a payload point at its property.
            let at = |error: DecodeError| start.error(error.reason);
            match kind {
                FILE => file = Some((payload.u64().map_err(at)?, payload.u64().map_err(at)?)),
                SMALLEST => smallest = Some(Slice::copy_of(take_rest(&mut payload))),
                UPPER => {
                    upper = Some(match payload.u8().map_err(at)? {
                        0 => UpperBound::Included(Slice::copy_of(take_rest(&mut payload))),
                        1 => UpperBound::Excluded(Slice::copy_of(take_rest(&mut payload))),
                        2 => UpperBound::Unbounded,
                        kind => return Err(start.error(Reason::unknown("upper bound of unknown kind", kind))),
                    });
                }
                TIMESTAMPS => timestamps = Some((payload.varint().map_err(at)?, payload.varint().map_err(at)?)),
                COUNTS => {
                    let mut next = || payload.varint().map_err(at);
                    counts = Some([next()?, next()?, next()?, next()?]);
                }
                LATE => {
                    late = Some(match payload.u8().map_err(at)? {
                        0 => false,
                        1 => true,
                        _ => return Err(start.error("late is neither 0 nor 1")),
                    });
                }
                FREEABLE => freeable = Freeable::decode(&mut payload).map_err(at)?,
                LOG_END => log_end = payload.varint().map_err(at)?,
                _ if kind & MAY_SKIP != 0 => continue,
                _ => return Err(start.error(Reason::unknown("property of unknown kind", kind))),
            }
            if !payload.is_empty() {
                return Err(start.error("property is longer than its kind allows"));
            }
        }
        let missing = from.error("a property is missing");
        let (number, bytes) = file.ok_or(missing)?;
        let (min_timestamp, max_timestamp) = timestamps.ok_or(missing)?;
        let [keys, versions, tombstones, range_tombstones] = counts.ok_or(missing)?;
        let meta = Self {
            number: FileNumber(number),
            bytes,
            smallest: smallest.ok_or(missing)?,
            upper: upper.ok_or(missing)?,
            min_timestamp,
            max_timestamp,
            keys,
            versions,
            tombstones,
            range_tombstones,
            late: late.ok_or(missing)?,
            freeable,
            log_end,
        };
        if !meta.upper.admits(&meta.smallest) || min_timestamp > max_timestamp {
            return Err(from.error("bounds are inverted"));
        }
        let freeable = meta.freeable.at(Timestamp::MAX);
        if [bytes, keys, versions, tombstones, range_tombstones, freeable].iter().any(|number| *number > MOST) {
            return Err(from.error("no table is so large"));
        }
        Ok(meta)
    }
}

fn take_rest<'a>(payload: &mut Decoder<'a>) -> &'a [u8] {
    let rest = payload.rest();
    *payload = Decoder::new(&[]);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> TableMeta {
        TableMeta {
            number: FileNumber(7),
            bytes: 4096,
            smallest: Slice::from(&b"b"[..]),
            upper: UpperBound::Excluded(Slice::from(&b"m"[..])),
            min_timestamp: 3,
            max_timestamp: 900,
            keys: 10,
            versions: 20,
            tombstones: 3,
            range_tombstones: 1,
            late: true,
            freeable: Freeable::of([(9, 100), (7, 50)]),
            log_end: 77,
        }
    }

    fn decode(bytes: &[u8]) -> Result<TableMeta, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let meta = TableMeta::decode(&mut decoder)?;
        if decoder.is_empty() { Ok(meta) } else { Err(decoder.error("more than a meta")) }
    }

    #[test]
    fn a_meta_is_read_back_as_it_was_written() {
        for upper in [
            UpperBound::Included(Slice::from(&b"b"[..])),
            UpperBound::Excluded(Slice::from(&b"m"[..])),
            UpperBound::Unbounded,
        ] {
            for late in [true, false] {
                let meta = TableMeta { upper: upper.clone(), late, ..meta() };
                let mut bytes = Vec::new();
                meta.encode(&mut bytes);
                assert_eq!(decode(&bytes), Ok(meta));
            }
        }
    }

    #[test]
    fn cut_or_changed_bytes_never_panic_and_cut_ones_never_pass() {
        // S27
        let mut bytes = Vec::new();
        meta().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        for i in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[i] = value;
                if let Ok(meta) = decode(&changed) {
                    let _ = (meta.contains(b"c"), meta.freeable.at(8));
                }
            }
        }
    }

    #[test]
    fn unknown_properties_are_skipped_only_if_they_may_be() {
        // S31
        let mut bytes = Vec::new();
        meta().encode(&mut bytes);
        bytes[0] += 1;
        let with = |kind: u8| [&bytes[..], &[kind, 3, 1, 2, 3]].concat();
        assert_eq!(decode(&with(0x90)), Ok(meta()));
        assert_eq!(decode(&with(0x10)).unwrap_err().reason, "properties out of order".into());
        assert_eq!(decode(&[1, 0x10, 0]).unwrap_err().reason.to_string(), "property of unknown kind 0x10");
    }

    #[test]
    fn bounds_answer_what_lies_within() {
        // S1
        let meta = meta();
        assert!(meta.contains(b"b") && meta.contains(b"b\0") && meta.contains(b"lzz"));
        assert!(!meta.contains(b"") && !meta.contains(b"azz") && !meta.contains(b"m"));
        assert!(meta.overlaps_keys(b"", Bound::Included(b"b")));
        assert!(!meta.overlaps_keys(b"", Bound::Excluded(b"b")));
        assert!(meta.overlaps_keys(b"l", Bound::Unbounded));
        assert!(!meta.overlaps_keys(b"m", Bound::Unbounded));
        assert!(!meta.overlaps_keys(b"d", Bound::Excluded(b"c")));
        let included = TableMeta { upper: UpperBound::Included(Slice::from(&b"m"[..])), ..meta };
        assert!(included.overlaps_keys(b"m", Bound::Unbounded));
        assert!(!included.overlaps_keys(b"m\0", Bound::Unbounded));
        assert!(included.upper > UpperBound::Excluded(Slice::from(&b"m"[..])));
        assert!(included.upper < UpperBound::Excluded(Slice::from(&b"m\0"[..])));
        assert!(included.upper < UpperBound::Unbounded);
    }
}
