#![no_main]

use strandline_fuzz::{Bound, run};

/// The target keeps the segments and the commits; recovery holds a window.
const BOUND: Bound = Bound { per_byte: 100, fixed: 1 << 20 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::log));
