//! What can still be read of a damaged table.
//!
//! Every block stands under its own checksum, so a damaged one takes along its own rows, or its own part of their
//! histories, and nothing else. What is read is right; what is missing between it is not known. Where an index is
//! damaged, data blocks are found one behind the other.

use std::collections::BTreeMap;
use std::ops::Range;

use super::block::{BlockKind, BlockSource, Caching, Handle, MAX_PAYLOAD, TRAILER};
use super::history::HistoryCursor;
use super::index::IndexBlock;
use super::reader::readable;
use super::row::Row;
use super::rows::{DataBlock, Rows};
use super::slots::Cached;
use super::{TableReader, TableWriter};
use crate::Result;
use crate::format::codec::Compression;
use crate::format::{Decoder, checksum, checksum_on};

/// How much is read at once where nothing says how long a block is.
const PIECE: usize = 64 << 10;

/// The longest varint.
const MOST_VARINT: usize = 10;

impl TableReader {
    /// Writes every version that can be read, and the range tombstones. Of a history that is damaged, what is newer
    /// than the damage.
    ///
    /// # Errors
    /// What `writer` gives, and `Io`; damage is none.
    pub(crate) fn salvage(&self, writer: &mut TableWriter) -> Result<()> {
        let mut rest = Rest { reader: self, writer, last_key: None };
        for block in self.data_blocks()?.into_values() {
            rest.block(block)?;
        }
        let fragments = self.range_tombstones().fragments().iter();
        fragments.into_iter().try_for_each(|fragment| writer.range_tombstones(fragment))
    }

    /// Every data block that can be found, by its place, and so in the order of keys.
    fn data_blocks(&self) -> Result<BTreeMap<u64, Handle>> {
        let (mut found, mut whole) = (BTreeMap::new(), self.top.index.len() > 0);
        for at in 0..self.top.index.len() {
            let above = self.top.index.entry(at).ok();
            let partition = above.map(|above| self.partition(above.block)).transpose()?.flatten();
            whole &= partition.is_some();
            for at in 0..partition.as_ref().map_or(0, IndexBlock::len) {
                let entry = partition.as_ref().and_then(|partition| partition.entry(at).ok());
                whole &= entry.is_some();
                found.extend(entry.map(|entry| (entry.block.offset, entry.block)));
            }
        }
        if !whole && self.meta.keys > 0 {
            self.walk(&mut found)?;
        }
        Ok(found)
    }

    fn partition(&self, block: Handle) -> Result<Option<IndexBlock>> {
        let payload = readable(self.source.load(BlockKind::Partition, block))?;
        Ok(payload.and_then(|payload| IndexBlock::parse(&payload, block.offset).ok()))
    }

    /// Adds the data blocks that an index has lost: blocks lie back to back, so the end of one is where the next begins.
    /// Damage ends that, until the next block that is known.
    fn walk(&self, found: &mut BTreeMap<u64, Handle>) -> Result<()> {
        let mut at = 0;
        while at < self.source.len() {
            let known = found.get(&at).copied().map(|block| (BlockKind::Data, block));
            let block = match known {
                Some(known) => Some(known),
                None => {
                    let end = found.range(at..).next().map_or(self.source.len(), |(next, _)| *next);
                    let kinds = [BlockKind::Data, BlockKind::History, BlockKind::HistoryIndex];
                    self.source.block_at(at..end, kinds)?
                }
            };
            at = match block {
                Some((kind, block)) => {
                    if kind == BlockKind::Data {
                        found.insert(at, block);
                    }
                    at.saturating_add(block.bytes_in_file())
                }
                None => match found.range(at..).next() {
                    Some((next, _)) => *next,
                    None => return Ok(()),
                },
            };
        }
        Ok(())
    }
}

impl BlockSource {
    /// The block that begins such a part of the file, where no handle says how long it is: it ends where its checksum
    /// stands.
    fn block_at<const N: usize>(
        &self,
        Range { start: offset, end }: Range<u64>,
        kinds: [BlockKind; N],
    ) -> Result<Option<(BlockKind, Handle)>> {
        let mut sums = kinds.map(|kind| (kind, checksum(kind as u8, self.number(), offset, &[])));
        let end = end.min(offset.saturating_add(u64::from(MAX_PAYLOAD) + TRAILER));
        let mut at = offset;
        while at + TRAILER <= end {
            let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let bytes = self.read_bytes(at, len)?;
            for (window, stored) in bytes.windows(1 + size_of::<u32>()).zip(at - offset..) {
                let &[codec, a, b, c, d] = window else { continue };
                let there = u32::from_le_bytes([a, b, c, d]);
                for (kind, sum) in &mut sums {
                    *sum = checksum_on(*sum, &[codec]);
                    if *sum == there
                        && let Some(handle) = self.handle_of(offset, stored, codec)?
                    {
                        return Ok(Some((*kind, handle)));
                    }
                }
            }
            at += len as u64 - (TRAILER - 1);
        }
        Ok(None)
    }

    /// The handle of a block whose payload takes so many bytes as `codec` has stored it.
    fn handle_of(&self, offset: u64, stored: u64, codec: u8) -> Result<Option<Handle>> {
        let Some(stored) = u32::try_from(stored).ok().filter(|stored| *stored > 0) else { return Ok(None) };
        if codec == Compression::None.number() {
            return Ok(Some(Handle { offset, stored, len: stored }));
        }
        let head = self.read_bytes(offset, usize::try_from(stored).unwrap_or(MOST_VARINT).min(MOST_VARINT))?;
        let len = Decoder::new(&head).varint().ok().and_then(|len| u32::try_from(len).ok());
        Ok(len.map(|len| Handle { offset, stored, len }))
    }
}

struct Rest<'a> {
    reader: &'a TableReader,
    writer: &'a mut TableWriter,
    last_key: Option<Vec<u8>>,
}

impl Rest<'_> {
    fn block(&mut self, block: Handle) -> Result<()> {
        let Some(block) = readable(self.reader.source.parsed::<DataBlock>(BlockKind::Data, block))? else {
            return Ok(());
        };
        let (block, mut rows) = (Cached::alone(block), Rows::default());
        rows.enter(block.clone());
        let mut found = rows.first();
        while let Ok(true) = found {
            if let (Some(key), Some((row, _))) = (rows.key(), rows.row()) {
                let rises = self.last_key.as_ref().is_none_or(|last| &**last < key);
                if rises && self.reader.meta.contains(key) {
                    self.last_key = Some(key.to_vec());
                    self.writer.begin_key(key)?;
                    self.versions(row, &block)?;
                    self.writer.end_key()?;
                }
            }
            found = rows.next();
        }
        Ok(())
    }

    fn versions(&mut self, row: &Row, block: &DataBlock) -> Result<()> {
        self.writer.version(row.version.borrow(block.bytes()))?;
        if !row.version.kind.has_history() {
            return Ok(());
        }
        let source = &self.reader.source;
        let mut newer = row.version.timestamp;
        let mut history = HistoryCursor::default();
        let mut found = history.seek(source, Caching::Off, (row, block), newer.saturating_sub(1));
        while let Some(true) = readable(found)? {
            match history.version() {
                Some(version) if version.stamp.timestamp < newer => {
                    newer = version.stamp.timestamp;
                    self.writer.version(version)?;
                }
                _ => break,
            }
            found = history.older(source, Caching::Off);
        }
        Ok(())
    }
}
