//! What can still be read of a damaged table.
//!
//! Every block stands under its own checksum, so a damaged one takes along its own rows, or its own part of their
//! histories, and nothing else. What is read is right; what is missing between it is not known.

use super::block::{BlockKind, Caching};
use super::history::HistoryCursor;
use super::index::{Entry, IndexBlock};
use super::row::Row;
use super::rows::{DataBlock, Rows};
use super::{TableReader, TableWriter};
use crate::{Error, Result};

impl TableReader {
    /// Writes every version that can be read, and the range tombstones. Of a history that is damaged, what is newer
    /// than the damage.
    ///
    /// # Errors
    /// What `writer` gives, and `Io`; damage is none.
    pub(crate) fn salvage(&self, writer: &mut TableWriter) -> Result<()> {
        let mut rest = Rest { reader: self, writer, last_key: None };
        for at in 0..self.top.len() {
            let Ok(above) = self.top.entry(at) else { continue };
            let place = above.block.offset;
            let Some(payload) = readable(self.source.load(BlockKind::Partition, above.block, Caching::Off))? else {
                continue;
            };
            let Ok(partition) = IndexBlock::parse(payload, place) else { continue };
            for at in 0..partition.len() {
                if let Ok(entry) = partition.entry(at) {
                    rest.block(&entry)?;
                }
            }
        }
        let fragments = self.range_tombstones().fragments().iter();
        fragments.into_iter().try_for_each(|fragment| writer.range_tombstones(fragment))
    }
}

struct Rest<'a> {
    reader: &'a TableReader,
    writer: &'a mut TableWriter,
    last_key: Option<Vec<u8>>,
}

impl Rest<'_> {
    fn block(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Some(block) = readable(self.reader.data_block(entry.block, Caching::Off))? else { return Ok(()) };
        let mut rows = Rows::default();
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
        self.writer.version(row.version.borrow(&block.bytes))?;
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

/// `None`: it is damaged.
fn readable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::Corruption { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
