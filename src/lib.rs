//! strandline (the crate documentation comes with the public API)

mod error;
mod format;
mod fs;
mod merge;
mod seam;
mod slice;
mod sync;
mod table;
mod timestamp;
mod version;

pub use error::{Error, Result};
pub use merge::Change;
pub use slice::Slice;
pub use timestamp::Timestamp;
pub use version::Version;
