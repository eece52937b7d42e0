//! The order of runs, what is skipped, and what comes of failures; without engines.

use super::*;
use crate::record::ResultsFile;
use crate::workloads::named;

const NAMES: [&str; 4] = ["fillseq", "fillrandom", "readrandom", "overwrite"];

fn plan(directory: &Path) -> Plan {
    Plan {
        results: directory.join("results/test.jsonl"),
        data: directory.join("data"),
        scale: Scale { keys: 10, prefix: false, changes: None },
        rounds: 2,
        rounds_of_others: 2,
        engines: vec![Kind::Strandline, Kind::Redb],
        workloads: NAMES.iter().map(|name| named(name).unwrap()).collect(),
    }
}

fn setup(keys: u64) -> Setup {
    Setup { keys, ..Setup::default() }
}

/// Leaves a file, as an engine does.
fn execute(job: &Job) -> Outcome {
    let full = job.directory.join("file").exists();
    assert_eq!(full, job.workload.needs().is_some(), "{} on {}", job.workload.name, job.engine.name());
    std::fs::write(job.directory.join("file"), job.workload.name).unwrap();
    let record = Record {
        engine: job.engine.name().into(),
        workload: job.workload.name.into(),
        round: job.round,
        operations: 10,
        seconds: 1.0,
        ..Record::default()
    };
    Outcome::Record(Box::new(record))
}

/// The runs that were executed until `most` were; then the parent dies.
fn runs(plan: &Plan, most: usize) -> Vec<(u32, &'static str, &'static str)> {
    let mut runs = Vec::new();
    let result = run(plan, &setup(10), &mut |job| {
        if runs.len() == most {
            return Err("interrupted".into());
        }
        runs.push((job.round, job.workload.name, job.engine.name()));
        Ok(execute(job))
    });
    assert_eq!(result.is_err(), runs.len() == most);
    runs
}

#[test]
fn engines_run_in_turn_and_another_one_begins_each_round() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path());
    let mut expected = Vec::new();
    for (round, engines) in [(1, ["redb", "strandline"]), (2, ["strandline", "redb"])] {
        expected.extend(NAMES.iter().flat_map(|&name| engines.map(|engine| (round, name, engine))));
    }
    assert_eq!(runs(&plan, usize::MAX), expected);
    let file = ResultsFile::read(&plan.results).unwrap();
    assert_eq!((file.records.len(), file.failures.len()), (16, 0));
    assert!(!plan.data.exists());
    assert_eq!(runs(&plan, usize::MAX), [], "all is there");
}

#[test]
fn an_interrupted_run_goes_on_where_it_ended() {
    for interrupted_after in 0..16 {
        let directory = tempfile::tempdir().unwrap();
        let plan = plan(directory.path());
        let first = runs(&plan, interrupted_after);
        // A line that was cut off, and data that is lost: the fill comes once more, and is not counted twice.
        let mut text = read_to_string(&plan.results).unwrap();
        text.push_str("{\"engine\":\"str");
        std::fs::write(&plan.results, text).unwrap();
        remove_directory(&plan.data).unwrap();
        let second = runs(&plan, usize::MAX);
        let mut all: Vec<_> = [first, second].concat();
        assert!(all.len() <= 18, "{}", all.len());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16);
        let file = ResultsFile::read(&plan.results).unwrap();
        let mut records: Vec<_> = file.records.iter().map(Record::run).collect();
        records.sort_unstable();
        records.dedup();
        assert_eq!((records.len(), file.records.len()), (16, 16));
    }
}

#[test]
fn engines_for_orientation_may_have_fewer_rounds() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { rounds_of_others: 1, ..plan(directory.path()) };
    let done = runs(&plan, usize::MAX);
    let of = |kind: Kind, round| done.iter().filter(|run| run.2 == kind.name() && run.0 == round).count();
    assert_eq!([1, 2, 3].map(|round| of(Kind::Strandline, round)), [4, 4, 0]);
    assert_eq!([1, 2].map(|round| of(Kind::Redb, round)), [4, 0]);
}

#[test]
fn what_failed_is_in_the_file_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { rounds: 1, ..plan(directory.path()) };
    let failed = run(&plan, &setup(10), &mut |job| {
        Ok(match (job.engine, job.workload.name) {
            (Kind::Redb, "fillrandom") => Outcome::Failed("the disk is full".into()),
            (Kind::Strandline, "fillseq") => Outcome::NotOffered,
            _ => execute(job),
        })
    });
    assert_eq!(failed.unwrap(), 3, "the fill, and the two that need it");
    let file = ResultsFile::read(&plan.results).unwrap();
    assert_eq!((file.records.len(), file.failures.len()), (4, 4));
    let of_read = file.failures.iter().find(|failure| failure.workload == "readrandom").unwrap();
    assert_eq!(of_read.failure, "fillrandom failed before it: the disk is full");
    // Again: what failed is tried, what is not offered is not.
    assert_eq!(runs(&plan, usize::MAX).len(), 3);
    let file = ResultsFile::read(&plan.results).unwrap();
    assert_eq!((file.records.len(), file.failures.len()), (7, 1));
}

#[test]
fn a_file_of_another_setup_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path());
    runs(&plan, 1);
    let error = run(&plan, &setup(11), &mut |job| Ok(execute(job))).unwrap_err().to_string();
    assert!(error.contains("keys: 10 there, 11 here"), "{error}");
}
