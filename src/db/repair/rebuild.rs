//! Writing the tables that a repair has to write: from the log, from what is left of damaged ones, and where the order
//! of tables is lost, all of them as one run, in which no order counts but that of keys and timestamps.
//!
//! Nothing is dropped on the way: a repair is no compaction.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::inventory::Place;
use super::order::runs;
use super::plan::{Member, Plan, PlannedKeyspace, PlannedTables, log_end};
use crate::compaction::{CompactionOptions, Splitter};
use crate::db::commit::insert;
use crate::db::engine::remove_quietly;
use crate::db::merge_job::{Destination, MergeOutcome, Sink, range_tombstones, table_options};
use crate::db::origin::Origin;
use crate::db::prepared::PreparedTable;
use crate::db::read::{Source, run_for_merge};
use crate::db::record::Logged;
use crate::format::{FileKind, FileNumber};
use crate::fs::Purpose;
use crate::log::{RecordRef, Usable};
use crate::manifest::{KeyspaceId, LEVELS, PreparedState};
use crate::memtable::Memtable;
use crate::merge::{CollectInput, Outside, RetentionRules, collect};
use crate::sync::Arc;
use crate::table::{Table, TableMeta, TableWriter};
use crate::version::{Sequence, Stamp};
use crate::{Result, Slice, Timestamp};

/// The deepest level: what is put there lies below all that comes later.
const LAST_LEVEL: usize = LEVELS - 1;

/// Writes tables, and keeps those that it has written until they are named.
pub(super) struct Builder<'a> {
    place: &'a Place,
    next_file: &'a Cell<u64>,
    /// Everything written. Removed again unless [`keep`](Self::keep) is called.
    written: Vec<Arc<Table>>,
    /// Of what damaged tables held, how many versions are in new ones.
    pub(super) rests: BTreeMap<FileNumber, u64>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(place: &'a Place, next_file: &'a Cell<u64>) -> Self {
        Self { place, next_file, written: Vec::new(), rests: BTreeMap::new() }
    }

    pub(super) fn written(&self) -> u64 {
        self.written.len() as u64
    }

    /// Whether a table of this number was written here.
    pub(super) fn wrote(&self, number: FileNumber) -> bool {
        self.written.iter().any(|table| table.meta().number == number)
    }

    /// The tables are named now, or may be.
    pub(super) fn keep(&mut self) {
        self.written.clear();
    }

    /// The number that the next file gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next_file.get()
    }

    fn new_number(&self) -> FileNumber {
        FileNumber(self.next_file.replace(self.next_file.get() + 1))
    }

    /// The tables of a keyspace with their levels, those of level 0 oldest first.
    pub(super) fn tables(
        &mut self,
        id: KeyspaceId,
        keyspace: &PlannedKeyspace,
    ) -> Result<Vec<(usize, Arc<TableMeta>)>> {
        let mut tables = Vec::new();
        match &keyspace.tables {
            PlannedTables::Ordered(members) => {
                for (level, member) in members {
                    let table = self.member(id, keyspace, *level, member)?;
                    tables.extend(table.map(|table| (*level, table)));
                }
            }
            PlannedTables::Unordered(members) => {
                let tables_of_all = self.unordered(id, keyspace, members)?;
                tables.extend(tables_of_all.into_iter().map(|table| (LAST_LEVEL, table)));
            }
        }
        Ok(tables)
    }

    /// One run of what these tables hold, newest first. Nothing is named that was not synced here or named before (L3).
    fn unordered(
        &mut self,
        id: KeyspaceId,
        keyspace: &PlannedKeyspace,
        members: &[Member],
    ) -> Result<Vec<Arc<TableMeta>>> {
        let mut metas = Vec::new();
        for member in members {
            metas.extend(match member {
                Member::Unnamed(meta) => Some(Arc::clone(meta)),
                member => self.member(id, keyspace, LAST_LEVEL, member)?,
            });
        }
        let runs = runs(&metas);
        if runs.len() > 1 {
            return self.merge(id, keyspace, &runs);
        }
        let unnamed = |meta: &TableMeta| {
            members.iter().any(|member| matches!(member, Member::Unnamed(unnamed) if unnamed.number == meta.number))
        };
        let mut run = Vec::new();
        for meta in runs.into_iter().flatten() {
            run.extend(if unnamed(&meta) { self.copy(id, keyspace, LAST_LEVEL, &meta)? } else { Some(meta) });
        }
        Ok(run)
    }

    fn member(
        &mut self,
        id: KeyspaceId,
        keyspace: &PlannedKeyspace,
        level: usize,
        member: &Member,
    ) -> Result<Option<Arc<TableMeta>>> {
        match member {
            Member::Intact(meta) => Ok(Some(Arc::clone(meta))),
            Member::Unnamed(meta) => self.copy(id, keyspace, level, meta),
            Member::Rest(meta) => {
                let rest = self.copy(id, keyspace, level, meta)?;
                self.rests.extend(rest.iter().map(|rest| (meta.number, rest.versions)));
                Ok(rest)
            }
        }
    }

    /// What can be read of a table, as a new one. Of the log it covers no more than will not be applied: if this repair
    /// comes to nothing, the next one must not take it for what the log was to add.
    fn copy(
        &mut self,
        id: KeyspaceId,
        keyspace: &PlannedKeyspace,
        level: usize,
        old: &TableMeta,
    ) -> Result<Option<Arc<TableMeta>>> {
        let (place, number) = (self.place, self.new_number());
        let reader = place.open_damaged(old.number, Some(old))?;
        let path = FileKind::Table.path(&place.dir, number);
        let write = || {
            let options = table_options(&keyspace.options, level);
            let mut writer = TableWriter::create(&place.fs, Purpose::Repair, &place.dir, number, options)?;
            reader.salvage(&mut writer)?;
            if writer.is_empty() {
                return Ok(None);
            }
            let origin = Origin { job: Some(number), last: true, ..self.origin(id, keyspace, vec![old.number]) };
            writer.set_origin(log_end(old).min(keyspace.log_position.0), origin.encode());
            writer.finish().map(Some)
        };
        let written = write().inspect_err(|_| remove_quietly(&*place.fs, Purpose::Repair, &path))?;
        let Some(meta) = written else {
            remove_quietly(&*place.fs, Purpose::Repair, &path);
            return Ok(None);
        };
        let meta = Arc::new(meta);
        self.written.push(Table::new(&place.store, Arc::clone(&meta)));
        Ok(Some(meta))
    }

    /// All of these runs, newest first, as one.
    fn merge(
        &mut self,
        id: KeyspaceId,
        keyspace: &PlannedKeyspace,
        runs: &[Vec<Arc<TableMeta>>],
    ) -> Result<Vec<Arc<TableMeta>>> {
        let (mut sources, mut ranges, mut inputs, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for run in runs {
            let tables: Vec<_> = run.iter().map(|meta| Table::new(&self.place.store, Arc::clone(meta))).collect();
            inputs.extend(run.iter().map(|meta| meta.number));
            end = run.iter().map(|meta| log_end(meta)).fold(end, u64::max);
            ranges.push(range_tombstones(&tables)?);
            sources.push(run_for_merge(tables));
        }
        let options = &keyspace.options;
        let options = CompactionOptions::new(options.target_file_bytes, options.level_base_bytes);
        let origin = self.origin(id, keyspace, inputs);
        let splitter = Splitter::new(&options, &[]);
        let input = CollectInput { sources, ranges, lower: Slice::empty(), upper: None };
        let log_end = end.min(keyspace.log_position.0);
        self.collect(input, (keyspace, LAST_LEVEL), origin, log_end, Some(splitter))
    }

    fn collect(
        &mut self,
        input: CollectInput<Source>,
        (keyspace, level): (&PlannedKeyspace, usize),
        origin: Origin,
        log_end: u64,
        splitter: Option<Splitter<'_>>,
    ) -> Result<Vec<Arc<TableMeta>>> {
        let new_number = || Ok(self.new_number());
        let to = Destination {
            fs: &self.place.fs,
            dir: &self.place.dir,
            store: &self.place.store,
            purpose: Purpose::Repair,
            options: table_options(&keyspace.options, level),
            new_number: &new_number,
        };
        let mut sink = Sink::new(to, origin, log_end, splitter);
        let rules = RetentionRules { floor: 0, snapshots: Vec::new() };
        let merged = collect(input, &rules, &MayHoldAll, &mut sink, &mut |_| Ok(()));
        let MergeOutcome { tables, .. } = sink.finish(merged)?;
        let metas = tables.iter().map(|table| table.shared_meta()).collect();
        self.written.extend(tables);
        Ok(metas)
    }

    fn origin(&self, id: KeyspaceId, keyspace: &PlannedKeyspace, inputs: Vec<FileNumber>) -> Origin {
        Origin::of_merge(id, (&keyspace.name, &keyspace.options), keyspace.floor, inputs)
    }
}

impl Drop for Builder<'_> {
    fn drop(&mut self) {
        self.written.iter().for_each(|table| table.mark_obsolete());
    }
}

/// What lies outside a merge of a repair is not asked: it drops nothing.
struct MayHoldAll;

impl Outside for MayHoldAll {
    fn may_hold(&self, _key: &[u8], _at_or_below: Timestamp) -> Result<bool> {
        Ok(true)
    }

    fn spans(&self, start: &[u8], end: Option<&[u8]>, _at_or_below: Timestamp) -> Result<Vec<(Slice, Option<Slice>)>> {
        Ok(vec![(Slice::copy_of(start), end.map(Slice::copy_of))])
    }
}

/// The commits of a log on their way into tables of level 0.
pub(super) struct LogTables<'a, 'b> {
    builder: &'b mut Builder<'a>,
    plan: &'b Plan,
    memtables: BTreeMap<KeyspaceId, Arc<Memtable>>,
    sequence: Sequence,
    /// Oldest first.
    pub(super) tables: BTreeMap<KeyspaceId, Vec<Arc<TableMeta>>>,
    /// What is known of prepared transactions, and up to which position of the log.
    pub(super) prepared: PreparedTable,
    prepared_until: u64,
}

impl<'a, 'b> LogTables<'a, 'b> {
    /// `exact`: nothing that the manifest ever said of prepared transactions is missing in `known`.
    pub(super) fn new(builder: &'b mut Builder<'a>, plan: &'b Plan, known: &PreparedState, exact: bool) -> Self {
        let (memtables, tables) = (BTreeMap::new(), BTreeMap::new());
        let prepared = PreparedTable::salvage_known(known);
        let prepared_until = if exact { known.log_position } else { 0 };
        Self { builder, plan, memtables, sequence: 0, tables, prepared, prepared_until }
    }

    /// Applies a commit, whole or not at all, as far as tables do not cover it.
    pub(super) fn apply(&mut self, record: &RecordRef<'_>) -> Result<Usable> {
        let logged = match Logged::read(record) {
            Ok(logged) => logged,
            Err(reason) => return Ok(Err(reason)),
        };
        let operations = match &logged {
            Logged::Commit(commit) => commit.operations().map(|operations| Some((*commit, operations))),
            _ => Ok(None),
        };
        let is_new = record.position.0 >= self.prepared_until;
        let usable = operations.and_then(|commit| {
            let noted = if is_new { self.prepared.salvage(&logged) } else { Ok(()) };
            noted.map(|()| commit)
        });
        let (commit, operations) = match usable {
            Ok(Some(commit)) => commit,
            Ok(None) => return Ok(Ok(())),
            Err(reason) => return Ok(Err(reason)),
        };
        for op in operations {
            let id = KeyspaceId(op.keyspace);
            let covered = self.plan.keyspaces.get(&id).map(|keyspace| keyspace.log_position);
            if covered.is_none_or(|covered| record.position < covered) {
                continue; // dropped, or in tables
            }
            self.sequence += 1;
            let stamp = Stamp { timestamp: commit.timestamp, sequence: self.sequence, late: commit.late };
            let memtable = self.memtables.entry(id).or_insert_with(|| Arc::new(Memtable::new()));
            insert(memtable, op.kind, stamp, Bytes::copy_from_slice);
        }
        self.make_room()?;
        Ok(Ok(()))
    }

    /// Writes what is full.
    fn make_room(&mut self) -> Result<()> {
        let options = &self.builder.place.options;
        let (most, together) = (options.memtable_bytes, options.write_buffer_bytes);
        let full = |memtable: &Arc<Memtable>| memtable.bytes() >= most;
        let mut ids: Vec<_> = self.memtables.iter().filter(|(_, one)| full(one)).map(|(id, _)| *id).collect();
        if self.memtables.values().map(|memtable| memtable.bytes()).sum::<usize>() >= together {
            ids.extend(self.memtables.iter().max_by_key(|(_, one)| one.bytes()).map(|(id, _)| *id));
        }
        ids.into_iter().try_for_each(|id| self.write(id))
    }

    /// Writes everything that is left.
    pub(super) fn finish(&mut self) -> Result<()> {
        let ids: Vec<_> = self.memtables.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.write(id))
    }

    fn write(&mut self, id: KeyspaceId) -> Result<()> {
        let (Some(memtable), Some(keyspace)) = (self.memtables.remove(&id), self.plan.keyspaces.get(&id)) else {
            return Ok(());
        };
        let input = CollectInput {
            sources: vec![Source::Memtable(memtable.cursor(self.sequence))],
            ranges: vec![vec![Arc::new(memtable.range_tombstones(self.sequence))]],
            lower: Slice::empty(),
            upper: None,
        };
        let origin = self.builder.origin(id, keyspace, Vec::new());
        // It does not say how much of the log it holds: of the tables that a repair leaves which comes to nothing a later
        // one may stay, and an earlier one be gone.
        let written = self.builder.collect(input, (keyspace, 0), origin, keyspace.log_position.0, None)?;
        self.tables.entry(id).or_default().extend(written);
        Ok(())
    }
}
