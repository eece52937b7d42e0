//! LMDB, through heed.
//!
//! Durability: with `MDB_NOSYNC` a commit writes its pages to the file and does not sync: it survives a killed process,
//! which is the class asked for. (A power loss may then take the file with it, where the others lose their last
//! commits; LMDB has nothing between.) Without that flag each commit syncs. Pages are written with `pwrite`, which is
//! the default, not through the map (`MDB_WRITEMAP`).
//!
//! It has one B-tree in mapped memory: no codec, no filters, no checksums, no memtable, no cache of its own (the
//! operating system's, without a bound), no background threads, one writer at a time. Each read takes a transaction of
//! its own, whose slot heed keeps with the thread; a reader that kept one would neither see newer commits nor let pages
//! be used again.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use crate::engine::{Map, Reader, Result, Settings, Writer, touch};

/// The size of the map has to be a multiple of it, whatever pages the machine has.
const MAP_UNIT: u64 = 1 << 21;

pub struct Store {
    env: Env,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(usize::try_from(settings.most_bytes.next_multiple_of(MAP_UNIT))?);
        if !settings.sync {
            // SAFETY: without syncs, a file that a power loss has left torn must not be opened again: these files are
            // made for a run, and thrown away with it.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: the directory is this run's own; nobody else changes or truncates the file while it is mapped.
        let env = unsafe { options.open(dir)? };
        Ok(Self { env })
    }

    /// The handle of the one map; once a thread.
    fn rows(&self) -> Result<Rows<'_>> {
        let rows = self.env.create_databases_and_commit(self.env.write_txn()?, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let rows = rows.commit().ok_or("no map was made")?;
        Ok(Rows { env: &self.env, rows })
    }
}

impl Map for Store {
    fn writer(&self) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(self.rows()?))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self.rows()?))
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct Rows<'e> {
    env: &'e Env,
    rows: Database<'e, Bytes, Bytes>,
}

impl Writer for Rows<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.rows.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.rows.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in rows {
            self.rows.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }
}

impl Reader for Rows<'_> {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        let transaction = self.env.read_txn()?;
        Ok(self.rows.get(&transaction, key)?.inspect(|value| touch(value)).is_some())
    }

    /// In one transaction.
    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        let transaction = self.env.read_txn()?;
        let mut found = 0;
        for key in keys {
            found += usize::from(self.rows.get(&transaction, key)?.inspect(|value| touch(value)).is_some());
        }
        Ok(found)
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        let transaction = self.env.read_txn()?;
        let range = self.rows.range(&transaction, &(Bound::Included(key), Bound::Unbounded))?;
        Ok(count(range.take(rows))? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        let rows = usize::try_from(rows)?;
        let transaction = self.env.read_txn()?;
        if reverse {
            count(self.rows.rev_iter(&transaction)?.take(rows))
        } else {
            count(self.rows.iter(&transaction)?.take(rows))
        }
    }
}

fn count<'t>(rows: impl Iterator<Item = heed::Result<(&'t [u8], &'t [u8])>>) -> Result<u64> {
    let mut found = 0;
    for row in rows {
        let (_, value) = row?;
        touch(value);
        found += 1;
    }
    Ok(found)
}
