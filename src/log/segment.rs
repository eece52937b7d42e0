//! The header of a segment, and what is known of a segment without reading its records.

use super::LogPosition;
use crate::format::{COUNTER_LIMIT, DecodeError, Decoder, Encode, FORMAT_VERSION, FileNumber, checksum};

const MAGIC: &[u8; 8] = b"SLINELOG";
pub(super) const SEGMENT_HEADER_LEN: usize = 44;
/// Where the part begins whose layout depends on the version.
const VERSIONED: usize = 16;
/// The checksums of a segment header have a kind that no record has.
const HEADER_KIND: u8 = 0;

/// A segment of the live log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) number: FileNumber,
    pub(crate) ordinal: u64,
    pub(crate) start: LogPosition,
    pub(crate) end: LogPosition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) ordinal: u64,
    pub(super) start: LogPosition,
    pub(super) synced: LogPosition,
}

/// Why a segment header is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Torn or corrupt: recovery decides which.
    Damaged(DecodeError),
    /// A format that this build does not know.
    Unsupported(u32),
}

impl From<DecodeError> for HeaderError {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error)
    }
}

impl SegmentHeader {
    /// Where in the file the record at `position` (not below the start) lies.
    pub(super) fn offset_of(&self, position: LogPosition) -> u64 {
        (SEGMENT_HEADER_LEN as u64).saturating_add(position.0.saturating_sub(self.start.0))
    }

    /// Which position lies at `offset` (not within the header).
    pub(super) fn position_at(&self, offset: u64) -> LogPosition {
        LogPosition(self.start.0.saturating_add(offset.saturating_sub(SEGMENT_HEADER_LEN as u64)))
    }

    pub(super) fn encode(&self, file: FileNumber) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32(FORMAT_VERSION);
        let crc = checksum(HEADER_KIND, file, 0, &[&bytes]);
        bytes.put_u32(crc);
        bytes.put_u64(self.ordinal);
        bytes.put_u64(self.start.0);
        bytes.put_u64(self.synced.0);
        let crc = checksum(HEADER_KIND, file, VERSIONED as u64, &[bytes.get(VERSIONED..).unwrap_or_default()]);
        bytes.put_u32(crc);
        bytes
    }

    pub(super) fn decode(bytes: &[u8], file: FileNumber) -> Result<Self, HeaderError> {
        let mut decoder = Decoder::new(bytes);
        let magic = decoder.take(MAGIC.len())?;
        let version = decoder.u32()?;
        let place = decoder.error("the checksum of the segment's version does not match");
        if decoder.u32()? != checksum(HEADER_KIND, file, 0, &[magic, &version.to_le_bytes()]) {
            return Err(place.into());
        }
        if magic != MAGIC {
            return Err(DecodeError { offset: 0, reason: "not a log segment".into() }.into());
        }
        if version != FORMAT_VERSION {
            return Err(HeaderError::Unsupported(version));
        }
        let mut checked = decoder;
        let checked = checked.take(SEGMENT_HEADER_LEN - VERSIONED - 4)?;
        let (ordinal, start, synced) = (decoder.u64()?, LogPosition(decoder.u64()?), LogPosition(decoder.u64()?));
        let place = decoder.error("the checksum of the segment header does not match");
        if decoder.u32()? != checksum(HEADER_KIND, file, VERSIONED as u64, &[checked]) || synced > start {
            return Err(place.into());
        }
        if ordinal >= COUNTER_LIMIT || start.0 >= COUNTER_LIMIT {
            return Err(decoder.error("the segment lies behind the end of every log").into());
        }
        Ok(Self { ordinal, start, synced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileNumber = FileNumber(12);
    const HEADER: SegmentHeader = SegmentHeader { ordinal: 3, start: LogPosition(100), synced: LogPosition(90) };

    #[test]
    fn a_header_is_read_back_in_its_own_file_only() {
        let bytes = HEADER.encode(FILE);
        assert_eq!(bytes.len(), SEGMENT_HEADER_LEN);
        assert_eq!(SegmentHeader::decode(&bytes, FILE), Ok(HEADER));
        assert!(matches!(SegmentHeader::decode(&bytes, FileNumber(13)), Err(HeaderError::Damaged(_))));
        assert_eq!(HEADER.offset_of(LogPosition(130)), 74);
        assert_eq!(HEADER.position_at(74), LogPosition(130));
    }

    #[test]
    fn damage_is_never_taken_for_another_version() {
        let bytes = HEADER.encode(FILE);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(
                    matches!(SegmentHeader::decode(&bad, FILE), Err(HeaderError::Damaged(_))),
                    "byte {at} bit {bit}"
                );
            }
            assert!(matches!(SegmentHeader::decode(&bytes[..at], FILE), Err(HeaderError::Damaged(_))));
        }
    }

    /// What would follow from it overflows.
    #[test]
    fn a_header_that_names_a_place_that_no_log_reaches_is_damaged() {
        for (ordinal, start) in [(COUNTER_LIMIT, 100), (3, COUNTER_LIMIT), (u64::MAX, u64::MAX)] {
            let bytes = SegmentHeader { ordinal, start: LogPosition(start), ..HEADER }.encode(FILE);
            assert!(matches!(SegmentHeader::decode(&bytes, FILE), Err(HeaderError::Damaged(_))));
        }
    }

    // S31
    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut bytes = HEADER.encode(FILE);
        bytes[8..12].copy_from_slice(&77u32.to_le_bytes());
        let crc = checksum(HEADER_KIND, FILE, 0, &[&bytes[..12]]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes, FILE), Err(HeaderError::Unsupported(77)));
    }
}
