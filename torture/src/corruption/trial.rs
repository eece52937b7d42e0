//! One damage: what comes of it is held against the verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strandline::{Db, Error, MemFs, Timestamp, WriteBatch};

use super::damage::Damage;
use super::specimen::{DIR, Specimen, disk, files_of};
use super::state::{Read, State};
use super::verdict::{Damaged, Verdict};
use crate::allocations::{Allocated, measure};
use crate::campaign::Counts;
use crate::life::model::{Commit, Write};
use crate::story;

/// The database, and what is known of it when it is whole.
pub struct Trial {
    pub specimen: Specimen,
    /// Of the first so many commits of a moment, by the last timestamp.
    states: Mutex<BTreeMap<(usize, usize, Timestamp), Arc<State>>>,
    /// What reading the whole database takes.
    usual: Allocated,
}

/// No damage takes longer, not on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(120);
/// One of so many damages is healed again, and one of so many that a compaction meets.
const HEALED: usize = 8;

/// Where the answers of a damaged database come from.
#[derive(Clone, Copy)]
struct Expected<'a> {
    moment: usize,
    commits: usize,
    damaged: &'a Damaged,
}

impl Trial {
    pub fn new(specimen: Specimen) -> Self {
        let mut trial = Self { specimen, states: Mutex::default(), usual: Allocated::default() };
        for moment in 0..trial.specimen.moments.len() {
            let whole = Damaged::default();
            let expected = Expected { moment, commits: trial.specimen.moments[moment].commits, damaged: &whole };
            let fs = disk(&trial.specimen.moments[moment].files);
            // The states are worked out first, so that only what the database allocates is counted.
            for _ in 0..2 {
                trial.usual = measure(|| {
                    let db = Specimen::options(&fs).read_only(true).open(DIR).unwrap();
                    trial.read(&db, expected, 0, &|error| panic!("{error}"));
                    db.verify().unwrap();
                })
                .1;
            }
        }
        trial
    }

    pub fn of(&self, nth: usize, damage: Damage, counts: &mut Counts) {
        let began = Instant::now();
        let damaged = damage.apply(&self.specimen);
        let outcome = match damage {
            Damage::WhileOpen { .. } => story_of(damage, &self.specimen, || self.while_open(&damaged)),
            _ => story_of(damage, &self.specimen, || self.offline(nth, damage, &damaged)),
        };
        assert!(began.elapsed() < PATIENCE, "{damage:?} took {:?}", began.elapsed());
        counts.add("damages", 1);
        counts.add("questions", outcome.questions);
        counts.add(outcome.what, 1);
        let whole = self.specimen.files();
        let bytes = |(name, new): (&String, &Option<Arc<Vec<u8>>>)| match (whole.get(name), new) {
            (Some(old), Some(new)) => {
                let changed = old.iter().zip(new.iter()).filter(|(old, new)| old != new).count();
                changed + old.len().abs_diff(new.len())
            }
            (Some(one), None) | (None, Some(one)) => one.len(),
            (None, None) => 0,
        };
        counts.add("bytes", damaged.iter().map(bytes).sum::<usize>() as u64);
    }

    fn state(&self, moment: usize, commits: usize, last: Timestamp) -> Arc<State> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(self.specimen.state(&self.specimen.moments[moment], commits, last));
        Arc::clone(states.entry((moment, commits, last)).or_insert_with(make))
    }

    /// Reads everything; what is no error must be right.
    fn read<'a>(&self, db: &Db, expected: Expected<'_>, turn: usize, judge: &'a dyn Fn(&Error)) -> Read<'a> {
        let moment = &self.specimen.moments[expected.moment];
        let last = db.last_timestamp();
        let least = self.specimen.model.commits[..expected.commits].iter().map(|commit| commit.timestamp).max();
        assert!(last <= moment.last && Some(last) >= least, "the last timestamp is {last}");
        assert!(last == moment.last || expected.commits < moment.commits, "the last timestamp is {last}");
        Read::everything(db, &self.state(expected.moment, expected.commits, last), turn, judge)
    }

    /// Damage that is there when the database is opened.
    fn offline(&self, nth: usize, damage: Damage, damaged: &Damaged) -> Outcome {
        let (verdict, moment) = self.verdict(damage, damaged);
        let expected = Expected { moment, commits: verdict.commits, damaged };
        let mut files = self.specimen.files().clone();
        for (name, bytes) in damaged {
            match bytes {
                Some(bytes) => drop(files.insert(name.clone(), bytes.clone())),
                None => drop(files.remove(name)),
            }
        }
        let fs = disk(&files);
        if verdict.opens && verdict.commits < self.specimen.moments[moment].commits {
            // What is to be answered is worked out before it is measured what answering takes.
            let db = Specimen::options(&fs).read_only(true).open(DIR).unwrap();
            self.state(moment, verdict.commits, db.last_timestamp());
        }
        let mut outcome = Outcome { what: "refused", questions: 0 };
        let judge = |error: &Error| {
            assert!(!verdict.sound, "a read: {error}");
            self.check_blame(error, damaged);
        };
        // To read and to write: everything is read once in turn, and once it is only opened.
        for read_only in [true, false] {
            let (opened, allocated) = measure(|| {
                let db = Specimen::options(&fs).read_only(read_only).open(DIR)?;
                let read = match read_only == nth.is_multiple_of(2) {
                    true => self.read(&db, expected, nth, &judge),
                    false => Read::nothing(&judge),
                };
                Ok((db, read))
            });
            self.check_allocated(allocated);
            match opened {
                Ok((db, read)) => {
                    assert!(verdict.opens, "it opens, read-only {read_only}");
                    outcome.what =
                        if verdict.commits < self.specimen.moments[moment].commits { "cut" } else { "right" };
                    outcome.questions += read.questions;
                    self.check_verify(&db, &verdict, damaged);
                    if read.errors > 0 {
                        outcome.what = "found by reads";
                    }
                    if !read_only && nth.is_multiple_of(HEALED) {
                        self.heal(db, &fs, expected, &verdict);
                    }
                }
                Err(error) => {
                    assert!(!verdict.opens, "it does not open, read-only {read_only}: {error}");
                    self.check_blame(&error, damaged);
                    // It is left as it was found.
                    let mut left = files_of(&fs);
                    left.entry("LOCK".to_owned()).or_default();
                    let mut were = files.clone();
                    were.entry("LOCK".to_owned()).or_default();
                    assert!(left == were, "a refused opening has changed something");
                }
            }
        }
        outcome
    }

    /// What may come of it, and at which moment the database then is.
    fn verdict(&self, damage: Damage, damaged: &Damaged) -> (Verdict, usize) {
        let now = self.specimen.moments.len() - 1;
        if let Damage::Past { moment, current_and_manifest: true, logs: true, tables } = damage {
            let past = &self.specimen.moments[usize::from(moment)];
            let is_there = |name: &&String| self.specimen.files().contains_key(*name);
            let sound = tables || past.files.keys().filter(|name| name.ends_with(".table")).all(|name| is_there(&name));
            return (Verdict { opens: true, commits: past.commits, sound, covered: false }, usize::from(moment));
        }
        let specimen = &self.specimen;
        let verdict = Verdict::of(specimen.files(), &specimen.anatomy, specimen.last().commits, damaged);
        (verdict, now)
    }

    /// Reading every byte finds what there is to find.
    fn check_verify(&self, db: &Db, verdict: &Verdict, damaged: &Damaged) {
        match db.verify() {
            Ok(_) => assert!(verdict.sound, "nothing finds it"),
            Err(error) => {
                assert!(!verdict.sound || verdict.covered, "verify: {error}");
                self.check_blame(&error, damaged);
            }
        }
    }

    /// The error names a file that was damaged, and a place in it.
    fn check_blame(&self, error: &Error, damaged: &Damaged) {
        let len = |name: &str| {
            let old = self.specimen.files().get(name).map_or(0, |bytes| bytes.len());
            let new = damaged.get(name)?.as_ref().map_or(0, |bytes| bytes.len());
            Some(old.max(new) as u64)
        };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match error {
            Error::Background(error) => self.check_blame(error, damaged),
            // A segment that is not there has no name any more.
            Error::Corruption { path, offset: 0, .. } if path == Path::new(DIR) => {
                assert!(damaged.keys().any(|name| name.ends_with(".log")), "{error}");
            }
            Error::Corruption { path, offset, .. } => {
                let gone = |name: &str| damaged.get(name).is_some_and(Option::is_none);
                let manifest = gone(&self.specimen.anatomy.manifest) || damaged.contains_key("CURRENT");
                let blamed = len(&name(path)).or(manifest.then_some(0));
                assert!(blamed.is_some_and(|len| *offset <= len), "it is not {}: {error}", name(path));
            }
            // A table that is not there: for who only reads, a writer may have removed it.
            Error::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                let name = name(path);
                let there = damaged.get(&name).map_or(self.specimen.files().contains_key(&name), Option::is_some);
                assert!(name.ends_with(".table") && !there, "{error}");
            }
            error => panic!("{error}"),
        }
    }

    fn check_allocated(&self, allocated: Allocated) {
        let files = self.specimen.bytes();
        assert!(allocated.largest <= self.usual.largest + 2 * files, "{allocated:?}, usually {:?}", self.usual);
        assert!(allocated.peak <= 2 * self.usual.peak + 4 * files, "{allocated:?}, usually {:?}", self.usual);
    }

    /// A compaction that meets the damage loses nothing: once the damage is undone everything is there.
    fn heal(&self, db: Db, fs: &MemFs, expected: Expected<'_>, verdict: &Verdict) {
        match db.compact() {
            Ok(()) => assert!(verdict.sound || db.verify().is_err() || self.is_gone(fs, expected.damaged)),
            Err(error) => {
                assert!(!verdict.sound, "compact: {error}");
                self.check_blame(&error, expected.damaged);
            }
        }
        let failed = db.close().is_err();
        assert!(!failed || !verdict.sound);
        drop(db);
        self.undo(fs, expected);
        self.check_healed(fs, expected, &[], verdict.covered);
    }

    fn is_gone(&self, fs: &MemFs, damaged: &Damaged) -> bool {
        damaged.keys().any(|name| fs.read_file(Path::new(DIR).join(name)).is_err())
    }

    /// Puts back what the tables held, where they are still there, and those that had gone since the moment which the
    /// rest is of.
    fn undo(&self, fs: &MemFs, expected: Expected<'_>) {
        let Expected { moment, damaged, .. } = expected;
        let past = self.specimen.moments[moment].files.iter();
        for (name, bytes) in past.filter(|(name, _)| name.ends_with(".table")) {
            if !self.specimen.files().contains_key(name) && !damaged.contains_key(name) {
                fs.write_file(Path::new(DIR).join(name), bytes.to_vec()).unwrap();
            }
        }
        let tables = damaged.iter().filter(|(name, _)| name.ends_with(".table"));
        for (name, bytes) in tables {
            let path = Path::new(DIR).join(name);
            // A database that goes on from the past may have made a table of its own by a name that was used later.
            let is_there = fs.read_file(&path).is_ok();
            if let Some(whole) = self.specimen.files().get(name)
                && bytes.is_some() == is_there
            {
                fs.write_file(path, whole.to_vec()).unwrap();
            }
        }
    }

    /// Everything is right again. Floors may have risen, and there are more commits. Of the log nothing was undone.
    fn check_healed(&self, fs: &MemFs, expected: Expected<'_>, more: &[Commit], log_is_hurt: bool) {
        let db = Specimen::options(fs).open(DIR).unwrap();
        let moment = &self.specimen.moments[expected.moment];
        let model = &self.specimen.model;
        let mut model = model.with_only(model.commits[..expected.commits].iter().cloned(), model.last);
        more.iter().for_each(|commit| model.commit(commit.clone()));
        model.closed = moment.closed;
        let handles = moment.live.iter().map(|space| db.keyspace(&model.spaces[*space].name).unwrap());
        let floors: Vec<Timestamp> = handles.map(|handle| handle.retained_from()).collect();
        assert!(floors.iter().zip(&moment.floors).all(|(now, before)| now >= before), "a floor has fallen");
        let state = State::of(&self.specimen.model, &model, &moment.live, &floors, db.last_timestamp());
        Read::everything(&db, &state, 0, &|error| panic!("after the damage was undone: {error}"));
        assert!(db.verify().is_ok() || log_is_hurt, "the damage was undone, and verify finds some");
        db.close().unwrap();
    }

    /// Damage that befalls an open database which has read nothing yet.
    fn while_open(&self, damaged: &Damaged) -> Outcome {
        let moment = self.specimen.moments.len() - 1;
        let now = &self.specimen.moments[moment];
        let expected = Expected { moment, commits: now.commits, damaged };
        let fs = disk(self.specimen.files());
        let db = Specimen::options(&fs).block_cache_bytes(0).open(DIR).unwrap();
        let live = files_of(&fs);
        for (name, bytes) in damaged.iter().filter(|(name, _)| live.contains_key(*name)) {
            fs.write_file(Path::new(DIR).join(name), bytes.as_deref().unwrap().clone()).unwrap();
        }
        let judge = |error: &Error| self.check_blame(error, damaged);
        let read = self.read(&db, expected, 1, &judge);
        let is_table = damaged.keys().any(|name| name.ends_with(".table"));
        let verified = db.verify();
        // Log and manifest that were replaced at opening are no part of it any more; the others are read by `verify`.
        assert!(verified.is_err() || !is_table, "nothing finds it");
        verified.into_iter().for_each(drop);
        let mut more = Vec::new();
        let mut refused = false;
        for round in 0..3 {
            for space in &now.live {
                more.extend(self.write(&db, *space, damaged, &mut refused));
            }
            // Whoever meets the damage says so; then the database is read-only.
            let done = match round {
                0 => db.flush(),
                1 => std::iter::repeat_with(|| db.step_background())
                    .find_map(|step| match step {
                        Ok(true) => None,
                        Ok(false) => Some(Ok(())),
                        Err(error) => Some(Err(error)),
                    })
                    .unwrap(),
                _ => db.compact(),
            };
            if let Err(error) = done {
                self.check_blame(&error, damaged);
                refused = true;
            }
        }
        let outcome =
            Outcome { what: if refused { "open: read-only" } else { "open: goes on" }, questions: read.questions };
        assert!(!refused || is_table, "{damaged:?}");
        drop(db);
        let fs = fs.kill();
        if is_table {
            self.undo(&fs, expected);
            self.check_healed(&fs, expected, &more, false);
        }
        outcome
    }

    /// A commit to one keyspace; it may be refused once something has failed.
    fn write(&self, db: &Db, space: usize, damaged: &Damaged, refused: &mut bool) -> Option<Commit> {
        let handle = db.keyspace(&self.specimen.model.spaces[space].name).unwrap();
        let mut batch = WriteBatch::new();
        let (key, value) = (b"a".to_vec(), b"written while damaged".to_vec());
        batch.put(&handle, &key, &value);
        match db.commit(batch) {
            Ok(timestamp) => {
                assert!(!*refused, "the database has failed, and takes a commit");
                let writes = vec![(space, Write::Put { key, value, expires_at: None })];
                let durability = strandline::Durability::Buffered;
                Some(Commit { timestamp, writes, durability, marked: None, durable: true, undecided: false })
            }
            Err(error) => {
                assert!(*refused, "refused for nothing: {error}");
                self.check_blame(&error, damaged);
                None
            }
        }
    }
}

struct Outcome {
    /// What became of it, as it is counted.
    what: &'static str,
    questions: u64,
}

/// Does it; if it panics, says which damage it was.
fn story_of(damage: Damage, specimen: &Specimen, work: impl FnOnce() -> Outcome) -> Outcome {
    struct Told<'a>(Damage, &'a Specimen);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let names: Vec<_> = self.1.files().iter().map(|(name, bytes)| (name, bytes.len())).collect();
                story::tell(format!("{:?} of {names:?}", self.0));
            }
        }
    }
    let _told = Told(damage, specimen);
    work()
}
