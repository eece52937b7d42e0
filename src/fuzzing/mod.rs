//! What the targets in `fuzz/` call. Only builds with `--cfg fuzzing` have it.
//!
//! Each target takes the bytes that the fuzzer made, and panics where a promise is broken. It gives how many bytes it
//! had to deal with: no more memory than in proportion to them may have been taken meanwhile (S27).
//!
//! Random bytes do not pass a checksum. So each target knows inputs as they are, and inputs that it *seals*: there, a
//! checksum field of four zeros is filled with the right checksum, whatever the bytes are that it stands over. Any other
//! value in the field is left alone, and fails as damage does.

#![allow(clippy::indexing_slicing, reason = "a promise that is broken is a panic here")]

mod choices;
mod seeds;

pub(crate) use choices::{Choices, damage, pieces, pieces_of};
pub use seeds::{Seed, seeds};

pub use crate::log::fuzzing::log;
pub use crate::manifest::fuzzing::manifest;
pub use crate::table::fuzzing::{block, table};

/// How many decoders [`decoders`] knows.
const DECODERS: u8 = 16;

/// One of the decoders that belong to no target of their own; the first byte says which.
pub fn decoders(input: &[u8]) -> usize {
    let Some((which, bytes)) = input.split_first() else { return 0 };
    match which % DECODERS {
        0 => crate::format::fuzzing::numbers(bytes),
        1 => crate::format::fuzzing::names(bytes),
        2 => crate::format::fuzzing::decompress(bytes),
        3 => crate::format::fuzzing::compress(bytes),
        4 => crate::table::fuzzing::meta(bytes),
        5 => crate::table::fuzzing::footer(bytes),
        6 => crate::table::fuzzing::handles(bytes),
        7 => crate::table::fuzzing::filter_of_keys(bytes),
        8 => crate::table::fuzzing::separator_of_keys(bytes),
        9 => crate::manifest::fuzzing::current(bytes),
        10 => crate::manifest::fuzzing::options(bytes),
        11 => crate::manifest::fuzzing::edit(bytes),
        12 => crate::manifest::fuzzing::frame(bytes),
        13 => crate::log::fuzzing::record(bytes),
        14 => crate::log::fuzzing::segment_header(bytes),
        _ => crate::db::fuzzing::operations(bytes),
    }
    bytes.len()
}
