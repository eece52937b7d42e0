//! Writes one table from versions that come in order, in memory that does not depend on how many versions a key has.

use std::path::{Path, PathBuf};

use super::block::{BlockKind, BlockSink, Handle, TRAILER};
use super::filter::FilterBuilder;
use super::footer::Footer;
use super::freeable::FreeableBuilder;
use super::history_writer::HistoryWriter;
use super::index::{Entry, IndexBuilder, Span, separator};
use super::ranges::{in_order, put_fragment};
use super::row::DataBlockBuilder;
use super::{TableMeta, UpperBound};
use crate::error::AtPath;
use crate::format::codec::Compression;
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, Purpose};
use crate::sync::Arc;
use crate::version::{Fragment, VersionRef};
use crate::{Error, Result, Slice, Timestamp};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TableOptions {
    /// How long blocks are, uncompressed; a longer version makes a longer block.
    pub(crate) block_bytes: usize,
    pub(crate) compression: Compression,
    /// 0: no filter.
    pub(crate) filter_bits_per_key: f64,
}

/// A data block that is written, but not in the index yet: the key that ends it depends on the next block's first key.
struct Written {
    last_key: Vec<u8>,
    block: Handle,
    span: Span,
}

/// A partition of the index that waits for the data blocks to end.
struct Partition {
    last_key: Vec<u8>,
    payload: Vec<u8>,
    span: Span,
}

/// Writes one table: keys in ascending order, of each its versions newest first; range tombstones in order at any time.
///
/// Dropped without `finish`, it leaves a file that nothing names.
pub(crate) struct TableWriter {
    fs: Arc<dyn Fs>,
    purpose: Purpose,
    dir: PathBuf,
    number: FileNumber,
    block_bytes: usize,
    sink: BlockSink,

    rows: DataBlockBuilder,
    /// Of the rows and their histories.
    rows_span: Span,
    history: HistoryWriter,
    written: Option<Written>,
    partition: IndexBuilder,
    partition_span: Span,
    partition_key: Vec<u8>,
    partitions: Vec<Partition>,
    filter: FilterBuilder,
    ranges: Vec<u8>,
    last_fragment: Option<Fragment>,

    /// The current key, or the last one.
    key: Vec<u8>,
    /// Whether a key has begun and not ended.
    in_key: bool,
    /// The timestamp of the current key's last version.
    newer: Option<Timestamp>,

    smallest: Option<Slice>,
    span: Span,
    keys: u64,
    versions: u64,
    tombstones: u64,
    range_tombstones: u64,
    late: bool,
    freeable: FreeableBuilder,
    log_end: u64,
    origin: Option<Vec<u8>>,
    /// What `freeable` counts in: bytes before compression.
    raw_bytes: u64,
}

impl TableWriter {
    /// Makes the file, which must not exist.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        purpose: Purpose,
        dir: &Path,
        number: FileNumber,
        options: TableOptions,
    ) -> Result<Self> {
        let path = FileKind::Table.path(dir, number);
        let file = fs.create(purpose, &path).at_path(&path)?;
        Ok(Self {
            fs: fs.clone(),
            purpose,
            dir: dir.to_owned(),
            number,
            block_bytes: options.block_bytes,
            sink: BlockSink::new(file, path, number, options.compression),
            rows: DataBlockBuilder::default(),
            rows_span: Span::EMPTY,
            history: HistoryWriter::new(options.block_bytes),
            written: None,
            partition: IndexBuilder::default(),
            partition_span: Span::EMPTY,
            partition_key: Vec::new(),
            partitions: Vec::new(),
            filter: FilterBuilder::new(options.filter_bits_per_key),
            ranges: Vec::new(),
            last_fragment: None,
            key: Vec::new(),
            in_key: false,
            newer: None,
            smallest: None,
            span: Span::EMPTY,
            keys: 0,
            versions: 0,
            tombstones: 0,
            range_tombstones: 0,
            late: false,
            freeable: FreeableBuilder::default(),
            log_end: 0,
            origin: None,
            raw_bytes: 0,
        })
    }

    /// Begins a key, which must be above the last one. A key that ends without a version is left out.
    pub(crate) fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        if self.in_key || (self.keys > 0 && key <= &*self.key) {
            return Err(self.misuse("keys out of order"));
        }
        self.key.clear();
        self.key.extend_from_slice(key);
        self.in_key = true;
        self.newer = None;
        Ok(())
    }

    /// Takes the current key's next version, which must be older than the one before.
    pub(crate) fn version(&mut self, version: VersionRef<'_>) -> Result<()> {
        let timestamp = version.stamp.timestamp;
        if !self.in_key || self.newer.is_some_and(|newer| newer <= timestamp) {
            return Err(self.misuse("versions out of order"));
        }
        let bytes = self.count(&version);
        match self.newer {
            None => {
                self.add_row(&version)?;
                // A dead newest version may go once a floor is at its death (R3) …
                let dead = if version.value.is_none() { Some(timestamp) } else { version.expires_at };
                if let Some(dead) = dead {
                    self.freeable.add(dead.max(timestamp), bytes);
                }
            }
            Some(newer) => {
                self.history.add(&mut self.sink, &version)?;
                // … and an older one once a floor is at the one that shadows it (R2).
                self.freeable.add(newer, bytes);
            }
        }
        self.rows_span.add(timestamp);
        self.newer = Some(timestamp);
        Ok(())
    }

    /// Ends the current key.
    pub(crate) fn end_key(&mut self) -> Result<()> {
        if !self.in_key {
            return Err(self.misuse("a key ends that did not begin"));
        }
        self.in_key = false;
        if self.newer.is_some() {
            self.keys += 1;
            if let Some(place) = self.history.end_key(&mut self.sink)? {
                self.rows.add_history(&place);
            }
        }
        Ok(())
    }

    /// Takes the next range tombstones; they must not overlap with those before.
    pub(crate) fn range_tombstones(&mut self, fragment: &Fragment) -> Result<()> {
        if !in_order(self.last_fragment.as_ref(), fragment) {
            return Err(self.misuse("range tombstones out of order"));
        }
        let before = self.ranges.len();
        put_fragment(fragment, &mut self.ranges);
        let bytes = (self.ranges.len() - before) as u64;
        self.raw_bytes += bytes;
        if let (Some(newest), Some(oldest)) = (fragment.stamps.first(), fragment.stamps.last()) {
            self.freeable.add(newest.timestamp, bytes);
            self.span.add_all(Span { min: oldest.timestamp, max: newest.timestamp });
        }
        self.late |= fragment.stamps.iter().any(|stamp| stamp.late);
        self.range_tombstones += 1;
        if self.range_tombstones == 1 && self.smallest.as_ref().is_none_or(|smallest| fragment.start < *smallest) {
            self.smallest = Some(fragment.start.clone());
        }
        self.last_fragment = Some(fragment.clone());
        Ok(())
    }

    /// Says where what the table holds comes from: it was logged before `log_end`, and `origin` is for a repair.
    pub(crate) fn set_origin(&mut self, log_end: u64, origin: Vec<u8>) {
        self.log_end = log_end;
        self.origin = Some(origin);
    }

    /// Whether there is nothing yet that would make a table.
    pub(crate) fn is_empty(&self) -> bool {
        self.versions == 0 && self.range_tombstones == 0
    }

    /// About how long the file would be if it ended here.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        let rest = self.unwritten_bytes() + self.filter.estimated_bytes() + Footer::LEN;
        self.sink.offset() + rest as u64
    }

    /// What waits in memory to become blocks.
    pub(super) fn unwritten_bytes(&self) -> usize {
        let waiting: usize = self.partitions.iter().map(|partition| partition.payload.len()).sum();
        waiting + self.rows.len() + self.history.len() + self.partition.len() + self.ranges.len()
    }

    /// Ends the file and makes it and its name durable (L3). A table of nothing is refused.
    pub(crate) fn finish(mut self) -> Result<TableMeta> {
        if self.in_key || self.is_empty() {
            return Err(self.misuse(if self.in_key { "a key did not end" } else { "a table of nothing" }));
        }
        let upper = self.upper_bound();
        if self.keys > 0 {
            self.end_rows()?;
            if let Some(written) = self.written.take() {
                self.index(&written, written.last_key.clone());
            }
            self.end_partition();
        }
        let mut footer = Footer::default();
        if !self.ranges.is_empty() {
            footer.ranges = self.sink.write(BlockKind::RangeTombstones, &self.ranges)?;
        }
        let filter = self.filter.finish();
        if !filter.is_empty() {
            footer.filter = self.sink.write_raw(BlockKind::Filter, &filter)?;
        }
        let mut top = IndexBuilder::default();
        for Partition { last_key, payload, span } in &self.partitions {
            let block = self.sink.write(BlockKind::Partition, payload)?;
            top.add(&Entry { key: last_key, block, span: *span });
        }
        if !top.is_empty() {
            footer.top = self.sink.write(BlockKind::TopIndex, &top.finish())?;
        }
        let mut meta = TableMeta {
            number: self.number,
            bytes: 0,
            smallest: self.smallest.unwrap_or_default(),
            upper,
            min_timestamp: self.span.min,
            max_timestamp: self.span.max,
            keys: self.keys,
            versions: self.versions,
            tombstones: self.tombstones,
            range_tombstones: self.range_tombstones,
            late: self.late,
            freeable: self.freeable.finish(self.sink.offset(), self.raw_bytes),
            log_end: self.log_end,
        };
        let origin = self.origin.as_deref();
        let mut properties = Vec::new();
        meta.encode_with(&mut properties, origin);
        // The file's length stands in the properties, which are as long whatever it is.
        meta.bytes = self.sink.offset() + properties.len() as u64 + TRAILER + Footer::LEN as u64;
        properties.clear();
        meta.encode_with(&mut properties, origin);
        footer.properties = self.sink.write_raw(BlockKind::Properties, &properties)?;
        let footer = footer.encode(self.number, self.sink.offset());
        self.sink.finish(&footer)?;
        self.fs.sync_dir(self.purpose, &self.dir).at_path(&self.dir)?;
        Ok(meta)
    }

    /// Counts a version, and says how many bytes it has.
    fn count(&mut self, version: &VersionRef<'_>) -> u64 {
        let key = if self.newer.is_none() { self.key.len() } else { 0 };
        let bytes = (key + version.value.map_or(0, |value| value.bytes.len()) + 4) as u64;
        self.raw_bytes += bytes;
        self.versions += 1;
        self.tombstones += u64::from(version.value.is_none());
        self.late |= version.stamp.late;
        self.span.add(version.stamp.timestamp);
        bytes
    }

    /// Adds the newest version of the current key. A row that does not fit begins a new block, so that a long value
    /// keeps to itself.
    fn add_row(&mut self, version: &VersionRef<'_>) -> Result<()> {
        let len = DataBlockBuilder::row_len(&self.key, version);
        if !self.rows.is_empty() && self.rows.len() + len > self.block_bytes {
            self.end_rows()?;
        }
        if let Some(written) = self.written.take() {
            self.index(&written, separator(&written.last_key, &self.key));
        }
        if self.keys == 0 && self.smallest.as_ref().is_none_or(|smallest| *self.key < **smallest) {
            self.smallest = Some(Slice::copy_of(&self.key));
        }
        self.rows.add(&self.key, version);
        self.filter.add(&self.key);
        Ok(())
    }

    fn end_rows(&mut self) -> Result<()> {
        let histories = self.history.end_block(&mut self.sink)?;
        let block = self.sink.write(BlockKind::Data, self.rows.finish(histories))?;
        self.written = Some(Written { last_key: self.rows.last_key().to_vec(), block, span: self.rows_span });
        self.rows.clear();
        self.rows_span = Span::EMPTY;
        self.history.next_block();
        Ok(())
    }

    /// Puts a data block into the index, under a key at or above its last one and below the next block's first.
    fn index(&mut self, written: &Written, key: Vec<u8>) {
        self.partition.add(&Entry { key: &key, block: written.block, span: written.span });
        self.partition_span.add_all(written.span);
        self.partition_key = key;
        if self.partition.len() >= self.block_bytes {
            self.end_partition();
        }
    }

    fn end_partition(&mut self) {
        if !self.partition.is_empty() {
            let payload = self.partition.finish();
            let last_key = std::mem::take(&mut self.partition_key);
            self.partitions.push(Partition { last_key, payload, span: self.partition_span });
            self.partition_span = Span::EMPTY;
        }
    }

    fn upper_bound(&self) -> UpperBound {
        let points = (self.keys > 0).then(|| UpperBound::Included(Slice::copy_of(self.rows.last_key())));
        let ranges = self.last_fragment.as_ref().map(|fragment| match &fragment.end {
            Some(end) => UpperBound::Excluded(end.clone()),
            None => UpperBound::Unbounded,
        });
        points.max(ranges).unwrap_or(UpperBound::Unbounded)
    }

    /// A caller's mistake must not become a file that reads wrongly.
    fn misuse(&self, reason: &str) -> Error {
        Error::invalid(format!("{}: {reason}", self.sink.path().display()))
    }
}
