//! The filter of a table.

use ::bytes::Bytes;

use super::Row;
use crate::table;
use crate::{Error, Result};

/// The filter over the keys of `rows`.
#[must_use]
pub fn build_filter(bits_per_key: f64, rows: &[Row]) -> Vec<u8> {
    let mut builder = table::FilterBuilder::new(bits_per_key);
    for row in rows {
        builder.add(&row.key);
    }
    builder.finish()
}

/// A filter that is asked.
pub struct Filter(table::Filter);

impl Filter {
    /// The filter whose block has these bytes.
    ///
    /// # Errors
    /// They are not those of a filter.
    pub fn parse(block: Bytes) -> Result<Self> {
        table::Filter::parse(block).map(Self).map_err(Error::invalid)
    }

    /// Whether the table may hold `key`.
    #[must_use]
    pub fn may_contain(&self, key: &[u8]) -> bool {
        self.0.may_contain(key)
    }
}
