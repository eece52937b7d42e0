//! The power goes, or the process: what was synced is replayed, and what is replayed is a prefix (S21, S22, S23).

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::fs::{Fault, FaultKind, PowerCut};

/// A database as far as the log is concerned. What is in `manifest` is durable at once.
struct World {
    random: StdRng,
    fs: MemFs,
    manifest: Expectation,
    numbers: Numbers,
    /// All commits that may still be there; the first `durable` of them must, and the first `synced` whatever comes.
    history: Vec<Commit>,
    durable: usize,
    synced: usize,
    /// Whether the last crash left nothing that is not durable.
    power_was_cut: bool,
    made: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            fs: mem_fs(),
            manifest: from_begin(),
            numbers: Numbers::default(),
            history: Vec::new(),
            durable: 0,
            synced: 0,
            power_was_cut: false,
            made: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// The process ends here, or the power goes; a killed process loses nothing.
    fn crash(&mut self) {
        self.power_was_cut = self.chance(75);
        if !self.power_was_cut {
            self.fs = self.fs.kill();
            self.durable = self.history.len();
            return;
        }
        self.durable = self.synced;
        let cut = match self.random.random_range(0..6) {
            0 => PowerCut::Lose,
            1 => PowerCut::Keep,
            _ => PowerCut::Random(self.random.random()),
        };
        self.fs = self.fs.power_cut(cut);
    }

    fn recover(&mut self) -> Recovered {
        let (recovered, commits) = replay(&self.fs, &self.manifest).unwrap();
        let from = self.history.partition_point(|commit| commit.position < self.manifest.start.position);
        let expected = &self.history[from.min(self.history.len())..];
        assert!(commits.len() <= expected.len() && commits == expected[..commits.len()], "a prefix");
        assert!(from + commits.len() >= self.durable, "{} of {} that are durable", from + commits.len(), self.durable);
        let again = replay(&self.fs, &self.manifest).unwrap();
        assert_eq!((again.0.next, again.0.cut, again.1.len()), (recovered.next, recovered.cut, commits.len()));
        self.history.truncate(from + commits.len());
        if self.power_was_cut {
            self.synced = self.history.len();
        }
        recovered
    }

    /// Opens the log, or crashes on the way and says none.
    fn open<F: Fs + Clone>(&mut self, fs: &F) -> Option<Log> {
        let recovered = self.recover();
        if self.chance(10) {
            return None;
        }
        let segment_bytes = self.random.random_range(60..600);
        let env = env(fs, segment_bytes, &self.numbers);
        let mut log = None;
        if recovered.has_tail() {
            let begun = Log::create(env, recovered.next, recovered.kept()).ok()?;
            let copied = copy_tail(fs, Path::new(DIR), &recovered, &begun);
            if copied.is_err() && self.chance(50) {
                for segment in begun.segments().iter().filter(|one| one.ordinal >= recovered.next.ordinal) {
                    let _ = fs.remove(Purpose::Log, &path_of(segment.number));
                }
            }
            copied.ok()?;
            log = Some(begun);
        }
        if self.chance(10) {
            return None;
        }
        decide(recovered.cut, log.as_ref().map_or_else(|| recovered.proof(), |log| log.proof()), &mut self.manifest);
        self.synced = self.history.len();
        for number in &recovered.dead {
            if self.chance(10) {
                return None;
            }
            fs.remove(Purpose::Log, &path_of(*number)).ok()?;
        }
        if self.chance(10) {
            return None;
        }
        log.or_else(|| Log::create(super::env(fs, segment_bytes, &self.numbers), recovered.next, recovered.kept()).ok())
    }

    fn append(&mut self, log: &Log) -> Result<()> {
        self.made += 1;
        let len = [3, 30, 100, 1500][self.random.random_range(0..4)];
        let payload: Vec<u8> = (0..len).map(|i| self.made.to_le_bytes()[i % 4]).collect();
        let position = log.end();
        let end = log.append(COMMIT, 1, &[&payload])?;
        self.history.push(Commit { position, end, flags: 1, payload });
        Ok(())
    }

    fn synced_commits(&self, log: &Log) -> usize {
        self.history.partition_point(|commit| commit.end <= log.synced())
    }

    fn step(&mut self, log: &Log) -> Result<()> {
        match self.random.random_range(0..20) {
            0..10 => self.append(log)?,
            10..14 => log.sync_through(log.end())?,
            14 => log.sync_through(LogPosition(log.end().0 / 2))?,
            15 => log.rotate()?,
            16 if self.chance(50) => log.prove_manifest(&mark(u64::from(self.made), 5))?,
            16 => drop(log.mark_manifest(&mark(u64::from(self.made), 5))?),
            17 => self.manifest.proved = log.proof(),
            18 => {
                // A flush covers some of what is synced, or lets go what it covers (L4).
                let from = self.history.partition_point(|commit| commit.end <= self.manifest.start.position);
                let most = if self.chance(50) { self.synced_commits(log) } else { self.history.len() };
                if from < most {
                    let covered = self.random.random_range(from..most);
                    // Tables hold it.
                    self.synced = self.synced.max(covered + 1);
                    let start = log.start_at(self.history[covered].end);
                    assert!(start.ordinal >= self.manifest.start.ordinal);
                    self.manifest.start = start;
                    self.manifest.cuts.retain(|cut| cut.ordinal >= start.ordinal);
                    self.manifest.proved = log.proof();
                }
            }
            _ => log.remove_before(self.manifest.start)?,
        }
        Ok(())
    }

    /// Opens, works and crashes.
    fn life(&mut self) {
        let fs = FaultFs::new(self.fs.clone());
        if self.chance(40) {
            let (nth, repeat) = (self.random.random_range(0..60), self.chance(50));
            let kind = if self.chance(50) { FaultKind::Io } else { FaultKind::StorageFull };
            fs.inject(Fault { purpose: None, operation: None, nth, kind, repeat });
        }
        if let Some(log) = self.open(&fs) {
            for _ in 0..self.random.random_range(0..40) {
                if self.step(&log).is_err() {
                    break;
                }
            }
            if self.chance(15) {
                let _ = log.close();
            }
            self.synced = self.synced.max(self.synced_commits(&log));
        }
        self.crash();
    }
}

#[test]
fn whatever_crashes_what_was_synced_is_replayed_and_what_is_replayed_is_a_prefix() {
    for seed in 0..3000 {
        let lives = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..8).for_each(|_| world.life());
            world.recover();
        });
        assert!(lives.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    // S22
    let fs = mem_fs();
    let log = fresh(&fs, 200);
    let commits: Vec<_> = (0..30).map(|i| commit(&log, &[i; 33])).collect();
    assert_eq!(replay(&fs.kill(), &from_begin()).unwrap().1, commits);
}

#[test]
fn what_was_cut_off_stays_dead_though_it_is_still_there() {
    let fs = mem_fs();
    let numbers = Numbers::default();
    let log = Log::create(env(&fs, 100, &numbers), BEGIN, Vec::new()).unwrap();
    let old: Vec<_> = (0..6).map(|i| commit(&log, &[i; 50])).collect();
    let torn = path_of(log.segments()[2].number);
    let intact = fs.read_file(&torn).unwrap();
    let mut bytes = intact.clone();
    bytes[50] ^= 1;
    fs.write_file(&torn, bytes).unwrap();

    let (recovered, kept) = replay(&fs, &from_begin()).unwrap();
    assert_eq!(kept, old[..kept.len()]);
    assert!(!recovered.dead.is_empty());
    let mut manifest = from_begin();
    let next = go_on(env(&fs, 100, &numbers), &recovered, &mut manifest).unwrap();
    let mut expected = kept;
    expected.extend((10..14).map(|i| commit(&next, &[i; 50])));
    next.sync_through(next.end()).unwrap();
    manifest.proved = next.proof();

    // S33 in small: nothing of the old future, even if the damage heals, whichever of the dead are gone already.
    fs.write_file(&torn, intact).unwrap();
    let dead = recovered.dead;
    for removed in 0..=dead.len() {
        let (again, commits) = replay(&fs, &manifest).unwrap();
        assert_eq!((commits, again.cut), (expected.clone(), None));
        assert_eq!(again.dead, dead[removed..]);
        if let Some(number) = dead.get(removed) {
            fs.remove(Purpose::Log, &path_of(*number)).unwrap();
        }
    }
}

#[test]
fn a_first_segment_that_never_got_its_header_is_no_error() {
    // S29: a crash during the first open.
    let fs = mem_fs();
    for (number, bytes) in [(1, Vec::new()), (2, vec![0; 500])] {
        fs.write_file(path_of(FileNumber(number)), bytes).unwrap();
    }
    let (recovered, commits) = replay(&fs, &from_begin()).unwrap();
    assert_eq!((commits.len(), recovered.dead.len(), recovered.end), (0, 2, LogPosition(0)));
    let cut = recovered.cut.unwrap();
    assert_eq!(cut, Cut { ordinal: 1, end: LogPosition(0), next_ordinal: 3 });
    let numbers = Numbers::new(AtomicU64::new(2));
    let log = Log::create(env(&fs, 500, &numbers), recovered.next, Vec::new()).unwrap();
    let first = commit(&log, b"first");
    log.sync_through(first.end).unwrap();
    let expectation = Expectation { cuts: vec![cut], ..from_begin() };
    let (recovered, commits) = replay(&fs, &expectation).unwrap();
    assert_eq!(commits, [first]);
    assert!(recovered.next.ordinal > 3);
}
