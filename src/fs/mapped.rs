//! A part of a file in memory, to store into: the one place with unsafe code in `fs/`.
//!
//! The memory is never lent out as a slice, for it is the kernel's as well, and any process's that has the file open.
//! Only [`Window::store`] touches it, by its address.
//!
//! A store cannot fail, it can only end the process (SIGBUS). So what could make it fail is asked for before, where an
//! error can be told: the file has its blocks already ([`may_be_mapped`]: file systems that overwrite them in place),
//! and [`Window::over`] has the kernel make every page of the window writable. What remains is written in DESIGN.md.

#![allow(unsafe_code)]
#![expect(clippy::disallowed_types, reason = "this and its neighbours are the places that touch files")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// From linux/magic.h; ext4 stands for ext2 and ext3 too, which have no preallocation.
const EXT4: i128 = 0xef53;
const XFS: i128 = 0x5846_5342;
const TMPFS: i128 = 0x0102_1994;

/// Whether a store into preallocated room of this file needs no block that is not there. Where it is not known, none may
/// be: a file system that copies on write takes new blocks for each.
pub(super) fn may_be_mapped(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|system| [EXT4, XFS, TMPFS].contains(&i128::from(system.f_type)))
}

/// A part of a file that can be stored into.
pub(super) struct Window {
    memory: MmapRaw,
    range: Range<u64>,
    made: Instant,
}

impl Window {
    /// Shows `range` of a file that is at least so long, to store into from `from` on. Whoever cuts the file off within
    /// it has to drop the window first.
    pub(super) fn over(file: &File, range: Range<u64>, from: u64) -> io::Result<Self> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(too_long)?;
        let skipped = usize::try_from(from.saturating_sub(range.start)).map_err(too_long)?.min(len);
        let memory = MmapOptions::new().offset(range.start).len(len).map_raw(file)?;
        // Else the first page would bring in as many behind it as the device reads ahead, each to be zeroed (seen: 2 ms).
        memory.advise(Advice::Random)?;
        memory.advise_range(Advice::PopulateWrite, skipped, len - skipped)?;
        #[expect(clippy::disallowed_methods, reason = "its age decides which way bytes take, and nothing else")]
        let made = Instant::now();
        Ok(Self { memory, range, made })
    }

    /// Which part of the file it shows.
    pub(super) fn range(&self) -> &Range<u64> {
        &self.range
    }

    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// Stores the first of `bytes` at `offset` of the file, as many as the window has room for, and gives how many.
    pub(super) fn store(&mut self, offset: u64, bytes: &[u8]) -> usize {
        if !self.range.contains(&offset) {
            return 0;
        }
        let Ok(at) = usize::try_from(offset - self.range.start) else { return 0 };
        let Some(room) = self.memory.len().checked_sub(at) else { return 0 };
        let count = bytes.len().min(room);
        // SAFETY:
        // * The target is `count` bytes from `at` of the mapping: `at + count <= memory.len()` by the two lines above. It
        //   is mapped readable and writable for as long as `memory` lives, which `self` owns.
        // * The source is a slice of at least `count` bytes. They do not overlap: no reference to the mapping is ever
        //   made, here or elsewhere, so `bytes` lies outside of it.
        // * No other thread of this process touches the mapping: `self` is borrowed exclusively, and this is the only
        //   access. The kernel and other processes may read the pages or write to them meanwhile; nothing here depends
        //   on what they hold.
        // * If the file was cut off meanwhile, the kernel ends the process: that is no undefined behaviour.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().add(at), count) };
        count
    }
}
