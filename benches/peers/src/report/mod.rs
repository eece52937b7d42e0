//! What files of results come to: RESULTS.md, results.json and charts.
//!
//! ```text
//! runs      the records of all files, by workload, engine and round
//! figures   medians over rounds; ratios within rounds        targets   rows of the tables, and their marks
//! verdicts  the rows: ratios, and whether marks are reached  summary   how many are, and who is faster where
//! markdown, details, chart (by svg), and serde: how it is shown
//! ```

mod chart;
mod details;
mod figures;
mod format;
mod markdown;
mod names;
mod runs;
mod summary;
mod svg;
mod targets;
#[cfg(test)]
mod tests;
mod verdicts;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::engine::Result;
use crate::record::{Failure, Setup};

/// Everything that is shown; as JSON, all of it.
#[derive(Debug, Serialize)]
struct Report {
    setup: Setup,
    dates: Vec<String>,
    summaries: Vec<summary::Summary>,
    groups: Vec<verdicts::Group>,
    failures: Vec<Failure>,
}

struct Chart {
    table: targets::Table,
    prefix: bool,
    file: String,
    svg: String,
}

/// Reads files of results that were made with one setup, and writes the report into the directory `out`.
pub fn run(results: &[PathBuf], out: &Path) -> Result<()> {
    let runs = runs::Runs::read(results)?;
    std::fs::create_dir_all(out)?;
    for (file, text) in files(runs)? {
        std::fs::write(out.join(file), text)?;
    }
    Ok(())
}

/// Names and texts of the files of a report.
fn files(runs: runs::Runs) -> Result<Vec<(String, String)>> {
    let groups: Vec<_> = runs.prefixes().into_iter().map(|prefix| verdicts::Group::of(&runs, prefix)).collect();
    let summaries = groups.iter().map(summary::Summary::of).collect();
    let report = Report { setup: runs.setup, dates: runs.dates, summaries, groups, failures: runs.failures };
    let charts = charts(&report);
    let mut files = vec![
        ("RESULTS.md".to_owned(), markdown::render(&report, &charts)),
        ("results.json".to_owned(), serde_json::to_string_pretty(&report)? + "\n"),
    ];
    files.extend(charts.into_iter().map(|chart| (chart.file, chart.svg)));
    Ok(files)
}

fn charts(report: &Report) -> Vec<Chart> {
    use targets::Table;
    let mut charts = Vec::new();
    for group in &report.groups {
        for (table, name) in [(Table::Writes, "writes"), (Table::Reads, "reads"), (Table::Versions, "versions")] {
            if let Some(svg) = chart::draw(group, table, &report.setup) {
                let file = if group.prefix { format!("{name}-prefix.svg") } else { format!("{name}.svg") };
                charts.push(Chart { table, prefix: group.prefix, file, svg });
            }
        }
    }
    charts
}
