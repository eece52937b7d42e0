//! The rows of the tables: each engine's ratio to RocksDB, and whether strandline reaches its mark.

use serde::Serialize;

use super::figures::{self, Figures, Spread};
use super::runs::Runs;
use super::targets::{Given, Measure, ROWS, Row, Table, Target};
use crate::engine::Kind;

/// All of one length of keys.
#[derive(Debug, Serialize)]
pub struct Group {
    pub prefix: bool,
    pub rounds: usize,
    pub lines: Vec<Line>,
    pub figures: Vec<Figures>,
}

/// One row of a table.
#[derive(Debug, Serialize)]
pub struct Line {
    pub table: Table,
    pub workload: String,
    pub label: String,
    pub measure: Measure,
    pub target: Option<Target>,
    pub verdict: Verdict,
    /// What is held against the target's number: a ratio to RocksDB, or to strandline's own other work.
    pub reached: Option<Spread>,
    /// The mode of RocksDB that the ratios are to, and its median.
    pub base: Option<Base>,
    pub cells: Vec<Cell>,
    /// Whether the rates of writes beside it belong to the figure.
    pub beside: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Base {
    #[serde(serialize_with = "figures::by_name")]
    pub engine: Kind,
    pub value: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    #[serde(serialize_with = "figures::by_name")]
    pub engine: Kind,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ratio(Spread),
    /// RocksDB in that mode which the ratios are to.
    Base,
    /// It ran, and there is nothing of RocksDB's to hold it against.
    NoBase,
    Failed,
    NotOffered,
    NotRun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Met,
    Missed,
    /// The ratio is reached, with fewer writes beside it than RocksDB had.
    MissedBeside,
    /// Strandline did not come to a result.
    Failed,
    /// There is a target, and not all that it takes was run.
    NotMeasured,
    NoTarget,
}

impl Line {
    pub fn ratio(&self, engine: Kind) -> Option<Spread> {
        match self.outcome(engine) {
            Outcome::Ratio(spread) => Some(spread),
            _ => None,
        }
    }

    pub fn outcome(&self, engine: Kind) -> Outcome {
        self.cells.iter().find(|cell| cell.engine == engine).map_or(Outcome::NotRun, |cell| cell.outcome)
    }

    /// Whether strandline is worse than RocksDB.
    pub fn is_behind(&self) -> bool {
        self.ratio(Kind::Strandline).is_some_and(|ours| worse(self.measure, ours.median, 1.0))
    }

    /// The engine that beats strandline by most, the base apart.
    pub fn best_before_ours(&self) -> Option<(Kind, Spread)> {
        if self.measure == Measure::PeakMemory {
            // Each engine has its worst in a workload of its own: nothing to compare.
            return None;
        }
        let ours = self.ratio(Kind::Strandline)?.median;
        let others = Kind::ALL.into_iter().filter(|&engine| engine != Kind::Strandline);
        let others = others.filter_map(|engine| Some((engine, self.ratio(engine)?)));
        let before = others.filter(|(_, theirs)| worse(self.measure, ours, theirs.median));
        before.reduce(|best, next| if worse(self.measure, best.1.median, next.1.median) { next } else { best })
    }
}

fn worse(measure: Measure, a: f64, b: f64) -> bool {
    if measure.lower_is_better() { a > b } else { a < b }
}

impl Group {
    pub fn of(runs: &Runs, prefix: bool) -> Self {
        let workloads = runs.workloads(prefix);
        let listed = ROWS.iter().filter(|row| workloads.contains(row.workload) || row.measure == Measure::PeakMemory);
        let mut lines: Vec<Line> = listed.map(|row| line(runs, prefix, row, row.workload, row.label)).collect();
        let unlisted = |workload: &&String| !ROWS.iter().any(|row| row.workload == workload.as_str());
        for workload in workloads.iter().filter(unlisted) {
            lines.push(line(runs, prefix, &OTHER, workload, workload));
        }
        let order = |workload: &str| ROWS.iter().position(|row| row.workload == workload).unwrap_or(ROWS.len());
        let mut workloads: Vec<String> = workloads.into_iter().collect();
        workloads.sort_by_key(|workload| order(workload));
        let works = workloads.iter().flat_map(|workload| Kind::ALL.map(|engine| (workload, engine)));
        let figures = works.filter_map(|(workload, engine)| Figures::of(runs, prefix, workload, engine)).collect();
        Self { prefix, rounds: runs.rounds(prefix), lines, figures }
    }

    pub fn figures(&self, workload: &str, engine: Kind) -> Option<&Figures> {
        self.figures.iter().find(|figures| figures.workload == workload && figures.engine == engine)
    }

    pub fn table(&self, table: Table) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.table == table)
    }

    /// The engines that came to a result in any row of a table.
    pub fn engines(&self, table: Table) -> Vec<Kind> {
        let shows = |outcome| matches!(outcome, Outcome::Ratio(_) | Outcome::Base | Outcome::NoBase | Outcome::Failed);
        let in_any = |engine: &Kind| self.table(table).any(|line| shows(line.outcome(*engine)));
        Kind::ALL.into_iter().filter(in_any).collect()
    }
}

const OTHER: Row = Row {
    table: Table::Other,
    workload: "",
    label: "",
    measure: Measure::Rate,
    target: None,
    beside: false,
    given: Given::Nothing,
};

fn line(runs: &Runs, prefix: bool, row: &Row, workload: &str, label: &str) -> Line {
    let base = figures::base(runs, prefix, workload, row.measure).map(|(engine, value)| Base { engine, value });
    let mut label = label.to_owned();
    let cells = Kind::ALL.map(|engine| {
        if row.measure != Measure::PeakMemory {
            return Cell { engine, outcome: outcome(runs, prefix, row.measure, workload, engine, base) };
        }
        let greatest = greatest(runs, prefix, row.measure, engine);
        if let (Kind::Strandline, Some((workload, _))) = (engine, &greatest) {
            label = format!("{label} ({workload})");
        }
        Cell { engine, outcome: greatest.map_or(Outcome::NotRun, |(_, ratio)| Outcome::Ratio(ratio)) }
    });
    let mut line = Line {
        table: row.table,
        workload: workload.to_owned(),
        label,
        measure: row.measure,
        target: row.target,
        verdict: Verdict::NoTarget,
        reached: None,
        base,
        cells: cells.into(),
        beside: row.beside,
    };
    line.reached = reached(runs, prefix, &line);
    line.verdict = verdict(runs, prefix, &line);
    line
}

fn outcome(runs: &Runs, prefix: bool, measure: Measure, workload: &str, engine: Kind, base: Option<Base>) -> Outcome {
    let ours = runs.records(prefix, workload, engine);
    let failures = || runs.failures(prefix, workload, engine);
    if base.is_some_and(|base| base.engine == engine) {
        return Outcome::Base;
    }
    let ratio = base.and_then(|base| figures::ratios(measure, ours, runs.records(prefix, workload, base.engine)));
    match ratio {
        Some(ratio) => Outcome::Ratio(ratio),
        None if !ours.is_empty() => Outcome::NoBase,
        None if failures().any(|failure| !failure.not_offered) => Outcome::Failed,
        None if failures().next().is_some() => Outcome::NotOffered,
        None => Outcome::NotRun,
    }
}

/// Of all workloads the one with the greatest ratio. RocksDB against itself is no finding.
fn greatest(runs: &Runs, prefix: bool, measure: Measure, engine: Kind) -> Option<(String, Spread)> {
    if matches!(engine, Kind::RocksDb | Kind::RocksDbKeys) {
        return None;
    }
    let of = |workload: String| {
        // The mode that is the base for this workload's speed is the one whose memory counts.
        let (base, _) = figures::base(runs, prefix, &workload, Measure::Rate)?;
        let base = runs.records(prefix, &workload, base);
        let ratio = figures::ratios(measure, runs.records(prefix, &workload, engine), base)?;
        Some((workload, ratio))
    };
    let ratios = runs.workloads(prefix).into_iter().filter_map(of);
    ratios.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
}

fn reached(runs: &Runs, prefix: bool, line: &Line) -> Option<Spread> {
    let own = |workload: &str| runs.records(prefix, workload, Kind::Strandline);
    let this = own(&line.workload);
    match line.target? {
        Target::RocksDb(_) => line.ratio(Kind::Strandline),
        Target::OwnRate { workload, .. } => figures::ratios(Measure::Rate, this, own(workload)),
        // By rates, as a workload may make several passes.
        Target::OwnTime { workload, part, .. } => {
            figures::ratios(Measure::Rate, this, own(workload)).map(|rate| rate.times(1.0 / part))
        }
    }
}

fn verdict(runs: &Runs, prefix: bool, line: &Line) -> Verdict {
    let Some(target) = line.target else { return Verdict::NoTarget };
    let Some(reached) = line.reached else {
        let failed = line.outcome(Kind::Strandline) == Outcome::Failed;
        return if failed { Verdict::Failed } else { Verdict::NotMeasured };
    };
    let (Target::RocksDb(mark) | Target::OwnRate { share: mark, .. } | Target::OwnTime { times: mark, .. }) = target;
    if worse(line.measure, reached.median, mark) {
        return Verdict::Missed;
    }
    let writes = |engine| Figures::of(runs, prefix, &line.workload, engine)?.beside_per_second;
    let base = line.base.and_then(|base| writes(base.engine)).unwrap_or(0.0);
    if line.beside && writes(Kind::Strandline).unwrap_or(0.0) < base {
        return Verdict::MissedBeside;
    }
    Verdict::Met
}
