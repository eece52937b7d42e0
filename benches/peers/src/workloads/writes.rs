//! Fills, overwriting, deleting: from the first operation to the last, and then until the tree is settled.

use super::{Run, expect};
use crate::engine::{Map, Result};
use crate::keys::{Key, Permutation, Random, SEED, Values};
use crate::measure::{on_this_thread, on_threads};
use crate::record::Record;

#[derive(Debug, Clone, Copy)]
pub struct Fill {
    /// Or in random order, each key once.
    pub ascending: bool,
    pub threads: usize,
    /// Puts in a commit.
    pub batch: usize,
    pub sync: bool,
}

impl Fill {
    pub(super) fn run(self, run: &Run, map: &dyn Map) -> Result<Record> {
        let permutation = Permutation::new(run.keys, SEED);
        let index = |position| if self.ascending { position } else { permutation.at(position) };
        let mut measured = on_threads(
            self.threads,
            |_| map.writer(),
            |thread, mut writer, latencies| {
                let mut keys = vec![Key::new(run.prefix); self.batch];
                let mut values = Values::new(run.value_bytes, thread as u64);
                // Each thread has a part of the order to itself.
                let (start, end) = part(run.keys, thread, self.threads);
                let mut position = start;
                while position < end {
                    let puts = (end - position).min(self.batch as u64) as usize;
                    if puts == 1 {
                        writer.put(keys[0].present(index(position)), values.next())?;
                    } else {
                        let mut rows = Vec::with_capacity(puts);
                        for (offset, key) in keys[..puts].iter_mut().enumerate() {
                            rows.push((key.present(index(position + offset as u64)), values.place()));
                        }
                        writer.put_all(&mut rows.iter().map(|(key, value)| (*key, values.at(*value))))?;
                    }
                    latencies.operation_ends();
                    position += puts as u64;
                }
                Ok(())
            },
        )?;
        measured.drain(|| map.settle())?;
        let record = measured.record(run.keys)?;
        expect("rows after the fill", map.reader()?.scan(false, u64::MAX)?, run.keys)?;
        Ok(record)
    }
}

/// As many puts as there are keys, each of a random one.
pub(super) fn overwrite(run: &Run, map: &dyn Map) -> Result<Record> {
    let mut measured = on_this_thread(|latencies| {
        let (mut writer, mut key) = (map.writer()?, Key::new(run.prefix));
        let (mut values, mut random) = (Values::new(run.value_bytes, 0x0e4), Random::new(SEED ^ 0x0e4));
        for _ in 0..run.keys {
            writer.put(key.present(random.below(run.keys)), values.next())?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.drain(|| map.settle())?;
    let record = measured.record(run.keys)?;
    expect("rows after overwriting", map.reader()?.scan(false, u64::MAX)?, run.keys)?;
    Ok(record)
}

/// Every second key, in random order.
pub(super) fn delete(run: &Run, map: &dyn Map) -> Result<Record> {
    let permutation = Permutation::new(run.keys, SEED ^ 0xde1);
    let deletes = run.keys / 2;
    let mut measured = on_this_thread(|latencies| {
        let (mut writer, mut key) = (map.writer()?, Key::new(run.prefix));
        for position in 0..deletes {
            writer.delete(key.present(permutation.at(position)))?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.drain(|| map.settle())?;
    let record = measured.record(deletes)?;
    let mut reader = map.reader()?;
    expect("rows after deleting", reader.scan(false, u64::MAX)?, run.keys - deletes)?;
    for position in 0..run.keys.min(1000) {
        let found = reader.get(Key::new(run.prefix).present(permutation.at(position)))?;
        expect("a key that was deleted, or was not", found.into(), (position >= deletes).into())?;
    }
    Ok(record)
}

/// From where to where the positions of a thread go.
pub(super) fn part(count: u64, thread: usize, threads: usize) -> (u64, u64) {
    let bound = |thread: usize| count * thread as u64 / threads as u64;
    (bound(thread), bound(thread + 1))
}
