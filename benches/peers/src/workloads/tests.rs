//! Every workload on every engine that is compiled in, small, without processes.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::run::{Job, Outcome, Plan};
use crate::setup::setup;

/// Runs all as a plan of one round, and says what each came to.
fn run_all(engine: Kind, prefix: bool) -> BTreeMap<&'static str, Outcome> {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        results: directory.path().join("results.jsonl"),
        data: directory.path().join("data"),
        scale: Scale { keys: 2000, prefix, changes: None },
        rounds: 1,
        rounds_of_others: 1,
        engines: vec![engine],
        workloads: ALL.iter().collect(),
    };
    let mut outcomes = BTreeMap::new();
    let mut execute = |job: &Job| {
        let outcome = match job.workload.run(job.engine, job.directory, job.scale) {
            Ok(Some(record)) => Outcome::Record(Box::new(record)),
            Ok(None) => Outcome::NotOffered,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        assert!(outcomes.insert(job.workload.name, outcome.clone()).is_none(), "{} ran twice", job.workload.name);
        Ok(outcome)
    };
    crate::run::run(&plan, &setup(2000, directory.path()).unwrap(), &mut execute).unwrap();
    outcomes
}

fn check(engine: Kind, prefix: bool) {
    let outcomes = run_all(engine, prefix);
    assert!(outcomes.contains_key("fillrandom") || outcomes.contains_key("mvccfill"));
    for (workload, outcome) in outcomes {
        match outcome {
            Outcome::Record(record) => {
                assert!(record.operations > 0 && record.seconds > 0.0, "{workload}: {record:?}");
                assert!(record.directory_bytes > 0 && record.peak_memory_bytes > 0, "{workload}: {record:?}");
                assert_eq!(record.beside_per_second.is_some(), workload == "readwhilewriting");
                let latency = record.latency.map_or(1, |latency| latency.p50);
                assert!(latency > 0 && latency < 1_000_000_000, "{workload}: {record:?}");
            }
            Outcome::NotOffered => assert_ne!(engine, Kind::Strandline, "{workload}"),
            Outcome::Failed(why) => panic!("{workload} on {}: {why}", engine.name()),
        }
    }
}

#[test]
fn every_workload_runs_on_every_engine() {
    for (engine, _) in engines::compiled() {
        check(engine, false);
    }
}

#[test]
fn every_workload_runs_on_prefixed_keys() {
    check(Kind::Strandline, true);
}

#[test]
fn workloads_have_names_of_their_own_and_fills_come_before_what_needs_them() {
    let mut before = Vec::new();
    for workload in ALL {
        assert!(!before.contains(&workload.name), "{} twice", workload.name);
        before.push(workload.name);
        if !matches!(workload.start, Start::Empty) {
            assert!(before.contains(&workload.needs().unwrap().name), "{}", workload.name);
        }
    }
}

#[test]
fn a_read_that_does_not_find_what_is_there_fails() {
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str, keys| {
        let scale = Scale { keys, prefix: false, changes: None };
        named(name).unwrap().run(Kind::Strandline, Path::new(directory.path()), &scale)
    };
    run("fillrandom", 1000).unwrap();
    run("readrandom", 1000).unwrap();
    // Of more keys than were put.
    for name in ["readrandom", "multireadrandom", "seekrandom", "seekrandom-50", "readseq", "readreverse"] {
        assert!(run(name, 2000).is_err(), "{name}");
    }
    run("readmissing", 1000).unwrap();
}
