#![no_main]

use strandline_fuzz::{Bound, run};

/// The target keeps a state several times, and the file that it writes.
const BOUND: Bound = Bound { per_byte: 400, fixed: 64 << 10 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::manifest));
