//! Running a collecting merge: from sources to new tables. Flushes and compactions differ in what they put in and in
//! where the tables go.

use std::path::Path;

use super::engine::{Engine, remove_quietly};
use super::origin::Origin;
use super::read::{self, Source};
use super::world::{KeyspaceVersion, Mem, TableTree};
use crate::compaction::{CompactionOptions, Pick, Splitter};
use crate::format::{FileKind, FileNumber};
use crate::fs::{Fs, Purpose};
use crate::log::LogPosition;
use crate::manifest::LEVELS;
use crate::merge::{CollectInput, CollectStats, Output, Outside, RetentionRules, SourceRanges, collect};
use crate::options::KeyspaceSettings;
use crate::sync::Arc;
use crate::table::{Table, TableOptions, TableStore, TableWriter, UpperBound};
use crate::version::{Fragment, Sequence, VersionRef};
use crate::{Result, Slice, Timestamp};

/// What a merge works on.
pub(crate) struct MergeInput {
    collect: CollectInput<Source>,
    floor: Timestamp,
    keyspace: crate::manifest::KeyspaceId,
    /// What the tables say of where they come from, beside their order.
    origin: Origin,
    /// What is merged was logged before this position.
    log_end: u64,
    outside: OutsideSources,
    options: TableOptions,
    /// Where outputs are cut: not at all by a flush.
    cuts: Option<(CompactionOptions, Vec<crate::compaction::Grandparent>)>,
}

/// What it made.
pub(crate) struct MergeOutcome {
    /// In key order; on disk and synced, named by nothing yet.
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) stats: CollectStats,
}

impl MergeOutcome {
    /// Nothing names the tables, nor ever will: they go.
    pub(crate) fn give_up(&self) {
        self.tables.iter().for_each(|table| table.mark_obsolete());
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.meta().bytes).sum()
    }
}

impl MergeInput {
    /// One memtable, as far as `visible`, to a table of level 0. All in it was logged before `log_end`.
    pub(crate) fn flush(
        keyspace: &KeyspaceVersion,
        mem: &Arc<Mem>,
        visible: Sequence,
        floor: Timestamp,
        log_end: LogPosition,
    ) -> Self {
        let others = keyspace.memtables().filter(|other| !Arc::ptr_eq(other, mem)).cloned().collect();
        Self {
            collect: CollectInput {
                sources: vec![read::memtable(mem, visible)],
                ranges: vec![vec![Arc::new(mem.entries.range_tombstones(visible))]],
                lower: Slice::empty(),
                upper: None,
            },
            floor,
            keyspace: keyspace.core.id,
            origin: origin(keyspace, floor, Vec::new()),
            log_end: log_end.0,
            outside: OutsideSources { mems: others, tree: Arc::clone(&keyspace.tree), newer_levels: 0 },
            options: table_options(&keyspace.core.options, 0),
            cuts: None,
        }
    }

    /// All memtables, as far as `visible`, to one table of level 0, by the floor that stands.
    pub(crate) fn flush_all(keyspace: &KeyspaceVersion, visible: Sequence, log_end: LogPosition) -> Self {
        let mems: Vec<_> = keyspace.filled_memtables().collect();
        Self {
            collect: CollectInput {
                sources: mems.iter().map(|mem| read::memtable(mem, visible)).collect(),
                ranges: mems.iter().map(|mem| vec![Arc::new(mem.entries.range_tombstones(visible))]).collect(),
                lower: Slice::empty(),
                upper: None,
            },
            floor: keyspace.core.floor(),
            keyspace: keyspace.core.id,
            origin: origin(keyspace, keyspace.core.floor(), Vec::new()),
            log_end: log_end.0,
            outside: OutsideSources { mems: Vec::new(), tree: Arc::clone(&keyspace.tree), newer_levels: 0 },
            options: table_options(&keyspace.core.options, 0),
            cuts: None,
        }
    }

    /// The tables of a compaction.
    pub(crate) fn compaction(keyspace: &KeyspaceVersion, pick: &Pick, floor: Timestamp) -> Result<Self> {
        let mut sources = Vec::new();
        let mut ranges: Vec<SourceRanges> = Vec::new();
        let mut removed = Vec::new();
        let mut log_end = 0;
        for (level, numbers) in &pick.inputs {
            let chosen: Vec<_> = keyspace
                .tree
                .level(*level)
                .iter()
                .filter(|table| numbers.contains(&table.meta().number))
                .cloned()
                .collect();
            removed.extend(numbers.iter().map(|number| (*level, *number)));
            log_end = chosen.iter().map(|table| table.meta().log_end).fold(log_end, u64::max);
            let runs = if *level == 0 { chosen.into_iter().map(|table| vec![table]).collect() } else { vec![chosen] };
            for run in runs {
                ranges.push(range_tombstones(&run)?);
                sources.push(read::run_for_merge(run));
            }
        }
        Ok(Self {
            collect: CollectInput { sources, ranges, lower: Slice::empty(), upper: None },
            floor,
            keyspace: keyspace.core.id,
            origin: origin(keyspace, floor, pick.files().collect()),
            log_end,
            outside: OutsideSources {
                mems: keyspace.memtables().cloned().collect(),
                tree: Arc::new(keyspace.tree.apply(&[], &removed)?),
                // What is left of level 0 and overlaps is newer: a pick takes all that is older.
                newer_levels: pick.first_level().max(1),
            },
            options: table_options(&keyspace.core.options, pick.output_level),
            cuts: Some((compaction_options(keyspace), pick.grandparents.clone())),
        })
    }
}

fn origin(keyspace: &KeyspaceVersion, floor: Timestamp, inputs: Vec<FileNumber>) -> Origin {
    let core = &keyspace.core;
    Origin::of_merge(core.id, (&core.name, &core.options), floor, inputs)
}

/// How the tables of a level are written.
pub(crate) fn table_options(options: &KeyspaceSettings, level: usize) -> TableOptions {
    TableOptions {
        block_bytes: options.block_bytes,
        compression: options.compression_at(level),
        filter_bits_per_key: options.filter_bits_per_key,
    }
}

pub(crate) fn compaction_options(keyspace: &KeyspaceVersion) -> CompactionOptions {
    CompactionOptions::new(keyspace.core.options.target_file_bytes, keyspace.core.options.level_base_bytes)
}

/// The range tombstones of the tables of one level.
pub(crate) fn range_tombstones(run: &[Arc<Table>]) -> Result<SourceRanges> {
    let with = run.iter().filter(|table| table.meta().range_tombstones > 0);
    with.map(|table| Ok(Arc::clone(table.reader()?.range_tombstones()))).collect()
}

/// Every source of the keyspace that is not merged, as it was after the floor was raised. What lies at or below the
/// floor only moves from one of these to another afterwards, and nothing is added to it (R1, R3).
struct OutsideSources {
    /// All newer than what is merged.
    mems: Vec<Arc<Mem>>,
    tree: Arc<TableTree>,
    /// So many levels are newer than what is merged, the others older.
    newer_levels: usize,
}

impl OutsideSources {
    /// Newer memtables that can hold something at or below a timestamp of what is merged: only with late commits, for
    /// whatever came later on time has a higher timestamp (T2).
    fn late_mems(&self, at_or_below: Timestamp) -> impl Iterator<Item = &Arc<Mem>> {
        self.mems.iter().filter(move |mem| mem.entries.late() && mem.entries.min_timestamp() <= at_or_below)
    }

    /// The same for a table.
    fn can_hold(&self, level: usize, table: &Table, at_or_below: Timestamp) -> bool {
        let meta = table.meta();
        meta.min_timestamp <= at_or_below && (meta.late || level >= self.newer_levels)
    }
}

impl Outside for OutsideSources {
    fn may_hold(&self, key: &[u8], at_or_below: Timestamp) -> Result<bool> {
        let in_level0 = |table: &Arc<Table>| self.can_hold(0, table, at_or_below) && table.meta().contains(key);
        let in_level = |level: usize| {
            self.tree.level_for_key(level, key).is_some_and(|table| self.can_hold(level, table, at_or_below))
        };
        Ok(self.late_mems(at_or_below).any(|mem| mem.entries.may_hold(key, at_or_below))
            || self.tree.level(0).iter().any(in_level0)
            || (1..LEVELS).any(in_level))
    }

    fn spans(&self, start: &[u8], end: Option<&[u8]>, at_or_below: Timestamp) -> Result<Vec<(Slice, Option<Slice>)>> {
        let bound = end.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut spans: Vec<(Slice, Option<Slice>)> = Vec::new();
        if self.late_mems(at_or_below).any(|mem| mem.entries.any_key_in(start, end)) {
            spans.push((Slice::copy_of(start), end.map(Slice::copy_of)));
        }
        for level in 0..LEVELS {
            for table in self.tree.tables_overlapping(level, start, bound) {
                if self.can_hold(level, table, at_or_below) {
                    let meta = table.meta();
                    let upper = exclusive(&meta.upper);
                    let ends = [upper.as_deref(), end].into_iter().flatten().min().map(Slice::copy_of);
                    spans.push((Slice::copy_of(start.max(&meta.smallest)), ends));
                }
            }
        }
        Ok(joined(spans))
    }
}

/// The least key that the bound does not admit.
fn exclusive(upper: &UpperBound) -> Option<Slice> {
    match upper {
        UpperBound::Included(key) => {
            let mut after = key.to_vec();
            after.push(0);
            Some(after.into())
        }
        UpperBound::Excluded(key) => Some(key.clone()),
        UpperBound::Unbounded => None,
    }
}

/// In order, and disjoint.
fn joined(mut spans: Vec<(Slice, Option<Slice>)>) -> Vec<(Slice, Option<Slice>)> {
    spans.sort_unstable();
    let mut joined: Vec<(Slice, Option<Slice>)> = Vec::new();
    for (start, end) in spans {
        match joined.last_mut() {
            Some((_, None)) => break,
            Some((_, Some(last))) if start <= *last => {
                let longer = end.as_ref().is_none_or(|end| *end > *last);
                if let Some(open) = joined.last_mut().filter(|_| longer) {
                    open.1 = end;
                }
            }
            _ => joined.push((start, end)),
        }
    }
    joined
}

impl Engine {
    /// Runs a merge. `still_needed` is asked every now and then; its error ends the merge, and what was written by then
    /// is removed.
    pub(crate) fn run_merge(
        &self,
        input: MergeInput,
        purpose: Purpose,
        still_needed: &dyn Fn(u64) -> Result<()>,
    ) -> Result<MergeOutcome> {
        // After the floor was raised: a snapshot that is not in the list sees the floor (R1).
        let snapshots = self.snapshots.lock().timestamps_in(input.keyspace);
        let rules = RetentionRules { floor: input.floor, snapshots };
        let to = Destination {
            fs: &self.fs,
            dir: &self.dir,
            store: &self.store,
            purpose,
            options: input.options,
            new_number: &|| self.allocate_file(),
        };
        let splitter = input.cuts.as_ref().map(|(options, grandparents)| Splitter::new(options, grandparents));
        let mut sink = Sink::new(to, input.origin, input.log_end, splitter);
        let mut seen = 0;
        let mut progress = |stats: &CollectStats| {
            let written = stats.bytes_out - seen;
            seen = stats.bytes_out;
            still_needed(written)
        };
        let merged = collect(input.collect, &rules, &input.outside, &mut sink, &mut progress);
        sink.finish(merged)
    }
}

/// Where the tables of a merge go, and how they are written.
pub(crate) struct Destination<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) dir: &'a Path,
    pub(crate) store: &'a Arc<TableStore>,
    pub(crate) purpose: Purpose,
    pub(crate) options: TableOptions,
    pub(crate) new_number: &'a dyn Fn() -> Result<FileNumber>,
}

/// Writes what the merge gives to one table after the other.
pub(crate) struct Sink<'a> {
    to: Destination<'a>,
    origin: Origin,
    log_end: u64,
    splitter: Option<Splitter<'a>>,
    writer: Option<TableWriter>,
    /// The file that was begun last.
    last: Option<FileNumber>,
    tables: Vec<Arc<Table>>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(to: Destination<'a>, origin: Origin, log_end: u64, splitter: Option<Splitter<'a>>) -> Self {
        Self { to, origin, log_end, splitter, writer: None, last: None, tables: Vec::new() }
    }

    fn writer(&mut self) -> Result<&mut TableWriter> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            none => {
                let number = (self.to.new_number)()?;
                self.last = Some(number);
                self.origin.job.get_or_insert(number);
                let Destination { fs, dir, purpose, options, .. } = self.to;
                Ok(none.insert(TableWriter::create(fs, purpose, dir, number, options)?))
            }
        }
    }

    fn end_file(&mut self, last: bool) -> Result<()> {
        if let Some(mut writer) = self.writer.take() {
            self.origin.last = last;
            writer.set_origin(self.log_end, self.origin.encode());
            self.origin.part += 1;
            let meta = writer.finish()?;
            self.tables.push(Table::new(self.to.store, Arc::new(meta)));
        }
        Ok(())
    }

    /// Ends the last file, if the merge came to its end.
    pub(crate) fn finish(mut self, merged: Result<CollectStats>) -> Result<MergeOutcome> {
        let merged = merged.and_then(|stats| self.end_file(true).map(|()| stats));
        let stats = merged.inspect_err(|_| self.give_up())?;
        Ok(MergeOutcome { tables: self.tables, stats })
    }

    /// Nothing names what was written, so it goes.
    fn give_up(&mut self) {
        self.writer = None;
        self.tables.iter().for_each(|table| table.mark_obsolete());
        let finished = |number: FileNumber| self.tables.iter().any(|table| table.meta().number == number);
        if let Some(number) = self.last.filter(|number| !finished(*number)) {
            remove_quietly(&**self.to.fs, self.to.purpose, &FileKind::Table.path(self.to.dir, number));
        }
    }
}

impl Output for Sink<'_> {
    fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        self.writer()?.begin_key(key)
    }

    fn version(&mut self, version: VersionRef<'_>) -> Result<()> {
        self.writer()?.version(version)
    }

    fn end_key(&mut self) -> Result<()> {
        self.writer()?.end_key()
    }

    fn range_tombstones(&mut self, fragment: &Fragment) -> Result<()> {
        self.writer()?.range_tombstones(fragment)
    }

    fn should_cut(&mut self, next_key: &[u8]) -> bool {
        let written = self.writer.as_ref().map_or(0, TableWriter::estimated_bytes);
        self.splitter.as_mut().is_some_and(|splitter| splitter.should_cut(written, next_key))
    }

    fn cut(&mut self) -> Result<()> {
        self.end_file(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_joined_where_they_touch() {
        let span = |start: &str, end: Option<&str>| {
            (Slice::copy_of(start.as_bytes()), end.map(|end| Slice::copy_of(end.as_bytes())))
        };
        let spans = vec![span("k", Some("m")), span("a", Some("c")), span("b", Some("d")), span("d", Some("e"))];
        assert_eq!(joined(spans), [span("a", Some("e")), span("k", Some("m"))]);
        assert_eq!(joined(vec![span("b", None), span("a", Some("c")), span("x", Some("y"))]), [span("a", None)]);
    }
}
