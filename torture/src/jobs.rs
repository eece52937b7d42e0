//! Everything that the ledger knows by a name, whatever runs it.

use crate::campaign::Program;
use crate::fuzzing::{self, Target};
use crate::sanitize::{self, Part};

pub enum Job {
    /// Rounds, one a seed, by [`campaign`](crate::campaign).
    Rounds(Box<dyn Program>),
    /// A fuzz target.
    Fuzz(&'static Target),
    /// A part of `.ci/sanitize`.
    Sanitize(&'static Part),
    /// Planted faults.
    Mutants,
}

impl Job {
    pub fn name(&self) -> &str {
        match self {
            Self::Rounds(program) => program.name(),
            Self::Fuzz(target) => target.program,
            Self::Sanitize(part) => part.program,
            Self::Mutants => "mutants",
        }
    }

    /// See [`Program::covers`].
    pub fn covers(&self) -> &'static [&'static str] {
        match self {
            Self::Rounds(program) => program.covers(),
            Self::Fuzz(target) => target.covers,
            Self::Sanitize(_) | Self::Mutants => &[],
        }
    }
}

/// All of them.
pub fn all() -> Vec<Job> {
    let rounds = crate::programs().into_iter().map(|(program, _)| Job::Rounds(program));
    let others = fuzzing::TARGETS.iter().map(Job::Fuzz).chain(sanitize::PARTS.iter().map(Job::Sanitize));
    rounds.chain(others).chain([Job::Mutants]).collect()
}

/// The share of the time that `all` gives to the fuzz targets together; see [`programs`](crate::programs).
pub const FUZZ_SHARE: u32 = 40;
