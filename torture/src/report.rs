//! Tables of what was done: by this run, and by all that the ledger has.

use comfy_table::{CellAlignment, Table};

use crate::campaign::{Counts, Outcome};
use crate::jobs::Job;
use crate::ledger::{self, Ledger, Sum};

/// What this run has done, a row a program.
pub fn outcomes(rows: &[(&str, Outcome)]) -> Table {
    let mut table = empty(["program", "h:mm:ss", "rounds", "violations", "done"]);
    for (program, outcome) in rows {
        table.add_row([
            (*program).to_owned(),
            clock(outcome.seconds),
            dash_if_none(outcome.rounds),
            grouped(outcome.violations.len() as u64),
            done(&outcome.counts, &outcome.reached),
        ]);
    }
    right_aligned(table, 1..4)
}

/// All that the ledger has for the code as it is: a row a program, their sum, and below it what was found.
///
/// # Errors
/// The ledger cannot be read.
pub fn of_ledger(jobs: &[Job], ledger: &Ledger) -> std::io::Result<String> {
    let mut table = empty(["program", "runs", "h:mm:ss", "rounds", "violations", "done", "commits"]);
    let mut all = Sum::default();
    let mut found = Vec::new();
    for job in jobs {
        let sum = ledger.sum(job.name(), &ledger::code(job.covers()))?;
        table.add_row(row(job.name(), &sum, done(&sum.counts, &sum.reached)));
        all.runs += sum.runs;
        all.seconds += sum.seconds;
        all.rounds += sum.rounds;
        all.violations += sum.violations;
        for commit in sum.commits {
            if !all.commits.contains(&commit) {
                all.commits.push(commit);
            }
        }
        found.extend(sum.found.iter().map(|what| format!("\n  {}: {what}", job.name())));
    }
    if jobs.len() > 1 {
        table.add_row(row("all", &all, String::new()));
    }
    let found = if found.is_empty() { String::new() } else { format!("\nviolations:{}", found.concat()) };
    Ok(format!("{}{found}", right_aligned(table, 1..5)))
}

fn row(name: &str, sum: &Sum, done: String) -> [String; 7] {
    [
        name.to_owned(),
        dash_if_none(sum.runs),
        clock(sum.seconds),
        dash_if_none(sum.rounds),
        grouped(sum.violations),
        done,
        commits(&sum.commits),
    ]
}

/// In the order of the runs, the first and the last.
fn commits(commits: &[String]) -> String {
    match commits {
        [] => String::new(),
        [one] => one.clone(),
        [first, .., last] => format!("{first}\n.. {last}"),
    }
}

/// A line for each thing that was counted.
fn done(counts: &Counts, reached: &Counts) -> String {
    let lines = counts.0.iter().chain(&reached.0).map(|(name, count)| format!("{} {name}", grouped(*count)));
    lines.collect::<Vec<_>>().join("\n")
}

fn empty<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn right_aligned(mut table: Table, columns: std::ops::Range<usize>) -> Table {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn dash_if_none(count: u64) -> String {
    if count == 0 { "-".to_owned() } else { grouped(count) }
}

/// With a comma before every three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[test]
fn numbers_are_grouped_and_times_are_clocks() {
    assert_eq!(
        [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped),
        ["0", "12", "123", "1,234", "123,456", "1,234,567"]
    );
    assert_eq!([0, 61, 36_000, 360_061].map(clock), ["0:00:00", "0:01:01", "10:00:00", "100:01:01"]);
}

#[test]
fn the_ledger_is_shown_with_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(Some(dir.path().join("ledger.jsonl")));
    let entry = |program: &str, commit: &str, seconds, covers| ledger::Entry {
        program: program.to_owned(),
        commit: commit.to_owned(),
        code: ledger::code(covers),
        seconds,
        ..ledger::Entry::default()
    };
    let lives = entry("lives", "aaa", 3600, &[]);
    ledger.add(&ledger::Entry { rounds: 1000, counts: Counts([("cuts".to_owned(), 5)].into()), ..lives }).unwrap();
    let lives = entry("lives", "bbb", 1800, &[]);
    ledger.add(&ledger::Entry { rounds: 500, violations: 1, failed: vec![77], ..lives }).unwrap();
    let fuzz = &crate::fuzzing::TARGETS[0];
    let crash = entry(fuzz.program, "bbb", 60, fuzz.covers);
    ledger.add(&ledger::Entry { violations: 1, artifacts: vec!["a/crash".into()], ..crash }).unwrap();
    let shown = of_ledger(&crate::jobs::all(), &ledger).unwrap();
    for part in ["1:30:00", "1,500", "5 cuts", "aaa", ".. bbb", "1:31:00", "lives: seed 77, at bbb", "a/crash, at bbb"]
    {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}
