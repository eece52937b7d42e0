//! The same operations under many sets of options give the same answers.
//!
//! Nothing here knows what is right: every database is asked the same, and must answer as the first one does, which
//! never leaves its memtables. Sets differ in sizes, codecs, filters, cache, files, threads, clock, durability, in how
//! long they retain, and in when they flush, compact, reopen and are killed. All timestamps are given, or follow from
//! those given.
//!
//! - `story`: what is done, to all of them.
//! - `set`: a set of options and habits.
//! - `database`: one database under a set.
//! - `question`: what is asked, and what answers are compared.

mod database;
mod question;
mod set;
mod story;

use crate::campaign::{Counts, Program};

pub struct OptionSets;

impl Program for OptionSets {
    fn name(&self) -> &'static str {
        "options"
    }

    fn about(&self) -> &'static str {
        "the same operations under many sets of options, each answer the same under all"
    }

    // S1 S2 S3 S4 S5 S6 S7 S16
    fn round(&self, seed: u64, counts: &mut Counts) {
        story::Story::of_seed(seed).run(counts);
    }
}
