//! Repair: a database from what is left of one.
//!
//! An opening refuses what is damaged (S27, S28); a repair goes on without it. It looks at everything first and decides
//! (`plan`), and only then writes; what is there is not changed before the last step:
//!
//! 1. take the lock; read manifests, log and tables;
//! 2. if nothing is wrong, end here: nothing is written;
//! 3. copy what is not intact to `lost` (`lost`);
//! 4. write new tables (`rebuild`): from the log if that is damaged; from the rest of damaged tables; and in keyspaces
//!    where the order of tables is not known, all of them as one run;
//! 5. write a manifest of all that, and have `CURRENT` name it: from here on the database is repaired;
//! 6. remove what was copied in step 3 from its own place.
//!
//! A crash before step 5 leaves everything as it was, and more: copies in `lost`, and tables and perhaps a manifest
//! that say nothing but what is true. A crash behind it leaves a database, and orphans for its next opening.
//!
//! **What tells what.** The manifest is believed as far as it can be read: if wholly, the repair knows everything, and
//! all that it has to do is to do without what is damaged. Where edits are lost, tables say themselves which keyspace
//! they are of, by which floor they were written, how much of the log they hold, and which tables they have replaced
//! (`origin`). What they cannot say is their order: of two that overlap the one with the higher number may be the older
//! one, and a lookup that ends at the first hit (T2) would answer wrongly. Therefore the merge in step 4, in which only
//! keys and timestamps count.

mod inventory;
mod look;
mod lost;
mod order;
mod plan;
mod rebuild;
mod report;

pub use report::{LostFile, LostTable, ManifestFound, RepairReport, RepairedKeyspace};

use std::cell::Cell;
use std::path::Path;

use super::Db;
use super::engine::{Engine, remove_quietly};
use super::open::{expectation, missing, take_lock};
use crate::format::FileNumber;
use crate::fs::{Purpose, StdFs};
use crate::log::{self, LogPosition, Proof};
use crate::manifest::{CURRENT, Change, Edit, Known, LogState, Manifest, ManifestState, PreparedState};
use crate::options::Options;
use crate::sync::Arc;
use crate::{Error, Result};
use inventory::{MOST_NUMBER, Place};
use look::Found;
use plan::Plan;
use rebuild::{Builder, LogTables};

impl Db {
    /// Makes a database that opens again of what is left of the one in `dir`, which must not be open.
    ///
    /// To be called when [`open`](Self::open) or [`verify`](Self::verify) gives [`Error::Corruption`], and there is no
    /// copy to go back to. Every table, and every commit in the log, that is intact is kept; of a damaged table, what
    /// can still be read of it is. Files that are not intact are moved into the directory `lost` inside `dir`, from
    /// which nothing is ever removed. The [report](RepairReport) says which, why, and what they held.
    ///
    /// ```
    /// # use strandline::{Db, Error};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let db = Db::open(dir)?;
    /// db.keyspace("accounts")?.put("alice", "100")?;
    /// db.close()?;
    ///
    /// std::fs::remove_file(dir.join("CURRENT"))?;
    /// assert!(matches!(Db::open(dir), Err(Error::Corruption { .. })));
    ///
    /// let report = Db::repair(dir)?;
    /// assert_eq!(report.keyspaces[0].name, "accounts");
    /// let accounts = Db::open(dir)?.keyspace("accounts")?;
    /// assert_eq!(accounts.get("alice")?.as_deref(), Some(&b"100"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What is promised
    ///
    /// - The database opens afterwards, and `verify` finds nothing. If nothing was wrong, nothing is written.
    /// - Every version that is kept has the value and the timestamp that it was committed with. A commit in the log is
    ///   kept whole or not at all.
    /// - No floor is lower than it was. Where the manifest is lost, those of `Latest` and `Window` keyspaces are where
    ///   their retention may have moved them by now, and the one of `Manual` keyspaces is what log and tables tell.
    /// - Whatever fails, at whatever moment, also by a power cut: the directory can be repaired as before.
    ///
    /// # What is not
    ///
    /// - What was lost is missing. Where deletions were lost, what they hid is seen again. A batch that went to several
    ///   keyspaces may be there in one and lost in another, and what is left is no longer a state that once was.
    /// - The timestamp of a lost commit may be given again.
    /// - Of prepared transactions as much is known as log and manifest still say. One that was decided may be in doubt again,
    ///   or, where a later commit shows that it was decided and nothing says how, unknown. Who coordinates them knows.
    /// - If the manifest is lost, or the part of it that said so: keyspaces that were dropped, and old versions that a
    ///   compaction had removed, may be back where a file that holds them was not deleted yet. Where two tables hold one
    ///   key at one timestamp (a late commit has replaced another) either may count. A keyspace that is in no table yet
    ///   gets the name `recovered-` and a number, and `Manual` retention.
    ///
    /// # What it costs
    ///
    /// It reads every table and the log once, and damaged files again to copy them. It writes what of the log is not in
    /// tables, if the log is damaged; if the manifest is, all of the log. Tables that no manifest names any more, and all
    /// of a keyspace whose order is lost with the manifest, are written anew: this needs as much free space as they take.
    /// What became needless goes with the next open.
    ///
    /// # Errors
    /// `Io` (`NotFound`) if there is nothing like a database; `Locked` while it is open, in any process; `Corruption` if
    /// nothing is left; `UnsupportedFormat` for a file of a newer version, which is no damage; `Io` for a file that
    /// cannot be read or written now, among them a full disk and one that cannot be written to. A file that the system
    /// cannot read can be taken away by hand: it counts as missing then.
    pub fn repair(dir: impl AsRef<Path>) -> Result<RepairReport> {
        Options::new().repair(dir)
    }
}

impl Options {
    /// Repairs the database in `dir`; see [`Db::repair`]. Of these options the file system counts, and those that say
    /// how large memtables become and how many files are open.
    ///
    /// # Errors
    /// As [`Db::repair`]; `ReadOnly` if [`read_only`](Self::read_only) is set.
    pub fn repair(self, dir: impl AsRef<Path>) -> Result<RepairReport> {
        self.validate()?;
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let fs = self.fs.clone().unwrap_or_else(|| Arc::new(StdFs));
        let place = Place::new(fs, dir.as_ref(), self);
        let inventory = place.inventory()?;
        if inventory.is_empty() {
            return Err(missing(&place.dir));
        }
        if !inventory.shows_a_database(&place)? {
            return Err(Error::corruption(&place.dir, 0, "nothing here can be read as a part of a database"));
        }
        let _lock = take_lock(&*place.fs, &place.dir)?;
        // Somebody may have been at work until now.
        let found = Found::look(&place, place.inventory()?)?;
        let plan = found.plan();
        let mut report = found.report(&plan);
        if found.is_healthy() {
            report.healthy = true;
            report.tell(&plan, found.state().unwrap_or(&ManifestState::default()), |_| false);
            return Ok(report);
        }
        if found.state().is_none() && plan.keyspaces.is_empty() {
            return Err(Error::corruption(&place.dir, 0, "no table, no commit and no manifest can be read any more"));
        }
        repair(&place, &found, &plan, report)
    }
}

fn repair(place: &Place, found: &Found, plan: &Plan, mut report: RepairReport) -> Result<RepairReport> {
    let broken = found.broken(plan);
    let mut moved = Vec::new();
    for file in &broken {
        moved.push(place.put_aside(&file.file)?);
    }
    let known = found.state().map_or(FileNumber(0), |state| state.file_number_bound);
    let marked = found.marks.standing.unwrap_or_default().file_number_bound;
    let leaves_some = |bound: &FileNumber| bound.0 <= MOST_NUMBER;
    let bounds = [known, marked].into_iter().filter(leaves_some);
    let next_file = Cell::new(bounds.fold(found.inventory.next_file, FileNumber::max).0);
    let mut builder = Builder::new(place, &next_file);
    let state = rebuild(place, found, plan, &mut builder)?;
    report.tables_written = builder.written();
    if !found.exact || found.salvaged.is_some() {
        let is_in_doubt = |known: &Known| matches!(known, Known::InDoubt(_));
        if state.prepared.transactions.values().any(is_in_doubt) {
            let sentence =
                "Whether what is prepared had been committed or aborted: who coordinates those transactions knows.";
            report.unknown.push(sentence.to_owned());
        }
    }
    report.tell(plan, &state, |number| builder.wrote(number));
    for (file, moved_to) in broken.iter().zip(moved) {
        let mut table = file.table.clone();
        if let Some(table) = &mut table {
            let kept = builder.rests.get(&table.number).or_else(|| plan.rests.get(&table.number));
            table.versions_kept = kept.copied().unwrap_or(0);
        }
        let (file, reason) = (file.file.clone(), file.reason.clone());
        report.lost.push(LostFile { file, moved_to: Some(moved_to), reason, table });
    }
    let prepared = Manifest::prepare(Arc::clone(&place.fs), &place.dir, FileNumber(next_file.get()), state);
    let prepared = prepared.and_then(Manifest::checked);
    if prepared.is_ok() || place.fs.sync_dir(Purpose::Repair, &place.dir).is_err() {
        // Where `CURRENT` is lost the next repair believes the newest manifest. It may be there again after a power cut,
        // unless that it was removed is durable; then what it names must be there too (L3).
        builder.keep();
    }
    prepared?.take_over()?;
    for file in broken.iter().filter(|file| file.file != CURRENT) {
        remove_quietly(&*place.fs, Purpose::Repair, &place.dir.join(&file.file));
    }
    Ok(report)
}

/// Writes the tables that have to be written, and says what the manifest is to say.
fn rebuild(place: &Place, found: &Found, plan: &Plan, builder: &mut Builder<'_>) -> Result<ManifestState> {
    let mut trees = Vec::new();
    for (id, keyspace) in &plan.keyspaces {
        trees.push((*id, builder.tables(*id, keyspace)?));
    }
    let known = found.state().cloned().unwrap_or_default();
    let mut log = known.log.clone();
    let mut prepared: Vec<_> =
        known.prepared.transactions.iter().map(|(id, known)| (id.clone(), Some(known.clone()))).collect();
    let mut prepared_until = known.prepared.log_position;
    if let Some(salvaged) = &found.salvaged {
        let mut tables = LogTables::new(builder, plan, &known.prepared, found.exact);
        let expected = expectation(&known);
        log::salvage(&*place.fs, &place.dir, &expected, found.exact, &mut |record| tables.apply(&record))?;
        tables.finish()?;
        for (id, tree) in &mut trees {
            tree.extend(tables.tables.remove(id).unwrap_or_default().into_iter().map(|table| (0, table)));
        }
        let ends = trees.iter().flat_map(|(_, tree)| tree).map(|(_, table)| table.log_end);
        log = log_from(salvaged.next_ordinal, ends.fold(salvaged.end.0, u64::max));
        prepared = tables.prepared.untold().map_or_else(Vec::new, |untold| untold.ids);
        prepared_until = log.start_position;
    }
    // The manifest itself takes a number too.
    let bound = Engine::number_bound_above(FileNumber(builder.next_number().saturating_add(1)));
    let mut changes = vec![
        Change::FileNumberBound { bound },
        Change::LastTimestamp { timestamp: plan.last_timestamp },
        Change::Closed { timestamp: plan.closed },
        Change::ManualFloor { floor: plan.manual_floor },
        Change::LogStart { ordinal: log.start_ordinal, position: log.start_position },
    ];
    changes.extend(log.cuts.iter().copied().map(Change::LogCut));
    changes.push(Change::LogProved(log.proved));
    for (id, tree) in trees {
        let Some(keyspace) = plan.keyspaces.get(&id) else { continue };
        let position = if found.salvaged.is_some() { log.start_position } else { keyspace.log_position.0 };
        changes.push(Change::CreateKeyspace {
            id,
            name: keyspace.name.clone(),
            options: Box::new(keyspace.options.clone()),
            created_at: keyspace.created_at,
        });
        changes.push(Change::KeyspaceFloor { id, floor: keyspace.floor });
        changes.push(Change::KeyspaceLog { id, position });
        changes.extend(tree.into_iter().map(|(level, table)| Change::AddTable { keyspace: id, level, table }));
    }
    changes.push(Change::NextKeyspace { id: plan.next_keyspace });
    changes.extend(PreparedState::default().changes_to(prepared, prepared_until));
    Ok(ManifestState::default().after(&Edit::from(changes))?)
}

/// A log that begins anew, behind all that there ever was: tables hold what could be kept.
fn log_from(ordinal: u64, position: u64) -> LogState {
    let proved = Proof { ordinal: ordinal.saturating_sub(1), position: LogPosition(position) };
    LogState { start_ordinal: ordinal, start_position: position, proved, cuts: Vec::new() }
}
