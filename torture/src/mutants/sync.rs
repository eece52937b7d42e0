//! Syncs that do nothing and say that they did.

use std::time::Instant;

use strandline::fs::Purpose;

use super::Found;
use crate::campaign::{self, Counts, Limits, Program};
use crate::disk::Lie;
use crate::ledger::Ledger;
use crate::power_cuts::PowerCuts;

/// A lie that the power cuts must find out.
pub struct SyncMutant {
    pub name: String,
    pub program: PowerCuts,
}

/// So many cuts must do.
const CUTS: u64 = 2000;
/// The name of a manifest is lost only where the power goes between two calls, the renaming of `CURRENT` and the sync behind
/// it, which syncs the manifest's name as well: one cut in some 5,000.
const CUTS_OF_MANIFESTS: u64 = 20_000;

pub fn mutants() -> Vec<SyncMutant> {
    let purposes = [Purpose::Log, Purpose::Manifest, Purpose::Current, Purpose::Flush, Purpose::Compaction];
    let files =
        purposes.into_iter().map(|purpose| (format!("sync: no file for {purpose:?}"), Some(Lie::Files(purpose))));
    let directories = [Purpose::Directory, Purpose::Manifest, Purpose::Current, Purpose::Flush, Purpose::Compaction];
    let directories = directories
        .into_iter()
        .map(|purpose| (format!("sync: no directory for {purpose:?}"), Some(Lie::Directories(Some(purpose)))));
    let all = [("sync: no directory".to_owned(), Some(Lie::Directories(None)))];
    let mut mutants: Vec<_> = files
        .chain(directories)
        .chain(all)
        .map(|(name, lie)| SyncMutant { name, program: PowerCuts { lie, one_lie: false } })
        .collect();
    let program = PowerCuts { lie: None, one_lie: true };
    mutants.push(SyncMutant { name: "sync: one in a life that lies".to_owned(), program });
    mutants
}

/// # Errors
/// None that are known: nothing is kept in a ledger.
pub fn run(mutant: &SyncMutant, first_seed: u64) -> std::io::Result<Found> {
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut seed = first_seed;
    let mut message = None;
    let rare = mutant.program.lie == Some(Lie::Directories(Some(Purpose::Manifest)));
    let most = if rare { CUTS_OF_MANIFESTS } else { CUTS };
    while counts.get("cuts") < most && message.is_none() {
        let limits =
            Limits { rounds: Some(1), first_seed: Some(seed), stop_at_first: true, quiet: true, ..Limits::default() };
        let outcome = campaign::run(&mutant.program, &limits, &Ledger::new(None))?;
        counts.add_all(&outcome.counts);
        message = outcome.violations.into_iter().next().map(|(_, message)| message);
        seed += 1;
    }
    Ok(Found {
        name: mutant.name.clone(),
        program: mutant.program.name().to_owned(),
        caught_after: message.is_some().then(|| counts.to_string()),
        message: message.unwrap_or_default(),
        seconds: began.elapsed().as_secs(),
    })
}
