//! What the log says of commits, and of transactions that were prepared.
//!
//! ```text
//! commit     timestamp u64, if it decides a prepared transaction: id bytes, then the operations as the batch encoded them
//! prepared   in doubt, as in the manifest (manifest/prepared.rs)
//! aborted    id bytes
//! forgotten  id bytes
//! ```
//!
//! The flags of a commit say whether it was late, and whether it decides; those of the other kind, which of three it is.

use super::batch::{Op, Operations};
use crate::Timestamp;
use crate::format::{DecodeError, Decoder, Encode, Reason};
use crate::log::{COMMIT, RecordRef};
use crate::manifest::InDoubt;

/// Set in the flags of a commit whose timestamp was at or below the last one.
const LATE: u8 = 1;
/// Set in those of one that decides a prepared transaction.
const DECIDES: u8 = 2;

/// The flags of a record about a transaction that is not committed by it.
pub(crate) const IS_PREPARED: u8 = 0;
pub(crate) const IS_ABORTED: u8 = 1;
pub(crate) const IS_FORGOTTEN: u8 = 2;

/// A record that is about commits.
#[derive(Debug)]
pub(crate) enum Logged<'a> {
    Commit(LoggedCommit<'a>),
    Prepared(InDoubt),
    Aborted(&'a [u8]),
    Forgotten(&'a [u8]),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggedCommit<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) late: bool,
    /// The prepared transaction that it commits.
    pub(crate) decides: Option<&'a [u8]>,
    /// Not looked at yet.
    pub(crate) operations: &'a [u8],
}

/// The flags and the head of a commit's record; its operations follow.
pub(crate) fn commit_head(timestamp: Timestamp, late: bool, decides: Option<&[u8]>) -> (u8, CommitHead) {
    let flags = if late { LATE } else { 0 } | if decides.is_some() { DECIDES } else { 0 };
    let mut id = Vec::new();
    decides.into_iter().for_each(|decides| id.put_bytes(decides));
    (flags, CommitHead { timestamp: timestamp.to_le_bytes(), id })
}

pub(crate) struct CommitHead {
    timestamp: [u8; 8],
    id: Vec<u8>,
}

impl CommitHead {
    pub(crate) fn parts<'a>(&'a self, operations: &'a [u8]) -> [&'a [u8]; 3] {
        [&self.timestamp, &self.id, operations]
    }
}

impl<'a> Logged<'a> {
    pub(crate) fn read(record: &RecordRef<'a>) -> Result<Self, Reason> {
        let mut from = Decoder::new(record.payload);
        if record.kind == COMMIT {
            return LoggedCommit::read(record.flags, from).map(Self::Commit);
        }
        let logged = match record.flags {
            IS_PREPARED => Self::Prepared(InDoubt::decode(&mut from).map_err(|error| error.reason)?),
            IS_ABORTED => Self::Aborted(from.bytes().map_err(|error| error.reason)?),
            IS_FORGOTTEN => Self::Forgotten(from.bytes().map_err(|error| error.reason)?),
            flags => return Err(Reason::unknown("a prepared transaction with unknown flags", flags)),
        };
        if from.is_empty() { Ok(logged) } else { Err("a prepared transaction is longer than its kind allows".into()) }
    }
}

impl<'a> LoggedCommit<'a> {
    fn read(flags: u8, mut from: Decoder<'a>) -> Result<Self, Reason> {
        let timestamp = from.u64().map_err(|_| "too short for a commit")?;
        if timestamp == 0 || timestamp == Timestamp::MAX {
            return Err("no commit has this timestamp".into());
        }
        if flags & !(LATE | DECIDES) != 0 {
            return Err(Reason::unknown("a commit with unknown flags", flags));
        }
        let decides = if flags & DECIDES == 0 { None } else { Some(from.bytes().map_err(|error| error.reason)?) };
        Ok(Self { timestamp, late: flags & LATE != 0, decides, operations: from.rest() })
    }

    /// Its operations, every one of which must be understood.
    pub(crate) fn operations(&self) -> Result<Vec<Op<'a>>, Reason> {
        let operations: Result<_, DecodeError> = Operations::new(self.operations).collect();
        operations.map_err(|error| error.reason)
    }
}
