//! Loads the history of a git repository, one batch a commit, and checks every kind of read against git.
//!
//! ```text
//! cargo run --release --example git_history -- [REPOSITORY] [--db DIR] [--samples N] [--commits N]
//! ```
//!
//! Each first-parent commit becomes one batch at its position (from 1): path → content. A symlink's content is its
//! target; submodules are left out. Then snapshots at sampled commits must be git's trees, the history of the busiest
//! path must be git's log, and after the first half was given up, all that must still hold from the middle on.

#![allow(
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a program, not the library"
)]

mod check;
mod git;
mod load;
mod run;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use strandline::{KeyspaceOptions, Options};

use crate::git::{Repository, Result};
use crate::run::{Settings, Summary, run};

const USAGE: &str = "usage: git_history [REPOSITORY] [--db DIR] [--samples N] [--commits N]";

struct Arguments {
    repository: PathBuf,
    db: Option<PathBuf>,
    samples: usize,
    commits: usize,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = std::ffi::OsString>) -> Result<Self> {
        let mut arguments = Self { repository: ".".into(), db: None, samples: 10, commits: usize::MAX };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{} wants a value", argument.display()));
            match argument.to_str() {
                Some("--db") => arguments.db = Some(value()?.into()),
                Some("--samples") => arguments.samples = number(&value()?)?,
                Some("--commits") => arguments.commits = number(&value()?)?,
                Some(flag) if flag.starts_with('-') => return Err(USAGE.into()),
                _ => arguments.repository = argument.into(),
            }
        }
        Ok(arguments)
    }
}

fn number(text: &std::ffi::OsStr) -> Result<usize> {
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => Err(format!("{} is no number above 0", text.display()).into()),
    }
}

fn start() -> Result<Summary> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    let repository = Repository::open(&arguments.repository)?;
    let temporary = if arguments.db.is_none() { Some(tempfile::tempdir()?) } else { None };
    let dir = arguments.db.as_deref().or(temporary.as_ref().map(|dir| dir.path())).unwrap_or(Path::new("."));
    let settings = Settings {
        options: Options::new(),
        keyspace: KeyspaceOptions::new(),
        samples: arguments.samples,
        commits: arguments.commits,
    };
    run(&repository, dir, settings, &mut show)
}

/// One line that is written over, where a terminal can do that.
fn show(progress: &str) {
    let mut stderr = std::io::stderr();
    let end = if stderr.is_terminal() { "\x1b[K\r" } else { "\n" };
    // Progress that cannot be shown is no reason to stop.
    let _ = write!(stderr, "{progress}{end}");
}

fn main() -> ExitCode {
    match start() {
        Ok(summary) => {
            print!("{summary}");
            summary.differences.iter().take(20).for_each(|difference| eprintln!("{difference}"));
            if summary.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("git_history: {error}");
            ExitCode::FAILURE
        }
    }
}
