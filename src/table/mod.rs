//! One sorted file.

mod meta;

pub(crate) use meta::{Freeable, TableMeta, UpperBound};
