//! The picker at work on a tree without files: keys are integers, versions are timestamps.
//!
//! After every change the tree is held against what it must be: levels sorted and disjoint (T3), timestamps of a key
//! never rising from newer to older sources (T2), and what can be read the same as in a model.

mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::format::FileNumber;
use crate::manifest::LEVELS;
use crate::table::{Freeable, TableMeta, UpperBound};
use crate::{Slice, Timestamp};

type Rows = BTreeMap<u32, Vec<Version>>;

/// Newest first within a key. Timestamps are given in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    timestamp: Timestamp,
    dead: bool,
}

impl Version {
    fn bytes(self) -> u64 {
        if self.dead { 20 } else { 100 }
    }
}

fn bytes_of(rows: &Rows) -> u64 {
    rows.values().flatten().map(|version| version.bytes()).sum()
}

#[derive(Debug, Clone)]
struct File {
    meta: TableMeta,
    rows: Rows,
    tried: Option<Timestamp>,
}

impl File {
    fn new(number: FileNumber, rows: Rows, tried: Option<Timestamp>, count_dead: bool) -> Self {
        let slice = |key: &u32| Slice::copy_of(&key.to_be_bytes());
        let all = || rows.values().flatten();
        let shadowed = rows.values().flat_map(|versions| versions.windows(2)).map(|w| (w[0].timestamp, w[1].bytes()));
        let dead = rows.values().map(|versions| versions[0]).filter(|version| version.dead && count_dead);
        let freeable = Freeable::of(shadowed.chain(dead.map(|version| (version.timestamp, version.bytes()))));
        let meta = TableMeta {
            number,
            bytes: bytes_of(&rows),
            smallest: slice(rows.keys().next().unwrap()),
            upper: UpperBound::Included(slice(rows.keys().next_back().unwrap())),
            min_timestamp: all().map(|version| version.timestamp).min().unwrap(),
            max_timestamp: all().map(|version| version.timestamp).max().unwrap(),
            keys: rows.len() as u64,
            versions: all().count() as u64,
            tombstones: all().filter(|version| version.dead).count() as u64,
            range_tombstones: 0,
            late: false,
            freeable,
            log_end: 0,
        };
        Self { meta, rows, tried }
    }
}

struct Job {
    pick: Pick,
    outputs: Vec<File>,
}

struct Tree {
    options: CompactionOptions,
    levels: Vec<Vec<File>>,
    memtable: Rows,
    memtable_bytes: u64,
    jobs: Vec<Job>,
    running: Vec<Running>,
    floor: Timestamp,
    /// The floor follows what is committed, as with `Retention::Latest`.
    latest: bool,
    snapshots: BTreeSet<Timestamp>,
    quiet: bool,
    detour_bytes: u64,
    /// Whether files count tombstones that are the newest of their key as freeable.
    count_dead: bool,
    next_file: u64,
    now: Timestamp,
    model: Rows,
    flushed_bytes: u64,
    compacted_bytes: u64,
    reasons: BTreeMap<String, usize>,
    random: StdRng,
}

impl Tree {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            options: CompactionOptions::new(20_000, 100_000),
            levels: vec![Vec::new(); LEVELS],
            memtable: Rows::new(),
            memtable_bytes: 20_000,
            jobs: Vec::new(),
            running: Vec::new(),
            floor: 0,
            latest: true,
            snapshots: BTreeSet::new(),
            quiet: false,
            detour_bytes: 0,
            count_dead: seed.is_multiple_of(2),
            next_file: 1,
            now: 0,
            model: Rows::new(),
            flushed_bytes: 0,
            compacted_bytes: 0,
            reasons: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn write(&mut self, key: u32, dead: bool) {
        self.now += 1;
        let version = Version { timestamp: self.now, dead };
        self.model.entry(key).or_default().insert(0, version);
        self.memtable.entry(key).or_default().insert(0, version);
        if self.memtable.len() as u64 * 100 >= self.memtable_bytes {
            self.flush();
        }
    }

    /// Beside so many workers, which finish a job every now and then.
    fn write_beside(&mut self, workers: usize, key: u32, dead: bool) {
        self.write(key, dead);
        if self.now.is_multiple_of(16) {
            self.step(workers);
        }
    }

    fn flush(&mut self) {
        if self.latest {
            self.floor = self.now;
        }
        let rows = std::mem::take(&mut self.memtable);
        if rows.is_empty() {
            return;
        }
        let rows = rows.into_iter().map(|(key, versions)| (key, self.retained(versions, &|_| false))).collect();
        self.flushed_bytes += bytes_of(&rows);
        let file = File::new(self.new_number(), rows, Some(self.floor), self.count_dead);
        self.levels[0].insert(0, file);
    }

    fn new_number(&mut self) -> FileNumber {
        self.next_file += 1;
        FileNumber(self.next_file - 1)
    }

    fn busy(&self) -> BTreeSet<FileNumber> {
        self.jobs.iter().flat_map(|job| job.pick.files()).collect()
    }

    fn shape(&self) -> Shape<'_> {
        let busy = self.busy();
        let view = |file| {
            let File { meta, tried, .. }: &File = file;
            FileView { meta, busy: busy.contains(&meta.number), last_tried_floor: *tried }
        };
        Shape {
            options: self.options,
            levels: self.levels.iter().map(|files| files.iter().map(view).collect()).collect(),
            running: &self.running,
            floor: self.floor,
            next_file: FileNumber(self.next_file),
            quiet: self.quiet,
            detour_bytes: self.detour_bytes,
        }
    }

    /// R2 and R3; `dead_may_go`: whether nothing outside the merge can be below this tombstone.
    fn retained(&self, versions: Vec<Version>, dead_may_go: &dyn Fn(Version) -> bool) -> Vec<Version> {
        let mut kept: Vec<Version> = Vec::new();
        let mut newer: Option<Version> = None;
        for version in versions {
            let shadowed = newer.is_some_and(|newer| {
                newer.timestamp <= self.floor
                    && self.snapshots.range(version.timestamp..newer.timestamp).next().is_none()
            });
            if !shadowed {
                kept.push(version);
            }
            newer = Some(version);
        }
        if let Some(last) = kept.last().copied()
            && last.dead
            && last.timestamp <= self.floor
            && self.snapshots.range(..last.timestamp).next().is_none()
            && dead_may_go(last)
        {
            kept.pop();
        }
        kept
    }

    /// Merges at once; the result is named when the job is finished.
    fn start(&mut self, pick: Pick) {
        let busy = self.busy();
        assert!(pick.files().all(|number| !busy.contains(&number)), "a busy file is picked: {pick:?}");
        *self
            .reasons
            .entry(format!("{:?}{}", pick.reason, if pick.trivial_move { " move" } else { "" }))
            .or_default() += 1;
        if self.latest {
            self.floor = self.now - self.memtable.values().map(Vec::len).sum::<usize>() as u64;
        }
        let outputs = if pick.trivial_move { Vec::new() } else { self.merge(&pick) };
        self.running.push(pick.running());
        self.jobs.push(Job { pick, outputs });
    }

    fn merge(&mut self, pick: &Pick) -> Vec<File> {
        let inputs: BTreeSet<FileNumber> = pick.files().collect();
        let mut merged = Rows::new();
        for file in self.levels.iter().flatten().filter(|file| inputs.contains(&file.meta.number)) {
            for (key, versions) in &file.rows {
                merged.entry(*key).or_default().extend(versions);
            }
        }
        let outside = |key: u32, version: Version| {
            let holds = |file: &File| {
                !inputs.contains(&file.meta.number)
                    && file.meta.contains(&key.to_be_bytes())
                    && file.meta.min_timestamp <= version.timestamp
            };
            self.levels.iter().flatten().any(holds)
        };
        let mut outputs: Vec<Rows> = vec![Rows::new()];
        let mut bytes = 0;
        let mut splitter = Splitter::new(&self.options, &pick.grandparents);
        for (key, mut versions) in merged {
            versions.sort_by_key(|version| std::cmp::Reverse(version.timestamp));
            let versions = self.retained(versions, &|version| !outside(key, version));
            if versions.is_empty() {
                continue;
            }
            let name = key.to_be_bytes();
            if splitter.should_cut(bytes, &name) {
                bytes = 0;
                outputs.push(Rows::new());
            }
            bytes += versions.iter().map(|version| version.bytes()).sum::<u64>();
            outputs.last_mut().unwrap().insert(key, versions);
        }
        outputs.retain(|rows| !rows.is_empty());
        let floor = self.floor;
        let number = |rows| File::new(self.new_number(), rows, Some(floor), self.count_dead);
        let outputs: Vec<File> = outputs.into_iter().map(number).collect();
        self.compacted_bytes += outputs.iter().map(|file| file.meta.bytes).sum::<u64>();
        outputs
    }

    fn finish(&mut self, job: usize) {
        let Job { pick, mut outputs } = self.jobs.remove(job);
        self.running.remove(job);
        let inputs: BTreeSet<FileNumber> = pick.files().collect();
        for file in self.levels.iter().flatten().filter(|file| inputs.contains(&file.meta.number)) {
            if pick.trivial_move {
                outputs.push(File { tried: None, ..file.clone() });
            }
        }
        self.levels.iter_mut().for_each(|files| files.retain(|file| !inputs.contains(&file.meta.number)));
        let level = &mut self.levels[pick.output_level];
        level.extend(outputs);
        level.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
        for pair in level.windows(2) {
            assert!(!pair[0].meta.upper.admits(&pair[1].meta.smallest), "T3: files of a level overlap after {pick:?}");
        }
    }

    /// Has all workers busy if there is so much to do, then finishes one job. Returns whether there was one.
    fn step(&mut self, workers: usize) -> bool {
        self.start_some(workers);
        self.finish_one()
    }

    fn start_some(&mut self, workers: usize) {
        while self.jobs.len() < workers {
            let Some(pick) = pick(&self.shape()) else { break };
            self.start(pick);
        }
    }

    /// One of those that run, at random.
    fn finish_one(&mut self) -> bool {
        let some = !self.jobs.is_empty();
        if some {
            let job = self.random.random_range(0..self.jobs.len());
            self.finish(job);
        }
        some
    }

    /// Until nothing is left to do; fails if that never comes.
    fn drain(&mut self, workers: usize) {
        let bound = 10 * self.levels.iter().map(Vec::len).sum::<usize>() + 100;
        let mut steps = 0;
        while self.step(workers) {
            steps += 1;
            assert!(steps < bound, "compaction does not come to an end: {:?}", self.reasons);
        }
    }

    fn release(&mut self, snapshot: Timestamp) {
        self.snapshots.remove(&snapshot);
        for file in self.levels.iter_mut().flatten().filter(|file| file.tried.is_some_and(|tried| tried >= snapshot)) {
            file.tried = None;
        }
    }

    /// Everything from newest to oldest source, a level being one.
    fn sources(&self) -> Vec<Vec<&Rows>> {
        let mut sources = vec![vec![&self.memtable]];
        sources.extend(self.levels[0].iter().map(|file| vec![&file.rows]));
        sources.extend(self.levels[1..].iter().map(|files| files.iter().map(|file| &file.rows).collect()));
        sources
    }

    fn check(&self) {
        let mut seen: BTreeMap<u32, Vec<Version>> = BTreeMap::new();
        for source in self.sources() {
            for (key, versions) in source.into_iter().flatten() {
                let newer = seen.entry(*key).or_default();
                let rises = newer.last().is_some_and(|newer| newer.timestamp <= versions[0].timestamp);
                assert!(!rises, "T2: versions of {key} rise: {newer:?}, then {versions:?}");
                newer.extend(versions);
            }
        }
        let at = |versions: &[Version], timestamp| {
            let visible = versions.iter().find(|version| version.timestamp <= timestamp);
            visible.filter(|version| !version.dead).map(|version| version.timestamp)
        };
        let none = Vec::new();
        for (key, history) in &self.model {
            let versions = seen.get(key).unwrap_or(&none);
            for timestamp in
                self.snapshots.iter().copied().chain([self.floor, u64::midpoint(self.floor, self.now), self.now])
            {
                assert_eq!(at(versions, timestamp), at(history, timestamp), "key {key} at {timestamp}");
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.levels.iter().flatten().map(|file| file.meta.bytes).sum()
    }

    fn live_bytes(&self) -> u64 {
        self.model.values().filter(|versions| !versions[0].dead).map(|versions| versions[0].bytes()).sum()
    }

    fn level_bytes(&self) -> Vec<u64> {
        self.levels.iter().map(|files| files.iter().map(|file| file.meta.bytes).sum()).collect()
    }

    fn tombstones(&self) -> u64 {
        self.levels.iter().flatten().map(|file| file.meta.tombstones).sum()
    }
}
