//! Back-pressure: how commits are slowed down while flushes and compactions lag (S38).

use super::background::Jobs;
use super::engine::Engine;
use crate::compaction::{Backlog, Limits, Pacer, Pressure};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::{Error, Result};

/// The pressure as it was when the backlog last changed.
#[derive(Debug, Default)]
pub(crate) struct PressureGauge {
    nanos_per_byte: AtomicU64,
    stop: AtomicBool,
    pacer: Mutex<Pacer>,
}

impl PressureGauge {
    fn get(&self) -> Pressure {
        Pressure {
            nanos_per_byte: f64::from_bits(self.nanos_per_byte.load(Ordering::Relaxed)),
            stop: self.stop.load(Ordering::Relaxed),
        }
    }

    fn set(&self, pressure: Pressure) {
        self.nanos_per_byte.store(pressure.nanos_per_byte.to_bits(), Ordering::Relaxed);
        self.stop.store(pressure.stop, Ordering::Relaxed);
    }
}

impl Engine {
    /// Before a commit of so many bytes: waits as long as the backlog asks for. Holds no lock while it waits.
    pub(crate) fn wait_for_room(&self, bytes: usize) -> Result<()> {
        let pressure = self.pressure.get();
        if pressure.nanos_per_byte <= 0.0 && !pressure.stop {
            return Ok(());
        }
        let started = self.time.monotonic_nanos();
        self.counters.stalls.fetch_add(1, Ordering::Relaxed);
        if pressure.stop {
            self.wait_in_background(|jobs| {
                self.check_open()?;
                self.refresh_pressure(jobs);
                // Where nothing is left to be done the backlog is as small as it gets.
                let stuck = !jobs.running() && !self.has_job(jobs);
                Ok((!self.pressure.get().stop || stuck).then_some(()))
            })?;
        }
        let wait = self.pressure.pacer.lock().take(self.time.monotonic_nanos(), bytes as u64, self.pressure.get());
        if !wait.is_zero() {
            self.time.sleep(wait);
        }
        let waited = self.time.monotonic_nanos().saturating_sub(started);
        self.counters.stalled_nanos.fetch_add(waited, Ordering::Relaxed);
        if self.check_open().is_err() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Measures the backlog anew: after a job, and after a memtable was sealed.
    pub(crate) fn refresh_pressure(&self, jobs: &Jobs) {
        let mut backlog =
            Backlog { sealed_bytes: self.counters.sealed_bytes.load(Ordering::Relaxed), ..Backlog::default() };
        let mut level_base_bytes = 0;
        for keyspace in self.world().keyspaces() {
            level_base_bytes = level_base_bytes.max(keyspace.core.options.level_base_bytes);
            backlog.level0_files = backlog.level0_files.max(keyspace.tree.level(0).len() as u64);
            backlog.level0_bytes = backlog.level0_bytes.saturating_add(keyspace.tree.bytes(0));
            let debt = self.with_shape(keyspace, jobs, |shape| shape.debt_bytes(&shape.targets()));
            backlog.debt_bytes = backlog.debt_bytes.saturating_add(debt);
        }
        let memtable = self.options.memtable_bytes as u64;
        let sealed = (self.options.write_buffer_bytes as u64 / memtable.max(1)).saturating_sub(1).max(1);
        self.pressure.set(Pressure::of(&backlog, &Limits::new(memtable, sealed, level_base_bytes)));
    }
}
