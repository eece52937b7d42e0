//! The filter of a table.

use crate::table;
use crate::{Error, Result};

/// The filter over keys.
#[must_use]
pub fn build_filter(bits_per_key: f64, keys: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut builder = table::FilterBuilder::new(bits_per_key);
    for key in keys {
        builder.add(key.as_ref());
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
    pub fn parse(block: &[u8]) -> Result<Self> {
        table::Filter::parse(block).map(Self).map_err(Error::invalid)
    }

    /// Whether the table may hold `key`.
    #[must_use]
    pub fn may_contain(&self, key: &[u8]) -> bool {
        self.0.may_contain(key)
    }
}
