//! The index: which data block can hold a key, and what timestamps it has.
//!
//! ```text
//! index block  entries, keys strictly ascending
//!              the offset of every entry, u32 each
//!              number of entries u32
//! entry        key            length varint, bytes: at or above every key of the block, below every key of the next
//!              handle         offset, stored length, length as varints
//!              timestamps     least varint, greatest varint as the difference to it; over the block's rows and histories
//! ```
//!
//! Entries of partitions name data blocks; those of the top index, which a reader holds in memory, name partitions. The
//! timestamps let reads at a time, and changes between two, pass over what cannot matter.

use bytes::Bytes;

use super::block::{BlockKind, BlockSource, Caching, Handle};
use super::row::reason;
use crate::format::{Decoder, Encode, Reason, shared_prefix};
use crate::{Result, Timestamp};

/// The least and the greatest of some timestamps; none yet if inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) min: Timestamp,
    pub(crate) max: Timestamp,
}

impl Span {
    pub(crate) const EMPTY: Self = Self { min: Timestamp::MAX, max: 0 };
    pub(crate) const ALL: Self = Self { min: 0, max: Timestamp::MAX };

    pub(crate) fn add(&mut self, timestamp: Timestamp) {
        self.add_all(Self { min: timestamp, max: timestamp });
    }

    pub(crate) fn add_all(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn overlaps(&self, other: Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// One entry of an index block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) block: Handle,
    pub(crate) span: Span,
}

/// Fills an index block.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl IndexBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.offsets.len() + 4
    }

    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        // Payloads end at 257 MiB: a block whose offsets do not fit is refused when it is written.
        self.offsets.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.bytes.put_bytes(entry.key);
        entry.block.put(&mut self.bytes);
        self.bytes.put_varint(entry.span.min);
        self.bytes.put_varint(entry.span.max.wrapping_sub(entry.span.min));
    }

    /// The payload; the builder is empty then.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        for offset in &self.offsets {
            self.bytes.put_u32(*offset);
        }
        self.bytes.put_u32(u32::try_from(self.offsets.len()).unwrap_or(u32::MAX));
        self.offsets.clear();
        std::mem::take(&mut self.bytes)
    }
}

/// A short key that is at or above `last` and below `next`, which is above `last`.
pub(crate) fn separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let shared = shared_prefix(last, next);
    // If `next` goes on behind the byte that differs, its front up to there lies between the two.
    if last.len() > shared + 1 && next.len() > shared + 1 {
        return next.get(..=shared).unwrap_or_default().to_vec();
    }
    // Else a front of `last` with its end raised, as long as that stays below `next`.
    for len in shared + 1..last.len() {
        if let Some((end, front)) = last.get(..len).and_then(<[u8]>::split_last)
            && let Some(raised) = end.checked_add(1)
            && (len > shared + 1 || next.get(shared).is_some_and(|end| raised < *end))
        {
            return [front, &[raised]].concat();
        }
    }
    last.to_vec()
}

/// An index block as it is read.
#[derive(Debug, Clone)]
pub(crate) struct IndexBlock {
    /// Where it lies in the file: names it in errors.
    pub(crate) offset: u64,
    bytes: Bytes,
    offsets_at: usize,
    count: usize,
}

impl IndexBlock {
    /// The index of a table without keys.
    pub(crate) fn empty() -> Self {
        Self { offset: 0, bytes: Bytes::new(), offsets_at: 0, count: 0 }
    }

    pub(crate) fn parse(bytes: Bytes, offset: u64) -> Result<Self, Reason> {
        const SHORT: &str = "index block is too short";
        let (rest, count) = bytes.split_last_chunk::<4>().ok_or(SHORT)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| SHORT)?;
        let offsets_at = count.checked_mul(4).and_then(|len| rest.len().checked_sub(len)).ok_or(SHORT)?;
        if count == 0 {
            return Err("index block is empty".into());
        }
        Ok(Self { offset, bytes, offsets_at, count })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn entry(&self, at: usize) -> Result<Entry<'_>, Reason> {
        let mut from = self.decoder(at)?;
        let key = from.bytes().map_err(reason)?;
        let block = Handle::take(&mut from).map_err(reason)?;
        let min = from.varint().map_err(reason)?;
        let max = min.checked_add(from.varint().map_err(reason)?).ok_or("timestamps of an index entry overflow")?;
        Ok(Entry { key, block, span: Span { min, max } })
    }

    /// The first entry whose key is at or above `key`, or the number of entries.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, Reason> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.decoder(middle)?.bytes().map_err(reason)? < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn decoder(&self, at: usize) -> Result<Decoder<'_>, Reason> {
        let outside = "index entry lies outside of its block";
        let offset = at.checked_mul(4).and_then(|at| self.bytes.get(self.offsets_at + at..)).ok_or(outside)?;
        let offset = offset.first_chunk::<4>().filter(|_| at < self.count).ok_or(outside)?;
        let offset = usize::try_from(u32::from_le_bytes(*offset)).map_err(|_| outside)?;
        Ok(self.bytes.get(offset..self.offsets_at).map(Decoder::new).ok_or(outside)?)
    }
}

/// The index of one table, and which of its data blocks matter.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    pub(crate) top: &'a IndexBlock,
    pub(crate) source: &'a BlockSource,
    pub(crate) caching: Caching,
    /// Blocks without a timestamp in it are passed over.
    pub(crate) span: Span,
}

impl Index<'_> {
    pub(crate) fn partition(&self, handle: Handle) -> Result<IndexBlock> {
        let bytes = self.source.load(BlockKind::Partition, handle, self.caching)?;
        IndexBlock::parse(bytes, handle.offset).map_err(|reason| self.source.corruption(handle.offset, reason))
    }

    /// The partition in the given place, if its keys lie where that place says. One that stood in several places would
    /// make a walk over a small file endless.
    fn partition_in(&self, top_at: usize) -> Result<IndexBlock> {
        let entry = self.entry(self.top, top_at)?;
        let partition = self.partition(entry.block)?;
        let first = self.entry(&partition, 0)?.key;
        let last = self.entry(&partition, partition.len().saturating_sub(1))?.key;
        let before = top_at.checked_sub(1).map(|before| self.entry(self.top, before)).transpose()?;
        if before.is_none_or(|before| before.key < first) && first <= last && last <= entry.key {
            return Ok(partition);
        }
        Err(self.source.corruption(entry.block.offset, "partition lies at another place than the index says"))
    }

    fn entry<'b>(&self, block: &'b IndexBlock, at: usize) -> Result<Entry<'b>> {
        block.entry(at).map_err(|reason| self.source.corruption(block.offset, reason))
    }

    fn find(&self, block: &IndexBlock, key: &[u8]) -> Result<usize> {
        block.find(key).map_err(|reason| self.source.corruption(block.offset, reason))
    }

    /// The one data block that can hold `key`.
    pub(crate) fn block_of(&self, key: &[u8]) -> Result<Option<Handle>> {
        let top_at = self.find(self.top, key)?;
        if top_at == self.top.len() {
            return Ok(None);
        }
        let entry = self.entry(self.top, top_at)?;
        if !entry.span.overlaps(self.span) {
            return Ok(None);
        }
        let partition = self.partition(entry.block)?;
        let at = self.find(&partition, key)?;
        if at == partition.len() {
            return Ok(None);
        }
        let entry = self.entry(&partition, at)?;
        Ok(entry.span.overlaps(self.span).then_some(entry.block))
    }
}

/// A position on an entry that names a data block.
#[derive(Default)]
pub(crate) struct IndexCursor {
    /// The partition, and its place in the top index.
    partition: Option<(usize, IndexBlock)>,
    at: usize,
}

impl IndexCursor {
    /// Whether `key`, the first or last of the block at this position, lies where the index says. For the same reason.
    pub(crate) fn check(&self, index: &Index<'_>, key: &[u8]) -> Result<()> {
        let Some((top_at, partition)) = &self.partition else { return Ok(()) };
        let entry = index.entry(partition, self.at)?;
        let before = match (self.at.checked_sub(1), top_at.checked_sub(1)) {
            (Some(before), _) => Some(index.entry(partition, before)?),
            (None, Some(before)) => Some(index.entry(index.top, before)?),
            (None, None) => None,
        };
        if before.is_none_or(|before| before.key < key) && key <= entry.key {
            return Ok(());
        }
        Err(index.source.corruption(entry.block.offset, "block lies at another place than the index says"))
    }

    // Each of these moves to the first block in its direction that matters, and gives it; behind the last, none.

    pub(crate) fn first(&mut self, index: &Index<'_>) -> Result<Option<Handle>> {
        self.forward(index, 0, 0)
    }

    pub(crate) fn last(&mut self, index: &Index<'_>) -> Result<Option<Handle>> {
        self.backward(index, index.top.len(), usize::MAX)
    }

    pub(crate) fn next(&mut self, index: &Index<'_>) -> Result<Option<Handle>> {
        let Some((top_at, _)) = &self.partition else { return Ok(None) };
        self.forward(index, *top_at, self.at + 1)
    }

    pub(crate) fn prev(&mut self, index: &Index<'_>) -> Result<Option<Handle>> {
        let Some((top_at, _)) = &self.partition else { return Ok(None) };
        self.backward(index, top_at + 1, self.at)
    }

    /// Forward from the block that can hold `key`.
    pub(crate) fn seek(&mut self, index: &Index<'_>, key: &[u8]) -> Result<Option<Handle>> {
        let (top_at, at) = self.find(index, key)?;
        self.forward(index, top_at, at)
    }

    /// Backward from the block that can hold `key`.
    pub(crate) fn seek_for_prev(&mut self, index: &Index<'_>, key: &[u8]) -> Result<Option<Handle>> {
        let (top_at, at) = self.find(index, key)?;
        self.backward(index, top_at.saturating_add(1), at.saturating_add(1))
    }

    fn find(&mut self, index: &Index<'_>, key: &[u8]) -> Result<(usize, usize)> {
        let top_at = index.find(index.top, key)?;
        if top_at == index.top.len() {
            return Ok((top_at, usize::MAX));
        }
        let at = index.find(self.load(index, top_at)?, key)?;
        Ok((top_at, at))
    }

    /// The partition in the given place.
    fn load(&mut self, index: &Index<'_>, top_at: usize) -> Result<&IndexBlock> {
        let held = self.partition.take().filter(|(place, _)| *place == top_at);
        let partition = match held {
            Some((_, partition)) => partition,
            None => index.partition_in(top_at)?,
        };
        Ok(&self.partition.insert((top_at, partition)).1)
    }

    /// From this entry on.
    fn forward(&mut self, index: &Index<'_>, top_at: usize, mut at: usize) -> Result<Option<Handle>> {
        for top_at in top_at..index.top.len() {
            if index.entry(index.top, top_at)?.span.overlaps(index.span) {
                let partition = self.load(index, top_at)?;
                for at in at..partition.len() {
                    let entry = index.entry(partition, at)?;
                    if entry.span.overlaps(index.span) {
                        let block = entry.block;
                        self.at = at;
                        return Ok(Some(block));
                    }
                }
            }
            at = 0;
        }
        self.partition = None;
        Ok(None)
    }

    /// From the entry before this one on; places are exclusive.
    fn backward(&mut self, index: &Index<'_>, top_end: usize, mut end: usize) -> Result<Option<Handle>> {
        for top_at in (0..top_end.min(index.top.len())).rev() {
            if index.entry(index.top, top_at)?.span.overlaps(index.span) {
                let partition = self.load(index, top_at)?;
                for at in (0..end.min(partition.len())).rev() {
                    let entry = index.entry(partition, at)?;
                    if entry.span.overlaps(index.span) {
                        let block = entry.block;
                        self.at = at;
                        return Ok(Some(block));
                    }
                }
            }
            end = usize::MAX;
        }
        self.partition = None;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_lies_between_two_keys_and_is_short() {
        // S1
        let keys: [&[u8]; 16] = [
            b"",
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"a\0\xff",
            b"ab",
            b"abc",
            b"abcdef",
            b"abd",
            b"ab\xff",
            b"ab\xff\xff",
            b"b",
            b"b\xff\xff\x01",
            b"c",
            b"\xff\xff",
        ];
        for last in keys {
            for next in keys.iter().filter(|next| **next > last) {
                let between = separator(last, next);
                assert!(*between >= *last && *between < **next, "{last:?} {between:?} {next:?}");
                assert!(between.len() <= last.len());
            }
        }
        for (last, next, expected) in [
            (&b"abcdef"[..], &b"abd"[..], &b"abce"[..]),
            (b"apple pie", b"banana", b"b"),
            (b"apple pie", b"c", b"b"),
            (b"a\xff\xffzz", b"b", b"a\xff\xff{"),
        ] {
            assert_eq!(separator(last, next), expected);
        }
    }

    #[test]
    fn entries_are_found_and_damaged_blocks_never_panic() {
        // S27
        let keys: Vec<Vec<u8>> = (0..20u8).map(|i| vec![b'k', i * 2]).collect();
        let mut builder = IndexBuilder::default();
        for (i, key) in (0..).zip(&keys) {
            let block = Handle { offset: i * 1000, stored: 500, len: 700 };
            builder.add(&Entry { key, block, span: Span { min: i, max: i * 2 } });
        }
        let bytes = builder.finish();
        let block = IndexBlock::parse(bytes.clone().into(), 0).unwrap();
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(block.find(key), Ok(i));
            assert_eq!(block.find(&[b'k', key[1] + 1]), Ok(i + 1));
            let entry = block.entry(i).unwrap();
            assert_eq!((entry.key, entry.block.offset, entry.span.max), (&key[..], i as u64 * 1000, i as u64 * 2));
        }
        assert_eq!(block.find(b""), Ok(0));
        assert!(block.entry(20).is_err());
        for i in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[i] = value;
                if let Ok(block) = IndexBlock::parse(changed.into(), 0) {
                    let _ = (block.find(b"k\x08"), block.entry(3));
                }
            }
        }
    }
}
