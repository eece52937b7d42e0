//! What a repair makes of a database that is damaged: it opens, everything that is left in it is right, and what was
//! not lost is there.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::path::Path;

use strandline::fs::{Fault, FaultKind, PowerCut, Purpose};
use strandline::{
    CommitOptions, Db, Durability, Error, FaultFs, Fs, Keyspace, KeyspaceOptions, ManifestFound, MemFs, Options,
    RepairReport, Retention, WriteBatch,
};
use support::{Dice, KEYS, Key, Model, Op, Told, check_at, check_histories, settle, small, small_keyspace, told};

const DIR: &str = "db";

/// The keyspaces of every database here.
const KEYSPACES: [(&str, Retention); 3] =
    [("manual", Retention::Manual), ("window", Retention::Window(40)), ("latest", Retention::Latest)];

/// What was committed, and what of it had to be kept.
#[derive(Clone, Default)]
struct Life {
    models: BTreeMap<&'static str, Model>,
    /// Every batch: its timestamp, and per keyspace its operations.
    commits: Vec<(u64, Vec<(&'static str, Vec<Op>)>)>,
    floors: BTreeMap<&'static str, u64>,
    last: u64,
    /// What was ever committed, also what another commit at its timestamp has replaced.
    ever: BTreeSet<(&'static str, Key, Told)>,
}

fn keyspace_options(retention: Retention) -> KeyspaceOptions {
    small_keyspace().retention(retention)
}

fn open(options: Options) -> strandline::Result<(Db, BTreeMap<&'static str, Keyspace>)> {
    let db = options.open(DIR)?;
    let mut keyspaces = BTreeMap::new();
    for (name, retention) in KEYSPACES {
        keyspaces.insert(name, db.keyspace_with(name, keyspace_options(retention))?);
    }
    Ok((db, keyspaces))
}

/// How a life goes.
#[derive(Clone, Copy)]
struct Course {
    seed: u64,
    steps: u64,
    late: bool,
    /// Whether floors of `Manual` keyspaces rise.
    retain: bool,
    /// Whether it ends with a close.
    close: bool,
}

impl Course {
    const fn new(seed: u64) -> Self {
        Self { seed, steps: 120, late: false, retain: true, close: false }
    }

    /// Lives it, and leaves the files as they are then.
    fn live(self) -> (MemFs, Life) {
        let fs = MemFs::new();
        let life = self.live_in(&fs);
        (fs.kill(), life)
    }

    fn live_in(self, fs: &MemFs) -> Life {
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
    fn commit(&mut self, db: &Db, keyspaces: &BTreeMap<&'static str, Keyspace>, dice: &mut Dice, late: bool) {
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
    fn check_whole(&self, db: &Db, context: &str) {
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
    fn check_floors(&self, db: &Db, context: &str) {
        for (name, retention) in KEYSPACES {
            let keyspace = db.keyspace_with(name, keyspace_options(retention)).unwrap();
            assert_eq!(keyspace.retained_from(), self.floors[name], "{context}, keyspace {name}");
        }
    }

    /// What is there was committed, reads agree with it at every timestamp, and all is there that `kept` says.
    fn check_rest(&self, db: &Db, context: &str, kept: impl Fn(&str, &[u8], u64) -> bool) {
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

fn repair(fs: &MemFs) -> strandline::Result<RepairReport> {
    small(fs).repair(DIR)
}

/// Everything that histories tell above the floors.
type Contents = BTreeSet<(&'static str, Key, Told)>;

fn contents(db: &Db) -> Contents {
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
fn nothing_new(after: &Contents, before: &Contents) -> bool {
    after.difference(before).all(|(name, key, (timestamp, value, _))| {
        let replaced = |(one, other, told): &(&str, Key, Told)| one == name && other == key && told.0 == *timestamp;
        value.is_none() && before.iter().any(replaced)
    })
}

/// Opens what was repaired: it must open, verify, and take commits.
fn reopened(fs: &MemFs, context: &str) -> Db {
    let db = small(fs).open(DIR).unwrap_or_else(|error| panic!("{context}: {error}"));
    db.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
    db
}

/// Commits something, compacts, and opens again: a repaired database is one like any other.
fn goes_on(fs: &MemFs, db: Db, context: &str) {
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

fn names(fs: &MemFs, dir: &str) -> Vec<String> {
    let listed = fs.list(Purpose::Directory, Path::new(dir)).unwrap_or_default();
    listed.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name).collect()
}

fn of_kind(fs: &MemFs, extension: &str) -> Vec<String> {
    names(fs, DIR).into_iter().filter(|name| name.ends_with(extension)).collect()
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(DIR).join(name)
}

fn remove(fs: &MemFs, name: &str) {
    fs.remove(Purpose::Directory, &path(name)).unwrap();
    fs.sync_dir(Purpose::Directory, Path::new(DIR)).unwrap();
}

fn everything(fs: &MemFs) -> BTreeMap<String, Vec<u8>> {
    names(fs, DIR).into_iter().map(|name| (name.clone(), fs.read_file(path(&name)).unwrap())).collect()
}

/// Changes one byte.
fn flip(fs: &MemFs, name: &str, at: usize) {
    let mut bytes = fs.read_file(path(name)).unwrap();
    bytes[at] ^= 0x41;
    fs.write_file(path(name), bytes).unwrap();
}

// ---- nothing to do, nothing to be done ----

#[test]
fn a_healthy_database_is_left_as_it_is() {
    for seed in 0..20 {
        let (fs, life) = Course { close: seed % 2 == 0, late: seed % 3 == 0, ..Course::new(seed) }.live();
        let before = everything(&fs);
        let report = repair(&fs).unwrap();
        assert!(report.healthy, "seed {seed}: {report}");
        assert_eq!(report.manifest, ManifestFound::Whole);
        assert_eq!(report.keyspaces.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["latest", "manual", "window"]);
        assert!(report.lost.is_empty() && report.unknown.is_empty() && report.log_bytes_lost == 0);
        assert_eq!(everything(&fs), before, "seed {seed}");
        let db = reopened(&fs, "healthy");
        life.check_floors(&db, "healthy");
        life.check_whole(&db, "healthy");
    }
}

#[test]
fn where_there_is_no_database_nothing_is_touched() {
    let fs = MemFs::new();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    fs.create_dir(Purpose::Directory, Path::new(DIR)).unwrap();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    fs.write_file(path("notes.txt"), "mine").unwrap();
    assert!(matches!(repair(&fs), Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
    // Names alone are no database.
    for name in ["000001.table", "000002.log", "000003.manifest", "CURRENT"] {
        fs.write_file(path(name), "a file of somebody else, who likes such names").unwrap();
    }
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::Corruption { .. })));
    assert_eq!(everything(&fs), before);
    assert!(names(&fs, "db/lost").is_empty());
}

#[test]
fn nothing_that_can_be_read_is_an_error_and_nothing_is_moved() {
    let fs = Course::new(1).live().0;
    for name in names(&fs, DIR).into_iter().filter(|name| name != "CURRENT") {
        remove(&fs, &name);
    }
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::Corruption { .. })));
    let after: Vec<_> = everything(&fs).into_iter().filter(|(name, _)| name != "LOCK").collect();
    assert_eq!(after, before.into_iter().collect::<Vec<_>>());
}

#[test]
fn foreign_files_stay_where_they_are() {
    let (fs, life) = Course::new(2).live();
    let foreign = ["notes.txt", "7.table", "000012.table.bak", "00000a.log"];
    foreign.iter().for_each(|name| fs.write_file(path(name), *name).unwrap());
    fs.create_dir(Purpose::Directory, &path("999999.table")).unwrap();
    remove(&fs, "CURRENT");
    repair(&fs).unwrap();
    life.check_whole(&reopened(&fs, "foreign"), "foreign");
    for name in foreign {
        assert_eq!(fs.read_file(path(name)).unwrap(), name.as_bytes());
    }
    assert!(names(&fs, "db/lost").is_empty());
}

// S30
#[test]
fn an_open_database_is_locked() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    assert!(matches!(repair(&fs), Err(Error::Locked { .. })));
    db.close().unwrap();
    assert!(repair(&fs).unwrap().healthy);
    assert!(matches!(small(&fs).read_only(true).repair(DIR), Err(Error::ReadOnly)));
}

// S31
#[test]
fn a_newer_format_is_refused_by_name_and_nothing_is_touched() {
    let (fs, _) = Course::new(3).live();
    let name = of_kind(&fs, ".manifest").pop().unwrap();
    let mut bytes = fs.read_file(path(&name)).unwrap();
    let number: u64 = name.split_once('.').unwrap().0.parse().unwrap();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let mut sum = crc32c::crc32c(&[&number.to_le_bytes()[..], &0u64.to_le_bytes(), &[0x40]].concat());
    sum = crc32c::crc32c_append(sum, &bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    fs.write_file(path(&name), bytes).unwrap();
    let before = everything(&fs);
    assert!(matches!(repair(&fs), Err(Error::UnsupportedFormat { found: 99, .. })));
    assert_eq!(everything(&fs), before);
}

// ---- the manifest ----

#[test]
fn without_current_everything_is_there() {
    for seed in 100..130 {
        let (fs, life) = Course { late: seed % 2 == 0, close: seed % 3 == 0, ..Course::new(seed) }.live();
        let context = format!("seed {seed}");
        if seed % 5 == 0 {
            flip(&fs, "CURRENT", usize::try_from(seed % 24).unwrap());
        } else {
            remove(&fs, "CURRENT");
        }
        assert!(matches!(small(&fs).open(DIR), Err(Error::Corruption { .. })), "{context}");
        let report = repair(&fs).unwrap();
        assert!(!report.healthy && report.manifest == ManifestFound::Whole, "{context}: {report}");
        assert_eq!(report.lost.len(), usize::from(seed % 5 == 0), "{context}: {report}");
        let db = reopened(&fs, &context);
        life.check_whole(&db, &context);
        life.check_floors(&db, &context);
        goes_on(&fs, db, &context);
    }
}

/// Without late commits nothing that retention has dropped may come back, and nothing may be missing.
#[test]
fn without_a_manifest_everything_is_there() {
    for seed in 200..260 {
        let (fs, life) = Course { close: seed % 3 == 0, steps: 40 + seed % 7 * 40, ..Course::new(seed) }.live();
        let context = format!("seed {seed}");
        of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
        let report = repair(&fs).unwrap();
        assert_eq!(report.manifest, ManifestFound::Lost, "{context}: {report}");
        assert!(report.keyspaces.iter().all(|keyspace| !keyspace.invented), "{context}: {report}");
        let db = reopened(&fs, &context);
        life.check_whole(&db, &context);
        goes_on(&fs, db, &context);
    }
}

#[test]
fn with_late_commits_and_without_a_manifest_everything_is_there_that_no_other_has_replaced() {
    for seed in 300..340 {
        let (fs, life) = Course { late: true, ..Course::new(seed) }.live();
        of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
        repair(&fs).unwrap();
        let context = format!("seed {seed}");
        let db = reopened(&fs, &context);
        let mut times = BTreeMap::new();
        life.ever.iter().for_each(|(name, key, told)| *times.entry((*name, key.clone(), told.0)).or_insert(0) += 1);
        life.check_rest(&db, &context, |name, key, timestamp| {
            times
                .iter()
                .any(|((one, other, at), times)| *one == name && other == key && *at == timestamp && *times == 1)
        });
        goes_on(&fs, db, &context);
    }
}

#[test]
fn a_damaged_or_shortened_manifest_takes_nothing_along() {
    for seed in 400..412 {
        let (fs, life) = Course { close: seed % 2 == 0, ..Course::new(seed) }.live();
        let name = of_kind(&fs, ".manifest").pop().unwrap();
        let bytes = fs.read_file(path(&name)).unwrap();
        let mut dice = Dice::new(seed);
        for round in 0..40 {
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let context = format!("seed {seed}, round {round}, at {at} of {} bytes", bytes.len());
            let image = fs.kill();
            match round % 3 {
                0 => image.write_file(path(&name), &bytes[..at]).unwrap(),
                1 => flip(&image, &name, at),
                _ => {
                    let end = bytes.len().min(at + 200);
                    image.write_file(path(&name), [&bytes[..at], &vec![0; end - at], &bytes[end..]].concat()).unwrap();
                }
            }
            if round % 5 == 0 {
                remove(&image, "CURRENT");
            }
            let report = repair(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            let db = reopened(&image, &context);
            life.check_whole(&db, &format!("{context}: {report}"));
            if !report.healthy && report.manifest == ManifestFound::Damaged {
                assert!(report.unknown.iter().any(|line| line.contains("manifest")), "{context}: {report}");
            }
            if round % 8 == 0 {
                goes_on(&image, db, &context);
            }
        }
    }
}

#[test]
fn dropped_keyspaces_stay_dropped_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let options = || keyspace_options(Retention::Manual);
    for (name, value) in [("gone", "old"), ("anew", "old"), ("kept", "old")] {
        let keyspace = db.keyspace_with(name, options()).unwrap();
        keyspace.put("a", value).unwrap();
        keyspace.put("b", value).unwrap();
    }
    db.drop_keyspace("gone").unwrap();
    db.drop_keyspace("anew").unwrap();
    db.keyspace_with("anew", options()).unwrap().put("a", "new").unwrap();
    std::mem::forget(db);
    let fs = fs.kill();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    assert_eq!(db.keyspace_names(), ["anew", "kept"]);
    let anew = db.keyspace_with("anew", options()).unwrap();
    assert_eq!(anew.get("a").unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(anew.get("b").unwrap(), None);
}

/// Tables that were not removed yet must not bring back what the compaction that replaced them has dropped: with the
/// tombstone gone, nothing would hide it any more.
#[test]
fn tables_that_others_have_replaced_stay_dead_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    keyspace.put("a", "dead").unwrap();
    keyspace.put("b", "alive").unwrap();
    db.flush().unwrap();
    let old = of_kind(&fs, ".table").pop().unwrap();
    let bytes = fs.read_file(path(&old)).unwrap();
    keyspace.delete("a").unwrap();
    keyspace.put("c", "alive").unwrap();
    db.flush().unwrap();
    db.retain_from(db.last_timestamp()).unwrap();
    db.compact().unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    assert!(!of_kind(&fs, ".table").contains(&old));
    fs.write_file(path(&old), bytes).unwrap();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    of_kind(&fs, ".log").iter().for_each(|name| remove(&fs, name));
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
    assert_eq!(keyspace.iter().count(), 2);
    assert_eq!(keyspace.retained_from(), 4);
}

/// The same where no table is left that tells of it, but the manifest does.
#[test]
fn tables_that_the_manifest_has_taken_out_stay_dead_though_its_end_is_damaged() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    keyspace.put("a", "dead").unwrap();
    db.flush().unwrap();
    let old = of_kind(&fs, ".table").pop().unwrap();
    let bytes = fs.read_file(path(&old)).unwrap();
    keyspace.delete("a").unwrap();
    db.flush().unwrap();
    db.retain_from(2).unwrap();
    db.compact().unwrap();
    assert!(of_kind(&fs, ".table").is_empty());
    db.close_until(10).unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    fs.write_file(path(&old), bytes).unwrap();
    let manifest = of_kind(&fs, ".manifest").pop().unwrap();
    let len = fs.read_file(path(&manifest)).unwrap().len();
    flip(&fs, &manifest, len - 1);
    let report = repair(&fs).unwrap();
    assert_eq!(report.manifest, ManifestFound::Damaged, "{report}");
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
    assert_eq!(db.closed_timestamp(), 10);
}

// S11, S12, S29
#[test]
fn what_only_rises_does_not_fall_without_a_manifest() {
    let fs = MemFs::new();
    let db = small(&fs).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    (0..30).for_each(|_| _ = keyspace.put("a", "value").unwrap());
    db.flush().unwrap();
    // Nothing is written by the floor, and nothing at the time that is closed.
    db.retain_from(20).unwrap();
    db.close_until(1000).unwrap();
    let numbers = names(&fs, DIR).into_iter().filter_map(|name| name.split_once('.')?.0.parse::<u64>().ok());
    let highest = numbers.max().unwrap();
    std::mem::forget((db, keyspace));
    let fs = fs.kill();
    of_kind(&fs, ".manifest").iter().for_each(|name| remove(&fs, name));
    repair(&fs).unwrap();
    let new = names(&fs, DIR).into_iter().find(|name| name.ends_with(".manifest")).unwrap();
    assert!(new.split_once('.').unwrap().0.parse::<u64>().unwrap() > highest);
    let db = reopened(&fs, "rises");
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!((keyspace.retained_from(), db.closed_timestamp()), (20, 1000));
    assert!(keyspace.put("b", "value").unwrap() > 1000);
}

// ---- tables ----

/// Whether a lost table may have held a version.
fn may_have_held(report: &RepairReport, name: &str, key: &[u8], timestamp: u64) -> bool {
    report.lost.iter().filter_map(|file| file.table.as_ref()).any(|table| {
        let keys = (table.keys.0.as_ref().map(|key| &key[..]), table.keys.1.as_ref().map(|key| &key[..]));
        table.keyspace == name
            && RangeBounds::<[u8]>::contains(&keys, key)
            && (table.timestamps.0..=table.timestamps.1).contains(&timestamp)
    })
}

#[test]
fn what_a_lost_table_did_not_hold_is_there_and_nothing_dropped_comes_back() {
    for seed in 500..560 {
        let (fs, life) = Course { late: seed % 3 == 0, close: seed % 2 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        let tables = of_kind(&fs, ".table");
        if tables.is_empty() {
            continue;
        }
        for round in 0..4 {
            let image = fs.kill();
            let victim = &tables[usize::try_from(dice.below(tables.len() as u64)).unwrap()];
            let context = format!("seed {seed}, round {round}, {victim}");
            remove(&image, victim);
            let report = repair(&image).unwrap();
            let context = format!("{context}: {report}");
            let db = reopened(&image, &context);
            if report.healthy {
                continue; // An orphan.
            }
            assert_eq!(report.lost.len(), 1, "{context}");
            assert_eq!((&report.lost[0].file, &report.lost[0].moved_to), (victim, &None), "{context}");
            life.check_floors(&db, &context);
            life.check_rest(&db, &context, |name, key, timestamp| !may_have_held(&report, name, key, timestamp));
            // What a late commit had replaced may come back with its loss.
            assert!(seed % 3 == 0 || nothing_new(&contents(&db), &before), "{context}");
            goes_on(&image, db, &context);
        }
    }
}

#[test]
fn of_a_damaged_table_all_is_kept_that_can_be_read() {
    let mut salvaged = 0;
    for seed in 600..640 {
        let (fs, life) = Course { late: seed % 3 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        let tables = of_kind(&fs, ".table");
        if tables.is_empty() {
            continue;
        }
        for round in 0..6 {
            let image = fs.kill();
            let victim = &tables[usize::try_from(dice.below(tables.len() as u64)).unwrap()];
            let bytes = image.read_file(path(victim)).unwrap();
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let context = format!("seed {seed}, round {round}, {victim} at {at} of {}", bytes.len());
            flip(&image, victim, at);
            let damaged = image.read_file(path(victim)).unwrap();
            let report = repair(&image).unwrap();
            let context = format!("{context}: {report}");
            let db = reopened(&image, &context);
            if report.healthy {
                continue; // An orphan.
            }
            assert_eq!(report.lost.len(), 1, "{context}");
            assert_eq!(report.lost[0].moved_to.as_deref(), Some(&victim[..]), "{context}");
            assert_eq!(image.read_file(Path::new("db/lost").join(victim)).unwrap(), damaged, "{context}");
            assert!(!names(&image, DIR).contains(victim), "{context}");
            salvaged += report.lost[0].table.as_ref().unwrap().versions_kept;
            life.check_floors(&db, &context);
            life.check_rest(&db, &context, |name, key, timestamp| !may_have_held(&report, name, key, timestamp));
            assert!(seed % 3 == 0 || nothing_new(&contents(&db), &before), "{context}");
            goes_on(&image, db, &context);
        }
    }
    assert!(salvaged > 500, "{salvaged}");
}

#[test]
fn one_damaged_block_costs_its_own_rows_only() {
    let fs = MemFs::new();
    let db = small(&fs).memtable_bytes(1 << 20).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let mut batch = WriteBatch::new();
    (0..1000).for_each(|n| batch.put(&keyspace, format!("key {n:04}"), format!("value {n}")));
    db.commit(batch).unwrap();
    keyspace.put("key 0500", "newer").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    drop((db, keyspace));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    of_kind(&fs, ".log").iter().for_each(|name| drop(fs.read_file(path(name)).unwrap()));
    flip(&fs, &victim, 4000);
    let report = repair(&fs).unwrap();
    let lost = report.lost[0].table.as_ref().unwrap();
    assert_eq!(lost.versions, 1001);
    // The log may still have it all.
    assert!(lost.versions_kept > 900 || report.log_records_kept > 0, "{report}");
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert!(keyspace.iter().count() > 900);
}

/// The newest table is lost, and the log still has what was in it.
#[test]
fn what_is_still_in_the_log_comes_back_from_there() {
    let fs = MemFs::new();
    let db = small(&fs).wal_bytes(1 << 20).wal_segment_bytes(1 << 20).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", keyspace_options(Retention::Manual)).unwrap();
    other.put("holds", "the log").unwrap();
    (0..20).for_each(|n| _ = keyspace.put(format!("{n}"), "value").unwrap());
    keyspace.compact(..).unwrap();
    keyspace.put("later", "value").unwrap();
    db.close().unwrap();
    drop((db, keyspace, other));
    let tables = of_kind(&fs, ".table");
    for damage in [true, false] {
        let image = fs.kill();
        for victim in &tables {
            if damage { flip(&image, victim, 10) } else { remove(&image, victim) }
        }
        let report = repair(&image).unwrap();
        let db = reopened(&image, &report.to_string());
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        assert_eq!(keyspace.iter().count(), 21, "{report}");
    }
}

/// With late commits the log may hold what something has hidden that it does not hold: from there nothing is taken that
/// tables have covered.
#[test]
fn a_late_commit_that_was_hidden_does_not_come_back_from_the_log() {
    let fs = MemFs::new();
    let db = small(&fs).wal_bytes(1 << 20).wal_segment_bytes(1 << 20).late_commits(true).open(DIR).unwrap();
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let other = db.keyspace_with("other", keyspace_options(Retention::Manual)).unwrap();
    let at = |timestamp: u64, fill: &dyn Fn(&mut WriteBatch)| {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        db.commit_with(batch, CommitOptions::new().at(timestamp)).unwrap();
    };
    at(10, &|batch| batch.delete(&keyspace, "a"));
    db.flush().unwrap();
    at(11, &|batch| batch.put(&other, "holds", "the log"));
    at(5, &|batch| batch.put(&keyspace, "a", "dead"));
    at(12, &|batch| batch.put(&keyspace, "b", "alive"));
    db.retain_from(12).unwrap();
    keyspace.compact(..).unwrap();
    assert_eq!((keyspace.get("a").unwrap(), keyspace.iter().count()), (None, 1));
    let victim = of_kind(&fs, ".table").pop().unwrap();
    std::mem::forget((keyspace, other));
    std::mem::forget(db);
    let fs = fs.kill();
    remove(&fs, &victim);
    let report = repair(&fs).unwrap();
    let db = reopened(&fs, &report.to_string());
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    assert_eq!(keyspace.get("a").unwrap(), None, "{report}");
}

// ---- the log ----

/// Every commit that touched `manual` is there whole or not at all; returns how many are not.
fn lost_commits(life: &Life, db: &Db, context: &str) -> usize {
    let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
    let mut lost = 0;
    for (timestamp, parts) in &life.commits {
        if !parts.iter().any(|(name, _)| *name == "manual") {
            continue;
        }
        let model = &life.models["manual"];
        let touched = KEYS
            .into_iter()
            .filter(|key| model.history(key, timestamp - 1).iter().any(|version| version.0 == *timestamp));
        let there: Vec<bool> = touched.map(|key| keyspace.has_version(key, *timestamp).unwrap()).collect();
        assert!(there.iter().all(|one| *one == there[0]), "{context}: commit {timestamp} is torn: {there:?}");
        lost += usize::from(there.first() == Some(&false));
    }
    lost
}

#[test]
fn one_flipped_byte_of_the_log_costs_one_commit_at_most() {
    let mut repaired = 0;
    for seed in 700..740 {
        let (fs, life) = Course { retain: false, close: seed % 2 == 0, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        let mut dice = Dice::new(seed);
        for round in 0..12 {
            let image = fs.kill();
            let segments = of_kind(&image, ".log");
            let victim = &segments[usize::try_from(dice.below(segments.len() as u64)).unwrap()];
            let len = image.read_file(path(victim)).unwrap().len();
            let at = usize::try_from(if dice.one_in(4) { dice.below(66) } else { dice.below(len as u64) }).unwrap();
            let context = format!("seed {seed}, round {round}, {victim} at {at} of {len}");
            flip(&image, victim, at.min(len - 1));
            let opens = small(&image.kill()).open(DIR).and_then(|db| db.verify()).is_ok();
            let report = repair(&image).unwrap_or_else(|error| panic!("{context}: {error}"));
            let context = format!("{context}: {report}");
            assert_eq!(report.healthy, opens, "{context}");
            let db = reopened(&image, &context);
            life.check_floors(&db, &context);
            if !opens {
                repaired += 1;
                let lost = lost_commits(&life, &db, &context);
                assert!(lost <= 1, "{context}: {lost} commits lost");
                assert!(lost == 0 || report.log_bytes_lost > 0, "{context}");
                assert!(report.lost.iter().any(|file| file.file == *victim), "{context}");
                assert!(nothing_new(&contents(&db), &before), "{context}");
                let rest = before.difference(&contents(&db)).map(|(.., told)| told.0).collect::<BTreeSet<_>>();
                assert!(rest.len() <= 1, "{context}: {rest:?}");
            }
            goes_on(&image, db, &context);
        }
    }
    assert!(repaired > 50, "{repaired}");
}

#[test]
fn a_missing_segment_takes_its_own_commits_along() {
    let mut repaired = 0;
    for seed in 800..840 {
        let (fs, life) = Course { retain: false, close: true, steps: 200, ..Course::new(seed) }.live();
        let before = contents(&small(&fs.kill()).open(DIR).unwrap());
        for victim in of_kind(&fs, ".log") {
            let image = fs.kill();
            remove(&image, &victim);
            let opens = small(&image.kill()).open(DIR).and_then(|db| db.verify()).is_ok();
            let report = repair(&image).unwrap();
            let context = format!("seed {seed}, without {victim}: {report}");
            assert_eq!(report.healthy, opens, "{context}");
            let db = reopened(&image, &context);
            if !opens {
                repaired += 1;
                assert!(report.log_bytes_lost > 0, "{context}");
                assert!(report.unknown.iter().any(|line| line.contains("no segment")), "{context}");
                lost_commits(&life, &db, &context);
                assert!(nothing_new(&contents(&db), &before), "{context}");
            }
            goes_on(&image, db, &context);
        }
    }
    assert!(repaired > 20, "{repaired}");
}

/// What a power cut tore, and a recovery cut off, does not come back: other commits have its timestamps.
#[test]
fn a_tail_that_was_cut_off_stays_dead_without_a_manifest() {
    for seed in 850..900 {
        let memory = MemFs::new();
        let mut dice = Dice::new(seed);
        let options = |fs: &MemFs| small(fs).wal_bytes(1 << 20).memtable_bytes(1 << 20);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..40 {
            let durability = if dice.one_in(10) { Durability::Synced } else { Durability::Buffered };
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, format!("{n:02}"), "first life");
            db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        }
        std::mem::forget((db, keyspace));
        let memory = memory.power_cut(seed);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in keyspace.iter().count()..40 {
            keyspace.put(format!("{n:02}"), "second life").unwrap();
        }
        db.sync().unwrap();
        let expected: Vec<_> = support::pairs(keyspace.iter());
        std::mem::forget((db, keyspace));
        let memory = memory.kill();
        of_kind(&memory, ".manifest").iter().for_each(|name| remove(&memory, name));
        let report = repair(&memory).unwrap();
        let context = format!("seed {seed}: {report}");
        let db = reopened(&memory, &context);
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        assert_eq!(support::pairs(keyspace.iter()), expected, "{context}");
        assert_eq!(db.last_timestamp(), 40, "{context}");
        assert!((0..40).all(|n| told(&keyspace, format!("{n:02}").as_bytes()).len() == 1), "{context}");
    }
}

/// Records behind a torn one were never known to be durable: without a manifest as with it, they are no commits.
#[test]
fn what_a_power_cut_tore_is_no_commit_without_a_manifest_either() {
    let mut torn = 0;
    for seed in 900..960 {
        let memory = MemFs::new();
        let mut dice = Dice::new(seed);
        let db = small(&memory).wal_bytes(1 << 20).memtable_bytes(1 << 20).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..40 {
            let durability = if dice.one_in(10) { Durability::Synced } else { Durability::Buffered };
            let mut batch = WriteBatch::new();
            batch.put(&keyspace, format!("{n:02}"), "value".repeat(30));
            db.commit_with(batch, CommitOptions::new().durability(durability)).unwrap();
        }
        std::mem::forget((db, keyspace));
        let memory = memory.power_cut(seed);
        let there = |db: &Db| {
            let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
            support::pairs(keyspace.iter())
        };
        let expected = there(&small(&memory.kill()).open(DIR).unwrap());
        of_kind(&memory, ".manifest").iter().for_each(|name| remove(&memory, name));
        let report = match repair(&memory) {
            Ok(report) => report,
            Err(error) => {
                assert!(expected.is_empty(), "seed {seed}: {error}");
                continue;
            }
        };
        let db = reopened(&memory, &format!("seed {seed}: {report}"));
        assert_eq!(there(&db), expected, "seed {seed}: {report}");
        torn += u64::from(report.lost.iter().any(|file| file.reason.contains("torn")));
    }
    assert!(torn > 5, "{torn}");
}

/// An opening copies the tail of the log to new segments before it says so: whatever of that was written, and whether
/// the manifest is lost then or not, no commit is.
#[test]
fn an_opening_that_ends_at_any_call_loses_nothing_without_a_manifest() {
    for seed in 960..964 {
        let memory = MemFs::new();
        let options = |fs: &MemFs| small(fs).wal_bytes(1 << 20).memtable_bytes(1 << 20);
        let db = options(&memory).open(DIR).unwrap();
        let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
        for n in 0..60 {
            keyspace.put(format!("{n:02}"), "value".repeat(20)).unwrap();
            if n == 5 + seed % 3 * 20 {
                db.sync().unwrap();
            }
        }
        std::mem::forget((db, keyspace));
        let memory = memory.kill();
        let counting = FaultFs::new(memory.kill());
        std::mem::forget(options(&memory).fs(counting.clone()).open(DIR).unwrap());
        for call in 0..=counting.calls() {
            let image = memory.kill();
            let failing = FaultFs::new(image.clone());
            let kind = FaultKind::StorageFull;
            failing.inject(Fault { purpose: None, operation: None, nth: call, kind, repeat: true });
            std::mem::forget(options(&image).fs(failing).open(DIR));
            let image = image.kill();
            of_kind(&image, ".manifest").iter().for_each(|name| remove(&image, name));
            let report = repair(&image).unwrap();
            let context = format!("seed {seed}, call {call} of {}: {report}", counting.calls());
            let db = reopened(&image, &context);
            let keyspace = db.keyspace_with("manual", keyspace_options(Retention::Manual)).unwrap();
            assert_eq!(keyspace.iter().count(), 60, "{context}");
            assert!((0..60).all(|n| told(&keyspace, format!("{n:02}").as_bytes()).len() == 1), "{context}");
        }
    }
}

// ---- everything at once, and crashes ----

/// Damages some files, one way or another.
fn storm(fs: &MemFs, dice: &mut Dice) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..=dice.below(4) {
        let files: Vec<_> = names(fs, DIR).into_iter().filter(|name| name != "LOCK").collect();
        let victim = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let mut bytes = fs.read_file(path(victim)).unwrap();
        let at = usize::try_from(dice.below(bytes.len().max(1) as u64)).unwrap();
        let how = dice.below(4);
        match how {
            0 => remove(fs, victim),
            1 => fs.write_file(path(victim), &bytes[..at]).unwrap(),
            2 => {
                let end = bytes.len().min(at + 1 + usize::try_from(dice.below(600)).unwrap());
                bytes[at..end].fill(0);
                fs.write_file(path(victim), bytes).unwrap();
            }
            _ if !bytes.is_empty() => flip(fs, victim, at),
            _ => {}
        }
        done.push(format!("{victim}: {how} at {at}"));
    }
    done
}

#[test]
fn whatever_is_damaged_the_rest_is_right() {
    for seed in 1000..1250 {
        let course = Course { late: seed % 4 == 0, close: seed % 2 == 0, retain: seed % 3 != 0, ..Course::new(seed) };
        let (fs, life) = course.live();
        let mut dice = Dice::new(seed);
        let damage = storm(&fs, &mut dice);
        // What a torn log ends with is lost to an opening too.
        let in_log = damage.iter().any(|file| file.contains(".log"));
        let context = format!("seed {seed}, {damage:?}");
        let before = everything(&fs);
        let report = match repair(&fs) {
            Ok(report) => report,
            Err(Error::Corruption { .. }) => continue, // Nothing is left.
            Err(error) => panic!("{context}: {error}"),
        };
        let context = format!("{context}: {report}");
        for name in report.lost.iter().filter_map(|file| file.moved_to.as_ref()) {
            assert_eq!(fs.read_file(Path::new("db/lost").join(name)).unwrap(), before[name], "{context}");
        }
        assert!(repair(&fs).unwrap().healthy, "{context}");
        let db = reopened(&fs, &context);
        for name in db.keyspace_names().iter().filter(|name| name.starts_with("recovered-")) {
            assert!(report.keyspaces.iter().any(|one| one.invented && one.name == *name), "{context}");
        }
        if db.keyspace_names().len() == 3 && report.keyspaces.iter().all(|one| !one.invented) {
            life.check_rest(&db, &context, |_, _, _| report.healthy && !in_log);
        }
        goes_on(&fs, db, &context);
    }
}

/// What is damaged before a repair that does not come to its end.
fn damages(fs: &MemFs, way: u64) {
    let tables = of_kind(fs, ".table");
    match way {
        0 => remove(fs, "CURRENT"),
        1 => of_kind(fs, ".manifest").iter().for_each(|name| remove(fs, name)),
        2 => {
            let name = of_kind(fs, ".manifest").pop().unwrap();
            let middle = fs.read_file(path(&name)).unwrap().len() * 3 / 4;
            flip(fs, &name, middle);
        }
        3 => tables.iter().step_by(2).for_each(|name| flip(fs, name, 30)),
        4 => of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 120)),
        5 => of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 20)),
        6 => {
            remove(fs, "CURRENT");
            of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 300));
            tables.iter().take(1).for_each(|name| remove(fs, name));
        }
        _ => {
            of_kind(fs, ".manifest").iter().for_each(|name| remove(fs, name));
            of_kind(fs, ".log").iter().for_each(|name| flip(fs, name, 200));
            tables.iter().take(1).for_each(|name| flip(fs, name, 40));
        }
    }
}

/// The files that a repair had put aside, by content.
fn put_aside(fs: &MemFs) -> BTreeSet<Vec<u8>> {
    let kept = names(fs, "db/lost").into_iter().filter(|name| !name.ends_with(".tmp"));
    kept.map(|name| fs.read_file(Path::new("db/lost").join(name)).unwrap()).collect()
}

fn interrupted(kind: FaultKind, repeat: bool, ways: std::ops::Range<u64>) {
    for way in ways {
        for seed in 0..3 {
            let (fs, _) = Course { steps: 90, close: true, ..Course::new(2000 + seed) }.live();
            damages(&fs, way);
            let whole = fs.kill();
            repair(&whole).unwrap();
            let expected = contents(&reopened(&whole, "not interrupted"));
            let aside = put_aside(&whole);
            let counting = FaultFs::new(fs.kill());
            small(&fs).fs(counting.clone()).repair(DIR).unwrap();
            let mut dice = Dice::new(seed);
            let step = if repeat { 1 + counting.calls() / 60 } else { 1 + counting.calls() / 40 };
            let mut call = dice.below(step);
            while call < counting.calls() {
                let memory = fs.kill();
                let failing = FaultFs::new(memory.clone());
                failing.inject(Fault { purpose: None, operation: None, nth: call, kind, repeat });
                let failed = small(&memory).fs(failing).repair(DIR);
                for cut in 0..4 {
                    let image = match cut {
                        0 => memory.kill(),
                        1 => memory.power_cut(PowerCut::Lose),
                        2 => memory.power_cut(PowerCut::Keep),
                        _ => memory.power_cut(seed * 1000 + call),
                    };
                    let context = format!("way {way}, seed {seed}, call {call} of {}, cut {cut}", counting.calls());
                    let report = match repair(&image) {
                        Ok(report) => report,
                        Err(error) => panic!("{context}: {failed:?}, then {error}"),
                    };
                    let db = reopened(&image, &context);
                    assert_eq!(contents(&db), expected, "{context}: {report}");
                    assert!(put_aside(&image).is_superset(&aside), "{context}: {report}");
                    if call.is_multiple_of(7) && cut == 3 {
                        goes_on(&image, db, &context);
                    }
                }
                call += 1 + dice.below(step);
            }
        }
    }
}

/// Damaged files whose removal was not durable do no harm to the database that was repaired.
#[test]
fn a_power_cut_after_a_repair_changes_nothing() {
    for way in 0..8 {
        for seed in 0..8 {
            let (fs, _) = Course { close: true, ..Course::new(2500 + seed) }.live();
            damages(&fs, way);
            repair(&fs).unwrap();
            let expected = contents(&reopened(&fs.kill(), "no power cut"));
            for cut in [PowerCut::Lose, PowerCut::Keep, PowerCut::Random(seed), PowerCut::Random(seed + 100)] {
                let context = format!("way {way}, seed {seed}, {cut:?}");
                let image = fs.power_cut(cut);
                let db = reopened(&image, &context);
                assert_eq!(contents(&db), expected, "{context}");
                goes_on(&image, db, &context);
            }
        }
    }
}

#[test]
fn a_repair_that_ends_at_any_call_can_be_done_again() {
    interrupted(FaultKind::StorageFull, true, 0..4);
}

#[test]
fn a_repair_of_more_damage_that_ends_at_any_call_can_be_done_again() {
    interrupted(FaultKind::StorageFull, true, 4..8);
}

// S24
#[test]
fn any_single_call_of_a_repair_may_fail() {
    interrupted(FaultKind::Io, false, 0..8);
}

// S26
#[test]
fn on_a_full_disk_a_repair_fails_and_nothing_is_lost() {
    for way in 0..8 {
        let (fs, _) = Course { close: true, ..Course::new(3000 + way) }.live();
        damages(&fs, way);
        let whole = fs.kill();
        repair(&whole).unwrap();
        let expected = contents(&reopened(&whole, "with room"));
        let before = everything(&fs);
        fs.set_capacity(Some(0));
        match repair(&fs) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
            other => panic!("way {way}: {other:?}"),
        }
        assert_eq!(
            everything(&fs).into_iter().filter(|(name, _)| before.contains_key(name)).collect::<BTreeMap<_, _>>(),
            before
        );
        fs.set_capacity(None);
        repair(&fs).unwrap();
        assert_eq!(contents(&reopened(&fs, "afterwards")), expected, "way {way}");
    }
}

#[test]
fn a_name_that_is_taken_in_lost_gets_a_suffix() {
    let (fs, _) = Course::new(5).live();
    let victim = of_kind(&fs, ".table").pop().unwrap();
    flip(&fs, &victim, 30);
    fs.write_file(Path::new("db/lost").join(&victim), "something else").unwrap();
    let report = repair(&fs).unwrap();
    let moved = report.lost[0].moved_to.clone().unwrap();
    assert_eq!(moved, format!("{victim}.1"));
    assert_eq!(fs.read_file(Path::new("db/lost").join(&victim)).unwrap(), b"something else");
    assert!(names(&fs, "db/lost").contains(&moved));
    // A number that leaves none above it keeps a database from opening.
    drop(reopened(&fs, "suffix"));
    fs.write_file(path("18446744073709551615.table"), "x").unwrap();
    assert!(small(&fs).open(DIR).is_err());
    let report = repair(&fs).unwrap();
    assert_eq!(report.lost[0].file, "18446744073709551615.table");
    drop(reopened(&fs, "beyond"));
}

#[test]
fn on_the_systems_files_a_database_is_repaired_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.put("a", "1").unwrap();
    db.flush().unwrap();
    keyspace.put("b", "2").unwrap();
    db.close().unwrap();
    drop((db, keyspace));
    assert!(Db::repair(&path).unwrap().healthy);
    std::fs::write(path.join("CURRENT"), "x").unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".manifest") {
            std::fs::remove_file(path.join(name)).unwrap();
        }
    }
    let report = Db::repair(&path).unwrap();
    assert_eq!(report.manifest, ManifestFound::Lost);
    assert!(path.join("lost").join("CURRENT").exists());
    let keyspace = Db::open(&path).unwrap().keyspace("k").unwrap();
    assert_eq!(keyspace.iter().count(), 2);
}
