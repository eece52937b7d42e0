//! Reads from a settled tree, after untimed passes that warm its caches ([`warm`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::writes::part;
use super::{Run, VALUE_BYTES, expect, warm};
use crate::engine::{Map, Reader, Result};
use crate::keys::{Key, Permutation, Random, SEED, Values};
use crate::measure::{on_this_thread, on_threads};
use crate::record::Record;

#[derive(Debug, Clone, Copy)]
pub enum Read {
    /// Of the first key in so many of all, each as likely as the others.
    Get { threads: usize, of: u64, missing: bool },
    /// In batches of [`BATCH`].
    GetMany,
    /// From a random key on, by a fresh cursor.
    Seek { rows: usize },
    /// All of it by one cursor, [`PASSES`] times.
    Scan { reverse: bool },
    /// One thread reads, another overwrites random keys as fast as it can for as long.
    GetWhileWriting,
}

const BATCH: usize = 32;
const PASSES: u64 = 4;

impl Read {
    pub(super) fn run(self, run: &Run, map: &dyn Map, operations: u64) -> Result<Record> {
        match self {
            Self::Get { threads, of, missing } => {
                let range = (run.keys / of).max(1);
                random_reads(run, map, threads, operations, range, |reader, key, index| {
                    let key = if missing { key.missing(index) } else { key.present(index) };
                    expect("reads that hit", reader.get(key)?.into(), (!missing).into())
                })
            }
            Self::Seek { rows } => random_reads(run, map, 1, operations, run.keys, |reader, key, index| {
                let found = reader.seek(key.present(index), rows)? as u64;
                expect("rows from a key on", found, (rows as u64).min(run.keys - index))
            }),
            Self::GetMany => batches(run, map, operations / BATCH as u64),
            Self::Scan { reverse } => scans(run, map, reverse),
            Self::GetWhileWriting => while_writing(run, map, operations),
        }
    }
}

/// How many reads warm the caches: so many that hardly a block of small values is left out; large values have blocks to
/// themselves.
fn warming_reads(run: &Run) -> u64 {
    if run.value_bytes > VALUE_BYTES { run.keys } else { run.keys / 4 }
}

fn random_reads(
    run: &Run,
    map: &dyn Map,
    threads: usize,
    operations: u64,
    range: u64,
    read: impl Fn(&mut dyn Reader, &mut Key, u64) -> Result<()> + Sync,
) -> Result<Record> {
    let order = Permutation::new(range, SEED ^ 0x3a2);
    let prepare = |thread| {
        let (mut reader, mut key) = (map.reader()?, Key::new(run.prefix));
        let (start, end) = part(warming_reads(run), thread, threads);
        warm(
            || map.settle_after_reads(),
            || (start..end).try_for_each(|position| read(reader.as_mut(), &mut key, order.at(position % range))),
        )?;
        Ok((reader, key))
    };
    let measured = on_threads(threads, prepare, |thread, (mut reader, mut key), latencies| {
        let mut random = Random::new(SEED ^ 0x9e7 ^ thread as u64);
        let (start, end) = part(operations, thread, threads);
        for _ in start..end {
            read(reader.as_mut(), &mut key, random.below(range))?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.record(operations)
}

fn batches(run: &Run, map: &dyn Map, batches: u64) -> Result<Record> {
    let (mut reader, mut keys) = (map.reader()?, [Key::new(run.prefix); BATCH]);
    let mut random = Random::new(SEED ^ 0x3a2);
    let mut read = || {
        keys.iter_mut().for_each(|key| _ = key.present(random.below(run.keys)));
        let found = reader.get_many(&keys.each_ref().map(Key::bytes))? as u64;
        expect("reads of a batch that hit", found, BATCH as u64)
    };
    warm(|| map.settle_after_reads(), || (0..warming_reads(run) / BATCH as u64).try_for_each(|_| read()))?;
    let measured = on_this_thread(|latencies| {
        (0..batches).try_for_each(|_| {
            read()?;
            latencies.operation_ends();
            Ok(())
        })
    })?;
    measured.record(batches * BATCH as u64)
}

fn scans(run: &Run, map: &dyn Map, reverse: bool) -> Result<Record> {
    let mut reader = map.reader()?;
    let mut scan = || expect("rows of a scan", reader.scan(reverse, u64::MAX)?, run.keys);
    warm(|| map.settle_after_reads(), &mut scan)?;
    let measured = on_this_thread(|_| (0..PASSES).try_for_each(|_| scan()))?;
    measured.record(PASSES * run.keys)
}

fn while_writing(run: &Run, map: &dyn Map, operations: u64) -> Result<Record> {
    const READER: usize = 0;
    let order = Permutation::new(run.keys, SEED ^ 0x3a2);
    let get = |reader: &mut dyn Reader, key: &mut Key, index| {
        expect("reads that hit", reader.get(key.present(index))?.into(), 1)
    };
    let (reading_ended, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let prepare = |thread| {
        if thread == READER {
            let (mut reader, mut key) = (map.reader()?, Key::new(run.prefix));
            let mut pass =
                || (0..warming_reads(run)).try_for_each(|position| get(reader.as_mut(), &mut key, order.at(position)));
            warm(|| map.settle_after_reads(), &mut pass)?;
        }
        Ok(())
    };
    let mut measured = on_threads(2, prepare, |thread, (), latencies| {
        let (mut random, mut key) = (Random::new(SEED ^ 0x9e7 ^ thread as u64), Key::new(run.prefix));
        if thread == READER {
            let result = map.reader().and_then(|mut reader| {
                for _ in 0..operations {
                    get(reader.as_mut(), &mut key, random.below(run.keys))?;
                    latencies.operation_ends();
                }
                Ok(())
            });
            reading_ended.store(true, Ordering::Relaxed);
            return result;
        }
        let (mut writer, mut values) = (map.writer()?, Values::new(run.value_bytes, 0x0e4));
        while !reading_ended.load(Ordering::Relaxed) {
            writer.put(key.present(random.below(run.keys)), values.next())?;
            writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let beside_per_second = Some(writes.into_inner() as f64 / measured.seconds);
    measured.drain(|| map.settle())?;
    let record = Record { beside_per_second, ..measured.record(operations)? };
    expect("rows after overwriting", map.reader()?.scan(false, u64::MAX)?, run.keys)?;
    Ok(record)
}
