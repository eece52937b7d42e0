//! The index: which data block can hold a key, and what timestamps it has.
//!
//! ```text
//! index block  entries, keys strictly ascending
//!              number of entries u32
//! entry        key            length varint, bytes: at or above every key of the block, below every key of the next
//!              handle         offset, stored length, length as varints
//!              timestamps     least varint, greatest varint as the difference to it; over the block's rows and histories
//! ```
//!
//! Entries of partitions name data blocks; those of the top index, which a reader holds in memory, name partitions. The
//! timestamps let reads at a time, and changes between two, pass over what cannot matter.

use std::ops::Range;

use super::block::{BlockKind, BlockSource, Caching, Handle};
use super::directory::{Directory, KeyAt};
use super::held::{IndexNode, Partition, TopIndex};
use super::row::reason;
use super::rows::DataBlock;
use super::slots::{Cached, Held};
use crate::format::{Decoder, Encode, Reason, shared_prefix};
use crate::sync::Arc;
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

impl<'a> Entry<'a> {
    fn take(from: &mut Decoder<'a>) -> Result<Self, Reason> {
        let key = from.bytes().map_err(reason)?;
        let block = Handle::take(from).map_err(reason)?;
        let min = from.varint().map_err(reason)?;
        let max = min.checked_add(from.varint().map_err(reason)?).ok_or("timestamps of an index entry overflow")?;
        Ok(Self { key, block, span: Span { min, max } })
    }
}

/// Fills an index block.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    bytes: Vec<u8>,
    entries: u32,
}

impl IndexBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 4
    }

    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        // Payloads end at 257 MiB: a block of more entries than that is refused when it is written.
        self.entries = self.entries.saturating_add(1);
        self.bytes.put_bytes(entry.key);
        entry.block.put(&mut self.bytes);
        self.bytes.put_varint(entry.span.min);
        self.bytes.put_varint(entry.span.max.wrapping_sub(entry.span.min));
    }

    /// The payload; the builder is empty then.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.bytes.put_u32(self.entries);
        self.entries = 0;
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

/// Most index blocks have fewer entries.
const USUAL_ENTRIES: usize = 512;

/// An index block as it is read: walked once, then searched by its directory.
#[derive(Debug, Default)]
pub(crate) struct IndexBlock {
    /// Where it lies in the file: names it in errors.
    pub(crate) offset: u64,
    /// `None`: the index of a table without keys.
    directory: Option<Directory>,
}

impl IndexBlock {
    /// The index of a table without keys.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn parse(payload: &[u8], offset: u64) -> Result<Self, Reason> {
        const SHORT: &str = "index block is too short";
        let (entries, count) = payload.split_last_chunk::<4>().ok_or(SHORT)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| SHORT)?;
        let mut keys = Vec::with_capacity(count.min(USUAL_ENTRIES));
        let mut from = Decoder::new(entries);
        while !from.is_empty() {
            let place = from.offset();
            let key = Entry::take(&mut from)?.key;
            let start = key.as_ptr().addr() - entries.as_ptr().addr();
            keys.push(KeyAt::new(place, 0, start..start + key.len())?);
        }
        if keys.is_empty() {
            return Err("index block is empty".into());
        }
        if keys.len() != count {
            return Err("index block has another number of entries than it says".into());
        }
        let directory = Directory::new(payload, &keys)?;
        Ok(Self { offset, directory: Some(directory) })
    }

    /// What was made of it.
    pub(super) fn bytes(&self) -> &[u8] {
        self.directory.as_ref().map_or(&[], |directory| directory.bytes())
    }

    /// How much memory it takes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes().len()
    }

    pub(crate) fn len(&self) -> usize {
        self.directory.as_ref().map_or(0, Directory::len)
    }

    pub(crate) fn entry(&self, at: usize) -> Result<Entry<'_>, Reason> {
        let entry = self.directory.as_ref().and_then(|directory| directory.bytes().get(directory.place(at)?..));
        Entry::take(&mut Decoder::new(entry.ok_or("no such entry in an index block")?))
    }

    /// The first entry whose key is at or above `key`, or the number of entries.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, Reason> {
        self.find_near(key, |_| ())
    }

    /// The same. `near` is told between which entries it is as soon as that is known.
    pub(super) fn find_near(&self, key: &[u8], near: impl FnOnce(Range<usize>)) -> Result<usize, Reason> {
        let Some(directory) = &self.directory else { return Ok(0) };
        let (at, _) = directory.find_near(key, near, |at| Ok(self.entry(at)?.key.cmp(key)))?;
        Ok(at)
    }
}

/// The index of one table, and which of its data blocks matter.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    pub(super) top: &'a TopIndex,
    pub(super) source: &'a BlockSource,
    pub(super) caching: Caching,
    /// Blocks without a timestamp in it are passed over.
    pub(super) span: Span,
}

impl Index<'_> {
    /// Runs `read` on the partition in the given place. One that is not held is loaded; its keys must lie where that
    /// place says: one that stood in several places would make a walk over a small file endless.
    fn partition<R>(&self, top_at: usize, read: impl Fn(&Arc<Cached<Partition>>) -> R) -> Result<R> {
        let load = || {
            let entry = self.entry(&self.top.index, top_at)?;
            let partition: Partition = self.source.parsed(BlockKind::Partition, entry.block)?;
            let index = &partition.index;
            let (first, last) = (self.entry(index, 0)?.key, self.entry(index, index.len().saturating_sub(1))?.key);
            let before = top_at.checked_sub(1).map(|before| self.entry(&self.top.index, before)).transpose()?;
            if before.is_none_or(|before| before.key < first) && last <= entry.key {
                return Ok((entry.block, partition));
            }
            Err(self.source.corruption(entry.block.offset, "partition lies at another place than the index says"))
        };
        self.source.visit((&self.top.slots, top_at), BlockKind::Partition, self.caching, load, read)
    }

    /// Runs `read` on a data block: that of the given entry of the partition in the given place. The same is seen to.
    fn data_block<R>(
        &self,
        (top_at, partition): (usize, &Partition),
        at: usize,
        read: impl Fn(&Arc<Cached<DataBlock>>) -> R,
    ) -> Result<R> {
        let load = || {
            let entry = self.entry(&partition.index, at)?;
            let block: DataBlock = self.source.parsed(BlockKind::Data, entry.block)?;
            let before = match (at.checked_sub(1), top_at.checked_sub(1)) {
                (Some(before), _) => Some(self.entry(&partition.index, before)?),
                (None, Some(before)) => Some(self.entry(&self.top.index, before)?),
                (None, None) => None,
            };
            let bad = |reason| self.source.corruption(entry.block.offset, reason);
            if block.lies_in(before.map(|before| before.key), entry.key).map_err(bad)? {
                return Ok((entry.block, block));
            }
            Err(bad("block lies at another place than the index says".into()))
        };
        self.source.visit((&partition.slots, at), BlockKind::Data, self.caching, load, read)
    }

    fn entry<'b>(&self, block: &'b IndexBlock, at: usize) -> Result<Entry<'b>> {
        block.entry(at).map_err(|reason| self.source.corruption(block.offset, reason))
    }

    fn find(&self, block: &IndexBlock, key: &[u8]) -> Result<usize> {
        block.find(key).map_err(|reason| self.source.corruption(block.offset, reason))
    }

    /// The place of the entry of the one data block that can hold `key`, or the number of entries.
    fn data_block_of(&self, partition: &Partition, key: &[u8]) -> Result<usize> {
        partition.find(key).map_err(|reason| self.source.corruption(partition.index.offset, reason))
    }

    /// Whether the block of an entry has a timestamp that matters.
    fn matters(&self, block: &IndexBlock, at: usize) -> Result<bool> {
        Ok(self.span == Span::ALL || self.entry(block, at)?.span.overlaps(self.span))
    }

    /// Whether a block that an entry names is to be looked at: if it is held, that costs less than to ask what
    /// timestamps it has.
    fn is_worth<T: Held>(&self, node: &IndexNode<T>, at: usize) -> Result<bool> {
        Ok(node.slots.seems_held(at) || self.matters(&node.index, at)?)
    }

    /// The place of the one partition that can name the block of `key`, or the number of partitions. What is looked at of
    /// it next is fetched.
    pub(super) fn partition_of(&self, key: &[u8]) -> Result<usize> {
        let top_at = self.find(&self.top.index, key)?;
        self.top.slots.fetch(top_at);
        Ok(top_at)
    }

    /// Runs `read` on the one data block that can hold `key`, if there is one; `top_at` is the place of its partition.
    pub(super) fn block_of<R>(
        &self,
        key: &[u8],
        top_at: usize,
        read: impl Fn(&DataBlock) -> Result<R>,
    ) -> Result<Option<R>> {
        if top_at == self.top.index.len() || !self.is_worth(self.top, top_at)? {
            return Ok(None);
        }
        self.partition(top_at, |partition| {
            let at = self.data_block_of(partition, key)?;
            if at == partition.index.len() || !self.is_worth(partition, at)? {
                return Ok(None);
            }
            self.data_block((top_at, partition), at, |block| read(block))?.map(Some)
        })?
    }
}

/// What is fetched ahead of a lookup, one after the other: each needs that the one before has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// The line of the filter.
    Filter,
    /// The data block.
    Block,
}

impl Index<'_> {
    /// Fetches ahead of a lookup of `key`, as far as what leads there is held.
    pub(super) fn fetch(&self, key: &[u8]) {
        let Ok(top_at) = self.top.index.find(key) else { return };
        self.top.slots.with(top_at, false, |partition| {
            if let Ok(at) = partition.find(key) {
                partition.slots.fetch(at);
            }
        });
    }
}

/// A position on an entry that names a data block.
#[derive(Default)]
pub(crate) struct IndexCursor {
    /// The partition, and its place in the top index.
    partition: Option<(usize, Arc<Cached<Partition>>)>,
    at: usize,
}

impl IndexCursor {
    /// The place of the position: in the top index, and in the partition.
    pub(super) fn place(&self) -> Option<(usize, usize)> {
        self.partition.as_ref().map(|(top_at, _)| (*top_at, self.at))
    }

    /// The block at the position.
    pub(super) fn block(&self, index: &Index<'_>) -> Result<Option<Arc<Cached<DataBlock>>>> {
        let Some((top_at, partition)) = &self.partition else { return Ok(None) };
        index.data_block((*top_at, partition), self.at, Arc::clone).map(Some)
    }

    /// Fetches ahead of a walk in this direction.
    pub(super) fn fetch_next(&self, forward: bool) {
        let Some((_, partition)) = &self.partition else { return };
        if let Some(next) = if forward { self.at.checked_add(1) } else { self.at.checked_sub(1) } {
            partition.slots.fetch(next);
        }
    }

    // Each of these moves to the first block in its direction that matters, and says whether there is one.

    pub(super) fn first(&mut self, index: &Index<'_>) -> Result<bool> {
        self.forward(index, 0, 0)
    }

    pub(super) fn last(&mut self, index: &Index<'_>) -> Result<bool> {
        self.backward(index, index.top.index.len(), usize::MAX)
    }

    pub(super) fn next(&mut self, index: &Index<'_>) -> Result<bool> {
        let Some((top_at, at)) = self.place() else { return Ok(false) };
        self.forward(index, top_at, at + 1)
    }

    pub(super) fn prev(&mut self, index: &Index<'_>) -> Result<bool> {
        let Some((top_at, at)) = self.place() else { return Ok(false) };
        self.backward(index, top_at + 1, at)
    }

    /// Forward from the block that can hold `key`.
    pub(super) fn seek(&mut self, index: &Index<'_>, key: &[u8]) -> Result<bool> {
        let (top_at, at) = self.find(index, key)?;
        self.forward(index, top_at, at)
    }

    /// Backward from the block that can hold `key`.
    pub(super) fn seek_for_prev(&mut self, index: &Index<'_>, key: &[u8]) -> Result<bool> {
        let (top_at, at) = self.find(index, key)?;
        self.backward(index, top_at.saturating_add(1), at.saturating_add(1))
    }

    fn find(&mut self, index: &Index<'_>, key: &[u8]) -> Result<(usize, usize)> {
        let top_at = index.find(&index.top.index, key)?;
        if top_at == index.top.index.len() {
            return Ok((top_at, usize::MAX));
        }
        let at = index.data_block_of(self.load(index, top_at)?, key)?;
        Ok((top_at, at))
    }

    /// The partition in the given place.
    fn load(&mut self, index: &Index<'_>, top_at: usize) -> Result<&Partition> {
        let held = self.partition.take().filter(|(place, _)| *place == top_at);
        let partition = match held {
            Some((_, partition)) => partition,
            None => index.partition(top_at, Arc::clone)?,
        };
        Ok(&self.partition.insert((top_at, partition)).1)
    }

    /// From this entry on.
    fn forward(&mut self, index: &Index<'_>, top_at: usize, mut at: usize) -> Result<bool> {
        for top_at in top_at..index.top.index.len() {
            if index.matters(&index.top.index, top_at)? {
                let partition = self.load(index, top_at)?;
                for at in at..partition.index.len() {
                    if index.matters(&partition.index, at)? {
                        self.at = at;
                        return Ok(true);
                    }
                }
            }
            at = 0;
        }
        self.partition = None;
        Ok(false)
    }

    /// From the entry before this one on; places are exclusive.
    fn backward(&mut self, index: &Index<'_>, top_end: usize, mut end: usize) -> Result<bool> {
        for top_at in (0..top_end.min(index.top.index.len())).rev() {
            if index.matters(&index.top.index, top_at)? {
                let partition = self.load(index, top_at)?;
                for at in (0..end.min(partition.index.len())).rev() {
                    if index.matters(&partition.index, at)? {
                        self.at = at;
                        return Ok(true);
                    }
                }
            }
            end = usize::MAX;
        }
        self.partition = None;
        Ok(false)
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
        let block = IndexBlock::parse(&bytes, 0).unwrap();
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
                if let Ok(block) = IndexBlock::parse(&changed, 0) {
                    assert!((0..block.len()).all(|at| block.entry(at).is_ok()));
                    assert!(block.find(b"k\x08").is_ok());
                }
            }
        }
    }
}
