//! A short form of the kills, as a test of its own: it needs the program that is killed.

use std::path::PathBuf;

use strandline_torture::campaign::{Counts, Program};
use strandline_torture::kills::Kills;
use strandline_torture::story;

// S6 S11 S22 S29 S30
#[test]
fn what_was_acknowledged_survives_kills() {
    let kills = Kills { program: Some(PathBuf::from(env!("CARGO_BIN_EXE_strandline-torture"))) };
    let mut counts = Counts::default();
    for seed in 1..8 {
        if let Err((message, told)) = story::listen(|| kills.round(seed, &mut counts)) {
            told.iter().for_each(|line| eprintln!("{line}"));
            panic!("{} --first-seed {seed} --rounds 1: {message}", kills.name());
        }
    }
    assert!(counts.get("kills") > 20 && counts.get("acknowledged commits found") > 100, "{counts}");
}
