//! RESULTS.md: what it comes to, what it was measured on, and the tables of ratios.

use super::details;
use super::figures::{KEY_BYTES, PREFIX_BYTES, Spread};
use super::format;
use super::names;
use super::summary::Summary;
use super::targets::{Measure, ROWS, Table, Target};
use super::verdicts::{Group, Line, Outcome, Verdict};
use super::{Chart, Report};
use crate::engine::Kind;

/// The ratios' rules, for readers who come from elsewhere.
const READING: &str = "\
Every engine did the same work in a process of its own, engines in turn within each round. Figures are ratios to \
RocksDB in the same round: the median over rounds, with least and greatest in parentheses. **Higher is better**, and \
above 1 is faster than RocksDB; where a row says *lower is better*, it is the other way round (the longest waits, \
sizes, memory). For versions the base is the better of RocksDB's two modes in that workload, and the table says which \
one it was. Target and verdict are strandline's. A dash: not run.";

pub fn render(report: &Report, charts: &[Chart]) -> String {
    let mut out = String::from("# strandline and its peers: results\n\n");
    out.push_str(&summary(&report.summaries));
    out.push_str(&format!("\n{READING}\n\n## Setup\n\n{}", setup(report)));
    for group in &report.groups {
        out.push_str(&format!("\n## {}\n", keys(group.prefix)));
        for table in Table::ALL {
            if group.table(table).next().is_some() {
                out.push_str(&format!("\n### {}\n\n", table.title()));
                for chart in charts.iter().filter(|chart| (chart.table, chart.prefix) == (table, group.prefix)) {
                    out.push_str(&format!("![{}: ratio to RocksDB]({})\n\n", table.title(), chart.file));
                }
                out.push_str(&ratios(group, table));
            }
        }
        out.push_str(&details::render(group));
    }
    out.push_str(&failures(report));
    out
}

pub fn keys(prefix: bool) -> String {
    if prefix {
        format!("Keys of {KEY_BYTES} bytes behind a common prefix of {PREFIX_BYTES}")
    } else {
        format!("Keys of {KEY_BYTES} bytes")
    }
}

/// All targets, then each length of keys with what is missed and where others are faster.
fn summary(summaries: &[Summary]) -> String {
    let (met, judged) =
        (summaries.iter().map(|s| s.met).sum::<usize>(), summaries.iter().map(|s| s.judged).sum::<usize>());
    let mut lines = vec![format!("**{met} of {judged} targets met.**")];
    for summary in summaries {
        lines.push(format!("\n{}: {} of {} targets met.\n", keys(summary.prefix), summary.met, summary.judged));
        let mut list = |what: &str, items: Vec<String>| {
            let items = if items.is_empty() { "nothing".to_owned() } else { items.join("; ") };
            lines.push(format!("- {what}: {items}."));
        };
        let missed = summary.missed.iter().map(|miss| match (miss.verdict, miss.reached) {
            (Verdict::MissedBeside, _) => format!("{} (fewer writes beside them than RocksDB's)", miss.label),
            (_, Some(reached)) => {
                format!("{} ({} where {} is the target)", miss.label, format::apart(reached, miss.target), miss.target)
            }
            (_, None) => format!("{} (failed)", miss.label),
        });
        list("Missed", missed.collect());
        let behind = summary.behind_rocksdb.iter();
        let behind = behind.map(|behind| format!("{} ({})", behind.label, format::apart(behind.ours, behind.theirs)));
        list("Behind RocksDB in", behind.collect());
        let others = summary.behind_others.iter().map(|behind| {
            let (ours, theirs) = (behind.ours, behind.theirs);
            let engine = names::engine(behind.engine, behind.table);
            let (ours, theirs) = (format::apart(ours, theirs), format::apart(theirs, ours));
            format!("{} ({ours} against {theirs} of {engine})", behind.label)
        });
        list("Behind another engine, or RocksDB set otherwise, in", others.collect());
        if !summary.not_measured.is_empty() {
            list("With a target, but not measured", summary.not_measured.clone());
        }
    }
    lines.join("\n") + "\n"
}

fn setup(report: &Report) -> String {
    let setup = &report.setup;
    let set = |bytes: usize| format::bytes(bytes as f64).replace(".0 ", " ");
    let engines: Vec<String> = setup.engines.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let rounds: Vec<String> =
        report.groups.iter().map(|group| format!("{} ({})", group.rounds, keys(group.prefix).to_lowercase())).collect();
    let few = if report.groups.iter().any(|group| group.rounds < 3) {
        "; fewer than 3 are a first look, not a measurement"
    } else {
        ""
    };
    let work = format!(
        "{} keys with values of {} bytes; for versions {} keys with {} versions each",
        format::count(setup.keys),
        format::count(setup.value_bytes as u64),
        format::count(setup.versioned_keys),
        setup.versions
    );
    let given = format!(
        "memtable {}, cache {}, blocks of {}, {} filter bits a key, codec {}, {} background threads",
        set(setup.memtable_bytes),
        set(setup.cache_bytes),
        set(setup.block_bytes),
        setup.filter_bits,
        setup.codec,
        setup.background_threads
    );
    let rows = [
        ("date", report.dates.join(", ")),
        ("machine", setup.machine.clone()),
        ("kernel", setup.kernel.clone()),
        ("file system", setup.file_system.clone()),
        ("rustc", setup.rustc.clone()),
        ("engines", engines.join(", ")),
        ("work", work),
        ("given to all alike", given),
        ("seed", setup.seed.to_string()),
        ("rounds", rounds.join(", ") + few),
    ];
    table(&["", ""], rows.map(|(name, value)| vec![name.to_owned(), value]))
}

fn ratios(group: &Group, of: Table) -> String {
    let engines: Vec<Kind> =
        group.engines(of).into_iter().filter(|&engine| engine != Kind::RocksDb || of == Table::Versions).collect();
    let mut headers = vec!["workload", "target", "verdict", "RocksDB"];
    headers.extend(engines.iter().map(|&engine| names::engine(engine, of)));
    let rows = group.table(of).map(|line| {
        let label = if line.measure.lower_is_better() {
            format!("{} (lower is better)", line.label)
        } else {
            line.label.clone()
        };
        let mut row = vec![label, target(line), verdict(line), base(group, line)];
        row.extend(engines.iter().map(|&engine| cell(group, line, engine)));
        row
    });
    table(&headers, rows)
}

fn target(line: &Line) -> String {
    let label = |workload: &str| {
        let row = ROWS.iter().find(|row| row.workload == workload);
        row.map_or_else(|| workload.to_owned(), |row| row.label.to_owned())
    };
    match line.target {
        None => "none".to_owned(),
        Some(Target::RocksDb(ratio)) if line.measure.lower_is_better() => format!("at most {ratio}"),
        Some(Target::RocksDb(ratio)) => ratio.to_string(),
        Some(Target::OwnRate { workload, share }) => format!("{share} of its own rate in: {}", label(workload)),
        Some(Target::OwnTime { workload, times, .. }) => {
            format!("{times} times faster than its own: {}", label(workload))
        }
    }
}

fn verdict(line: &Line) -> String {
    let verdict = match line.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::MissedBeside => "**missed**: fewer writes beside it",
        Verdict::Failed => "**missed**: failed",
        Verdict::NotMeasured => "not measured",
        Verdict::NoTarget => return String::new(),
    };
    match (line.target, line.reached) {
        // What is held against RocksDB stands in strandline's own column.
        (Some(Target::OwnRate { .. } | Target::OwnTime { .. }), Some(reached)) => {
            format!("{verdict}: {}", spread(reached))
        }
        // Where rounding would hide it.
        (Some(target), Some(reached)) if format::ratio(reached.median) == format::ratio(target.number()) => {
            match format::apart(reached.median, target.number()) {
                exact if exact == format::ratio(target.number()) => verdict.to_owned(),
                exact => format!("{verdict}: {exact}"),
            }
        }
        _ => verdict.to_owned(),
    }
}

/// RocksDB's own figure, which is what 1 stands for.
fn base(group: &Group, line: &Line) -> String {
    if line.measure == Measure::PeakMemory {
        return "of each workload".to_owned();
    }
    let Some(base) = line.base else { return "–".to_owned() };
    let figures = group.figures(&line.workload, base.engine);
    let mut text = match line.measure {
        Measure::Rate => format::rate(base.value),
        Measure::Total => format::seconds(base.value),
        Measure::Tail => format::time(base.value),
        Measure::Directory | Measure::PeakMemory => format::bytes(base.value),
    };
    if let (Measure::Rate, Some(latency)) = (line.measure, figures.and_then(|figures| figures.latency)) {
        text.push_str(&format!(", p50 {}", format::time(latency.p50)));
    }
    text.push_str(&beside(group, line, base.engine));
    if line.table == Table::Versions {
        text.push_str(if base.engine == Kind::RocksDbKeys { "; versions in keys" } else { "; timestamps" });
    }
    text
}

fn cell(group: &Group, line: &Line, engine: Kind) -> String {
    match line.outcome(engine) {
        Outcome::Ratio(ratio) => {
            let missing = group.rounds.saturating_sub(ratio.rounds);
            let few =
                if missing > 0 { format!("; {} of {} rounds", ratio.rounds, group.rounds) } else { String::new() };
            let bold = if engine == Kind::Strandline { "**" } else { "" };
            format!("{bold}{}{bold}{few}{}", spread(ratio), beside(group, line, engine))
        }
        Outcome::Base => "1 (base)".to_owned(),
        Outcome::NoBase => "no base".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::NotOffered => "not offered".to_owned(),
        Outcome::NotRun => "–".to_owned(),
    }
}

fn beside(group: &Group, line: &Line, engine: Kind) -> String {
    let rate = group.figures(&line.workload, engine).and_then(|figures| figures.beside_per_second);
    rate.map(|rate| format!(" beside {} writes", format::rate(rate))).unwrap_or_default()
}

pub fn spread(spread: Spread) -> String {
    let Spread { median, least, greatest, rounds } = spread;
    if rounds == 1 {
        return format::ratio(median);
    }
    format!("{} ({} - {})", format::ratio(median), format::ratio(least), format::ratio(greatest))
}

fn failures(report: &Report) -> String {
    let mut failed = report.failures.iter().filter(|failure| !failure.not_offered).peekable();
    if failed.peek().is_none() {
        return "\n## Failures\n\nNo run failed.\n".to_owned();
    }
    let rows = failed.map(|failure| {
        let keys = if failure.prefix { "prefixed" } else { "short" };
        vec![
            failure.engine.clone(),
            failure.workload.clone(),
            keys.to_owned(),
            failure.round.to_string(),
            failure.failure.clone(),
        ]
    });
    format!("\n## Failures\n\n{}", table(&["engine", "workload", "keys", "round", "what happened"], rows))
}

/// Cells cannot end their row: what they hold may come from an engine's error.
pub fn table<H: AsRef<str>>(headers: &[H], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let row = |cells: &mut dyn Iterator<Item = String>| {
        let cells: Vec<String> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut out = row(&mut headers.iter().map(|header| header.as_ref().to_owned()));
    out.push_str(&row(&mut headers.iter().map(|_| "---".to_owned())));
    for cells in rows {
        out.push_str(&row(&mut cells.into_iter().map(|cell| {
            let line: Vec<&str> = cell.lines().collect();
            line.join(" ").replace('|', "\\|")
        })));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_end_its_row() {
        let text = table(&["a", "b"], [vec!["x | y".to_owned(), "one\ntwo".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| x \\| y | one two |\n");
    }

    #[test]
    fn a_single_round_has_no_spread() {
        assert_eq!(spread(Spread { median: 2.5, least: 2.5, greatest: 2.5, rounds: 1 }), "2.50");
        assert_eq!(spread(Spread { median: 2.5, least: 2.0, greatest: 12.0, rounds: 3 }), "2.50 (2.00 - 12.0)");
    }
}
