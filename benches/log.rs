//! Appends to the log, on the file system that holds the target directory and in memory.
#![allow(clippy::unwrap_used, reason = "a file system that fails ends the bench")]

mod inputs;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use strandline::layers::{Batch, Log};
use strandline::{Fs, MemFs, StdFs};
use tempfile::TempDir;

/// A new log, and the directory that goes with it.
fn new_log(on_disk: bool) -> (Log, TempDir) {
    // Not where temporary files lie by default: that may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = if on_disk {
        let fs: Arc<dyn Fs> = Arc::new(StdFs);
        Log::create(&fs, dir.path())
    } else {
        let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
        Log::create(&fs, Path::new("db"))
    };
    (log.unwrap(), dir)
}

fn batch_of(puts: usize) -> Bytes {
    let mut batch = Batch::new();
    inputs::rows(puts, 1).iter().for_each(|row| batch.put(&row.key, &row.value));
    Bytes::copy_from_slice(&batch.finish())
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    Buffered,
    Synced,
}

/// Appends a batch again and again; says how long the log is then.
fn append(log: &Log, batch: &[u8], records: u64, wait: Wait) -> u64 {
    for timestamp in 1..=records {
        match wait {
            Wait::Buffered => log.append(timestamp, batch).unwrap(),
            Wait::Synced => log.append_synced(timestamp, batch).unwrap(),
        }
    }
    log.bytes()
}

fn appends(c: &mut Criterion) {
    for (place, on_disk) in [("disk", true), ("memory", false)] {
        let mut group = c.benchmark_group(format!("log/{place}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        // Each iteration has a log of its own, or it would fill the disk.
        for (wait, puts, records) in [(Wait::Buffered, 1, 10_000), (Wait::Buffered, 100, 1_000), (Wait::Synced, 1, 100)]
        {
            let batch = batch_of(puts);
            assert!(append(&new_log(on_disk).0, &batch, 10, wait) > 10 * batch.len() as u64);
            group.throughput(Throughput::Elements(records));
            group.bench_function(BenchmarkId::new(format!("{wait:?}"), puts), |b| {
                let routine = |(log, _): &mut (Log, TempDir)| append(log, &batch, records, wait);
                b.iter_batched_ref(|| new_log(on_disk), routine, BatchSize::PerIteration);
            });
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    appends(&mut criterion);
    criterion.final_summary();
}
