//! Planted faults: a checker counts only if it finds them.
//!
//! *Sync mutants* lie in the simulated disk ([`Lie`](crate::disk::Lie)): a sync does nothing and says that it did.
//! *Code mutants* are changes of the engine's source, each applied to a copy of this checkout that is then built and
//! tried: by a program, or, where only the order of steps shows the fault, by the tests behind a model checker. The
//! engine itself has no switch for any of them.

pub mod code;
mod order;
mod scratch;
pub mod sync;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::Table;

use crate::campaign::Counts;
use crate::ledger::{self, Entry, Ledger};

/// What became of a planted fault.
#[derive(Debug, Clone)]
pub struct Found {
    pub name: String,
    /// The program that was to find it.
    pub program: String,
    /// What the program did until it did find it; nothing, if it did not.
    pub caught_after: Option<String>,
    /// Why.
    pub message: String,
    pub seconds: u64,
}

/// Which mutants, and how.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only those whose name has this in it.
    pub named: Option<String>,
    pub sync: bool,
    pub code: bool,
    /// Nothing more is begun then.
    pub time: Option<Duration>,
    pub first_seed: u64,
}

/// Tries the mutants, prints what became of each, and adds it to the ledger. Gives whether each was caught.
///
/// # Errors
/// The copy cannot be made, or the ledger not be written.
pub fn run(choice: &Choice, ledger: &Ledger, target: &Path) -> io::Result<bool> {
    let began = Instant::now();
    let wanted = |name: &str| choice.named.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let in_time = || choice.time.is_none_or(|time| began.elapsed() < time);
    let mut found = Vec::new();
    if choice.sync {
        for mutant in sync::mutants().into_iter().filter(|mutant| wanted(&mutant.name)).take_while(|_| in_time()) {
            found.push(show(sync::run(&mutant, choice.first_seed)?));
        }
    }
    if choice.code {
        let mutants: Vec<_> = code::MUTANTS.iter().filter(|mutant| wanted(mutant.name)).collect();
        let order: Vec<_> = order::MUTANTS.iter().filter(|mutant| wanted(mutant.name)).collect();
        if !mutants.is_empty() || !order.is_empty() {
            let scratch = scratch::Scratch::make(target)?;
            for mutant in mutants.into_iter().take_while(|_| in_time()) {
                found.push(show(scratch.run(mutant, choice.first_seed)?));
            }
            for mutant in order.into_iter().take_while(|_| in_time()) {
                found.push(show(scratch.run_tests(mutant)?));
            }
        }
    }
    let caught = found.iter().filter(|one| one.caught_after.is_some()).count() as u64;
    let planted = found.len() as u64;
    let mut counts = Counts::default();
    counts.add("planted", planted);
    counts.add("caught", caught);
    ledger.add(&Entry {
        program: "mutants".to_owned(),
        commit: ledger::commit(),
        code: ledger::code(&[]),
        at: ledger::now(),
        seconds: began.elapsed().as_secs(),
        first_seed: choice.first_seed,
        rounds: planted,
        violations: planted - caught,
        counts,
        ..Entry::default()
    })?;
    println!("{}\ncaught {caught} of {planted}", table(&found));
    Ok(caught == planted)
}

fn show(found: Found) -> Found {
    let what = found.caught_after.as_deref().unwrap_or("NOT CAUGHT");
    eprintln!("{}: {what} ({}, {} s)", found.name, found.program, found.seconds);
    found
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["planted", "program", "caught after", "seconds", "as"]);
    for one in found {
        let message: String = one.message.lines().nth(1).unwrap_or(&one.message).chars().take(60).collect();
        let after = one.caught_after.clone().unwrap_or_else(|| "NOT CAUGHT".to_owned());
        table.add_row([one.name.clone(), one.program.clone(), after, one.seconds.to_string(), message]);
    }
    table
}
