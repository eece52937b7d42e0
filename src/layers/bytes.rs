//! What is done to the bytes of every block: checksum and codec.

use crate::format::codec::{self, Compression};
use crate::format::{self, FileNumber};
use crate::{Error, Result};

/// The checksum of bytes at some place of some file.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    format::checksum(1, FileNumber(7), 4096, &[bytes])
}

/// Appends the stored form of a block to `out`; says by which codec number it is to be read.
pub fn compress(compression: Compression, block: &[u8], out: &mut Vec<u8>) -> u8 {
    compression.compress(block, out)
}

/// The block of which `stored` is the stored form.
///
/// # Errors
/// It is not the stored form of a block of at most `max_len` bytes.
pub fn decompress(codec: u8, stored: &[u8], max_len: usize) -> Result<Vec<u8>> {
    codec::decompress(codec, stored, max_len).map_err(Error::invalid)
}
