#![no_main]

use strandline_fuzz::{Bound, run};

/// A stored block may be as much smaller than its payload (`MAX_RATIO`); few are held at once.
const BOUND: Bound = Bound { per_byte: 4 << 15, fixed: 1 << 20 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::table));
