//! Closing, crashing and opening again. What a crash left decides what the model goes on with, and must be something
//! that the durabilities of the commits allow.

use std::collections::BTreeSet;
use std::path::Path;

use rand::RngExt;
use strandline::fs::Purpose;
use strandline::{Db, Durability, Error, Fs, Result};

use super::fault::Undecided;
use super::held::Held;
use super::model::{Commit, Model};
use super::read::differs;
use super::runner::{DIR, Runner};
use super::settings::chance;
use super::write::mark_key;
use crate::disk::Disk;

/// What happened to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: what was logged is there.
    Kill,
    /// The power went: of what is not durable, whatever chance left.
    PowerCut,
}

impl Runner {
    /// Closes and opens; everything is there.
    pub fn reopen(&mut self) {
        let by_hand = self.random.random();
        self.log.add(format!("reopen, {}", if by_hand { "closed" } else { "all handles dropped" }));
        self.let_go();
        if by_hand {
            let db = self.db().clone();
            db.close().unwrap();
            assert!(matches!(db.sync(), Err(Error::Closed)));
        }
        self.db = None;
        self.model.all_durable();
        self.open();
        assert_eq!(self.db().last_timestamp(), self.model.last);
        self.check_everything();
    }

    /// A kill or a power cut, sometimes several: also while the database recovers from the one before. Gives how many
    /// power cuts there were.
    pub fn crash(&mut self) -> u64 {
        let undecided = if self.random.random() { self.fail_inside() } else { Undecided::default() };
        let crash = if chance(&mut self.random, 1, 2) { Crash::Kill } else { Crash::PowerCut };
        self.crash_with(undecided, crash)
    }

    /// The power goes at some file call: of the work, and often again of the recovery, three deep. Gives how many power
    /// cuts there were.
    pub fn power_cut(&mut self) -> u64 {
        let undecided = self.fail_inside();
        self.crash_with(undecided, Crash::PowerCut)
    }

    /// The device fails, and the process ends with it, but not the system: what the process wrote can be read, though a
    /// sync of it has failed.
    pub fn kill(&mut self) {
        let undecided = self.fail_inside();
        self.crash_with(undecided, Crash::Kill);
    }

    pub fn crash_with(&mut self, mut undecided: Undecided, mut crash: Crash) -> u64 {
        let mut cuts = u64::from(crash == Crash::PowerCut);
        let mut files = self.crashed_files(crash);
        self.log.add(format!("{crash:?}"));
        self.let_go();
        self.db = None;
        for _ in 0..3 {
            if !chance(&mut self.random, 1, 3) {
                break;
            }
            self.change_files(files);
            let nth = self.random.random_range(0..120);
            self.log.add(format!("and a power cut at call {nth} of the recovery"));
            self.fail_after(nth);
            let opened = self.settings.options(&self.fs, &self.time).open(DIR);
            crash = Crash::PowerCut;
            cuts += 1;
            files = self.crashed_files(crash);
            if let Err(Error::Corruption { .. }) = opened {
                panic!("{opened:?}");
            }
        }
        self.change_files(files);
        self.db = Some(self.settings.options(&self.fs, &self.time).open(DIR).unwrap());
        self.find_again(&mut undecided, crash).unwrap();
        self.check_files();
        cuts
    }

    /// The database was opened again: the model becomes what is still there, of what must be and of what may be.
    ///
    /// # Errors
    /// The device fails. It can be called again.
    pub fn find_again(&mut self, undecided: &mut Undecided, crash: Crash) -> Result<()> {
        let db = self.db().clone();
        self.find_in(&db, undecided, crash)
    }

    /// The same; what is still there is read from a database in the same state.
    ///
    /// # Errors
    /// The device fails. It can be called again.
    pub fn find_in(&mut self, same: &Db, undecided: &mut Undecided, crash: Crash) -> Result<()> {
        self.decide_names(undecided);
        self.take_handles();
        self.decide(undecided);
        let model = self.survivors(same, crash)?;
        self.log.add(format!("{} of {} commits survived", model.commits.len(), self.model.commits.len()));
        self.model = model;
        Ok(())
    }

    /// Everything in the directory is whole, and named by something. S21 S29
    pub fn check_files(&mut self) {
        let verified = self.db().verify().unwrap();
        let files = self.fs.inner().files().list(Purpose::Directory, Path::new(DIR)).unwrap();
        let mut files: Vec<String> = files.into_iter().map(|entry| entry.name).collect();
        files.retain(|name| name != "CURRENT" && name != "LOCK");
        // Of the segments that were replayed the last may turn out to hold nothing, and goes with the next flush.
        let segments = files.iter().filter(|name| name.ends_with(".log")).count();
        let spare = (files.len() as u64).checked_sub(verified.files);
        assert!(spare == Some(0) || (spare == Some(1) && segments > 1), "{verified:?}, orphans among {files:?}");
        self.take_calls();
    }

    pub fn crashed_files(&mut self, crash: Crash) -> Disk {
        match crash {
            Crash::Kill => self.fs.inner().kill(),
            Crash::PowerCut => {
                let seed: u64 = self.random.random();
                self.fs.inner().power_cut(seed)
            }
        }
    }

    /// A read-only open beside the writer sees what a crash would leave, and writes nothing.
    pub fn look_while_open(&mut self) {
        self.log.add("look on, read-only".into());
        let options = self.settings.options(&self.fs, &self.time).read_only(true);
        let reader = options.open(DIR).unwrap();
        self.survivors(&reader, Crash::Kill).unwrap();
        assert!(matches!(reader.sync(), Err(Error::ReadOnly)));
        reader.close().unwrap();
    }

    pub fn let_go(&mut self) {
        self.held = Held::default();
        self.handles.clear();
        self.orphaned.clear();
    }

    fn open(&mut self) {
        self.db = Some(self.settings.options(&self.fs, &self.time).open(DIR).unwrap());
        self.take_handles();
    }

    fn take_handles(&mut self) {
        self.check_names();
        for space in self.model.live() {
            let handle = self.db().keyspace(&self.space(space).name).unwrap();
            self.handles.insert(space, handle);
        }
    }

    /// The model of what `db` still has. S11, S21, S22: every durable commit; of the logged ones the first so many in
    /// order of commit (all, after a kill); of the unlogged ones any, each whole.
    fn survivors(&self, db: &Db, crash: Crash) -> Result<Model> {
        let marks = db.keyspace("marks").unwrap();
        let marks: BTreeSet<Vec<u8>> = marks.iter().map(|pair| Ok(pair?.0.into())).collect::<Result<_>>()?;
        let commits = &self.model.commits;
        let logged = |commit: &Commit| commit.durability != Durability::Unlogged;
        // Whether it is known that a commit survived.
        let seen = |commit: &Commit| commit.marked.map(|mark| marks.contains(&mark_key(mark)));
        let must = |commit: &Commit| commit.durable || (crash == Crash::Kill && logged(commit) && !commit.undecided);
        for commit in commits.iter().filter(|commit| must(commit)) {
            assert_ne!(seen(commit), Some(false), "lost: {commit:?}");
        }
        // The cut lies behind all that must be or is there, and not behind the first logged commit that is not.
        let there = |commit: &Commit| logged(commit) && (must(commit) || seen(commit) == Some(true));
        let least = commits.iter().rposition(there).map_or(0, |last| last + 1);
        let most = commits.iter().position(|commit| logged(commit) && seen(commit) == Some(false));
        let most = most.unwrap_or(commits.len());
        assert!(least <= most, "commit {most} is lost, and commit {} is there", least.saturating_sub(1));
        let last = db.last_timestamp();
        assert!(last <= self.model.last, "the last timestamp was {} and is {last}", self.model.last);
        let mut differences = Vec::new();
        for cut in (least..=most).rev().filter(|cut| *cut == least || logged(&commits[cut - 1])) {
            let survived = commits.iter().enumerate().filter(|(i, commit)| match logged(commit) {
                true => *i < cut,
                false => seen(commit) == Some(true),
            });
            let survived = survived.map(|(_, commit)| {
                let durable = commit.durable || crash == Crash::PowerCut;
                Commit { durable, undecided: false, ..commit.clone() }
            });
            let model = self.model.with_only(survived, last);
            let highest = model.commits.iter().map(|commit| commit.timestamp).max().unwrap_or(0);
            match differs(db, &model, self.now_after(last))? {
                _ if highest > last => {
                    differences.push(format!("commit at {highest} is above the last timestamp {last}"))
                }
                None => return Ok(model),
                Some(difference) => differences.push(difference),
            }
        }
        panic!("what survived is no prefix of the log between commits {least} and {most}: {differences:#?}");
    }
}
