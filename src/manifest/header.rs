//! The first bytes of a manifest, and all of `CURRENT`.
//!
//! ```text
//! header  magic 8 bytes, format version u32, number of the manifest u64, checksum u32 of all before
//! ```
//!
//! It looks so in every version, so that a newer one is told from damage (S31).

use std::path::Path;

use crate::format::{DecodeError, Decoder, Encode, FORMAT_VERSION, FileNumber, checksum};
use crate::{Error, Result};

pub(super) const HEADER_BYTES: usize = 24;

/// Which of the two it is.
pub(super) struct Header {
    pub(super) magic: &'static [u8; 8],
    /// What the checksum is salted with, besides the number of the file.
    pub(super) kind: u8,
}

impl Header {
    /// The header that names manifest `number`, in the file `file`.
    pub(super) fn encode(&self, file: FileNumber, number: FileNumber) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.put_u32(FORMAT_VERSION);
        bytes.put_u64(number.0);
        bytes.put_u32(checksum(self.kind, file, 0, &[&bytes]));
        bytes
    }

    /// The number that the header says.
    pub(super) fn decode(&self, path: &Path, bytes: &[u8; HEADER_BYTES], file: FileNumber) -> Result<FileNumber> {
        let (covered, _) = bytes.split_at(HEADER_BYTES - size_of::<u32>());
        let mut from = Decoder::new(bytes);
        let mut read = || Ok((from.take(self.magic.len())?, from.u32()?, from.u64()?, from.u32()?));
        let (magic, version, number, sum) = read().map_err(|error: DecodeError| error.in_file(path, 0))?;
        if checksum(self.kind, file, 0, &[covered]) != sum || magic != self.magic {
            return Err(Error::corruption(path, 0, "header fails its checksum"));
        }
        if version != FORMAT_VERSION {
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found: version, supported: FORMAT_VERSION });
        }
        Ok(FileNumber(number))
    }
}
