//! In place of `mapped.rs` where files are not mapped: other systems than Linux, and Miri. There are no windows here.

#![expect(clippy::disallowed_types, reason = "this and its neighbours are the places that touch files")]

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Duration;

pub(super) fn may_be_mapped(_file: &File) -> bool {
    false
}

pub(super) struct Window(Infallible);

impl Window {
    pub(super) fn over(_file: &File, _range: Range<u64>, _piece_bytes: u64) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn range(&self) -> &Range<u64> {
        match self.0 {}
    }

    pub(super) fn age(&self) -> Duration {
        match self.0 {}
    }

    pub(super) fn store(&mut self, _file: &File, _offset: u64, _bytes: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }
}
