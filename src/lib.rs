//! strandline (the crate documentation comes with the public API)

mod db;
mod error;
mod format;
pub mod fs;
mod log;
mod options;
mod seam;
mod slice;
mod sync;
mod table;
mod timestamp;
mod version;

pub use db::{KeyRange, WriteBatch};
pub use error::{Error, Result};
pub use format::codec::Compression;
pub use options::{Background, Clock, CommitOptions, Durability, KeyspaceOptions, Options, Retention};
pub use seam::{ManualTime, SystemTime, Time};
pub use slice::Slice;
pub use timestamp::Timestamp;
pub use version::Version;
