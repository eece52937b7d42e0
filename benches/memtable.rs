//! The memtable: filled, searched and walked over by one thread.
#![allow(clippy::unwrap_used, reason = "a memtable does not fail")]

mod inputs;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use inputs::ROWS;
use strandline::layers::{Direction, Memtable, Row};

fn filled(rows: &[Row]) -> Memtable {
    let memtable = Memtable::new();
    rows.iter().for_each(|row| memtable.insert(row));
    memtable
}

fn inserts(c: &mut Criterion) {
    let rising = inputs::rows(ROWS, 1);
    let random = inputs::as_written(&rising);
    let mut group = c.benchmark_group("memtable/insert");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(ROWS as u64));
    for (name, rows) in [("rising keys", &rising), ("random keys", &random)] {
        // What comes out is dropped outside of the measured time.
        group.bench_function(name, |b| b.iter_batched(|| (), |()| filled(rows), BatchSize::PerIteration));
    }
}

fn reads(c: &mut Criterion) {
    let memtable = filled(&inputs::as_written(&inputs::rows(ROWS, 1)));
    let mut group = c.benchmark_group("memtable/get");
    group.throughput(Throughput::Elements(1));
    let (mut present, mut absent) = (inputs::present(ROWS), inputs::absent(ROWS));
    assert!(present.next().is_some_and(|key| memtable.get(&key, u64::MAX)));
    assert!(absent.next().is_some_and(|key| !memtable.get(&key, u64::MAX)));
    group.bench_function("present", |b| b.iter(|| memtable.get(&present.next().unwrap(), u64::MAX)));
    group.bench_function("absent", |b| b.iter(|| memtable.get(&absent.next().unwrap(), u64::MAX)));
    group.finish();

    let mut group = c.benchmark_group("memtable/scan");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    for (name, direction) in [("forward", Direction::Forward), ("backward", Direction::Backward)] {
        assert_eq!(memtable.scan(direction, u64::MAX).unwrap(), ROWS as u64);
        group.bench_function(name, |b| b.iter(|| memtable.scan(direction, u64::MAX)));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    inserts(&mut criterion);
    reads(&mut criterion);
    criterion.final_summary();
}
