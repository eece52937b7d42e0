//! The checksum that every byte on disk stands under.

use criterion::{BenchmarkId, Criterion, Throughput};
use strandline::layers::checksum;

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for (name, len) in [("64 B", 64), ("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let bytes = vec![0xa5; len];
        assert_ne!(checksum(&bytes), checksum(&vec![0xa4; len]));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &bytes, |b, bytes| b.iter(|| checksum(bytes)));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    checksums(&mut criterion);
    criterion.final_summary();
}
