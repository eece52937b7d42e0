//! The end of a table: where everything else begins.
//!
//! ```text
//! footer  handles, fixed: top index, filter, range tombstones, properties; all 0 where there is none
//!         length u32      of the footer
//!         version u32     of the format
//!         crc u32         of the kind of block, file, offset of the footer, everything before
//!         magic           "strandtb"
//! ```
//!
//! The last four fields are the same in every version of the format: so a version that is not known is told from
//! damage.

use super::block::{BlockKind, BlockSource, Handle};
use crate::format::{Decoder, Encode, FORMAT_VERSION, FileNumber, checksum};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"strandtb";
/// Length, version, crc and magic.
const END: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    pub(crate) top: Handle,
    pub(crate) filter: Handle,
    pub(crate) ranges: Handle,
    pub(crate) properties: Handle,
}

impl Footer {
    pub(crate) const LEN: usize = 4 * Handle::FIXED + END;

    /// As it stands at `offset` of the file.
    pub(crate) fn encode(&self, number: FileNumber, offset: u64) -> Vec<u8> {
        self.encode_version(number, offset, FORMAT_VERSION)
    }

    fn encode_version(&self, number: FileNumber, offset: u64, version: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        for handle in [self.top, self.filter, self.ranges, self.properties] {
            handle.put_fixed(&mut out);
        }
        out.put_u32(84);
        out.put_u32(version);
        let crc = checksum(BlockKind::Footer as u8, number, offset, &[&out]);
        out.put_u32(crc);
        out.extend_from_slice(&MAGIC);
        out
    }

    /// From `tail`, the end of the file.
    pub(crate) fn read(source: &BlockSource, tail: &[u8]) -> Result<Self> {
        let tail_at = source.len().saturating_sub(tail.len() as u64);
        let bad = |reason| source.corruption(source.len().saturating_sub(Self::LEN as u64), reason);
        let end = tail.len().checked_sub(END).ok_or_else(|| bad("file is too short for a table"))?;
        let mut from = Decoder::new(tail.get(end..).unwrap_or_default());
        let mut number = || from.u32().map_err(|_| bad("file is too short for a table"));
        let (len, version, crc) = (number()?, number()?, number()?);
        if from.rest() != MAGIC {
            return Err(bad("file does not end as a table does"));
        }
        let start = usize::try_from(len).ok().and_then(|len| tail.len().checked_sub(len)).filter(|start| *start <= end);
        let start = start.ok_or_else(|| bad("footer has an impossible length"))?;
        let covered = tail.get(start..end + 8).unwrap_or_default();
        if checksum(BlockKind::Footer as u8, source.number(), tail_at + start as u64, &[covered]) != crc {
            return Err(bad("checksum of the footer does not match"));
        }
        if version != FORMAT_VERSION {
            let path = source.path().to_owned();
            return Err(Error::UnsupportedFormat { path, found: version, supported: FORMAT_VERSION });
        }
        let mut from = Decoder::new(covered);
        let mut handle = || Handle::fixed(&mut from).map_err(|_| bad("footer has an impossible length"));
        let footer = Self { top: handle()?, filter: handle()?, ranges: handle()?, properties: handle()? };
        if from.rest().len() == 8 { Ok(footer) } else { Err(bad("footer has an impossible length")) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Fs, MemFs, Purpose};
    use crate::sync::Arc;
    use crate::table::BlockCache;

    fn read(bytes: &[u8]) -> Result<Footer> {
        let (fs, path) = (MemFs::new(), Path::new("000007.table"));
        fs.write_file(path, bytes).unwrap();
        let file = fs.open(Purpose::Table, path).unwrap();
        let source = BlockSource::new(file, path.to_owned(), FileNumber(7), Arc::new(BlockCache::new(0)))?;
        Footer::read(&source, bytes)
    }

    fn footer() -> Footer {
        let handle = |offset| Handle { offset, stored: 100, len: 200 };
        Footer { top: handle(1), filter: handle(2), ranges: Handle::default(), properties: handle(3) }
    }

    #[test]
    fn a_footer_is_read_back_and_any_change_is_noticed() {
        // S27
        let bytes = [&[1; 30][..], &footer().encode(FileNumber(7), 30)].concat();
        assert_eq!(bytes.len(), 30 + Footer::LEN);
        assert_eq!(read(&bytes).unwrap(), footer());
        for i in 30..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[i] ^= 1 << bit;
                assert!(matches!(read(&changed), Err(Error::Corruption { .. })), "bit {bit} of byte {i}");
            }
        }
        for len in 0..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(Error::Corruption { .. })), "cut to {len}");
        }
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        // S31
        let bytes = footer().encode_version(FileNumber(7), 0, 99);
        assert!(matches!(read(&bytes), Err(Error::UnsupportedFormat { found: 99, supported: FORMAT_VERSION, .. })));
    }
}
