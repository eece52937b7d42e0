//! Every file call of a piece of a life fails once, and from then on, with an error of the device and with a full disk.

use rand::RngExt;
use strandline::fs::{Fault, FaultKind, Purpose};
use strandline::{Fs, Options};

use crate::campaign::{Counts, Program};
use crate::disk::Disk;
use crate::life::{Broken, Crash, DIR, Log, OPERATIONS, Runner, is_failure};
use crate::random::Random;

#[derive(Debug, Default)]
pub struct Faults;

/// So many rounds share a piece of a life and the calls in it, so that none of them takes long.
const SHARES: u64 = 16;
/// So many pieces take turns, so that few rounds see many of them.
const PIECES: u64 = 64;

/// So long is the piece of a life in which each call fails.
const STEPS: u64 = 24;
/// In one round of so many, threads work in the background.
const THREADED: u64 = 8;

impl Program for Faults {
    fn name(&self) -> &'static str {
        "faults"
    }

    fn about(&self) -> &'static str {
        "every file call fails, once or from then on; nothing acknowledged is lost, and it goes on"
    }

    // S24 S25 S26 S38
    fn round(&self, seed: u64, counts: &mut Counts) {
        let (turn, piece) = (seed / PIECES, seed % PIECES);
        let start = Start::new(turn / SHARES * PIECES + piece);
        // One turn does not take the same calls of all pieces.
        let share = (turn + piece + piece / SHARES) % SHARES;
        let mut whole = start.life(None);
        for _ in 0..STEPS {
            whole.step();
        }
        finish(&mut whole);
        let calls = whole.life.fs.calls();
        for nth in (share..calls).step_by(SHARES as usize) {
            for fault in faults(nth) {
                start.run(fault, counts);
            }
        }
        if share == 0 {
            start.destroy(counts);
        }
    }

    fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(900)
    }
}

fn faults(nth: u64) -> impl Iterator<Item = Fault> {
    [(FaultKind::Io, false), (FaultKind::Io, true), (FaultKind::StorageFull, false), (FaultKind::StorageFull, true)]
        .into_iter()
        .map(move |(kind, repeat)| Fault { purpose: None, operation: None, nth, kind, repeat })
}

/// The end of each piece, so that the calls of closing and opening are among those that fail.
fn finish(life: &mut Broken) {
    if life.life.db.is_some() {
        life.close();
    }
    life.open();
}

/// What all runs of a round begin with.
struct Start {
    seed: u64,
    life: Runner,
    files: Disk,
    left: Crash,
}

impl Start {
    fn new(seed: u64) -> Self {
        let mut life = Runner::new(Random::of_seed(seed), None);
        for _ in 0..life.random.random_range(0..60) {
            life.work_step();
        }
        let left = if life.random.random() { Crash::Kill } else { Crash::PowerCut };
        if life.random.random_range(0..3) == 0 {
            life.reopen();
        }
        let files = life.crashed_files(left);
        life.log = Log::default();
        life.let_go();
        life.db = None;
        life.take_calls();
        life.settings.favourite = Some(life.random.random_range(0..OPERATIONS));
        if seed.is_multiple_of(THREADED) {
            life.settings.threads = 1 + (seed / THREADED % 2) as usize;
        }
        Self { seed, life, files, left }
    }

    fn life(&self, fault: Option<Fault>) -> Broken {
        // Copied, so that the runs share nothing.
        let life = self.life.twin(&self.files.kill(), Random::of_seed(!self.seed));
        Broken::new(life, self.left, fault)
    }

    /// One run with a fault. Until the fault all are the same.
    fn run(&self, fault: Fault, counts: &mut Counts) {
        let mut broken = self.life(Some(fault));
        broken.life.log.add(format!("{fault:?}"));
        let choice = self.seed ^ (fault.nth * 4 + 2 * u64::from(fault.repeat) + u64::from(fault.kind == FaultKind::Io));
        let mut random = Random::of_seed(choice.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut more = random.random_range(0..7);
        for _ in 0..STEPS {
            broken.step();
            if broken.is_met() {
                more -= 1;
                if more < 0 {
                    break;
                }
            }
        }
        if !broken.is_met() {
            finish(&mut broken);
        }
        counts.add(if broken.is_met() { "fault points" } else { "faults not met" }, 1);
        broken.life.random = random;
        for crash in [Crash::Kill, Crash::PowerCut] {
            if broken.life.random.random() {
                counts.add("crashes", 1);
                let seed = broken.life.random.random();
                broken.crash_beside(crash, seed);
            }
        }
        broken.go_on(counts);
    }

    /// Destroying fails at each of its calls; another try succeeds, and nothing is left.
    fn destroy(&self, counts: &mut Counts) {
        for nth in 0.. {
            let mut met = false;
            for fault in faults(nth) {
                let life = self.life.twin(&self.files.kill(), Random::of_seed(nth));
                let options = || life.settings.options(&life.fs, &life.time);
                life.fs.inject(fault);
                let destroyed = options().destroy(DIR);
                met |= life.fs.calls() > nth;
                counts.add("fault points in destroy", 1);
                if let Err(error) = destroyed {
                    assert!(is_failure(&error), "{fault:?}: destroy: {error:?}");
                }
                life.fs.clear();
                for files in [life.fs.inner().kill(), life.fs.inner().power_cut(nth), life.fs.inner().clone()] {
                    // What is half gone may be refused.
                    let look = options().fs(files.clone());
                    drop(look.clone().read_only(true).open(DIR).map(|db| db.verify()));
                    look.clone().destroy(DIR).unwrap_or_else(|error| panic!("{fault:?}: destroy again: {error}"));
                    let left = files.files().list(Purpose::Directory, DIR.as_ref()).unwrap_or_default();
                    assert!(left.iter().all(|entry| entry.name == "LOCK"), "{fault:?}: left: {left:?}");
                    let db = Options::open(look, DIR).unwrap_or_else(|error| panic!("{fault:?}: open: {error}"));
                    assert!(db.keyspace_names().is_empty() && db.last_timestamp() == 0, "{fault:?}");
                }
            }
            if !met {
                break;
            }
        }
    }
}
