//! What was tried so far, one line of JSON a run, in a file outside the checkout.
//!
//! Counts of runs on the same code add up. What "the same" means is up to the program: a hash of the parts of the
//! engine's source that it tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::campaign::Counts;

/// One run of one program.
#[derive(Debug, Default, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Entry {
    pub program: String,
    /// The commit that was checked out, with `+` if the source had been changed since.
    pub commit: String,
    /// A hash of the code that was tested.
    pub code: String,
    /// Unix time of the end, in seconds.
    pub at: u64,
    pub seconds: u64,
    /// The seeds of the rounds: the first, and how many.
    pub first_seed: u64,
    pub rounds: u64,
    pub violations: u64,
    /// Seeds that found something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<u64>,
    /// Files that show what was found, where no seed does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// What was counted, by name.
    pub counts: Counts,
    /// How far it came, by name: of several runs the highest, not the sum.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub reached: Counts,
}

/// The sum of several runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sum {
    pub runs: u64,
    pub seconds: u64,
    pub rounds: u64,
    pub violations: u64,
    pub counts: Counts,
    pub reached: Counts,
    /// The first seed that no run has had.
    pub next_seed: u64,
    /// The commits that were checked out, each once, in the order of the runs.
    pub commits: Vec<String>,
    /// What found something: seeds or files, with the commit.
    pub found: Vec<String>,
}

/// The file. `None`: nothing is kept.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: Option<PathBuf>,
}

impl Ledger {
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Where it is kept unless somebody says otherwise.
    pub fn usual_path() -> PathBuf {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".local/state")));
        state.unwrap_or_else(std::env::temp_dir).join("strandline/torture.jsonl")
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where programs keep what the next run goes on with: beside the ledger, or where it would be.
    pub fn home(&self) -> PathBuf {
        let path = self.path.clone().unwrap_or_else(Self::usual_path);
        path.parent().map_or_else(std::env::temp_dir, Path::to_owned)
    }

    /// Adds an entry. Several processes may do so at once: a line is one write at the end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&self, entry: &Entry) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let line = serde_json::to_string(entry)? + "\n";
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
    }

    /// All entries, in order.
    ///
    /// # Errors
    /// The file cannot be read, or is not a ledger.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for line in BufReader::new(file).lines() {
            entries.push(serde_json::from_str(&line?)?);
        }
        Ok(entries)
    }

    /// What was done so far by `program` on `code`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a ledger.
    pub fn sum(&self, program: &str, code: &str) -> io::Result<Sum> {
        let mut sum = Sum { next_seed: 1, ..Sum::default() };
        for entry in self.entries()?.iter().filter(|entry| entry.program == program && entry.code == code) {
            sum.runs += 1;
            sum.seconds += entry.seconds;
            sum.rounds += entry.rounds;
            sum.violations += entry.violations;
            sum.next_seed = sum.next_seed.max(entry.first_seed + entry.rounds);
            sum.counts.add_all(&entry.counts);
            sum.reached.raise_all(&entry.reached);
            if !sum.commits.contains(&entry.commit) {
                sum.commits.push(entry.commit.clone());
            }
            let seeds = entry.failed.iter().map(|seed| format!("seed {seed}"));
            let found = seeds.chain(entry.artifacts.iter().cloned());
            sum.found.extend(found.map(|what| format!("{what}, at {}", entry.commit)));
        }
        Ok(sum)
    }
}

/// The parts of the source, each with its hash.
fn source() -> impl Iterator<Item = &'static str> {
    env!("STRANDLINE_SOURCE").split_whitespace()
}

/// Whether the engine's source has a part of that name.
pub fn is_part(name: &str) -> bool {
    source().any(|part| part.split_once('=').is_some_and(|(part, _)| part == name))
}

/// The hash of the named parts of the source that this program was built with; all parts, if none are named.
pub fn code(parts: &[&str]) -> String {
    let all = source();
    let chosen = all.filter(|part| parts.is_empty() || parts.iter().any(|name| part.starts_with(&format!("{name}="))));
    let hash = chosen
        .flat_map(str::bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Unix time, in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The commit that is checked out where this program was built.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = std::process::Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--", "../src"]).is_some_and(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}

#[test]
fn counts_on_the_same_code_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(Some(dir.path().join("a/b/ledger.jsonl")));
    assert_eq!(ledger.sum("p", "c").unwrap().next_seed, 1);
    let entry = |program: &str, code: &str, first_seed| Entry {
        program: program.into(),
        commit: "abc".into(),
        code: code.into(),
        at: 0,
        seconds: 5,
        first_seed,
        rounds: 10,
        violations: 1,
        failed: vec![first_seed],
        counts: Counts([("cuts".to_owned(), 7)].into()),
        reached: Counts([("edges".to_owned(), first_seed)].into()),
        artifacts: Vec::new(),
    };
    for entry in [entry("p", "c", 1), entry("p", "c", 11), entry("p", "other", 50), entry("q", "c", 70)] {
        ledger.add(&entry).unwrap();
    }
    let sum = ledger.sum("p", "c").unwrap();
    assert_eq!((sum.runs, sum.rounds, sum.violations, sum.next_seed), (2, 20, 2, 21));
    assert_eq!((sum.counts.get("cuts"), sum.reached.get("edges")), (14, 11));
    assert_eq!(
        (sum.commits, sum.found),
        (vec!["abc".to_owned()], vec!["seed 1, at abc".into(), "seed 11, at abc".into()])
    );
    assert_ne!(code(&[]), code(&["log"]));
}
