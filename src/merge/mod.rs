//! Several sources of versions read as one: merged by key, resolved at a timestamp, walked through time, and collected
//! into fewer by flushes and compactions. Everything here is generic over the source (`KeyCursor`) and does no I/O.
//!
//! Sources are always given newest first, in the order of arrival (T2). Of versions of one key at one timestamp the one
//! that arrived later counts (T1): the one in the newer source, and inside a source the one of the higher sequence.
//! Range tombstones are versions of every key in their range.
//!
//! ```text
//!   decide           what retention keeps: a pure function
//!   lookup           one key at one timestamp, one source after the other; the rule of visibility
//!   heap, merging    the distinct keys of several sources, in both directions
//!   as_of, scan      what a user walks over: the live keys at a timestamp
//!   versions         the points of one key over several sources, newest first
//!   ranges           the range tombstones of several sources as one run of pieces
//!   history          all versions of one key
//!   changes          all versions in a range of timestamps
//!   collect          the merge that flushes and compactions write out
//! ```

mod as_of;
mod changes;
mod collect;
mod decide;
mod heap;
mod history;
mod lookup;
mod merging;
mod ranges;
mod scan;
#[cfg(test)]
mod tests;
mod versions;

pub use changes::Change;

pub(crate) use as_of::AsOfCursor;
pub(crate) use changes::Changes;
pub(crate) use collect::{CollectInput, CollectStats, Output, Outside, collect};
pub(crate) use decide::RetentionRules;
pub(crate) use history::History;
pub(crate) use lookup::Lookup;
pub(crate) use merging::MergingCursor;
pub(crate) use ranges::SourceRanges;
pub(crate) use scan::Scan;
