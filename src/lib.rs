//! strandline (the crate documentation comes with the public API)

mod error;
mod format;
mod fs;
mod memtable;
mod seam;
mod slice;
mod sync;
mod table;
mod timestamp;
mod version;

pub use error::{Error, Result};
pub use format::codec::Compression;
pub use slice::Slice;
pub use timestamp::Timestamp;
pub use version::Version;
