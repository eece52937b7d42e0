//! One sorted file.

pub(crate) mod cache;
pub(crate) mod filter;
mod meta;

pub(crate) use meta::{Freeable, TableMeta, UpperBound};
