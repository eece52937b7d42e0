//! What is measured, in the order of the tables, and the mark that strandline is held to in each row.
//!
//! Keys with a common prefix are held to the same marks.

use serde::Serialize;

/// The table that a row stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Writes,
    Reads,
    Versions,
    Transactions,
    Space,
    /// Workloads that are not listed here: shown all the same.
    Other,
}

/// What of a record is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Operations a second. The ratio is the engine's by RocksDB's.
    Rate,
    /// How long all of it took, the drain with it. The ratio is RocksDB's by the engine's, so that higher is better.
    Total,
    /// p99.99 of single operations. The ratio is the engine's by RocksDB's: lower is better.
    Tail,
    /// The directory when all was settled. As for [`Measure::Tail`], lower is better.
    Directory,
    /// Greatest resident memory, in the workload where the ratio is greatest. Lower is better.
    PeakMemory,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Of the ratio to RocksDB: at least this, or at most where lower is better.
    RocksDb(f64),
    /// Strandline's rate in `workload`, times this, is to be reached.
    OwnRate { workload: &'static str, share: f64 },
    /// One pass of strandline's over `workload` is to take so many times as long as one over this row's, which meets
    /// `part` of what that one meets.
    OwnTime { workload: &'static str, part: f64, times: f64 },
}

impl Target {
    /// What is to be reached.
    pub fn number(self) -> f64 {
        match self {
            Self::RocksDb(number) | Self::OwnRate { share: number, .. } | Self::OwnTime { times: number, .. } => number,
        }
    }
}

/// What a caller gives to the engine in one operation: for write amplification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Nothing,
    Key,
    KeyAndValue,
    KeyAndLargeValue,
}

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub table: Table,
    /// As in the records; the space of all workloads has none.
    pub workload: &'static str,
    pub label: &'static str,
    pub measure: Measure,
    pub target: Option<Target>,
    /// Whether the mark counts only with at least RocksDB's writes beside it.
    pub beside: bool,
    pub given: Given,
}

impl Measure {
    pub fn lower_is_better(self) -> bool {
        match self {
            Self::Rate | Self::Total => false,
            Self::Tail | Self::Directory | Self::PeakMemory => true,
        }
    }
}

impl Table {
    pub const ALL: [Self; 6] =
        [Self::Writes, Self::Reads, Self::Versions, Self::Transactions, Self::Space, Self::Other];

    pub fn title(self) -> &'static str {
        match self {
            Self::Writes => "Writes",
            Self::Reads => "Reads",
            Self::Versions => "Versions",
            Self::Transactions => "Conditions and transactions",
            Self::Space => "Space and memory",
            Self::Other => "Other work",
        }
    }
}

const fn row(table: Table, workload: &'static str, label: &'static str, target: f64, given: Given) -> Row {
    Row { table, workload, label, measure: Measure::Rate, target: Some(Target::RocksDb(target)), beside: false, given }
}

const fn write(workload: &'static str, label: &'static str, target: f64) -> Row {
    row(Table::Writes, workload, label, target, Given::KeyAndValue)
}

const fn read(workload: &'static str, label: &'static str, target: f64) -> Row {
    row(Table::Reads, workload, label, target, Given::Nothing)
}

const fn versions(workload: &'static str, label: &'static str, target: f64) -> Row {
    row(Table::Versions, workload, label, target, Given::Nothing)
}

pub const ROWS: &[Row] = &[
    write("fillseq", "fillseq", 2.5),
    write("fillrandom", "fillrandom", 2.5),
    write("fillrandom-2", "fillrandom, 2 writers", 2.0),
    Row { measure: Measure::Total, ..write("fillrandom", "fillrandom + drain", 2.0) },
    write("fillbatch", "fillbatch (100 a commit)", 2.0),
    write("overwrite", "overwrite", 2.5),
    Row { given: Given::Key, ..write("deleterandom", "deleterandom", 2.0) },
    write("fillsync", "fillsync, 1 thread", 1.5),
    write("fillsync-8", "fillsync, 8 threads", 1.5),
    Row { given: Given::KeyAndLargeValue, ..write("fillrandom-4k", "fillrandom, values of 4\u{a0}KiB", 1.7) },
    Row { measure: Measure::Tail, ..write("fillrandom", "p99.99 of a put during fillrandom", 0.3) },
    read("readrandom", "readrandom, settled", 2.6),
    read("readhot", "readhot (1 key in 100)", 2.5),
    read("readmissing", "readmissing", 2.0),
    read("multireadrandom", "multireadrandom (batches of 32)", 2.0),
    read("seekrandom", "seekrandom", 4.0),
    read("seekrandom-50", "seekrandom + 50 nexts", 3.0),
    read("readseq", "readseq (cursor)", 2.5),
    read("readreverse", "readreverse (cursor)", 4.0),
    Row { beside: true, ..read("readwhilewriting", "readwhilewriting: reads", 2.2) },
    read("readrandom-2", "readrandom, 2 threads", 2.8),
    read("readrandom-4k", "readrandom, values of 4\u{a0}KiB", 3.0),
    Row { given: Given::KeyAndValue, ..versions("mvccfill", "mvccfill", 2.5) },
    versions("mvccreadlatest", "read the latest", 2.0),
    versions("mvccreadasof", "read as of a random time", 3.0),
    versions("mvccscanasof", "scan 100 keys as of a random time", 15.0),
    Row {
        target: Some(Target::OwnRate { workload: "readseq", share: 0.9 }),
        ..versions("mvccscan", "scan all, present", 0.0)
    },
    Row {
        target: Some(Target::OwnTime { workload: "mvccscanversions", part: 0.01, times: 10.0 }),
        ..versions("mvccchanges", "changes in the last 1\u{a0}% of time", 0.0)
    },
    Row { target: None, ..versions("mvccscanversions", "scan all versions", 0.0) },
    Row { target: None, given: Given::KeyAndValue, ..versions("mvcchotfill", "fill one key with 1 M versions", 0.0) },
    Row {
        target: Some(Target::OwnRate { workload: "mvccreadasof", share: 0.5 }),
        ..versions("mvcchotasof", "read it as of a random time", 0.0)
    },
    Row { measure: Measure::Total, ..versions("mvccdrop", "drop half of the history", 5.0) },
    Row {
        table: Table::Transactions,
        target: Some(Target::OwnRate { workload: "fillrandom", share: 0.8 }),
        ..write("fillconditional", "conditional commit of 1 put, no conflict, 1 thread", 0.0)
    },
    Row {
        table: Table::Transactions,
        given: Given::Nothing,
        ..write("transactions-4", "transaction: 2 reads, 2 writes, 4 threads, little conflict", 1.5)
    },
    Row { table: Table::Space, measure: Measure::Directory, ..write("fillrandom", "directory after fillrandom", 1.0) },
    Row {
        table: Table::Space,
        measure: Measure::PeakMemory,
        ..write("", "peak memory, the worst of all workloads", 1.0)
    },
];
