//! The same work on strandline and on the engines that people would use instead.

mod engine;
mod engines;
mod git;
mod keys;
mod measure;
mod record;
mod report;
mod results;
mod run;
mod setup;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::engine::{Kind, Result};
use crate::record::Record;
use crate::run::Plan;
use crate::workloads::{ALL, Scale, Workload};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs workloads on engines, and adds what they come to to a file of results. An interrupted run goes on where it
    /// ended.
    Run {
        /// Of the file of results.
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        keys: Option<u64>,
        /// By default all.
        #[arg(long, value_delimiter = ',', value_parser = workload_named)]
        workloads: Vec<&'static Workload>,
        /// A common prefix of 24 bytes on all keys.
        #[arg(long)]
        prefix: bool,
        /// A quarter of the keys and one round: some ten minutes for the default engines. Shows where things stand; for
        /// numbers to rely on, run the whole.
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        places: Places,
    },
    /// Runs a fill of versions, and reads in the past, on the history of a git repository.
    Git {
        repository: PathBuf,
        /// So many, from the oldest on.
        #[arg(long, default_value_t = u64::MAX)]
        commits: u64,
        #[command(flatten)]
        places: Places,
    },
    /// Makes RESULTS.md, results.json and charts of files of results.
    Report {
        #[arg(required = true)]
        results: Vec<PathBuf>,
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// Says which engines are compiled in and which workloads there are.
    List,
    /// Runs one workload on one engine in this process, and prints its record.
    #[command(hide = true)]
    One {
        #[arg(value_parser = engine_named)]
        engine: Kind,
        #[arg(value_parser = workload_named)]
        workload: &'static Workload,
        #[arg(long)]
        round: u32,
        #[arg(long)]
        keys: u64,
        #[arg(long)]
        prefix: bool,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        changes: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Places {
    /// By default all that are compiled in.
    #[arg(long, value_delimiter = ',', value_parser = engine_named)]
    engines: Vec<Kind>,
    /// By default 3 of strandline and RocksDB, and 1 of the others, which are slow and there for orientation.
    #[arg(long)]
    rounds: Option<u32>,
    /// Where data goes, on a real file system; by default beside this program.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where files of results are.
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Seconds after which one run of one workload has failed.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run { name, keys, workloads, prefix, quick, places } => {
            let scale = Scale { keys: keys.unwrap_or(if quick { 500_000 } else { 2_000_000 }), prefix, changes: None };
            let name = name.unwrap_or_else(|| if quick { "quick" } else { "full" }.to_owned());
            let workloads = if workloads.is_empty() { ALL.iter().collect() } else { in_order(workloads) };
            let rounds = places.rounds.unwrap_or(if quick { 1 } else { 3 });
            if quick {
                println!("Quick: {} keys, {rounds} round(s). Not for numbers to rely on.", scale.keys);
            }
            compare(&places, &name, scale, rounds, workloads, &[])
        }
        Command::Git { repository, commits, places } => {
            let repository = repository.canonicalize()?;
            let name = format!("git-{}", repository.file_name().unwrap_or_default().display());
            let changes = places.data("changes")?.join(format!("{name}.changes"));
            let exported = git::export(&repository, commits, &changes)?;
            println!("{exported:?}");
            let scale = Scale { keys: exported.changes, prefix: false, changes: Some(changes.clone()) };
            let rounds = places.rounds.unwrap_or(3);
            let code = compare(&places, &name, scale, rounds, git::WORKLOADS.iter().collect(), &[exported])?;
            std::fs::remove_file(changes)?;
            Ok(code)
        }
        Command::Report { results, out } => report::run(&results, &out).map(|()| ExitCode::SUCCESS),
        Command::List => {
            engines::compiled().iter().for_each(|(kind, version)| println!("{:<18} {version}", kind.name()));
            println!();
            ALL.iter().chain(git::WORKLOADS).for_each(|workload| println!("{}", workload.name));
            Ok(ExitCode::SUCCESS)
        }
        Command::One { engine, workload, round, keys, prefix, dir, changes } => {
            // Nothing runs on when the parent was killed.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // A thread that panics would leave others waiting for it.
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                hook(panic);
                std::process::exit(101);
            }));
            let record = workload.run(engine, &dir, &Scale { keys, prefix, changes })?;
            let record = record.map(|record| Record { round, ..record });
            println!("{}", serde_json::to_string(&record)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs what there is not yet in the file of results `name`.
fn compare(
    places: &Places,
    name: &str,
    scale: Scale,
    rounds: u32,
    workloads: Vec<&'static Workload>,
    exported: &[git::Exported],
) -> Result<ExitCode> {
    let data = places.data(name)?;
    let mut setup = setup::setup(scale.keys, &data)?;
    if let [exported] = exported {
        setup.keys = exported.paths;
        setup.versioned_keys = exported.paths;
        setup.versions = exported.changes / exported.paths.max(1);
        setup.value_bytes = (exported.bytes / exported.changes.max(1)) as usize;
    }
    if ["tmpfs", "ramfs"].contains(&setup.file_system.as_str()) {
        eprintln!(
            "{} is in memory ({}): nothing that waits for a disk is measured there.",
            data.display(),
            setup.file_system
        );
    }
    let compiled: Vec<_> = engines::compiled().into_iter().map(|(kind, _)| kind).collect();
    let missing: Vec<_> =
        places.engines.iter().filter(|kind| !compiled.contains(kind)).map(|kind| kind.name()).collect();
    if !missing.is_empty() {
        return Err(format!("not compiled in: {}", missing.join(", ")).into());
    }
    let engines = if places.engines.is_empty() { compiled } else { places.engines.clone() };
    let results = places.results.join(format!("{name}.jsonl"));
    let rounds_of_others = places.rounds.unwrap_or(1);
    let plan = Plan { results, data, scale, rounds, rounds_of_others, engines, workloads };
    let timeout = Duration::from_secs(places.timeout);
    let failed = run::run(&plan, &setup, &mut |job| run::in_a_process(job, timeout))?;
    if failed > 0 {
        eprintln!("{failed} runs failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

impl Places {
    /// The directory for data of one name; it is there then.
    fn data(&self, name: &str) -> Result<PathBuf> {
        let program = std::env::current_exe()?;
        let beside = program.parent().unwrap_or(Path::new("."));
        let data = self.dir.as_deref().unwrap_or(beside).join("peers-data").join(name);
        std::fs::create_dir_all(&data)?;
        Ok(data.canonicalize()?)
    }
}

/// As they stand in the list: what changes a tree comes after what reads it.
fn in_order(chosen: Vec<&'static Workload>) -> Vec<&'static Workload> {
    ALL.iter().filter(|workload| chosen.iter().any(|other| other.name == workload.name)).collect()
}

fn engine_named(name: &str) -> Result<Kind> {
    Kind::named(name).ok_or_else(|| "no such engine".into())
}

fn workload_named(name: &str) -> Result<&'static Workload> {
    workloads::named(name).ok_or_else(|| "no such workload: see `list`".into())
}
