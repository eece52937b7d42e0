//! Data blocks: as a table's writer fills them, and as a point read searches them.

use super::{Row, touch};
use crate::table::{DataBlock, DataBlockBuilder};
use crate::{Error, Result};

/// Builds blocks, one after the other, in the same memory.
#[derive(Default)]
pub struct BlockBuilder(DataBlockBuilder);

impl BlockBuilder {
    /// One that has built nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The block of these rows: one version a key, in order.
    pub fn build(&mut self, rows: &[Row]) -> &[u8] {
        self.0.clear();
        for row in rows {
            self.0.add(&row.key, &row.version());
        }
        self.0.finish(&[])
    }
}

/// A block that is read.
pub struct Block(DataBlock);

impl Block {
    /// The block whose payload is `bytes`.
    ///
    /// # Errors
    /// They are not that of a block.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        DataBlock::parse(bytes, 0).map(Self).map_err(Error::invalid)
    }

    /// Whether it holds `key`.
    ///
    /// # Errors
    /// The block is damaged.
    pub fn find(&self, key: &[u8]) -> Result<bool> {
        let row = self.0.find(key).map_err(Error::invalid)?;
        let value = row.as_ref().and_then(|row| row.version.borrow(self.0.bytes()).value);
        value.inspect(|value| touch(value.bytes));
        Ok(value.is_some())
    }
}
