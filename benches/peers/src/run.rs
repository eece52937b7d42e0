//! The parent: every run of a workload on an engine is a process of its own, engines in turn, round after round.

use std::collections::HashMap;
use std::fs::{File, create_dir_all, read_to_string, remove_dir_all, remove_file};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::engine::{Kind, Result};
use crate::record::{Failure, Record, Setup};
use crate::results::Results;
use crate::workloads::{Scale, Start, Workload};

pub struct Plan {
    pub results: PathBuf,
    /// Holds all data; nothing else may be in it.
    pub data: PathBuf,
    pub scale: Scale,
    pub rounds: u32,
    /// For engines that are there for orientation ([`Kind::is_compared`]).
    pub rounds_of_others: u32,
    pub engines: Vec<Kind>,
    pub workloads: Vec<&'static Workload>,
}

impl Plan {
    fn rounds_of(&self, engine: Kind) -> u32 {
        if engine.is_compared() { self.rounds } else { self.rounds_of_others.min(self.rounds) }
    }
}

pub struct Job<'a> {
    pub engine: Kind,
    pub workload: &'static Workload,
    pub round: u32,
    pub scale: &'a Scale,
    pub directory: &'a Path,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Record(Box<Record>),
    NotOffered,
    Failed(String),
}

/// Runs what the file of results does not have yet; how many runs failed. `execute` runs one.
pub fn run(plan: &Plan, setup: &Setup, execute: &mut dyn FnMut(&Job) -> Result<Outcome>) -> Result<usize> {
    let (results, is_new) = Results::open(&plan.results, setup)?;
    if is_new {
        remove_directory(&plan.data)?;
    }
    create_dir_all(&plan.data)?;
    let mut state = State { plan, results, execute, without_fill: HashMap::new(), failed: 0, done: 0 };
    for round in 1..=plan.rounds {
        state.round(round)?;
    }
    remove_directory(&plan.data)?;
    Ok(state.failed)
}

struct State<'a> {
    plan: &'a Plan,
    results: Results,
    execute: &'a mut dyn FnMut(&Job) -> Result<Outcome>,
    /// Fills of this round that came to nothing: what needs them comes to the same.
    without_fill: HashMap<(Kind, &'static str), Outcome>,
    failed: usize,
    done: usize,
}

impl State<'_> {
    fn round(&mut self, round: u32) -> Result<()> {
        self.without_fill.clear();
        // Another engine goes first in each round: the machine is not the same to the first and to the last.
        let mut engines = self.plan.engines.clone();
        engines.retain(|engine| round <= self.plan.rounds_of(*engine));
        let engine_count = engines.len().max(1);
        engines.rotate_left(round as usize % engine_count);
        for &workload in &self.plan.workloads {
            for &engine in &engines {
                let prefix = self.plan.scale.prefix;
                self.done += 1;
                if !self.results.has(engine.name(), workload.name, round, prefix) {
                    let outcome = self.attempt(engine, workload, round)?;
                    self.note(engine, workload, round, outcome)?;
                }
            }
        }
        for &engine in &engines {
            for fill in self.plan.workloads.iter().filter_map(|workload| workload.needs()) {
                self.forget_fill(engine, fill, round)?;
            }
        }
        Ok(())
    }

    fn attempt(&mut self, engine: Kind, workload: &'static Workload, round: u32) -> Result<Outcome> {
        let Some(fill) = workload.needs() else {
            return self.fill(engine, workload, round);
        };
        let directory = self.directory(engine, fill, round);
        if !ready(&directory).exists() {
            let outcome = match self.without_fill.get(&(engine, fill.name)) {
                Some(outcome) => outcome.clone(),
                None => self.fill(engine, fill, round)?,
            };
            match outcome {
                Outcome::Record(_) => {}
                Outcome::NotOffered => return Ok(Outcome::NotOffered),
                Outcome::Failed(why) => return Ok(Outcome::Failed(format!("{} failed before it: {why}", fill.name))),
            }
        }
        if !matches!(workload.start, Start::CopyOf(_)) {
            return self.execute(engine, workload, round, &directory);
        }
        let copy = self.plan.data.join("copy");
        remove_directory(&copy)?;
        copy_directory(&directory, &copy)?;
        let outcome = self.execute(engine, workload, round, &copy)?;
        remove_directory(&copy)?;
        Ok(outcome)
    }

    /// Fills an empty directory, and keeps it if other workloads need it.
    fn fill(&mut self, engine: Kind, workload: &'static Workload, round: u32) -> Result<Outcome> {
        self.forget_fill(engine, workload, round)?;
        let directory = self.directory(engine, workload, round);
        create_dir_all(&directory)?;
        let outcome = self.execute(engine, workload, round, &directory)?;
        let needed =
            self.plan.workloads.iter().any(|other| other.needs().is_some_and(|fill| fill.name == workload.name));
        if needed && matches!(outcome, Outcome::Record(_)) {
            File::create(ready(&directory))?.sync_all()?;
        } else {
            self.without_fill.insert((engine, workload.name), outcome.clone());
            self.forget_fill(engine, workload, round)?;
        }
        Ok(outcome)
    }

    fn execute(&mut self, engine: Kind, workload: &'static Workload, round: u32, directory: &Path) -> Result<Outcome> {
        // What others wrote must not be on its account.
        rustix::fs::sync();
        (self.execute)(&Job { engine, workload, round, scale: &self.plan.scale, directory })
    }

    fn note(&mut self, engine: Kind, workload: &Workload, round: u32, outcome: Outcome) -> Result<()> {
        let prefix = self.plan.scale.prefix;
        let rounds: u32 = self.plan.engines.iter().map(|engine| self.plan.rounds_of(*engine)).sum();
        let of = rounds as usize * self.plan.workloads.len();
        let head = format!("[{:>4}/{of}] round {round}  {:<17} {:<14}", self.done, workload.name, engine.name());
        let failure = |failure: String, not_offered| Failure {
            engine: engine.name().into(),
            workload: workload.name.into(),
            round,
            prefix,
            not_offered,
            failure,
        };
        match outcome {
            Outcome::Record(record) => {
                let rate = record.operations as f64 / record.seconds;
                let base = self.results.record(Kind::RocksDb.name(), workload.name, round, prefix);
                let ratio = base
                    .filter(|_| engine != Kind::RocksDb)
                    .map(|base| format!("  {:.2} of rocksdb", rate * base.seconds / base.operations as f64));
                let drain = (record.drain_seconds > 0.0).then(|| format!("  drain {:.1} s", record.drain_seconds));
                let beside = record.beside_per_second.map(|beside| format!("  beside{}", rate_text(beside)));
                let more = [ratio, beside, drain].into_iter().flatten().collect::<String>();
                println!("{head} {}{more}", rate_text(rate));
                self.results.add_record(*record)
            }
            Outcome::NotOffered => {
                println!("{head} not offered");
                self.results.add_failure(failure("not offered".into(), true))
            }
            Outcome::Failed(why) => {
                println!("{head} FAILED");
                eprintln!("{} on {}, round {round}: {why}", workload.name, engine.name());
                self.failed += 1;
                self.results.add_failure(failure(why, false))
            }
        }
    }

    fn directory(&self, engine: Kind, fill: &Workload, round: u32) -> PathBuf {
        let keys = if self.plan.scale.prefix { "-prefix" } else { "" };
        self.plan.data.join(format!("{}-{}{keys}-{round}", fill.name, engine.name()))
    }

    fn forget_fill(&self, engine: Kind, fill: &Workload, round: u32) -> Result<()> {
        let directory = self.directory(engine, fill, round);
        // The mark first: it says that the directory is whole.
        match remove_file(ready(&directory)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        remove_directory(&directory)
    }
}

/// Runs a job in a process of its own, which prints its record; it is killed after `timeout`.
pub fn in_a_process(job: &Job, timeout: Duration) -> Result<Outcome> {
    let (output, errors) = (job.directory.with_extension("out"), job.directory.with_extension("err"));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["one", job.engine.name(), job.workload.name, "--dir"]).arg(job.directory);
    command.args(["--round", &job.round.to_string(), "--keys", &job.scale.keys.to_string()]);
    if job.scale.prefix {
        command.arg("--prefix");
    }
    if let Some(changes) = &job.scale.changes {
        command.arg("--changes").arg(changes);
    }
    command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
    let mut child = command.spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (text, errors_text) =
        (read_to_string(&output)?, String::from_utf8_lossy(&std::fs::read(&errors)?).into_owned());
    remove_file(&output)?;
    remove_file(&errors)?;
    let last_errors: Vec<_> = errors_text.lines().rev().take(4).collect();
    let last_errors = last_errors.into_iter().rev().collect::<Vec<_>>().join("\n");
    Ok(match status {
        None => Outcome::Failed(format!("no end after {} s. {last_errors}", timeout.as_secs())),
        Some(status) if !status.success() => Outcome::Failed(format!("{status}: {last_errors}")),
        Some(_) => match serde_json::from_str(text.lines().last().unwrap_or_default()) {
            Ok(Some(record)) => Outcome::Record(record),
            Ok(None) => Outcome::NotOffered,
            Err(error) => Outcome::Failed(format!("its last line is no record: {error}")),
        },
    })
}

fn ready(directory: &Path) -> PathBuf {
    directory.with_extension("ready")
}

fn remove_directory(directory: &Path) -> Result<()> {
    match remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{}: {error}", directory.display()).into()),
        _ => Ok(()),
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = {
            let entry = entry?;
            let to = to.join(entry.file_name());
            (entry, to)
        };
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:>7.2} M/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:>7.1} k/s", rate / 1e3),
        rate => format!("{rate:>7.1} /s "),
    }
}

#[cfg(test)]
mod tests;
