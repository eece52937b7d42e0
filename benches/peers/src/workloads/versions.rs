//! Keys with many versions: as many passes over all keys as each has versions, every pass in another random order, a
//! timestamp higher by one with each put. Reads in the past are of times at which every key was there.

use super::{Run, VERSIONS, expect, warm};
use crate::engine::{Result, Versions};
use crate::keys::{Key, Permutation, Random, SEED, Values};
use crate::measure::on_this_thread;
use crate::record::Record;

#[derive(Debug, Clone, Copy)]
pub enum VersionWork {
    Fill,
    /// The present.
    Get,
    /// As of a random time.
    GetAt,
    /// [`SCANNED`] keys from a random one on, as of a random time.
    ScanAt,
    /// All keys, in the present.
    Scan,
    /// What came in the last hundredth of time.
    Changes,
    /// All keys, at all times.
    ScanVersions,
    /// The older half of time, until the space is back.
    Drop,
    /// One key, with as many versions as the run has keys.
    FillHot,
    /// That key, as of a random time.
    GetHotAt,
}

const SCANNED: u64 = 100;

impl VersionWork {
    pub(super) fn run(self, run: &Run, engine: &dyn Versions) -> Result<Option<Record>> {
        let last = run.keys * VERSIONS;
        let a_time = |random: &mut Random| run.keys + random.below(last - run.keys + 1);
        let mut key = Key::new(run.prefix);
        match self {
            // Every pass in another order.
            Self::Fill => {
                let mut order = Permutation::new(run.keys, SEED);
                let key_of = |position| {
                    if position % run.keys == 0 {
                        order = Permutation::new(run.keys, SEED ^ (position / run.keys));
                    }
                    order.at(position % run.keys)
                };
                fill(run, engine, last, key_of, run.keys).map(Some)
            }
            Self::Get => reads(engine, last, |random| {
                let key = key.present(random.below(run.keys));
                expect("reads that hit", engine.get(key)?.into(), 1).map(Some)
            }),
            Self::GetAt => reads(engine, last, |random| {
                let key = key.present(random.below(run.keys));
                expect("reads that hit", engine.get_at(key, a_time(random))?.into(), 1).map(Some)
            }),
            Self::ScanAt => reads(engine, last / 100, |random| {
                let index = random.below(run.keys);
                let Some(found) = engine.scan_at(key.present(index), a_time(random), SCANNED as usize)? else {
                    return Ok(None);
                };
                expect("keys of a scan", found as u64, SCANNED.min(run.keys - index)).map(Some)
            }),
            Self::Scan => scans(engine, "keys", run.keys, 20, || engine.scan().map(Some)),
            Self::Changes => {
                let changes = (last / 100).max(1);
                scans(engine, "changes", changes, 5, || engine.changes_since(last - changes))
            }
            Self::ScanVersions => scans(engine, "versions", last, 2, || engine.scan_versions()),
            Self::Drop => drop_below(run, engine),
            Self::FillHot => fill(run, engine, run.keys, |_| 0, 1).map(Some),
            Self::GetHotAt => reads(engine, run.keys, |random| {
                let timestamp = 1 + random.below(run.keys);
                expect("reads that hit", engine.get_at(key.present(0), timestamp)?.into(), 1).map(Some)
            }),
        }
    }
}

/// Puts so many versions, one after the other, under the keys that `key_of` says; so many keys have one then.
fn fill(
    run: &Run,
    engine: &dyn Versions,
    versions: u64,
    mut key_of: impl FnMut(u64) -> u64,
    keys: u64,
) -> Result<Record> {
    let mut measured = on_this_thread(|latencies| {
        let (mut key, mut values) = (Key::new(run.prefix), Values::new(run.value_bytes, 0));
        for position in 0..versions {
            engine.put(key.present(key_of(position)), position + 1, values.next())?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.drain(|| engine.settle())?;
    let record = measured.record(versions)?;
    expect("keys after the fill", engine.scan()?, keys)?;
    if let Some(found) = engine.scan_versions()? {
        expect("versions after the fill", found, versions)?;
    }
    Ok(record)
}

/// Random reads, after passes of a quarter as many that warm the caches. `None` from `read`: the engine does not offer it.
fn reads(
    engine: &dyn Versions,
    operations: u64,
    mut read: impl FnMut(&mut Random) -> Result<Option<()>>,
) -> Result<Option<Record>> {
    let mut random = Random::new(SEED ^ 0x3a2);
    if read(&mut random)?.is_none() {
        return Ok(None);
    }
    let pass = || (0..(operations / 4).max(1)).try_for_each(|_| read(&mut random).map(|_| ()));
    warm(|| engine.settle_after_reads(), pass)?;
    let measured = on_this_thread(|latencies| {
        for _ in 0..operations {
            read(&mut random)?.ok_or("was offered before")?;
            latencies.operation_ends();
        }
        Ok(())
    })?;
    measured.record(operations).map(Some)
}

/// Some passes of a scan that finds as much as it must, after some that warm the caches.
fn scans(
    engine: &dyn Versions,
    what: &str,
    expected: u64,
    passes: u64,
    scan: impl Fn() -> Result<Option<u64>>,
) -> Result<Option<Record>> {
    if scan()?.is_none() {
        return Ok(None);
    }
    let pass = || expect(what, scan()?.ok_or("was offered before")?, expected);
    warm(|| engine.settle_after_reads(), pass)?;
    let measured = on_this_thread(|_| (0..passes).try_for_each(|_| pass()))?;
    measured.record(passes * expected).map(Some)
}

fn drop_below(run: &Run, engine: &dyn Versions) -> Result<Option<Record>> {
    let kept_versions = VERSIONS - VERSIONS / 2;
    let floor = run.keys * (VERSIONS / 2);
    let mut offered = false;
    let mut measured = on_this_thread(|_| {
        offered = engine.drop_below(floor)?;
        Ok(())
    })?;
    if !offered {
        return Ok(None);
    }
    measured.drain(|| engine.settle())?;
    // Of each key the newest version at the floor stays, and all above it.
    let (kept, before) = (run.keys * (kept_versions + 1), run.keys * VERSIONS);
    let record = measured.record(before - kept)?;
    expect("keys after the drop", engine.scan()?, run.keys)?;
    let mut key = Key::new(run.prefix);
    let mut random = Random::new(SEED);
    for _ in 0..run.keys.min(1000) {
        let found = engine.get_at(key.present(random.below(run.keys)), floor)?;
        expect("reads at the floor that hit", found.into(), 1)?;
    }
    match engine.scan_versions()? {
        Some(left) if left < kept => Err(format!("versions after the drop: {left}, of {kept} that are needed").into()),
        // Tables may keep a little longer what costs more to rewrite than it frees.
        Some(left) if left > kept + (before - kept) / 4 => {
            Err(format!("versions after the drop: {left}, where {kept} of {before} are needed").into())
        }
        _ => Ok(Some(record)),
    }
}
