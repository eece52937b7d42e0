//! Batches as commits encode them and memtables read them.

use std::hint::black_box;
use std::ops::Deref;

use crate::db::{Body, OpKind, Operations, Target};
use crate::{Error, Result, WriteBatch};

/// The one keyspace of the one database that there is here.
struct Only;

impl Target for Only {
    fn id(&self) -> u32 {
        1
    }

    fn database(&self) -> u64 {
        0
    }
}

/// A batch that is filled.
#[derive(Debug, Default)]
pub struct Batch(WriteBatch);

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the put of a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push_put(&Only, key, value);
    }

    /// The encoded operations.
    #[must_use]
    pub fn finish(self) -> Encoded {
        Encoded(self.0.into_parts().0)
    }
}

/// The operations of a batch, as the log and the memtables get them.
#[derive(Debug)]
pub struct Encoded(Body);

impl Encoded {
    /// Gives the memory to the thread's next batch, as a commit does.
    pub fn recycle(self) {
        self.0.recycle();
    }
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Decodes all operations of an encoded batch; says how many puts there are.
///
/// # Errors
/// The bytes are not those of a batch.
pub fn read_batch(body: &[u8]) -> Result<u64> {
    let mut puts = 0;
    for op in Operations::new(body) {
        let op = op.map_err(|error| Error::invalid(error.reason))?;
        if let OpKind::Put { key, value, .. } = op.kind {
            black_box((op.keyspace, key, value));
            puts += 1;
        }
    }
    Ok(puts)
}
