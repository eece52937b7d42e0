//! Headers, and how they are sealed.

use super::super::LogPosition;
use super::super::record::{COMMIT, RECORD_HEADER_LEN, RecordHeader};
use super::super::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use crate::format::{FileNumber, checksum};

const NUMBER: FileNumber = FileNumber(3);

/// The header of a segment, sealed.
pub(crate) fn segment_header(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal_segment_header(&mut bytes, NUMBER);
    let Ok(header) = SegmentHeader::decode(&bytes, NUMBER) else { return };
    assert!(header.synced <= header.start);
    assert_eq!(header.encode(NUMBER), bytes[..SEGMENT_HEADER_LEN]);
}

/// A record at the front of its segment, sealed.
pub(crate) fn record(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let place = (NUMBER, SEGMENT_HEADER_LEN as u64);
    seal_record(&mut bytes, 0, place);
    let Some(header) = RecordHeader::decode(&bytes, place, LogPosition(1 << 40)) else { return };
    let mut again = Vec::new();
    header.encode(place, &mut again);
    assert_eq!(again, bytes[..RECORD_HEADER_LEN]);
    let payload = &bytes[RECORD_HEADER_LEN..];
    if payload.len() as u64 == u64::from(header.len) && header.fits(place, payload) {
        let kind = (header.kind, header.flags);
        assert_eq!(RecordHeader::of(kind.0, kind.1, header.synced, place, (header.len, &[payload])), header);
    }
}

/// Fills the checksums of a segment that are 0, record after record as their lengths say.
pub(super) fn seal(file: &mut [u8], number: FileNumber) {
    seal_segment_header(file, number);
    let mut at = SEGMENT_HEADER_LEN;
    while let Some(len) = seal_record(file, at, (number, at as u64)) {
        at += len;
    }
}

fn seal_segment_header(file: &mut [u8], number: FileNumber) {
    if file.len() < SEGMENT_HEADER_LEN {
        return;
    }
    fill(file, 12, |file| checksum(0, number, 0, &[&file[..12]]));
    fill(file, 40, |file| checksum(0, number, 16, &[&file[16..40]]));
}

/// Seals the record at `at` of `file`, and says how long it is; `None` if there is none.
fn seal_record(file: &mut [u8], at: usize, (number, offset): (FileNumber, u64)) -> Option<usize> {
    let head = file.get(at..at + RECORD_HEADER_LEN)?;
    let kind = *head.first().filter(|kind| **kind != 0)?;
    let len = usize::try_from(u32::from_le_bytes(*head[2..].first_chunk()?)).ok()?;
    let payload = at + RECORD_HEADER_LEN..at + RECORD_HEADER_LEN + len;
    if payload.end <= file.len() {
        fill(file, at + 6, |file| checksum(kind, number, offset, &[&file[payload.clone()]]));
    }
    fill(file, at + 18, |file| checksum(kind, number, offset, &[&file[at + 1..at + 18]]));
    Some(RECORD_HEADER_LEN + len)
}

fn fill(file: &mut [u8], at: usize, crc: impl Fn(&[u8]) -> u32) {
    if file[at..at + 4] == [0; 4] {
        let crc = crc(file);
        file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Sets all checksums of a proper segment to 0.
pub(super) fn unseal(file: &mut [u8]) {
    let mut at = SEGMENT_HEADER_LEN;
    file[12..16].fill(0);
    file[40..44].fill(0);
    while let Some(head) = file.get_mut(at..at + RECORD_HEADER_LEN).filter(|head| head[0] != 0) {
        head[6..10].fill(0);
        head[18..22].fill(0);
        at += RECORD_HEADER_LEN + u32::from_le_bytes(*head[2..].first_chunk().unwrap()) as usize;
    }
}

pub(crate) fn segment_header_seeds() -> Vec<Vec<u8>> {
    let mut bytes = SegmentHeader { ordinal: 3, start: LogPosition(100), synced: LogPosition(90) }.encode(NUMBER);
    let good = bytes.clone();
    unseal(&mut bytes);
    vec![good, bytes]
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let place = (NUMBER, SEGMENT_HEADER_LEN as u64);
    let mut bytes = Vec::new();
    RecordHeader::of(COMMIT, 1, LogPosition(50), place, (7, &[b"payload"])).encode(place, &mut bytes);
    bytes.extend_from_slice(b"payload");
    let mut zeroed = bytes.clone();
    zeroed[6..10].fill(0);
    zeroed[18..22].fill(0);
    vec![bytes, zeroed]
}
