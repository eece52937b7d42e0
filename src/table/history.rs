//! Older versions of a key: how they lie in history blocks, and how one is found by its timestamp.
//!
//! ```text
//! place, in a row    levels u8
//!                    number varint       of the handle in the data block
//!                    offset varint       of the list in the block, 0 unless levels is 0
//!                    oldest varint       how much the oldest version is older than the row's
//! history block      lists; those of several keys, one behind the other, or one part of a long history
//! list               count varint, length of the entries varint, entries newest first, then their values in that order
//! entry              kind u8             as of rows (row.rs), without the bit 20
//!                    timestamp varint    of the first entry; further on how much older than the entry before
//!                    expires_at varint   kind 3: zigzag of its difference to the timestamp
//!                    length varint       of the value, kinds 1 and 3
//! history index      entries, newest first: timestamp u64 of the oldest version below, handle of the block, fixed
//! ```
//!
//! A short history is one list in a block that it shares with its neighbours. A long one is a tree of its own: its
//! leaves are history blocks of one list, and above them stand so many levels of history index blocks. So a version is
//! found in O(levels) blocks, and read or written in memory that does not depend on how many there are (S37).

use std::ops::Range;

use super::block::{BlockKind, BlockSource, Caching, Handle};
use super::held::Parsed;
use super::row::{Kind, Row, Version, reason, take_difference};
use super::rows::DataBlock;
use super::slots::{Cached, Held, Slots};
use crate::format::{Decoder, Encode, Reason};
use crate::prefetch::{CAN_FETCH, fetch, fetch_lines};
use crate::sync::Arc;
use crate::version::VersionRef;
use crate::{Result, Timestamp};

/// So many bytes behind a version's value, values are fetched ahead.
const FURTHER: usize = 256;

/// More levels than any file can have.
const MAX_LEVELS: u8 = 32;

/// Where the older versions of a row's key lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HistoryRef {
    pub(crate) levels: u8,
    /// Which of the data block's handles.
    pub(crate) number: usize,
    pub(crate) offset: usize,
    pub(crate) oldest: Timestamp,
}

impl HistoryRef {
    /// With its length before it; `newest` is the row's timestamp.
    pub(crate) fn put(&self, newest: Timestamp, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(16);
        bytes.put_u8(self.levels);
        bytes.put_varint(self.number as u64);
        bytes.put_varint(self.offset as u64);
        bytes.put_varint(newest.wrapping_sub(self.oldest));
        out.put_bytes(&bytes);
    }

    /// Of a row that has older versions.
    pub(crate) fn of(row: &Row, block: &DataBlock) -> Result<Option<Self>, Reason> {
        if !row.version.kind.has_history() {
            return Ok(None);
        }
        let mut from = Decoder::new(block.bytes().get(row.history.clone()).unwrap_or_default());
        let levels = from.u8().map_err(reason)?;
        let (number, offset) = (from.varint_usize().map_err(reason)?, from.varint_usize().map_err(reason)?);
        let oldest = row.version.timestamp.checked_sub(from.varint().map_err(reason)?);
        match oldest {
            Some(oldest)
                if levels <= MAX_LEVELS
                    && (levels == 0 || offset == 0)
                    && oldest < row.version.timestamp
                    && from.is_empty() =>
            {
                Ok(Some(Self { levels, number, offset, oldest }))
            }
            _ => Err("row says nothing possible about where its older versions lie".into()),
        }
    }
}

/// A place in a list of versions, which is read from the newest on; before the first until it is advanced. The block that
/// the list lies in is given to each call.
#[derive(Debug)]
pub(crate) struct List {
    /// Entries that were not read yet.
    entries: Range<usize>,
    remaining: u64,
    /// The value of the next entry begins here.
    value_at: usize,
    current: Option<Version>,
}

impl List {
    pub(crate) fn open(block: &[u8], offset: usize) -> Result<Self, Reason> {
        let mut from = Decoder::new(block.get(offset..).ok_or("history lies outside of its block")?);
        let remaining = from.varint().map_err(reason)?;
        let entries = from.bytes().map_err(reason)?.len();
        if remaining == 0 {
            return Err("history is empty".into());
        }
        let value_at = offset + from.offset();
        Ok(Self { entries: value_at - entries..value_at, remaining, value_at, current: None })
    }

    /// Moves to the next older version, if there is one.
    pub(crate) fn advance(&mut self, block: &[u8]) -> Result<bool, Reason> {
        self.advance_to(block, Timestamp::MAX)
    }

    /// Moves on to the next older version at or below `timestamp`, if there is one.
    #[inline]
    pub(crate) fn advance_to(&mut self, block: &[u8], timestamp: Timestamp) -> Result<bool, Reason> {
        let mut from = Decoder::new(block.get(self.entries.clone()).unwrap_or_default());
        let mut newer = self.current.as_ref().map(|newer| newer.timestamp);
        while self.remaining > 0 {
            let (kind, found, expires_at, len) = entry(&mut from, newer)?;
            let value = self.value_at..self.value_at.saturating_add(len);
            if value.end > block.len() {
                return Err("value lies outside of its block".into());
            }
            (self.remaining, self.value_at, newer) = (self.remaining - 1, value.end, Some(found));
            if found <= timestamp {
                self.entries.start += from.offset();
                self.current = Some(Version { kind, timestamp: found, expires_at, value });
                return Ok(true);
            }
        }
        self.entries.start += from.offset();
        if self.entries.is_empty() { Ok(false) } else { Err("history has more entries than it says".into()) }
    }

    pub(crate) fn current(&self) -> Option<&Version> {
        self.current.as_ref()
    }

    /// Where the values that were read so far end; of a list that was read to its end, where it ends.
    pub(crate) fn end(&self) -> usize {
        self.value_at
    }
}

/// Kind, timestamp, expiry and length of the value of the next entry; `newer` is the timestamp of the one before.
#[inline(always)]
fn entry(from: &mut Decoder<'_>, newer: Option<Timestamp>) -> Result<(Kind, Timestamp, Timestamp, usize), Reason> {
    const CUT_OFF: &str = "history is cut off, or has a number that cannot be";
    let kind = Kind::parse(from.u8().map_err(reason)?)?;
    let number = from.next_varint().ok_or(CUT_OFF)?;
    let timestamp = match newer {
        None => number,
        Some(newer) => {
            let older = newer.checked_sub(number).filter(|timestamp| *timestamp < newer);
            older.ok_or("timestamps of a history are out of order")?
        }
    };
    let expires_at = if kind.expires() { take_difference(from, timestamp).map_err(reason)? } else { 0 };
    let len = if kind.has_value() { from.next_varint().ok_or(CUT_OFF)? } else { 0 };
    Ok((kind, timestamp, expires_at, usize::try_from(len).map_err(|_| CUT_OFF)?))
}

/// A block of a history's tree.
#[derive(Debug)]
pub(crate) struct HistoryIndex(Box<[u8]>);

impl HistoryIndex {
    pub(crate) const ENTRY: usize = 8 + Handle::FIXED;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(Self::ENTRY) {
            return Err("history index does not consist of whole entries".into());
        }
        Ok(Self(bytes.into()))
    }

    pub(crate) fn put(out: &mut Vec<u8>, oldest: Timestamp, block: Handle) {
        out.put_u64(oldest);
        block.put_fixed(out);
    }

    /// The oldest timestamp below an entry, and its block.
    pub(crate) fn child(&self, at: usize) -> Option<(Timestamp, Handle)> {
        let start = at.checked_mul(Self::ENTRY)?;
        let mut from = Decoder::new(self.0.get(start..start.checked_add(Self::ENTRY)?)?);
        Some((from.u64().ok()?, Handle::fixed(&mut from).ok()?))
    }

    /// The first entry with a version at or below `timestamp`.
    fn find(&self, timestamp: Timestamp) -> usize {
        let (mut low, mut high) = (0, self.0.len() / Self::ENTRY);
        while low < high {
            let middle = low.midpoint(high);
            if self.child(middle).is_some_and(|(oldest, _)| oldest > timestamp) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A block of histories, as it is held.
pub(super) enum HistoryBlock {
    /// Lists.
    Leaf(Arc<[u8]>),
    /// The slots are of the blocks that it names.
    Index(HistoryIndex, Slots<HistoryBlock>),
}

impl Held for HistoryBlock {
    const FRONT_LINES: usize = 1;

    fn front(&self) -> &[u8] {
        match self {
            Self::Leaf(payload) => payload,
            Self::Index(index, _) => &index.0,
        }
    }
}

impl Parsed for HistoryBlock {
    fn parse(kind: BlockKind, payload: &[u8], _: u64) -> Result<Self, Reason> {
        if kind == BlockKind::History {
            return Ok(Self::Leaf(payload.into()));
        }
        let slots = Slots::new(payload.len() / HistoryIndex::ENTRY);
        Ok(Self::Index(HistoryIndex::parse(payload)?, slots))
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Leaf(payload) => payload.len(),
                Self::Index(index, _) => index.0.len() + Slots::<Self>::memory(index.0.len() / HistoryIndex::ENTRY),
            }
    }

    fn is_of(&self, kind: BlockKind) -> bool {
        match self {
            Self::Leaf(_) => kind == BlockKind::History,
            Self::Index(..) => kind == BlockKind::HistoryIndex,
        }
    }
}

/// A position on one of the older versions of a key, or on none.
#[derive(Default)]
pub(crate) struct HistoryCursor {
    levels: usize,
    /// The history index blocks down to the leaf, and the entry taken in each.
    path: Vec<(Arc<Cached<HistoryBlock>>, usize)>,
    /// The block of the list, and where it lies in the file: the next key's history often lies there as well.
    leaf_at: u64,
    leaf: Option<Arc<[u8]>>,
    /// In the leaf.
    list: Option<List>,
}

impl HistoryCursor {
    /// Moves to the newest version at or below `timestamp` and says whether there is one.
    pub(crate) fn seek(
        &mut self,
        source: &BlockSource,
        caching: Caching,
        (row, block): (&Row, &DataBlock),
        timestamp: Timestamp,
    ) -> Result<bool> {
        self.leave();
        let in_block = |reason| source.corruption(block.offset, reason);
        let Some(place) = HistoryRef::of(row, block).map_err(in_block)?.filter(|place| place.oldest <= timestamp)
        else {
            return Ok(false);
        };
        self.levels = usize::from(place.levels);
        let top = block.history(place.number).map_err(in_block)?;
        let slots = block.slots().ok_or_else(|| in_block("row names no history block".into()))?;
        self.descend(source, caching, (slots, place.number, top), place.offset, Some(timestamp))?;
        if self.advance_to(source, timestamp)? {
            return Ok(true);
        }
        Err(source.corruption(self.leaf_at, "history ends before the oldest version that its row names"))
    }

    /// Moves to the next older version and says whether there is one.
    pub(crate) fn older(&mut self, source: &BlockSource, caching: Caching) -> Result<bool> {
        if self.list.is_none() {
            return Ok(false);
        }
        if self.advance_to(source, Timestamp::MAX)? {
            self.fetch_further();
            return Ok(true);
        }
        let newer = self.timestamp();
        while let Some((block, at)) = self.path.last_mut() {
            *at += 1;
            let at = *at;
            if let HistoryBlock::Index(index, slots) = &***block
                && let Some((_, next)) = index.child(at)
            {
                let slots = slots.clone();
                self.descend(source, caching, (&slots, at, next), 0, None)?;
                let found = self.advance_to(source, Timestamp::MAX)?;
                // A list is in order by itself. That lists are, one to the next, also makes a walk over them end.
                if self.timestamp() >= newer {
                    return Err(source.corruption(self.leaf_at, "lists of a history are out of order"));
                }
                return Ok(found);
            }
            self.path.pop();
        }
        self.leave();
        Ok(false)
    }

    pub(crate) fn version(&self) -> Option<VersionRef<'_>> {
        Some(self.list.as_ref()?.current()?.borrow(self.leaf.as_ref()?))
    }

    /// Has the processor fetch values behind that of the version: who walks from one to the next comes to them soon.
    fn fetch_further(&self) {
        if CAN_FETCH && let (Some(list), Some(leaf)) = (&self.list, &self.leaf) {
            fetch_lines(leaf.as_ptr().wrapping_add(list.end() + FURTHER), 2);
        }
    }

    /// Has the processor fetch the value of the version.
    pub(super) fn fetch_value(&self) {
        if CAN_FETCH && let Some(value) = self.version().and_then(|version| version.value) {
            fetch(value.bytes.as_ptr());
            fetch(value.bytes.as_ptr_range().end.wrapping_sub(1));
        }
    }

    /// Has the processor fetch what [`seek`](Self::seek) looks at first.
    pub(super) fn fetch(row: &Row, block: &DataBlock) {
        if CAN_FETCH && let (Ok(Some(place)), Some(slots)) = (HistoryRef::of(row, block), block.slots()) {
            slots.fetch_at(place.number, place.offset);
            slots.fetch(place.number);
        }
    }

    /// Leaves the current key.
    pub(crate) fn leave(&mut self) {
        self.path.clear();
        self.list = None;
    }

    /// Leaves everything, and lets go of its memory.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    fn timestamp(&self) -> Option<Timestamp> {
        Some(self.list.as_ref()?.current()?.timestamp)
    }

    fn advance_to(&mut self, source: &BlockSource, timestamp: Timestamp) -> Result<bool> {
        let (Some(list), Some(leaf)) = (&mut self.list, &self.leaf) else { return Ok(false) };
        list.advance_to(leaf, timestamp).map_err(|reason| source.corruption(self.leaf_at, reason))
    }

    /// From a block of the tree down to the leaf that may have a version at or below `timestamp`, or to the newest.
    fn descend(
        &mut self,
        source: &BlockSource,
        caching: Caching,
        (slots, mut slot, mut handle): (&Slots<HistoryBlock>, usize, Handle),
        offset: usize,
        timestamp: Option<Timestamp>,
    ) -> Result<()> {
        // A list counts only together with its leaf.
        self.list = None;
        let mut slots = slots.clone();
        while self.path.len() < self.levels {
            let load = || Ok((handle, source.parsed(BlockKind::HistoryIndex, handle)?));
            let node = source.visit((&slots, slot), BlockKind::HistoryIndex, caching, load, Arc::clone)?;
            let bad = |reason: &str| source.corruption(handle.offset, reason);
            let HistoryBlock::Index(index, children) = &**node else { return Err(bad("history index is no index")) };
            let at = timestamp.map_or(0, |timestamp| index.find(timestamp));
            let (_, child) = index.child(at).ok_or_else(|| bad("history index ends before the oldest version"))?;
            (slots, slot, handle) = (children.clone(), at, child);
            self.path.push((node, at));
        }
        let held = self.leaf.take().filter(|_| self.leaf_at == handle.offset);
        let leaf = match held {
            Some(leaf) => leaf,
            None => {
                slots.fetch_at(slot, offset);
                let load = || Ok((handle, source.parsed(BlockKind::History, handle)?));
                let leaf =
                    source.visit((&slots, slot), BlockKind::History, caching, load, |block| match &***block {
                        HistoryBlock::Leaf(leaf) => Some(leaf.clone()),
                        HistoryBlock::Index(..) => None,
                    })?;
                leaf.ok_or_else(|| source.corruption(handle.offset, "history is an index"))?
            }
        };
        self.leaf_at = handle.offset;
        let list = List::open(self.leaf.insert(leaf), offset);
        self.list = Some(list.map_err(|reason| source.corruption(handle.offset, reason))?);
        Ok(())
    }
}
