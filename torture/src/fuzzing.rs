//! The fuzz targets of `fuzz/`, run for a time each, and what they found.
//!
//! They take a nightly toolchain and cargo-fuzz. The corpus of each target grows beside the ledger, in
//! `corpus/<target>/`, and what fails is kept in `artifacts/<target>/`; `fuzz/README.md` says how to run it again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::campaign::Outcome;
use crate::ledger::{self, Entry, Ledger};

/// One program for the fuzzer.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in `fuzz/fuzz_targets/`.
    pub name: &'static str,
    /// Its name in the ledger.
    pub program: &'static str,
    /// The parts of the engine's source that it tests; none: all.
    pub covers: &'static [&'static str],
    /// No input is longer.
    max_len: u32,
}

pub const TARGETS: [Target; 6] = [
    target("block", "fuzz-block", &["table", "format", "version", "slice", "error"], 2048),
    target("table", "fuzz-table", &["table", "format", "version", "slice", "error", "fs"], 2048),
    target("log", "fuzz-log", &["log", "format", "fs", "error"], 2048),
    target("manifest", "fuzz-manifest", &["manifest", "table", "options", "format", "fs", "error"], 2048),
    target("decoders", "fuzz-decoders", &["format", "table", "manifest", "options", "log", "db", "error"], 4096),
    target("operations", "fuzz-operations", &[], 4096),
];

const fn target(name: &'static str, program: &'static str, covers: &'static [&'static str], max_len: u32) -> Target {
    Target { name, program, covers, max_len }
}

/// An input that takes longer, in seconds, hangs. Others may need the machine too.
const PATIENCE: u32 = 60;
/// A fuzzer that has not ended so long after its time does not end.
const GRACE: Duration = Duration::from_secs(3 * PATIENCE as u64);

/// Why there can be no fuzzing here, if there cannot.
pub fn missing() -> Option<&'static str> {
    let works = |arguments: &[&str]| {
        let output = Command::new("cargo").args(arguments).stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !works(&["+nightly", "--version"]) {
        Some("no nightly toolchain is installed here (rustup toolchain install nightly)")
    } else if !works(&["fuzz", "--version"]) {
        Some("there is no cargo-fuzz in PATH (cargo install cargo-fuzz)")
    } else {
        None
    }
}

/// Runs the targets, so many at once, so that all end after about this time, and adds what each did to the ledger.
///
/// # Errors
/// A target cannot be built or run, or the ledger not be written.
pub fn run(
    targets: &[&'static Target],
    time: Duration,
    at_once: usize,
    ledger: &Ledger,
) -> io::Result<Vec<(&'static Target, Outcome)>> {
    let home = ledger.home();
    let seeds = home.join("seeds");
    eprintln!("fuzz: building");
    // Not optimized: to build the engine so would take far longer than to make them.
    let mut make_seeds = cargo(&["run", "--manifest-path", "fuzz/Cargo.toml", "--example", "seeds", "--"]);
    let log = home.join("fuzz.log");
    fs::create_dir_all(&home)?;
    finish(make_seeds.arg(&seeds).env("RUSTFLAGS", "--cfg fuzzing"), &log)?;
    for target in targets {
        finish(&mut cargo(&["fuzz", "build", "--fuzz-dir", "fuzz", "-s", "none", target.name]), &log)?;
    }
    let at_once = at_once.clamp(1, targets.len().max(1));
    let share = time.mul_f64(at_once as f64 / targets.len().max(1) as f64);
    let ran = together(targets, at_once, |target| Ok((*target, target.run(share, &home, ledger)?)));
    ran.into_iter().collect()
}

/// Does something with each of `all`, with so many at once.
fn together<T: Sync, R: Send>(all: &[T], at_once: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let waiting: Mutex<VecDeque<&T>> = Mutex::new(all.iter().collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    // Not as the condition of the loop, which would hold the lock during the work.
                    let Some(one) = lock(&waiting).pop_front() else { break };
                    let result = work(one);
                    lock(&done).push(result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    fn run(&self, time: Duration, home: &Path, ledger: &Ledger) -> io::Result<Outcome> {
        let (corpus, artifacts) = (home.join("corpus").join(self.name), home.join("artifacts").join(self.name));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let seconds = time.as_secs().max(1);
        // Each run draws other numbers than those before it; a first one, without a ledger, always the same.
        let code = ledger::code(self.covers);
        let seed = ledger.sum(self.program, &code)?.runs + 1;
        eprintln!("{}: {seconds} s, corpus in {}", self.program, corpus.display());
        let mut command = cargo(&["fuzz", "run", "--fuzz-dir", "fuzz", "-s", "none", self.name]);
        command.arg(&corpus).arg(home.join("seeds").join(self.name)).arg("--");
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.args([
            &format!("-max_total_time={seconds}"),
            &format!("-seed={seed}"),
            &format!("-max_len={}", self.max_len),
            &format!("-timeout={PATIENCE}"),
            "-print_final_stats=1",
        ]);
        // Another run of the same target may go on beside it.
        let log = home.join(format!("{}-{}.log", self.program, std::process::id()));
        let began = Instant::now();
        let good = tell(&mut command, &log, Some(Duration::from_secs(seconds) + GRACE))?;
        let report = Report::read(&fs::read_to_string(&log)?);
        if !good && report.artifacts.is_empty() {
            return Err(failed(&command, &log));
        }
        for artifact in &report.artifacts {
            eprintln!("violation: {}, {artifact}; told in {}", self.program, log.display());
        }
        let mut outcome = Outcome { seconds: began.elapsed().as_secs(), ..Outcome::default() };
        outcome.counts.add("executions", report.executions);
        outcome.reached.add("edges", report.edges);
        outcome.reached.add("features", report.features);
        outcome.violations = report.artifacts.iter().map(|artifact| (0, artifact.clone())).collect();
        ledger.add(&Entry {
            program: self.program.to_owned(),
            commit: ledger::commit(),
            code,
            at: ledger::now(),
            seconds: outcome.seconds,
            violations: report.artifacts.len() as u64,
            artifacts: report.artifacts,
            counts: outcome.counts.clone(),
            reached: outcome.reached.clone(),
            ..Entry::default()
        })?;
        if outcome.violations.is_empty() {
            fs::remove_file(&log)?;
        }
        Ok(outcome)
    }
}

/// What the fuzzer says of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    executions: u64,
    edges: u64,
    features: u64,
    /// Inputs that failed.
    artifacts: Vec<String>,
}

impl Report {
    fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |name: &str| {
                let at = words.iter().position(|word| *word == name)?;
                words.get(at + 1)?.parse::<u64>().ok()
            };
            if let Some(nth) = line.strip_prefix('#').and_then(|_| words[0][1..].parse().ok()) {
                report.executions = report.executions.max(nth);
                report.edges = after("cov:").unwrap_or(report.edges);
                report.features = after("ft:").unwrap_or(report.features);
            }
            report.executions = after("stat::number_of_executed_units:").unwrap_or(report.executions);
            report.artifacts.extend(line.split_once("Test unit written to ").map(|(_, path)| path.trim().to_owned()));
        }
        report
    }
}

/// Cargo, of the nightly toolchain, in the checkout.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

/// Runs it, with all that it says in a file, and gives whether it succeeded. What has not ended by then is killed, with
/// all that it has started: what reports a hang has been seen to hang itself. So it has a process group of its own, which
/// Ctrl-C at a terminal does not reach: a fuzzer then goes on until its time is up.
fn tell(command: &mut Command, log: &PathBuf, within: Option<Duration>) -> io::Result<bool> {
    let file = File::create(log)?;
    let mut child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).spawn()?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if within.is_some_and(|within| began.elapsed() > within) {
            let group = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn finish(command: &mut Command, log: &PathBuf) -> io::Result<()> {
    if tell(command, log, None)? { Ok(()) } else { Err(failed(command, log)) }
}

fn failed(command: &Command, log: &Path) -> io::Error {
    let said = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(20)..].join("\n");
    io::Error::other(format!("{command:?} failed; the end of {}:\n{end}", log.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_is_read() {
        let text = "INFO: seed corpus: files: 12\n\
            #13\tINITED cov: 300 ft: 501 corp: 9/1234b exec/s: 0 rss: 40Mb\n\
            #2048\tNEW    cov: 310 ft: 600 corp: 10/1300b lim: 100 exec/s: 512 rss: 41Mb L: 5/50 MS: 1 ChangeBit-\n\
            thread '<unnamed>' panicked at src/log/fuzzing.rs:5:1\n\
            artifact_prefix='/a/'; Test unit written to /a/crash-0123\n\
            stat::number_of_executed_units: 2100\n\
            stat::peak_rss_mb: 41\n";
        let report = Report::read(text);
        assert_eq!((report.executions, report.edges, report.features), (2100, 310, 600));
        assert_eq!(report.artifacts, ["/a/crash-0123"]);
        assert_eq!(Report::read(""), Report::default());
    }

    #[test]
    fn so_many_run_at_once() {
        let running = Mutex::new((0, 0));
        let done = together(&[1, 2, 3, 4, 5], 2, |one| {
            {
                let (now, most) = &mut *lock(&running);
                *now += 1;
                *most = (*most).max(*now);
            }
            let began = Instant::now();
            while lock(&running).1 < 2 && began.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
            lock(&running).0 -= 1;
            *one
        });
        assert_eq!((done.len(), done.iter().sum::<i32>(), lock(&running).1), (5, 15, 2));
    }

    #[test]
    fn what_does_not_end_is_killed_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let shell = |script: &str, within| tell(Command::new("sh").args(["-c", script]), &log, within).unwrap();
        assert!(shell("echo said; exit 0", Some(Duration::from_secs(60))) && !shell("exit 1", None));
        let began = Instant::now();
        assert!(!shell("sleep 60 & echo $!; wait", Some(Duration::from_millis(300))));
        assert!(began.elapsed() < Duration::from_secs(30));
        let child = fs::read_to_string(&log).unwrap();
        // Whoever adopts it may take a moment to see that it has ended.
        let stat = Path::new("/proc").join(child.trim()).join("stat");
        let lives = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(30), "{} goes on", child.trim());
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_targets_are_those_that_there_are() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        let there = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut there: Vec<String> =
            there.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        there.sort();
        let mut known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        known.sort_unstable();
        assert_eq!(there, known);
        for target in &TARGETS {
            assert_eq!(target.program, format!("fuzz-{}", target.name));
            assert_eq!(target.covers.iter().find(|part| !ledger::is_part(part)), None);
        }
    }
}
