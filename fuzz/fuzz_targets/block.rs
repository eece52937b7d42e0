#![no_main]

use strandline_fuzz::{Bound, run};

/// A block is copied, its rows are put together one interval at a time, and the target keeps what it saw.
const BOUND: Bound = Bound { per_byte: 200, fixed: 16 << 10 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::block));
