//! What a repair tells of what it has found and done.

use std::fmt;
use std::ops::Bound;

use crate::format::FileNumber;
use crate::table::{TableMeta, UpperBound};
use crate::{Slice, Timestamp};

/// What [`Db::repair`](crate::Db::repair) has found and done.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Nothing was wrong, and nothing was written.
    pub healthy: bool,
    /// How much the manifest still told.
    pub manifest: ManifestFound,
    /// The keyspaces that there are now, sorted by name.
    pub keyspaces: Vec<RepairedKeyspace>,
    /// Tables that are a part of the database now as they were before.
    pub tables_kept: u64,
    /// Tables that were written anew, from the log, from what can still be read of damaged ones, or to bring others
    /// into an order that was lost.
    pub tables_written: u64,
    /// Intact commits in the log. They are in the log still, or in tables now.
    pub log_records_kept: u64,
    /// The bytes of those.
    pub log_bytes_kept: u64,
    /// Bytes of the log that were proved to be durable once, and are gone or damaged.
    pub log_bytes_lost: u64,
    /// Every file that is damaged or missing, and what is known of what it held.
    pub lost: Vec<LostFile>,
    /// What could not be known, in sentences.
    pub unknown: Vec<String>,
}

/// How much a manifest told a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ManifestFound {
    /// Everything.
    #[default]
    Whole,
    /// Some of its edits are damaged or cut off.
    Damaged,
    /// Nothing.
    Lost,
}

/// A keyspace after a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedKeyspace {
    /// Its name.
    pub name: String,
    /// Its own name and options are lost, and these were invented. It is kept with
    /// [`Retention::Manual`](crate::Retention::Manual), so that nothing in it is dropped.
    pub invented: bool,
    /// How many tables it has.
    pub tables: u64,
    /// Its [floor](crate::Keyspace::retained_from). Where the manifest is whole, the one that it had.
    pub floor: Timestamp,
}

/// A file that is damaged or missing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LostFile {
    /// Its name.
    pub file: String,
    /// Its name in the directory `lost`; `None` if there is no such file.
    pub moved_to: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// Of a table: what it held, as far as that is known.
    pub table: Option<LostTable>,
}

/// What a lost table held.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LostTable {
    pub(super) number: FileNumber,
    /// The keyspace.
    pub keyspace: String,
    /// No key lies outside.
    pub keys: (Bound<Slice>, Bound<Slice>),
    /// No timestamp lies below the first or above the second.
    pub timestamps: (Timestamp, Timestamp),
    /// How many versions it held.
    pub versions: u64,
    /// How many of those could still be read, and are in a new table.
    pub versions_kept: u64,
}

impl LostTable {
    pub(super) fn new(number: FileNumber, keyspace: String, meta: &TableMeta) -> Self {
        let upper = match &meta.upper {
            UpperBound::Included(key) => Bound::Included(key.clone()),
            UpperBound::Excluded(key) => Bound::Excluded(key.clone()),
            UpperBound::Unbounded => Bound::Unbounded,
        };
        Self {
            number,
            keyspace,
            keys: (Bound::Included(meta.smallest.clone()), upper),
            timestamps: (meta.min_timestamp, meta.max_timestamp),
            versions: meta.versions,
            versions_kept: 0,
        }
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.healthy {
            return write!(
                f,
                "nothing is wrong: {} tables, {} commits in the log",
                self.tables_kept, self.log_records_kept
            );
        }
        let manifest = match self.manifest {
            ManifestFound::Whole => "whole",
            ManifestFound::Damaged => "damaged",
            ManifestFound::Lost => "lost",
        };
        writeln!(f, "manifest {manifest}; {} tables kept, {} written", self.tables_kept, self.tables_written)?;
        let (records, kept, lost) = (self.log_records_kept, self.log_bytes_kept, self.log_bytes_lost);
        writeln!(f, "log: {records} commits in {kept} bytes kept, {lost} bytes lost")?;
        for keyspace in &self.keyspaces {
            let invented = if keyspace.invented { " (name and options invented)" } else { "" };
            writeln!(
                f,
                "keyspace {:?}{invented}: {} tables, floor {}",
                keyspace.name, keyspace.tables, keyspace.floor
            )?;
        }
        for lost in &self.lost {
            let place = lost.moved_to.as_ref().map_or("missing".to_owned(), |name| format!("moved to lost/{name}"));
            writeln!(f, "{} ({place}): {}", lost.file, lost.reason)?;
            if let Some(table) = &lost.table {
                let (from, to) = table.timestamps;
                writeln!(
                    f,
                    "  it held {} versions of keyspace {:?} at timestamps {from} to {to}, of which {} are kept",
                    table.versions, table.keyspace, table.versions_kept
                )?;
            }
        }
        self.unknown.iter().try_for_each(|unknown| writeln!(f, "{unknown}"))
    }
}
