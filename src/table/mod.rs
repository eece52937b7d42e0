//! One sorted file of versions, written once and never changed.
//!
//! A key stands once in a data block. Its row holds the newest version that the file has of it; older ones lie in
//! history blocks, so that a scan of the present reads none of them, and are searched there by timestamp.
//!
//! ```text
//! file
//!   data and history blocks   in the order in which they fill; the histories of a data block's rows lie before it
//!   range tombstones          one block, if there are any                                        (ranges.rs)
//!   filter                    one block, if there is one                                         (filter.rs)
//!   index partitions          of entries for data blocks                                         (index.rs)
//!   top index                 of entries for partitions, if there are keys                       (index.rs)
//!   properties                                                                                   (meta.rs)
//!   footer                    where top index, filter, range tombstones and properties lie       (footer.rs)
//! ```
//!
//! Blocks lie back to back: every byte of a file belongs to one block or to the footer (block.rs).

mod block;
mod cache;
mod cursor;
mod directory;
mod filter;
mod footer;
mod freeable;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handle;
mod held;
mod history;
mod history_writer;
mod index;
mod level;
mod meta;
mod ranges;
mod reader;
mod row;
mod rows;
mod run;
mod salvage;
mod slots;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use block::Caching;
pub(crate) use cache::BlockCache;
pub(crate) use cursor::TableCursor;
pub(crate) use filter::HashedKey;
#[cfg(feature = "bench-layers")]
pub(crate) use filter::{Filter, FilterBuilder};
#[cfg(any(test, fuzzing))]
pub(crate) use freeable::Freeable;
pub(crate) use handle::{Table, TableStore};
pub(crate) use index::Ahead;
pub(crate) use level::{HasMeta, Level};
pub(crate) use meta::{TableMeta, UpperBound};
pub(crate) use reader::TableReader;
#[cfg(feature = "bench-layers")]
pub(crate) use row::DataBlockBuilder;
#[cfg(feature = "bench-layers")]
pub(crate) use rows::DataBlock;
pub(crate) use run::RunCursor;
pub(crate) use writer::{TableOptions, TableWriter};
