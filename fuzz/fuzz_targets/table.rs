#![no_main]

use strandline_fuzz::{Bound, run};

/// A stored block may be as much smaller than its payload (`MAX_RATIO`), and what grows may be held twice over for a
/// moment. Of an input of 2 KiB this is less than the largest block that a handle may speak of.
const BOUND: Bound = Bound { per_byte: 3 << 15, fixed: 1 << 20 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::table));
