//! Lives whose files are damaged afterwards, what they have committed, and what a repair may make of that.

use std::collections::{BTreeMap, BTreeSet};

use strandline::{
    CommitOptions, Db, Error, Keyspace, KeyspaceOptions, MemFs, Options, RepairReport, Retention, WriteBatch,
};

use crate::files::{self, DIR, names, path};
use crate::support::{
    self, Dice, KEYS, Key, Model, Op, Told, check_at, check_histories, settle, small, small_keyspace, told,
};

/// The keyspaces of every database here.
pub(crate) const KEYSPACES: [(&str, Retention); 3] =
    [("manual", Retention::Manual), ("window", Retention::Window(40)), ("latest", Retention::Latest)];

/// What was committed, and what of it had to be kept.
#[derive(Clone, Default)]
pub(crate) struct Life {
    pub(crate) models: BTreeMap<&'static str, Model>,
    /// Every batch: its timestamp, and per keyspace its operations.
    pub(crate) commits: Vec<(u64, Vec<(&'static str, Vec<Op>)>)>,
    pub(crate) floors: BTreeMap<&'static str, u64>,
    pub(crate) last: u64,
    /// What was ever committed, also what another commit at its timestamp has replaced.
    pub(crate) ever: BTreeSet<(&'static str, Key, Told)>,
}

pub(crate) fn keyspace_options(retention: Retention) -> KeyspaceOptions {
    small_keyspace().retention(retention)
}

pub(crate) fn open(options: Options) -> strandline::Result<(Db, BTreeMap<&'static str, Keyspace>)> {
    let db = options.open(DIR)?;
    let mut keyspaces = BTreeMap::new();
    for (name, retention) in KEYSPACES {
        keyspaces.insert(name, db.keyspace_with(name, keyspace_options(retention))?);
    }
    Ok((db, keyspaces))
}

/// How a life goes.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) late: bool,
    /// Whether floors of `Manual` keyspaces rise.
    pub(crate) retain: bool,
    /// Whether it ends with a close.
    pub(crate) close: bool,
}

impl Course {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, steps: 120, late: false, retain: true, close: false }
    }

    /// Lives it, and leaves the files as they are then.
    pub(crate) fn live(self) -> (MemFs, Life) {
        let fs = MemFs::new();
        let life = self.live_in(&fs);
        (fs.kill(), life)
    }

    pub(crate) fn live_in(self, fs: &MemFs) -> Life {
        let mut dice = Dice::new(self.seed);
        let mut life = Life::default();
        let options = || small(fs).late_commits(self.late);
        let (mut db, mut keyspaces) = open(options()).unwrap();
        for (name, _) in KEYSPACES {
            life.models.insert(name, Model::default());
        }
        for _ in 0..self.steps {
            match dice.below(40) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                2 | 3 => settle(&db),
                4 if self.retain && db.last_timestamp() > 20 => {
                    let floor = db.last_timestamp() - 10 - dice.below(10);
                    db.retain_from(floor).unwrap();
                }
                5 => {
                    db.close().unwrap();
                    (db, keyspaces) = open(options()).unwrap();
                }
                6 => db.sync().unwrap(),
                _ => life.commit(&db, &keyspaces, &mut dice, self.late),
            }
        }
        if self.close {
            db.close().unwrap();
        } else {
            // What it holds open must not be closed in order.
            std::mem::forget((db, keyspaces));
        }
        for (name, keyspace) in open(small(&fs.kill())).unwrap().1 {
            life.floors.insert(name, keyspace.retained_from());
        }
        life
    }
}

impl Life {
    pub(crate) fn commit(
        &mut self,
        db: &Db,
        keyspaces: &BTreeMap<&'static str, Keyspace>,
        dice: &mut Dice,
        late: bool,
    ) {
        let mut parts = Vec::new();
        let mut batch = WriteBatch::new();
        for (name, _) in KEYSPACES {
            if dice.one_in(2) {
                let ops = dice.ops(db.last_timestamp());
                ops.iter().for_each(|op| op.add_to(&mut batch, &keyspaces[name]));
                parts.push((name, ops));
            }
        }
        let floor = parts.iter().map(|(name, _)| keyspaces[name].retained_from()).max().unwrap_or(0);
        let mut options = CommitOptions::new();
        if late && dice.one_in(3) && floor < db.last_timestamp() {
            options = options.at(floor + 1 + dice.below(db.last_timestamp() - floor));
        }
        let timestamp = db.commit_with(batch, options).unwrap();
        self.last = self.last.max(timestamp);
        for (name, model) in &mut self.models {
            let ops = parts.iter().find(|(one, _)| one == name).map_or(&[][..], |(_, ops)| ops);
            model.commit(timestamp, ops);
            for key in KEYS {
                let version = model.history(key, timestamp - 1).into_iter().find(|version| version.0 == timestamp);
                self.ever.extend(version.map(|version| (*name, key.to_vec(), version)));
                // A put may have replaced what the same batch had deleted.
                let deleted = |op: &Op| match op {
                    Op::DeleteRange(start, end) => support::contains(&(start.clone(), end.clone()), key),
                    Op::Delete(_) | Op::Put(..) | Op::PutExpiring(..) => false,
                };
                if ops.iter().any(deleted) {
                    self.ever.insert((*name, key.to_vec(), (timestamp, None, None)));
                }
            }
        }
        self.commits.push((timestamp, parts));
    }

    /// Everything is there, and nothing that retention had taken.
    pub(crate) fn check_whole(&self, db: &Db, context: &str) {
        assert_eq!(db.last_timestamp(), self.last, "{context}");
        for (name, retention) in KEYSPACES {
            let keyspace = db.keyspace_with(name, keyspace_options(retention)).unwrap();
            let context = format!("{context}, keyspace {name}");
            assert!(keyspace.retained_from() >= self.floors[name], "{context}: floor fell");
            for timestamp in keyspace.retained_from()..=self.last + 1 {
                check_at(&keyspace, &self.models[name], timestamp, &context);
            }
            check_histories(&keyspace, &self.models[name], &context);
            if let Some(below) = keyspace.retained_from().checked_sub(1) {
                let read = keyspace.get_at("a", below);
                assert!(matches!(read, Err(Error::BelowRetained { .. })), "{context}");
            }
        }
    }

    /// The floors are those that there were.
    pub(crate) fn check_floors(&self, db: &Db, context: &str) {
        for (name, retention) in KEYSPACES {
            let keyspace = db.keyspace_with(name, keyspace_options(retention)).unwrap();
            assert_eq!(keyspace.retained_from(), self.floors[name], "{context}, keyspace {name}");
        }
    }

    /// What is there was committed, reads agree with it at every timestamp, and all is there that `kept` says.
    pub(crate) fn check_rest(&self, db: &Db, context: &str, kept: impl Fn(&str, &[u8], u64) -> bool) {
        for (name, retention) in KEYSPACES {
            let keyspace = db.keyspace_with(name, keyspace_options(retention)).unwrap();
            let (model, floor) = (&self.models[name], keyspace.retained_from());
            for key in KEYS {
                let context = format!("{context}, keyspace {name}, key {key:?}");
                let found = told(&keyspace, key);
                for version in &found {
                    let ever = self.ever.contains(&(name, key.to_vec(), version.clone()));
                    assert!(ever, "{context}: {version:?} was never committed");
                }
                for version in model.history(key, floor) {
                    let is_there = found.contains(&version);
                    assert!(is_there || !kept(name, key, version.0), "{context}: {version:?} is lost");
                }
                for timestamp in floor..=self.last + 1 {
                    let newest = found.iter().find(|version| version.0 <= timestamp);
                    let value = newest.filter(|version| version.2.is_none_or(|expires| expires > timestamp));
                    let read = keyspace.get_at(key, timestamp).unwrap().map(Vec::from);
                    assert_eq!(read, value.and_then(|version| version.1.clone()), "{context} at {timestamp}");
                }
            }
        }
    }
}

pub(crate) fn repair(fs: &MemFs) -> strandline::Result<RepairReport> {
    small(fs).repair(DIR)
}

/// Everything that histories tell above the floors.
pub(crate) type Contents = BTreeSet<(&'static str, Key, Told)>;

pub(crate) fn contents(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for (name, retention) in KEYSPACES {
        let keyspace = db.keyspace_with(name, keyspace_options(retention)).unwrap();
        for key in KEYS {
            let above = told(&keyspace, key).into_iter().filter(|version| version.0 > keyspace.retained_from());
            contents.extend(above.map(|version| (name, key.to_vec(), version)));
        }
    }
    contents
}

/// Nothing is there that was not there before; but where a put is lost, the range delete of its batch shows.
pub(crate) fn nothing_new(after: &Contents, before: &Contents) -> bool {
    after.difference(before).all(|(name, key, (timestamp, value, _))| {
        let replaced = |(one, other, told): &(&str, Key, Told)| one == name && other == key && told.0 == *timestamp;
        value.is_none() && before.iter().any(replaced)
    })
}

/// Opens what was repaired: it must open, verify, and take commits.
pub(crate) fn reopened(fs: &MemFs, context: &str) -> Db {
    files::reopened(small(fs), context)
}

/// Commits something, compacts, and opens again: a repaired database is one like any other.
pub(crate) fn goes_on(fs: &MemFs, db: Db, context: &str) {
    let last = db.last_timestamp();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert!(keyspace.put("new", "value").unwrap() > last, "{context}");
    db.compact().unwrap();
    db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
    db.close().unwrap();
    drop((db, keyspace));
    let db = reopened(fs, context);
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("new").unwrap().as_deref(), Some(&b"value"[..]), "{context}");
    drop((db, keyspace));
    assert!(repair(fs).unwrap().healthy, "{context}");
}

pub(crate) fn everything(fs: &MemFs) -> BTreeMap<String, Vec<u8>> {
    names(fs, DIR).into_iter().map(|name| (name.clone(), fs.read_file(path(&name)).unwrap())).collect()
}
