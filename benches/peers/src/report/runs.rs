//! All that was measured, of one or several files of results, as the tables ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::engine::{Kind, Result};
use crate::record::{Failure, Record, ResultsFile, Setup};
use crate::setup::differences;

/// A round of one file; rounds of different files are different rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round {
    pub file: usize,
    pub round: u32,
}

pub struct Runs {
    pub setup: Setup,
    /// Of each file, in the order given.
    pub dates: Vec<String>,
    /// Those that no later run made good, with what the engines do not offer.
    pub failures: Vec<Failure>,
    records: BTreeMap<Work, BTreeMap<Round, Record>>,
}

/// What has a median over rounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    prefix: bool,
    workload: String,
    engine: Kind,
}

impl Runs {
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            files.push((path.display().to_string(), ResultsFile::read(path)?));
        }
        Self::of(files)
    }

    /// Of files by name.
    pub fn of(files: Vec<(String, ResultsFile)>) -> Result<Self> {
        let Some((first, file)) = files.first() else { return Err("no file of results".into()) };
        let (first, setup) = (first.clone(), file.setup.clone());
        let mut runs = Self { setup, dates: Vec::new(), failures: Vec::new(), records: BTreeMap::new() };
        for (at, (name, file)) in files.into_iter().enumerate() {
            let differences = differences(&runs.setup, &file.setup)?;
            if !differences.is_empty() {
                let differences = differences.join("\n  ");
                return Err(format!("{first} and {name} differ in setup: report them apart\n  {differences}").into());
            }
            runs.dates.push(file.setup.date);
            for failure in file.failures {
                kind(&name, &failure.engine)?;
                runs.failures.push(failure);
            }
            for record in file.records {
                let work = Work {
                    prefix: record.prefix,
                    workload: record.workload.clone(),
                    engine: kind(&name, &record.engine)?,
                };
                let round = Round { file: at, round: record.round };
                if let Some(twin) = runs.records.entry(work).or_default().insert(round, record) {
                    let Record { engine, workload, round, .. } = twin;
                    return Err(format!("{name} has two results of {workload} on {engine} in round {round}").into());
                }
            }
        }
        Ok(runs)
    }

    /// Without and with a common prefix, as far as there is anything.
    pub fn prefixes(&self) -> BTreeSet<bool> {
        let failed = self.failures.iter().map(|failure| failure.prefix);
        self.records.keys().map(|work| work.prefix).chain(failed).collect()
    }

    pub fn rounds(&self, prefix: bool) -> usize {
        let works = self.records.iter().filter(|(work, _)| work.prefix == prefix);
        works.flat_map(|(_, rounds)| rounds.keys()).collect::<BTreeSet<_>>().len()
    }

    /// Names in the order of their first letters, of failed ones too.
    pub fn workloads(&self, prefix: bool) -> BTreeSet<String> {
        let ran = self.records.keys().filter(|work| work.prefix == prefix).map(|work| work.workload.clone());
        let failed = self.failures.iter().filter(|failure| failure.prefix == prefix && !failure.not_offered);
        ran.chain(failed.map(|failure| failure.workload.clone())).collect()
    }

    /// Empty if it never ran to its end.
    pub fn records(&self, prefix: bool, workload: &str, engine: Kind) -> &BTreeMap<Round, Record> {
        static NONE: BTreeMap<Round, Record> = BTreeMap::new();
        let work = Work { prefix, workload: workload.to_owned(), engine };
        self.records.get(&work).unwrap_or(&NONE)
    }

    pub fn failures(&self, prefix: bool, workload: &str, engine: Kind) -> impl Iterator<Item = &Failure> {
        let of = move |failure: &&Failure| {
            failure.prefix == prefix && failure.workload == workload && failure.engine == engine.name()
        };
        self.failures.iter().filter(of)
    }
}

fn kind(file: &str, engine: &str) -> Result<Kind> {
    Kind::named(engine).ok_or_else(|| format!("{file}: there is no engine {engine}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(date: &str, records: &[(&str, u32)]) -> ResultsFile {
        let record = |&(engine, round): &(&str, u32)| Record {
            engine: engine.to_owned(),
            workload: "readseq".to_owned(),
            round,
            ..Record::default()
        };
        ResultsFile {
            setup: Setup { date: date.to_owned(), ..Setup::default() },
            records: records.iter().map(record).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn rounds_of_different_files_are_different_rounds() {
        let one = file("1 May", &[("redb", 1), ("redb", 2)]);
        let two = file("2 May", &[("redb", 1)]);
        let runs = Runs::of(vec![("one".into(), one), ("two".into(), two)]).unwrap();
        assert_eq!(runs.rounds(false), 3);
        assert_eq!(runs.records(false, "readseq", Kind::Redb).len(), 3);
        assert!(runs.records(true, "readseq", Kind::Redb).is_empty());
        assert_eq!(runs.dates, ["1 May", "2 May"]);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mut other = file("", &[]);
        other.setup.keys = 5;
        let refused = |files: Vec<(String, ResultsFile)>| Runs::of(files).err().unwrap().to_string();
        assert!(
            refused(vec![("a".into(), file("", &[])), ("b".into(), other)])
                .contains("a and b differ in setup: report them apart\n  keys: 0 there, 5 here")
        );
        assert!(
            refused(vec![("a".into(), file("", &[("redb", 1), ("redb", 1)]))])
                .contains("two results of readseq on redb")
        );
        assert!(refused(vec![("a".into(), file("", &[("sqlite", 1)]))]).contains("no engine sqlite"));
        assert!(refused(Vec::new()).contains("no file"));
    }

    #[test]
    fn a_workload_that_always_failed_is_one() {
        let failure = |workload: &str, not_offered| Failure {
            engine: "redb".into(),
            workload: workload.into(),
            not_offered,
            failure: "killed".into(),
            ..Failure::default()
        };
        let mut file = file("", &[("redb", 1)]);
        file.failures = vec![failure("fillseq", false), failure("mvccfill", true)];
        let runs = Runs::of(vec![("a".into(), file)]).unwrap();
        assert_eq!(Vec::from_iter(runs.workloads(false)), ["fillseq", "readseq"]);
        assert_eq!(runs.failures(false, "fillseq", Kind::Redb).count(), 1);
        assert_eq!(runs.failures(true, "fillseq", Kind::Redb).count(), 0);
        assert_eq!(runs.failures(false, "fillseq", Kind::Fjall).count(), 0);
    }
}
