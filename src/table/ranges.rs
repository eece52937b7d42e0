//! The block of a table's range tombstones.
//!
//! ```text
//! block      fragments in key order, which do not overlap
//! fragment   start       length varint, bytes
//!            end u8      0: to the last key; 1: before the key that follows: length varint, bytes
//!            stamps      count varint, then newest first:
//!              kind u8            1 range tombstone; bit 10: it is late (T2)
//!              timestamp varint   of the first; further on how much older than the one before
//! ```

use super::row::reason;
use crate::format::{Decoder, Encode, Reason};
use crate::version::{Fragment, RangeTombstones, Stamp, TABLE_RANGE};
use crate::{Slice, Timestamp};

const RANGE_TOMBSTONE: u8 = 1;
const LATE: u8 = 0x10;

/// Appends a fragment to a block.
pub(crate) fn put_fragment(fragment: &Fragment, out: &mut Vec<u8>) {
    out.put_bytes(&fragment.start);
    out.put_u8(u8::from(fragment.end.is_some()));
    if let Some(end) = &fragment.end {
        out.put_bytes(end);
    }
    out.put_varint(fragment.stamps.len() as u64);
    let mut newer: Option<Timestamp> = None;
    for stamp in &fragment.stamps {
        out.put_u8(RANGE_TOMBSTONE | if stamp.late { LATE } else { 0 });
        out.put_varint(newer.map_or(stamp.timestamp, |newer| newer.wrapping_sub(stamp.timestamp)));
        newer = Some(stamp.timestamp);
    }
}

/// Whether `next` may follow `before`, and is in order itself.
pub(crate) fn in_order(before: Option<&Fragment>, next: &Fragment) -> bool {
    let apart = match before {
        None => true,
        Some(before) => before.end.as_ref().is_some_and(|end| *end <= next.start),
    };
    apart
        && next.end.as_ref().is_none_or(|end| next.start < *end)
        && !next.stamps.is_empty()
        && next.stamps.is_sorted_by(|newer, older| newer.timestamp > older.timestamp)
}

/// Reads a block.
pub(crate) fn parse(block: &[u8]) -> Result<RangeTombstones, Reason> {
    let mut from = Decoder::new(block);
    let mut fragments: Vec<Fragment> = Vec::new();
    while !from.is_empty() {
        let start = Slice::copy_of(from.bytes().map_err(reason)?);
        let end = match from.u8().map_err(reason)? {
            0 => None,
            1 => Some(Slice::copy_of(from.bytes().map_err(reason)?)),
            end => return Err(Reason::unknown("range tombstone with an end of unknown kind", end)),
        };
        let mut stamps: Vec<Stamp> = Vec::new();
        for _ in 0..from.varint().map_err(reason)? {
            let kind = from.u8().map_err(reason)?;
            if kind & !LATE != RANGE_TOMBSTONE {
                return Err(Reason::unknown("range tombstone of unknown kind", kind));
            }
            let number = from.varint().map_err(reason)?;
            let timestamp = match stamps.last() {
                None => number,
                Some(newer) => newer.timestamp.wrapping_sub(number),
            };
            stamps.push(Stamp { timestamp, sequence: TABLE_RANGE, late: kind & LATE != 0 });
        }
        let fragment = Fragment { start, end, stamps };
        if !in_order(fragments.last(), &fragment) {
            return Err("range tombstones are out of order".into());
        }
        fragments.push(fragment);
    }
    Ok(RangeTombstones::new(fragments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments() -> Vec<Fragment> {
        let stamp = |timestamp, late| Stamp { timestamp, sequence: TABLE_RANGE, late };
        let key = |key: &str| Slice::from(key.as_bytes());
        vec![
            Fragment { start: key(""), end: Some(key("a")), stamps: vec![stamp(900, true), stamp(7, false)] },
            Fragment {
                start: key("a"),
                end: Some(key("a\0")),
                stamps: vec![stamp(u64::MAX - 1, false), stamp(1, true)],
            },
            Fragment { start: key("b"), end: None, stamps: vec![stamp(5, false)] },
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        fragments().iter().for_each(|fragment| put_fragment(fragment, &mut bytes));
        bytes
    }

    #[test]
    fn range_tombstones_are_read_back() {
        assert_eq!(parse(&encoded()), Ok(RangeTombstones::new(fragments())));
        assert_eq!(parse(&[]), Ok(RangeTombstones::default()));
    }

    #[test]
    fn damaged_range_tombstones_never_panic_and_stay_in_order() {
        // S27
        for i in 0..encoded().len() {
            for value in 0..=u8::MAX {
                let mut changed = encoded();
                changed[i] = value;
                if let Ok(ranges) = parse(&changed) {
                    let _ = ranges.covering(b"a", 8);
                }
            }
            let cut = parse(&encoded()[..i]);
            assert!(cut.is_err() || cut.is_ok_and(|ranges| fragments().starts_with(ranges.fragments())));
        }
    }
}
