//! A prepared transaction: what it locks and will do, and the bytes that say so.
//!
//! ```text
//! rest   keys count varint, then keyspace varint, key bytes             what was read
//!        ranges count varint, then keyspace varint, start bytes, end u8 (0: none; 1: then bytes)
//!        operations to the end (batch.rs)
//! ```

use bytes::Bytes;

use super::super::batch::{Operations, Reads};
use super::super::few::Few;
use crate::format::{DecodeError, Decoder, Encode};
use crate::manifest::{InDoubt, KeyspaceId};
use crate::sync::Arc;
use crate::{Slice, Timestamp};

/// See the module.
#[derive(Debug)]
pub(crate) struct Pending {
    /// As log and manifest have it.
    pub(super) told: Arc<InDoubt>,
    pub(super) reads: Reads,
    pub(super) operations: Bytes,
    pub(super) count: usize,
    pub(super) written: Few<KeyspaceId>,
}

impl Pending {
    pub(super) fn new(id: &[u8], start: Timestamp, reads: &Reads, operations: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = Vec::with_capacity(operations.len() + 16);
        rest.put_varint(reads.keys.len() as u64);
        for (keyspace, key) in &reads.keys {
            rest.put_varint(keyspace.0.into());
            rest.put_bytes(key);
        }
        rest.put_varint(reads.ranges.len() as u64);
        for (keyspace, start, end) in &reads.ranges {
            rest.put_varint(keyspace.0.into());
            rest.put_bytes(start);
            rest.put_u8(u8::from(end.is_some()));
            end.iter().for_each(|end| rest.put_bytes(end));
        }
        rest.extend_from_slice(operations);
        Self::read(Arc::new(InDoubt { id: id.into(), start, rest: rest.into() }))
    }

    /// The same with a later start: nothing at or below it can be committed any more.
    pub(super) fn above(self, start: Timestamp) -> Self {
        let told = Arc::new(InDoubt { start: start.max(self.told.start), ..(*self.told).clone() });
        Self { told, ..self }
    }

    /// Of what log or manifest say.
    pub(crate) fn read(told: Arc<InDoubt>) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(&told.rest);
        let mut reads = Reads::default();
        for _ in 0..from.varint()? {
            let keyspace = keyspace_id(&mut from)?;
            reads.keys.push((keyspace, from.bytes()?.into()));
            reads.keyspaces.insert(keyspace);
        }
        for _ in 0..from.varint()? {
            let keyspace = keyspace_id(&mut from)?;
            let start = Slice::copy_of(from.bytes()?);
            let has_end = from.u8()?;
            let end = if has_end == 0 { None } else { Some(Slice::copy_of(from.bytes()?)) };
            if has_end > 1 || end.as_ref().is_some_and(|end| *end <= start) {
                return Err(from.error("a range that was read makes no sense"));
            }
            reads.ranges.push((keyspace, start, end));
            reads.keyspaces.insert(keyspace);
        }
        let operations = told.rest.slice_ref(from.rest());
        let (mut count, mut written) = (0, Few::default());
        for op in Operations::new(&operations) {
            written.insert(KeyspaceId(op?.keyspace));
            count += 1;
        }
        Ok(Self { told, reads, operations, count, written })
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.told.id
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.told.start
    }

    /// All that it has read or will write; some twice.
    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = KeyspaceId> {
        self.written.as_slice().iter().chain(self.reads.keyspaces.as_slice()).copied()
    }

    pub(super) fn bytes(&self) -> usize {
        self.told.id.len() + self.told.rest.len()
    }
}

fn keyspace_id(from: &mut Decoder<'_>) -> Result<KeyspaceId, DecodeError> {
    let start = *from;
    u32::try_from(from.varint()?).map(KeyspaceId).map_err(|_| start.error("keyspace id is too large"))
}
