//! A victim as a process, and how it comes to its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::journal::{self, Event};
use super::mortal::Death;
use super::victim::{LOCKED, Orders};
use crate::life::settings::{chance, of_any_size};
use crate::random::Random;

/// When the victim is to die. It may be done before.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// It kills itself.
    Own(Death),
    /// It is killed so many microseconds after it told a certain thing, wherever it is by then.
    After { sign: Sign, micros: u64 },
}

/// What the victim tells before it is killed.
#[derive(Debug, Clone, Copy)]
pub enum Sign {
    /// Nothing.
    None,
    Opening,
    Ready,
    /// So many events.
    Events(u64),
    Closing,
}

/// How a victim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Killed,
    /// It took all its steps and closed the database.
    Closed,
}

/// A victim that has not told anything for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// So often the journal is looked at.
const LOOK: Duration = Duration::from_micros(100);

impl Moment {
    pub fn draw(random: &mut Random) -> Self {
        if chance(random, 1, 2) {
            return Self::Own(Death { at_call: of_any_size(random, 1, 2048) - 1, torn: random.random() });
        }
        let sign = match random.random_range(0..8) {
            0 => Sign::None,
            1 => Sign::Opening,
            2 | 3 => Sign::Ready,
            4 => Sign::Closing,
            _ => Sign::Events(random.random_range(4..400)),
        };
        Self::After { sign, micros: of_any_size(random, 1, 16_384) - 1 }
    }

    pub fn death(self) -> Option<Death> {
        match self {
            Self::Own(death) => Some(death),
            Self::After { .. } => None,
        }
    }
}

impl Sign {
    fn was_given(self, journal: &Path) -> bool {
        let count = || journal::count(journal);
        match self {
            Self::None => true,
            Self::Opening => count() >= 1,
            Self::Ready => journal::read(journal).contains(&Event::Ready),
            Self::Events(events) => count() >= events,
            Self::Closing => journal::read(journal).contains(&Event::Closing),
        }
    }
}

/// Held while a process is made. Between its fork and its exec it has copies of all files that are open here, locks of
/// databases among them.
static SPAWNING: Mutex<()> = Mutex::new(());

/// No process that was being made has files of this one any more.
pub fn wait_for_spawns() {
    drop(SPAWNING.lock().unwrap_or_else(PoisonError::into_inner));
}

fn command(program: &Path, orders: &Orders) -> Command {
    let mut command = Command::new(program);
    command.arg("victim").arg(&orders.dir).args(&orders.journal);
    command.args(["--seed", &orders.seed.to_string(), "--life", &orders.life.to_string()]);
    if let Some(death) = orders.death() {
        command.args(["--die-at-call", &death.at_call.to_string()]);
        command.args(death.torn.then_some("--torn"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn spawn(command: &mut Command) -> Child {
    let _one_at_a_time = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// Whether another process finds the database locked.
pub fn is_locked(program: &Path, dir: PathBuf, seed: u64) -> bool {
    let orders = Orders { dir, journal: None, seed, life: 0, die_at_call: None, torn: false };
    let status = spawn(command(program, &orders).stderr(Stdio::null())).wait().unwrap();
    status.code() == Some(LOCKED.into())
}

pub struct Victim {
    child: Child,
    /// How much it had told when something new was told last, and when that was.
    heard: (u64, Instant),
    journal: PathBuf,
    /// Where it complains.
    complaint: PathBuf,
    status: Option<ExitStatus>,
}

impl Victim {
    pub fn spawn(program: &Path, orders: &Orders) -> Self {
        let journal = orders.journal.clone().expect("somewhere to tell");
        let complaint = journal.with_extension("complaint");
        let child = spawn(command(program, orders).stderr(File::create(&complaint).unwrap()));
        Self { child, heard: (0, Instant::now()), journal, complaint, status: None }
    }

    pub fn is_dead(&mut self) -> bool {
        self.status = self.status.or_else(|| self.child.try_wait().unwrap());
        self.status.is_some()
    }

    /// Waits for a sign; false: the victim ended before.
    pub fn wait_for(&mut self, sign: Sign) -> bool {
        while !sign.was_given(&self.journal) {
            if self.is_dead() {
                return sign.was_given(&self.journal);
            }
            self.be_patient();
        }
        true
    }

    fn be_patient(&mut self) {
        let told = journal::count(&self.journal);
        if told > self.heard.0 {
            self.heard = (told, Instant::now());
        }
        assert!(self.heard.1.elapsed() < PATIENCE, "the victim hangs since {PATIENCE:?}");
        thread::sleep(LOOK);
    }

    /// Waits for the moment, kills the victim if it does not do so itself, and for its end.
    ///
    /// # Panics
    /// It hangs, or it ended in another way.
    pub fn meet(mut self, moment: Moment) -> End {
        if let Moment::After { sign, micros } = moment {
            if self.wait_for(sign) {
                thread::sleep(Duration::from_micros(micros));
            }
            self.child.kill().unwrap();
        }
        while !self.is_dead() {
            self.be_patient();
        }
        let status = self.status.expect("it is dead");
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(9) => End::Killed,
            None if status.success() => End::Closed,
            _ => panic!("{status}: {}", fs::read_to_string(&self.complaint).unwrap_or_default()),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.is_dead() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
