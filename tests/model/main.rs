//! Random operations through the public API, compared with a model that keeps everything.
//!
//! A run depends on its seed alone: files are in memory, time stands still until it is moved, background work is done
//! when the run says so. `MODEL_SEEDS` and `MODEL_OPS` say how many runs of how many operations, `MODEL_FIRST_SEED`
//! where to start. A failure prints its seed and the last operations.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

mod crash;
mod fault;
mod held;
mod model;
mod read;
mod runner;
mod settings;
mod write;

use crate::runner::Runner;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

// S1 S2 S3 S4 S5 S6 S7 S10 S11 S16 S19 S20 S21 S22 S23 S25 S28 S29 S30
#[test]
fn the_database_agrees_with_the_model() {
    let first = number("MODEL_FIRST_SEED", 1);
    for seed in first..first + number("MODEL_SEEDS", 12) {
        let mut runner = Runner::new(seed, false);
        for _ in 0..number("MODEL_OPS", 500) {
            runner.step();
        }
        runner.check_everything();
        runner.reopen();
    }
}

#[test]
fn the_same_seed_makes_the_same_file_calls() {
    let trace = |seed| {
        let mut runner = Runner::new(seed, true);
        for _ in 0..300 {
            runner.step();
        }
        runner.into_trace()
    };
    for seed in [1, 2, 3] {
        let (once, again) = (trace(seed), trace(seed));
        assert!(once.len() > 100, "seed {seed}: {} calls", once.len());
        let same = once.iter().zip(&again).take_while(|(a, b)| a == b).count();
        assert_eq!((once.get(same), once.len()), (again.get(same), again.len()), "seed {seed}, call {same}");
    }
}
