//! A life on a device that fails at one file call, or from one on, whatever that call is for.
//!
//! Every call of the database then gives what is right, or an error that says what is wrong with the device; nothing
//! else, once the device works again; and whatever was acknowledged is there afterwards, however it goes on: without
//! further ado, by `resume`, closed and opened, killed, or without power.

use rand::RngExt;
use strandline::fs::{Fault, FaultKind};
use strandline::{Error, FaultFs, Result};

use super::crash::Crash;
use super::fault::{Undecided, is_failure};
use super::runner::{DIR, Runner};
use super::settings::chance;
use crate::campaign::Counts;
use crate::random::Random;

pub struct Broken {
    pub life: Runner,
    fault: Option<Fault>,
    is_mended: bool,
    /// File calls before the fault was put in.
    before: u64,
    undecided: Undecided,
    /// How the files were left that are opened next.
    left: Crash,
}

/// How things stood before a call: what may excuse an error.
#[derive(Clone, Copy)]
struct Before {
    device_works: bool,
    database_works: bool,
}

impl Broken {
    /// A life with a database that is not open, `left` so.
    pub fn new(mut life: Runner, left: Crash, fault: Option<Fault>) -> Self {
        let before = life.fs.calls();
        fault.into_iter().for_each(|fault| life.inject(fault));
        Self { life, fault, is_mended: false, before, undecided: Undecided::default(), left }
    }

    /// Whether the fault has hit a call.
    pub fn is_met(&self) -> bool {
        self.fault.is_some_and(|fault| self.life.fs.calls() > self.before + fault.nth)
    }

    fn device_works(&self) -> bool {
        self.fault.is_none_or(|fault| self.is_met() && !fault.repeat)
    }

    /// The device is mended.
    fn mend(&mut self) {
        self.life.log.add("the device is mended".into());
        self.life.mend();
        self.fault = None;
        self.is_mended = true;
    }

    fn now(&self) -> Before {
        let works = self.life.db.as_ref().is_some_and(|db| db.background_error().is_none());
        Before { device_works: self.device_works(), database_works: works }
    }

    /// Panics for an error that nothing excuses.
    fn check(&mut self, before: Before, what: &str, writes: bool, result: &Result<()>) {
        let Err(error) = result else { return };
        self.life.log.add(format!("  {what}: {error}"));
        assert!(is_failure(error), "{what}: {error:?} is no word for a device that fails");
        // What a thread in the background has met shows when it shows.
        let may_be_told = writes && (!before.database_works || self.life.settings.threads > 0);
        assert!(!before.device_works || may_be_told, "{what} fails on a device that works: {error:?}");
    }

    /// One step of anything.
    pub fn step(&mut self) {
        if self.life.db.is_none() {
            return self.open();
        }
        let before = self.now();
        let life = &mut self.life;
        let roll = life.random.random_range(0..100);
        let (what, writes, result) = match roll {
            0..58 => ("write", true, life.step_undecided(&mut self.undecided)),
            58..72 => ("read", false, life.try_read()),
            72..79 => ("hold", false, life.try_hold()),
            79..90 => ("use", false, life.try_use_held()),
            90..92 => {
                life.release();
                ("release", false, Ok(()))
            }
            92..94 => {
                life.log.add("verify".into());
                ("verify", false, life.db().verify().map(drop))
            }
            94..97 => return self.close(),
            _ if life.settings.threads == 0 => ("look on", false, self.look()),
            _ => return,
        };
        self.check(before, what, writes, &result);
        drop(self.life.db().metrics());
        self.life.check_times();
        self.life.check_names();
    }

    /// What a read-only opening beside the database sees.
    fn look(&mut self) -> Result<()> {
        self.life.log.add("look on, read-only".into());
        let mut twin = self.life.twin(self.life.fs.inner(), Random::of_seed(0));
        let options = self.life.settings.options(&self.life.fs, &self.life.time).read_only(true);
        twin.db = Some(options.open(DIR)?);
        if !self.life.settings.is_tight() {
            twin.find_again(&mut self.undecided.clone(), Crash::Kill)?;
        }
        twin.let_go();
        twin.db().close()
    }

    pub fn close(&mut self) {
        let before = self.now();
        let by_hand = self.life.random.random();
        self.life.log.add(format!("close, {}", if by_hand { "by hand" } else { "by dropping all handles" }));
        self.life.let_go();
        let Some(db) = self.life.db.take() else { return };
        let mut settled = before.device_works && before.database_works;
        if by_hand {
            let closed = db.close();
            self.check(before, "close", true, &closed);
            settled = closed.is_ok();
            assert!(!settled || before.database_works || self.life.settings.threads > 0, "closed after a failure");
            assert!(matches!(db.sync(), Err(Error::Closed)) && matches!(db.close(), Err(Error::Closed)));
        }
        // The last handle closes it.
        drop(db);
        self.left = Crash::Kill;
        if settled && self.life.settings.threads == 0 {
            self.life.model.all_durable();
            // Until the fault all runs do the same.
            if self.is_met() && chance(&mut self.life.random, 1, 2) {
                let seed = self.life.random.random();
                self.crash_beside(Crash::PowerCut, seed);
            }
        }
    }

    pub fn open(&mut self) {
        let (before, met) = (self.now(), self.is_mended || self.is_met());
        let life = &mut self.life;
        life.log.add("open".into());
        let opened = life.try_open().map(|()| {
            // The calls of a comparison with the model are not to fail: there are too many, and each like the other.
            let files = FaultFs::new(life.fs.inner().kill());
            let same = life.settings.with_room().options(&files, &life.time).read_only(true).open(DIR).unwrap();
            life.find_in(&same, &mut self.undecided, self.left).unwrap();
            if before.device_works {
                assert!(life.db().background_error().is_none(), "it opens and has failed, on a device that works");
                // Until the fault all runs make the same calls.
                if life.settings.threads == 0 && met {
                    life.check_files();
                }
            }
        });
        self.check(before, "open", false, &opened);
    }

    /// What a crash at this moment leaves is as it must be, and can be worked with.
    pub fn crash_beside(&mut self, crash: Crash, seed: u64) {
        let files = self.life.crashed_files(crash);
        let mut undecided = self.undecided.clone();
        let crash = if self.life.db.is_none() && self.left == Crash::PowerCut { Crash::PowerCut } else { crash };
        self.life.beside(&files, Random::of_seed(seed), |twin| {
            twin.log.add(format!("beside: {crash:?}"));
            twin.settings = twin.settings.with_room();
            twin.db = Some(twin.settings.options(&twin.fs, &twin.time).open(DIR).unwrap());
            twin.find_again(&mut undecided, crash).unwrap();
            if twin.settings.threads == 0 {
                twin.check_files();
            }
            twin.work_step();
            twin.let_go();
            twin.db().close().unwrap();
            twin.take_calls();
        });
    }

    /// The device works again, and the life goes on.
    pub fn go_on(&mut self, counts: &mut Counts) {
        if self.life.db.is_some() && self.life.db().background_error().is_some() {
            match self.life.random.random_range(0..4) {
                0 => self.resume_in_vain(counts),
                1 => {
                    self.mend();
                    self.close();
                }
                _ => {}
            }
        }
        self.mend();
        for _ in 0..2 {
            if self.life.db.is_none() {
                self.open();
            }
            if self.life.db().background_error().is_some() {
                counts.add("resumed", 1);
            }
            self.life.resume(&mut self.undecided);
            self.steps_after();
        }
        if self.life.db.is_none() {
            self.open();
        }
        if self.life.settings.threads == 0 {
            if !self.life.settings.is_tight() || chance(&mut self.life.random, 1, 4) {
                self.life.check_everything();
            }
            let seed = self.life.random.random();
            let crash = if chance(&mut self.life.random, 1, 2) { Crash::Kill } else { Crash::PowerCut };
            self.crash_beside(crash, seed);
        }
        self.close();
        self.open();
        self.close();
        self.life.take_calls();
    }

    /// Without threads nothing fails any more. A thread may have met the fault and tell only now.
    fn steps_after(&mut self) {
        for _ in 0..4 {
            if self.life.settings.threads > 0 || self.life.db.is_none() {
                self.step();
            } else if chance(&mut self.life.random, 1, 2) {
                self.life.work_step();
            } else {
                self.life.read();
                self.life.use_held();
            }
        }
    }

    /// Each call of `resume` fails, one after the other; the database stays as it is, and another `resume` goes on.
    fn resume_in_vain(&mut self, counts: &mut Counts) {
        self.mend();
        for nth in 0..200 {
            let kind = if self.life.random.random() { FaultKind::Io } else { FaultKind::StorageFull };
            let repeat = self.life.random.random();
            self.life.log.add(format!("resume, call {nth} fails: {kind:?}, from then on: {repeat}"));
            self.life.inject(Fault { purpose: None, operation: None, nth, kind, repeat });
            let resumed = self.life.db().resume();
            self.life.mend();
            counts.add("fault points in resume", 1);
            match resumed {
                // A thread has met what was meant for `resume`.
                Ok(()) if self.life.settings.threads > 0 && self.life.db().background_error().is_some() => {
                    self.undecided = Undecided::default();
                    self.life.model.all_durable();
                }
                Ok(()) => return self.life.resumed(&mut self.undecided),
                Err(error) => assert!(is_failure(&error), "resume: {error:?}"),
            }
            assert!(self.life.db().background_error().is_some(), "resume has failed, and no failure stands");
            self.life.check_times();
            self.life.check_names();
            self.life.read();
            self.life.use_held();
            if chance(&mut self.life.random, 1, 6) {
                let seed = self.life.random.random();
                let crash = if chance(&mut self.life.random, 1, 2) { Crash::Kill } else { Crash::PowerCut };
                self.crash_beside(crash, seed);
            }
        }
        panic!("resume makes more than 200 calls");
    }
}
