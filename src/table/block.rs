//! Blocks as they lie in the file: what stands around each payload, how it is named, written and read.
//!
//! ```text
//! block   payload, as the codec stored it
//!         codec u8
//!         crc u32      of the kind of block, file, offset of the block, payload as stored, codec
//! handle  offset u64, stored length u32 (of the payload), length u32 (of the payload uncompressed)
//! ```
//!
//! A handle has this fixed form where it is searched, and the same numbers as varints elsewhere. A stored length of 0
//! names no block.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use super::BlockCache;
use crate::error::AtPath;
use crate::format::codec::{Compression, decompress_in, first};
use crate::format::{DecodeError, Decoder, Encode, FileNumber, Reason, checksum};
use crate::fs::{ReadFile, WriteFile};
use crate::sync::Arc;
use crate::{Error, Result};

/// Every kind of block; its number goes into the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Data = 1,
    History = 2,
    HistoryIndex = 3,
    RangeTombstones = 4,
    Filter = 5,
    Partition = 6,
    TopIndex = 7,
    Properties = 8,
    Footer = 9,
}

/// Behind every payload: codec and checksum.
pub(crate) const TRAILER: u64 = 5;

/// The longest payload: a row with the longest key and value, and room around it.
pub(crate) const MAX_PAYLOAD: u32 = 257 << 20;

/// How far a payload may shrink. Whoever writes stores what would shrink further as it is; whoever reads then knows
/// that no block needs more memory than this times its bytes in the file.
const MAX_RATIO: u64 = 1 << 15;

/// No file is so long that its offsets need the bits above.
const KIND_SHIFT: u32 = 56;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    /// Of the payload as it lies in the file.
    pub(crate) stored: u32,
    /// Of the payload uncompressed.
    pub(crate) len: u32,
}

impl Handle {
    /// Bytes of the fixed form.
    pub(crate) const FIXED: usize = 16;

    pub(crate) fn is_none(&self) -> bool {
        self.stored == 0
    }

    /// With the trailer.
    pub(crate) fn bytes_in_file(&self) -> u64 {
        u64::from(self.stored) + TRAILER
    }

    pub(crate) fn put_fixed(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offset);
        out.put_u32(self.stored);
        out.put_u32(self.len);
    }

    pub(crate) fn fixed(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offset: from.u64()?, stored: from.u32()?, len: from.u32()? })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_varint(self.offset);
        out.put_varint(u64::from(self.stored));
        out.put_varint(u64::from(self.len));
    }

    pub(crate) fn take(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = *from;
        let offset = from.varint()?;
        let mut length = || u32::try_from(from.varint()?).map_err(|_| start.error("block is too long"));
        Ok(Self { offset, stored: length()?, len: length()? })
    }

    /// Whether a file of `file_len` bytes can hold the block, and reading it takes no more memory than such a block
    /// may.
    fn check(&self, file_len: u64) -> Result<(), Reason> {
        let end = self.offset.checked_add(self.bytes_in_file());
        if self.is_none() || end.is_none_or(|end| end > file_len.min(1 << KIND_SHIFT)) {
            return Err("block lies outside of the file".into());
        }
        if self.len > MAX_PAYLOAD || self.stored > self.len || !ratio_is_sane(self.stored.into(), self.len.into()) {
            return Err("block has an impossible length".into());
        }
        Ok(())
    }
}

fn ratio_is_sane(stored: u64, len: u64) -> bool {
    len <= stored.saturating_mul(MAX_RATIO)
}

/// Writes blocks, one behind the other.
pub(crate) struct BlockSink {
    /// `None` once a write has failed: nothing is written behind it (L2).
    file: Option<Box<dyn WriteFile>>,
    path: PathBuf,
    number: FileNumber,
    compression: Compression,
    /// What was written, but not handed to the file yet.
    pending: Vec<u8>,
    /// Where `pending` begins in the file.
    pending_at: u64,
}

impl BlockSink {
    /// Small writes cost a system call each.
    const PENDING: usize = 128 << 10;

    pub(crate) fn new(file: Box<dyn WriteFile>, path: PathBuf, number: FileNumber, compression: Compression) -> Self {
        Self { file: Some(file), path, number, compression, pending: Vec::new(), pending_at: 0 }
    }

    /// Where the next block goes.
    pub(crate) fn offset(&self) -> u64 {
        self.pending_at + self.pending.len() as u64
    }

    /// Writes a block, compressed where that helps.
    pub(crate) fn write(&mut self, kind: BlockKind, payload: &[u8]) -> Result<Handle> {
        self.write_with(self.compression, kind, payload)
    }

    /// Writes a block as it is.
    pub(crate) fn write_raw(&mut self, kind: BlockKind, payload: &[u8]) -> Result<Handle> {
        self.write_with(Compression::None, kind, payload)
    }

    fn write_with(&mut self, compression: Compression, kind: BlockKind, payload: &[u8]) -> Result<Handle> {
        let too_large =
            || Error::TooLarge { what: "block of a table", len: payload.len() as u64, max: MAX_PAYLOAD.into() };
        let len = u32::try_from(payload.len()).ok().filter(|len| *len <= MAX_PAYLOAD).ok_or_else(too_large)?;
        let offset = self.offset();
        let start = self.pending.len();
        let mut codec = compression.compress(payload, &mut self.pending);
        if !ratio_is_sane((self.pending.len() - start) as u64, len.into()) {
            self.pending.truncate(start);
            codec = Compression::None.compress(payload, &mut self.pending);
        }
        let stored = u32::try_from(self.pending.len() - start).map_err(|_| too_large())?;
        self.pending.put_u8(codec);
        let covered = self.pending.get(start..).unwrap_or_default();
        let crc = checksum(kind as u8, self.number, offset, &[covered]);
        self.pending.put_u32(crc);
        if self.pending.len() >= Self::PENDING {
            self.hand_over()?;
        }
        Ok(Handle { offset, stored, len })
    }

    /// Writes the end of the file, which is no block, and makes everything durable.
    pub(crate) fn finish(mut self, footer: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(footer);
        self.hand_over()?;
        let failed = || io::Error::other("an earlier write failed");
        self.file.ok_or_else(failed).and_then(|mut file| file.sync()).at_path(&self.path)
    }

    fn hand_over(&mut self) -> Result<()> {
        let file = self.file.take();
        let mut file = file.ok_or_else(|| io::Error::other("an earlier write failed")).at_path(&self.path)?;
        file.append(&self.pending).at_path(&self.path)?;
        self.file = Some(file);
        self.pending_at += self.pending.len() as u64;
        self.pending.clear();
        // One large block must not hold its memory until the end of the file.
        self.pending.shrink_to(2 * Self::PENDING);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a read looks for blocks that are held, and leaves there what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Both: reads of users.
    Fill,
    /// Only looks: compactions read everything once.
    LookUp,
    /// Neither: what verifies must see the file.
    Off,
}

/// More is not kept from one block to the next.
const MOST_ROOM: usize = 1 << 20;

thread_local! {
    /// Where a block is read, and where it is decompressed: what is made of it has memory of its own.
    static ROOM: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// Reads blocks of one file.
pub(crate) struct BlockSource {
    file: Arc<dyn ReadFile>,
    path: PathBuf,
    number: FileNumber,
    len: u64,
    cache: Arc<BlockCache>,
}

impl BlockSource {
    pub(crate) fn new(
        file: Arc<dyn ReadFile>,
        path: PathBuf,
        number: FileNumber,
        cache: Arc<BlockCache>,
    ) -> Result<Self> {
        let len = file.len().at_path(&path)?;
        Ok(Self { file, path, number, len, cache })
    }

    /// The file's length.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    pub(super) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    pub(crate) fn corruption(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::corruption(&self.path, offset, reason)
    }

    /// `len` bytes at `offset`, which must lie in the file.
    pub(crate) fn read_bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        match self.file.read_at(bytes, offset) {
            Ok(()) => Ok(()),
            // It was long enough when it was opened.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corruption(offset, "the file ends within a block"))
            }
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    /// What `make` makes of the payload of a block, from the file.
    pub(crate) fn with_payload<R>(&self, kind: BlockKind, handle: Handle, make: impl FnOnce(&[u8]) -> R) -> Result<R> {
        handle.check(self.len).map_err(|reason| self.corruption(handle.offset, reason))?;
        let len = usize::try_from(handle.bytes_in_file());
        let len = len.map_err(|_| self.corruption(handle.offset, "block has an impossible length"))?;
        // A thread that ends may have let go of it.
        let (mut stored, mut room) = ROOM.try_with(Cell::take).unwrap_or_default();
        let bytes = first(&mut stored, len);
        self.read_into(handle.offset, bytes)?;
        let made = make(self.open(kind, handle, bytes, &mut room)?);
        if stored.len().max(room.len()) <= MOST_ROOM {
            _ = ROOM.try_with(|kept| kept.set((stored, room)));
        }
        Ok(made)
    }

    /// The payload of a block, from the file.
    pub(crate) fn load(&self, kind: BlockKind, handle: Handle) -> Result<Vec<u8>> {
        self.with_payload(kind, handle, <[u8]>::to_vec)
    }

    /// The payload of a block that lies in `tail`, the end of the file; read from the file if it does not lie there.
    pub(crate) fn load_from(&self, tail: &[u8], kind: BlockKind, handle: Handle) -> Result<Vec<u8>> {
        let tail_at = self.len.saturating_sub(tail.len() as u64);
        handle.check(self.len).map_err(|reason| self.corruption(handle.offset, reason))?;
        let part = handle.offset.checked_sub(tail_at).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            tail.get(start..start.checked_add(usize::try_from(handle.bytes_in_file()).ok()?)?)
        });
        match part {
            Some(part) => self.open(kind, handle, part, &mut Vec::new()).map(<[u8]>::to_vec),
            None => self.load(kind, handle),
        }
    }

    /// Checks a block's bytes and gives the payload, where it lies or in `room`.
    fn open<'a>(&self, kind: BlockKind, handle: Handle, bytes: &'a [u8], room: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let bad = |reason: &'static str| self.corruption(handle.offset, reason);
        let Some((covered, crc)) = bytes.split_last_chunk::<4>() else { return Err(bad("block has no trailer")) };
        if checksum(kind as u8, self.number, handle.offset, &[covered]) != u32::from_le_bytes(*crc) {
            return Err(bad("checksum of a block does not match"));
        }
        let Some((codec, stored)) = covered.split_last() else { return Err(bad("block has no trailer")) };
        let len = usize::try_from(handle.len).map_err(|_| bad("block has an impossible length"))?;
        let payload = decompress_in(*codec, stored, len, room);
        let payload = payload.map_err(|reason| self.corruption(handle.offset, reason))?;
        if payload.len() == len { Ok(payload) } else { Err(bad("block has another length than its handle says")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_that_cannot_be_are_refused_before_anything_is_read() {
        // S27
        let good = Handle { offset: 10, stored: 20, len: 20 };
        assert_eq!(good.check(35), Ok(()));
        assert_eq!(Handle { len: 20 << 15, ..good }.check(35), Ok(()));
        for (bad, file_len) in [
            (good, 34),
            (Handle { offset: u64::MAX, ..good }, 100),
            (Handle { stored: 0, ..good }, 100),
            (Handle { stored: 21, ..good }, 100),
            (Handle { len: (20 << 15) + 1, ..good }, 100),
            (Handle { stored: u32::MAX, len: u32::MAX, ..good }, u64::MAX),
        ] {
            assert!(bad.check(file_len).is_err(), "{bad:?} in {file_len}");
        }
    }

    /// A file of which nothing may be read.
    struct Untouched(u64);

    impl ReadFile for Untouched {
        fn read_at(&self, _buf: &mut [u8], offset: u64) -> io::Result<()> {
            panic!("read at {offset}")
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.0)
        }
    }

    #[test]
    fn a_small_block_that_would_unfold_into_much_is_refused_before_memory_is_taken() {
        // S27
        let cache = Arc::new(BlockCache::new(1 << 20));
        let source = BlockSource::new(Arc::new(Untouched(100)), "a.table".into(), FileNumber(1), cache).unwrap();
        for len in [MAX_PAYLOAD, MAX_PAYLOAD + 1, u32::MAX, (20 << 15) + 1] {
            let hostile = Handle { offset: 10, stored: 20, len };
            for loaded in [
                source.load(BlockKind::Data, hostile),
                // What was read already does not help: it is not unfolded.
                source.load_from(&[0; 100], BlockKind::Data, hostile),
                source.load_from(&[], BlockKind::Data, hostile),
            ] {
                match loaded {
                    Err(Error::Corruption { offset: 10, reason, .. }) => {
                        assert!(reason.contains("impossible length"), "{reason}");
                    }
                    other => panic!("{len}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn handles_are_read_back_from_both_forms() {
        let handle = Handle { offset: 1 << 40, stored: 4096, len: MAX_PAYLOAD };
        let (mut fixed, mut varints) = (Vec::new(), Vec::new());
        handle.put_fixed(&mut fixed);
        handle.put(&mut varints);
        assert_eq!(fixed.len(), Handle::FIXED);
        assert_eq!(Handle::fixed(&mut Decoder::new(&fixed)), Ok(handle));
        assert_eq!(Handle::take(&mut Decoder::new(&varints)), Ok(handle));
    }
}
