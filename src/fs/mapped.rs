//! A part of a file in memory, to store into: the one place with unsafe code in `fs/`.
//!
//! The memory is never lent out as a slice, for it is the kernel's as well, and any process's that has the file open.
//! Only [`Window::store`] touches it, by its address.
//!
//! A store cannot fail, it can only end the process (SIGBUS). So what could make it fail is asked for before, where an
//! error can be told: the file has its blocks already ([`may_be_mapped`]: file systems that overwrite them in place),
//! and the kernel is told to make a page writable before it is stored into. What remains is written in DESIGN.md (B1).

#![allow(unsafe_code)]
#![expect(clippy::disallowed_types, reason = "this and its neighbours are the places that touch files")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::std_log::write_all_at;

/// From linux/magic.h; ext4 stands for ext2 and ext3 too, which have no preallocation.
const EXT4: i128 = 0xef53;
const TMPFS: i128 = 0x0102_1994;

static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Whether stores into preallocated room of this file are known to be safe. On a file system that copies on write each
/// may take new blocks; XFS, which does not, has been seen to end the process when it had shut down.
pub(super) fn may_be_mapped(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|system| [EXT4, TMPFS].contains(&i128::from(system.f_type)))
}

/// A part of a file that can be stored into.
pub(super) struct Window {
    memory: MmapRaw,
    range: Range<u64>,
    /// Pages are made ready so many bytes at a time.
    piece_bytes: u64,
    ready_until: u64,
    readied: Instant,
}

impl Window {
    /// Shows `range` of a file that is at least so long. Whoever cuts the file off within it has to drop this first.
    pub(super) fn over(file: &File, range: Range<u64>, piece_bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let memory = MmapOptions::new().offset(range.start).len(len).map_raw(file)?;
        // Else the first page would bring in as many behind it as the device reads ahead, each to be zeroed (seen: 2 ms).
        memory.advise(Advice::Random)?;
        let ready_until = range.start;
        Ok(Self { memory, range, piece_bytes, ready_until, readied: now() })
    }

    /// Which part of the file it shows.
    pub(super) fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// How long ago the kernel was last asked for pages.
    pub(super) fn age(&self) -> Duration {
        self.readied.elapsed()
    }

    /// Stores the first of `bytes` at `offset` of the file, behind which nothing lies yet, as many as lie within the range,
    /// and gives how many. An error says that a page cannot be had, and nothing was stored.
    pub(super) fn store(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if !self.range.contains(&offset) {
            return Ok(0);
        }
        let at = usize::try_from(offset - self.range.start).map_err(io::Error::other)?;
        let count = bytes.len().min(self.memory.len().saturating_sub(at));
        if offset + count as u64 > self.ready_until {
            self.make_ready(file, offset, offset + count as u64)?;
        }
        // SAFETY:
        // * The target is `count` bytes from `at` of the mapping. It lies within: `at + count <= memory.len()`, by the
        //   minimum above, and if `at` were behind the end, `count` would be 0. The mapping is readable and writable for
        //   as long as `memory` lives, which `self` owns.
        // * The source is a slice of at least `count` bytes. They do not overlap: no reference to the mapping is ever
        //   made, here or elsewhere, so `bytes` lies outside of it.
        // * No other thread of this process touches the mapping: `self` is borrowed exclusively, and this is the only
        //   access. The kernel and other processes may read the pages or write to them meanwhile; nothing here depends
        //   on what they hold.
        // * If the file was cut off meanwhile, the kernel ends the process: that is no undefined behaviour.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().wrapping_add(at), count) };
        Ok(count)
    }

    /// Has the kernel make the pages writable that `from..until` lies in, and what is left of the last piece of it.
    ///
    /// Nothing lies behind `from` yet, so zeros may be written there. The kernel then takes the pages of a piece all at
    /// once; each by itself it would have to look for on the disk.
    fn make_ready(&mut self, file: &File, from: u64, until: u64) -> io::Result<()> {
        let from = from.max(self.ready_until);
        let until = until.next_multiple_of(self.piece_bytes).min(self.range.end);
        let within = |offset: u64| usize::try_from(offset - self.range.start).map_err(io::Error::other);
        let (start, end) = (within(from)?, within(until)?);
        let mut written = start;
        while let Some(zeros) = ZEROS.get(..end.saturating_sub(written).min(ZEROS.len())).filter(|it| !it.is_empty()) {
            write_all_at(file, zeros, self.range.start + written as u64)?;
            written += zeros.len();
        }
        self.memory.advise_range(Advice::PopulateWrite, start, end.saturating_sub(start))?;
        (self.ready_until, self.readied) = (until, now());
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a window's age decides which way bytes take, and nothing else")]
fn now() -> Instant {
    Instant::now()
}
