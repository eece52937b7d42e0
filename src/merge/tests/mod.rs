//! Sources in memory, a model of everything that was ever committed, and tests that hold one against the other.

mod collecting;
mod failing;
mod reading;
mod source;
mod world;

/// How often a random test is run, each time with its own seed.
const ROUNDS: u64 = 30;
