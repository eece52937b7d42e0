//! The order of commits: reserve, apply in parallel, publish in order.
//!
//! The obvious commit holds one lock from the timestamp to the last memtable insert: right, but writers then never
//! overlap. Here a commit goes through
//!
//! 1. *reserve*, under the commit lock: validate, take timestamp and sequences, append the record to the log, enter the
//!    [`InFlight`] queue. Log order, timestamp order (late commits apart) and sequence order are one order.
//! 2. *apply*, without a lock: insert into the memtables; nothing is visible yet, since the horizon is below its
//!    sequences.
//! 3. *sync*, if asked for: wait until the log is on stable storage (shared with others).
//! 4. *publish*: mark the entry done; whoever finds the front of the queue done moves the horizon over it. A commit
//!    returns when the horizon has passed it, hence when every commit reserved before it is complete (V2).
//!
//! A commit whose sync failed is *undecided*: the queue is poisoned at its sequence, nothing at or behind it is ever
//! published, and whoever waits there gets the error (S25). `resume` clears the queue after it has flushed what was
//! published.

use std::collections::VecDeque;
use std::time::Duration;

use super::current::{Horizon, Published};
use crate::options::Clock;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};
use crate::version::Sequence;
use crate::{Error, Result, Timestamp};

/// What admission is decided from: the state under the commit lock and what the commit touches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub(crate) clock: Clock,
    pub(crate) late_commits: bool,
    pub(crate) unix_millis: u64,
    /// The highest timestamp reserved.
    pub(crate) last: Timestamp,
    /// The highest `close_until`.
    pub(crate) closed: Timestamp,
    /// The highest floor of the keyspaces touched.
    pub(crate) floor: Timestamp,
}

/// The timestamp that a commit was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) timestamp: Timestamp,
    pub(crate) late: bool,
}

impl Admission {
    /// Decides whether a commit may stand at the timestamp asked for, or gives it the clock's next.
    pub(crate) fn admit(&self, at: Option<Timestamp>) -> Result<Admitted> {
        let Some(timestamp) = at else {
            let timestamp = self.clock.next(self.last, self.closed, self.floor, self.unix_millis)?;
            return Ok(Admitted { timestamp, late: false });
        };
        if timestamp == 0 || timestamp == Timestamp::MAX {
            return Err(Error::invalid(format!("nothing is ever committed at timestamp {timestamp}")));
        }
        if timestamp <= self.closed {
            return Err(Error::LateCommit { requested: timestamp, last: self.closed });
        }
        let late = timestamp <= self.last;
        if late && !self.late_commits {
            return Err(Error::LateCommit { requested: timestamp, last: self.last });
        }
        if timestamp <= self.floor {
            return Err(Error::BelowRetained { requested: timestamp, retained: self.floor });
        }
        Ok(Admitted { timestamp, late })
    }
}

/// A commit between its reservation and its publication.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// Its last sequence.
    pub(crate) sequence: Sequence,
    pub(crate) timestamp: Timestamp,
}

#[derive(Debug)]
struct Entry {
    reserved: Reserved,
    state: EntryState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Applying,
    /// In the memtables, and waits for its sync.
    Applied,
    Done,
    Abandoned,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Nothing at or above this sequence is published any more, and why.
    poisoned: Option<(Sequence, Arc<Error>)>,
    /// How many wait until something is applied.
    wait_applied: usize,
}

impl Queue {
    fn reaches(&self, sequence: Sequence) -> bool {
        self.poisoned.as_ref().is_none_or(|(poisoned, _)| sequence < *poisoned)
    }

    fn is_applied(&self, sequence: Sequence) -> bool {
        let before = |entry: &&Entry| entry.reserved.sequence <= sequence;
        !self.entries.iter().take_while(before).any(|entry| entry.state == EntryState::Applying)
    }

    fn set(&mut self, sequence: Sequence, state: EntryState) {
        let at = self.entries.partition_point(|entry| entry.reserved.sequence < sequence);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.state = state;
        }
    }
}

/// Waits for a moment: those before mostly have some microsecond of work left, and to sleep and be woken takes many.
fn spin_until(done: impl Fn() -> bool) {
    // A checker of schedules tries what a spin could see anyway.
    const ROUNDS: u32 = if cfg!(all(test, any(loom, shuttle))) { 0 } else { 100 };
    for _ in 0..ROUNDS {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// The commits that are reserved and not yet published, in order.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    queue: Mutex<Queue>,
    moved: Condvar,
}

impl InFlight {
    /// Under the commit lock: a commit was reserved.
    pub(crate) fn enter(&self, reserved: Reserved) {
        self.queue.lock().entries.push_back(Entry { reserved, state: EntryState::Applying });
    }

    /// The commit is in the memtables; it is published later.
    pub(crate) fn applied(&self, sequence: Sequence) {
        let mut queue = self.queue.lock();
        queue.set(sequence, EntryState::Applied);
        if queue.wait_applied > 0 {
            self.moved.notify_all();
        }
    }

    /// Marks the commit done, moves the horizon as far as it goes, and waits until it has passed this commit.
    /// `Background`: the commit is undecided.
    pub(crate) fn publish(&self, sequence: Sequence, published: &Published) -> Result<()> {
        let mut queue = self.queue.lock();
        queue.set(sequence, EntryState::Done);
        let mut horizon = published.horizon();
        let before = horizon;
        while let Some(front) = queue.entries.front() {
            if front.state != EntryState::Done || !queue.reaches(front.reserved.sequence) {
                break;
            }
            horizon = Horizon {
                sequence: front.reserved.sequence,
                last_timestamp: horizon.last_timestamp.max(front.reserved.timestamp),
            };
            queue.entries.pop_front();
        }
        if horizon != before {
            published.publish(horizon);
            self.moved.notify_all();
        } else if queue.wait_applied > 0 {
            self.moved.notify_all();
        }
        if published.horizon().sequence < sequence && queue.reaches(sequence) {
            MutexGuard::unlocked(&mut queue, || spin_until(|| published.horizon().sequence >= sequence));
        }
        while published.horizon().sequence < sequence {
            if let Some((poisoned, why)) = &queue.poisoned
                && *poisoned <= sequence
            {
                let why = Arc::clone(why);
                queue.set(sequence, EntryState::Abandoned);
                self.moved.notify_all();
                return Err(Error::Background(why));
            }
            self.moved.wait(&mut queue);
        }
        Ok(())
    }

    /// The commit is undecided, and so is everything behind it.
    pub(crate) fn poison(&self, sequence: Sequence, why: &Error) {
        let mut queue = self.queue.lock();
        if queue.reaches(sequence)
            && let Error::Background(why) = why
        {
            queue.poisoned = Some((sequence, Arc::clone(why)));
        }
        queue.set(sequence, EntryState::Abandoned);
        self.moved.notify_all();
    }

    /// Waits until everything up to `sequence` is published; `false` if that will never be.
    pub(crate) fn wait_published(&self, sequence: Sequence, published: &Published) -> bool {
        if published.horizon().sequence >= sequence {
            return true;
        }
        let mut queue = self.queue.lock();
        while published.horizon().sequence < sequence {
            if !queue.reaches(sequence) {
                return false;
            }
            self.moved.wait(&mut queue);
        }
        true
    }

    /// Waits until everything up to `sequence` is in the memtables, published or not; of what is undecided something may
    /// be missing.
    pub(crate) fn wait_applied(&self, sequence: Sequence, published: &Published) {
        if published.horizon().sequence >= sequence {
            return;
        }
        let mut queue = self.queue.lock();
        if !queue.is_applied(sequence) {
            MutexGuard::unlocked(&mut queue, || spin_until(|| published.horizon().sequence >= sequence));
        }
        queue.wait_applied += 1;
        while !queue.is_applied(sequence) {
            self.moved.wait(&mut queue);
        }
        queue.wait_applied -= 1;
    }

    /// Waits until something was published, if `done` does not say that there is no need to, or for so long.
    pub(crate) fn wait_moved(&self, longest: Duration, done: impl Fn() -> bool) {
        let mut queue = self.queue.lock();
        if !done() {
            self.moved.wait_for(&mut queue, longest);
        }
    }

    /// Waits until no commit is on its way: each is published or abandoned.
    pub(crate) fn wait_idle(&self) {
        let mut queue = self.queue.lock();
        while queue.entries.iter().any(|entry| entry.state != EntryState::Abandoned) {
            self.moved.wait(&mut queue);
        }
    }

    /// Under the commit lock, when no commit is on its way: forgets the undecided ones, of which the caller has made
    /// sure that nothing is left in the memtables. The horizon passes their sequences, up to `reserved`, so that nobody
    /// waits for them.
    pub(crate) fn forget_undecided(&self, reserved: Sequence, published: &Published) {
        let mut queue = self.queue.lock();
        queue.entries.clear();
        queue.poisoned = None;
        published.publish(Horizon { sequence: reserved, ..published.horizon() });
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Admission =
        Admission { clock: Clock::Counter, late_commits: true, unix_millis: 0, last: 10, closed: 4, floor: 6 };

    #[test]
    fn admission_follows_the_contract() {
        let strict = Admission { late_commits: false, ..BASE };
        assert_eq!(BASE.admit(None).unwrap(), Admitted { timestamp: 11, late: false });
        assert_eq!(BASE.admit(Some(20)).unwrap(), Admitted { timestamp: 20, late: false });
        assert_eq!(BASE.admit(Some(10)).unwrap(), Admitted { timestamp: 10, late: true });
        assert_eq!(BASE.admit(Some(7)).unwrap(), Admitted { timestamp: 7, late: true });
        assert!(matches!(BASE.admit(Some(6)), Err(Error::BelowRetained { requested: 6, retained: 6 }))); // S12
        assert!(matches!(BASE.admit(Some(4)), Err(Error::LateCommit { requested: 4, last: 4 })));
        assert!(matches!(strict.admit(Some(10)), Err(Error::LateCommit { requested: 10, last: 10 })));
        assert!(matches!(BASE.admit(Some(0)), Err(Error::InvalidArgument(_))));
        assert!(matches!(BASE.admit(Some(u64::MAX)), Err(Error::InvalidArgument(_))));
        let closed_above = Admission { closed: 30, ..BASE };
        assert_eq!(closed_above.admit(None).unwrap().timestamp, 31);
        assert!(matches!(closed_above.admit(Some(30)), Err(Error::LateCommit { requested: 30, last: 30 })));
        let worn_out = Admission { last: u64::MAX - 1, ..BASE };
        assert!(matches!(worn_out.admit(None), Err(Error::InvalidArgument(_))));
    }

    fn reserve(flight: &InFlight, sequence: Sequence) {
        flight.enter(Reserved { sequence, timestamp: sequence });
    }

    // V2
    #[test]
    fn commits_that_finish_out_of_order_are_published_in_order() {
        let flight = Arc::new(InFlight::default());
        let published = Arc::new(Published::new(Horizon { sequence: 0, last_timestamp: 0 }));
        (1..=8).for_each(|sequence| reserve(&flight, sequence));
        let waiting: Vec<_> = (2..=8)
            .rev()
            .map(|sequence| {
                let (flight, published) = (Arc::clone(&flight), Arc::clone(&published));
                crate::sync::spawn("committer", move || {
                    flight.publish(sequence, &published).unwrap();
                    assert!(published.horizon().sequence >= sequence);
                })
                .unwrap()
            })
            .collect();
        assert_eq!(published.horizon().sequence, 0);
        flight.publish(1, &published).unwrap();
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(published.horizon(), Horizon { sequence: 8, last_timestamp: 8 });
    }

    // S25
    #[test]
    fn nothing_behind_an_undecided_commit_is_published() {
        let flight = InFlight::default();
        let published = Published::new(Horizon { sequence: 0, last_timestamp: 0 });
        (1..=4).for_each(|sequence| reserve(&flight, sequence));
        flight.poison(3, &Error::Background(Arc::new(Error::Closed)));
        assert!(matches!(flight.publish(4, &published), Err(Error::Background(_))));
        flight.publish(1, &published).unwrap();
        flight.publish(2, &published).unwrap();
        assert_eq!(published.horizon().sequence, 2);
        assert!(!flight.wait_published(3, &published));
        flight.wait_idle();
        flight.forget_undecided(4, &published);
        assert_eq!(published.horizon(), Horizon { sequence: 4, last_timestamp: 2 });
        reserve(&flight, 5);
        flight.publish(5, &published).unwrap();
        assert_eq!(published.horizon().sequence, 5);
    }
}
