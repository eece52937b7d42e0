//! Programs that try to make strandline lose something, and a ledger of what they tried.
//!
//! Each [`Program`] does rounds, one a seed, and a round that finds a fault panics. A
//! [campaign] runs rounds on all cores, until so many are done or so many minutes have passed, and adds what
//! it did to the [ledger], where the next run of it goes on.
#![allow(missing_docs, reason = "programs, not a library for others")]

pub mod allocations;
pub mod busy_cuts;
pub mod campaign;
pub mod corruption;
pub mod disk;
pub mod disk_full;
pub mod faults;
pub mod fuzzing;
pub mod isolation;
pub mod jobs;
pub mod kills;
pub mod ledger;
pub mod life;
pub mod mutants;
pub mod option_sets;
pub mod power_cuts;
pub mod random;
pub mod random_lives;
pub mod report;
pub mod sanitize;
pub mod small_disk;
pub mod story;
pub mod stress;

use campaign::Program;

/// All programs that do rounds, with the share of the time that `all` gives each.
pub fn programs() -> Vec<(Box<dyn Program>, u32)> {
    vec![
        (Box::new(random_lives::RandomLives), 20),
        (Box::new(power_cuts::PowerCuts::default()), 30),
        (Box::new(busy_cuts::BusyCuts), 10),
        (Box::new(stress::Stress), 10),
        (Box::new(isolation::Isolation), 10),
        (Box::new(kills::Kills::default()), 20),
        (Box::new(faults::Faults), 20),
        (Box::new(disk_full::DiskFull), 10),
        (Box::new(corruption::Corruption::default()), 20),
        (Box::new(option_sets::OptionSets), 20),
    ]
}
