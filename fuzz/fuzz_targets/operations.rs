#![no_main]

use strandline_fuzz::{Bound, run};
use strandline_torture::life::Runner;
use strandline_torture::random::Random;

/// Of no use here: memtables, caches and the model are as large as the life makes them.
const BOUND: Bound = Bound { per_byte: 64 << 10, fixed: 256 << 20 };

/// A life longer than this says little more, and takes long.
const MOST_STEPS: usize = 300;

// A life whose choices the input makes, beside a model; it ends when the input is used up.
libfuzzer_sys::fuzz_target!(|input: &[u8]| run(BOUND, input, |input| {
    // Sizes and keys follow from two bytes: drawn from the input they would leave little of it for the life.
    let (settings, choices) = input.split_at(input.len().min(2));
    let seed = settings.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let mut life = Runner::new(Random::of_seed(seed), None);
    life.random = Random::of_bytes(choices);
    for _ in 0..MOST_STEPS {
        if life.random.is_spent() {
            break;
        }
        life.step();
    }
    life.compact_below_snapshots();
    life.check_everything();
    life.reopen();
    life.check_everything();
    input.len()
}));
