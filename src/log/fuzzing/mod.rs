//! What fuzzing asks of the log: that recovery stands any segments, and that the log goes on behind them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a promise that is broken is a panic here"
)]

mod life;
mod parts;
mod recovery;

pub(crate) use parts::{record, record_seeds, segment_header, segment_header_seeds};
pub use recovery::log;
pub(crate) use recovery::log_seeds;
