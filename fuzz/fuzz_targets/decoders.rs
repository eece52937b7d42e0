#![no_main]

use strandline_fuzz::{Bound, run};

/// The codecs keep their tables; decompressing gives no more than 64 KiB.
const BOUND: Bound = Bound { per_byte: 100, fixed: 3 << 20 };

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, strandline::fuzzing::decoders));
