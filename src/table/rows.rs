//! Data blocks as they are read: a search for one key, and a position that moves row by row in both directions.
//!
//! A position decodes rows from a restart on, as far as it was asked to go, and keeps what it decoded of that interval:
//! so a step back costs no more than a step forward, and no step allocates.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use super::block::Handle;
use super::row::{RESTART_INTERVAL, Row, reason};
use crate::Timestamp;
use crate::format::{Decoder, Reason, shared_prefix};

/// A data block. Offsets in it were checked against its length when they are used, not before.
#[derive(Debug, Clone)]
pub(crate) struct DataBlock {
    /// Where it lies in the file: names it in errors.
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    histories_at: usize,
    restarts_at: usize,
    restarts: usize,
    base: Timestamp,
}

impl DataBlock {
    pub(crate) fn parse(bytes: Bytes, offset: u64) -> Result<Self, Reason> {
        const SHORT: &str = "data block is too short";
        let (rest, counts) = bytes.split_last_chunk::<16>().ok_or(SHORT)?;
        let mut from = Decoder::new(counts);
        let base = from.u64().map_err(reason)?;
        let mut count = || usize::try_from(from.u32().map_err(reason)?).map_err(|_| Reason::from(SHORT));
        let (histories, restarts) = (count()?, count()?);
        let restarts_at = restarts.checked_mul(4).and_then(|len| rest.len().checked_sub(len)).ok_or(SHORT)?;
        let histories_at =
            histories.checked_mul(Handle::FIXED).and_then(|len| restarts_at.checked_sub(len)).ok_or(SHORT)?;
        if restarts == 0 || histories_at == 0 {
            return Err("data block is empty".into());
        }
        Ok(Self { offset, bytes, histories_at, restarts_at, restarts, base })
    }

    /// The history block in the given place.
    pub(crate) fn history(&self, place: usize) -> Result<Handle, Reason> {
        let handles = self.bytes.get(self.histories_at..self.restarts_at).unwrap_or_default();
        let handle = place.checked_mul(Handle::FIXED).and_then(|start| handles.get(start..));
        Handle::fixed(&mut Decoder::new(handle.unwrap_or_default())).map_err(|_| "row names no history block".into())
    }

    /// Where the rows from restart `interval` to the next lie.
    fn interval(&self, interval: usize) -> Result<Range<usize>, Reason> {
        let start = self.restart(interval).ok_or("restart lies outside of its block")?;
        let end = self.restart(interval + 1).unwrap_or(self.histories_at);
        if start < end && end <= self.histories_at && (interval > 0 || start == 0) {
            Ok(start..end)
        } else {
            Err("restarts of a data block are out of order".into())
        }
    }

    fn restart(&self, interval: usize) -> Option<usize> {
        if interval >= self.restarts {
            return None;
        }
        let at = self.bytes.get(self.restarts_at + 4 * interval..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*at)).ok()
    }

    /// How many intervals begin at or before `key`: the key, if it is there, is in the last of them.
    fn intervals_to(&self, key: &[u8]) -> Result<usize, Reason> {
        let (mut low, mut high) = (0, self.restarts);
        while low < high {
            let middle = low.midpoint(high);
            let range = self.interval(middle)?;
            if Row::restart_key(&self.bytes, range.start, range.end)? <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The row of `key`. Compares without putting keys together.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Row>, Reason> {
        let Some(interval) = self.intervals_to(key)?.checked_sub(1) else { return Ok(None) };
        let range = self.interval(interval)?;
        let mut at = range.start;
        // How much `key` has in common with the row before, which is less than `key`.
        let mut matched = 0;
        while at < range.end {
            let row = Row::decode(&self.bytes, at, range.end, self.base)?;
            match row.shared.cmp(&matched) {
                // It differs from the row before where that one still agreed with `key`: it is greater.
                Ordering::Less => return Ok(None),
                // It has in common with the row before also where that one differs from `key`: it is less, too.
                Ordering::Greater => {}
                Ordering::Equal => {
                    let rest = self.bytes.get(row.rest.clone()).unwrap_or_default();
                    let wanted = key.get(matched..).unwrap_or_default();
                    let more = shared_prefix(rest, wanted);
                    match rest.get(more..).unwrap_or_default().cmp(wanted.get(more..).unwrap_or_default()) {
                        Ordering::Less => matched += more,
                        Ordering::Equal => return Ok(Some(row)),
                        Ordering::Greater => return Ok(None),
                    }
                }
            }
            at = row.end;
        }
        Ok(None)
    }
}

/// A position on a row of a data block, or on none.
#[derive(Default)]
pub(crate) struct Rows {
    block: Option<DataBlock>,
    /// Which restart the rows below begin at.
    interval: usize,
    /// What was decoded of the interval; each key lies in `keys`.
    rows: Vec<(Range<usize>, Row)>,
    keys: Vec<u8>,
    /// What was not decoded yet.
    rest: Range<usize>,
    /// The position in `rows`; behind them: on none.
    at: usize,
}

impl Rows {
    /// Goes into a block, onto no row yet.
    pub(crate) fn enter(&mut self, block: DataBlock) {
        self.leave();
        self.block = Some(block);
    }

    /// Leaves the block.
    pub(crate) fn leave(&mut self) {
        self.block = None;
        self.rows.clear();
        self.keys.clear();
        self.rest = 0..0;
        self.at = 0;
    }

    pub(crate) fn block(&self) -> Option<&DataBlock> {
        self.block.as_ref()
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.keys.get(self.rows.get(self.at)?.0.clone())
    }

    /// The row at the position, and the block that it lies in.
    pub(crate) fn row(&self) -> Option<(&Row, &DataBlock)> {
        Some((&self.rows.get(self.at)?.1, self.block.as_ref()?))
    }

    // Each of these says whether there is such a row; without one, the position is none.

    pub(crate) fn first(&mut self) -> Result<bool, Reason> {
        self.open(0)?;
        self.decode_one()
    }

    pub(crate) fn last(&mut self) -> Result<bool, Reason> {
        let Some(last) = self.restarts().checked_sub(1) else { return Ok(false) };
        self.open_to_end(last)
    }

    /// To the first row at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool, Reason> {
        let intervals = self.intervals_to(key)?;
        self.open(intervals.saturating_sub(1))?;
        while self.decode_one()? {
            if self.key().is_some_and(|found| found >= key) {
                return Ok(true);
            }
            self.at += 1;
        }
        self.next_interval()
    }

    /// To the last row at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool, Reason> {
        let Some(interval) = self.intervals_to(key)?.checked_sub(1) else { return Ok(false) };
        self.open(interval)?;
        while self.decode_one()? && self.key().is_some_and(|found| found <= key) {
            self.at += 1;
        }
        // The first row of the interval is not above `key`.
        self.at = self.at.saturating_sub(1);
        Ok(true)
    }

    pub(crate) fn next(&mut self) -> Result<bool, Reason> {
        self.at += 1;
        if self.at < self.rows.len() || self.decode_one()? { Ok(true) } else { self.next_interval() }
    }

    pub(crate) fn prev(&mut self) -> Result<bool, Reason> {
        if let Some(before) = self.at.checked_sub(1) {
            self.at = before;
            return Ok(true);
        }
        match self.interval.checked_sub(1) {
            Some(before) => self.open_to_end(before),
            None => Ok(false),
        }
    }

    fn restarts(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.restarts)
    }

    fn intervals_to(&self, key: &[u8]) -> Result<usize, Reason> {
        self.block.as_ref().map_or(Ok(0), |block| block.intervals_to(key))
    }

    fn open(&mut self, interval: usize) -> Result<(), Reason> {
        let Some(block) = &self.block else { return Ok(()) };
        self.rest = block.interval(interval)?;
        self.interval = interval;
        self.rows.clear();
        self.keys.clear();
        self.at = 0;
        Ok(())
    }

    fn next_interval(&mut self) -> Result<bool, Reason> {
        if self.interval + 1 >= self.restarts() {
            return Ok(false);
        }
        self.open(self.interval + 1)?;
        self.decode_one()
    }

    fn open_to_end(&mut self, interval: usize) -> Result<bool, Reason> {
        self.open(interval)?;
        while self.decode_one()? {}
        self.at = self.rows.len().saturating_sub(1);
        Ok(!self.rows.is_empty())
    }

    /// Decodes the next row of the interval, if there is one.
    fn decode_one(&mut self) -> Result<bool, Reason> {
        let Some(block) = self.block.as_ref().filter(|_| !self.rest.is_empty()) else { return Ok(false) };
        if self.rows.len() >= RESTART_INTERVAL {
            // So the keys of an interval never take much more memory than the block.
            return Err("too many rows from one restart to the next".into());
        }
        let row = Row::decode(&block.bytes, self.rest.start, self.rest.end, block.base)?;
        let before = self.rows.last().map_or(0..0, |(key, _)| key.clone());
        if row.shared > before.len() {
            return Err("key shares more with the key before than that has".into());
        }
        let start = self.keys.len();
        self.keys.extend_from_within(before.start..before.start + row.shared);
        self.keys.extend_from_slice(block.bytes.get(row.rest.clone()).unwrap_or_default());
        self.rest.start = row.end;
        self.rows.push((start..self.keys.len(), row));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Encode;

    /// Keys that each have all of the one before: put together they take far more than the block.
    #[test]
    fn keys_of_rows_without_restarts_do_not_fill_the_memory() {
        // S27
        let mut bytes = Vec::new();
        for shared in 0..1000u64 {
            bytes.put_u8(2);
            bytes.put_varint(shared);
            bytes.put_bytes(b"k");
            bytes.put_varint(0);
        }
        bytes.put_u32(0);
        bytes.put_u64(0);
        bytes.put_u32(0);
        bytes.put_u32(1);
        let mut rows = Rows::default();
        rows.enter(DataBlock::parse(bytes.into(), 0).unwrap());
        assert!(rows.last().is_err());
        assert!(rows.keys.len() <= RESTART_INTERVAL * RESTART_INTERVAL, "{} bytes of keys", rows.keys.len());
    }
}
