//! Blocks that are held: what was made of their payloads, so that each is checked and parsed once.

use super::block::{BlockKind, BlockSource, Caching, Handle};
use super::index::IndexBlock;
use super::rows::DataBlock;
use super::slots::{Cached, Held, Slots};
use crate::Result;
use crate::format::Reason;
use crate::sync::Arc;

/// An index block and the slots of the blocks that it names.
pub(super) struct IndexNode<T> {
    pub(super) index: IndexBlock,
    pub(super) slots: Slots<T>,
}

/// Names data blocks.
pub(super) type Partition = IndexNode<DataBlock>;
/// Names partitions.
pub(super) type TopIndex = IndexNode<Partition>;

impl<T: Held> IndexNode<T> {
    pub(super) fn new(index: IndexBlock) -> Self {
        Self { slots: Slots::new(index.len()), index }
    }

    /// [`IndexBlock::find`]; the slot that is looked at next is fetched with the last lines of the search.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, Reason> {
        self.index.find_near(key, |near| self.slots.fetch_slots(near))
    }
}

/// What is made of the payload of a block.
pub(super) trait Parsed: Held + Sized {
    /// Everything in the payload is held against the format here; `offset` is where the block lies in the file.
    fn parse(kind: BlockKind, payload: &[u8], offset: u64) -> Result<Self, Reason>;

    /// How much memory it takes, the payload and slots too.
    fn memory(&self) -> usize;

    /// Whether it was made of such a block: the checksum of a block covers its kind.
    fn is_of(&self, kind: BlockKind) -> bool;
}

impl Held for DataBlock {
    const FRONT_LINES: usize = 6;

    fn front(&self) -> &[u8] {
        self.bytes()
    }
}

impl Held for Partition {
    const FRONT_LINES: usize = 6;

    fn front(&self) -> &[u8] {
        self.index.bytes()
    }
}

impl Parsed for DataBlock {
    fn parse(_: BlockKind, payload: &[u8], offset: u64) -> Result<Self, Reason> {
        Self::parse(payload, offset)
    }

    fn memory(&self) -> usize {
        self.memory()
    }

    fn is_of(&self, kind: BlockKind) -> bool {
        kind == BlockKind::Data
    }
}

impl Parsed for Partition {
    fn parse(_: BlockKind, payload: &[u8], offset: u64) -> Result<Self, Reason> {
        IndexBlock::parse(payload, offset).map(Self::new)
    }

    fn memory(&self) -> usize {
        self.index.memory() + Slots::<DataBlock>::memory(self.index.len())
    }

    fn is_of(&self, kind: BlockKind) -> bool {
        kind == BlockKind::Partition
    }
}

impl BlockSource {
    /// Runs `read` on the block in a slot; `load` gives it where it is not held.
    pub(super) fn visit<T: Parsed, R>(
        &self,
        (slots, at): (&Slots<T>, usize),
        kind: BlockKind,
        caching: Caching,
        load: impl FnOnce() -> Result<(Handle, T)>,
        read: impl Fn(&Arc<Cached<T>>) -> R,
    ) -> Result<R> {
        if caching != Caching::Off {
            let held =
                slots.with(at, caching == Caching::Fill, |block| block.is_of(kind).then(|| read(block))).flatten();
            self.cache().count(held.is_some());
            if let Some(read) = held {
                return Ok(read);
            }
        }
        let (handle, block) = load()?;
        let block = match caching {
            Caching::Fill => {
                let bytes = block.memory();
                slots.hold(at, block, bytes, self.cache(), self.number().0.rotate_left(40) ^ handle.offset)
            }
            Caching::LookUp | Caching::Off => Cached::alone(block),
        };
        Ok(read(&block))
    }

    /// The block that a handle names, from the file.
    pub(super) fn parsed<T: Parsed>(&self, kind: BlockKind, handle: Handle) -> Result<T> {
        let parsed = self.with_payload(kind, handle, |payload| T::parse(kind, payload, handle.offset))?;
        parsed.map_err(|reason| self.corruption(handle.offset, reason))
    }
}
