//! Collecting merges of any neighbouring sources, at any floor, with live snapshots, over and over.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt;

use super::ROUNDS;
use super::reading::check;
use super::source::{Data, Row, TestSource};
use super::world::{KEYS, World};
use crate::merge::{CollectInput, Output, Outside, RetentionRules, collect};
use crate::version::{Fragment, RangeTombstones, TABLE_POINT, TABLE_RANGE, VersionRef};
use crate::{Error, Result, Slice, Timestamp};

/// The sources outside, which answer exactly, or as if they knew nothing.
struct TestOutside {
    sources: Vec<Arc<Data>>,
    knows: bool,
}

impl Outside for TestOutside {
    fn may_hold(&self, key: &[u8], at_or_below: Timestamp) -> Result<bool> {
        Ok(!self.knows || self.sources.iter().any(|source| source.point(key, at_or_below).is_some()))
    }

    fn spans(&self, start: &[u8], end: Option<&[u8]>, at_or_below: Timestamp) -> Result<Vec<(Slice, Option<Slice>)>> {
        if !self.knows {
            return Ok(vec![(Slice::copy_of(start), end.map(Slice::copy_of))]);
        }
        let held = (0..KEYS.len()).rev().filter(|&i| *KEYS[i] >= *start && end.is_none_or(|end| *KEYS[i] < *end));
        let held = held.filter(|&i| self.may_hold(KEYS[i], at_or_below).unwrap());
        // Some are wider than need be: they overlap, and reach out of the range asked for.
        let span = |i: usize| {
            let wide = at_or_below.is_multiple_of(2);
            let start = KEYS[if wide { i.saturating_sub(2) } else { i }];
            let end = if wide { KEYS.get(i + 3).map(|key| key.to_vec()) } else { Some([KEYS[i], b"\0"].concat()) };
            (Slice::copy_of(start), end.map(Slice::from))
        };
        Ok(held.map(span).collect())
    }
}

#[derive(Default)]
struct File {
    rows: Vec<Row>,
    fragments: Vec<Fragment>,
}

/// Collects files, and asserts the order that it was promised.
#[derive(Default)]
struct TestOutput {
    files: Vec<File>,
    current: File,
    in_key: bool,
    cuts: Vec<bool>,
    last_asked: Option<Vec<u8>>,
}

impl TestOutput {
    fn end_file(&mut self) {
        let file = std::mem::take(&mut self.current);
        let ends = |file: &File| {
            let row = file.rows.last().map(|row| Some(Slice::from([&*row.key, b"\0"].concat())));
            let fragment = file.fragments.last().map(|fragment| fragment.end.clone());
            [row, fragment].into_iter().flatten().collect::<Vec<_>>()
        };
        let starts = file.rows.first().map(|r| &r.key).into_iter().chain(file.fragments.first().map(|f| &f.start));
        if let (Some(before), Some(start)) = (self.files.last().map(ends), starts.min()) {
            // T3
            assert!(
                before.iter().all(|end| end.as_ref().is_some_and(|end| end <= start)),
                "files overlap at {start:?}"
            );
        }
        self.files.push(file);
    }
}

impl Output for TestOutput {
    fn begin_key(&mut self, key: &[u8]) -> Result<()> {
        assert!(!self.in_key && self.current.rows.last().is_none_or(|last| *last.key < *key));
        self.in_key = true;
        self.current.rows.push(Row { key: Slice::copy_of(key), versions: Vec::new() });
        Ok(())
    }

    fn version(&mut self, version: VersionRef<'_>) -> Result<()> {
        assert!(self.in_key);
        let versions = &mut self.current.rows.last_mut().unwrap().versions;
        assert!(versions.last().is_none_or(|newer| newer.stamp.timestamp > version.stamp.timestamp));
        let mut version = version.to_owned();
        version.stamp.sequence = TABLE_POINT;
        versions.push(version);
        Ok(())
    }

    fn end_key(&mut self) -> Result<()> {
        assert!(self.in_key && !self.current.rows.last().unwrap().versions.is_empty());
        self.in_key = false;
        Ok(())
    }

    fn range_tombstones(&mut self, fragment: &Fragment) -> Result<()> {
        let after = |last: &Fragment| last.end.as_ref().is_some_and(|end| *end <= fragment.start);
        assert!(self.current.fragments.last().is_none_or(after));
        assert!(!fragment.stamps.is_empty() && fragment.end.as_ref().is_none_or(|end| fragment.start < *end));
        assert!(fragment.stamps.windows(2).all(|pair| pair[0].timestamp > pair[1].timestamp));
        let mut fragment = fragment.clone();
        fragment.stamps.iter_mut().for_each(|stamp| stamp.sequence = TABLE_RANGE);
        self.current.fragments.push(fragment);
        Ok(())
    }

    fn should_cut(&mut self, next_key: &[u8]) -> bool {
        assert!(!self.in_key && self.last_asked.as_deref().is_none_or(|last| last <= next_key));
        self.last_asked = Some(next_key.to_vec());
        self.cuts.pop().unwrap_or(false)
    }

    fn cut(&mut self) -> Result<()> {
        assert!(!self.current.rows.is_empty() || !self.current.fragments.is_empty());
        self.end_file();
        Ok(())
    }
}

/// Merges the sources in `chosen` into one, in one part or several, and puts it in their place.
fn collect_sources(world: &mut World, chosen: Range<usize>, knows: bool, parts: &BTreeSet<Slice>) {
    let merged: Vec<Arc<Data>> = world.sources[chosen.clone()].to_vec();
    let mut outside = world.sources.clone();
    outside.drain(chosen.clone());
    let outside = TestOutside { sources: outside, knows };
    let rules = RetentionRules { floor: world.floor, snapshots: world.snapshots.clone() };
    let mut output =
        TestOutput { cuts: (0..40).map(|_| world.rng.random_range(0..4) == 0).collect(), ..TestOutput::default() };
    let edges: Vec<Slice> = std::iter::once(Slice::empty()).chain(parts.iter().cloned()).collect();
    for (i, lower) in edges.iter().enumerate() {
        let input = CollectInput {
            sources: merged.iter().cloned().map(TestSource::new).collect(),
            ranges: merged.iter().map(|data| data.ranges.clone()).collect(),
            lower: lower.clone(),
            upper: edges.get(i + 1).cloned(),
        };
        let stats = collect(input, &rules, &outside, &mut output, &mut |_| Ok(())).unwrap();
        output.end_file();
        assert!(stats.versions_out <= stats.versions_in && stats.bytes_out <= stats.bytes_in);
        assert!(stats.keys_out <= stats.keys_in && stats.keys_out <= stats.versions_out);
    }
    let mut data = Data::default();
    for file in output.files {
        data.rows.extend(file.rows);
        data.ranges.push(Arc::new(RangeTombstones::new(file.fragments)));
    }
    assert!(data.rows.windows(2).all(|pair| pair[0].key < pair[1].key));
    world.sources.splice(chosen, [Arc::new(data)]);
}

/// S16, S18, S20: after a merge of everything nothing stays that need not.
fn check_exact(world: &World, context: &str) {
    let data = &world.sources[0];
    let snapshots = &world.snapshots;
    for stamp in data.ranges.iter().flat_map(|part| part.fragments()).flat_map(|fragment| &fragment.stamps) {
        let needed = stamp.timestamp > world.floor || snapshots.first().is_some_and(|&s| s < world.floor);
        assert!(needed, "{context}: a range tombstone at {} stayed", stamp.timestamp);
    }
    for row in &data.rows {
        for version in &row.versions {
            let timestamp = version.stamp.timestamp;
            if timestamp > world.floor {
                continue;
            }
            let sees = |at: &Timestamp| {
                *at >= timestamp && world.newest(&row.key, *at).map(|c| c.stamp.timestamp) == Some(timestamp)
            };
            let alive_at_floor = sees(&world.floor) && world.get(&row.key, world.floor, world.floor).is_some();
            let needed = alive_at_floor
                || snapshots.iter().any(sees)
                || sees(&world.floor) && snapshots.first().is_some_and(|&s| s < world.floor);
            assert!(needed, "{context}: {:?} at {timestamp} stayed", row.key);
        }
    }
    if snapshots.is_empty() {
        for key in KEYS {
            let expected: BTreeSet<Timestamp> =
                world.history(key, &(0..=Timestamp::MAX)).iter().map(|version| version.timestamp).collect();
            let row = data.rows.iter().find(|row| row.key == *key);
            let points = row.into_iter().flat_map(|row| &row.versions).map(|version| version.stamp.timestamp);
            let part = data.ranges.iter().find_map(|part| part.find(key));
            let ranges = part.into_iter().flat_map(|fragment| &fragment.stamps).map(|stamp| stamp.timestamp);
            assert_eq!(points.chain(ranges).collect::<BTreeSet<_>>(), expected, "{context}: {}", key.escape_ascii());
        }
    }
}

// S2 S16 S18 S19 S20, R2, R3, T2
#[test]
fn no_read_notices_what_merges_drop() {
    for seed in 0..ROUNDS {
        for late_commits in [false, true] {
            let mut world = World::new(seed, late_commits);
            for round in 0..60 {
                let context = format!("seed {seed}, late commits {late_commits}, round {round}");
                for _ in 0..world.rng.random_range(0..4) {
                    world.commit();
                }
                match world.rng.random_range(0..6) {
                    0..=2 => world.seal(),
                    3 => world.raise_floor(),
                    4 => world.take_or_drop_snapshot(),
                    _ => world.snapshots.clear(),
                }
                if world.chance(50) && !world.sources.is_empty() {
                    if world.chance(50) {
                        world.raise_floor();
                    }
                    let (one, other) = (
                        world.rng.random_range(0..world.sources.len()),
                        world.rng.random_range(0..world.sources.len()),
                    );
                    let knows = world.chance(80);
                    let parts =
                        if world.chance(30) { [world.some_key(), world.some_key()].into() } else { BTreeSet::new() };
                    let parts = parts.into_iter().filter(|key| !key.is_empty()).collect();
                    // The active memtable lies outside of every merge (S19).
                    world.sources.insert(0, Arc::clone(&world.data()[0]));
                    let chosen = one.min(other) + 1..one.max(other) + 2;
                    collect_sources(&mut world, chosen, knows, &parts);
                    world.sources.remove(0);
                    check(&mut world, &context);
                }
            }
            world.seal();
            world.raise_floor();
            let all = 0..world.sources.len();
            collect_sources(&mut world, all, true, &BTreeSet::new());
            let context = format!("seed {seed}, late commits {late_commits}, at the end");
            check(&mut world, &context);
            check_exact(&world, &context);
            world.snapshots.clear();
            collect_sources(&mut world, 0..1, true, &BTreeSet::new());
            check(&mut world, &context);
            check_exact(&world, &context);
            // S18: at a floor above everything, only what can be read is left.
            world.floor = world.last;
            collect_sources(&mut world, 0..1, true, &BTreeSet::new());
            check(&mut world, &context);
            check_exact(&world, &context);
        }
    }
}

#[test]
fn progress_is_asked_and_can_end_a_merge() {
    let mut world = World::new(1, false);
    while world.all.len() < 3000 {
        world.commit();
    }
    world.seal();
    let data = Arc::clone(&world.sources[0]);
    let run = |progress: &mut dyn FnMut(&_) -> Result<()>| {
        let input = CollectInput {
            sources: vec![TestSource::new(Arc::clone(&data))],
            ranges: vec![data.ranges.clone()],
            lower: Slice::empty(),
            upper: None,
        };
        let outside = TestOutside { sources: Vec::new(), knows: true };
        collect(input, &RetentionRules::default(), &outside, &mut TestOutput::default(), progress)
    };
    let mut asked = 0;
    let stats = run(&mut |_| {
        asked += 1;
        Ok(())
    });
    assert!(asked > 5 && stats.unwrap().versions_in > 1000);
    assert!(matches!(run(&mut |_| Err(Error::Closed)), Err(Error::Closed)));
}
