//! Bytes that everything on disk shares: numbers, checksums, file names, kinds, block codecs.

mod bytes;
mod checksum;
pub(crate) mod codec;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod names;

pub(crate) use bytes::{DecodeError, Decoder, Encode, Reason, shared_prefix};
pub(crate) use checksum::{checksum, checksum_on};
pub(crate) use names::{FileKind, FileNumber, parse_file_name};

/// The version of everything on disk. A change to any format raises it; until the first release older ones are refused.
pub(crate) const FORMAT_VERSION: u32 = 3;

/// File numbers, ordinals and positions stay below this. No database gets there by itself, and whatever is added to
/// one that was read still fits.
pub(crate) const COUNTER_LIMIT: u64 = 1 << 62;

/// Set in the kind number of a record, row, edit or property that a reader which does not know it may pass over. An
/// unknown kind without it is refused by name (F1).
pub(crate) const MAY_SKIP: u8 = 0x80;
