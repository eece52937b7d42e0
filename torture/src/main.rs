//! The command line: `strandline-torture <program> --minutes 10`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use comfy_table::Table;
use strandline_torture::campaign::{self, Limits, Outcome, Program};
use strandline_torture::kills::{self, Orders};
use strandline_torture::ledger::{self, Ledger, Sum};
use strandline_torture::mutants::{self, Choice};
use strandline_torture::programs;

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
    /// Runs a share of every program.
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
    let arguments = Arguments::parse();
    if let What::Victim(orders) = &arguments.what {
        return kills::live(orders);
    }
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// The target directory that this program was built in.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map_or_else(std::env::temp_dir, PathBuf::from)
}

fn ledger(path: Option<PathBuf>, none: bool) -> Ledger {
    Ledger::new(if none { None } else { path.or_else(|| Some(Ledger::usual_path())) })
}

/// Whether there was no violation.
fn run(arguments: Arguments) -> std::io::Result<bool> {
    match arguments.what {
        What::Ledger => show_ledger(&ledger(arguments.ledger, false)),
        What::All { minutes, jobs } => {
            let ledger = ledger(arguments.ledger, arguments.no_ledger);
            let programs = programs();
            let shares: u32 = programs.iter().map(|(_, share)| share).sum();
            let mut table = outcome_table();
            let mut good = true;
            for (program, share) in &programs {
                let time = duration(minutes * f64::from(*share) / f64::from(shares));
                let limits = Limits { time: Some(time), jobs, ..Limits::default() };
                let outcome = campaign::run(&**program, &limits, &ledger)?;
                good &= outcome.violations.is_empty();
                add_outcome(&mut table, &**program, &outcome);
            }
            println!("{table}");
            Ok(good)
        }
        What::Mutants { named, sync, code, minutes, first_seed } => {
            let ledger = ledger(arguments.ledger, arguments.no_ledger);
            let choice = Choice { named, sync: !code, code: !sync, time: minutes.map(duration), first_seed };
            mutants::run(&choice, &ledger, &target_dir())
        }
        What::Victim(_) => Ok(true),
        What::One(words) => {
            let Some((program, _)) = programs().into_iter().find(|(program, _)| program.name() == words[0]) else {
                eprintln!("there is no program {:?}\n\n{}", words[0], about_programs());
                return Ok(false);
            };
            let one = OneProgram::parse_from(&words);
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
            let ledger = ledger(one.ledger.or(arguments.ledger), one.no_ledger || arguments.no_ledger);
            let outcome = campaign::run(&*program, &limits, &ledger)?;
            let mut table = outcome_table();
            add_outcome(&mut table, &*program, &outcome);
            println!("{table}");
            show_sum(&*program, &ledger)?;
            Ok(outcome.violations.is_empty())
        }
    }
}

fn outcome_table() -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["program", "seconds", "rounds", "violations", "done"]);
    table
}

fn add_outcome(table: &mut Table, program: &dyn Program, outcome: &Outcome) {
    table.add_row([
        program.name().to_owned(),
        outcome.seconds.to_string(),
        outcome.rounds.to_string(),
        outcome.violations.len().to_string(),
        outcome.counts.to_string(),
    ]);
}

fn show_sum(program: &dyn Program, ledger: &Ledger) -> std::io::Result<()> {
    let Some(path) = ledger.path() else { return Ok(()) };
    let sum = ledger.sum(program.name(), &ledger::code(program.covers()))?;
    println!("in the ledger {} for this code:\n{}", path.display(), describe(&sum));
    Ok(())
}

fn describe(sum: &Sum) -> String {
    format!("{} runs, {} rounds, {} violations; {}", sum.runs, sum.rounds, sum.violations, sum.counts)
}

fn show_ledger(ledger: &Ledger) -> std::io::Result<bool> {
    let mut table = outcome_table();
    for (program, _) in programs() {
        let sum = ledger.sum(program.name(), &ledger::code(program.covers()))?;
        table.add_row([
            program.name().to_owned(),
            sum.seconds.to_string(),
            sum.rounds.to_string(),
            sum.violations.to_string(),
            sum.counts.to_string(),
        ]);
    }
    println!("{table}");
    Ok(true)
}
