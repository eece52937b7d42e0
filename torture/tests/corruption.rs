//! Short forms of what damages databases, and of what opens them under many options.

use strandline_torture::campaign::{Counts, Program};
use strandline_torture::corruption::Corruption;
use strandline_torture::option_sets::OptionSets;
use strandline_torture::story;

fn rounds(program: &dyn Program, seeds: impl Iterator<Item = u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        if let Err((message, told)) = story::listen(|| program.round(seed, &mut counts)) {
            told.iter().for_each(|line| eprintln!("{line}"));
            panic!("{} --first-seed {seed} --rounds 1: {message}", program.name());
        }
    }
    counts
}

// S27 S28
#[test]
fn damage_anywhere_gives_the_right_answer_or_corruption() {
    // In turn of a database that was closed and of one that was killed.
    let counts = rounds(&Corruption::default(), 0..10);
    for kind in ["refused", "right", "cut", "found by reads", "open: goes on"] {
        assert!(counts.get(kind) > 0, "{counts}");
    }
}

// S27
#[test]
fn specimens_of_many_seeds_have_everything_in_them() {
    for number in 0..24 {
        let (bytes, damages) = Corruption::default().size(number);
        assert!(bytes > 16 << 10 && damages > 5 * bytes, "{bytes} bytes, {damages} damages");
    }
}

// S1 S2 S3 S4 S5 S6 S7 S16
#[test]
fn options_change_no_answer() {
    let counts = rounds(&OptionSets, 1..7);
    assert!(counts.get("sets") > 40 && counts.get("answers") > 10_000, "{counts}");
}
