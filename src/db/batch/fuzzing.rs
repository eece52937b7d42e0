//! What fuzzing asks of batches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a promise that is broken is a panic here")]

use super::{Op, OpKind, Operations, Target, WriteBatch};

struct Numbered(u32);

impl Target for Numbered {
    fn id(&self) -> u32 {
        self.0
    }

    fn database(&self) -> u64 {
        0
    }
}

/// The operations of a batch as the log holds them: put into a batch again they are the same.
pub(crate) fn operations(body: &[u8]) {
    let mut batch = WriteBatch::new();
    let mut read = Vec::new();
    for op in Operations::new(body) {
        let Ok(op) = op else { break };
        assert!(op.kind != OpKind::Delete { key: b"" } || !body.is_empty());
        push(&mut batch, &op);
        read.push(op);
    }
    batch.check().unwrap();
    assert_eq!(batch.len(), read.len());
    let again = batch.into_parts().0;
    assert_eq!(Operations::new(&again).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&read));
}

fn push(batch: &mut WriteBatch, op: &Op<'_>) {
    let target = Numbered(op.keyspace);
    match op.kind {
        OpKind::Put { key, value, expires_at: None } => batch.push_put(&target, key, value),
        OpKind::Put { key, value, expires_at: Some(at) } => batch.push_put_expiring(&target, key, value, at),
        OpKind::Delete { key } => batch.push_delete(&target, key),
        OpKind::DeleteRange { start, end: Some(end) } => batch.push_delete_range(&target, start..end),
        OpKind::DeleteRange { start, end: None } => batch.push_delete_range(&target, start..),
    }
}

pub(crate) fn operations_seeds() -> Vec<Vec<u8>> {
    let mut batch = WriteBatch::new();
    let (one, other) = (Numbered(1), Numbered(300));
    batch.push_put(&one, b"key", b"value");
    batch.push_put_expiring(&other, b"", b"", 900);
    batch.push_delete(&one, b"key");
    batch.push_delete_range(&one, &b"a"[..]..&b"b"[..]);
    batch.push_delete_range(&other, &b"a"[..]..);
    vec![batch.into_parts().0.to_vec()]
}
