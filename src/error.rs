//! What can go wrong, as values.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Timestamp;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a call on a file.
    #[error("I/O on {} failed: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes on disk are not what was written.
    #[error("{} is corrupt at offset {offset}: {reason}", path.display())]
    Corruption {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was found.
        reason: Box<str>,
    },
    /// Another handle, in this or another process, has the database open for writing.
    #[error("the database at {} is already open for writing", path.display())]
    Locked {
        /// The database's directory.
        path: PathBuf,
    },
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// A time was asked for that retention no longer keeps.
    #[error("timestamp {requested} is below the retained timestamp {retained}")]
    BelowRetained {
        /// The time that was asked for.
        requested: Timestamp,
        /// The floor.
        retained: Timestamp,
    },
    /// A time was asked for that has not come.
    #[error("timestamp {requested} is above the last timestamp {last}")]
    FutureTimestamp {
        /// The time that was asked for.
        requested: Timestamp,
        /// The last timestamp.
        last: Timestamp,
    },
    /// A commit asked for a timestamp at or below the last (or closed) one.
    #[error("cannot commit at timestamp {requested}: the last or closed timestamp is {last}")]
    LateCommit {
        /// The time that was asked for.
        requested: Timestamp,
        /// The last or closed timestamp.
        last: Timestamp,
    },
    /// A condition of the commit does not hold; nothing was written.
    #[error("conflict in keyspace {keyspace:?} on key {key:?}: started at {start}, found a version at {found}")]
    Conflict {
        /// The keyspace's name.
        keyspace: Box<str>,
        /// The key.
        key: Box<[u8]>,
        /// The start that the commit named.
        start: Timestamp,
        /// The version above it.
        found: Timestamp,
    },
    /// There is no visible value to change.
    #[error("the key has no visible value")]
    KeyNotFound,
    /// Something is larger than the format allows; nothing was written.
    #[error("{what} has {len} bytes, the limit is {max}")]
    TooLarge {
        /// Which thing.
        what: &'static str,
        /// Its size in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The call makes no sense as it stands.
    #[error("invalid argument: {0}")]
    InvalidArgument(Box<str>),
    /// There is no such keyspace (any more).
    #[error("there is no keyspace named {name:?}")]
    UnknownKeyspace {
        /// The name that was asked for.
        name: Box<str>,
    },
    /// The database was opened for reading only.
    #[error("the database was opened for reading only")]
    ReadOnly,
    /// Something that is alive stands in the way; nothing was changed.
    #[error("busy: {reason}")]
    Busy {
        /// What stands in the way.
        reason: Box<str>,
    },
    /// No transaction is known under this id: none was prepared, or its outcome was forgotten.
    #[error("no prepared transaction \"{}\" is known", id.escape_ascii())]
    UnknownPrepared {
        /// The id that was asked for.
        id: Box<[u8]>,
    },
    /// The prepared transaction has another outcome than was asked for.
    #[error("the prepared transaction \"{}\" was decided otherwise: {}", id.escape_ascii(), outcome(*committed_at))]
    Decided {
        /// Its id.
        id: Box<[u8]>,
        /// When it was committed; `None`: it was aborted.
        committed_at: Option<Timestamp>,
    },
    /// The file is of a format that this build does not know.
    #[error("{} has format {found}; this build supports up to {supported}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The version, or the kind, that was found.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// An earlier failure in the background: the database serves reads and refuses writes.
    #[error("the database refuses writes after an earlier failure: {0}")]
    Background(#[source] Arc<Error>),
}

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    pub(crate) fn corruption(path: impl AsRef<Path>, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corruption { path: path.as_ref().to_owned(), offset, reason: reason.into().into_boxed_str() }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::InvalidArgument(reason.into().into_boxed_str())
    }
}

fn outcome(committed_at: Option<Timestamp>) -> String {
    committed_at.map_or_else(|| "aborted".to_owned(), |timestamp| format!("committed at {timestamp}"))
}

/// Names the file in an I/O error.
pub(crate) trait AtPath<T> {
    fn at_path(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at_path(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_and_travels() {
        fn travels<T: Send + Sync + 'static>() {}
        travels::<Error>();
        assert!(size_of::<Error>() <= 72, "{}", size_of::<Error>());
    }
}
