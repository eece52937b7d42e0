//! The file of results while a run writes it: a line is added as soon as there is one, and a run that was interrupted
//! goes on where the file ends.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::engine::Result;
use crate::record::{Failure, Line, Record, ResultsFile, Setup};
use crate::setup::differences;

pub struct Results {
    file: File,
    read: ResultsFile,
}

impl Results {
    /// Opens the file, or makes it; whether it was made. A file of another setup is refused.
    pub fn open(path: &Path, setup: &Setup) -> Result<(Self, bool)> {
        // A kill may have cut the first line off.
        let is_new = !std::fs::read(path).is_ok_and(|bytes| bytes.contains(&b'\n'));
        if is_new {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(path, serde_json::to_string(setup)? + "\n")?;
        }
        let read = ResultsFile::read(path)?;
        let differences = differences(&read.setup, setup)?;
        if !differences.is_empty() {
            return Err(format!(
                "{} is of another setup: give another --name, or remove it\n  {}",
                path.display(),
                differences.join("\n  ")
            )
            .into());
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let bytes = std::fs::read(path)?;
        let whole_lines = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |position| position + 1);
        file.set_len(whole_lines as u64)?;
        Ok((Self { file, read }, is_new))
    }

    /// Whether it need not run again. What failed is tried again.
    pub fn has(&self, engine: &str, workload: &str, round: u32, prefix: bool) -> bool {
        let run = (engine, workload, round, prefix);
        self.read.record(engine, workload, round, prefix).is_some()
            || self.read.failures.iter().any(|failure| failure.not_offered && failure.run() == run)
    }

    pub fn record(&self, engine: &str, workload: &str, round: u32, prefix: bool) -> Option<&Record> {
        self.read.record(engine, workload, round, prefix)
    }

    pub fn add_record(&mut self, record: Record) -> Result<()> {
        self.add(&Line::Record(record.clone()))?;
        self.read.records.push(record);
        Ok(())
    }

    pub fn add_failure(&mut self, failure: Failure) -> Result<()> {
        self.add(&Line::Failure(failure.clone()))?;
        self.read.failures.push(failure);
        Ok(())
    }

    fn add(&mut self, line: &Line) -> Result<()> {
        Ok(self.file.write_all((serde_json::to_string(line)? + "\n").as_bytes())?)
    }
}
