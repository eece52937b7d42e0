//! Tables and what they are made of: blocks, codec, filter; writes, scans and point reads with all blocks cached.
#![allow(clippy::unwrap_used, reason = "a table that was just written is not damaged")]

mod inputs;

use std::hint::black_box;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use inputs::{Key, ROWS};
use strandline::Compression;
use strandline::layers::{self, Block, BlockBuilder, Direction, Filter, Table};

/// How many rows make a block of 4 KiB.
const BLOCK_ROWS: usize = 33;
const VERSIONS: usize = 4;

/// One probe an iteration: each must have the outcome that is expected of the first.
fn probe(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut keys: impl Iterator<Item = Key>,
    expected: bool,
    found: impl Fn(&Key) -> bool,
) {
    assert_eq!(keys.next().map(|key| found(&key)), Some(expected));
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |b| b.iter(|| found(&keys.next().unwrap())));
}

fn blocks(c: &mut Criterion) {
    let rows = inputs::rows(BLOCK_ROWS, 1);
    let mut builder = BlockBuilder::new();
    let payload = Bytes::copy_from_slice(builder.build(&rows));
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(BLOCK_ROWS as u64));
    group.bench_function("build", |b| {
        b.iter(|| {
            black_box(builder.build(&rows));
        });
    });
    let block = Block::parse(&payload).unwrap();
    probe(&mut group, "find present", inputs::present(BLOCK_ROWS), true, |key| block.find(key).unwrap());
    probe(&mut group, "find absent", inputs::absent(BLOCK_ROWS), false, |key| block.find(key).unwrap());

    group.throughput(Throughput::Bytes(payload.len() as u64));
    for (name, compression) in [("lz4", Compression::Lz4), ("zstd 1", Compression::Zstd(1))] {
        let mut stored = Vec::new();
        let codec = layers::compress(compression, &payload, &mut stored);
        assert!(stored.len() < payload.len() * 3 / 4, "{} of {}", stored.len(), payload.len());
        assert_eq!(layers::decompress(codec, &stored, payload.len()).unwrap(), payload);
        let mut out = Vec::new();
        group.bench_function(format!("compress, {name}"), |b| {
            b.iter(|| {
                out.clear();
                layers::compress(compression, &payload, &mut out)
            });
        });
        group.bench_function(format!("decompress, {name}"), |b| {
            b.iter(|| layers::decompress(codec, &stored, payload.len()));
        });
    }
}

fn filters(c: &mut Criterion) {
    // A writer has the key at hand that it adds; keys among values would have to be fetched from memory.
    let keys = inputs::keys(ROWS);
    let mut group = c.benchmark_group("filter");
    group.sample_size(20).throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("build", |b| b.iter(|| layers::build_filter(10.0, &keys)));
    let filter = Filter::parse(&layers::build_filter(10.0, &keys)).unwrap();
    probe(&mut group, "probe present", inputs::present(ROWS), true, |key| filter.may_contain(key));
    probe(&mut group, "probe absent", inputs::absent(ROWS), false, |key| filter.may_contain(key));
}

fn writes(c: &mut Criterion) {
    let (single, several) = (inputs::rows(ROWS, 1), inputs::rows(ROWS / VERSIONS, VERSIONS));
    let mut group = c.benchmark_group("table/write");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("1 version a key", |b| b.iter(|| layers::write_table(&single)));
    group.bench_function("4 versions a key", |b| b.iter(|| layers::write_table(&several)));
}

fn reads(c: &mut Criterion) {
    let table = Table::of(&inputs::rows(ROWS, 1)).unwrap();
    let history = Table::of(&inputs::rows(ROWS / VERSIONS, VERSIONS)).unwrap();
    let middle = ROWS as u64 / 2;

    let mut group = c.benchmark_group("table/scan");
    group.sample_size(10);
    let cases = [
        ("forward", &table, Direction::Forward, u64::MAX),
        ("backward", &table, Direction::Backward, u64::MAX),
        ("forward, 4 versions a key", &history, Direction::Forward, u64::MAX),
        ("forward, 4 versions a key, as of the middle", &history, Direction::Forward, middle),
        ("backward, 4 versions a key, as of the middle", &history, Direction::Backward, middle),
    ];
    for (name, table, direction, timestamp) in cases {
        // The first scan fills the cache.
        let keys = table.scan(direction, timestamp).unwrap();
        assert!(keys > ROWS as u64 / 5, "{name}: {keys} keys");
        group.throughput(Throughput::Elements(keys));
        group.bench_function(name, |b| b.iter(|| table.scan(direction, timestamp)));
    }
    group.finish();

    let mut group = c.benchmark_group("table/get");
    let get = |key: &Key| table.get(key, u64::MAX).unwrap();
    probe(&mut group, "present", inputs::present(ROWS), true, get);
    probe(&mut group, "absent", inputs::absent(ROWS), false, get);
    let as_of = |key: &Key| history.get(key, middle).unwrap();
    probe(&mut group, "4 versions a key, as of the middle", inputs::present(ROWS / VERSIONS), true, as_of);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    blocks(&mut criterion);
    filters(&mut criterion);
    writes(&mut criterion);
    reads(&mut criterion);
    criterion.final_summary();
}
