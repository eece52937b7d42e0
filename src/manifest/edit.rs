//! What one step changes in what the database knows of itself. An edit is applied whole or not at all.
//!
//! ```text
//! edit     changes, one behind the other
//! change   kind u8, length varint, payload
//!    1  create keyspace   id varint, created at varint, name (length varint, bytes), options (see options.rs)
//!    2  drop keyspace     id varint
//!    3  add table         keyspace varint, level varint, meta (see table/meta.rs)
//!    4  remove table      keyspace varint, level varint, number varint
//!    5  keyspace floor    id varint, floor varint
//!    6  keyspace log      id varint, position varint
//!    7  next keyspace     id varint
//!    8  file numbers      bound varint
//!    9  last timestamp    varint
//!    a  closed            timestamp varint
//!    b  manual floor      varint
//!    c  log start         ordinal varint, position varint
//!    d  log proved        ordinal varint, position varint
//!    e  log cut           ordinal varint, end varint, next ordinal varint
//!   10  reserved: lineage
//!   11  reserved: rollback cut
//!   12  reserved: digest state
//!   13  reserved: add blob file
//!   14  reserved: remove blob file
//!   15  reserved: table of a one-timestamp bulk load
//!   16  prepare           what is in doubt (see prepared.rs)
//!   17  decide            id (length varint, bytes), timestamp varint; 0: it was aborted
//!   18  forget            id (length varint, bytes)
//!   19  prepared log      position varint
//! ```
//!
//! Kinds are hexadecimal. One that is not known is passed over if it has the bit `MAY_SKIP` (and is gone after the next
//! rotation), and refused otherwise (F1).

use super::options;
use super::prepared::{InDoubt, Outcome, TransactionId};
use super::state::KeyspaceId;
use crate::Timestamp;
use crate::format::{COUNTER_LIMIT, DecodeError, Decoder, Encode, FileNumber, MAY_SKIP};
use crate::log::{Cut, LogPosition, Proof};
use crate::options::KeyspaceSettings;
use crate::sync::Arc;
use crate::table::TableMeta;

const CREATE_KEYSPACE: u8 = 1;
const DROP_KEYSPACE: u8 = 2;
const ADD_TABLE: u8 = 3;
const REMOVE_TABLE: u8 = 4;
const KEYSPACE_FLOOR: u8 = 5;
const KEYSPACE_LOG: u8 = 6;
const NEXT_KEYSPACE: u8 = 7;
const FILE_NUMBERS: u8 = 8;
const LAST_TIMESTAMP: u8 = 9;
const CLOSED: u8 = 0xa;
const MANUAL_FLOOR: u8 = 0xb;
const LOG_START: u8 = 0xc;
const LOG_PROVED: u8 = 0xd;
const LOG_CUT: u8 = 0xe;
const PREPARE: u8 = 0x16;
const DECIDE: u8 = 0x17;
const FORGET: u8 = 0x18;
const PREPARED_LOG: u8 = 0x19;
/// The highest kind that is known here.
const NEWEST: u8 = PREPARED_LOG;

/// One thing that changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    CreateKeyspace {
        id: KeyspaceId,
        name: String,
        options: Box<KeyspaceSettings>,
        created_at: Timestamp,
    },
    DropKeyspace {
        id: KeyspaceId,
    },
    /// In level 0 the table is newer than all that are there.
    AddTable {
        keyspace: KeyspaceId,
        level: usize,
        table: Arc<TableMeta>,
    },
    RemoveTable {
        keyspace: KeyspaceId,
        level: usize,
        number: FileNumber,
    },
    /// Something may have been dropped by this floor (R1).
    KeyspaceFloor {
        id: KeyspaceId,
        floor: Timestamp,
    },
    /// The keyspace's tables cover the log below this position (L5).
    KeyspaceLog {
        id: KeyspaceId,
        position: u64,
    },
    /// Ids below were given out. Only snapshots need it: making a keyspace says so too.
    NextKeyspace {
        id: KeyspaceId,
    },
    /// File numbers below may have been used (S29).
    FileNumberBound {
        bound: FileNumber,
    },
    LastTimestamp {
        timestamp: Timestamp,
    },
    Closed {
        timestamp: Timestamp,
    },
    ManualFloor {
        floor: Timestamp,
    },
    /// The log is needed from this segment and position on.
    LogStart {
        ordinal: u64,
        position: u64,
    },
    /// The log is known to be synced up to this position (L1).
    LogProved(Proof),
    /// Where a recovery ended the log (L1).
    LogCut(Cut),
    /// A transaction was prepared.
    Prepare(Arc<InDoubt>),
    /// A transaction that was prepared was committed, or aborted.
    Decide {
        id: TransactionId,
        outcome: Outcome,
    },
    /// The id is free again.
    Forget {
        id: TransactionId,
    },
    /// What the log says of prepared transactions below this position is in the manifest (L5).
    PreparedLog {
        position: u64,
    },
}

/// Changes that take effect together. Tables are removed before others are added, so a table may change its level, or
/// give way to its successors, in any order of the changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Edit {
    pub(crate) changes: Vec<Change>,
}

impl From<Vec<Change>> for Edit {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes }
    }
}

/// Why an edit was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotUnderstood {
    Damaged(DecodeError),
    /// A kind of change, or a field of options, that a newer build wrote.
    Unknown {
        kind: u8,
        newest: u8,
    },
}

impl From<DecodeError> for NotUnderstood {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error)
    }
}

impl NotUnderstood {
    /// With an offset that counts from `base` bytes further ahead.
    pub(super) fn behind(self, base: usize) -> Self {
        match self {
            Self::Damaged(error) => Self::Damaged(DecodeError { offset: error.offset + base, ..error }),
            unknown @ Self::Unknown { .. } => unknown,
        }
    }
}

impl Edit {
    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.changes.iter().for_each(|change| change.encode(out));
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let mut from = Decoder::new(bytes);
        let mut changes = Vec::new();
        while !from.is_empty() {
            let kind = from.u8()?;
            let payload = from.bytes()?;
            let base = from.offset() - payload.len();
            let mut payload = Decoder::new(payload);
            match Change::decode(kind, &mut payload).map_err(|error| error.behind(base))? {
                Some(_) if !payload.is_empty() => {
                    return Err(
                        NotUnderstood::from(payload.error("change is longer than its kind allows")).behind(base)
                    );
                }
                Some(change) => changes.push(change),
                None => {}
            }
        }
        Ok(Self { changes })
    }
}

impl Change {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        let p = &mut payload;
        let kind = match self {
            Self::CreateKeyspace { id, name, options, created_at } => {
                numbers(p, [u64::from(id.0), *created_at]);
                p.put_bytes(name.as_bytes());
                options::encode(options, p);
                CREATE_KEYSPACE
            }
            Self::DropKeyspace { id } => {
                numbers(p, [u64::from(id.0)]);
                DROP_KEYSPACE
            }
            Self::AddTable { keyspace, level, table } => {
                numbers(p, [u64::from(keyspace.0), *level as u64]);
                table.encode(p);
                ADD_TABLE
            }
            Self::RemoveTable { keyspace, level, number } => {
                numbers(p, [u64::from(keyspace.0), *level as u64, number.0]);
                REMOVE_TABLE
            }
            Self::KeyspaceFloor { id, floor } => {
                numbers(p, [u64::from(id.0), *floor]);
                KEYSPACE_FLOOR
            }
            Self::KeyspaceLog { id, position } => {
                numbers(p, [u64::from(id.0), *position]);
                KEYSPACE_LOG
            }
            Self::NextKeyspace { id } => {
                numbers(p, [u64::from(id.0)]);
                NEXT_KEYSPACE
            }
            Self::FileNumberBound { bound } => {
                numbers(p, [bound.0]);
                FILE_NUMBERS
            }
            Self::LastTimestamp { timestamp } => {
                numbers(p, [*timestamp]);
                LAST_TIMESTAMP
            }
            Self::Closed { timestamp } => {
                numbers(p, [*timestamp]);
                CLOSED
            }
            Self::ManualFloor { floor } => {
                numbers(p, [*floor]);
                MANUAL_FLOOR
            }
            Self::LogStart { ordinal, position } => {
                numbers(p, [*ordinal, *position]);
                LOG_START
            }
            Self::LogProved(proof) => {
                numbers(p, [proof.ordinal, proof.position.0]);
                LOG_PROVED
            }
            Self::LogCut(cut) => {
                numbers(p, [cut.ordinal, cut.end.0, cut.next_ordinal]);
                LOG_CUT
            }
            Self::Prepare(in_doubt) => {
                in_doubt.encode_head(p);
                p.extend_from_slice(&in_doubt.rest);
                PREPARE
            }
            Self::Decide { id, outcome } => {
                p.put_bytes(id);
                p.put_varint(match outcome {
                    Outcome::Committed(timestamp) => *timestamp,
                    Outcome::Aborted => 0,
                });
                DECIDE
            }
            Self::Forget { id } => {
                p.put_bytes(id);
                FORGET
            }
            Self::PreparedLog { position } => {
                numbers(p, [*position]);
                PREPARED_LOG
            }
        };
        out.put_u8(kind);
        out.put_bytes(&payload);
    }

    /// `None`: a change that is not known and may be passed over.
    fn decode(kind: u8, from: &mut Decoder<'_>) -> Result<Option<Self>, NotUnderstood> {
        Ok(Some(match kind {
            CREATE_KEYSPACE => {
                let (id, created_at) = (keyspace_id(from)?, from.varint()?);
                let start = *from;
                let name = std::str::from_utf8(from.bytes()?).map_err(|_| start.error("name is not UTF-8"))?.to_owned();
                Self::CreateKeyspace { id, name, options: Box::new(options::decode(from)?), created_at }
            }
            DROP_KEYSPACE => Self::DropKeyspace { id: keyspace_id(from)? },
            ADD_TABLE => {
                let (keyspace, level) = (keyspace_id(from)?, from.varint_usize()?);
                Self::AddTable { keyspace, level, table: Arc::new(TableMeta::decode(from)?) }
            }
            REMOVE_TABLE => {
                let (keyspace, level) = (keyspace_id(from)?, from.varint_usize()?);
                Self::RemoveTable { keyspace, level, number: FileNumber(counter(from)?) }
            }
            KEYSPACE_FLOOR => Self::KeyspaceFloor { id: keyspace_id(from)?, floor: from.varint()? },
            KEYSPACE_LOG => Self::KeyspaceLog { id: keyspace_id(from)?, position: counter(from)? },
            NEXT_KEYSPACE => Self::NextKeyspace { id: keyspace_id(from)? },
            FILE_NUMBERS => Self::FileNumberBound { bound: FileNumber(counter(from)?) },
            LAST_TIMESTAMP => Self::LastTimestamp { timestamp: from.varint()? },
            CLOSED => Self::Closed { timestamp: from.varint()? },
            MANUAL_FLOOR => Self::ManualFloor { floor: from.varint()? },
            LOG_START => Self::LogStart { ordinal: counter(from)?, position: counter(from)? },
            LOG_PROVED => Self::LogProved(Proof { ordinal: counter(from)?, position: LogPosition(counter(from)?) }),
            LOG_CUT => Self::LogCut(Cut {
                ordinal: counter(from)?,
                end: LogPosition(counter(from)?),
                next_ordinal: counter(from)?,
            }),
            PREPARE => Self::Prepare(Arc::new(InDoubt::decode(from)?)),
            DECIDE => {
                let id = from.bytes()?.into();
                let outcome = match from.varint()? {
                    0 => Outcome::Aborted,
                    timestamp => Outcome::Committed(timestamp),
                };
                Self::Decide { id, outcome }
            }
            FORGET => Self::Forget { id: from.bytes()?.into() },
            PREPARED_LOG => Self::PreparedLog { position: counter(from)? },
            _ if kind & MAY_SKIP != 0 => return Ok(None),
            _ => return Err(NotUnderstood::Unknown { kind, newest: NEWEST }),
        }))
    }
}

fn numbers<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    numbers.into_iter().for_each(|number| out.put_varint(number));
}

fn keyspace_id(from: &mut Decoder<'_>) -> Result<KeyspaceId, DecodeError> {
    let start = *from;
    u32::try_from(from.varint()?).map(KeyspaceId).map_err(|_| start.error("keyspace id is too large"))
}

/// A number that only grows, and never as far as this (B1).
fn counter(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    let start = *from;
    let number = from.varint()?;
    if number < COUNTER_LIMIT { Ok(number) } else { Err(start.error("number is too large")) }
}
