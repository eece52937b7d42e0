//! One sorted file.

mod cache;
mod filter;
mod meta;

pub(crate) use meta::{Freeable, TableMeta, UpperBound};
