//! What a run costs: wall time, CPU time, bytes written, memory, space, and the time of each operation.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::engine::Result;
use crate::record::{Latency, Record};

/// The times of single operations of one thread. An operation's time goes from the end of the one before to its own
/// end, as in db_bench: one look at the clock each.
pub struct Latencies {
    histogram: Histogram<u32>,
    last: Instant,
}

impl Latencies {
    fn new() -> Result<Self> {
        Ok(Self { histogram: Histogram::new_with_bounds(1, 600_000_000_000, 3)?, last: Instant::now() })
    }

    #[inline]
    pub fn operation_ends(&mut self) {
        let now = Instant::now();
        self.histogram.saturating_record(now.duration_since(self.last).as_nanos() as u64);
        self.last = now;
    }

    fn summary(&self) -> Option<Latency> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            longest: self.histogram.max(),
        })
    }
}

/// Runs the same work on several threads. Each prepares first (handles, warming up: not measured); the time starts when
/// all are ready and stops when all are done.
pub fn on_threads<State>(
    threads: usize,
    prepare: impl Fn(usize) -> Result<State> + Sync,
    work: impl Fn(usize, State, &mut Latencies) -> Result<()> + Sync,
) -> Result<Measured> {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, prepare, work) = (&barrier, &prepare, &work);
                scope.spawn(move || -> Result<Latencies> {
                    let prepared = prepare(thread);
                    barrier.wait();
                    let mut latencies = Latencies::new()?;
                    work(thread, prepared?, &mut latencies)?;
                    Ok(latencies)
                })
            })
            .collect();
        barrier.wait();
        let start = Usage::now()?;
        let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        let seconds = start.at.elapsed().as_secs_f64();
        let mut all = Latencies::new()?;
        for result in results {
            let of_thread = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all.histogram.add(&of_thread.histogram)?;
        }
        Ok(Measured { start, threads, seconds, latency: all.summary(), drain_seconds: 0.0 })
    })
}

/// Runs work that needs no other thread.
pub fn on_this_thread(work: impl FnOnce(&mut Latencies) -> Result<()>) -> Result<Measured> {
    let start = Usage::now()?;
    let mut latencies = Latencies::new()?;
    work(&mut latencies)?;
    let seconds = start.at.elapsed().as_secs_f64();
    Ok(Measured { start, threads: 1, seconds, latency: latencies.summary(), drain_seconds: 0.0 })
}

/// Work that was timed, in a process that goes on.
pub struct Measured {
    start: Usage,
    threads: usize,
    pub seconds: f64,
    latency: Option<Latency>,
    drain_seconds: f64,
}

impl Measured {
    /// Times what comes after the last operation until the tree is settled.
    pub fn drain(&mut self, settle: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        settle()?;
        self.drain_seconds = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// What it came to up to now. Comes before checks, so that these do not count.
    pub fn record(&self, operations: u64) -> Result<Record> {
        let end = Usage::now()?;
        Ok(Record {
            threads: self.threads,
            operations,
            seconds: self.seconds,
            drain_seconds: self.drain_seconds,
            bytes_written: end.bytes_written.saturating_sub(self.start.bytes_written),
            peak_memory_bytes: proc_number("/proc/self/status", "VmHWM:")? * 1024,
            latency: self.latency,
            cpu_seconds: end.cpu.saturating_sub(self.start.cpu).as_secs_f64(),
            ..Record::default()
        })
    }
}

struct Usage {
    at: Instant,
    cpu: Duration,
    bytes_written: u64,
}

impl Usage {
    fn now() -> Result<Self> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Ok(Self {
            at: Instant::now(),
            cpu: Duration::new(cpu.tv_sec.try_into()?, cpu.tv_nsec.try_into()?),
            bytes_written: proc_number("/proc/self/io", "write_bytes:")?,
        })
    }
}

fn proc_number(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{file} has no {name}").into())
}

/// The bytes that the files below take on disk: what was preallocated counts, holes do not.
pub fn directory_bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { directory_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_timed_together_and_their_operations_are_all_counted() {
        let measured = on_threads(
            2,
            |thread| {
                std::thread::sleep(Duration::from_millis(100 * thread as u64));
                Ok(thread)
            },
            |_, _, latencies| {
                std::thread::sleep(Duration::from_millis(20));
                latencies.operation_ends();
                Ok(())
            },
        );
        let record = measured.unwrap().record(2).unwrap();
        assert!(record.seconds >= 0.02 && record.seconds < 0.1, "preparing took part: {}", record.seconds);
        assert!(record.latency.unwrap().p50 >= 20_000_000);
        assert!(record.peak_memory_bytes > 100_000);
    }

    #[test]
    fn an_error_of_one_thread_is_the_error_of_all() {
        let failed = on_threads(2, |thread| if thread == 1 { Err("broken".into()) } else { Ok(()) }, |_, (), _| Ok(()));
        assert_eq!(failed.err().unwrap().to_string(), "broken");
    }

    #[test]
    fn bytes_of_a_directory_are_those_of_all_files_below() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        for name in ["a", "sub/b"] {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            std::io::Write::write_all(&mut &file, &[1; 8192]).unwrap();
            file.set_len(1 << 20).unwrap();
            file.sync_all().unwrap();
        }
        let bytes = directory_bytes(directory.path()).unwrap();
        assert!((16_384..65_536).contains(&bytes), "{bytes}");
    }
}
