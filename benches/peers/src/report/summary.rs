//! What it comes to: targets met and missed, and who is faster where.

use serde::Serialize;

use super::figures;
use super::targets::Table;
use super::verdicts::{Group, Line, Verdict};
use crate::engine::Kind;

/// Of one length of keys.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub prefix: bool,
    pub met: usize,
    /// Targets that could be judged.
    pub judged: usize,
    pub missed: Vec<Miss>,
    /// With a target, and not all that it takes was run.
    pub not_measured: Vec<String>,
    pub behind_rocksdb: Vec<Behind>,
    /// Where another engine, or RocksDB with other settings, is better: the best of them.
    pub behind_others: Vec<Behind>,
}

#[derive(Debug, Serialize)]
pub struct Miss {
    pub label: String,
    pub target: f64,
    /// Nothing if it failed.
    pub reached: Option<f64>,
    pub verdict: Verdict,
}

/// Ratios to RocksDB: strandline's is worse.
#[derive(Debug, Serialize)]
pub struct Behind {
    pub label: String,
    pub table: Table,
    pub ours: f64,
    #[serde(serialize_with = "figures::by_name")]
    pub engine: Kind,
    pub theirs: f64,
}

impl Summary {
    pub fn of(group: &Group) -> Self {
        let mut summary = Self {
            prefix: group.prefix,
            met: 0,
            judged: 0,
            missed: Vec::new(),
            not_measured: Vec::new(),
            behind_rocksdb: Vec::new(),
            behind_others: Vec::new(),
        };
        for line in &group.lines {
            summary.judge(line);
            summary.compare(line);
        }
        summary.judged = summary.met + summary.missed.len();
        summary
    }

    fn judge(&mut self, line: &Line) {
        let label = line.label.clone();
        match (line.verdict, line.target) {
            (Verdict::Met, _) => self.met += 1,
            (Verdict::NotMeasured, _) => self.not_measured.push(label),
            (Verdict::Missed | Verdict::MissedBeside | Verdict::Failed, Some(target)) => {
                let reached = line.reached.map(|reached| reached.median);
                self.missed.push(Miss { label, target: target.number(), reached, verdict: line.verdict });
            }
            (_, None) | (Verdict::NoTarget, _) => {}
        }
    }

    fn compare(&mut self, line: &Line) {
        let Some(ours) = line.ratio(Kind::Strandline) else { return };
        let behind =
            |engine, theirs| Behind { label: line.label.clone(), table: line.table, ours: ours.median, engine, theirs };
        if line.is_behind() {
            self.behind_rocksdb.push(behind(line.base.map_or(Kind::RocksDb, |base| base.engine), 1.0));
        }
        if let Some((engine, theirs)) = line.best_before_ours() {
            self.behind_others.push(behind(engine, theirs.median));
        }
    }
}
