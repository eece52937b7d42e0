//! What fuzzing asks of tables: of their blocks ([`block`]) and of whole files ([`table`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a promise that is broken is a panic here"
)]

mod blocks;
mod file;
mod parts;
mod recipe;
mod seal;
mod seeds;

pub use blocks::block;
pub use file::table;
pub(crate) use parts::{filter_of_keys, footer, handles, meta, separator_of_keys};
pub(crate) use seeds::{block_seeds, meta_seeds, table_seeds};
