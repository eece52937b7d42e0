//! A copy of the checkout, in which one fault after the other is planted, built and tried.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::Found;
use super::code::{Change, CodeMutant, Until};
use super::order::OrderMutant;
use crate::campaign::Counts;
use crate::ledger::{Entry, Ledger};

/// A program that takes longer hangs, which is one way of finding a fault.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Scratch {
    /// The copy.
    dir: PathBuf,
    /// Where it is built, apart from the checkout's own target, so that neither has the other built anew.
    target: PathBuf,
    ledger: PathBuf,
}

impl Scratch {
    /// Copies what it takes to build, under the target directory.
    ///
    /// # Errors
    /// Something cannot be copied.
    pub fn make(target: &Path) -> io::Result<Self> {
        let home = target.join("mutants");
        let scratch = Self { dir: home.join("copy"), target: home.join("target"), ledger: home.join("ledger.jsonl") };
        fs::create_dir_all(&scratch.dir)?;
        // Everything that the manifest names: without the benches' files cargo would not read it.
        let files = ["Cargo.toml", "Cargo.lock", "README.md", "clippy.toml"];
        for part in files.into_iter().chain(["src", "torture", "examples", "tests", "benches"]) {
            copy(&root().join(part), &scratch.dir.join(part))?;
        }
        Ok(scratch)
    }

    /// Plants the fault, builds, tries, and takes the fault out again. A fault that does not apply, or does not build,
    /// is not caught.
    ///
    /// # Errors
    /// The fault cannot be taken out again.
    pub fn run(&self, mutant: &CodeMutant, first_seed: u64) -> io::Result<Found> {
        self.planted(mutant.name, mutant.program, mutant.changes, || {
            self.build()?;
            self.attempt(mutant, first_seed)
        })
    }

    /// The same for a fault that tests must find.
    ///
    /// # Errors
    /// The fault cannot be taken out again.
    pub fn run_tests(&self, mutant: &OrderMutant) -> io::Result<Found> {
        self.planted(mutant.name, mutant.checker, mutant.changes, || {
            let tests = self.build_tests(mutant.checker)?;
            let mut command = Command::new(tests);
            command.args([mutant.tests, "--nocapture"]).current_dir(&self.dir);
            let began = Instant::now();
            let (status, told) = told_until_end(&mut command)?;
            let caught = status.is_none_or(|status| !status.success());
            Ok(Found {
                name: mutant.name.to_owned(),
                program: mutant.checker.to_owned(),
                caught_after: caught.then(|| mutant.tests.to_owned()),
                message: if status.is_some() { message(&told) } else { "it hangs".to_owned() },
                seconds: began.elapsed().as_secs(),
            })
        })
    }

    fn planted(
        &self,
        name: &str,
        program: &str,
        changes: &[Change],
        attempt: impl FnOnce() -> io::Result<Found>,
    ) -> io::Result<Found> {
        let mut intact = Vec::new();
        let mut plant = || {
            for change in changes {
                let path = self.dir.join(change.file);
                let text = fs::read_to_string(&path)?;
                let planted = change.apply(&text).map_err(io::Error::other)?;
                intact.push((path.clone(), text));
                fs::write(path, planted)?;
            }
            Ok(())
        };
        let found = plant().and_then(|()| attempt());
        intact.iter().rev().try_for_each(|(path, text)| fs::write(path, text))?;
        Ok(found.unwrap_or_else(|error| Found {
            name: name.to_owned(),
            program: program.to_owned(),
            caught_after: None,
            message: error.to_string(),
            seconds: 0,
        }))
    }

    fn build(&self) -> io::Result<()> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "-p", "strandline-torture"])
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", &self.target)
            // A build for each mutant: what is saved there is more than what the program loses.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")
            .env("RUSTFLAGS", "-Awarnings")
            .output()?;
        built(&output)
    }

    /// The engine's own tests behind a model checker.
    fn build_tests(&self, checker: &str) -> io::Result<PathBuf> {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--quiet", "-p", "strandline", "--lib", "--no-run", "--message-format=json"])
            .args(["--config", "profile.test.package.strandline.opt-level=0"])
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", self.target.with_file_name(checker))
            .env("CARGO_PROFILE_TEST_DEBUG", "false")
            .env("RUSTFLAGS", format!("-Awarnings --cfg {checker}"))
            .output()?;
        built(&output)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let tests = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
        tests.ok_or_else(|| io::Error::other("cargo names no tests that it has built"))
    }

    fn attempt(&self, mutant: &CodeMutant, first_seed: u64) -> io::Result<Found> {
        drop(fs::remove_file(&self.ledger));
        let mut command = Command::new(self.target.join("release/strandline-torture"));
        command.arg(mutant.program).args(["--first-seed", &first_seed.to_string(), "--stop-at-first"]);
        match mutant.until {
            Until::Rounds(rounds) => command.args(["--rounds", &rounds.to_string()]),
            Until::Minutes(minutes) => command.args(["--minutes", &minutes.to_string()]),
        };
        command.arg("--ledger").arg(&self.ledger);
        let began = Instant::now();
        let (status, told) = told_until_end(&mut command)?;
        let (caught, message) = match status.map(|status| status.code()) {
            None | Some(Some(3)) => (true, "it hangs".to_owned()),
            Some(Some(0)) => (false, String::new()),
            Some(Some(1)) => (true, message(&told)),
            Some(code) => (true, format!("the process ended with {code:?}")),
        };
        let done: Vec<Entry> = Ledger::new(Some(self.ledger.clone())).entries()?;
        let rounds: u64 = done.iter().map(|entry| entry.rounds).sum();
        let mut counts = Counts::default();
        done.iter().for_each(|entry| counts.add_all(&entry.counts));
        Ok(Found {
            name: mutant.name.to_owned(),
            program: mutant.program.to_owned(),
            caught_after: caught.then(|| format!("{rounds} rounds, {counts}")),
            message,
            seconds: began.elapsed().as_secs(),
        })
    }
}

fn built(output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the mutant does not build:\n{}", String::from_utf8_lossy(&output.stderr))))
}

/// What a program says until it ends, and how it ends; `None`: not at all.
fn told_until_end(command: &mut Command) -> io::Result<(Option<ExitStatus>, String)> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || stderr.map(io::read_to_string));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok((status, reader.join().ok().flatten().transpose()?.unwrap_or_default()))
}

/// Where it panicked first, and why.
fn message(told: &str) -> String {
    told.lines().skip_while(|line| !line.contains("panicked at")).take(2).collect::<Vec<_>>().join("\n")
}

/// The checkout that this program was built from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Copies a file, or a folder with all that is in it, where the copy is not the same already: what is the same keeps
/// its time, and is not built again.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        let bytes = fs::read(from)?;
        if fs::read(to).ok().as_ref() == Some(&bytes) {
            return Ok(());
        }
        return fs::write(to, bytes);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.path().is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        // What was built in a workspace of its own.
        if name == "target" {
            continue;
        }
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
