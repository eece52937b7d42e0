//! Whole reports, from records that were made up.

use std::collections::{BTreeMap, BTreeSet};

use super::files;
use super::runs::Runs;
use super::svg::tests::well_formed;
use super::verdicts::{Group, Line, Outcome, Verdict};
use crate::engine::Kind;
use crate::record::{Failure, Latency, Record, ResultsFile, Setup};

const PLAIN: [Kind; 4] = [Kind::Strandline, Kind::RocksDb, Kind::RocksDbTuned, Kind::Redb];

fn setup() -> Setup {
    Setup {
        keys: 2_000_000,
        value_bytes: 100,
        versioned_keys: 100_000,
        versions: 20,
        date: "1 May 2026".into(),
        machine: "2 cores of <some> processor & more".into(),
        kernel: "Linux 6.1".into(),
        file_system: "ext4".into(),
        rustc: "1.95.0".into(),
        engines: vec![("strandline".into(), "0.1.0".into()), ("redb".into(), "4.0.0".into())],
        memtable_bytes: 64 << 20,
        cache_bytes: 512 << 20,
        block_bytes: 4096,
        filter_bits: 10,
        background_threads: 2,
        codec: "LZ4".into(),
        seed: 42,
    }
}

/// `rate` in thousands a second.
fn record(engine: Kind, workload: &str, round: u32, rate: f64) -> Record {
    Record {
        engine: engine.name().into(),
        workload: workload.into(),
        round,
        threads: 1,
        operations: 1_000_000,
        seconds: 1000.0 / rate,
        drain_seconds: 1.0,
        bytes_written: 232_000_000,
        directory_bytes: 172 << 20,
        peak_memory_bytes: 300 << 20,
        cpu_seconds: 3.5,
        latency: Some(Latency {
            p50: 3_500,
            p99: 20_000,
            p99_9: 90_000,
            p99_99: (17_000_000.0 * 100.0 / rate) as u64,
            longest: 99_000_000,
        }),
        ..Record::default()
    }
}

/// RocksDB at 100 k/s; the others at the rates that are given.
fn records(workload: &str, rates: [f64; 4]) -> Vec<Record> {
    let rounds = [(1, 0.9), (2, 1.0), (3, 1.1)];
    let of = |(engine, rate)| {
        rounds.map(|(round, more)| {
            // Only strandline is uneven.
            record(engine, workload, round, if engine == Kind::Strandline { rate * more } else { rate })
        })
    };
    PLAIN.into_iter().zip(rates).flat_map(of).collect()
}

fn results(records: Vec<Record>) -> ResultsFile {
    ResultsFile { setup: setup(), records, failures: Vec::new() }
}

fn runs(file: ResultsFile) -> Runs {
    Runs::of(vec![("made up".into(), file)]).unwrap()
}

fn report(file: ResultsFile) -> BTreeMap<String, String> {
    files(runs(file)).unwrap().into_iter().collect()
}

fn line<'a>(group: &'a Group, label: &str) -> &'a Line {
    group.lines.iter().find(|line| line.label == label).unwrap()
}

/// The row of a table of RESULTS.md.
fn row<'a>(markdown: &'a str, label: &str) -> Vec<&'a str> {
    let start = format!("| {label} |");
    let row = markdown.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {label}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn losses_are_counted_and_named() {
    let mut all = records("fillseq", [260.0, 100.0, 120.0, 30.0]);
    all.extend(records("readrandom", [240.0, 100.0, 105.0, 290.0]));
    all.extend(records("readmissing", [95.0, 100.0, 90.0, 20.0]));
    let markdown = &report(results(all))["RESULTS.md"];

    assert!(markdown.contains("**2 of 4 targets met.**"), "{markdown}");
    assert!(
        markdown.contains(
            "- Missed: readrandom, settled (2.40 where 2.6 is the target); readmissing (0.95 where 2 is the target).\n"
        ),
        "{markdown}"
    );
    assert!(markdown.contains("- Behind RocksDB in: readmissing (0.95).\n"), "{markdown}");
    assert!(markdown.contains("in: readrandom, settled (2.40 against 2.90 of redb)."), "{markdown}");
    let header = "| workload | target | verdict | RocksDB | strandline | RocksDB, tuned | redb |";
    assert!(markdown.contains(header), "{markdown}");
    assert_eq!(
        row(markdown, "fillseq"),
        [
            "fillseq",
            "2.5",
            "met",
            "100 k/s, p50 3.5 µs",
            "**2.60 (2.34 - 2.86)**",
            "1.20 (1.20 - 1.20)",
            "0.30 (0.30 - 0.30)"
        ]
        .map(|cell| cell.to_owned())
    );
    assert_eq!(row(markdown, "readmissing")[2], "**missed**");
    assert!(markdown.contains("No run failed."));
    for fact in [
        "2 cores of <some> processor",
        "Linux 6.1",
        "ext4",
        "1.95.0",
        "redb 4.0.0",
        "1 May 2026",
        "64 MiB",
        "| seed | 42 |",
    ] {
        assert!(markdown.contains(fact), "{fact}");
    }
}

#[test]
fn a_fill_is_judged_by_its_rate_its_drain_and_its_longest_waits() {
    let runs = runs(results(records("fillrandom", [400.0, 100.0, 100.0, 100.0])));
    let group = Group::of(&runs, false);
    let reached = |label| line(&group, label).reached.unwrap().median;
    let verdicts = |label| line(&group, label).verdict;
    assert_eq!(reached("fillrandom"), 4.0);
    // 10 s and 2.5 s, and a drain of 1 s each.
    assert!((reached("fillrandom + drain") - 11.0 / 3.5).abs() < 1e-9);
    assert!((reached("p99.99 of a put during fillrandom") - 0.25).abs() < 1e-6);
    assert_eq!(verdicts("p99.99 of a put during fillrandom"), Verdict::Met);
    assert_eq!(reached("directory after fillrandom"), 1.0);
    assert_eq!(verdicts("directory after fillrandom"), Verdict::Met);
    assert_eq!(verdicts("peak memory, the worst of all workloads (fillrandom)"), Verdict::Met);
}

#[test]
fn memory_is_judged_where_it_is_worst() {
    let mut all = records("fillseq", [260.0, 100.0, 120.0, 30.0]);
    all.extend(records("readseq", [260.0, 100.0, 120.0, 30.0]));
    for record in &mut all {
        if record.engine == "strandline" && record.workload == "readseq" {
            record.peak_memory_bytes *= 2;
        }
    }
    let group = Group::of(&runs(results(all)), false);
    let memory = line(&group, "peak memory, the worst of all workloads (readseq)");
    assert_eq!((memory.verdict, memory.reached.unwrap().median), (Verdict::Missed, 2.0));
    assert!(memory.is_behind());
}

#[test]
fn reads_beside_fewer_writes_than_rocksdbs_miss_their_target() {
    let with = |ours: f64| {
        let mut all = records("readwhilewriting", [300.0, 100.0, 100.0, 100.0]);
        for record in &mut all {
            record.beside_per_second = Some(if record.engine == "strandline" { ours } else { 115_000.0 });
        }
        report(results(all))["RESULTS.md"].clone()
    };
    let enough = with(120_000.0);
    assert_eq!(
        row(&enough, "readwhilewriting: reads")[2..5],
        ["met", "100 k/s, p50 3.5 µs beside 115 k/s writes", "**3.00 (2.70 - 3.30)** beside 120 k/s writes"]
    );
    let few = with(110_000.0);
    assert_eq!(row(&few, "readwhilewriting: reads")[2], "**missed**: fewer writes beside it");
    assert!(few.contains("- Missed: readwhilewriting: reads (fewer writes beside them than RocksDB's)."), "{few}");
}

#[test]
fn versions_are_held_against_the_better_mode_and_it_is_named() {
    let mut all = Vec::new();
    for (workload, timestamps, keys) in [("mvccfill", 100.0, 90.0), ("mvccreadasof", 50.0, 100.0)] {
        for round in 1..=3 {
            all.push(record(Kind::Strandline, workload, round, 300.0));
            all.push(record(Kind::RocksDb, workload, round, timestamps));
            all.push(record(Kind::RocksDbKeys, workload, round, keys));
        }
    }
    let markdown = &report(results(all))["RESULTS.md"];
    assert_eq!(
        row(markdown, "mvccfill")[3..],
        ["100 k/s, p50 3.5 µs; timestamps", "**3.00 (3.00 - 3.00)**", "1 (base)", "0.90 (0.90 - 0.90)"]
    );
    assert_eq!(
        row(markdown, "read as of a random time")[2..],
        ["met", "100 k/s, p50 3.5 µs; versions in keys", "**3.00 (3.00 - 3.00)**", "0.50 (0.50 - 0.50)", "1 (base)"]
    );
}

#[test]
fn work_that_is_held_against_our_own_is_judged_without_rocksdb() {
    let ours = |workload, rate| record(Kind::Strandline, workload, 1, rate);
    let all = vec![
        ours("readseq", 1000.0),
        ours("mvccscan", 850.0),
        ours("mvccchanges", 130.0),
        ours("mvccscanversions", 1000.0),
    ];
    let group = Group::of(&runs(results(all)), false);
    let (scan, changes) = (line(&group, "scan all, present"), line(&group, "changes in the last 1\u{a0}% of time"));
    assert_eq!((scan.verdict, scan.reached.unwrap().median), (Verdict::Missed, 0.85));
    // A hundredth of the versions at 0.13 of the rate: 13 times faster.
    assert_eq!(changes.verdict, Verdict::Met);
    assert!((changes.reached.unwrap().median - 13.0).abs() < 1e-9);
    assert_eq!(scan.outcome(Kind::Strandline), Outcome::NoBase);
    assert_eq!(line(&group, "readseq (cursor)").verdict, Verdict::NotMeasured);
}

#[test]
fn what_failed_and_what_is_not_offered_is_told_apart() {
    let mut file = results(records("fillseq", [260.0, 100.0, 120.0, 30.0]));
    file.records.extend(records("fillbatch", [260.0, 100.0, 120.0, 30.0]));
    file.records
        .retain(|record| !(record.workload == "fillbatch" && ["strandline", "redb"].contains(&&*record.engine)));
    file.records.retain(|record| !(record.workload == "fillseq" && record.engine == "redb" && record.round == 2));
    let failure = |engine: &str, not_offered, failure: &str| Failure {
        engine: engine.into(),
        workload: "fillbatch".into(),
        round: 1,
        prefix: false,
        not_offered,
        failure: failure.into(),
    };
    file.failures = vec![failure("strandline", false, "a | b\nc"), failure("redb", true, "nothing of the kind")];
    let files = report(file);
    let markdown = &files["RESULTS.md"];
    assert_eq!(
        row(markdown, "fillbatch (100 a commit)")[2..],
        ["**missed**: failed", "100 k/s, p50 3.5 µs", "failed", "1.20 (1.20 - 1.20)", "not offered"]
    );
    assert_eq!(row(markdown, "fillseq").last(), Some(&"0.30 (0.30 - 0.30); 2 of 3 rounds"));
    assert!(markdown.contains("| strandline | fillbatch | short | 1 | a \\| b c |"), "{markdown}");
    assert!(markdown.contains("- Missed: fillbatch (100 a commit) (failed)."), "{markdown}");
    assert!(files["writes.svg"].contains(">not offered</text>") && files["writes.svg"].contains(">failed</text>"));
}

#[test]
fn prefixed_keys_have_tables_and_charts_of_their_own() {
    let mut all = records("fillseq", [260.0, 100.0, 120.0, 30.0]);
    let mut prefixed = records("fillseq", [200.0, 100.0, 120.0, 30.0]);
    prefixed.iter_mut().for_each(|record| record.prefix = true);
    all.extend(prefixed);
    let files = report(results(all));
    assert_eq!(Vec::from_iter(files.keys()), ["RESULTS.md", "results.json", "writes-prefix.svg", "writes.svg"]);
    let markdown = &files["RESULTS.md"];
    assert!(markdown.contains("- Missed: fillseq (2.00 where 2.5 is the target)."), "{markdown}");
    assert!(markdown.contains("](writes.svg)") && markdown.contains("](writes-prefix.svg)"));
    // 232 bytes an operation, for keys of 16 or 40 bytes and values of 100.
    assert!(markdown.contains("| fillseq | redb | 221 MiB | 2.00 | 172 MiB | 300 MiB |"), "{markdown}");
    assert!(markdown.contains("| fillseq | redb | 221 MiB | 1.66 | 172 MiB | 300 MiB |"), "{markdown}");
}

#[test]
fn charts_are_well_formed_whatever_names_hold() {
    let mut all = Vec::new();
    for row in super::targets::ROWS.iter().filter(|row| !row.workload.is_empty()) {
        if !all.iter().any(|record: &Record| record.workload == row.workload) {
            all.extend(records(row.workload, [1500.0, 100.0, 0.2, 99.9]));
        }
    }
    let files = report(results(all));
    for chart in ["writes.svg", "reads.svg", "versions.svg"] {
        let svg = &files[chart];
        assert_eq!(well_formed(svg), Ok(()), "{chart}");
        assert!(svg.contains("2 cores of &lt;some&gt; processor &amp; more"), "{chart}");
        assert!(svg.contains(">15.0</text>") && svg.contains(">0.002</text>"), "{chart}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{chart}");
    }
}

#[test]
fn work_without_a_row_is_shown_all_the_same() {
    let files = report(results(records("gitfill", [150.0, 100.0, 120.0, 30.0])));
    assert_eq!(
        row(&files["RESULTS.md"], "gitfill")[1..5],
        ["none", "", "100 k/s, p50 3.5 µs", "**1.50 (1.35 - 1.65)**"]
    );
}

#[test]
fn without_rocksdb_there_are_rates_and_no_ratios() {
    let mut all = records("fillseq", [260.0, 100.0, 120.0, 30.0]);
    all.retain(|record| !record.engine.starts_with("rocksdb"));
    let files = report(results(all));
    assert_eq!(Vec::from_iter(files.keys()), ["RESULTS.md", "results.json"]);
    let markdown = &files["RESULTS.md"];
    assert!(markdown.contains("**0 of 0 targets met.**") && markdown.contains("not measured: fillseq"), "{markdown}");
    assert!(markdown.contains("| fillseq | redb | 30 k/s | 3.5 µs |"), "{markdown}");
}

#[test]
fn the_json_has_medians_ratios_and_verdicts() {
    let files = report(results(records("fillseq", [260.0, 100.0, 120.0, 30.0])));
    let json: serde_json::Value = serde_json::from_str(&files["results.json"]).unwrap();
    let line = &json["groups"][0]["lines"][0];
    assert_eq!((&line["workload"], &line["verdict"]), (&"fillseq".into(), &"met".into()));
    assert_eq!((&line["base"]["engine"], line["target"]["rocks_db"].as_f64()), (&"rocksdb".into(), Some(2.5)));
    assert_eq!(line["cells"][0]["engine"], "strandline");
    assert_eq!(line["cells"][0]["outcome"]["ratio"]["rounds"], 3);
    let figures = &json["groups"][0]["figures"][0];
    assert_eq!(
        (&figures["engine"], figures["operations_per_second"].as_f64()),
        (&"strandline".into(), Some(260_000.0))
    );
    assert_eq!(json["summaries"][0]["judged"], 2);
    assert_eq!(json["setup"]["seed"], 42);
}

#[test]
fn every_workload_has_a_row_and_every_row_a_workload() {
    let rows: BTreeSet<&str> =
        super::targets::ROWS.iter().map(|row| row.workload).filter(|name| !name.is_empty()).collect();
    let workloads: BTreeSet<&str> = crate::workloads::ALL.iter().map(|workload| workload.name).collect();
    assert_eq!(rows, workloads);
}

#[test]
fn files_are_read_and_written() {
    let dir = std::env::temp_dir().join(format!("strandline-peers-report-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("made-up.jsonl");
    let mut text = serde_json::to_string(&setup()).unwrap() + "\n";
    for record in records("fillseq", [260.0, 100.0, 120.0, 30.0]) {
        text.push_str(&(serde_json::to_string(&record).unwrap() + "\n"));
    }
    std::fs::write(&path, text).unwrap();
    let done = super::run(&[path], &dir.join("out"));
    let written = ["RESULTS.md", "results.json", "writes.svg"].map(|file| dir.join("out").join(file).exists());
    std::fs::remove_dir_all(&dir).unwrap();
    done.unwrap();
    assert_eq!(written, [true; 3]);
}
