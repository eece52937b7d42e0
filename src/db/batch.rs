//! Batches: operations that commit together, encoded as they are named. The encoded bytes are the body of the log
//! record, and memtables are filled from them.
//!
//! One operation after the other, without padding:
//!
//! ```text
//! kind      u8       1 put, 2 put with expiry, 3 delete, 4 delete of a range; 5 is reserved (put of a value in a blob file)
//! keyspace  varint   the number of the keyspace
//! key       bytes    varint length, then that many; of a range: its first key
//! value     bytes    (1, 2)
//! expiry    varint   (2) a timestamp
//! end       u8       (4) 0: the range has no end; 1: then bytes, the first key behind the range
//! ```
//!
//! A kind with [`MAY_SKIP`] set is followed by one `bytes` instead, so that a reader which does not know it can pass
//! over it.

mod body;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub(crate) use body::Body;

use super::Keyspace;
use super::few::Few;
use super::range::{KeyBounds, KeyRange, half_open, prefix_bounds};
use crate::format::{DecodeError, Decoder, Encode, MAY_SKIP, Reason};
use crate::manifest::KeyspaceId;
use crate::memtable::LONGEST_INLINE;
use crate::{Error, Result, Slice, Timestamp};

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 65_535;
/// The longest value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 256 << 20;
/// The longest batch, encoded, in bytes.
pub(crate) const MAX_BATCH_BYTES: usize = 1 << 30;
/// The longest bound of a range delete: the successor of the longest key.
const MAX_BOUND_BYTES: usize = MAX_KEY_BYTES + 1;

const PUT: u8 = 1;
const PUT_EXPIRING: u8 = 2;
const DELETE: u8 = 3;
const DELETE_RANGE: u8 = 4;
const PUT_BLOB: u8 = 5;

/// What an operation is about: a keyspace of an open database.
pub(crate) trait Target {
    /// The number of the keyspace.
    fn id(&self) -> u32;
    /// Which open database it is of.
    fn database(&self) -> u64;
}

/// The keys and ranges that a batch names as read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// Ascending.
    pub(crate) keyspaces: Few<KeyspaceId>,
    pub(crate) keys: Vec<(KeyspaceId, Box<[u8]>)>,
    /// With an exclusive end; `None`: to the last key.
    pub(crate) ranges: Vec<(KeyspaceId, Slice, Option<Slice>)>,
}

/// Operations that commit together, at one timestamp, across keyspaces of one database.
///
/// Of several operations on one key, range deletes included, the last one counts. A key, value or batch that is too
/// large, or a keyspace of another database, is reported by the commit, which then writes nothing.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    body: Vec<u8>,
    operations: u32,
    database: Option<u64>,
    /// Those that are written to: ascending.
    keyspaces: Few<KeyspaceId>,
    /// Whether memtables will share a value.
    holds_long: bool,
    reads: Reads,
    refused: Option<Refusal>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self { body: body::spare(), ..Self::default() }
    }

    /// How many operations it holds. Reads, and deletes of empty ranges, are none.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.operations).unwrap_or(usize::MAX)
    }

    /// Whether it writes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// How many bytes it takes in the log and in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The database whose keyspaces are named.
    pub(crate) fn database(&self) -> Option<u64> {
        self.database
    }

    /// The first thing that is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        self.refused.map_or(Ok(()), |refusal| Err(refusal.to_error()))
    }

    /// The encoded operations, the keyspaces that are written to (ascending, each once), and the reads.
    pub(crate) fn into_parts(self) -> (Body, Few<KeyspaceId>, Reads) {
        let body = if self.holds_long { Body::Shared(self.body.into()) } else { Body::Copied(self.body) };
        (body, self.keyspaces, self.reads)
    }

    /// Writes a value.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push_put(keyspace, key.as_ref(), value.as_ref());
    }

    /// Writes a value that reads at or above `expires_at` do not see, nor anything older, as if it were a tombstone.
    /// Any timestamp is accepted; at or below the commit's own the version is dead from birth, yet stands in history
    /// and changes.
    pub fn put_expiring(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expires_at: Timestamp,
    ) {
        self.push_put_expiring(keyspace, key.as_ref(), value.as_ref(), expires_at);
    }

    /// Deletes a key.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.push_delete(keyspace, key.as_ref());
    }

    /// Deletes every key in a range, at a cost that does not depend on how many there are.
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: impl KeyRange) {
        self.push_delete_range(keyspace, range);
    }

    /// Deletes every key that begins with `prefix`, as [`delete_range`](Self::delete_range) does.
    pub fn delete_prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) {
        self.push_delete_prefix(keyspace, prefix.as_ref());
    }

    /// Names a key that the caller has read, for the condition of
    /// [`CommitOptions::started_at`](crate::CommitOptions::started_at).
    pub fn read(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.push_read(keyspace, key.as_ref());
    }

    /// Names a range that the caller has read, for the condition of
    /// [`CommitOptions::started_at`](crate::CommitOptions::started_at).
    pub fn read_range(&mut self, keyspace: &Keyspace, range: impl KeyRange) {
        self.push_read_range(keyspace, range);
    }

    pub(crate) fn push_put(&mut self, target: &impl Target, key: &[u8], value: &[u8]) {
        self.push_value(PUT, target, key, value, None);
    }

    pub(crate) fn push_put_expiring(&mut self, target: &impl Target, key: &[u8], value: &[u8], expires_at: Timestamp) {
        self.push_value(PUT_EXPIRING, target, key, value, Some(expires_at));
    }

    pub(crate) fn push_delete(&mut self, target: &impl Target, key: &[u8]) {
        if self.accepts(target) && self.fits("key", key.len(), MAX_KEY_BYTES) && self.reserve(key.len()) {
            self.keyspaces.insert(KeyspaceId(target.id()));
            self.begin(DELETE, target, key);
        }
    }

    pub(crate) fn push_delete_range(&mut self, target: &impl Target, range: impl KeyRange) {
        self.push_delete_bounds(target, range.into_bounds());
    }

    pub(crate) fn push_delete_prefix(&mut self, target: &impl Target, prefix: &[u8]) {
        self.push_delete_bounds(target, prefix_bounds(prefix));
    }

    pub(crate) fn push_read(&mut self, target: &impl Target, key: &[u8]) {
        if self.accepts(target) && self.fits("key", key.len(), MAX_KEY_BYTES) {
            self.reads.keyspaces.insert(KeyspaceId(target.id()));
            self.reads.keys.push((KeyspaceId(target.id()), key.into()));
        }
    }

    pub(crate) fn push_read_range(&mut self, target: &impl Target, range: impl KeyRange) {
        let bounds = range.into_bounds();
        if self.bounds_fit(&bounds) {
            self.note_range(target, bounds);
        }
    }

    /// A range that was read. Its bounds are not written anywhere: they may be longer than a key can be.
    pub(crate) fn note_range(&mut self, target: &impl Target, bounds: KeyBounds) {
        if !self.accepts(target) {
            return;
        }
        self.reads.keyspaces.insert(KeyspaceId(target.id()));
        if let Some((start, end)) = half_open(bounds) {
            self.reads.ranges.push((KeyspaceId(target.id()), start, end));
        }
    }

    fn push_value(&mut self, kind: u8, target: &impl Target, key: &[u8], value: &[u8], expires_at: Option<Timestamp>) {
        let fits = self.accepts(target)
            && self.fits("key", key.len(), MAX_KEY_BYTES)
            && self.fits("value", value.len(), MAX_VALUE_BYTES)
            && self.reserve(key.len() + value.len());
        if fits {
            self.keyspaces.insert(KeyspaceId(target.id()));
            self.holds_long |= value.len() > LONGEST_INLINE;
            self.begin(kind, target, key);
            self.body.put_bytes(value);
            if let Some(expires_at) = expires_at {
                self.body.put_varint(expires_at);
            }
        }
    }

    fn push_delete_bounds(&mut self, target: &impl Target, bounds: KeyBounds) {
        if !(self.accepts(target) && self.bounds_fit(&bounds)) {
            return;
        }
        self.keyspaces.insert(KeyspaceId(target.id()));
        let Some((start, end)) = half_open(bounds) else { return };
        if self.reserve(start.len() + end.as_ref().map_or(0, |end| end.len())) {
            self.begin(DELETE_RANGE, target, &start);
            self.body.put_u8(u8::from(end.is_some()));
            if let Some(end) = end {
                self.body.put_bytes(&end);
            }
        }
    }

    fn begin(&mut self, kind: u8, target: &impl Target, key: &[u8]) {
        self.operations += 1;
        self.body.put_u8(kind);
        self.body.put_varint(u64::from(target.id()));
        self.body.put_bytes(key);
    }

    /// Whether an operation on `target` may be added.
    fn accepts(&mut self, target: &impl Target) -> bool {
        if self.refused.is_some() {
            return false;
        }
        if *self.database.get_or_insert(target.database()) != target.database() {
            self.refused = Some(Refusal::AnotherDatabase);
            return false;
        }
        true
    }

    fn bounds_fit(&mut self, bounds: &KeyBounds) -> bool {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        [&bounds.0, &bounds.1].into_iter().all(|bound| match bound {
            Included(key) | Excluded(key) => self.fits("key", key.len(), MAX_KEY_BYTES),
            Unbounded => true,
        })
    }

    fn fits(&mut self, what: &'static str, len: usize, max: usize) -> bool {
        if len > max {
            self.refused = Some(Refusal::TooLarge { what, len, max });
        }
        len <= max
    }

    /// Whether an operation with so many bytes of keys and values still fits into the batch.
    fn reserve(&mut self, len: usize) -> bool {
        // What stands around keys and values: kind, keyspace, two lengths, an expiry.
        const AROUND: usize = 1 + 5 + 5 + 5 + 10;
        let whole = self.body.len() + len + AROUND;
        self.fits("batch", whole, MAX_BATCH_BYTES)
    }
}

/// Why a batch cannot be committed.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    TooLarge { what: &'static str, len: usize, max: usize },
    AnotherDatabase,
}

impl Refusal {
    fn to_error(self) -> Error {
        match self {
            Self::TooLarge { what, len, max } => Error::TooLarge { what, len: len as u64, max: max as u64 },
            Self::AnotherDatabase => Error::invalid("the batch names keyspaces of several databases"),
        }
    }
}

/// One operation of a batch, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub(crate) keyspace: u32,
    pub(crate) kind: OpKind<'a>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpKind<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
        expires_at: Option<Timestamp>,
    },
    Delete {
        key: &'a [u8],
    },
    /// From `start` up to, and without, `end` (`None`: to the last key); never empty.
    DeleteRange {
        start: &'a [u8],
        end: Option<&'a [u8]>,
    },
}

/// The operations in the body of a batch, in order. Ends at the first error.
#[derive(Debug, Clone)]
pub(crate) struct Operations<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { decoder: Decoder::new(body) }
    }

    /// The next operation that is known; `None` at the end.
    fn decode(&mut self) -> Result<Option<Op<'a>>, DecodeError> {
        let decoder = &mut self.decoder;
        while !decoder.is_empty() {
            let at = *decoder;
            let kind = decoder.u8()?;
            if kind & MAY_SKIP != 0 {
                decoder.bytes()?;
                continue;
            }
            if !(PUT..=DELETE_RANGE).contains(&kind) {
                let words = match kind {
                    PUT_BLOB => "put of a value in a blob file, which this build cannot read: operation",
                    _ => "operation of unknown kind",
                };
                return Err(at.error(Reason::unknown(words, kind)));
            }
            let keyspace = u32::try_from(decoder.varint()?).map_err(|_| at.error("keyspace number is too large"))?;
            let longest = if kind == DELETE_RANGE { MAX_BOUND_BYTES } else { MAX_KEY_BYTES };
            let key = bytes_up_to(decoder, longest, "key is too long")?;
            let kind = match kind {
                DELETE => OpKind::Delete { key },
                DELETE_RANGE => {
                    let end = match decoder.u8()? {
                        0 => None,
                        1 => Some(bytes_up_to(decoder, MAX_BOUND_BYTES, "key is too long")?),
                        end => return Err(at.error(Reason::unknown("range with an end of unknown kind", end))),
                    };
                    if end.is_some_and(|end| end <= key) {
                        return Err(at.error("range is empty"));
                    }
                    OpKind::DeleteRange { start: key, end }
                }
                _ => {
                    let value = bytes_up_to(decoder, MAX_VALUE_BYTES, "value is too long")?;
                    let expires_at = if kind == PUT_EXPIRING { Some(decoder.varint()?) } else { None };
                    OpKind::Put { key, value, expires_at }
                }
            };
            return Ok(Some(Op { keyspace, kind }));
        }
        Ok(None)
    }
}

fn bytes_up_to<'a>(decoder: &mut Decoder<'a>, max: usize, reason: &'static str) -> Result<&'a [u8], DecodeError> {
    let at = *decoder;
    let bytes = decoder.bytes()?;
    if bytes.len() > max { Err(at.error(reason)) } else { Ok(bytes) }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Op<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.decode().transpose();
        if matches!(next, Some(Err(_))) {
            self.decoder = Decoder::new(&[]);
        }
        next
    }
}
