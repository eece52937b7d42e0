//! The power goes at any file call, and again while the database recovers.

use rand::RngExt;

use crate::campaign::{Counts, Program};
use crate::disk::Lie;
use crate::life::Runner;
use crate::random::Random;

#[derive(Debug, Default)]
pub struct PowerCuts {
    /// What the disk lies about, to see that a lie is found out.
    pub lie: Option<Lie>,
    /// Whether it lies once in a life, at a moment that the seed decides.
    pub one_lie: bool,
}

/// Of one life. Later ones come on top of all that the earlier have left.
const CUTS: u64 = 12;

impl Program for PowerCuts {
    fn name(&self) -> &'static str {
        "power-cuts"
    }

    fn about(&self) -> &'static str {
        "the power goes at any file call, three times deep; what was promised is there"
    }

    // S6 S11 S17 S21 S23 S28 S29
    fn round(&self, seed: u64, counts: &mut Counts) {
        let mut random = Random::of_seed(seed);
        let lie = if self.one_lie { Some(Lie::One(random.random_range(0..200))) } else { self.lie };
        let mut life = Runner::new(random, lie);
        let mut cuts = 0;
        while cuts < CUTS {
            for _ in 0..life.random.random_range(0..20) {
                life.work_step();
                counts.add("operations", 1);
            }
            let now = life.power_cut();
            counts.add("cuts", now);
            cuts += now;
            for _ in 0..5 {
                life.read();
            }
        }
    }
}
