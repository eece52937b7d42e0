//! Puts checksums right: in a file whose checksums are zeros, or that was changed since.

use std::collections::HashSet;

use super::super::block::{BlockKind, Handle};
use super::super::footer::Footer;
use super::super::history::{HistoryIndex, HistoryRef};
use super::super::index::IndexBlock;
use super::super::rows::{DataBlock, Rows};
use super::super::slots::Cached;
use super::file::NUMBER;
use crate::format::codec::decompress;
use crate::format::{Decoder, checksum};

/// Longer payloads are not looked into for the blocks that they name.
const LONGEST: usize = 1 << 20;
/// No more blocks are looked for.
const MOST: usize = 2000;

/// Fills each checksum that is 0, the footer's too, as far as blocks can be found.
pub(super) fn seal(file: &mut Vec<u8>) {
    seal_footer(file);
    Walk { file, seen: HashSet::new(), zero: false }.all();
}

/// Sets every checksum to 0.
pub(super) fn unseal(file: &mut Vec<u8>) {
    Walk { file, seen: HashSet::new(), zero: true }.all();
    if let Some(at) = file.len().checked_sub(12) {
        file[at..at + 4].fill(0);
    }
}

pub(super) fn seal_footer(file: &mut [u8]) {
    let Some(at) = file.len().checked_sub(Footer::LEN) else { return };
    let crc_at = file.len() - 12;
    if file[crc_at..crc_at + 4] == [0; 4] {
        let crc = checksum(BlockKind::Footer as u8, NUMBER, at as u64, &[&file[at..crc_at]]);
        file[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

struct Walk<'a> {
    file: &'a mut Vec<u8>,
    seen: HashSet<u64>,
    zero: bool,
}

impl Walk<'_> {
    fn all(&mut self) {
        let Some(at) = self.file.len().checked_sub(Footer::LEN) else { return };
        let footer = self.file[at..].to_vec();
        let mut from = Decoder::new(&footer);
        let mut handle = || Handle::fixed(&mut from).unwrap_or_default();
        let (top, filter, ranges, properties) = (handle(), handle(), handle(), handle());
        self.visit(BlockKind::Properties, properties);
        self.visit(BlockKind::RangeTombstones, ranges);
        self.visit(BlockKind::Filter, filter);
        for partition in self.index(BlockKind::TopIndex, top) {
            for data in self.index(BlockKind::Partition, partition) {
                self.data(data);
            }
        }
    }

    fn index(&mut self, kind: BlockKind, handle: Handle) -> Vec<Handle> {
        let Some(Ok(block)) = self.visit(kind, handle).map(|payload| IndexBlock::parse(&payload, 0)) else {
            return Vec::new();
        };
        (0..block.len().min(MOST)).map_while(|at| Some(block.entry(at).ok()?.block)).collect()
    }

    fn data(&mut self, handle: Handle) {
        let Some(Ok(block)) = self.visit(BlockKind::Data, handle).map(|payload| DataBlock::parse(&payload, 0)) else {
            return;
        };
        let mut rows = Rows::default();
        rows.enter(Cached::alone(block));
        let mut moved = rows.first();
        while let Ok(true) = moved {
            if let Some((row, block)) = rows.row()
                && let Ok(Some(place)) = HistoryRef::of(row, block)
                && let Ok(handle) = block.history(place.number)
            {
                self.history(handle, place.levels);
            }
            moved = rows.next();
        }
    }

    fn history(&mut self, handle: Handle, levels: u8) {
        let Some(below) = levels.checked_sub(1) else {
            self.visit(BlockKind::History, handle);
            return;
        };
        let Some(Ok(index)) = self.visit(BlockKind::HistoryIndex, handle).map(|payload| HistoryIndex::parse(&payload))
        else {
            return;
        };
        for (_, child) in (0..MOST).map_while(|at| index.child(at)) {
            self.history(child, below);
        }
    }

    /// Sets the checksum of a block, and gives its payload; `None` if it was seen before.
    fn visit(&mut self, kind: BlockKind, handle: Handle) -> Option<Vec<u8>> {
        let start = usize::try_from(handle.offset).ok()?;
        let len = usize::try_from(handle.bytes_in_file()).ok()?;
        let block = self.file.get_mut(start..start.checked_add(len)?)?;
        if self.seen.len() >= MOST || !self.seen.insert(handle.offset) {
            return None;
        }
        let (covered, crc) = block.split_last_chunk_mut::<4>()?;
        if self.zero {
            *crc = [0; 4];
        } else if *crc == [0; 4] {
            *crc = checksum(kind as u8, NUMBER, handle.offset, &[covered]).to_le_bytes();
        }
        let (codec, payload) = covered.split_last()?;
        let most = usize::try_from(handle.len).ok()?.min(LONGEST);
        decompress(*codec, payload, most).ok()
    }
}
