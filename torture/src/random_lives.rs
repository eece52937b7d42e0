//! Lives of everything at once, each answer held against the model.

use crate::campaign::{Counts, Program};
use crate::life::Runner;

pub struct RandomLives;

const OPERATIONS: u64 = 500;

impl Program for RandomLives {
    fn name(&self) -> &'static str {
        "lives"
    }

    fn about(&self) -> &'static str {
        "random operations, held iterators, crashes; each answer held against a model"
    }

    // S1 S2 S3 S4 S5 S6 S7 S10 S11 S16 S19 S20 S21 S22 S23 S25 S28 S29 S30
    fn round(&self, seed: u64, counts: &mut Counts) {
        let mut life = Runner::of_seed(seed);
        for _ in 0..OPERATIONS {
            life.step();
            counts.add("operations", 1);
        }
        life.compact_below_snapshots();
        life.check_everything();
        life.reopen();
    }
}
