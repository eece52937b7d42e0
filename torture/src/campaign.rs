//! Rounds on all cores, until so many are done or so many minutes have passed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ledger::{self, Entry, Ledger};
use crate::story;

/// Something that can be tried again and again, each time differently.
pub trait Program: Send + Sync {
    /// Its name on the command line and in the ledger.
    fn name(&self) -> &'static str;
    /// What it tries, in a line.
    fn about(&self) -> &'static str;
    /// The parts of the engine's source (files and folders of `src/`, without `.rs`) that it tests; none named: all.
    /// Counts in the ledger add up while these do not change.
    fn covers(&self) -> &'static [&'static str] {
        &[]
    }
    /// One round. All its choices follow from `seed`. A violation is a panic.
    fn round(&self, seed: u64, counts: &mut Counts);
    /// How many rounds may run at once.
    fn at_once(&self) -> usize {
        usize::MAX
    }
    /// A round that takes longer hangs.
    fn patience(&self) -> Duration {
        Duration::from_secs(300)
    }
}

/// What rounds have done, by name.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Counts(pub BTreeMap<String, u64>);

impl Counts {
    pub fn add(&mut self, name: &str, count: u64) {
        match self.0.get_mut(name) {
            Some(sum) => *sum += count,
            None => drop(self.0.insert(name.to_owned(), count)),
        }
    }

    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the higher one of each.
    pub fn raise_all(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            let highest = self.0.entry(name.clone()).or_default();
            *highest = (*highest).max(*count);
        }
    }

    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, count)| self.add(name, *count));
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<String> = self.0.iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// When to stop, and where to begin.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// `None`: any number.
    pub rounds: Option<u64>,
    /// `None`: any time.
    pub time: Option<Duration>,
    /// `None`: where the ledger ends.
    pub first_seed: Option<u64>,
    /// `None`: one for each core.
    pub jobs: Option<usize>,
    /// Whether the first violation ends it.
    pub stop_at_first: bool,
    /// Whether violations are expected, and nobody wants to read of them.
    pub quiet: bool,
}

/// What a campaign has done.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    pub rounds: u64,
    pub seconds: u64,
    /// The seeds that found something, and what.
    pub violations: Vec<(u64, String)>,
    pub counts: Counts,
    /// How far it came.
    pub reached: Counts,
}

/// What was done reaches the ledger after so long at the latest.
const LEG: Duration = Duration::from_secs(120);
/// Of what a round told before it failed, so many lines are printed.
const LINES: usize = 60;

/// Runs rounds of `program`.
///
/// # Errors
/// The ledger cannot be read or written.
pub fn run(program: &dyn Program, limits: &Limits, ledger: &Ledger) -> std::io::Result<Outcome> {
    let code = ledger::code(program.covers());
    let first_seed = match limits.first_seed {
        Some(seed) => seed,
        None => ledger.sum(program.name(), &code)?.next_seed,
    };
    let began = Instant::now();
    let deadline = limits.time.map(|time| began + time);
    let bar = progress_bar(program, limits);
    let mut outcome = Outcome::default();
    loop {
        let leg_began = Instant::now();
        let left = limits.rounds.map_or(u64::MAX, |rounds| rounds - outcome.rounds);
        let leg_end = deadline.map_or(leg_began + LEG, |deadline| deadline.min(leg_began + LEG));
        let leg =
            Leg { program, first_seed: first_seed + outcome.rounds, rounds: left, end: leg_end, limits, bar: &bar };
        let done = leg.run();
        ledger.add(&Entry {
            program: program.name().to_owned(),
            commit: ledger::commit(),
            code: code.clone(),
            at: ledger::now(),
            seconds: leg_began.elapsed().as_secs(),
            first_seed: first_seed + outcome.rounds,
            rounds: done.rounds,
            violations: done.violations.len() as u64,
            failed: done.violations.iter().map(|(seed, _)| *seed).collect(),
            counts: done.counts.clone(),
            ..Entry::default()
        })?;
        outcome.rounds += done.rounds;
        outcome.counts.add_all(&done.counts);
        outcome.violations.extend(done.violations);
        let stopped = limits.stop_at_first && !outcome.violations.is_empty();
        let out_of_time = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if stopped || out_of_time || limits.rounds.is_some_and(|rounds| outcome.rounds >= rounds) {
            break;
        }
    }
    bar.finish_and_clear();
    outcome.seconds = began.elapsed().as_secs();
    Ok(outcome)
}

/// Rounds between two entries of the ledger.
struct Leg<'a> {
    program: &'a dyn Program,
    first_seed: u64,
    rounds: u64,
    end: Instant,
    limits: &'a Limits,
    bar: &'a ProgressBar,
}

impl Leg<'_> {
    fn run(&self) -> Outcome {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.limits.jobs.unwrap_or(cores).min(self.program.at_once()).max(1);
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let done = Mutex::new(Outcome::default());
        let clocks: Vec<Mutex<Option<(u64, Instant)>>> = (0..jobs).map(|_| Mutex::new(None)).collect();
        thread::scope(|scope| {
            let workers: Vec<_> =
                clocks.iter().map(|clock| scope.spawn(|| self.work(clock, &next, &stop, &done))).collect();
            while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(Duration::from_millis(20));
                clocks.iter().for_each(|clock| self.watch(clock));
            }
        });
        done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self, clock: &Mutex<Option<(u64, Instant)>>, next: &AtomicU64, stop: &AtomicBool, done: &Mutex<Outcome>) {
        // A leg does at least one round, however short its time.
        let in_time = |nth| nth == 0 || Instant::now() < self.end;
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= self.rounds || !in_time(nth) || stop.load(Ordering::Relaxed) {
                return;
            }
            let seed = self.first_seed + nth;
            *lock(clock) = Some((seed, Instant::now()));
            let mut counts = Counts::default();
            let result = story::listen(|| self.program.round(seed, &mut counts));
            *lock(clock) = None;
            let mut done = lock(done);
            done.rounds += 1;
            done.counts.add_all(&counts);
            if let Err((message, told)) = result {
                if !self.limits.quiet {
                    self.bar.suspend(|| self.report(seed, &message, &told));
                }
                done.violations.push((seed, message));
                if self.limits.stop_at_first {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            self.bar.inc(1);
            self.bar.set_message(format!("{} violations", done.violations.len()));
        }
    }

    fn report(&self, seed: u64, message: &str, told: &[String]) {
        eprintln!("\nviolation: {}, seed {seed}", self.program.name());
        told.iter().skip(told.len().saturating_sub(LINES)).for_each(|line| eprintln!("  {line}"));
        eprintln!("{message}\nagain: {} --first-seed {seed} --rounds 1", self.program.name());
    }

    /// Ends everything if a round hangs: its thread cannot be stopped.
    fn watch(&self, clock: &Mutex<Option<(u64, Instant)>>) {
        if let Some((seed, began)) = *lock(clock)
            && began.elapsed() > self.program.patience()
        {
            self.bar.suspend(|| {
                eprintln!("violation: {}, seed {seed} hangs since {:?}", self.program.name(), began.elapsed());
            });
            std::process::exit(3);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn progress_bar(program: &dyn Program, limits: &Limits) -> ProgressBar {
    if limits.quiet {
        return ProgressBar::hidden();
    }
    let bar = limits.rounds.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let style = ProgressStyle::with_template("{prefix:>12} {elapsed_precise} {pos} rounds ({per_sec}), {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(program.name());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    struct EveryTenth;

    impl Program for EveryTenth {
        fn name(&self) -> &'static str {
            "every-tenth"
        }

        fn about(&self) -> &'static str {
            "fails at every tenth seed"
        }

        fn round(&self, seed: u64, counts: &mut Counts) {
            counts.add("tries", 2);
            assert_ne!(seed % 10, 0, "a tenth");
        }
    }

    #[test]
    fn violations_are_found_and_the_next_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Some(dir.path().join("ledger")));
        let limits = Limits { rounds: Some(25), quiet: true, ..Limits::default() };
        let outcome = run(&EveryTenth, &limits, &ledger).unwrap();
        let seeds: Vec<u64> = outcome.violations.iter().map(|(seed, _)| *seed).collect();
        assert_eq!((outcome.rounds, outcome.counts.get("tries")), (25, 50));
        assert!(seeds.contains(&10) && seeds.contains(&20) && seeds.len() == 2, "{seeds:?}");
        assert!(outcome.violations[0].1.contains("a tenth"), "{:?}", outcome.violations);
        let outcome = run(&EveryTenth, &limits, &ledger).unwrap();
        assert_eq!(outcome.violations.len(), 3, "30, 40 and 50");
        assert_eq!(ledger.sum("every-tenth", &ledger::code(&[])).unwrap().violations, 5);
        let limits = Limits { stop_at_first: true, jobs: Some(1), first_seed: Some(1), ..limits };
        assert_eq!(run(&EveryTenth, &limits, &ledger).unwrap().rounds, 10);
    }
}
