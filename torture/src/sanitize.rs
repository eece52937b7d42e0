//! What `.ci/sanitize` runs, part by part, and its place in the ledger.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::campaign::{Counts, Outcome};
use crate::ledger::{self, Entry, Ledger};

/// A part of the script.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    /// Its name in the ledger.
    pub program: &'static str,
}

pub const PARTS: [Part; 5] = [
    Part { name: "loom", program: "sanitize-loom" },
    Part { name: "shuttle", program: "sanitize-shuttle" },
    Part { name: "miri", program: "sanitize-miri" },
    Part { name: "endian", program: "sanitize-endian" },
    Part { name: "tsan", program: "sanitize-tsan" },
];

impl Part {
    /// Runs it, shows what it says, and adds it to the ledger. `None`: it was skipped, and said why.
    ///
    /// # Errors
    /// The script cannot be run, or the ledger not be written.
    pub fn run(&self, long: bool, ledger: &Ledger) -> io::Result<Option<Outcome>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/sanitize");
        if !script.exists() {
            println!("skipped: {}, there is no {}", self.name, script.display());
            return Ok(None);
        }
        let began = Instant::now();
        let mut command = Command::new(&script);
        command.args(long.then_some("--long")).arg(self.name).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        print!("{said}");
        if said.lines().any(|line| line.starts_with("skipped:")) {
            return Ok(None);
        }
        let mut counts = Counts::default();
        counts.add("tests passed", passed(&said));
        let violations = if output.status.success() { vec![] } else { vec![(0, output.status.to_string())] };
        let outcome = Outcome { seconds: began.elapsed().as_secs(), violations, counts, ..Outcome::default() };
        ledger.add(&Entry {
            program: self.program.to_owned(),
            commit: ledger::commit(),
            code: ledger::code(&[]),
            at: ledger::now(),
            seconds: outcome.seconds,
            violations: outcome.violations.len() as u64,
            counts: outcome.counts.clone(),
            ..Entry::default()
        })?;
        Ok(Some(outcome))
    }
}

/// How many tests passed, by what the test runner says.
fn passed(said: &str) -> u64 {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. ")?.split_once(" passed"));
    results.filter_map(|(passed, _)| passed.parse::<u64>().ok()).sum()
}

#[test]
fn tests_that_passed_are_counted() {
    let said = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\
        test result: FAILED. 1 passed; 1 failed\ntest result: ok. 4 passed; 0 failed\n";
    assert_eq!(passed(said), 7);
}

#[test]
fn the_parts_are_those_of_the_script() {
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/sanitize")).unwrap();
    let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
    assert!(script.contains(&format!("parts=({})", names.join(" "))), "{names:?}");
    assert!(PARTS.iter().all(|part| part.program == format!("sanitize-{}", part.name)));
}
