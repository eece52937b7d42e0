//! The tables below the ratios: latencies, space, drains, processor time. Folded, as they are long.

use super::figures::Figures;
use super::format;
use super::markdown::{spread, table};
use super::names;
use super::targets::{Given, ROWS, Table};
use super::verdicts::{Group, Line};
use crate::engine::Kind;

pub fn render(group: &Group) -> String {
    let mut out = String::from("\n### Details\n");
    for of in ALL_WORK {
        let title = format!("Rates and latencies: {}", of.title().to_lowercase());
        out.push_str(&folded(&title, LATENCY, latencies(group, of)));
    }
    out.push_str(&folded("Bytes written, directory, peak memory", SPACE, space(group)));
    out.push_str(&folded("Fills and their drains", DRAIN, drains(group)));
    out.push_str(&folded("Processor time an operation", CPU, cpu(group)));
    out
}

const LATENCY: &str = "Times of single calls: of fillbatch a commit of 100 puts, of multireadrandom a batch of 32 \
keys, of a scan the whole scan. Medians over rounds; the longest is that of all rounds. Scans by one cursor have no single \
calls.";
const SPACE: &str = "What the process gave to the file system, the drain with it, also as a multiple of the keys and \
values that the caller gave (write amplification); the directory when all was settled and closed; greatest \
resident memory. Medians over rounds.";
const DRAIN: &str = "From the first put to the last, then until flushes and compactions came to rest. The \
ratio to RocksDB is that of both together.";
const CPU: &str = "User and system time of all threads, the drain and the writer of readwhilewriting with them, by \
operations. Medians over rounds.";

fn folded(title: &str, note: &str, text: Option<String>) -> String {
    let Some(text) = text else { return String::new() };
    format!("\n<details>\n<summary>{title}</summary>\n\n{note}\n\n{text}\n</details>\n")
}

/// The workloads of a table, each once, with what they are called.
fn workloads(group: &Group, of: Table) -> Vec<&Line> {
    let mut lines: Vec<&Line> = Vec::new();
    for line in group.table(of) {
        if !lines.iter().any(|other| other.workload == line.workload) {
            lines.push(line);
        }
    }
    lines
}

fn figures<'a>(group: &'a Group, line: &Line) -> Vec<&'a Figures> {
    Kind::ALL.iter().filter_map(|&engine| group.figures(&line.workload, engine)).collect()
}

fn latencies(group: &Group, of: Table) -> Option<String> {
    let mut rows = Vec::new();
    for line in workloads(group, of) {
        for figures in figures(group, line) {
            let quantile = |of: Option<f64>| of.map_or_else(|| "–".to_owned(), format::time);
            let latency = figures.latency;
            rows.push(vec![
                line.label.clone(),
                names::engine(figures.engine, of).to_owned(),
                format::rate(figures.operations_per_second),
                quantile(latency.map(|latency| latency.p50)),
                quantile(latency.map(|latency| latency.p99)),
                quantile(latency.map(|latency| latency.p99_9)),
                quantile(latency.map(|latency| latency.p99_99)),
                quantile(latency.map(|latency| latency.longest)),
            ]);
        }
    }
    let headers = ["workload", "engine", "rate", "p50", "p99", "p99.9", "p99.99", "longest"];
    (!rows.is_empty()).then(|| table(&headers, rows))
}

const ALL_WORK: [Table; 5] = [Table::Writes, Table::Reads, Table::Versions, Table::Transactions, Table::Other];

fn space(group: &Group) -> Option<String> {
    let mut rows = Vec::new();
    for of in ALL_WORK {
        for line in workloads(group, of) {
            for figures in figures(group, line) {
                rows.push(vec![
                    line.label.clone(),
                    names::engine(figures.engine, of).to_owned(),
                    format::bytes(figures.bytes_written),
                    figures.write_amplification.map_or_else(|| "–".to_owned(), format::ratio),
                    format::bytes(figures.directory_bytes),
                    format::bytes(figures.peak_memory_bytes),
                ]);
            }
        }
    }
    let headers = ["workload", "engine", "bytes written", "write amplification", "directory", "peak memory"];
    (!rows.is_empty()).then(|| table(&headers, rows))
}

fn drains(group: &Group) -> Option<String> {
    let fills = |line: &Line| {
        ROWS.iter().any(|row| row.workload == line.workload && row.given != Given::Nothing)
            || line.table == Table::Other
    };
    let mut rows = Vec::new();
    for of in [Table::Writes, Table::Versions, Table::Transactions, Table::Other] {
        for line in workloads(group, of).into_iter().filter(|line| fills(line)) {
            for figures in figures(group, line) {
                rows.push(vec![
                    line.label.clone(),
                    names::engine(figures.engine, of).to_owned(),
                    format::seconds(figures.seconds),
                    format::seconds(figures.drain_seconds),
                    figures.total_ratio.map_or_else(|| "–".to_owned(), spread),
                ]);
            }
        }
    }
    (!rows.is_empty()).then(|| table(&["workload", "engine", "fill", "drain", "ratio of both"], rows))
}

fn cpu(group: &Group) -> Option<String> {
    let mut rows = Vec::new();
    let engines: Vec<Kind> =
        Kind::ALL.into_iter().filter(|&engine| group.figures.iter().any(|figures| figures.engine == engine)).collect();
    for of in ALL_WORK {
        for line in workloads(group, of) {
            let mut row = vec![line.label.clone()];
            row.extend(engines.iter().map(|&engine| {
                let figures = group.figures(&line.workload, engine);
                figures.map_or_else(|| "–".to_owned(), |figures| format::seconds(figures.cpu_seconds_per_operation))
            }));
            rows.push(row);
        }
    }
    let mut headers = vec!["workload"];
    headers.extend(engines.iter().map(|&engine| names::engine(engine, Table::Other)));
    (!rows.is_empty()).then(|| table(&headers, rows))
}
