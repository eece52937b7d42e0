//! Reads every byte of a table and holds it against every rule that the format has.

use super::block::{BlockKind, Handle};
use super::footer::Footer;
use super::history::{HistoryIndex, HistoryRef, List};
use super::index::{Entry, IndexBlock, Span};
use super::row::{Row, Version};
use super::rows::{DataBlock, Rows};
use super::slots::Cached;
use super::{TableReader, ranges};
use crate::sync::Arc;
use crate::{Result, Timestamp};

impl TableReader {
    /// Checks every block against its checksum, the order of keys and timestamps, what the index, the filter and the
    /// properties say of them, and that the blocks fill the file. Reads from the file, not from memory.
    pub(crate) fn verify(&self) -> Result<Verified> {
        let mut verifier = Verifier {
            reader: self,
            bytes: 0,
            last_key: None,
            span: Span::EMPTY,
            keys: 0,
            versions: 0,
            tombstones: 0,
            late: false,
            shared: None,
        };
        verifier.keys()?;
        verifier.rest()
    }
}

/// What was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The file's length.
    pub(crate) bytes: u64,
    pub(crate) keys: u64,
    pub(crate) versions: u64,
}

/// A history block that several rows share: where it lies, its bytes, and where the next list begins.
struct Shared {
    offset: u64,
    bytes: Arc<[u8]>,
    next: usize,
}

struct Verifier<'a> {
    reader: &'a TableReader,
    /// Of all blocks read. They lie at different places, for the checksum covers kind and place: so if they sum up to
    /// the file's length, they fill the file.
    bytes: u64,
    last_key: Option<Vec<u8>>,
    span: Span,
    keys: u64,
    versions: u64,
    tombstones: u64,
    late: bool,
    shared: Option<Shared>,
}

impl Verifier<'_> {
    /// Everything that the top index leads to.
    fn keys(&mut self) -> Result<()> {
        let reader = self.reader;
        if reader.footer.top.is_none() {
            return Ok(());
        }
        let top_at = reader.footer.top.offset;
        let top = self.load(BlockKind::TopIndex, reader.footer.top)?;
        let top = IndexBlock::parse(&top, top_at).map_err(|reason| self.bad(top_at, reason))?;
        for at in 0..top.len() {
            let above = top.entry(at).map_err(|reason| self.bad(top_at, reason))?;
            let place = above.block.offset;
            let partition = self.load(BlockKind::Partition, above.block)?;
            let partition = IndexBlock::parse(&partition, place).map_err(|reason| self.bad(place, reason))?;
            let mut span = Span::EMPTY;
            for at in 0..partition.len() {
                let entry = partition.entry(at).map_err(|reason| self.bad(place, reason))?;
                self.block(&entry)?;
                span.add_all(entry.span);
                self.must(at + 1 < partition.len() || entry.key == above.key, place, "partition ends at another key")?;
            }
            self.must(span == above.span, top_at, "timestamps of a partition are not those of its entries")?;
            self.span.add_all(span);
        }
        Ok(())
    }

    fn block(&mut self, entry: &Entry<'_>) -> Result<()> {
        let at = entry.block.offset;
        let payload = self.load(BlockKind::Data, entry.block)?;
        let block = DataBlock::parse(&payload, at).map_err(|reason| self.bad(at, reason))?;
        let block = Cached::alone(block);
        let mut span = Span::EMPTY;
        let mut rows = Rows::default();
        rows.enter(block.clone());
        let mut found = rows.first().map_err(|reason| self.bad(at, reason))?;
        while found {
            if let (Some(key), Some((row, _))) = (rows.key(), rows.row()) {
                let rises = self.last_key.as_ref().is_none_or(|last| &**last < key);
                self.must(rises && key <= entry.key, at, "keys are out of order")?;
                self.must(block.find(key).is_ok_and(|found| found.is_some()), at, "key is not found where it is")?;
                let passes = self.reader.filter.as_ref().is_none_or(|filter| filter.may_contain(key));
                self.must(passes, self.reader.footer.filter.offset, "filter denies a key")?;
                self.must(self.reader.meta.contains(key), at, "key lies outside of the bounds of the properties")?;
                let last = self.last_key.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                self.keys += 1;
                self.row(row, &block, &mut span)?;
            }
            found = rows.next().map_err(|reason| self.bad(at, reason))?;
        }
        self.end_shared()?;
        // Where the next block's keys must be above.
        self.last_key = Some(entry.key.to_vec());
        self.must(span == entry.span, at, "timestamps of a block are not those of its index entry")
    }

    fn row(&mut self, row: &Row, block: &DataBlock, span: &mut Span) -> Result<()> {
        self.count(&row.version, span);
        let Some(place) = HistoryRef::of(row, block).map_err(|reason| self.bad(block.offset, reason))? else {
            return Ok(());
        };
        let handle = block.history(place.number).map_err(|reason| self.bad(block.offset, reason))?;
        let mut newer = row.version.timestamp;
        if place.levels > 0 {
            self.tree(handle, place.levels, &mut newer, span)?;
        } else {
            if self.shared.as_ref().is_none_or(|shared| shared.offset != handle.offset) {
                self.end_shared()?;
                let bytes: Arc<[u8]> = self.load(BlockKind::History, handle)?.into();
                self.shared = Some(Shared { offset: handle.offset, bytes, next: 0 });
            }
            if let Some(shared) = self.shared.take() {
                self.must(shared.next == place.offset, shared.offset, "histories do not follow each other")?;
                let next = self.list(shared.bytes.clone(), shared.offset, place.offset, &mut newer, span)?;
                self.shared = Some(Shared { next, ..shared });
            }
        }
        self.must(newer == place.oldest, block.offset, "oldest version is not the one that the row names")
    }

    /// A long history; `newer` goes from the version above it to its oldest.
    fn tree(&mut self, handle: Handle, levels: u8, newer: &mut Timestamp, span: &mut Span) -> Result<()> {
        let Some(below) = levels.checked_sub(1) else {
            let bytes: Arc<[u8]> = self.load(BlockKind::History, handle)?.into();
            let len = bytes.len();
            let end = self.list(bytes, handle.offset, 0, newer, span)?;
            return self.must(end == len, handle.offset, "history block is longer than its list");
        };
        let payload = self.load(BlockKind::HistoryIndex, handle)?;
        let index = HistoryIndex::parse(&payload).map_err(|reason| self.bad(handle.offset, reason))?;
        let mut at = 0;
        while let Some((oldest, child)) = index.child(at) {
            self.tree(child, below, newer, span)?;
            self.must(*newer == oldest, handle.offset, "oldest version is not the one that the history index names")?;
            at += 1;
        }
        Ok(())
    }

    /// One list; gives where it ends.
    fn list(
        &mut self,
        bytes: Arc<[u8]>,
        block_at: u64,
        offset: usize,
        newer: &mut Timestamp,
        span: &mut Span,
    ) -> Result<usize> {
        let mut list = List::open(&bytes, offset).map_err(|reason| self.bad(block_at, reason))?;
        while list.advance(&bytes).map_err(|reason| self.bad(block_at, reason))? {
            if let Some(version) = list.current() {
                self.must(version.timestamp < *newer, block_at, "versions of a key are out of order")?;
                *newer = version.timestamp;
                self.count(version, span);
            }
        }
        Ok(list.end())
    }

    fn end_shared(&mut self) -> Result<()> {
        match self.shared.take() {
            Some(shared) => {
                self.must(shared.next == shared.bytes.len(), shared.offset, "history block is longer than its lists")
            }
            None => Ok(()),
        }
    }

    /// What lies behind the keys, and the sums.
    fn rest(mut self) -> Result<Verified> {
        let (reader, meta, footer) = (self.reader, &self.reader.meta, self.reader.footer);
        let at = footer.properties.offset;
        if !footer.filter.is_none() {
            self.load(BlockKind::Filter, footer.filter)?;
        }
        if !footer.ranges.is_none() {
            let place = footer.ranges.offset;
            let block = self.load(BlockKind::RangeTombstones, footer.ranges)?;
            let ranges = ranges::parse(&block).map_err(|reason| self.bad(place, reason))?;
            self.must(ranges == **reader.range_tombstones(), place, "range tombstones are not those in memory")?;
        }
        for fragment in reader.range_tombstones().fragments() {
            for stamp in &fragment.stamps {
                self.span.add(stamp.timestamp);
                self.late |= stamp.late;
            }
            let ends_within = match &fragment.end {
                Some(end) => super::UpperBound::Excluded(end.clone()) <= meta.upper,
                None => super::UpperBound::Unbounded <= meta.upper,
            };
            let within = ends_within && meta.contains(&fragment.start);
            self.must(within, at, "range tombstone lies outside of the bounds of the properties")?;
        }
        self.load(BlockKind::Properties, footer.properties)?;
        let fragments = reader.range_tombstones().fragments().len() as u64;
        let counted = (self.keys, self.versions, self.tombstones, fragments, self.late, self.span);
        let span = Span { min: meta.min_timestamp, max: meta.max_timestamp };
        let said = (meta.keys, meta.versions, meta.tombstones, meta.range_tombstones, meta.late, span);
        self.must(counted == said, at, "properties are not those of the contents")?;

        let len = reader.source.len();
        let tail = reader.source.read_bytes(len.saturating_sub(Footer::LEN as u64), Footer::LEN)?;
        self.must(Footer::read(&reader.source, &tail)? == footer, len, "footer is not the one in memory")?;
        self.bytes += Footer::LEN as u64;
        self.must(self.bytes == len, len, "blocks do not fill the file")?;
        Ok(Verified { bytes: self.bytes, keys: self.keys, versions: self.versions })
    }

    fn load(&mut self, kind: BlockKind, handle: Handle) -> Result<Vec<u8>> {
        let payload = self.reader.source.load(kind, handle)?;
        self.bytes += handle.bytes_in_file();
        Ok(payload)
    }

    fn count(&mut self, version: &Version, span: &mut Span) {
        span.add(version.timestamp);
        self.versions += 1;
        self.tombstones += u64::from(!version.kind.has_value());
        self.late |= version.kind.is_late();
    }

    fn bad(&self, offset: u64, reason: impl Into<String>) -> crate::Error {
        self.reader.source.corruption(offset, reason)
    }

    fn must(&self, holds: bool, offset: u64, reason: &'static str) -> Result<()> {
        if holds { Ok(()) } else { Err(self.bad(offset, reason)) }
    }
}
