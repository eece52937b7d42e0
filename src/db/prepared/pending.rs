//! A prepared transaction: what it locks and will do, and the bytes that say so.
//!
//! ```text
//! rest   keys count varint, then keyspace varint, key bytes             what was read
//!        ranges count varint, then keyspace varint, start bytes, end u8 (0: none; 1: then bytes)
//!        operations to the end (batch.rs): puts and deletes
//! ```

use bytes::Bytes;

use super::super::batch::{OpKind, Operations, Reads};
use super::super::few::Few;
use crate::format::{DecodeError, Decoder, Encode};
use crate::manifest::{InDoubt, KeyspaceId};
use crate::sync::Arc;
use crate::{Slice, Timestamp};

/// With an exclusive end; `None`: to the last key.
pub(super) type ReadRange = (Slice, Option<Slice>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pending {
    /// As log and manifest have it.
    pub(super) told: Arc<InDoubt>,
    pub(super) reads: Reads,
    /// The ranges among what was read, by keyspace, in order; those that touch are one.
    pub(super) ranges: Vec<(KeyspaceId, Vec<ReadRange>)>,
    pub(super) operations: Bytes,
    pub(super) count: usize,
    /// Ascending.
    pub(super) written: Few<KeyspaceId>,
    /// All that it has read or will write; ascending.
    pub(super) keyspaces: Few<KeyspaceId>,
}

impl Pending {
    pub(super) fn new(id: &[u8], start: Timestamp, reads: &Reads, operations: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = Vec::with_capacity(operations.len() + 16);
        rest.put_varint(reads.keys.len() as u64);
        for (keyspace, key) in &reads.keys {
            rest.put_varint(keyspace.0.into());
            rest.put_bytes(key);
        }
        let joined = joined(&reads.ranges);
        rest.put_varint(joined.iter().map(|(_, ranges)| ranges.len() as u64).sum());
        for (keyspace, ranges) in &joined {
            for (start, end) in ranges {
                rest.put_varint(keyspace.0.into());
                rest.put_bytes(start);
                rest.put_u8(u8::from(end.is_some()));
                end.iter().for_each(|end| rest.put_bytes(end));
            }
        }
        rest.extend_from_slice(operations);
        Self::read(Arc::new(InDoubt { id: id.into(), start, above: start, rest: rest.into() }))
    }

    /// The same, to be committed above this.
    pub(super) fn raised_to(&self, above: Timestamp) -> Self {
        Self {
            told: Arc::new(InDoubt { above: above.max(self.told.above), ..(*self.told).clone() }),
            reads: self.reads.clone(),
            ranges: self.ranges.clone(),
            operations: self.operations.clone(),
            count: self.count,
            written: self.written.clone(),
            keyspaces: self.keyspaces.clone(),
        }
    }

    /// Of what log or manifest say.
    pub(crate) fn read(told: Arc<InDoubt>) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(&told.rest);
        let (mut reads, mut keyspaces) = (Reads::default(), Few::default());
        for _ in 0..from.varint()? {
            let keyspace = keyspace_id(&mut from)?;
            reads.keys.push((keyspace, from.bytes()?.into()));
            reads.keyspaces.insert(keyspace);
            keyspaces.insert(keyspace);
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
            keyspaces.insert(keyspace);
        }
        let operations = told.rest.slice_ref(from.rest());
        let (mut count, mut written) = (0, Few::default());
        for op in Operations::new(&operations) {
            let op = op?;
            if let OpKind::DeleteRange { .. } = op.kind {
                return Err(from.error("no transaction deletes a range"));
            }
            written.insert(KeyspaceId(op.keyspace));
            keyspaces.insert(KeyspaceId(op.keyspace));
            count += 1;
        }
        let ranges = joined(&reads.ranges);
        Ok(Self { told, reads, ranges, operations, count, written, keyspaces })
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.told.id
    }

    pub(crate) fn start(&self) -> Timestamp {
        self.told.start
    }

    /// It can be committed above this.
    pub(crate) fn above(&self) -> Timestamp {
        self.told.above
    }

    /// All that it has read or will write; ascending.
    pub(crate) fn keyspaces(&self) -> &[KeyspaceId] {
        self.keyspaces.as_slice()
    }

    pub(super) fn written_keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        Operations::new(&self.operations).flatten().filter_map(|op| match op.kind {
            OpKind::Put { key, .. } | OpKind::Delete { key } => Some((KeyspaceId(op.keyspace), key)),
            OpKind::DeleteRange { .. } => None,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.told.id.len() + self.told.rest.len()
    }
}

/// Sorted, and those that touch made one.
fn joined(ranges: &[(KeyspaceId, Slice, Option<Slice>)]) -> Vec<(KeyspaceId, Vec<ReadRange>)> {
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|(keyspace, start, _)| (*keyspace, start));
    let mut joined: Vec<(KeyspaceId, Vec<ReadRange>)> = Vec::new();
    for (keyspace, start, end) in sorted {
        if joined.last().is_none_or(|(last, _)| last != keyspace) {
            joined.push((*keyspace, Vec::new()));
        }
        let Some((_, ranges)) = joined.last_mut() else { continue };
        match ranges.last_mut() {
            Some((_, last)) if last.as_ref().is_none_or(|last| start <= last) => {
                *last = last.take().zip(end.clone()).map(|(last, end)| last.max(end));
            }
            _ => ranges.push((start.clone(), end.clone())),
        }
    }
    joined
}

fn keyspace_id(from: &mut Decoder<'_>) -> Result<KeyspaceId, DecodeError> {
    let start = *from;
    u32::try_from(from.varint()?).map(KeyspaceId).map_err(|_| start.error("keyspace id is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_come_back_from_their_bytes() {
        let range = |keyspace, start: &str, end: Option<&str>| {
            (KeyspaceId(keyspace), Slice::copy_of(start.as_bytes()), end.map(|end| Slice::copy_of(end.as_bytes())))
        };
        let read = [
            range(2, "m", None),
            range(1, "c", Some("e")),
            range(1, "a", Some("b")),
            range(2, "x", Some("y")),
            range(1, "e", Some("f")),
            range(1, "d", Some("d\0")),
            range(2, "a", Some("b")),
        ];
        let reads = Reads { ranges: read.to_vec(), ..Reads::default() };
        let pending = Pending::new(b"id", 7, &reads, &[]).unwrap();
        let again = Pending::read(Arc::clone(&pending.told)).unwrap();
        let shown: Vec<_> = again.ranges.iter().map(|(id, ranges)| (id.0, format!("{ranges:?}"))).collect();
        let text = |ranges: &[(&str, Option<&str>)]| {
            let slice = |text: &str| Slice::copy_of(text.as_bytes());
            let ranges: Vec<ReadRange> = ranges.iter().map(|(start, end)| (slice(start), end.map(slice))).collect();
            format!("{ranges:?}")
        };
        let expected = [(1, text(&[("a", Some("b")), ("c", Some("f"))])), (2, text(&[("a", Some("b")), ("m", None)]))];
        assert_eq!(shown, expected);
        assert_eq!(
            (again.keyspaces(), again.start(), again.id()),
            (&[KeyspaceId(1), KeyspaceId(2)][..], 7, &b"id"[..])
        );
    }
}
