//! The header of a record: what its bytes mean (they are laid out in the module's head), and when it is believed.

use super::LogPosition;
use crate::Result;
use crate::error::Error;
use crate::format::{Decoder, Encode, FileNumber, MAY_SKIP, checksum};

/// A batch of one commit.
pub(crate) const COMMIT: u8 = 1;
/// A transaction was prepared, or what was prepared was aborted or forgotten.
pub(crate) const PREPARED: u8 = 4;
/// How much of which manifest is on stable storage.
pub(super) const MANIFEST_MARK: u8 = 2 | MAY_SKIP;
/// The log was closed in order: all before is on stable storage.
pub(super) const CLOSE: u8 = 3 | MAY_SKIP;
/// A keyspace was made, or dropped.
pub(crate) const KEYSPACE: u8 = 7 | MAY_SKIP;
/// Whether a record is about commits: such a one is given to whoever reads the log, and is what the log is there for.
pub(super) fn is_of_commits(kind: u8) -> bool {
    matches!(kind, COMMIT | PREPARED)
}

/// The highest kind number in use, whether it may be skipped or not.
pub(super) const NEWEST_KIND: u8 = 7;

pub(super) const RECORD_HEADER_LEN: usize = 22;
/// The part of the header that its own checksum covers.
const CHECKED: std::ops::Range<usize> = 1..18;

/// The largest payload: a batch of 1 GiB and room for what frames it.
pub(crate) const MAX_PAYLOAD: u64 = (1 << 30) + (1 << 20);

/// The length of a payload, if it is not too large.
pub(super) fn payload_len(parts: &[&[u8]]) -> Result<u32> {
    let len = parts.iter().map(|part| part.len() as u64).sum();
    let checked = u32::try_from(len).ok().filter(|_| len <= MAX_PAYLOAD);
    checked.ok_or(Error::TooLarge { what: "a log record", len, max: MAX_PAYLOAD })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) len: u32,
    pub(super) payload_crc: u32,
    pub(super) synced: LogPosition,
}

impl RecordHeader {
    /// The header of a record with this payload, of `len` bytes, at `offset` of `file`.
    pub(super) fn of(
        kind: u8,
        flags: u8,
        synced: LogPosition,
        (file, offset): (FileNumber, u64),
        (len, payload): (u32, &[&[u8]]),
    ) -> Self {
        Self { kind, flags, len, payload_crc: checksum(kind, file, offset, payload), synced }
    }

    /// How long the whole record is.
    pub(super) fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + u64::from(self.len)
    }

    pub(super) fn encode(&self, (file, offset): (FileNumber, u64), into: &mut Vec<u8>) {
        let start = into.len();
        into.put_u8(self.kind);
        into.put_u8(self.flags);
        into.put_u32(self.len);
        into.put_u32(self.payload_crc);
        into.put_u64(self.synced.0);
        let checked = into.get(start + CHECKED.start..).unwrap_or_default();
        let crc = checksum(self.kind, file, offset, &[checked]);
        into.put_u32(crc);
    }

    /// The record header at the front of `bytes`, which lie at `offset` of `file`; none if there is no valid one. It
    /// cannot know more as synced than `synced_limit`: asked first, since it turns most bytes that are no header away
    /// at little cost.
    pub(super) fn decode(bytes: &[u8], (file, offset): (FileNumber, u64), synced_limit: LogPosition) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let kind = decoder.u8().ok().filter(|kind| *kind != 0)?;
        let flags = decoder.u8().ok()?;
        let len = decoder.u32().ok().filter(|len| u64::from(*len) <= MAX_PAYLOAD)?;
        let payload_crc = decoder.u32().ok()?;
        let synced = decoder.u64().ok().map(LogPosition).filter(|synced| *synced <= synced_limit)?;
        let crc = decoder.u32().ok()?;
        let checked = bytes.get(CHECKED)?;
        (checksum(kind, file, offset, &[checked]) == crc).then_some(Self { kind, flags, len, payload_crc, synced })
    }

    /// Whether `payload` is what was written behind this header.
    pub(super) fn fits(&self, place: (FileNumber, u64), payload: &[u8]) -> bool {
        checksum(self.kind, place.0, place.1, &[payload]) == self.payload_crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (FileNumber, u64) = (FileNumber(7), 44);

    fn encoded() -> (RecordHeader, Vec<u8>) {
        let header = RecordHeader::of(COMMIT, 3, LogPosition(50), PLACE, (7, &[b"pay", b"load"]));
        let mut bytes = Vec::new();
        header.encode(PLACE, &mut bytes);
        (header, bytes)
    }

    #[test]
    fn a_header_is_read_back_where_it_was_written_and_nowhere_else() {
        let (header, bytes) = encoded();
        assert_eq!(bytes.len(), RECORD_HEADER_LEN);
        assert_eq!(RecordHeader::decode(&bytes, PLACE, LogPosition(50)), Some(header));
        assert!(header.fits(PLACE, b"payload"));
        assert!(!header.fits(PLACE, b"payloae"));
        // S28: another file, another offset.
        assert_eq!(RecordHeader::decode(&bytes, (FileNumber(8), 44), LogPosition(50)), None);
        assert_eq!(RecordHeader::decode(&bytes, (FileNumber(7), 45), LogPosition(50)), None);
        assert_eq!(RecordHeader::decode(&bytes, PLACE, LogPosition(49)), None);
    }

    #[test]
    fn no_flipped_bit_passes() {
        let (_, bytes) = encoded();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(RecordHeader::decode(&bad, PLACE, LogPosition(u64::MAX)), None, "byte {at} bit {bit}");
            }
            assert_eq!(RecordHeader::decode(&bytes[..at], PLACE, LogPosition(u64::MAX)), None);
        }
    }
}
