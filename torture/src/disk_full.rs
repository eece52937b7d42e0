//! The disk gets full, at any amount and moment, and is given room again.

use rand::RngExt;

use crate::campaign::{Counts, Program};
use crate::life::Runner;
use crate::random::Random;
use crate::small_disk;

pub struct DiskFull;

/// In one round of so many, the disk is a real one.
const REAL: u64 = 20;
/// Of one life.
const TIMES: u64 = 6;

impl Program for DiskFull {
    fn name(&self) -> &'static str {
        "disk-full"
    }

    fn about(&self) -> &'static str {
        "the disk gets full; reads go on, and with room again everything does"
    }

    // S24 S26 S29 S38
    fn round(&self, seed: u64, counts: &mut Counts) {
        if seed.is_multiple_of(REAL) {
            return small_disk::round(seed / REAL, counts);
        }
        let mut life = Runner::new(Random::of_seed(seed), None);
        for _ in 0..TIMES {
            for _ in 0..life.random.random_range(0..20) {
                life.work_step();
            }
            life.fill_disk(counts);
        }
        life.reopen();
        life.check_files();
    }
}
