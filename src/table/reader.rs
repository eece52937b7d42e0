//! An open table: what every read of it needs in memory, and reads of single keys.

use std::path::Path;

use super::block::{BlockKind, BlockSource, Caching, Handle};
use super::filter::{Filter, HashedKey};
use super::footer::Footer;
use super::held::TopIndex;
use super::history::HistoryCursor;
use super::index::{Ahead, Index, IndexBlock, Span};
use super::row::reason;
use super::rows::DataBlock;
use super::{BlockCache, TableMeta, ranges};
use crate::error::AtPath;
use crate::format::{Decoder, FileKind, FileNumber, Reason};
use crate::fs::{Fs, Purpose};
use crate::sync::Arc;
use crate::tally::Tally;
use crate::version::{RangeTombstones, StoredVersion};
use crate::{Error, Result, Timestamp};

/// An open table. Holds its top index, filter and range tombstones in memory; other blocks go through the block cache.
pub(crate) struct TableReader {
    pub(super) source: BlockSource,
    pub(super) footer: Footer,
    pub(super) meta: TableMeta,
    pub(super) top: TopIndex,
    pub(super) filter: Option<Filter>,
    /// How often a filter spared a read (hit), and how often it did not though nothing was found (miss).
    filtered: Arc<Tally>,
    ranges: Arc<RangeTombstones>,
}

impl TableReader {
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        number: FileNumber,
        cache: Arc<BlockCache>,
        filtered: Arc<Tally>,
    ) -> Result<Self> {
        let parts = Parts::open(fs, dir, number, cache)?;
        let footer = parts.footer()?;
        let (meta, top) = (parts.meta(&footer)?, parts.top(&footer)?);
        let filter = parts.load(BlockKind::Filter, footer.filter)?;
        let filter =
            filter.as_deref().map(Filter::parse).transpose().map_err(|reason| parts.bad(footer.filter, reason))?;
        let ranges = parts.ranges(&footer)?;
        Ok(Self { footer, meta, top, filter, filtered, ranges: Arc::new(ranges), source: parts.source })
    }

    /// Opens what is left of a damaged table, of which a manifest may say what it was: nothing but that, and what an
    /// index that is read says, has to be intact. It is there to be salvaged, and serves no reads.
    pub(crate) fn open_damaged(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        number: FileNumber,
        cache: Arc<BlockCache>,
        named: Option<&TableMeta>,
    ) -> Result<Self> {
        let parts = Parts::open(fs, dir, number, cache)?;
        let footer = match (parts.footer(), named) {
            (Err(Error::Corruption { .. }), Some(_)) => Footer::default(),
            (footer, _) => footer?,
        };
        let meta = match (parts.meta(&footer), named) {
            (Err(Error::Corruption { .. }), Some(named)) => named.clone(),
            (meta, _) => meta?,
        };
        let top = readable(parts.top(&footer))?.unwrap_or_else(|| TopIndex::new(IndexBlock::empty()));
        let ranges = Arc::new(readable(parts.ranges(&footer))?.unwrap_or_default());
        Ok(Self { footer, meta, top, filter: None, filtered: Arc::default(), ranges, source: parts.source })
    }

    /// What the file says of itself.
    pub(crate) fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// What the file says of where it comes from; read from the file, since nothing but a repair asks.
    pub(crate) fn origin(&self) -> Result<Option<Vec<u8>>> {
        let at = self.footer.properties;
        let block = self.source.load(BlockKind::Properties, at)?;
        let origin = TableMeta::origin_in(&mut Decoder::new(&block)).map_err(reason);
        Ok(origin.map_err(|reason| self.source.corruption(at.offset, reason))?.map(<[u8]>::to_vec))
    }

    pub(crate) fn range_tombstones(&self) -> &Arc<RangeTombstones> {
        &self.ranges
    }

    /// The newest version of `key` at or below `timestamp`, tombstones included, range tombstones not. The table's
    /// bounds must admit the key.
    pub(crate) fn get<'a>(&self, key: impl Into<HashedKey<'a>>, timestamp: Timestamp) -> Result<Option<StoredVersion>> {
        let key = key.into();
        // The line of the filter is waited for while the first step behind it is taken.
        if let Some(filter) = &self.filter {
            filter.fetch(key);
        }
        let index = self.index(Caching::Fill, self.span(Span { min: 0, max: timestamp }));
        let partition = index.partition_of(key.key)?;
        if let Some(filter) = &self.filter
            && !filter.may_contain(key)
        {
            self.filtered.count(true);
            return Ok(None);
        }
        let found = index.block_of(key.key, partition, |block| self.find_in(block, key.key, timestamp))?.flatten();
        if found.is_none() && self.filter.is_some() {
            self.filtered.count(false);
        }
        Ok(found)
    }

    /// Fetches ahead of [`get`](Self::get).
    pub(super) fn fetch(&self, key: HashedKey<'_>, ahead: Ahead) {
        match &self.filter {
            Some(filter) if ahead == Ahead::Filter => filter.fetch(key),
            Some(filter) if !filter.may_contain(key) => {}
            _ => self.index(Caching::Fill, Span::ALL).fetch(key.key),
        }
    }

    fn find_in(&self, block: &DataBlock, key: &[u8], timestamp: Timestamp) -> Result<Option<StoredVersion>> {
        if timestamp < self.meta.max_timestamp {
            block.fetch_slots();
        }
        let found = block.find(key).map_err(|reason| self.source.corruption(block.offset, reason))?;
        let Some(row) = found else { return Ok(None) };
        if row.version.timestamp <= timestamp {
            return Ok(Some(row.version.borrow(block.bytes()).to_owned()));
        }
        let mut history = HistoryCursor::default();
        history.seek(&self.source, Caching::Fill, (&row, block), timestamp)?;
        Ok(history.version().map(|version| version.to_owned()))
    }

    #[cfg(test)]
    pub(super) fn cache(&self) -> &BlockCache {
        self.source.cache()
    }

    /// The same span; all of time where that is the same here, which spares asking each block.
    pub(super) fn span(&self, span: Span) -> Span {
        let all = span.min <= self.meta.min_timestamp && self.meta.max_timestamp <= span.max;
        if all { Span::ALL } else { span }
    }

    pub(super) fn index(&self, caching: Caching, span: Span) -> Index<'_> {
        Index { top: &self.top, source: &self.source, caching, span }
    }
}

/// `None`: it is damaged.
pub(super) fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::Corruption { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file, and the parts of it that are read when it is opened.
struct Parts {
    source: BlockSource,
    /// The end of the file.
    tail: Vec<u8>,
}

impl Parts {
    /// How much is read of a file's end at once: in most files everything that opening needs, but a filter.
    const TAIL: usize = 8 << 10;

    fn open(fs: &Arc<dyn Fs>, dir: &Path, number: FileNumber, cache: Arc<BlockCache>) -> Result<Self> {
        let path = FileKind::Table.path(dir, number);
        let file = fs.open(Purpose::Table, &path).at_path(&path)?;
        let source = BlockSource::new(file, path, number, cache)?;
        let tail_len = usize::try_from(source.len()).map_or(Self::TAIL, |len| len.min(Self::TAIL));
        let tail = source.read_bytes(source.len() - tail_len as u64, tail_len)?;
        Ok(Self { source, tail })
    }

    fn load(&self, kind: BlockKind, handle: Handle) -> Result<Option<Vec<u8>>> {
        if handle.is_none() { Ok(None) } else { self.source.load_from(&self.tail, kind, handle).map(Some) }
    }

    fn bad(&self, at: Handle, reason: Reason) -> Error {
        self.source.corruption(at.offset, reason)
    }

    fn footer(&self) -> Result<Footer> {
        Footer::read(&self.source, &self.tail)
    }

    fn meta(&self, footer: &Footer) -> Result<TableMeta> {
        let block = self.load(BlockKind::Properties, footer.properties)?.unwrap_or_default();
        parse_properties(&block, &self.source).map_err(|reason| self.bad(footer.properties, reason))
    }

    fn top(&self, footer: &Footer) -> Result<TopIndex> {
        let block = self.load(BlockKind::TopIndex, footer.top)?;
        let top = block.map(|block| IndexBlock::parse(&block, footer.top.offset)).transpose();
        let top = top.map_err(|reason| self.bad(footer.top, reason))?;
        Ok(TopIndex::new(top.unwrap_or_else(IndexBlock::empty)))
    }

    fn ranges(&self, footer: &Footer) -> Result<RangeTombstones> {
        let block = self.load(BlockKind::RangeTombstones, footer.ranges)?.unwrap_or_default();
        ranges::parse(&block).map_err(|reason| self.bad(footer.ranges, reason))
    }
}

/// The properties must be this file's.
fn parse_properties(bytes: &[u8], source: &BlockSource) -> Result<TableMeta, Reason> {
    let mut from = Decoder::new(bytes);
    let meta = TableMeta::decode(&mut from).map_err(reason)?;
    if !from.is_empty() {
        return Err("properties are longer than they say".into());
    }
    if meta.number != source.number() {
        return Err("properties are those of another file".into());
    }
    if meta.bytes != source.len() {
        return Err("file has another length than its properties say".into());
    }
    Ok(meta)
}
