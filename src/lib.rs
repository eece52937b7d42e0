//! strandline (the crate documentation comes with the public API)

mod compaction;
mod db;
mod error;
mod format;
pub mod fs;
mod log;
mod manifest;
mod memtable;
mod merge;
mod options;
mod seam;
mod slice;
mod sync;
mod table;
mod timestamp;
mod version;

pub use db::{
    Change, Changes, Cursor, Db, History, Iter, KeyRange, Keyspace, KeyspaceMetrics, LevelMetrics, Metrics, Snapshot,
    SnapshotMetrics, VerifyReport, WriteBatch,
};
pub use error::{Error, Result};
pub use format::codec::Compression;
pub use fs::{FaultFs, Fs, MemFs, StdFs};
pub use options::{Background, Clock, CommitOptions, Durability, KeyspaceOptions, Options, Retention};
pub use seam::{ManualTime, SystemTime, Time};
pub use slice::Slice;
pub use timestamp::Timestamp;
pub use version::Version;
