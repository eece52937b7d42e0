//! What a run of one workload on one engine came to: a line of JSON in the file of results.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Result;

/// One workload, on one engine, in one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// [`crate::engine::Kind::name`].
    pub engine: String,
    pub workload: String,
    pub round: u32,
    /// Whether keys have a common prefix of 24 bytes.
    pub prefix: bool,
    pub threads: usize,
    /// Operations that count: puts, gets, seeks, rows of a scan.
    pub operations: u64,
    /// How long they took; of a fill without the drain.
    pub seconds: f64,
    /// From the last operation until the tree was settled; 0 for reads.
    pub drain_seconds: f64,
    /// Operations of other threads meanwhile, if the workload has any (the writes of readwhilewriting), a second.
    pub beside_per_second: Option<f64>,
    /// Bytes that the process gave to the file system for writing, the drain with it.
    pub bytes_written: u64,
    /// Size of the directory when all was settled and closed.
    pub directory_bytes: u64,
    /// The process's greatest resident memory.
    pub peak_memory_bytes: u64,
    /// Times of single operations, if the workload has some.
    pub latency: Option<Latency>,
    /// CPU time of the process, of all threads, user and system, drain too.
    pub cpu_seconds: f64,
}

/// In nanoseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub longest: u64,
}

/// What does not change within a file of results: its first line.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Setup {
    pub keys: u64,
    pub value_bytes: usize,
    pub versioned_keys: u64,
    pub versions: u64,
    pub date: String,
    pub machine: String,
    pub kernel: String,
    pub file_system: String,
    pub rustc: String,
    /// (name, version) of each engine that is compiled in.
    pub engines: Vec<(String, String)>,
    pub memtable_bytes: usize,
    pub cache_bytes: usize,
    pub block_bytes: usize,
    pub filter_bits: usize,
    pub background_threads: usize,
    pub codec: String,
    pub seed: u64,
}

/// A run that came to no record. A later record of the same run supersedes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Failure {
    pub engine: String,
    pub workload: String,
    pub round: u32,
    pub prefix: bool,
    /// The engine has nothing of the kind: no fault, and no reason to try again.
    pub not_offered: bool,
    pub failure: String,
}

/// A line after the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    // First, as it is the one with a field that no record has.
    Failure(Failure),
    Record(Record),
}

/// A file of results, read.
#[derive(Debug, Clone, Default)]
pub struct ResultsFile {
    pub setup: Setup,
    pub records: Vec<Record>,
    /// Those that no record superseded.
    pub failures: Vec<Failure>,
}

impl ResultsFile {
    /// A last line that was cut off, by a kill while it was written, does not count.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = text.split_inclusive('\n').enumerate();
        let parse_error = |number: usize, error| format!("{}:{}: {error}", path.display(), number + 1);
        let (_, first) = lines.next().ok_or_else(|| format!("{}: no line", path.display()))?;
        let mut file =
            Self { setup: serde_json::from_str(first).map_err(|error| parse_error(0, error))?, ..Self::default() };
        for (number, line) in lines.filter(|(_, line)| line.ends_with('\n')) {
            match serde_json::from_str(line).map_err(|error| parse_error(number, error))? {
                Line::Failure(failure) => file.failures.push(failure),
                Line::Record(record) => {
                    file.failures.retain(|failure| failure.run() != record.run());
                    file.records.push(record);
                }
            }
        }
        Ok(file)
    }

    pub fn record(&self, engine: &str, workload: &str, round: u32, prefix: bool) -> Option<&Record> {
        self.records.iter().find(|record| record.run() == (engine, workload, round, prefix))
    }
}

impl Record {
    /// What tells one run from another: engine, workload, round, prefix.
    pub fn run(&self) -> (&str, &str, u32, bool) {
        (&self.engine, &self.workload, self.round, self.prefix)
    }
}

impl Failure {
    pub fn run(&self) -> (&str, &str, u32, bool) {
        (&self.engine, &self.workload, self.round, self.prefix)
    }
}
