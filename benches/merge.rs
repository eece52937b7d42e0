//! Merges of several sources in memory, as reads and compactions do them.
#![allow(clippy::unwrap_used, reason = "rows in memory do not fail")]

mod inputs;

use criterion::{BenchmarkId, Criterion, Throughput};
use inputs::ROWS;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedMutRandom;
use strandline::layers::{Merge, Row};

/// Each key is in one source, and it is chance in which.
fn dealt(sources: usize) -> Vec<Vec<Row>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut dealt = vec![Vec::new(); sources];
    for row in inputs::rows(ROWS, 1) {
        dealt.choose_mut(&mut rng).unwrap().push(row);
    }
    dealt
}

/// Each key is in every source, newer in those before.
fn overwritten(sources: usize) -> Vec<Vec<Row>> {
    let mut overwritten = vec![Vec::new(); sources];
    for versions in inputs::rows(ROWS / sources, sources).chunks(sources) {
        overwritten.iter_mut().zip(versions).for_each(|(source, row)| source.push(row.clone()));
    }
    overwritten
}

fn scans(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge/scan");
    group.sample_size(20).throughput(Throughput::Elements(ROWS as u64));
    for sources in [1, 2, 4, 8] {
        let merge = Merge::new(dealt(sources));
        assert_eq!(merge.scan(u64::MAX).unwrap(), ROWS as u64);
        group.bench_function(BenchmarkId::new("dealt", sources), |b| b.iter(|| merge.scan(u64::MAX)));
    }
    let merge = Merge::new(overwritten(4));
    assert_eq!(merge.scan(u64::MAX).unwrap(), ROWS as u64 / 4);
    group.bench_function(BenchmarkId::new("overwritten", 4), |b| b.iter(|| merge.scan(u64::MAX)));
}

fn collects(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge/collect");
    group.sample_size(20).throughput(Throughput::Elements(ROWS as u64));
    for sources in [1, 4] {
        let merge = Merge::new(dealt(sources));
        assert_eq!(merge.collect(u64::MAX - 1).unwrap(), ROWS as u64);
        group.bench_function(BenchmarkId::new("dealt", sources), |b| b.iter(|| merge.collect(u64::MAX - 1)));
    }
    let merge = Merge::new(overwritten(4));
    for (name, floor, kept) in
        [("overwritten, all stay", 0, ROWS), ("overwritten, newest stay", u64::MAX - 1, ROWS / 4)]
    {
        assert_eq!(merge.collect(floor).unwrap(), kept as u64);
        group.bench_function(BenchmarkId::new(name, 4), |b| b.iter(|| merge.collect(floor)));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    scans(&mut criterion);
    collects(&mut criterion);
    criterion.final_summary();
}
