//! Short forms of the programs, as tests.

use strandline_torture::busy_cuts::BusyCuts;
use strandline_torture::campaign::{Counts, Program};
use strandline_torture::life::Runner;
use strandline_torture::power_cuts::PowerCuts;
use strandline_torture::random_lives::RandomLives;
use strandline_torture::story;

fn rounds(program: &dyn Program, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err((message, told)) = story::listen(|| program.round(seed, &mut Counts::default())) {
            told.iter().for_each(|line| eprintln!("{line}"));
            panic!("{} --first-seed {seed} --rounds 1: {message}", program.name());
        }
    }
}

// S1 S2 S3 S4 S5 S6 S7 S10 S11 S16 S19 S20 S21 S22 S23 S25 S28 S29 S30
#[test]
fn the_database_agrees_with_the_model() {
    rounds(&RandomLives, 1..13);
}

// S6 S11 S17 S21 S23 S28 S29
#[test]
fn what_was_promised_survives_power_cuts() {
    rounds(&PowerCuts::default(), 1..31);
}

// S6 S11 S21 S22
#[test]
fn what_was_promised_survives_crashes_among_threads() {
    rounds(&BusyCuts, 1..6);
}

#[test]
fn the_same_seed_makes_the_same_file_calls() {
    let trace = |seed| {
        let mut life = Runner::of_seed(seed);
        life.keep_trace();
        for _ in 0..300 {
            life.step();
        }
        life.into_trace()
    };
    for seed in [1, 2, 3] {
        let (once, again) = (trace(seed), trace(seed));
        assert!(once.len() > 100, "seed {seed}: {} calls", once.len());
        let same = once.iter().zip(&again).take_while(|(a, b)| a == b).count();
        assert_eq!((once.get(same), once.len()), (again.get(same), again.len()), "seed {seed}, call {same}");
    }
}
