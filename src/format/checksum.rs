//! The checksum under which every byte on disk stands.

use super::FileNumber;

/// CRC-32C over what the bytes are (`kind`), where they lie (`file`, `offset`) and the bytes themselves, so that a
/// block in the wrong place, or left over from another file, does not pass (F1, S28).
pub(crate) fn checksum(kind: u8, file: FileNumber, offset: u64, parts: &[&[u8]]) -> u32 {
    let mut place = [0; 17];
    let (number, rest) = place.split_at_mut(8);
    number.copy_from_slice(&file.0.to_le_bytes());
    let (at, last) = rest.split_at_mut(8);
    at.copy_from_slice(&offset.to_le_bytes());
    last.copy_from_slice(&[kind]);
    parts.iter().fold(crc32c::crc32c(&place), |crc, part| crc32c::crc32c_append(crc, part))
}

/// The checksum of what `sum` is of, and `part` behind it.
pub(crate) fn checksum_on(sum: u32, part: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_depends_on_kind_file_offset_and_bytes() {
        let base = checksum(1, FileNumber(2), 3, &[b"abc"]);
        assert_eq!(base, checksum(1, FileNumber(2), 3, &[b"a", b"bc"]));
        for other in [
            checksum(2, FileNumber(2), 3, &[b"abc"]),
            checksum(1, FileNumber(3), 3, &[b"abc"]),
            checksum(1, FileNumber(2), 4, &[b"abc"]),
            checksum(1, FileNumber(2), 3, &[b"abd"]),
        ] {
            assert_ne!(base, other);
        }
    }
}
