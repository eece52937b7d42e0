//! Conditional commits, and transactions of several threads that seldom meet.

use std::sync::atomic::{AtomicU64, Ordering};

use super::writes::part;
use super::{Run, expect};
use crate::engine::{Result, Transactions};
use crate::keys::{Key, Permutation, Random, SEED, Values};
use crate::measure::{on_this_thread, on_threads};
use crate::record::Record;

#[derive(Debug, Clone, Copy)]
pub enum TransactionWork {
    /// Each key once, in random order: a commit that fails if its key was written since it began, which none was.
    Fill,
    /// Two random keys of all read and written again, by threads at once; tried again on a conflict.
    Update { threads: usize },
}

impl TransactionWork {
    pub(super) fn run(self, run: &Run, engine: &dyn Transactions, operations: u64) -> Result<Record> {
        match self {
            Self::Fill => fill(run, engine),
            Self::Update { threads } => update(run, engine, threads, operations),
        }
    }
}

fn fill(run: &Run, engine: &dyn Transactions) -> Result<Record> {
    let permutation = Permutation::new(run.keys, SEED);
    let mut measured = on_this_thread(|latencies| {
        let (mut key, mut values) = (Key::new(run.prefix), Values::new(run.value_bytes, 0));
        for position in 0..run.keys {
            let committed = engine.put(key.present(permutation.at(position)), values.next())?;
            expect("commits without a conflict", committed.into(), 1)?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.drain(|| engine.settle())?;
    let record = measured.record(run.keys)?;
    expect("rows after the fill", engine.rows()?, run.keys)?;
    Ok(record)
}

fn update(run: &Run, engine: &dyn Transactions, threads: usize, operations: u64) -> Result<Record> {
    let conflicts = AtomicU64::new(0);
    let mut measured = on_threads(
        threads,
        |_| Ok(()),
        |thread, (), latencies| {
            let (mut one, mut other) = (Key::new(run.prefix), Key::new(run.prefix));
            let mut values = Values::new(run.value_bytes, 0x7a5 + thread as u64);
            let mut random = Random::new(SEED ^ 0x7a5 ^ thread as u64);
            let (start, end) = part(operations, thread, threads);
            for _ in start..end {
                let (first, second) = (random.below(run.keys), random.below(run.keys));
                let (a, b) = (values.place(), values.place());
                let rows = [(one.present(first), values.at(a)), (other.present(second), values.at(b))];
                while !engine.update(rows)? {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                }
                latencies.operation_ends();
            }
            Ok(())
        },
    )?;
    measured.drain(|| engine.settle())?;
    let record = measured.record(operations)?;
    expect("rows after the updates", engine.rows()?, run.keys)?;
    // Little conflict is what the workload says of itself.
    let conflicts = conflicts.into_inner();
    if conflicts * 20 > operations { Err(format!("{conflicts} conflicts in {operations}").into()) } else { Ok(record) }
}
