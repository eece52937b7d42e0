//! The program as it is called: a process for each run, and what comes of one that does not end well.

use std::path::Path;
use std::process::{Command, Output};

fn peers(directory: &Path, arguments: &str) -> Output {
    let mut peers = Command::new(env!("CARGO_BIN_EXE_strandline-peers"));
    peers.args(arguments.split(' ')).current_dir(directory).output().unwrap()
}

fn lines(directory: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(directory.join("results/test.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_run_leaves_a_line_and_is_not_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let run = "run --name test --keys 2000 --rounds 2 --dir . --engines strandline --workloads readrandom,fillrandom";
    let output = peers(directory.path(), run);
    assert!(output.status.success(), "{output:?}");
    let found = lines(directory.path());
    assert_eq!(found[0]["keys"], 2000);
    let runs: Vec<_> = found[1..].iter().map(|line| format!("{} {}", line["workload"], line["round"])).collect();
    assert_eq!(runs, ["\"fillrandom\" 1", "\"readrandom\" 1", "\"fillrandom\" 2", "\"readrandom\" 2"]);
    assert!(found[1]["bytes_written"].as_u64().unwrap() > 0 || found[0]["file_system"] == "tmpfs", "{}", found[1]);
    assert!(!directory.path().join("peers-data/test").exists());

    let again = peers(directory.path(), run);
    assert!(again.status.success() && again.stdout.is_empty(), "{again:?}");
    let other_keys = peers(directory.path(), &run.replace("2000", "3000"));
    assert!(!other_keys.status.success());
    assert!(String::from_utf8_lossy(&other_keys.stderr).contains("keys: 2000 there, 3000 here"), "{other_keys:?}");
    assert_eq!(lines(directory.path()), found);
}

#[test]
fn a_run_that_does_not_end_is_killed_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let run =
        "run --name test --keys 1000000 --rounds 1 --dir . --engines strandline --workloads fillrandom --timeout 0";
    let output = peers(directory.path(), run);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no end after 0 s"), "{output:?}");
    let found = lines(directory.path());
    assert_eq!((found.len(), &found[1]["not_offered"]), (2, &false.into()));
}

#[test]
fn a_run_that_found_too_little_has_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let output = peers(directory.path(), "one strandline readrandom --round 1 --keys 100 --dir .");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("reads that hit: 0, not 1"), "{output:?}");
}
