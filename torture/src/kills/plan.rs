//! What a seed decides of a life before it begins: how the database is opened, who writes, and each step that a writer
//! takes. The victim takes the steps, the witness knows them, and neither tells the other more than their numbers.

use rand::RngExt;
use strandline::{Clock, Durability, KeyspaceOptions, Options, Retention, Timestamp};

use crate::life::model::{Keys, Write};
use crate::life::settings::{Settings, chance, keyspace, of_any_size, pick};
use crate::life::write::value;
use crate::random::Random;

/// Keyspaces have slots. The first four are always there, the others are made and dropped.
pub const NAMES: [&str; 7] = ["marks", "manual", "latest", "window", "x", "y", "z"];
/// Every commit writes its number here, so that it can be seen whether it survived.
pub const MARKS: usize = 0;
/// So many slots are never empty.
pub const FIXED: usize = 4;

const MANUAL: usize = 1;
const WINDOW: usize = 3;

/// Where the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Disk,
    /// `/dev/shm`, where there is one.
    Memory,
}

/// Which timestamp a commit asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Clock,
    /// So far above the last one.
    Ahead(u64),
    /// So far below the last one.
    Late(u64),
}

/// What a writer does next. Keyspaces are slots; those that are empty at that moment are passed over.
#[derive(Debug, Clone)]
pub enum Step {
    Commit {
        at: At,
        durability: Durability,
        writes: Vec<(usize, Write)>,
    },
    Flush,
    Sync,
    Compact(usize, Keys),
    CompactAll,
    /// Of all that was ever committed, so many of a thousand parts go.
    Retain(u64),
    CloseUntil(u64),
    /// Drops what is in this slot, or makes it.
    Change(usize),
    Rest {
        micros: u64,
    },
}

pub struct Plan {
    seed: u64,
    settings: Settings,
    memtable_bytes: usize,
    background_threads: usize,
    retentions: [Retention; NAMES.len()],
    /// Whether there are values of many pages, whose records the kernel copies page by page.
    long_values: bool,
    pub place: Place,
    pub writers: u8,
    pub kills: u32,
}

impl Plan {
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::of_seed(seed);
        let settings = Settings::draw(&mut random);
        let window = |random: &mut Random| {
            let span = random.random_range(0..60);
            Retention::Window(if settings.clock == Clock::Hybrid { span << 16 } else { span })
        };
        let any = |random: &mut Random| {
            let window = window(random);
            pick(random, &[Retention::Latest, Retention::Manual, window])
        };
        let retentions = [
            Retention::Window(u64::MAX),
            Retention::Manual,
            Retention::Latest,
            window(&mut random),
            any(&mut random),
            any(&mut random),
            any(&mut random),
        ];
        Self {
            seed,
            memtable_bytes: of_any_size(&mut random, 256, 16_384) as usize,
            background_threads: random.random_range(1..=2),
            retentions,
            long_values: chance(&mut random, 1, 3),
            place: if chance(&mut random, 1, 3) { Place::Disk } else { Place::Memory },
            writers: pick(&mut random, &[1, 1, 2, 3]),
            kills: random.random_range(5..=20),
            settings,
        }
    }

    pub fn options(&self) -> Options {
        self.settings.sizes().memtable_bytes(self.memtable_bytes).background_threads(self.background_threads)
    }

    pub fn clock(&self) -> Clock {
        self.settings.clock
    }

    pub fn late_commits(&self) -> bool {
        self.settings.late_commits
    }

    pub fn retention(&self, slot: usize) -> Retention {
        self.retentions[slot]
    }

    pub fn keyspace(&self, slot: usize) -> KeyspaceOptions {
        keyspace(&mut self.random([0, 1, slot as u64]), self.retentions[slot])
    }

    /// How many steps each writer takes in a life, if nobody kills it.
    pub fn steps(&self, life: u32) -> u32 {
        // Where syncs take their time, lives are shorter.
        let most = if self.place == Place::Disk { 128 } else { 1024 };
        let steps = of_any_size(&mut self.random([0, 2, life.into()]), 16, most) as u32;
        steps.div_ceil(self.writers.into())
    }

    /// The choices of who watches the life.
    pub fn watcher(&self, life: u32) -> Random {
        self.random([0, 3, life.into()])
    }

    /// The timestamps that a writer may name. No two writers ever name the same: which of two commits at one timestamp
    /// came later would be anybody's guess.
    pub fn own_timestamp(&self, writer: u8, least: Timestamp) -> Timestamp {
        let writers = Timestamp::from(self.writers);
        least + (writers + Timestamp::from(writer) - least % writers) % writers
    }

    /// The `nth` step of a writer. Only the first one does what can be done by one at a time.
    pub fn step(&self, life: u32, writer: u8, nth: u32) -> Step {
        let mut random = self.random([1 + u64::from(life), writer.into(), nth.into()]);
        let random = &mut random;
        match random.random_range(0..1000) {
            0..15 => Step::Flush,
            15..35 => Step::Sync,
            35..45 => Step::Compact(random.random_range(0..FIXED), self.some_keys(random)),
            45..50 => Step::CompactAll,
            50..70 => Step::Rest { micros: of_any_size(random, 1, 2048) },
            70..90 if writer == 0 => Step::Retain(random.random_range(0..=1000)),
            90..95 if writer == 0 => Step::CloseUntil(self.some_span(random, 4)),
            95..115 if writer == 0 => Step::Change(random.random_range(FIXED..NAMES.len())),
            _ => self.commit(random, life, writer, nth),
        }
    }

    fn commit(&self, random: &mut Random, life: u32, writer: u8, nth: u32) -> Step {
        let at = match random.random_range(0..100) {
            0..20 if self.settings.late_commits => At::Late(self.some_span(random, 40)),
            0 => At::Late(0),
            20..30 => At::Ahead(self.some_span(random, 3)),
            _ => At::Clock,
        };
        let usual = self.settings.durability;
        let durabilities = [usual, usual, Durability::Unlogged, Durability::Buffered, Durability::Synced];
        let durability = pick(random, &durabilities);
        let operations = if chance(random, 1, 30) { 60 } else { 8 };
        let slots = if writer == 0 { NAMES.len() } else { FIXED };
        let mut writes = Vec::new();
        for _ in 0..random.random_range(0..operations) {
            // Where there is no history what is late is refused.
            let late = matches!(at, At::Late(_));
            let slot =
                if late { pick(random, &[MANUAL, MANUAL, MANUAL, WINDOW]) } else { random.random_range(1..slots) };
            writes.push((slot, self.some_write(random)));
        }
        let mark = Write::Put { key: mark_key(life, writer, nth), value: Vec::new(), expires_at: None };
        let place = random.random_range(0..=writes.len());
        writes.insert(place, (MARKS, mark));
        Step::Commit { at, durability, writes }
    }

    fn some_write(&self, random: &mut Random) -> Write {
        let key = pick(random, &self.settings.keys);
        match random.random_range(0..100) {
            0..62 => Write::Put { key, value: self.some_value(random), expires_at: None },
            62..74 => {
                let soon = random.random_range(1..4000);
                let expires_at = Some(pick(random, &[0, 1, soon, soon, soon, u64::MAX]));
                Write::Put { key, value: self.some_value(random), expires_at }
            }
            74..93 => Write::Delete { key },
            _ => Write::DeleteRange(self.some_keys(random)),
        }
    }

    fn some_value(&self, random: &mut Random) -> Vec<u8> {
        let mut value = value(random);
        if self.long_values && chance(random, 1, 60) {
            value.resize(random.random_range(4096..100_000), random.random());
        }
        value
    }

    fn some_keys(&self, random: &mut Random) -> Keys {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (a, b) = (pick(random, &self.settings.keys), pick(random, &self.settings.keys));
        match random.random_range(0..12) {
            0 => Keys::all(),
            1 => Keys::Prefix(a.into_iter().take(2).collect()),
            _ => {
                let (a, b) = (a.clone().min(b.clone()), a.max(b));
                let start = pick(random, &[Included(a.clone()), Excluded(a)]);
                Keys::Between(start, pick(random, &[Included(b.clone()), Excluded(b), Unbounded]))
            }
        }
    }

    /// So many timestamps as mean something to the clock.
    fn some_span(&self, random: &mut Random, most: u64) -> u64 {
        let span = random.random_range(0..most);
        if self.settings.clock == Clock::Hybrid { span << 16 } else { span }
    }

    /// Choices that depend on the seed and on what they are for.
    fn random(&self, what: [u64; 3]) -> Random {
        let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        Random::of_seed(what.iter().fold(mix(0, &self.seed), mix))
    }
}

/// The key of the mark that a commit leaves.
pub fn mark_key(life: u32, writer: u8, nth: u32) -> Vec<u8> {
    [&life.to_be_bytes()[..], &[writer], &nth.to_be_bytes()].concat()
}

/// Whose mark it is: writer and step, in a life.
pub fn mark_of(key: &[u8]) -> Option<(u8, u32)> {
    let rest = key.get(size_of::<u32>()..)?;
    Some((*rest.first()?, u32::from_be_bytes(rest.get(1..)?.try_into().ok()?)))
}
