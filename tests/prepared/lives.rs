//! Random lives of prepared transactions beside a plain model, with restarts, and with crashes at any call of the disk.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strandline::fs::{Fault, FaultKind};
use strandline::{
    CommitOptions, Db, Durability, Error, FaultFs, Isolation, Keyspace, MemFs, Outcome, Result, WriteBatch,
};

use super::options;

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const KEYS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];

/// What is in doubt: what it will write, and what it has read and keeps.
#[derive(Debug, Clone, PartialEq, Default)]
struct InDoubt {
    writes: BTreeMap<&'static str, Option<String>>,
    reads: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    data: BTreeMap<&'static str, String>,
    in_doubt: BTreeMap<&'static str, InDoubt>,
    aborted: BTreeMap<&'static str, bool>,
}

impl Model {
    fn is_locked(&self, key: &str, for_reading: bool) -> bool {
        let locks = |one: &InDoubt| one.writes.contains_key(key) || (!for_reading && one.reads.contains(key));
        self.in_doubt.values().any(locks)
    }

    fn write(&mut self, key: &'static str, value: Option<String>) {
        match value {
            Some(value) => drop(self.data.insert(key, value)),
            None => drop(self.data.remove(key)),
        }
    }

    fn decide(&mut self, id: &'static str, commit: bool) {
        let Some(one) = self.in_doubt.remove(id) else { return };
        if commit {
            one.writes.into_iter().for_each(|(key, value)| self.write(key, value));
        }
        self.aborted.insert(id, !commit);
    }

    /// What a database holds.
    fn of(db: &Db, ks: &Keyspace) -> Self {
        let mut found = Self::default();
        for item in ks.iter() {
            let (key, value) = item.unwrap();
            let key = KEYS.into_iter().find(|one| key == *one).unwrap();
            found.data.insert(key, String::from_utf8(value.to_vec()).unwrap());
        }
        for id in IDS {
            if db.prepared().iter().any(|one| one.id == id) {
                found.in_doubt.insert(id, InDoubt::default());
            }
            let outcome = db.prepared_outcome(id);
            outcome.into_iter().for_each(|outcome| _ = found.aborted.insert(id, outcome == Outcome::Aborted));
        }
        found
    }

    /// As far as a database shows.
    fn shown(&self) -> Self {
        let in_doubt = self.in_doubt.keys().map(|id| (*id, InDoubt::default())).collect();
        Self { in_doubt, ..self.clone() }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(&'static str, Option<String>),
    Prepare(&'static str, InDoubt),
    Decide(&'static str, bool),
    Forget(&'static str),
    Flush,
    Compact,
    Background,
}

fn pick<T: Copy>(dice: &mut StdRng, all: &[T]) -> T {
    all[dice.random_range(0..all.len())]
}

fn random_step(dice: &mut StdRng) -> Step {
    let value = |dice: &mut StdRng| {
        let long = "v".repeat(pick(dice, &[1, 20, 500]));
        (dice.random_range(0..4) > 0).then(|| format!("{}{long}", dice.random_range(0..1000)))
    };
    match dice.random_range(0..20) {
        0..6 => Step::Write(pick(dice, &KEYS), value(dice)),
        6..11 => {
            let mut one = InDoubt::default();
            for _ in 0..dice.random_range(1..3) {
                one.writes.insert(pick(dice, &KEYS), value(dice));
            }
            for _ in 0..dice.random_range(0..3) {
                let key = pick(dice, &KEYS);
                // What was written before it is read is not looked up.
                if !one.writes.contains_key(key) {
                    one.reads.insert(key);
                }
            }
            Step::Prepare(pick(dice, &IDS), one)
        }
        11..15 => Step::Decide(pick(dice, &IDS), dice.random_range(0..3) > 0),
        15..17 => Step::Forget(pick(dice, &IDS)),
        17 => Step::Flush,
        18 => Step::Compact,
        _ => Step::Background,
    }
}

/// Does it; what the model says must happen does. An `Err` is the disk's.
fn run(db: &Db, ks: &Keyspace, step: &Step, model: &mut Model) -> Result<()> {
    let is_disk = |error: &Error| matches!(error, Error::Io { .. } | Error::Background(_));
    let must_fail = |result: Result<()>, fails: fn(&Error) -> bool| match result {
        Err(error) if is_disk(&error) => Err(error),
        Err(error) if fails(&error) => Ok(()),
        other => panic!("{step:?} gave {other:?}"),
    };
    let is_busy = |error: &Error| matches!(error, Error::Busy { .. });
    match step.clone() {
        Step::Write(key, value) => {
            let mut batch = WriteBatch::new();
            match &value {
                Some(value) => batch.put(ks, key, value),
                None => batch.delete(ks, key),
            }
            let written = db.commit_with(batch, CommitOptions::new().durability(Durability::Synced)).map(drop);
            if model.is_locked(key, false) {
                return must_fail(written, is_busy);
            }
            model.write(key, value);
            written
        }
        Step::Prepare(id, one) => {
            let isolation = if one.reads.is_empty() { Isolation::Snapshot } else { Isolation::Serializable };
            let mut tx = db.begin(isolation)?;
            one.reads.iter().try_for_each(|key| tx.get(ks, key).map(drop))?;
            for (key, value) in &one.writes {
                match value {
                    Some(value) => tx.put(ks, key, value)?,
                    None => tx.delete(ks, key)?,
                }
            }
            let prepared = tx.prepare(id).map(drop);
            if model.aborted.contains_key(id) {
                return must_fail(prepared, |error| matches!(error, Error::Decided { .. }));
            }
            let meets = one.writes.keys().any(|key| model.is_locked(key, false))
                || one.reads.iter().any(|key| model.is_locked(key, true));
            if model.in_doubt.contains_key(id) || meets {
                return must_fail(prepared, is_busy);
            }
            model.in_doubt.insert(id, one);
            prepared
        }
        Step::Decide(id, commit) => {
            let decided = if commit { db.commit_prepared(id, None).map(drop) } else { db.abort_prepared(id) };
            match model.aborted.get(id) {
                Some(aborted) if *aborted == commit => {
                    return must_fail(decided, |error| matches!(error, Error::Decided { .. }));
                }
                None if !model.in_doubt.contains_key(id) => {
                    return must_fail(decided, |error| matches!(error, Error::UnknownPrepared { .. }));
                }
                _ => {}
            }
            model.decide(id, commit);
            decided
        }
        Step::Forget(id) => {
            let forgotten = db.forget_prepared(id).and_then(|()| db.sync());
            if model.in_doubt.contains_key(id) {
                return must_fail(forgotten, is_busy);
            }
            model.aborted.remove(id);
            forgotten
        }
        Step::Flush => db.flush(),
        Step::Compact => db.compact(),
        Step::Background => {
            while db.step_background()? {}
            Ok(())
        }
    }
}

fn open(fs: &MemFs, faults: Option<&FaultFs>) -> Result<(Db, Keyspace)> {
    let options = options(fs);
    let options = faults.map_or(options.clone(), |faults| options.fs(faults.clone()));
    let db = options.open("db")?;
    let ks = db.keyspace("ks")?;
    Ok((db, ks))
}

#[test]
fn restarts_change_nothing() {
    for seed in 0..150 {
        let mut dice = StdRng::seed_from_u64(seed);
        let fs = MemFs::new();
        let mut model = Model::default();
        let (mut db, mut ks) = open(&fs, None).unwrap();
        for step in 0..150 {
            let next = random_step(&mut dice);
            run(&db, &ks, &next, &mut model).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
            assert_eq!(Model::of(&db, &ks), model.shown(), "seed {seed}, step {step}: {next:?}");
            if dice.random_range(0..8) == 0 {
                drop((db, ks));
                (db, ks) = open(&fs, None).unwrap();
                assert_eq!(Model::of(&db, &ks), model.shown(), "seed {seed}, reopened after step {step}");
            }
        }
    }
}

// S21, S22, S24
#[test]
fn what_was_acknowledged_survives_a_crash_at_any_call() {
    let mut crashes = 0;
    for seed in 0..400_u64 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut fs = MemFs::new();
        let mut model = Model::default();
        for life in 0..4 {
            let faults = FaultFs::new(fs.clone());
            let nth = dice.random_range(20..200);
            let context = format!("seed {seed}, life {life}, crash at call {nth}");
            faults.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::Io, repeat: true });
            let mut before = model.clone();
            if let Ok((db, ks)) = open(&fs, Some(&faults)) {
                loop {
                    before = model.clone();
                    let next = random_step(&mut dice);
                    if run(&db, &ks, &next, &mut model).is_err() {
                        break;
                    }
                }
            }
            // Of what was under way either is right.
            fs = if dice.random_range(0..2) == 0 { fs.kill() } else { fs.power_cut(seed * 10 + life) };
            let (db, ks) = open(&fs, None).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = Model::of(&db, &ks);
            assert!([before.shown(), model.shown()].contains(&found), "{context}: {found:?}\n{before:?}\n{model:?}");
            if found == before.shown() {
                model = before;
            }
            crashes += 1;
        }
    }
    assert_eq!(crashes, 1600);
}

// S25, S26
#[test]
fn resume_takes_back_what_was_undecided() {
    let mut resumed = 0;
    for seed in 0..400_u64 {
        let mut dice = StdRng::seed_from_u64(seed);
        let fs = MemFs::new();
        let faults = FaultFs::new(fs.clone());
        let mut model = Model::default();
        let (db, ks) = open(&fs, Some(&faults)).unwrap();
        for step in 0..60 {
            let before = model.clone();
            if dice.random_range(0..6) == 0 {
                let nth = dice.random_range(0..4);
                faults.inject(Fault { purpose: None, operation: None, nth, kind: FaultKind::Io, repeat: false });
            }
            let next = random_step(&mut dice);
            if run(&db, &ks, &next, &mut model).is_err() {
                faults.clear();
                // What needs no sync of its own may have been done before that one failed.
                if !matches!(next, Step::Forget(id) if db.prepared_outcome(id).is_none()) {
                    model = before;
                }
                if db.background_error().is_some() {
                    assert_eq!(Model::of(&db, &ks), model.shown(), "seed {seed}, step {step}: {next:?}");
                    db.resume().unwrap();
                    resumed += 1;
                }
                assert_eq!(Model::of(&db, &ks), model.shown(), "seed {seed}, step {step}: {next:?}, resumed");
            }
        }
        drop((db, ks));
        faults.clear();
        let (db, ks) = open(&fs, None).unwrap();
        assert_eq!(Model::of(&db, &ks), model.shown(), "seed {seed}");
    }
    assert!(resumed > 100, "{resumed}");
}
