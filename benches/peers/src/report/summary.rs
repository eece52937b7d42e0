//! What it comes to: targets met and missed, and who is faster where.

use serde::Serialize;

use super::figures;
use super::names;
use super::targets::Table;
use super::verdicts::{Group, Line, Verdict};
use crate::engine::Kind;

#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub met: usize,
    /// Targets that could be judged.
    pub judged: usize,
    pub missed: Vec<Finding>,
    pub not_measured: Vec<Finding>,
    pub behind_rocksdb: Vec<Finding>,
    pub behind_others: Vec<Behind>,
}

#[derive(Debug, Serialize)]
pub struct Finding {
    pub label: String,
    pub prefix: bool,
    /// Strandline's, to RocksDB or to what the target says.
    pub ratio: Option<f64>,
}

/// Where another engine than RocksDB is better, with the best of them.
#[derive(Debug, Serialize)]
pub struct Behind {
    #[serde(flatten)]
    pub finding: Finding,
    #[serde(serialize_with = "figures::by_name")]
    pub engine: Kind,
    pub table: Table,
    pub theirs: f64,
}

impl Summary {
    pub fn of(groups: &[Group]) -> Self {
        let mut summary = Self::default();
        for (group, line) in groups.iter().flat_map(|group| group.lines.iter().map(move |line| (group, line))) {
            summary.add(group.prefix, line);
        }
        summary
    }

    fn add(&mut self, prefix: bool, line: &Line) {
        let finding = |ratio: Option<f64>| Finding { label: line.label.clone(), prefix, ratio };
        let reached = line.reached.map(|reached| reached.median);
        match line.verdict {
            Verdict::Met => self.met += 1,
            Verdict::Missed | Verdict::MissedBeside | Verdict::Failed => self.missed.push(finding(reached)),
            Verdict::NotMeasured => self.not_measured.push(finding(None)),
            Verdict::NoTarget => {}
        }
        self.judged = self.met + self.missed.len();
        let ours = line.ratio(Kind::Strandline).map(|ratio| ratio.median);
        if line.is_behind() {
            self.behind_rocksdb.push(finding(ours));
        }
        if let Some((engine, theirs)) = line.best_before_ours() {
            self.behind_others.push(Behind {
                finding: finding(ours),
                engine,
                table: line.table,
                theirs: theirs.median,
            });
        }
    }
}

impl Finding {
    /// The row's name; with its keys if they are prefixed ones.
    pub fn title(&self) -> String {
        if self.prefix { format!("{} (prefixed keys)", self.label) } else { self.label.clone() }
    }
}

impl Behind {
    pub fn engine(&self) -> &'static str {
        names::engine(self.engine, self.table)
    }
}
