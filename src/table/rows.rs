//! Data blocks as they are read: a search for one key, and a position that moves row by row in both directions.
//!
//! A block is walked once, when it is read: every row is decoded, keys are seen to ascend, and a directory of them is
//! made. From then on each row is read by itself, since its key shares only with the block's first: a step back costs
//! what a step forward does, and no step allocates.

use std::cmp::Ordering;
use std::ops::Range;

use super::block::Handle;
use super::directory::{Directory, KeyAt};
use super::history::HistoryBlock;
use super::row::{Row, reason};
use super::slots::{Cached, Slots};
use crate::Timestamp;
use crate::format::{Decoder, Reason};
use crate::prefetch::{CAN_FETCH, fetch_lines};
use crate::sync::Arc;

/// A walk has the row fetched that it comes to after so many steps.
const STEPS_AHEAD: usize = 4;

/// Most blocks have fewer rows.
const USUAL_ROWS: usize = 256;

/// A data block.
pub(crate) struct DataBlock {
    /// Where it lies in the file: names it in errors.
    pub(crate) offset: u64,
    directory: Directory,
    /// Where the handles of history blocks lie; rows end there.
    histories: Range<usize>,
    base: Timestamp,
    /// Where the first key lies, which is whole.
    first_key: Range<usize>,
    /// Of the history blocks; without any, none.
    slots: Option<Slots<HistoryBlock>>,
}

impl DataBlock {
    pub(crate) fn parse(payload: &[u8], offset: u64) -> Result<Self, Reason> {
        const SHORT: &str = "data block is too short";
        let (rest, counts) = payload.split_last_chunk::<16>().ok_or(SHORT)?;
        let mut from = Decoder::new(counts);
        let base = from.u64().map_err(reason)?;
        let mut count = || usize::try_from(from.u32().map_err(reason)?).map_err(|_| Reason::from(SHORT));
        let (histories, rows) = (count()?, count()?);
        let end = histories.checked_mul(Handle::FIXED).and_then(|len| rest.len().checked_sub(len)).ok_or(SHORT)?;
        let slots = (histories > 0).then(|| Slots::new(histories));

        // Of a count that cannot be, nothing is believed.
        let mut entries = Vec::with_capacity(rows.min(USUAL_ROWS));
        let mut row = Row::default();
        while row.end < end {
            let place = row.end;
            row.read(payload, place, end, base)?;
            entries.push(KeyAt::new(place, row.shared, row.rest.clone())?);
        }
        if entries.len() != rows {
            return Err("data block has another number of rows than it says".into());
        }
        let directory = Directory::new(payload, &entries)?;
        let first_key = entries.first().map_or(0..0, KeyAt::rest);
        let behind = |range: Range<usize>| range.start + directory.payload_at()..range.end + directory.payload_at();
        let (histories, first_key) = (behind(end..rest.len()), behind(first_key));
        Ok(Self { offset, histories, base, first_key, slots, directory })
    }

    /// The block's memory; what rows say lies in it.
    pub(crate) fn bytes(&self) -> &Arc<[u8]> {
        self.directory.bytes()
    }

    /// The payload that it was made of.
    #[cfg(test)]
    pub(crate) fn payload(&self) -> &[u8] {
        self.directory.payload()
    }

    fn get(&self, range: Range<usize>) -> &[u8] {
        self.bytes().get(range).unwrap_or_default()
    }

    /// How much memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let slots =
            self.slots.as_ref().map_or(0, |_| Slots::<HistoryBlock>::memory(self.histories.len() / Handle::FIXED));
        size_of::<Self>() + self.bytes().len() + slots
    }

    /// How many rows it has; never 0.
    pub(crate) fn len(&self) -> usize {
        self.directory.len()
    }

    /// The slots of the history blocks.
    pub(super) fn slots(&self) -> Option<&Slots<HistoryBlock>> {
        self.slots.as_ref()
    }

    /// Has the processor fetch those, if they are few: they are looked at next where a row is too new.
    pub(super) fn fetch_slots(&self) {
        if let Some(slots) = &self.slots {
            slots.fetch_slots(0..self.histories.len() / Handle::FIXED);
        }
    }

    /// Where the history block in the given place lies.
    pub(crate) fn history(&self, place: usize) -> Result<Handle, Reason> {
        let handles = self.get(self.histories.clone());
        let handle = place.checked_mul(Handle::FIXED).and_then(|start| handles.get(start..));
        Handle::fixed(&mut Decoder::new(handle.unwrap_or_default())).map_err(|_| "row names no history block".into())
    }

    /// Whether all keys are above `before`, if that is a key, and none is above `last`.
    pub(super) fn lies_in(&self, before: Option<&[u8]>, last: &[u8]) -> Result<bool, Reason> {
        let mut end = Row::default();
        self.read(self.len().saturating_sub(1), &mut end)?;
        Ok(before.is_none_or(|before| before < self.first_key()) && self.compare(&end, last, 0).is_le())
    }

    fn first_key(&self) -> &[u8] {
        self.get(self.first_key.clone())
    }

    /// What the first key and that of a row have in common, from `from` on. Mostly all keys do, so that need not be
    /// fetched from where the first key lies.
    fn shared(&self, row: &Row, from: usize) -> &[u8] {
        let common = self.directory.common();
        let shared = if row.shared <= common.len() { common } else { self.first_key() };
        shared.get(from..row.shared).unwrap_or_default()
    }

    #[inline]
    fn fetch_row(&self, at: usize) {
        if CAN_FETCH && let Some(place) = self.directory.place(at) {
            fetch_lines(self.bytes().as_ptr().wrapping_add(place), 2);
        }
    }

    /// Reads the row in the given place.
    #[inline]
    fn read(&self, at: usize, row: &mut Row) -> Result<(), Reason> {
        let start = self.directory.place(at).ok_or("no such row in a data block")?;
        row.read(self.bytes(), start, self.histories.start, self.base)
    }

    /// How the key of a row compares with `key`, of which the first `from` bytes are known to be the same.
    fn compare(&self, row: &Row, key: &[u8], from: usize) -> Ordering {
        let from = from.min(row.shared);
        let (front, rest) = key.split_at_checked(row.shared).unwrap_or((key, &[]));
        let front = front.get(from..).unwrap_or_default();
        self.shared(row, from).cmp(front).then_with(|| self.get(row.rest.clone()).cmp(rest))
    }

    /// The first row at or above `key`, or the number of rows; and whether it is that key's: then `row` is that row.
    fn search(&self, key: &[u8], row: &mut Row) -> Result<(usize, bool), Reason> {
        self.directory.find(key, |at| {
            self.read(at, row)?;
            Ok(self.compare(row, key, self.directory.common().len()))
        })
    }

    /// The row of `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Row>, Reason> {
        let mut row = Row::default();
        let (_, found) = self.search(key, &mut row)?;
        Ok(found.then_some(row))
    }
}

/// A position on a row of a data block, or on none.
#[derive(Default)]
pub(crate) struct Rows {
    block: Option<Arc<Cached<DataBlock>>>,
    /// The place of the row, if the position is on one.
    at: Option<usize>,
    row: Row,
    key: Vec<u8>,
    /// How much of the block's first key stands in front there.
    shared: usize,
}

impl Rows {
    /// Goes into a block, onto no row yet.
    pub(crate) fn enter(&mut self, block: Arc<Cached<DataBlock>>) {
        self.leave();
        self.block = Some(block);
        self.key.clear();
        self.shared = 0;
    }

    /// Leaves the block.
    pub(crate) fn leave(&mut self) {
        self.block = None;
        self.at = None;
    }

    pub(crate) fn block(&self) -> Option<&DataBlock> {
        self.block.as_deref().map(|block| &**block)
    }

    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.at.map(|_| self.key.as_slice())
    }

    /// The row at the position, and the block that it lies in.
    #[inline]
    pub(crate) fn row(&self) -> Option<(&Row, &DataBlock)> {
        self.at.and(self.block()).map(|block| (&self.row, block))
    }

    /// The place of the row in its block.
    pub(crate) fn at(&self) -> Option<usize> {
        self.at
    }

    /// Reads another row of the block.
    pub(super) fn peek(&self, at: usize, row: &mut Row) -> Option<&DataBlock> {
        let block = self.block().filter(|block| at < block.len())?;
        block.read(at, row).ok()?;
        Some(block)
    }

    // Each of these says whether there is such a row; without one, the position is none.

    pub(crate) fn first(&mut self) -> Result<bool, Reason> {
        self.stand_on(0)
    }

    pub(crate) fn last(&mut self) -> Result<bool, Reason> {
        if let Some(block) = self.block.as_deref() {
            (1..=STEPS_AHEAD).filter_map(|back| block.len().checked_sub(back)).for_each(|at| block.fetch_row(at));
        }
        self.stand_before(self.len())
    }

    /// To the first row at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool, Reason> {
        match self.search(key)? {
            (at, true) => Ok(self.stand_on_row(at)),
            (at, false) => self.stand_on(at),
        }
    }

    /// To the last row at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool, Reason> {
        match self.search(key)? {
            (at, true) => Ok(self.stand_on_row(at)),
            (at, false) => self.stand_before(at),
        }
    }

    fn search(&mut self, key: &[u8]) -> Result<(usize, bool), Reason> {
        self.at = None;
        self.block.as_deref().map_or(Ok((0, false)), |block| block.search(key, &mut self.row))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<bool, Reason> {
        if let (Some(block), Some(at)) = (self.block.as_deref(), self.at) {
            block.fetch_row(at + STEPS_AHEAD);
        }
        match self.at {
            Some(at) => self.stand_on(at + 1),
            None => Ok(false),
        }
    }

    #[inline]
    pub(crate) fn prev(&mut self) -> Result<bool, Reason> {
        if let (Some(block), Some(ahead)) = (self.block.as_deref(), self.at.and_then(|at| at.checked_sub(STEPS_AHEAD)))
        {
            block.fetch_row(ahead);
        }
        self.stand_before(self.at.unwrap_or(0))
    }

    fn len(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.len())
    }

    fn stand_before(&mut self, after: usize) -> Result<bool, Reason> {
        match after.checked_sub(1) {
            Some(at) => self.stand_on(at),
            None => {
                self.at = None;
                Ok(false)
            }
        }
    }

    #[inline]
    fn stand_on(&mut self, at: usize) -> Result<bool, Reason> {
        self.at = None;
        let Some(block) = self.block.as_deref().filter(|block| at < block.len()) else { return Ok(false) };
        block.read(at, &mut self.row)?;
        Ok(self.stand_on_row(at))
    }

    /// Makes the key of the row that was read, which is the position then.
    #[inline]
    fn stand_on_row(&mut self, at: usize) -> bool {
        let Some(block) = self.block.as_deref() else { return false };
        let row = &self.row;
        // Mostly the key before shares as much with the block's first one: then that much stands here already.
        if self.shared == row.shared {
            self.key.truncate(row.shared);
        } else {
            self.key.clear();
            self.key.extend_from_slice(block.shared(row, 0));
            self.shared = row.shared;
        }
        self.key.extend_from_slice(block.get(row.rest.clone()));
        self.at = Some(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Encode;

    fn block(rows: &[(u64, &[u8])], said: u32) -> Result<DataBlock, Reason> {
        let mut bytes = Vec::new();
        for (shared, rest) in rows {
            bytes.put_u8(2);
            bytes.put_varint(*shared);
            bytes.put_bytes(rest);
            bytes.put_varint(0);
        }
        bytes.put_u64(0);
        bytes.put_u32(0);
        bytes.put_u32(said);
        DataBlock::parse(&bytes, 0)
    }

    #[test]
    fn a_block_whose_rows_cannot_be_is_refused_when_it_is_read() {
        // S27
        let good: [(u64, &[u8]); 4] = [(0, b"key1"), (3, b"2"), (3, b"2a"), (1, b"x")];
        assert_eq!(block(&good, 4).unwrap().len(), 4);
        for said in [0, 1, 3, 5, u32::MAX] {
            assert!(block(&good, said).is_err(), "{said}");
        }
        assert!(block(&[], 0).is_err());
        for (at, bad) in [(0, (1, &b"key1"[..])), (1, (5, b"")), (1, (u64::MAX, b"")), (2, (3, b"2")), (3, (0, b"k"))] {
            let mut rows = good;
            rows[at] = bad;
            assert!(block(&rows, 4).is_err(), "{bad:?} at {at}");
        }
    }

    /// Many keys of which most share all of a long one, and the last one nothing: a block of 5 MB would be made of a copy of
    /// 4 MB for each row.
    #[test]
    fn what_is_done_for_a_row_does_not_grow_with_what_it_shares() {
        // S27
        let long = vec![b'k'; 4 << 20];
        let ends: Vec<[u8; 4]> = (0..200_000u32).map(u32::to_be_bytes).collect();
        let first = std::iter::once((0, &long[..]));
        let rows: Vec<(u64, &[u8])> = first
            .chain(ends.iter().map(|end| (long.len() as u64, &end[..])))
            .chain([(long.len() as u64 - 1, &b"l"[..]), (0, b"l")])
            .collect();
        let made = block(&rows, 200_003).unwrap();
        assert!(made.find(&[&long[..], &ends[777]].concat()).unwrap().is_some());
        assert!(made.find(b"kl").unwrap().is_none());
    }

    /// Many keys that share all of a long one: put together they would take far more than the block.
    #[test]
    fn keys_of_rows_that_share_much_do_not_fill_the_memory() {
        // S27
        let long = vec![b'k'; 5000];
        let ends: Vec<[u8; 2]> = (0..5000u16).map(u16::to_be_bytes).collect();
        let rows: Vec<(u64, &[u8])> =
            std::iter::once((0, &long[..])).chain(ends.iter().map(|end| (5000, &end[..]))).collect();
        let made = block(&rows, 5001).unwrap();
        assert!(made.memory() < 6 * made.payload().len(), "{} bytes for {}", made.memory(), made.payload().len());
        let mut walk = Rows::default();
        walk.enter(Cached::alone(made));
        assert!(walk.last().unwrap());
        assert!(walk.key.capacity() < 20_000);
    }
}
