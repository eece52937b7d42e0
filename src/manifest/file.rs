//! The bytes of a manifest.
//!
//! ```text
//! manifest  header, snapshot frames, the last of them marked, then edit frames; nothing between them
//! header    see header.rs
//! frame     length u32 of the payload, role u8, checksum u32 of the payload, checksum u32 of all before, payload
//! role      1 part of the snapshot | 2 its last part | 3 edit
//! payload   changes (see edit.rs)
//! ```
//!
//! Checksums cover the file's number and the frame's offset as well (F1): nothing left over from another file, or at
//! another place, passes. Each frame is written and synced before the next one begins. So only the last one can be
//! torn; anything behind a bad frame shows that it was synced, and that it is damage (S27). The frame's head has a
//! checksum of its own, which makes looking for such frames cheap.

use std::ops::Range;
use std::path::Path;

use super::header::{HEADER_BYTES, Header};
use crate::format::{Decoder, Encode, FileNumber, checksum};
use crate::{Error, Result};

const FRAME_HEAD_BYTES: usize = 13;

/// How many times its length of a file is summed up at most, in the search for a frame behind a bad one.
const LOOKS: usize = 16;

// What checksums are salted with.
const HEADER: Header = Header { magic: b"strandMF", kind: 0x40 };
const HEAD_KIND: u8 = 0x41;
const PAYLOAD_KIND: u8 = 0x42;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    SnapshotPart,
    SnapshotEnd,
    Edit,
}

impl Role {
    fn number(self) -> u8 {
        match self {
            Self::SnapshotPart => 1,
            Self::SnapshotEnd => 2,
            Self::Edit => 3,
        }
    }

    pub(super) const NEWEST: u8 = 3;

    fn of_number(number: u8) -> Option<Self> {
        [Self::SnapshotPart, Self::SnapshotEnd, Self::Edit].into_iter().find(|role| role.number() == number)
    }
}

pub(super) fn header(number: FileNumber) -> Vec<u8> {
    HEADER.encode(number, number)
}

/// Checks the header; returns where the frames begin.
pub(super) fn check_header(path: &Path, bytes: &[u8], number: FileNumber) -> Result<usize> {
    let header = bytes.first_chunk().ok_or_else(|| Error::corruption(path, 0, "file ends within its header"))?;
    if HEADER.decode(path, header, number)? != number {
        return Err(Error::corruption(path, 0, "header is of another file"));
    }
    Ok(HEADER_BYTES)
}

/// The frame for `payload` at `offset`.
pub(super) fn frame(role: Role, number: FileNumber, offset: u64, payload: &[u8]) -> Result<Vec<u8>> {
    let len = u32::try_from(payload.len()).map_err(|_| Error::TooLarge {
        what: "manifest edit",
        len: payload.len() as u64,
        max: u64::from(u32::MAX),
    })?;
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    out.put_u32(len);
    out.put_u8(role.number());
    out.put_u32(checksum(PAYLOAD_KIND, number, offset, &[payload]));
    out.put_u32(checksum(HEAD_KIND, number, offset, &[&out]));
    out.extend_from_slice(payload);
    Ok(out)
}

/// A frame that passed all checks.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) role: Role,
    pub(super) payload: &'a [u8],
    pub(super) payload_at: usize,
}

impl Frame<'_> {
    pub(super) fn end(&self) -> usize {
        self.payload_at + self.payload.len()
    }
}

/// The frame that begins at `offset`; the number of its role, if that is not known here.
pub(super) fn frame_at(file: &[u8], number: FileNumber, offset: usize) -> Option<Result<Frame<'_>, u8>> {
    let head = head_at(file, number, offset)?;
    let payload = file.get(head.payload.clone())?;
    let intact = checksum(PAYLOAD_KIND, number, offset as u64, &[payload]) == head.payload_sum;
    let frame = |role| Frame { role, payload, payload_at: head.payload.start };
    intact.then(|| Role::of_number(head.role).map(frame).ok_or(head.role))
}

struct Head {
    role: u8,
    payload: Range<usize>,
    payload_sum: u32,
}

fn head_at(file: &[u8], number: FileNumber, offset: usize) -> Option<Head> {
    let mut from = Decoder::new(file.get(offset..)?);
    let covered = *from.rest().first_chunk::<{ FRAME_HEAD_BYTES - 4 }>()?;
    let (len, role, payload_sum, sum) = (from.u32().ok()?, from.u8().ok()?, from.u32().ok()?, from.u32().ok()?);
    if checksum(HEAD_KIND, number, offset as u64, &[&covered]) != sum {
        return None;
    }
    let start = offset + FRAME_HEAD_BYTES;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    Some(Head { role, payload: start..end, payload_sum })
}

/// Whether there is something behind the bad frame at `offset`, so that the frame was synced once and is not torn.
pub(super) fn goes_on_after(file: &[u8], number: FileNumber, offset: usize) -> bool {
    let ends_within = head_at(file, number, offset).is_some_and(|head| head.payload.end < file.len());
    let mut search = Search::of(file);
    ends_within || search.frame_from(file, number, offset + 1).is_some() || search.is_given_up()
}

/// A search for frames that lie anywhere. A torn payload may hold what looks like a frame by its head; so many, one
/// within the other, nobody has torn.
pub(super) struct Search {
    /// How many more bytes are summed up before it is given up.
    left: Option<usize>,
}

impl Search {
    pub(super) fn of(file: &[u8]) -> Self {
        Self { left: Some(file.len().saturating_mul(LOOKS)) }
    }

    /// The first frame from `offset` on.
    pub(super) fn frame_from<'a>(
        &mut self,
        file: &'a [u8],
        number: FileNumber,
        offset: usize,
    ) -> Option<Result<Frame<'a>, u8>> {
        (offset..file.len()).find_map(|at| {
            let left = self.left?;
            let head = head_at(file, number, at).filter(|head| head.payload.end <= file.len())?;
            self.left = left.checked_sub(head.payload.len());
            self.left.and_then(|_| frame_at(file, number, at))
        })
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.left.is_none()
    }
}
