//! Work that nobody waits for: flushes and compactions, by threads or step by step.
//!
//! [`Background`] holds the queue of flush units, which tables are busy, and the threads. A job is taken under its lock
//! and run without it. Flushes run one at a time, in order (L5), and before compactions; one thread is kept free of
//! compactions where there are two or more, so that a long compaction never holds up a flush. With
//! [`options::Background::Stepped`](crate::Background::Stepped) there are no threads: whoever would wait for a job runs
//! jobs instead, so a simulation is one thread and repeats from its seed.

use std::collections::VecDeque;
use std::time::Duration;

use super::compaction_job::{CompactionJob, RunningCompaction};
use super::engine::Engine;
use super::flush::FlushUnit;
use crate::manifest::KeyspaceId;
use crate::options::{self, Options};
use crate::sync::{self, Arc, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, spawn};
use crate::{Error, Result};

/// After so long without a commit all is quiet.
const QUIET: Duration = Duration::from_secs(1);

enum Job {
    Flush(Arc<FlushUnit>),
    Compaction(CompactionJob),
}

#[derive(Default)]
pub(crate) struct Jobs {
    flushes: VecDeque<Arc<FlushUnit>>,
    flushing: bool,
    enqueued: u64,
    flushed: u64,
    pub(crate) compactions: Vec<RunningCompaction>,
    /// Keyspaces in which a manual compaction waits: its next step goes first, or a steady load would starve it.
    pub(crate) awaited: Vec<KeyspaceId>,
    /// Nothing was committed for a while.
    pub(crate) quiet: bool,
    /// Commits counted when it was last looked whether all is quiet, and when that was.
    looked: (u64, u64),
    /// The keyspace that was served last, so that one with much to do does not starve the others.
    pub(crate) last_served: Option<KeyspaceId>,
    /// No job is taken any more.
    stopping: bool,
    /// No job is taken for now.
    pub(crate) paused: bool,
}

impl Jobs {
    pub(crate) fn running(&self) -> bool {
        self.flushing || !self.compactions.is_empty()
    }
}

/// The state of all background work.
pub(crate) struct Background {
    pub(crate) jobs: Mutex<Jobs>,
    /// Something is to be done, or a stop.
    work: Condvar,
    /// Something was done, or has failed.
    done: Condvar,
    stepped: bool,
    threads: Mutex<Vec<JoinHandle>>,
    wanted_threads: usize,
}

impl Background {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            jobs: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            stepped: options.background == options::Background::Stepped,
            threads: Mutex::new(Vec::new()),
            wanted_threads: options.background_threads.max(1),
        }
    }

    pub(crate) fn enqueue_flush(&self, unit: FlushUnit) {
        let mut jobs = self.jobs.lock();
        jobs.flushes.push_back(Arc::new(unit));
        jobs.enqueued += 1;
        drop(jobs);
        self.work.notify_one();
    }

    pub(crate) fn flush_waits(&self) -> bool {
        !self.jobs.lock().flushes.is_empty()
    }

    /// Stands for all flushes queued so far.
    pub(crate) fn flush_ticket(&self) -> u64 {
        self.jobs.lock().enqueued
    }

    /// Something may have changed for those who wait.
    pub(crate) fn wake_all(&self) {
        let _jobs = self.jobs.lock();
        self.work.notify_all();
        self.done.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.jobs.lock().stopping
    }

    /// Drops queued flushes: `resume` has flushed, or forgotten, what they were about.
    pub(crate) fn forget_flushes(&self) {
        let mut jobs = self.jobs.lock();
        jobs.flushed += jobs.flushes.len() as u64;
        jobs.flushes.clear();
    }

    pub(crate) fn resume_jobs(&self) {
        self.jobs.lock().paused = false;
        self.wake_all();
    }
}

impl Engine {
    /// Starts the threads.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if self.background.stepped {
            return Ok(());
        }
        for _ in 0..self.background.wanted_threads {
            let engine = Arc::clone(self);
            let thread = spawn("strandline", move || engine.work());
            let thread = thread.map_err(|error| Error::io(&self.dir, error))?;
            self.background.threads.lock().push(thread);
        }
        Ok(())
    }

    /// What a background thread does.
    fn work(&self) {
        let mut jobs = self.background.jobs.lock();
        while !jobs.stopping {
            match self.next_job(&mut jobs) {
                Some(job) => {
                    let result = MutexGuard::unlocked(&mut jobs, || self.run(&job));
                    self.finish(&mut jobs, job, &result);
                }
                None => drop(self.background.work.wait_for(&mut jobs, QUIET)),
            }
        }
    }

    /// Takes what is most urgent, if anything is to be done and nothing stands in the way.
    fn next_job(&self, jobs: &mut Jobs) -> Option<Job> {
        if jobs.stopping || jobs.paused || self.options.read_only || self.check_sound().is_err() {
            return None;
        }
        if !jobs.flushing
            && let Some(unit) = jobs.flushes.front()
        {
            jobs.flushing = true;
            return Some(Job::Flush(Arc::clone(unit)));
        }
        if jobs.compactions.len() >= self.background.wanted_threads.saturating_sub(1).max(1) {
            return None;
        }
        self.look_whether_quiet(jobs);
        let job = self.pick_compaction(jobs)?;
        jobs.last_served = Some(job.keyspace);
        jobs.compactions.push(job.begin());
        Some(Job::Compaction(job))
    }

    /// Whether a job could be taken.
    pub(crate) fn has_job(&self, jobs: &Jobs) -> bool {
        !self.options.read_only && (!jobs.flushes.is_empty() || self.pick_compaction(jobs).is_some())
    }

    /// All is quiet when nothing was committed for a while; step by step, when nothing was since the last step.
    fn look_whether_quiet(&self, jobs: &mut Jobs) {
        let commits = self.counters.commits.load(Ordering::Relaxed);
        let now = if self.background.stepped { 0 } else { self.time.monotonic_nanos() };
        let (seen, since) = jobs.looked;
        if commits != seen {
            jobs.quiet = false;
            jobs.looked = (commits, now);
        } else if self.background.stepped || Duration::from_nanos(now.saturating_sub(since)) >= QUIET {
            jobs.quiet = true;
        }
    }

    /// Runs a job. A failure turns the database read-only; a job that was called off (`Closed`) is none.
    fn run(&self, job: &Job) -> Result<()> {
        let result = match job {
            Job::Flush(unit) => self.flush_unit(unit),
            Job::Compaction(job) => self.run_compaction(job),
        };
        result.map_err(|error| if matches!(error, Error::Closed) { error } else { self.fail(error) })
    }

    fn finish(&self, jobs: &mut Jobs, job: Job, result: &Result<()>) {
        match job {
            Job::Flush(unit) => {
                jobs.flushing = false;
                if result.is_ok() && jobs.flushes.front().is_some_and(|front| Arc::ptr_eq(front, &unit)) {
                    jobs.flushes.pop_front();
                    jobs.flushed += 1;
                }
            }
            Job::Compaction(job) => jobs.compactions.retain(|running| !job.is(running)),
        }
        self.refresh_pressure(jobs);
        self.background.work.notify_all();
        self.background.done.notify_all();
    }

    /// Runs one job of the background, if there is one, and says whether there was.
    pub(crate) fn step(&self) -> bool {
        let mut jobs = self.background.jobs.lock();
        let Some(job) = self.next_job(&mut jobs) else { return false };
        let result = MutexGuard::unlocked(&mut jobs, || self.run(&job));
        self.finish(&mut jobs, job, &result);
        true
    }

    /// Waits, or steps, until `ready` gives something.
    pub(crate) fn wait_in_background<T>(&self, mut ready: impl FnMut(&mut Jobs) -> Result<Option<T>>) -> Result<T> {
        let mut jobs = self.background.jobs.lock();
        loop {
            self.check_sound()?;
            if jobs.stopping {
                return Err(Error::Closed);
            }
            if !jobs.paused
                && let Some(result) = ready(&mut jobs)?
            {
                return Ok(result);
            }
            if !self.background.stepped {
                self.background.done.wait(&mut jobs);
                continue;
            }
            let stepped = MutexGuard::unlocked(&mut jobs, || self.step());
            if stepped || self.check_sound().is_err() {
                continue;
            }
            if jobs.running() || jobs.paused {
                self.background.done.wait(&mut jobs);
            } else if !self.has_job(&jobs) {
                return ready(&mut jobs)?.ok_or_else(|| Error::Busy {
                    reason: "waiting for background work of which there is none".into(),
                });
            }
        }
    }

    /// Runs a compaction that was entered among the running ones already.
    pub(crate) fn run_taken_compaction(&self, job: CompactionJob) -> Result<()> {
        let job = Job::Compaction(job);
        let result = self.run(&job);
        self.finish(&mut self.background.jobs.lock(), job, &result);
        result
    }

    pub(crate) fn wait_for_flushes(&self, ticket: u64) -> Result<()> {
        self.wait_in_background(|jobs| Ok((jobs.flushed >= ticket).then_some(())))
    }

    /// No job is taken any more, and none is running.
    pub(crate) fn stop_background(&self) {
        let mut jobs = self.background.jobs.lock();
        jobs.stopping = true;
        self.background.work.notify_all();
        self.background.done.notify_all();
        while jobs.running() {
            self.background.done.wait(&mut jobs);
        }
        drop(jobs);
        let threads = std::mem::take(&mut *self.background.threads.lock());
        let this = sync::current_thread();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != this) {
            if thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }

    /// No job is running, and none will be taken until [`Background::resume_jobs`].
    pub(crate) fn pause_background(&self) {
        let mut jobs = self.background.jobs.lock();
        jobs.paused = true;
        while jobs.running() {
            self.background.done.wait(&mut jobs);
        }
    }
}
