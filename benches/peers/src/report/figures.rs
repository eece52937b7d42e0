//! Medians of one engine's rounds in a workload, and ratios of two engines' rounds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::runs::{Round, Runs};
use super::targets::{Given, Measure, ROWS};
use crate::engine::Kind;
use crate::record::{Latency, Record, Setup};

/// How long the common prefix of keys is, and how long keys are without it.
pub const PREFIX_BYTES: u64 = 24;
pub const KEY_BYTES: u64 = 16;
const LARGE_VALUE_BYTES: u64 = 4096;

/// A figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
    pub rounds: usize,
}

/// Medians over rounds, but for the longest operation, which is that of all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub workload: String,
    #[serde(serialize_with = "by_name")]
    pub engine: Kind,
    pub rounds: usize,
    pub operations_per_second: f64,
    pub seconds: f64,
    pub drain_seconds: f64,
    pub beside_per_second: Option<f64>,
    /// In nanoseconds.
    pub latency: Option<Quantiles>,
    pub bytes_written: f64,
    /// Bytes written by bytes of keys and values, where the workload says how many these are.
    pub write_amplification: Option<f64>,
    pub directory_bytes: f64,
    pub peak_memory_bytes: f64,
    pub cpu_seconds_per_operation: f64,
    /// The work and its drain, RocksDB's time by this one's.
    pub total_ratio: Option<Spread>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub longest: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&greatest)) = (values.first(), values.last()) else { return None };
        let middle = values.len() / 2;
        let upper = values[middle];
        let median = if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { upper };
        Some(Self { median, least, greatest, rounds: values.len() })
    }

    pub fn times(self, factor: f64) -> Self {
        let Self { median, least, greatest, rounds } = self;
        Self { median: median * factor, least: least * factor, greatest: greatest * factor, rounds }
    }
}

impl Measure {
    /// What a record has of it; nothing if it took no time or had no latencies.
    pub fn value(self, record: &Record) -> Option<f64> {
        let value = match self {
            Self::Rate => record.operations as f64 / record.seconds,
            Self::Total => record.seconds + record.drain_seconds,
            Self::Tail => record.latency?.p99_99 as f64,
            Self::Directory => record.directory_bytes as f64,
            Self::PeakMemory => record.peak_memory_bytes as f64,
        };
        (value.is_finite() && value > 0.0).then_some(value)
    }

    /// Of an engine's value to RocksDB's: higher is better, but for tails, sizes and memory.
    fn ratio(self, ours: f64, base: f64) -> f64 {
        match self {
            Self::Rate | Self::Tail | Self::Directory | Self::PeakMemory => ours / base,
            Self::Total => base / ours,
        }
    }

    fn better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Rate => a > b,
            Self::Total | Self::Tail | Self::Directory | Self::PeakMemory => a < b,
        }
    }
}

/// Ratios within rounds: a round that one of them lacks has none.
pub fn ratios(measure: Measure, ours: &BTreeMap<Round, Record>, base: &BTreeMap<Round, Record>) -> Option<Spread> {
    Spread::of(ours.iter().filter_map(|(round, record)| {
        let base = measure.value(base.get(round)?)?;
        Some(measure.ratio(measure.value(record)?, base))
    }))
}

/// That of RocksDB's modes which did better in this workload, by the median; most workloads have but one.
pub fn base(runs: &Runs, prefix: bool, workload: &str, measure: Measure) -> Option<(Kind, f64)> {
    let mut best: Option<(Kind, f64)> = None;
    for engine in [Kind::RocksDb, Kind::RocksDbKeys] {
        let values = runs.records(prefix, workload, engine).values().filter_map(|record| measure.value(record));
        if let Some(Spread { median, .. }) = Spread::of(values)
            && best.is_none_or(|(_, best)| measure.better(median, best))
        {
            best = Some((engine, median));
        }
    }
    best
}

impl Figures {
    pub fn of(runs: &Runs, prefix: bool, workload: &str, engine: Kind) -> Option<Self> {
        let records = runs.records(prefix, workload, engine);
        let median = |of: &dyn Fn(&Record) -> Option<f64>| {
            Spread::of(records.values().filter_map(of)).map(|spread| spread.median)
        };
        let given = given(&runs.setup, prefix, workload);
        let base = base(runs, prefix, workload, Measure::Total);
        Some(Self {
            workload: workload.to_owned(),
            engine,
            rounds: records.len(),
            operations_per_second: median(&|record| Measure::Rate.value(record))?,
            seconds: median(&|record| Some(record.seconds))?,
            drain_seconds: median(&|record| Some(record.drain_seconds))?,
            beside_per_second: median(&|record| record.beside_per_second),
            latency: quantiles(records),
            bytes_written: median(&|record| Some(record.bytes_written as f64))?,
            write_amplification: given.and_then(|given| {
                median(&|record| Some(record.bytes_written as f64 / (record.operations * given) as f64))
            }),
            directory_bytes: median(&|record| Some(record.directory_bytes as f64))?,
            peak_memory_bytes: median(&|record| Some(record.peak_memory_bytes as f64))?,
            cpu_seconds_per_operation: median(&|record| Some(record.cpu_seconds / record.operations as f64))?,
            total_ratio: base
                .and_then(|(base, _)| ratios(Measure::Total, records, runs.records(prefix, workload, base))),
        })
    }
}

fn quantiles(records: &BTreeMap<Round, Record>) -> Option<Quantiles> {
    let all: Vec<Latency> = records.values().filter_map(|record| record.latency).collect();
    let median =
        |of: fn(&Latency) -> u64| Spread::of(all.iter().map(|latency| of(latency) as f64)).map(|spread| spread.median);
    Some(Quantiles {
        p50: median(|latency| latency.p50)?,
        p99: median(|latency| latency.p99)?,
        p99_9: median(|latency| latency.p99_9)?,
        p99_99: median(|latency| latency.p99_99)?,
        longest: all.iter().map(|latency| latency.longest).max()? as f64,
    })
}

/// Bytes of keys and values in one operation; nothing where the table of targets does not say.
fn given(setup: &Setup, prefix: bool, workload: &str) -> Option<u64> {
    let row = ROWS.iter().find(|row| row.workload == workload)?;
    let key = KEY_BYTES + if prefix { PREFIX_BYTES } else { 0 };
    match row.given {
        Given::Nothing => None,
        Given::Key => Some(key),
        Given::KeyAndValue => Some(key + setup.value_bytes as u64),
        Given::KeyAndLargeValue => Some(key + LARGE_VALUE_BYTES),
    }
}

/// An engine as it is named in results.
pub fn by_name<S: serde::Serializer>(engine: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(engine.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ResultsFile;

    fn runs(setup: Setup, records: Vec<Record>) -> Runs {
        Runs::of(vec![("made up".into(), ResultsFile { setup, records, failures: Vec::new() })]).unwrap()
    }

    fn record(engine: Kind, workload: &str, round: u32, seconds: f64) -> Record {
        Record {
            engine: engine.name().into(),
            workload: workload.into(),
            round,
            operations: 1000,
            seconds,
            drain_seconds: 1.0,
            bytes_written: 348_000,
            ..Record::default()
        }
    }

    #[test]
    fn medians() {
        type Expected = Option<(f64, f64, f64)>;
        let cases: [(&[f64], Expected); 5] = [
            (&[], None),
            (&[2.0], Some((2.0, 2.0, 2.0))),
            (&[3.0, 1.0], Some((2.0, 1.0, 3.0))),
            (&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
            (&[f64::NAN, 5.0, f64::INFINITY], Some((5.0, 5.0, 5.0))),
        ];
        for (values, expected) in cases {
            let spread = Spread::of(values.iter().copied());
            assert_eq!(spread.map(|s| (s.median, s.least, s.greatest)), expected, "{values:?}");
        }
    }

    #[test]
    fn a_ratio_is_of_one_round_and_a_round_without_rocksdb_has_none() {
        let mut records = vec![record(Kind::RocksDb, "readseq", 1, 4.0), record(Kind::RocksDb, "readseq", 3, 8.0)];
        records
            .extend([(1, 2.0), (2, 0.001), (3, 2.0)].map(|(round, s)| record(Kind::Strandline, "readseq", round, s)));
        let runs = runs(Setup::default(), records);
        let (ours, base) =
            (runs.records(false, "readseq", Kind::Strandline), runs.records(false, "readseq", Kind::RocksDb));
        let rate = ratios(Measure::Rate, ours, base).unwrap();
        assert_eq!(rate, Spread { median: 3.0, least: 2.0, greatest: 4.0, rounds: 2 });
        // The drain of 1 s belongs to both: 5 / 3 and 9 / 3.
        assert_eq!(ratios(Measure::Total, ours, base).unwrap().greatest, 3.0);
        assert_eq!(ratios(Measure::Tail, ours, base), None);
    }

    #[test]
    fn of_rocksdbs_modes_the_better_one_by_its_median_is_the_base() {
        let of = |timestamps: [f64; 3], keys: [f64; 3]| {
            let mut records = Vec::new();
            for round in 0..3 {
                records.push(record(Kind::RocksDb, "mvccfill", round, timestamps[round as usize]));
                records.push(record(Kind::RocksDbKeys, "mvccfill", round, keys[round as usize]));
            }
            let runs = runs(Setup::default(), records);
            [Measure::Rate, Measure::Total].map(|measure| base(&runs, false, "mvccfill", measure).unwrap().0)
        };
        assert_eq!(of([1.0, 2.0, 9.0], [3.0, 3.0, 0.1]), [Kind::RocksDb; 2]);
        assert_eq!(of([4.0, 4.0, 0.1], [3.0, 3.0, 9.0]), [Kind::RocksDbKeys; 2]);
        let one = runs(Setup::default(), vec![record(Kind::RocksDbKeys, "x", 1, 1.0)]);
        assert_eq!(base(&one, false, "x", Measure::Rate), Some((Kind::RocksDbKeys, 1000.0)));
        assert_eq!(base(&one, false, "y", Measure::Rate), None);
    }

    #[test]
    fn write_amplification_is_by_what_the_caller_gave() {
        let setup = Setup { value_bytes: 100, ..Setup::default() };
        let mut prefixed = record(Kind::Redb, "fillrandom", 1, 1.0);
        prefixed.prefix = true;
        let records = vec![
            prefixed,
            record(Kind::Redb, "fillrandom", 1, 1.0),
            record(Kind::Redb, "deleterandom", 1, 1.0),
            record(Kind::Redb, "readseq", 1, 1.0),
        ];
        let runs = runs(setup, records);
        let of = |prefix, workload| Figures::of(&runs, prefix, workload, Kind::Redb).unwrap().write_amplification;
        assert_eq!(of(false, "fillrandom"), Some(3.0));
        assert_eq!(of(true, "fillrandom"), Some(348.0 / 140.0));
        assert_eq!(of(false, "deleterandom"), Some(348.0 / 16.0));
        assert_eq!(of(false, "readseq"), None);
    }

    #[test]
    fn the_longest_operation_is_that_of_all_rounds() {
        let with = |round, p50, longest| Record {
            latency: Some(Latency { p50, longest, ..Latency::default() }),
            ..record(Kind::Redb, "readseq", round, 1.0)
        };
        let runs = runs(Setup::default(), vec![with(1, 5, 900), with(2, 7, 20), with(3, 6, 30)]);
        let latency = Figures::of(&runs, false, "readseq", Kind::Redb).unwrap().latency.unwrap();
        assert_eq!((latency.p50, latency.longest), (6.0, 900.0));
    }
}
