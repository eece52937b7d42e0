//! The command line: `strandline-torture <program> --minutes 10`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use strandline_torture::campaign::{self, Limits, Outcome};
use strandline_torture::fuzzing::{self, TARGETS, Target};
use strandline_torture::jobs::{self, FUZZ_SHARE, Job};
use strandline_torture::kills::{self, Orders};
use strandline_torture::ledger::Ledger;
use strandline_torture::mutants::{self, Choice};
use strandline_torture::sanitize::PARTS;
use strandline_torture::{programs, report};

/// Tries to make strandline lose something.
#[derive(Parser)]
#[command(version, after_help = about_programs())]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The ledger, where runs are added and where the next one goes on
    /// [default: ~/.local/state/strandline/torture.jsonl].
    #[arg(long, global = true)]
    ledger: Option<PathBuf>,
    /// Keep no ledger.
    #[arg(long, global = true)]
    no_ledger: bool,
}

#[derive(Subcommand)]
enum What {
    /// Shows what the ledger has for the code as it is.
    Ledger,
    /// Runs a share of every program, and of the fuzz targets where they can be built.
    All {
        /// How long, in all.
        #[arg(long)]
        minutes: f64,
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Plants faults, and sees whether they are found.
    Mutants {
        /// Only those with this in their name.
        #[arg(long)]
        named: Option<String>,
        /// Only syncs that lie.
        #[arg(long)]
        sync: bool,
        /// Only changes of the source, each of which is built.
        #[arg(long, conflicts_with = "sync")]
        code: bool,
        /// Begin nothing new after so long.
        #[arg(long)]
        minutes: Option<f64>,
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
    },
    /// Fuzzes, on nightly with cargo-fuzz; skipped where these are not to be had.
    Fuzz {
        /// Some of the targets in `fuzz/` [default: all].
        targets: Vec<String>,
        /// How long, in all.
        #[arg(long)]
        minutes: f64,
        /// How many at once [default: one for each core].
        #[arg(long)]
        jobs: Option<usize>,
    },
    /// Runs the parts of `.ci/sanitize`: checkers of schedules and of memory.
    Sanitize {
        /// Some of them [default: all].
        parts: Vec<String>,
        /// Hours rather than minutes.
        #[arg(long)]
        long: bool,
    },
    /// What the program `kills` kills.
    #[command(hide = true)]
    Victim(Orders),
    /// Runs one program (see below).
    #[command(external_subcommand)]
    One(Vec<String>),
}

/// When a program stops, and where it begins.
#[derive(Args)]
struct Length {
    /// How many rounds.
    #[arg(long)]
    rounds: Option<u64>,
    /// How long.
    #[arg(long)]
    minutes: Option<f64>,
    /// The seed of the first round [default: the first that the ledger does not have].
    #[arg(long)]
    first_seed: Option<u64>,
    /// How many rounds at once [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop at the first violation.
    #[arg(long)]
    stop_at_first: bool,
}

#[derive(Parser)]
struct OneProgram {
    #[command(flatten)]
    length: Length,
    #[arg(long)]
    ledger: Option<PathBuf>,
    #[arg(long)]
    no_ledger: bool,
}

fn about_programs() -> String {
    let lines = programs().into_iter().map(|(program, _)| format!("  {:<14} {}\n", program.name(), program.about()));
    format!(
        "Programs (each takes --rounds, --minutes, --first-seed, --jobs, --stop-at-first):\n{}",
        lines.collect::<String>()
    )
}

fn duration(minutes: f64) -> Duration {
    Duration::from_secs_f64((minutes * 60.0).max(0.0))
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

/// The target directory that this program was built in.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map_or_else(std::env::temp_dir, PathBuf::from)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn ledger(path: Option<PathBuf>, none: bool) -> Ledger {
    Ledger::new(if none { None } else { path.or_else(|| Some(Ledger::usual_path())) })
}

fn run(arguments: Arguments) -> std::io::Result<ExitCode> {
    let ledger = ledger(arguments.ledger, arguments.no_ledger);
    let good = match arguments.what {
        What::Ledger => {
            println!("{}", report::of_ledger(&jobs::all(), &ledger)?);
            true
        }
        What::All { minutes, jobs } => all(duration(minutes), jobs, &ledger)?,
        What::Mutants { named, sync, code, minutes, first_seed } => {
            let choice = Choice { named, sync: !code, code: !sync, time: minutes.map(duration), first_seed };
            mutants::run(&choice, &ledger, &target_dir())?
        }
        What::Fuzz { targets, minutes, jobs } => {
            let Some(targets) = chosen(&targets, &TARGETS, |target| target.name) else { return Ok(ExitCode::from(2)) };
            let rows = fuzz(&targets, duration(minutes), jobs, &ledger)?;
            if !rows.is_empty() {
                println!("{}", report::outcomes(&rows));
            }
            is_clean(&rows)
        }
        What::Sanitize { parts, long } => {
            let Some(parts) = chosen(&parts, &PARTS, |part| part.name) else { return Ok(ExitCode::from(2)) };
            let mut rows = Vec::new();
            for part in parts {
                rows.extend(part.run(long, &ledger)?.map(|outcome| (part.program, outcome)));
            }
            println!("{}", report::outcomes(&rows));
            is_clean(&rows)
        }
        What::Victim(orders) => return Ok(kills::live(&orders)),
        What::One(words) => one(&words, &ledger)?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Those that are named, or all if none is. `None`: there is none of such a name.
fn chosen<T>(names: &[String], all: &'static [T], name_of: impl Fn(&T) -> &str) -> Option<Vec<&'static T>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| name_of(one) != name.as_str())) {
        let known: Vec<&str> = all.iter().map(name_of).collect();
        eprintln!("there is no {unknown:?}, but {}", known.join(", "));
        return None;
    }
    let is_named = |one: &&T| names.is_empty() || names.iter().any(|name| name == name_of(one));
    Some(all.iter().filter(is_named).collect())
}

fn is_clean(rows: &[(&str, Outcome)]) -> bool {
    rows.iter().all(|(_, outcome)| outcome.violations.is_empty())
}

/// Every program for its share of the time, and the fuzz targets for theirs.
fn all(time: Duration, jobs: Option<usize>, ledger: &Ledger) -> std::io::Result<bool> {
    let programs = programs();
    let can_fuzz = fuzzing::missing().is_none();
    let shares = programs.iter().map(|(_, share)| share).sum::<u32>() + if can_fuzz { FUZZ_SHARE } else { 0 };
    let part = |share: u32| time.mul_f64(f64::from(share) / f64::from(shares));
    let mut rows = Vec::new();
    for (program, share) in &programs {
        let limits = Limits { time: Some(part(*share)), jobs, ..Limits::default() };
        rows.push((program.name(), campaign::run(&**program, &limits, ledger)?));
    }
    rows.extend(fuzz(&TARGETS.iter().collect::<Vec<_>>(), part(FUZZ_SHARE), jobs, ledger)?);
    println!("{}", report::outcomes(&rows));
    Ok(is_clean(&rows))
}

/// Nothing, where there is no toolchain for it.
fn fuzz(
    targets: &[&'static Target],
    time: Duration,
    jobs: Option<usize>,
    ledger: &Ledger,
) -> std::io::Result<Vec<(&'static str, Outcome)>> {
    if let Some(reason) = fuzzing::missing() {
        println!("skipped: fuzz, {reason}");
        return Ok(Vec::new());
    }
    let ran = fuzzing::run(targets, time, jobs.unwrap_or_else(cores), ledger)?;
    Ok(ran.into_iter().map(|(target, outcome)| (target.program, outcome)).collect())
}

/// One program that does rounds.
fn one(words: &[String], ledger: &Ledger) -> std::io::Result<bool> {
    let Some((program, _)) = programs().into_iter().find(|(program, _)| program.name() == words[0]) else {
        eprintln!("there is no program {:?}\n\n{}", words[0], about_programs());
        return Ok(false);
    };
    let one = OneProgram::parse_from(words);
    let length = one.length;
    if length.rounds.is_none() && length.minutes.is_none() && !length.stop_at_first {
        eprintln!("say --rounds, --minutes or --stop-at-first");
        return Ok(false);
    }
    let limits = Limits {
        rounds: length.rounds,
        time: length.minutes.map(duration),
        first_seed: length.first_seed,
        jobs: length.jobs,
        stop_at_first: length.stop_at_first,
        quiet: false,
    };
    let ledger = match (one.ledger, one.no_ledger) {
        (_, true) => Ledger::new(None),
        (Some(path), _) => Ledger::new(Some(path)),
        (None, _) => ledger.clone(),
    };
    let outcome = campaign::run(&*program, &limits, &ledger)?;
    let good = outcome.violations.is_empty();
    println!("{}", report::outcomes(&[(program.name(), outcome)]));
    if let Some(path) = ledger.path() {
        println!("in the ledger {}:\n{}", path.display(), report::of_ledger(&[Job::Rounds(program)], &ledger)?);
    }
    Ok(good)
}
