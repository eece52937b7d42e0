//! Batches: encoded by who commits, decoded by the memtables' insert.

mod inputs;

use criterion::{BenchmarkId, Criterion, Throughput};
use strandline::layers::{Batch, Encoded, Row, read_batch};

fn encode(rows: &[Row]) -> Encoded {
    let mut batch = Batch::new();
    rows.iter().for_each(|row| batch.put(&row.key, &row.value));
    batch.finish()
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for puts in [1, 100] {
        let rows = inputs::as_written(&inputs::rows(puts, 1));
        let body = encode(&rows);
        assert_eq!(read_batch(&body).ok(), Some(puts as u64));
        group.throughput(Throughput::Elements(puts as u64));
        group.bench_function(BenchmarkId::new("encode", puts), |b| b.iter(|| encode(&rows).recycle()));
        group.bench_function(BenchmarkId::new("decode", puts), |b| b.iter(|| read_batch(&body)));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    batches(&mut criterion);
    criterion.final_summary();
}
