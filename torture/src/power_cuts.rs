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

    // S6 S11 S17 S21 S23 S25 S28 S29
    fn round(&self, seed: u64, counts: &mut Counts) {
        self.live(seed, counts);
    }
}

impl PowerCuts {
    /// One life, to its end.
    fn live(&self, seed: u64, counts: &mut Counts) -> Runner {
        let mut random = Random::of_seed(seed);
        let lie = if self.one_lie { Some(Lie::One(random.random_range(0..200))) } else { self.lie };
        let mut life = Runner::new(random, lie);
        let mut cuts = 0;
        while cuts < CUTS {
            for _ in 0..life.random.random_range(0..20) {
                life.work_step();
                counts.add("operations", 1);
            }
            if life.random.random_range(0..4) == 0 {
                life.kill();
                counts.add("kills", 1);
                for _ in 0..life.random.random_range(0..5) {
                    life.work_step();
                }
            }
            let now = life.power_cut();
            counts.add("cuts", now);
            cuts += now;
            for _ in 0..5 {
                life.read();
            }
        }
        life
    }
}

#[cfg(test)]
mod tests {
    use strandline::fs::{Operation, Purpose};

    use super::*;
    use crate::life::Kinds;

    #[test]
    fn the_power_goes_at_every_kind_of_call() {
        let (mut called, mut failed) = (Kinds::new(), Kinds::new());
        for seed in 1..160 {
            let life = PowerCuts::default().live(seed, &mut Counts::default());
            called.extend(&life.places.called);
            failed.extend(&life.places.failed);
        }
        // What has failed is removed: never the first call to fail.
        let cleanup = |(purpose, operation): &(Purpose, Operation)| {
            *operation == Operation::Remove
                && matches!(purpose, Purpose::Manifest | Purpose::Current | Purpose::Flush | Purpose::Compaction)
        };
        let left_out: Vec<_> = called.difference(&failed).filter(|kind| !cleanup(kind)).collect();
        assert!(left_out.is_empty(), "{left_out:?}");
        assert!(called.len() > 25, "{called:?}");
    }
}
