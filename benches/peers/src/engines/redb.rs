//! redb.
//!
//! Durability: it has no class between `Immediate`, which syncs each commit, and `None`, after which a commit lives in
//! the process until one that is `Immediate`. Where commits need not survive a power loss, `None` is taken: less than
//! what the others give, so its write rates flatter it. `settle` and `close` end with a commit that is `Immediate`.
//!
//! It has one B-tree file: no codec, no filters, no memtable, no background threads; pages of 4 KiB are its default. All
//! of the cache is its page cache. Checksums are verified when a file is repaired, not when a page is read. Each read
//! takes a transaction of its own.

use std::ops::Bound;
use std::path::Path;

use redb::{AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::engine::{Map, Reader, Result, Settings, Writer, touch};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub struct Store {
    db: Database,
    durability: Durability,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self> {
        let db = Database::builder().set_cache_size(settings.cache_bytes).create(dir.join("rows.redb"))?;
        let durability = if settings.sync { Durability::Immediate } else { Durability::None };
        let store = Self { db, durability };
        // Readers need the table to be there.
        store.commit(Durability::Immediate, |_| Ok(()))?;
        Ok(store)
    }

    fn commit(
        &self,
        durability: Durability,
        write: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(durability)?;
        write(&mut transaction.open_table(ROWS)?)?;
        transaction.commit()?;
        Ok(())
    }

    fn rows(&self) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>> {
        Ok(self.db.begin_read()?.open_table(ROWS)?)
    }
}

impl Map for Store {
    fn writer(&self) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(self))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        self.commit(Durability::Immediate, |_| Ok(()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.settle()
    }
}

impl Writer for &Store {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit(self.durability, |rows| {
            rows.insert(key, value)?;
            Ok(())
        })
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.commit(self.durability, |rows| {
            rows.remove(key)?;
            Ok(())
        })
    }

    fn put_all(&mut self, rows: &mut dyn Iterator<Item = (&[u8], &[u8])>) -> Result<()> {
        self.commit(self.durability, |table| {
            for (key, value) in rows {
                table.insert(key, value)?;
            }
            Ok(())
        })
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.rows()?.get(key)?.inspect(|value| touch(value.value())).is_some())
    }

    /// In one transaction.
    fn get_many(&mut self, keys: &[&[u8]]) -> Result<usize> {
        let rows = self.rows()?;
        let mut found = 0;
        for key in keys {
            found += usize::from(rows.get(*key)?.inspect(|value| touch(value.value())).is_some());
        }
        Ok(found)
    }

    fn seek(&mut self, key: &[u8], rows: usize) -> Result<usize> {
        let range = self.rows()?.range::<&[u8]>((Bound::Included(key), Bound::Unbounded))?;
        Ok(count(range.take(rows))? as usize)
    }

    fn scan(&mut self, reverse: bool, rows: u64) -> Result<u64> {
        let rows = usize::try_from(rows)?;
        let range = self.rows()?.range::<&[u8]>(..)?;
        if reverse { count(range.rev().take(rows)) } else { count(range.take(rows)) }
    }
}

type Row = (AccessGuard<'static, &'static [u8]>, AccessGuard<'static, &'static [u8]>);

fn count(rows: impl Iterator<Item = std::result::Result<Row, redb::StorageError>>) -> Result<u64> {
    let mut found = 0;
    for row in rows {
        let (_, value) = row?;
        touch(value.value());
        found += 1;
    }
    Ok(found)
}
