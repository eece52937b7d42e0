//! The workloads, as db_bench defines those that have its names, and how one of them is run in this process.
//!
//! A fill starts in an empty directory. A read opens what a fill left, so that its caches are fresh, and warms them
//! first, untimed ([`warm`]). What would change a filled directory works on a copy of it. Every workload checks what it found or
//! left: a wrong answer is a failed run, not a number.

mod reads;
#[cfg(test)]
mod tests;
mod transactions;
mod versions;
mod writes;

use std::path::{Path, PathBuf};

use crate::engine::{Kind, Result, Settings};
use crate::measure::directory_bytes;
use crate::record::Record;
use crate::{engines, git};

pub use reads::Read;
pub use transactions::TransactionWork;
pub use versions::VersionWork;
pub use writes::Fill;

pub struct Workload {
    pub name: &'static str,
    pub start: Start,
    pub data: Data,
    pub work: Work,
}

/// What a workload finds in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Empty,
    /// What this fill left.
    Filled(&'static str),
    /// A copy of it.
    CopyOf(&'static str),
}

/// How many keys there are (one for so many of the scale's), and how long values are.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub one_in: u64,
    pub value_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum Work {
    Fill(Fill),
    Overwrite,
    Delete,
    /// One operation for so many of the scale's keys.
    Read(u64, Read),
    /// One operation for so many of the scale's keys.
    Transactions(u64, TransactionWork),
    Versions(VersionWork),
    Git(git::Work),
}

/// How much of it, and which keys.
#[derive(Debug, Clone)]
pub struct Scale {
    pub keys: u64,
    pub prefix: bool,
    /// The changes of a git repository, for the workloads on one.
    pub changes: Option<PathBuf>,
}

pub const VALUE_BYTES: usize = 100;
pub const VERSIONS: u64 = 20;

const SMALL: Data = Data { one_in: 1, value_bytes: VALUE_BYTES };
const LARGE: Data = Data { one_in: 20, value_bytes: 4096 };
/// Each key with [`VERSIONS`] versions: as many of these as there are keys in [`SMALL`].
pub const VERSIONED: Data = Data { one_in: VERSIONS, value_bytes: VALUE_BYTES };
/// As many versions of one key.
const HOT: Data = Data { one_in: 2, value_bytes: VALUE_BYTES };
/// Every commit waits for the disk.
const FEW: Data = Data { one_in: 40, value_bytes: VALUE_BYTES };
const FEW_A_THREAD: Data = Data { one_in: 10, value_bytes: VALUE_BYTES };

const FILL: Fill = Fill { ascending: false, threads: 1, batch: 1, sync: false };
const GET: Read = Read::Get { threads: 1, of: 1, missing: false };

const fn fill(name: &'static str, data: Data, fill: Fill) -> Workload {
    Workload { name, start: Start::Empty, data, work: Work::Fill(fill) }
}

const fn read(name: &'static str, one_in: u64, read: Read) -> Workload {
    Workload { name, start: Start::Filled("fillrandom"), data: SMALL, work: Work::Read(one_in, read) }
}

const fn transactions(name: &'static str, start: Start, work: TransactionWork) -> Workload {
    Workload { name, start, data: SMALL, work: Work::Transactions(4, work) }
}

const fn versions(name: &'static str, start: Start, work: VersionWork) -> Workload {
    Workload { name, start, data: VERSIONED, work: Work::Versions(work) }
}

const MVCC: Start = Start::Filled("mvccfill");

/// All but those on a git repository, in the order in which they run.
pub const ALL: &[Workload] = &[
    fill("fillseq", SMALL, Fill { ascending: true, ..FILL }),
    fill("fillrandom-2", SMALL, Fill { threads: 2, ..FILL }),
    fill("fillbatch", SMALL, Fill { batch: 100, ..FILL }),
    fill("fillsync", FEW, Fill { sync: true, ..FILL }),
    fill("fillsync-8", FEW_A_THREAD, Fill { sync: true, threads: 8, ..FILL }),
    fill("fillrandom", SMALL, FILL),
    read("readrandom", 1, GET),
    read("readrandom-2", 1, Read::Get { threads: 2, of: 1, missing: false }),
    read("readhot", 1, Read::Get { threads: 1, of: 100, missing: false }),
    read("readmissing", 1, Read::Get { threads: 1, of: 1, missing: true }),
    read("multireadrandom", 1, Read::GetMany),
    read("seekrandom", 2, Read::Seek { rows: 1 }),
    read("seekrandom-50", 10, Read::Seek { rows: 51 }),
    read("readseq", 1, Read::Scan { reverse: false }),
    read("readreverse", 1, Read::Scan { reverse: true }),
    Workload { start: Start::CopyOf("fillrandom"), ..read("readwhilewriting", 2, Read::GetWhileWriting) },
    Workload { name: "overwrite", start: Start::CopyOf("fillrandom"), data: SMALL, work: Work::Overwrite },
    Workload { name: "deleterandom", start: Start::CopyOf("fillrandom"), data: SMALL, work: Work::Delete },
    transactions("fillconditional", Start::Empty, TransactionWork::Fill),
    transactions("transactions-4", Start::CopyOf("fillrandom"), TransactionWork::Update { threads: 4 }),
    fill("fillrandom-4k", LARGE, FILL),
    Workload { start: Start::Filled("fillrandom-4k"), data: LARGE, ..read("readrandom-4k", 5, GET) },
    versions("mvccfill", Start::Empty, VersionWork::Fill),
    versions("mvccreadlatest", MVCC, VersionWork::Get),
    versions("mvccreadasof", MVCC, VersionWork::GetAt),
    versions("mvccscanasof", MVCC, VersionWork::ScanAt),
    versions("mvccscan", MVCC, VersionWork::Scan),
    versions("mvccchanges", MVCC, VersionWork::Changes),
    versions("mvccscanversions", MVCC, VersionWork::ScanVersions),
    versions("mvccdrop", Start::CopyOf("mvccfill"), VersionWork::Drop),
    Workload { data: HOT, ..versions("mvcchotfill", Start::Empty, VersionWork::FillHot) },
    Workload { data: HOT, ..versions("mvcchotasof", Start::Filled("mvcchotfill"), VersionWork::GetHotAt) },
];

pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().chain(git::WORKLOADS).find(|workload| workload.name == name)
}

impl Workload {
    pub fn keeps_versions(&self) -> bool {
        matches!(self.work, Work::Versions(_) | Work::Git(_))
    }

    /// The fill whose directory it opens or copies.
    pub fn needs(&self) -> Option<&'static Self> {
        match self.start {
            Start::Empty => None,
            Start::Filled(fill) | Start::CopyOf(fill) => named(fill),
        }
    }

    fn settings(&self, scale: &Scale) -> Settings {
        let user_bytes = scale.keys * (VALUE_BYTES as u64 + 40);
        let sync = matches!(self.work, Work::Fill(Fill { sync: true, .. }));
        Settings { sync, most_bytes: (4 << 30) + 16 * user_bytes, ..settings() }
    }

    /// Runs it on an engine in a directory; `None` where the engine has nothing of the kind. The caller says in which
    /// round.
    pub fn run(&self, kind: Kind, directory: &Path, scale: &Scale) -> Result<Option<Record>> {
        let settings = self.settings(scale);
        let run = Run {
            keys: (scale.keys / self.data.one_in).max(1),
            value_bytes: self.data.value_bytes,
            prefix: scale.prefix,
        };
        let record = if self.keeps_versions() {
            let Some(engine) = engines::open_versions(kind, directory, &settings)? else { return Ok(None) };
            let record = match self.work {
                Work::Versions(work) => work.run(&run, engine.as_ref())?,
                Work::Git(work) => work.run(engine.as_ref(), scale.changes.as_deref().ok_or("no file of changes")?)?,
                _ => unreachable!("it keeps versions"),
            };
            engine.close()?;
            record
        } else if let Work::Transactions(one_in, work) = self.work {
            let Some(engine) = engines::open_transactions(kind, directory, &settings)? else { return Ok(None) };
            let record = work.run(&run, engine.as_ref(), (scale.keys / one_in).max(1))?;
            engine.close()?;
            Some(record)
        } else {
            let Some(engine) = engines::open_map(kind, directory, &settings)? else { return Ok(None) };
            let record = match self.work {
                Work::Fill(fill) => fill.run(&run, engine.as_ref())?,
                Work::Overwrite => writes::overwrite(&run, engine.as_ref())?,
                Work::Delete => writes::delete(&run, engine.as_ref())?,
                Work::Read(one_in, read) => read.run(&run, engine.as_ref(), (scale.keys / one_in).max(1))?,
                Work::Versions(_) | Work::Git(_) | Work::Transactions(..) => unreachable!("it is a map"),
            };
            engine.close()?;
            Some(record)
        };
        let Some(record) = record else { return Ok(None) };
        Ok(Some(Record {
            engine: kind.name().into(),
            workload: self.name.into(),
            prefix: scale.prefix,
            directory_bytes: directory_bytes(directory)?,
            ..record
        }))
    }
}

/// What all engines are given alike.
pub fn settings() -> Settings {
    Settings {
        memtable_bytes: 64 << 20,
        cache_bytes: 512 << 20,
        block_bytes: 4096,
        filter_bits: 10,
        compression: true,
        background_threads: 2,
        sync: false,
        most_bytes: 4 << 30,
    }
}

/// What the parts of a workload need to know.
struct Run {
    keys: u64,
    value_bytes: usize,
    prefix: bool,
}

/// Warms the caches by a pass of reads, has the engine do what those have it do, and warms what that has changed.
fn warm(settle: impl FnOnce() -> Result<()>, mut pass: impl FnMut() -> Result<()>) -> Result<()> {
    pass()?;
    settle()?;
    pass()
}

fn expect(what: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found}, not {expected}").into()) }
}
