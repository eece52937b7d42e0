//! Writes histories: takes the older versions of key after key, newest first, and holds no more of them than a block
//! and one block a level of the tree above.

use super::block::{BlockKind, BlockSink, Handle};
use super::history::{HistoryIndex, HistoryRef};
use super::row::{Kind, put_difference};
use crate::format::Encode;
use crate::version::VersionRef;
use crate::{Result, Timestamp};

/// Fills one list.
#[derive(Default)]
struct ListBuilder {
    entries: Vec<u8>,
    values: Vec<u8>,
    count: u64,
    /// Of the oldest version.
    oldest: Timestamp,
}

impl ListBuilder {
    fn len(&self) -> usize {
        self.entries.len() + self.values.len() + 6
    }

    /// About how many bytes a version takes.
    fn version_len(version: &VersionRef<'_>) -> usize {
        version.value.map_or(0, |value| value.bytes.len()) + 8
    }

    fn add(&mut self, version: &VersionRef<'_>) {
        let timestamp = version.stamp.timestamp;
        self.entries.put_u8(Kind::of(version).byte());
        self.entries.put_varint(if self.count == 0 { timestamp } else { self.oldest.wrapping_sub(timestamp) });
        if let Some(value) = version.value {
            if let Some(expires_at) = version.expires_at {
                put_difference(&mut self.entries, expires_at, timestamp);
            }
            self.entries.put_varint(value.bytes.len() as u64);
            self.values.extend_from_slice(value.bytes);
        }
        self.count += 1;
        self.oldest = timestamp;
    }

    /// Moves the list to the end of `block`.
    fn move_to(&mut self, block: &mut Vec<u8>) {
        block.put_varint(self.count);
        block.put_bytes(&self.entries);
        block.extend_from_slice(&self.values);
        self.count = 0;
        self.entries.clear();
        self.values.clear();
        self.values.shrink_to(1 << 20);
    }
}

/// One level of a tree: its block that is not full yet.
#[derive(Default)]
struct Level {
    payload: Vec<u8>,
    /// Of everything in the payload.
    oldest: Timestamp,
}

/// Writes the histories of the rows of one data block after the other.
pub(crate) struct HistoryWriter {
    block_bytes: usize,
    /// Versions of the current key that are in no block yet.
    list: ListBuilder,
    /// The tree above the current key's leaves, from below; none while its history is short.
    tree: Vec<Level>,
    /// Histories of earlier keys that share a block that is not full yet.
    shared: Vec<u8>,
    /// Which of the handles will be that block's.
    shared_number: usize,
    /// The blocks that rows of the current data block name.
    handles: Vec<Handle>,
    /// A block on its way.
    scratch: Vec<u8>,
}

impl HistoryWriter {
    /// An index block has at least so many entries, however small blocks are to be.
    const LEAST_FANOUT: usize = 4;

    pub(crate) fn new(block_bytes: usize) -> Self {
        Self {
            block_bytes,
            list: ListBuilder::default(),
            tree: Vec::new(),
            shared: Vec::new(),
            shared_number: 0,
            handles: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn len(&self) -> usize {
        let list = if self.list.count > 0 { self.list.len() } else { 0 };
        self.shared.len() + list + self.tree.iter().map(|level| level.payload.len()).sum::<usize>()
    }

    /// Takes the current key's next older version.
    pub(crate) fn add(&mut self, sink: &mut BlockSink, version: &VersionRef<'_>) -> Result<()> {
        if self.list.count > 0 && self.list.len() + ListBuilder::version_len(version) > self.block_bytes {
            self.write_leaf(sink)?;
        }
        self.list.add(version);
        Ok(())
    }

    /// Ends the current key and says where its older versions lie, if it has any.
    pub(crate) fn end_key(&mut self, sink: &mut BlockSink) -> Result<Option<HistoryRef>> {
        if self.list.count == 0 {
            return Ok(None);
        }
        let oldest = self.list.oldest;
        if !self.tree.is_empty() {
            self.write_leaf(sink)?;
            let (levels, root) = self.write_tree(sink)?;
            self.handles.push(root);
            return Ok(Some(HistoryRef { levels, number: self.handles.len() - 1, offset: 0, oldest }));
        }
        if !self.shared.is_empty() && self.shared.len() + self.list.len() > self.block_bytes {
            self.write_shared(sink)?;
        }
        if self.shared.is_empty() {
            self.shared_number = self.handles.len();
            self.handles.push(Handle::default());
        }
        let offset = self.shared.len();
        self.list.move_to(&mut self.shared);
        Ok(Some(HistoryRef { levels: 0, number: self.shared_number, offset, oldest }))
    }

    /// Writes what the rows of the current data block still miss and gives the blocks that they name.
    pub(crate) fn end_block(&mut self, sink: &mut BlockSink) -> Result<&[Handle]> {
        if !self.shared.is_empty() {
            self.write_shared(sink)?;
        }
        Ok(&self.handles)
    }

    /// Begins with the rows of the next data block.
    pub(crate) fn next_block(&mut self) {
        self.handles.clear();
    }

    fn write_shared(&mut self, sink: &mut BlockSink) -> Result<()> {
        let written = sink.write(BlockKind::History, &self.shared)?;
        if let Some(handle) = self.handles.get_mut(self.shared_number) {
            *handle = written;
        }
        self.shared.clear();
        self.shared.shrink_to(1 << 20);
        Ok(())
    }

    fn write_leaf(&mut self, sink: &mut BlockSink) -> Result<()> {
        if self.tree.is_empty() && !self.shared.is_empty() {
            // Keys on both sides of a long history share no block: so a scan needs no block again that it has left.
            self.write_shared(sink)?;
        }
        let oldest = self.list.oldest;
        self.scratch.clear();
        self.list.move_to(&mut self.scratch);
        let leaf = sink.write(BlockKind::History, &self.scratch)?;
        self.scratch.shrink_to(1 << 20);
        self.add_child(sink, 0, oldest, leaf)
    }

    /// Names a block in the given level. A level that is full by then is written first, and named in the level above.
    fn add_child(
        &mut self,
        sink: &mut BlockSink,
        mut level: usize,
        mut oldest: Timestamp,
        mut block: Handle,
    ) -> Result<()> {
        let full = self.block_bytes.max(Self::LEAST_FANOUT * HistoryIndex::ENTRY);
        loop {
            if level == self.tree.len() {
                self.tree.push(Level::default());
            }
            let Some(node) = self.tree.get_mut(level) else { return Ok(()) };
            let mut above = None;
            if node.payload.len() + HistoryIndex::ENTRY > full {
                above = Some((node.oldest, sink.write(BlockKind::HistoryIndex, &node.payload)?));
                node.payload.clear();
            }
            HistoryIndex::put(&mut node.payload, oldest, block);
            node.oldest = oldest;
            let Some(written) = above else { return Ok(()) };
            (oldest, block) = written;
            level += 1;
        }
    }

    /// Writes the levels from below, none of which is empty, and gives their number and the root.
    fn write_tree(&mut self, sink: &mut BlockSink) -> Result<(u8, Handle)> {
        let mut root = (0, Handle::default());
        let mut level = 0;
        while let Some(node) = self.tree.get(level) {
            let oldest = node.oldest;
            root.1 = sink.write(BlockKind::HistoryIndex, &node.payload)?;
            root.0 += 1;
            level += 1;
            if level < self.tree.len() {
                self.add_child(sink, level, oldest, root.1)?;
            }
        }
        self.tree.clear();
        Ok(root)
    }
}
