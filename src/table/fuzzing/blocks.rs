//! The payloads of blocks, below their checksums: what is parsed is searched, and walked in both directions.

use std::ops::Range;

use crate::Timestamp;
use crate::format::Reason;
use crate::sync::Arc;
use crate::table::filter::Filter;
use crate::table::history::{HistoryIndex, HistoryRef, List};
use crate::table::index::IndexBlock;
use crate::table::ranges;
use crate::table::rows::{DataBlock, Rows};
use crate::table::slots::Cached;
use crate::version::RangeTombstones;

/// The first byte says what kind of block the others are the payload of.
pub fn block(input: &[u8]) -> usize {
    let Some((which, payload)) = input.split_first() else { return 0 };
    let bytes = payload;
    match which % 6 {
        0 => data(bytes),
        1 => index(bytes),
        2 => history(bytes),
        3 => history_index(bytes),
        4 => filter(bytes),
        _ => range_tombstones(bytes),
    }
    payload.len()
}

/// A row as a walk shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: Vec<u8>,
    shared: usize,
    timestamp: Timestamp,
    value: Range<usize>,
    end: usize,
}

fn current(rows: &Rows) -> Option<Seen> {
    let (row, block) = rows.row()?;
    let version = row.version.borrow(block.bytes());
    assert_eq!(version.value.is_some(), row.version.kind.has_value());
    if let Ok(Some(place)) = HistoryRef::of(row, block) {
        assert!(place.oldest < row.version.timestamp);
        let _ = block.history(place.number);
    }
    Some(Seen {
        key: rows.key()?.to_vec(),
        shared: row.shared,
        timestamp: row.version.timestamp,
        value: row.version.value.clone(),
        end: row.end,
    })
}

/// All rows from `start` on, by `step`.
fn walk(
    rows: &mut Rows,
    start: impl FnOnce(&mut Rows) -> Result<bool, Reason>,
    step: impl Fn(&mut Rows) -> Result<bool, Reason>,
) -> Vec<Seen> {
    let most = rows.block().map_or(0, |block| block.bytes().len());
    let mut seen = Vec::new();
    let mut moved = start(rows).unwrap();
    while moved {
        seen.push(current(rows).expect("a step that found a row stands on it"));
        assert!(seen.len() <= most, "a walk ends");
        moved = step(rows).unwrap();
    }
    seen
}

fn data(bytes: &[u8]) {
    // Whatever is parsed has all its rows, with keys in order.
    let Ok(block) = DataBlock::parse(bytes, 0).map(Cached::alone) else { return };
    let mut rows = Rows::default();
    rows.enter(block.clone());
    let forward = walk(&mut rows, Rows::first, Rows::next);
    let mut backward = walk(&mut rows, Rows::last, Rows::prev);
    backward.reverse();
    assert_eq!(forward, backward);
    assert_eq!(forward.len(), block.len());
    assert!(forward.is_sorted_by(|one, two| one.key < two.key));
    for row in forward.iter().take(200) {
        for probe in [row.key.clone(), [&row.key[..], b"\0"].concat(), row.key[..row.key.len() / 2].to_vec()] {
            search(&block, &mut rows, &forward, &probe);
        }
    }
}

fn search(block: &DataBlock, rows: &mut Rows, all: &[Seen], probe: &[u8]) {
    let found = block.find(probe).unwrap().map(|row| row.end);
    let expected = all.binary_search_by(|row| row.key[..].cmp(probe)).ok().map(|at| all[at].end);
    assert_eq!(found, expected, "{probe:?}");
    let after = all.partition_point(|row| row.key[..] < *probe);
    assert_eq!(rows.seek(probe).unwrap(), after < all.len(), "{probe:?}");
    assert_eq!(current(rows).as_ref(), all.get(after), "{probe:?}");
    let before = all.partition_point(|row| row.key[..] <= *probe).checked_sub(1);
    assert_eq!(rows.seek_for_prev(probe).unwrap(), before.is_some(), "{probe:?}");
    if let Some(before) = before {
        assert_eq!(current(rows).as_ref(), Some(&all[before]), "{probe:?}");
    }
}

fn index(bytes: &[u8]) {
    let len = bytes.len();
    let Ok(block) = IndexBlock::parse(bytes, 0) else { return };
    assert!(block.len() <= len, "no more entries than bytes");
    let entries: Vec<_> = (0..block.len()).map(|at| block.entry(at).unwrap()).collect();
    assert!(block.entry(block.len()).is_err());
    assert!(entries.iter().all(|entry| entry.span.min <= entry.span.max));
    assert!(entries.is_sorted_by(|one, two| one.key < two.key));
    for entry in &entries {
        for probe in [entry.key.to_vec(), [entry.key, b"\0"].concat(), entry.key[..entry.key.len() / 2].to_vec()] {
            let expected = entries.partition_point(|entry| entry.key < &probe[..]);
            assert_eq!(block.find(&probe), Ok(expected), "{probe:?}");
        }
    }
}

fn history(bytes: &[u8]) {
    let len = bytes.len();
    let Some((offset, bytes)) = bytes.split_first().map(|(at, _)| (usize::from(*at), Arc::from(&bytes[1..]))) else {
        return;
    };
    let Ok(mut list) = List::open(&bytes, offset) else { return };
    let (mut newer, mut count) = (None, 0);
    while let Ok(true) = list.advance(&bytes) {
        let version = list.current().expect("a step that found a version stands on it");
        assert!(newer.is_none_or(|newer| version.timestamp < newer), "versions come newest first");
        assert!(version.value.end <= bytes.len() && version.value.start <= version.value.end);
        assert_eq!(version.borrow(&bytes).value.is_some(), version.kind.has_value());
        newer = Some(version.timestamp);
        count += 1;
        assert!(count <= len, "a list ends");
    }
    assert!(list.end() <= bytes.len());
}

fn history_index(bytes: &[u8]) {
    let len = bytes.len();
    let Ok(index) = HistoryIndex::parse(bytes) else { return };
    let count = len / HistoryIndex::ENTRY;
    assert!((0..count).all(|at| index.child(at).is_some()));
    assert!(index.child(count).is_none() && index.child(usize::MAX).is_none());
}

fn filter(bytes: &[u8]) {
    let Ok(filter) = Filter::parse(bytes) else { return };
    // All bits set let everything pass.
    let all = bytes.iter().skip(9).all(|byte| *byte == 0xff);
    for key in [&b""[..], b"key", bytes] {
        assert!(filter.may_contain(key) || !all);
    }
}

fn range_tombstones(bytes: &[u8]) {
    let Ok(parsed) = ranges::parse(bytes) else { return };
    let mut again = Vec::new();
    parsed.fragments().iter().for_each(|fragment| ranges::put_fragment(fragment, &mut again));
    assert_eq!(ranges::parse(&again).as_ref(), Ok(&parsed), "what was put is read back");
    check_covering(&parsed);
}

/// Searches find what a walk over all fragments does.
pub(super) fn check_covering(ranges: &RangeTombstones) {
    let mut hint = 0;
    for fragment in ranges.fragments() {
        assert!(fragment.stamps.is_sorted_by(|newer, older| newer.timestamp > older.timestamp));
        for key in [&fragment.start[..], fragment.end.as_deref().unwrap_or(b"\xff\xff"), b""] {
            for timestamp in [fragment.stamps[0].timestamp, 0, Timestamp::MAX] {
                let mut covering = ranges.fragments().iter().filter(|fragment| fragment.contains(key));
                let expected = covering.next().and_then(|fragment| fragment.at(timestamp));
                assert!(covering.next().is_none(), "fragments do not overlap");
                assert_eq!(ranges.covering(key, timestamp), expected);
                assert_eq!(ranges.covering_near(&mut hint, key, timestamp), expected);
            }
        }
    }
}
