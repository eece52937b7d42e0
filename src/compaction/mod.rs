//! Compaction: which files are merged into which level, and when.
//!
//! Everything in these files decides and does nothing: pure functions over plain data, simulated without a file.
//!
//! ```text
//! range     spans of keys, with ends that may be exclusive
//! levels    Shape: the state of one tree as a picker sees it; what each level may hold; what is owed
//! job       Pick and Running: a compaction to run, and what one that runs keeps others from
//! level0    which files of level 0 may go down together without breaking the order of arrival
//! pick      the most urgent compaction that can run now
//! retention what to rewrite because of what the floor frees, when sizes ask for nothing
//! manual    compaction of a range down to the last level, a step at a time
//! split     where outputs are cut
//! pressure  how much writers and compactions are slowed down
//! ```

mod job;
mod level0;
mod levels;
mod manual;
mod pick;
mod pressure;
mod range;
mod retention;
#[cfg(test)]
mod simulation;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use job::{Grandparent, Pick, Reason, Running};
pub(crate) use levels::{CompactionOptions, FileView, Shape};
pub(crate) use manual::{ManualProgress, ManualStep};
pub(crate) use pick::pick;
pub(crate) use pressure::{Backlog, Limits, Pacer, Pressure, RateLimiter};
pub(crate) use range::KeyRange;
pub(crate) use split::Splitter;
