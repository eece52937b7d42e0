//! A state machine that an outer log drives: each entry is applied at its own timestamp, with its index in the same batch. S14
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::{
    Background, Change, Clock, CommitOptions, Compression, Db, Durability, Keyspace, KeyspaceOptions, ManualTime,
    MemFs, Options, Retention, WriteBatch,
};

const ENTRIES: u64 = 400;
const NAMES: [&str; 3] = ["one", "other", "meta"];

#[derive(Debug, Clone)]
enum Op {
    Put(usize, String, String),
    PutExpiring(usize, String, String, u64),
    Delete(usize, String),
    DeleteRange(usize, String, String),
}

/// An entry of the outer log.
#[derive(Debug, Clone)]
struct Entry {
    index: u64,
    timestamp: u64,
    ops: Vec<Op>,
    /// From here on history is kept; the log says so, no clock does.
    retain_from: Option<u64>,
}

fn outer_log(seed: u64) -> Vec<Entry> {
    let dice = &mut StdRng::seed_from_u64(seed);
    let mut timestamp = 0;
    let mut retained = 0;
    let mut entry = |index| {
        timestamp += dice.random_range(1..4);
        let key = |dice: &mut StdRng| format!("{:02}", dice.random_range(0..30));
        let mut op = |_| {
            let (keyspace, key_of) = (dice.random_range(0..2), key(dice));
            let value = format!("{index} {}", "v".repeat(dice.random_range(0..60)));
            match dice.random_range(0..10) {
                0..6 => Op::Put(keyspace, key_of, value),
                6 => Op::PutExpiring(keyspace, key_of, value, timestamp + dice.random_range(0..40)),
                7 | 8 => Op::Delete(keyspace, key_of),
                _ => Op::DeleteRange(keyspace, key_of, key(dice)),
            }
        };
        let ops = (0..4).map(&mut op).collect();
        // Far enough back that what is applied again is above it.
        let retain_from = (index % 37 == 0).then(|| timestamp.saturating_sub(90)).filter(|at| *at > retained);
        retained = retain_from.unwrap_or(retained);
        Entry { index, timestamp, ops, retain_from }
    };
    (1..=ENTRIES).map(&mut entry).collect()
}

/// How a replica goes about it.
#[derive(Debug, Clone)]
struct Manner {
    durability: Durability,
    /// Of an entry, so many operations at a time, all at its timestamp.
    at_a_time: usize,
    retention: Retention,
    clock: Clock,
    threads: bool,
}

impl Manner {
    fn draw(dice: &mut StdRng, retention: Retention) -> Self {
        Self {
            durability: [Durability::Unlogged, Durability::Buffered][dice.random_range(0..2)],
            at_a_time: dice.random_range(1..6),
            retention,
            clock: [Clock::Counter, Clock::Hybrid][dice.random_range(0..2)],
            // Where no floor moves by itself, lest it moves while two are compared.
            threads: retention != Retention::Window(150) && dice.random_range(0..4) == 0,
        }
    }
}

struct Machine {
    db: Db,
    keyspaces: [Keyspace; 3],
    manner: Manner,
}

impl Machine {
    fn open(fs: &MemFs, manner: &Manner, dice: &mut StdRng) -> Self {
        // Some time or other: it must not matter.
        let time = ManualTime::new(dice.random_range(0..2_000_000_000_000));
        time.advance(Duration::from_millis(dice.random_range(0..1_000_000)));
        let background = if manner.threads { Background::Threads } else { Background::Stepped };
        let options =
            Options::new().fs(fs.clone()).late_commits(true).memtable_bytes(2 << 10).wal_segment_bytes(8 << 10);
        let db = options.background(background).clock(manner.clock).time(time).open("machine").unwrap();
        let kept = KeyspaceOptions::new().retention(manner.retention).compression(Compression::None).block_bytes(256);
        let kept = kept.target_file_bytes(4 << 10).level_base_bytes(16 << 10);
        let keyspaces = NAMES.map(|name| db.keyspace_with(name, kept.clone()).unwrap());
        Self { db, keyspaces, manner: manner.clone() }
    }

    fn applied(&self) -> u64 {
        let index = self.keyspaces[2].get("applied").unwrap();
        index.map_or(0, |index| u64::from_le_bytes(index.as_ref().try_into().unwrap()))
    }

    fn apply(&self, entry: &Entry) {
        let chunks: Vec<&[Op]> = entry.ops.chunks(self.manner.at_a_time).collect();
        for (at, ops) in chunks.iter().enumerate() {
            let mut batch = WriteBatch::new();
            for op in *ops {
                match op {
                    Op::Put(to, key, value) => batch.put(&self.keyspaces[*to], key, value),
                    Op::PutExpiring(to, key, value, at) => batch.put_expiring(&self.keyspaces[*to], key, value, *at),
                    Op::Delete(to, key) => batch.delete(&self.keyspaces[*to], key),
                    Op::DeleteRange(to, start, end) => batch.delete_range(&self.keyspaces[*to], &start[..]..&end[..]),
                }
            }
            if at + 1 == chunks.len() {
                batch.put(&self.keyspaces[2], "applied", entry.index.to_le_bytes());
            }
            let options = CommitOptions::new().at(entry.timestamp).durability(self.manner.durability);
            self.db.commit_with(batch, options).unwrap();
        }
        if let Some(from) = entry.retain_from {
            self.db.retain_from(from).unwrap();
        }
    }

    /// Everything above `from`, each version with its time and expiry.
    fn changes(&self, from: u64) -> Vec<(usize, Change)> {
        let of = |at: usize| {
            let changes = self.keyspaces[at].changes(from + 1..).unwrap();
            pieced(changes.map(move |change| change.unwrap()).collect()).into_iter().map(move |change| (at, change))
        };
        (0..3).flat_map(of).collect()
    }

    /// What is seen at a time; also what expires then.
    fn state_at(&self, timestamp: u64) -> Vec<BTreeMap<Vec<u8>, Vec<u8>>> {
        let snapshot = self.db.snapshot_at(timestamp).unwrap();
        let pairs = |keyspace| {
            let pair = |pair: strandline::Result<_>| {
                pair.map(|(key, value): (strandline::Slice, strandline::Slice)| (key.to_vec(), value.to_vec()))
            };
            snapshot.iter(keyspace).map(|item| pair(item).unwrap()).collect()
        };
        self.keyspaces.iter().map(pairs).collect()
    }

    /// Whether everything so far is durable.
    fn settle(&self, dice: &mut StdRng) -> bool {
        match dice.random_range(0..30) {
            0 => {
                self.db.flush().unwrap();
                return true;
            }
            1 => self.db.compact().unwrap(),
            2..8 if !self.manner.threads => _ = self.db.step_background().unwrap(),
            _ => {}
        }
        false
    }
}

/// A range delete may come in pieces: those of one time that touch are one.
fn pieced(changes: Vec<Change>) -> Vec<Change> {
    let (deletes, points): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change, Change::DeleteRange { .. }));
    let mut joined: Vec<Change> = Vec::new();
    let mut deletes = deletes;
    deletes.sort_by_key(|change| (change.timestamp(), change.key().to_vec()));
    for delete in deletes {
        let Change::DeleteRange { start, end, timestamp } = delete else { continue };
        match joined.last_mut() {
            Some(Change::DeleteRange { end: last, timestamp: at, .. })
                if *at == timestamp && last.as_ref().is_none_or(|last| *last >= start) =>
            {
                *last = last.take().zip(end).map(|(last, end)| last.max(end));
            }
            _ => joined.push(Change::DeleteRange { start, end, timestamp }),
        }
    }
    joined.into_iter().chain(points).collect()
}

/// The whole log, entry by entry, nothing in between.
fn straight(log: &[Entry], retention: Retention) -> Machine {
    let dice = &mut StdRng::seed_from_u64(0);
    let manner =
        Manner { durability: Durability::Buffered, at_a_time: 100, retention, clock: Clock::Counter, threads: false };
    let machine = Machine::open(&MemFs::new(), &manner, dice);
    log.iter().for_each(|entry| machine.apply(entry));
    machine
}

/// The same state and history, as far back as both are kept.
fn assert_same(one: &Machine, other: &Machine, context: &str) {
    let last = one.db.last_timestamp();
    assert_eq!(last, other.db.last_timestamp(), "{context}");
    let floor = |machine: &Machine| machine.keyspaces.iter().map(Keyspace::retained_from).max().unwrap();
    if one.manner.retention == Retention::Manual {
        assert_eq!(floor(one), floor(other), "{context}");
    }
    let from = floor(one).max(floor(other));
    // A floor hides what it has hidden.
    assert_eq!(one.changes(from), other.changes(from), "{context}");
    for timestamp in (from..=last).step_by(7).chain([last]) {
        assert_eq!(one.state_at(timestamp), other.state_at(timestamp), "{context}, at {timestamp}");
    }
}

const KEPT: [Retention; 3] = [Retention::Manual, Retention::Window(150), Retention::Window(u64::MAX)];

// S14
#[test]
fn applied_again_in_other_batches_at_other_times_it_is_the_same() {
    for seed in 0..30 {
        let retention = KEPT[usize::try_from(seed % 3).unwrap()];
        let log = outer_log(seed);
        let expected = straight(&log, retention);
        let dice = &mut StdRng::seed_from_u64(1000 + seed);
        let manner = Manner::draw(dice, retention);
        let machine = Machine::open(&MemFs::new(), &manner, dice);
        for entry in &log {
            machine.apply(entry);
            machine.settle(dice);
            // Some of the last entries once more, in their order.
            if dice.random_range(0..6) == 0 {
                let back = dice.random_range(0..12).min(entry.index - 1);
                let first = usize::try_from(entry.index - 1 - back).unwrap();
                log[first..usize::try_from(entry.index).unwrap()].iter().for_each(|entry| machine.apply(entry));
            }
        }
        assert_same(&machine, &expected, &format!("seed {seed}, {manner:?}"));
        machine.db.compact().unwrap();
        assert_same(&machine, &expected, &format!("seed {seed}, {manner:?}, compacted"));
    }
}

// S14, S21, S22
#[test]
fn replayed_after_crashes_it_is_the_same() {
    let mut crashes = 0;
    for seed in 0..60 {
        let retention = KEPT[usize::try_from(seed % 3).unwrap()];
        let log = outer_log(seed);
        let expected = straight(&log, retention);
        let dice = &mut StdRng::seed_from_u64(2000 + seed);
        let mut fs = MemFs::new();
        let (mut reached, mut durable) = (0, 0);
        loop {
            // Another manner each time: the state does not know how it came about.
            let manner = Manner { threads: false, ..Manner::draw(dice, retention) };
            let machine = Machine::open(&fs, &manner, dice);
            let applied = machine.applied();
            let possible = durable..=reached;
            assert!(possible.contains(&applied), "seed {seed}: {applied} entries are there, not {possible:?}");
            let from = applied.saturating_sub(dice.random_range(0..12));
            let stop = if reached > ENTRIES / 2 && dice.random_range(0..4) == 0 {
                ENTRIES
            } else {
                (applied + dice.random_range(1..120)).min(ENTRIES)
            };
            for entry in log.iter().filter(|entry| entry.index > from && entry.index <= stop) {
                machine.apply(entry);
                if machine.settle(dice) {
                    durable = durable.max(entry.index);
                }
            }
            reached = reached.max(stop);
            if stop == ENTRIES {
                assert_same(&machine, &expected, &format!("seed {seed}, {manner:?}"));
                assert_eq!(machine.applied(), ENTRIES);
                break;
            }
            let by_power = dice.random_range(0..2) == 0;
            fs = if by_power { fs.power_cut(dice.random_range(0..u64::MAX)) } else { fs.kill() };
            crashes += 1;
        }
    }
    assert!(crashes > 100, "{crashes}");
}

/// What an unlogged entry leaves after a crash is whole: its index says what is there, in every keyspace.
#[test]
fn after_a_crash_the_index_is_true_of_all_keyspaces() {
    let mut survived = 0;
    for seed in 0..60 {
        let log = outer_log(seed);
        let dice = &mut StdRng::seed_from_u64(3000 + seed);
        let fs = MemFs::new();
        let retention = Retention::Window(u64::MAX);
        let manner = Manner { at_a_time: 100, threads: false, ..Manner::draw(dice, retention) };
        let machine = Machine::open(&fs, &manner, dice);
        let stop = dice.random_range(1..ENTRIES);
        for entry in log.iter().take_while(|entry| entry.index <= stop) {
            machine.apply(entry);
            machine.settle(dice);
        }
        let image = fs.power_cut(seed);
        let found = Machine::open(&image, &manner, dice);
        let applied = found.applied();
        let expected: Vec<Entry> = log.iter().filter(|entry| entry.index <= applied).cloned().collect();
        let expected = straight(&expected, retention);
        assert_eq!(found.changes(0), expected.changes(0), "seed {seed}, {applied} of {stop}, {manner:?}");
        survived += u64::from(applied > 0);
    }
    assert!(survived > 30, "{survived} of 60 had anything left");
}
