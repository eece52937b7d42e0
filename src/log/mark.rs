//! What the log says of the manifest: how much of which one is on stable storage, and the few numbers that must not be
//! lost with it.
//!
//! ```text
//! mark  manifest's file number u64, length u64 known to be on stable storage,
//!       bound of file numbers u64, next keyspace id u32, last timestamp u64, closed u64, manual floor u64
//! ```
//!
//! A mark is written after every edit, and before any segment with an older one may go: so what the last one says
//! stands somewhere in the log at all times.

use crate::Timestamp;
use crate::format::{COUNTER_LIMIT, DecodeError, Decoder, Encode, FileNumber};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ManifestMark {
    pub(crate) manifest: FileNumber,
    pub(crate) len: u64,
    pub(crate) standing: Standing,
}

/// What only ever rises, and would be guessed too low from tables and log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    pub(crate) file_number_bound: FileNumber,
    pub(crate) next_keyspace: u32,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) closed: Timestamp,
    pub(crate) manual_floor: Timestamp,
}

impl ManifestMark {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(52);
        out.put_u64(self.manifest.0);
        out.put_u64(self.len);
        out.put_u64(self.standing.file_number_bound.0);
        out.put_u32(self.standing.next_keyspace);
        out.put_u64(self.standing.last_timestamp);
        out.put_u64(self.standing.closed);
        out.put_u64(self.standing.manual_floor);
        out
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(payload);
        let (manifest, len) = (FileNumber(from.u64()?), from.u64()?);
        let standing = Standing {
            file_number_bound: FileNumber(from.u64()?),
            next_keyspace: from.u32()?,
            last_timestamp: from.u64()?,
            closed: from.u64()?,
            manual_floor: from.u64()?,
        };
        if !from.is_empty() {
            return Err(from.error("a manifest mark is too long"));
        }
        // A repair goes on behind what it says, and there must be something left.
        let numbers = [manifest.0, standing.file_number_bound.0];
        let timestamps = [standing.last_timestamp, standing.closed, standing.manual_floor];
        if numbers.iter().any(|number| *number >= COUNTER_LIMIT) || timestamps.contains(&Timestamp::MAX) {
            return Err(from.error("a manifest mark says that numbers or timestamps are used up"));
        }
        Ok(Self { manifest, len, standing })
    }
}

impl Standing {
    /// The higher of both, number by number.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            file_number_bound: self.file_number_bound.max(other.file_number_bound),
            next_keyspace: self.next_keyspace.max(other.next_keyspace),
            last_timestamp: self.last_timestamp.max(other.last_timestamp),
            closed: self.closed.max(other.closed),
            manual_floor: self.manual_floor.max(other.manual_floor),
        }
    }
}
