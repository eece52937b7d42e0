//! Processes that are killed at any moment, on real files.
//!
//! A round is one directory and several lives over it. Of each a process of its own, the [victim], takes the
//! steps of a [plan] that follows from the seed, with the database's threads and with one to three writers, and
//! tells each in a [journal]. It is killed from outside at any time, or kills itself at any
//! [file call](mortal). A [witness] in this process hears the journal and looks at what is there.
//!
//! The lives follow from the seed, their ends do not: the same seed, run again, is killed elsewhere.

mod execution;
mod journal;
mod mortal;
mod plan;
mod victim;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use strandline::fs::Purpose;
use strandline::{Background, Error, Fs, ManualTime, Options, StdFs};
use tempfile::TempDir;

use crate::campaign::{Counts, Program};
use crate::life::settings::chance;
use crate::random::Random;
use crate::story;
use execution::{End, Moment, Sign, Victim};
use journal::Event;
use plan::{Place, Plan};
pub use victim::Orders;
use witness::Witness;

/// Does as a victim does, and gives what the process ends with.
pub fn live(orders: &Orders) -> ExitCode {
    match victim::live(orders) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Kills.
#[derive(Default)]
pub struct Kills {
    /// The program that has the victim in it. `None`: this one.
    pub program: Option<PathBuf>,
}

impl Program for Kills {
    fn name(&self) -> &'static str {
        "kills"
    }

    fn about(&self) -> &'static str {
        "processes with real files and threads are killed at any moment; what was acknowledged is there"
    }

    // Of up to twenty lives, some on a disk that is busy. A victim that hangs is noticed sooner.
    fn patience(&self) -> Duration {
        Duration::from_secs(1800)
    }

    // S6 S11 S22 S29 S30
    fn round(&self, seed: u64, counts: &mut Counts) {
        let program = self.program.clone().unwrap_or_else(|| std::env::current_exe().unwrap());
        let mut case = Case::new(program, seed);
        for life in 0..case.plan.kills {
            case.live(life, counts);
        }
        case.settle(counts);
    }
}

/// One directory, and what is known of it.
struct Case {
    program: PathBuf,
    seed: u64,
    plan: Rc<Plan>,
    /// Holds the database, and the journals beside it. `None` only at the end.
    files: Option<TempDir>,
    witness: Witness,
    /// Whether a victim has said that there is a database.
    born: bool,
    numbers: FileNumbers,
    /// The life that is lived, how it is to end, and what was told of it.
    life: u32,
    moment: Option<Moment>,
    events: Vec<Event>,
}

impl Case {
    fn new(program: PathBuf, seed: u64) -> Self {
        let plan = Rc::new(Plan::of_seed(seed));
        let memory = Path::new("/dev/shm");
        let place = match plan.place {
            Place::Memory if memory.is_dir() => memory.to_owned(),
            _ => std::env::temp_dir(),
        };
        Self {
            program,
            seed,
            files: Some(TempDir::with_prefix_in("strandline-kills-", place).unwrap()),
            witness: Witness::new(Rc::clone(&plan)),
            born: false,
            numbers: FileNumbers::default(),
            life: 0,
            moment: None,
            events: Vec::new(),
            plan,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.as_ref().unwrap().path().join(name)
    }

    fn dir(&self) -> PathBuf {
        self.file("db")
    }

    /// One life, its end, and what it has left.
    fn live(&mut self, life: u32, counts: &mut Counts) {
        let mut random = self.plan.watcher(life);
        let moment = Moment::draw(&mut random);
        (self.life, self.moment) = (life, Some(moment));
        let journal = self.file(&format!("journal-{life:03}"));
        let orders = Orders {
            dir: self.dir(),
            journal: Some(journal.clone()),
            seed: self.seed,
            life,
            die_at_call: moment.death().map(|death| death.at_call),
            torn: moment.death().is_some_and(|death| death.torn),
        };
        let mut victim = Victim::spawn(&self.program, &orders);
        if chance(&mut random, 1, 4) && victim.wait_for(Sign::Ready) {
            self.look_on(&mut victim, &journal, &mut random, counts);
        }
        let end = victim.meet(moment);
        self.events = journal::read(&journal);
        let told = |event: Event| self.events.contains(&event);
        let opened = self.events.iter().any(|event| matches!(event, Event::Opened(_)));
        match end {
            End::Killed => {
                counts.add("kills", 1);
                if !opened {
                    counts.add("kills while opening", 1);
                } else if told(Event::Closing) {
                    counts.add("kills while closing", 1);
                }
            }
            End::Closed => assert!(told(Event::Closed), "it ended without a word"),
        }
        self.born |= opened;
        self.examine(&mut random, counts);
    }

    /// While the victim lives nobody else opens the database for writing, and whoever only reads sees what a crash at
    /// that moment would leave. S30
    fn look_on(&mut self, victim: &mut Victim, journal: &Path, random: &mut Random, counts: &mut Counts) {
        let locked = matches!(self.options().open(self.dir()), Err(Error::Locked { .. }));
        let locked = locked && (!chance(random, 1, 4) || execution::is_locked(&self.program, self.dir(), self.seed));
        if !locked {
            // Unless it has ended meanwhile.
            execution::wait_for_spawns();
            let ends = victim.is_dead() || journal::read(journal).contains(&Event::Closing);
            assert!(ends, "the database is open, and was opened a second time");
            return;
        }
        counts.add("second opens refused", 1);
        let known = journal::read(journal).len();
        let looked = self.options().read_only(true).open(self.dir()).and_then(|db| {
            self.events = journal::read(journal);
            self.witness.look_on(self.life, &self.events, known, &db, random)
        });
        match looked {
            Ok(()) => counts.add("looks at the living", 1),
            // The writer has replaced what was about to be read, once too often.
            Err(Error::Io { .. } | Error::Corruption { .. }) => counts.add("looks given up", 1),
            Err(error) => panic!("{error}"),
        }
    }

    /// What is there after the end of a life: seen read-only, as the next victim will find it, or opened and closed.
    fn examine(&mut self, random: &mut Random, counts: &mut Counts) {
        self.numbers.see(&self.events, &self.dir());
        let write = chance(random, 1, 3);
        let before = list(&self.dir());
        let db = match self.options().read_only(!write).open(self.dir()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound && !self.born && !write => {
                return;
            }
            opened => opened.unwrap(),
        };
        self.born = true;
        let verified = db.verify().unwrap();
        if write {
            self.check_orphans(verified.files);
        }
        self.witness.after(self.life, &self.events, &db, random, counts);
        db.close().unwrap();
        execution::wait_for_spawns();
        if !write {
            assert_eq!(list(&self.dir()), before, "a read-only open has changed files");
        }
        // Has the life been heard of, it is not heard of again.
        self.events.clear();
    }

    /// Nothing is in the directory that nobody names. S29
    fn check_orphans(&self, named: u64) {
        let mut files = list(&self.dir());
        files.retain(|name, _| name != "CURRENT" && name != "LOCK");
        // Of the segments that were replayed the last may turn out to hold nothing, and goes with the next flush.
        let segments = files.keys().filter(|name| name.ends_with(".log")).count();
        let spare = (files.len() as u64).checked_sub(named);
        assert!(spare == Some(0) || (spare == Some(1) && segments > 1), "{named} of {files:?} are named");
    }

    /// At the end of all lives.
    fn settle(&mut self, counts: &mut Counts) {
        counts.add("commits", self.witness.commits() as u64);
        self.moment = None;
    }

    /// As the witness opens it: nothing happens but what is asked for, and what the clock says is the last timestamp.
    fn options(&self) -> Options {
        self.plan.options().background(Background::Stepped).time(ManualTime::new(0))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(files) = self.files.take()
        {
            let shown = self.events.len().saturating_sub(40);
            self.events[shown..].iter().for_each(|event| story::tell(format!("{event:?}")));
            story::tell(format!("{:?}, {} writers", self.moment, self.plan.writers));
            story::tell(format!("life {} of {}, left in {}", self.life, self.plan.kills, files.keep().display()));
        }
    }
}

/// The names in a directory, and how long the files are.
fn list(dir: &Path) -> BTreeMap<String, u64> {
    let entries = StdFs.list(Purpose::Directory, dir).unwrap_or_default();
    entries.into_iter().map(|entry| (entry.name, entry.len)).collect()
}

/// S29: no number is given twice.
#[derive(Default)]
struct FileNumbers {
    /// In the directory, the last time.
    there: BTreeSet<u64>,
    /// Of all that ever were.
    highest: u64,
}

impl FileNumbers {
    /// Every file that was made in this life, or was not there the last time, has a number above all that ever were.
    fn see(&mut self, events: &[Event], dir: &Path) {
        let number = |name: &String| name.split_once('.')?.0.parse().ok();
        let there: BTreeSet<u64> = list(dir).keys().filter_map(number).collect();
        let mut made = BTreeSet::new();
        for event in events {
            if let Event::Made(number) = event {
                assert!(made.insert(*number), "{number} was made twice");
            }
        }
        made.extend(there.difference(&self.there));
        let lowest = made.first().copied().unwrap_or(u64::MAX);
        assert!(lowest > self.highest, "{lowest} was given again, after {}", self.highest);
        self.highest = made.last().copied().unwrap_or(0).max(self.highest);
        self.there = there;
    }
}
