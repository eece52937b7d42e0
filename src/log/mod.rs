//! The write-ahead log: one log for all keyspaces, in segments.
//!
//! ```text
//! segment  := header record* rest          one file `NNNNNN.log`; `rest` is preallocated room: zeros, or nothing
//! header   := magic[8] version:u32 crc:u32 ordinal:u64 start:u64 synced:u64 crc:u32                        44 bytes
//! record   := kind:u8 flags:u8 len:u32 payload_crc:u32 synced:u64 header_crc:u32 payload[len]        22 + len bytes
//! ```
//!
//! All numbers are little-endian. A **position** counts the bytes of records over all segments, segment headers left
//! out: the record at position `p` of a segment that starts at `start` lies at offset `44 + (p - start)` of its file,
//! and the next segment starts at the position at which this one ends.
//!
//! * **Header.** `magic` is `SLINELOG`. Magic, version and the first checksum stay as they are in every version of the
//!   format, so that a file of an unknown version is told from a damaged one. `ordinal` counts segments: the next one
//!   has the next number, none is used twice, and only a [`Cut`] leaves some out. `start` is the position of the first
//!   record, `synced` the position up to which the log was known to be on stable storage when the segment was made.
//! * **Record.** `kind` is never 0, so a zero is never the first byte of a record. `flags` belong to the kind. `len` is
//!   that of the payload. `synced` is the position up to which the log was known to be on stable storage when the
//!   record was written: never above the record's own.
//! * **Checksums** are [`format::checksum`](crate::format::checksum) with the segment's file number and the offset of
//!   the header or record, so old bytes of a reused file, or bytes in a wrong place, never pass (S28). The header's two
//!   have kind 0, at offsets 0 and 16; a record's two have its kind. The record header has a checksum of its own, over
//!   what lies between kind and checksum: a length is trusted before the payload is read, and a record header that is
//!   found behind damage can be believed.
//!
//! | kind | payload |
//! | --- | --- |
//! | 1 commit | the batch, as the committer encodes it |
//! | 2 + `MAY_SKIP` manifest mark | how much of the manifest is on stable storage, and more (mark.rs) |
//! | 3 + `MAY_SKIP` close | nothing; all before it was synced (`synced` is its own position) |
//! | 4 prepared | a transaction was prepared, aborted or forgotten, as the committer encodes it |
//! | 5, 6 | reserved: rollback cut, lineage |
//! | 7 + `MAY_SKIP` keyspace | one was made (its id, name and options) or, with flag 1, dropped (its id); for a repair |
//!
//! **Torn, or corrupt (L1).** Every valid header, of a segment or a record, proves the log up to its `synced`; so do a
//! close and what the manifest knows ([`Proof`]). Recovery first surveys all record headers, also those behind damage,
//! for the highest position so proved, then replays. The log ends at the first record that is not valid, or where the
//! next segment is missing, does not begin where this one ends, or has no valid header. If that is below the proved
//! position, it is `Corruption`. Otherwise it is a torn tail: all later segments are dead, and the [`Cut`] has to be
//! durable in the manifest before anything new is written. Recovery writes nothing, so an open for reading only uses it
//! too.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod group;
#[cfg(all(test, loom))]
mod loom_tests;
mod mark;
mod plan;
mod reader;
mod record;
mod recovery;
mod salvage;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use mark::{ManifestMark, Standing};
pub(crate) use plan::{Cut, Expectation, LogStart, Proof};
pub(crate) use reader::RecordRef;
pub(crate) use record::{COMMIT, KEYSPACE, PREPARED};
pub(crate) use recovery::{Recovered, copy_tail, recover};
pub(crate) use salvage::{FARTHEST, Marks, Salvaged, Usable, marks, salvage};
pub(crate) use segment::SegmentInfo;
pub(crate) use writer::{Log, LogEnv};

use std::fmt;

/// A place in the log: how many bytes of records lie before it, over all segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct LogPosition(pub(crate) u64);

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
