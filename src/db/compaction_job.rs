//! Compactions: asking the picker, running what it picks, and naming the result.

use std::ops::Bound;
use std::time::Duration;

use super::background::Jobs;
use super::engine::Engine;
use super::merge_job::{MergeInput, compaction_options};
use super::range::KeyBounds;
use super::world::KeyspaceVersion;
use crate::compaction::{FileView, KeyRange, ManualProgress, ManualStep, Pick, Running, Shape, pick};
use crate::format::FileNumber;
use crate::fs::Purpose;
use crate::manifest::{Change, Edit, KeyspaceId};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::table::UpperBound;
use crate::{Error, Result, Slice};

/// For so long at most a compaction sleeps without looking up.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A compaction that was picked, and holds its inputs until it is finished.
#[derive(Debug)]
pub(crate) struct CompactionJob {
    pub(crate) keyspace: KeyspaceId,
    pick: Pick,
}

/// A compaction that runs.
#[derive(Debug)]
pub(crate) struct RunningCompaction {
    keyspace: KeyspaceId,
    running: Running,
    files: Vec<FileNumber>,
}

impl CompactionJob {
    pub(crate) fn begin(&self) -> RunningCompaction {
        RunningCompaction { keyspace: self.keyspace, running: self.pick.running(), files: self.pick.files().collect() }
    }

    /// Whether `other` is this one, running.
    pub(crate) fn is(&self, other: &RunningCompaction) -> bool {
        other.keyspace == self.keyspace && self.pick.files().eq(other.files.iter().copied())
    }
}

impl Engine {
    /// Runs `look` on the state of a keyspace as a picker sees it.
    pub(crate) fn with_shape<T>(
        &self,
        keyspace: &KeyspaceVersion,
        jobs: &Jobs,
        look: impl FnOnce(&Shape<'_>) -> T,
    ) -> T {
        let mine = || jobs.compactions.iter().filter(|one| one.keyspace == keyspace.core.id);
        let running: Vec<Running> = mine().map(|one| one.running.clone()).collect();
        let attempts = &keyspace.core.attempts;
        let view = |table: &Arc<crate::table::Table>| {
            let number = table.meta().number;
            (number, mine().any(|one| one.files.contains(&number)), attempts.last_tried(number))
        };
        let marks: Vec<Vec<_>> = keyspace.tree.levels().map(|level| level.iter().map(view).collect()).collect();
        let levels = keyspace.tree.levels().zip(&marks).map(|(level, marks)| {
            let files = level.iter().zip(marks);
            files
                .map(|(table, (_, busy, last_tried_floor))| FileView {
                    meta: table.meta(),
                    busy: *busy,
                    last_tried_floor: *last_tried_floor,
                })
                .collect()
        });
        look(&Shape {
            options: compaction_options(keyspace),
            levels: levels.collect(),
            running: &running,
            floor: self.reachable_floor(&keyspace.core, keyspace.memtables(), self.last_that_counts()),
            next_file: self.next_file_number(),
            quiet: jobs.quiet,
            detour_bytes: keyspace.core.detours.bytes(),
        })
    }

    /// The most urgent compaction of the keyspace whose turn it is.
    pub(crate) fn pick_compaction(&self, jobs: &Jobs) -> Option<CompactionJob> {
        let world = self.world();
        let after = |one: &&Arc<KeyspaceVersion>| jobs.last_served.is_none_or(|last| one.core.id > last);
        let (later, earlier): (Vec<_>, Vec<_>) = world.keyspaces().iter().partition(after);
        let free = |keyspace: &&Arc<KeyspaceVersion>| !jobs.awaited.contains(&keyspace.core.id);
        later.into_iter().chain(earlier).filter(free).find_map(|keyspace| {
            let pick = self.with_shape(keyspace, jobs, pick)?;
            Some(CompactionJob { keyspace: keyspace.core.id, pick })
        })
    }

    /// Runs a compaction: the job of a background thread.
    pub(crate) fn run_compaction(&self, job: &CompactionJob) -> Result<()> {
        let Some(core) = self.keyspace_core(job.keyspace) else { return Ok(()) };
        if job.pick.trivial_move {
            return self.move_table(job);
        }
        let began = core.attempts.now();
        let floor = self.raise_merge_floor(&core, None)?;
        // Looked at after the floor was raised (R1).
        let world = self.world();
        let Some(keyspace) = world.get(job.keyspace) else { return Ok(()) };
        let input = MergeInput::compaction(keyspace, &job.pick, floor.floor)?;
        let outcome =
            self.run_merge(input, Purpose::Compaction, &|written| self.pace_compaction(written, job.keyspace))?;
        let proof = self.sync_log(floor.log_end).inspect_err(|_| outcome.give_up())?;

        let level = job.pick.output_level;
        let mut changes =
            vec![Change::KeyspaceFloor { id: job.keyspace, floor: floor.floor }, Change::LogProved(proof)];
        let removed: Vec<(usize, FileNumber)> =
            job.pick.inputs.iter().flat_map(|(level, files)| files.iter().map(|number| (*level, *number))).collect();
        changes.extend(removed.iter().map(|(level, number)| Change::RemoveTable {
            keyspace: job.keyspace,
            level: *level,
            number: *number,
        }));
        changes.extend(outcome.tables.iter().map(|table| Change::AddTable {
            keyspace: job.keyspace,
            level,
            table: table.shared_meta(),
        }));
        let added: Vec<_> = outcome.tables.iter().map(|table| (level, Arc::clone(table))).collect();
        core.attempts.record(began, &outcome.tables, floor.floor);
        core.attempts.drop_tables(removed.iter().map(|(_, number)| *number));
        let took_late = removed.iter().any(|(level, number)| {
            keyspace.tree.level(*level).iter().any(|table| table.meta().number == *number && table.meta().late)
        });
        self.replace_tables(job.keyspace, changes, &added, &removed)?;
        if took_late && outcome.stats.has_dropped() {
            core.attempts.late_versions_dropped(&outcome.tables);
        }
        let count = |counter: &AtomicU64, by: u64| _ = counter.fetch_add(by, Ordering::Relaxed);
        count(&self.counters.compactions, 1);
        count(&self.counters.compacted_bytes_read, job.pick.bytes);
        count(&self.counters.compacted_bytes_written, outcome.bytes());
        Ok(())
    }

    /// Names a table in another level as it is.
    fn move_table(&self, job: &CompactionJob) -> Result<()> {
        let world = self.world();
        let Some(keyspace) = world.get(job.keyspace) else { return Ok(()) };
        let output = job.pick.output_level;
        let mut changes = Vec::new();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (level, numbers) in &job.pick.inputs {
            for table in keyspace.tree.level(*level).iter().filter(|table| numbers.contains(&table.meta().number)) {
                let number = table.meta().number;
                changes.push(Change::RemoveTable { keyspace: job.keyspace, level: *level, number });
                let meta = table.shared_meta();
                changes.push(Change::AddTable { keyspace: job.keyspace, level: output, table: meta });
                added.push((output, Arc::clone(table)));
                removed.push((*level, number));
            }
        }
        keyspace.core.attempts.drop_tables(removed.iter().map(|(_, number)| *number));
        self.replace_tables(job.keyspace, changes, &added, &removed)?;
        self.counters.trivial_moves.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Names an edit of tables and puts it in place; tables that are no longer named go when the last reader lets go of
    /// them.
    fn replace_tables(
        &self,
        id: KeyspaceId,
        changes: Vec<Change>,
        added: &[(usize, Arc<crate::table::Table>)],
        removed: &[(usize, FileNumber)],
    ) -> Result<()> {
        self.edit_in_living(changes, |world| {
            let Some(keyspace) = world.get(id) else {
                // Dropped meanwhile: nothing names the new tables.
                added.iter().for_each(|(_, table)| table.mark_obsolete());
                return Ok((world.clone(), ()));
            };
            let next = keyspace.with_tree(added, removed)?;
            if removed.iter().any(|(level, _)| *level == 0) {
                keyspace.core.detours.forget();
            }
            for (level, number) in removed {
                let stays = added.iter().any(|(_, table)| table.meta().number == *number);
                let gone = keyspace.tree.level(*level).iter().find(|table| table.meta().number == *number);
                gone.filter(|_| !stays).iter().for_each(|table| table.mark_obsolete());
            }
            Ok((world.with(next), ()))
        })
    }

    /// Asked by a merge every now and then: whether it should go on, and at which pace.
    fn pace_compaction(&self, written: u64, keyspace: KeyspaceId) -> Result<()> {
        if self.numbers_run_low() {
            self.edit(|_| Ok(Edit::default()), |world| Ok((world.clone(), ())))?;
        }
        let limiter = self.compaction_rate.as_ref();
        let mut wait =
            limiter.map_or(Duration::ZERO, |limiter| limiter.lock().take(self.time.monotonic_nanos(), written));
        loop {
            self.check_sound()?;
            if self.background.is_stopping() || self.keyspace_core(keyspace).is_none() {
                return Err(Error::Closed);
            }
            if wait.is_zero() {
                return Ok(());
            }
            // A long wait in parts, between which it may be called off: a close must not wait for it (S38).
            let part = wait.min(LONGEST_SLEEP);
            self.time.sleep(part);
            wait = wait.saturating_sub(part);
        }
    }

    /// See [`Keyspace::compact`](crate::Keyspace::compact).
    pub(crate) fn compact_range(&self, id: KeyspaceId, bounds: &KeyBounds) -> Result<()> {
        self.flush_where(|keyspace| keyspace.core.id == id)?;
        // The floor goes no further.
        self.settle_logged()?;
        let range = key_range(bounds);
        let find = |id| self.world().get(id).cloned();
        let keyspace = find(id).ok_or_else(|| self.unknown_keyspace(id))?;
        let mut progress = {
            let jobs = self.background.jobs.lock();
            self.with_shape(&keyspace, &jobs, |shape| ManualProgress::new(shape, range))
        };
        drop(keyspace);
        loop {
            let job = self.wait_in_background(|jobs| {
                let keyspace = find(id).ok_or_else(|| self.unknown_keyspace(id))?;
                jobs.awaited.retain(|awaited| *awaited != id);
                match self.with_shape(&keyspace, jobs, |shape| progress.next(shape)) {
                    ManualStep::Run(pick) => {
                        let job = CompactionJob { keyspace: id, pick };
                        jobs.compactions.push(job.begin());
                        Ok(Some(Some(job)))
                    }
                    ManualStep::Wait => {
                        jobs.awaited.push(id);
                        Ok(None)
                    }
                    ManualStep::Done => Ok(Some(None)),
                }
            });
            let Some(job) =
                job.inspect_err(|_| self.background.jobs.lock().awaited.retain(|awaited| *awaited != id))?
            else {
                return Ok(());
            };
            match self.run_taken_compaction(job) {
                // Called off because the keyspace was dropped, not because the database was closed.
                Err(Error::Closed) if self.keyspace_core(id).is_none() => {
                    return self.check_open().and(Err(self.unknown_keyspace(id)));
                }
                result => result?,
            }
        }
    }
}

/// The closed hull of some bounds.
fn key_range((lower, upper): &KeyBounds) -> KeyRange {
    let start = match lower {
        Bound::Unbounded => Slice::empty(),
        Bound::Included(key) | Bound::Excluded(key) => key.clone(),
    };
    let end = match upper {
        Bound::Unbounded => UpperBound::Unbounded,
        Bound::Included(key) => UpperBound::Included(key.clone()),
        Bound::Excluded(key) => UpperBound::Excluded(key.clone()),
    };
    KeyRange { start, end }
}
