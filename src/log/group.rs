//! Group sync: of all who wait for the log to be synced, one at a time leads and syncs for all.
//!
//! The obvious way, a sync for each who asks, makes commits wait in a row for one sync each. Here:
//!
//! 1. Who finds its position covered returns.
//! 2. Else, if nobody leads, it leads: it syncs all that was appended until then, outside the lock, and wakes the
//!    others.
//! 3. Else it waits, and begins again: mostly its position is covered by then, if not the next leader is among the
//!    woken.
//!
//! Among threads that commit one time after the other that alone makes two groups, which take turns: one commits anew
//! while the other's sync runs. Each commit then waits for a sync that is not its own. So a leader first gives those who
//! were woken just now the time to come back, as long as the last sync took at most, and all share one sync. Where that
//! was in vain, for they do something else between their commits, the next leaders do not wait, and ever more of them the
//! more often it was. PostgreSQL and MySQL let the user set such a delay; here the group itself says what it is worth. It
//! costs no commit more than that, and changes nothing else: the leader syncs what is there when it begins.

use std::time::{Duration, Instant};

use crate::Result;
use crate::sync::{Condvar, Mutex, MutexGuard, yield_now};

/// A leader waits no longer for others, however slow the disk is: it takes no longer to wake them.
const LONGEST_WAIT: Duration = Duration::from_micros(200);
/// How many leaders do not wait after one that has waited in vain, at first and at last.
const FEWEST_HASTY: u32 = 4;
const MOST_HASTY: u32 = 256;

#[derive(Debug, Default)]
pub(super) struct GroupSync {
    state: Mutex<State>,
    led: Condvar,
}

#[derive(Debug, Default)]
struct State {
    leading: bool,
    /// So many have come since the last leader began, and not gone; the next sync is for them.
    waiting: usize,
    /// How many have led.
    leaders: u64,
    /// So many were there when the last sync ended: whom it was for, and who had come meanwhile.
    around: usize,
    /// How long a leader waits for all of them.
    patience: Duration,
    /// So many leaders do not.
    hasty: u32,
    /// How many that were the last time.
    hasty_last: u32,
}

impl GroupSync {
    /// Returns once `covered` says so. `lead` must cover all that was asked for before it was called, or fail.
    pub(super) fn wait(&self, covered: impl Fn() -> Result<bool>, lead: impl Fn() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock();
        if covered()? {
            return Ok(());
        }
        let leaders_before = state.leaders;
        state.waiting += 1;
        while !covered()? {
            if state.leading {
                self.led.wait(&mut state);
                continue;
            }
            state.leading = true;
            State::gather(&mut state);
            state.leaders += 1;
            let group = std::mem::take(&mut state.waiting);
            drop(state);
            let began = now();
            let result = lead();
            let took = began.elapsed();
            state = self.state.lock();
            state.leading = false;
            state.around = group + state.waiting;
            state.patience = took.min(LONGEST_WAIT);
            self.led.notify_all();
            result?;
        }
        // Who came while a sync ran that was for it too.
        if state.leaders == leaders_before {
            state.waiting -= 1;
        }
        Ok(())
    }
}

impl State {
    /// Lets others come, unless all are there.
    fn gather(state: &mut MutexGuard<'_, Self>) {
        if state.waiting >= state.around {
            return;
        }
        if state.hasty > 0 {
            state.hasty -= 1;
            return;
        }
        let began = now();
        loop {
            MutexGuard::unlocked(state, yield_now);
            if state.waiting >= state.around {
                state.hasty_last = 0;
                return;
            }
            // A model checker tries what others do meanwhile; how long they take is not its affair.
            if cfg!(all(test, any(loom, shuttle))) || began.elapsed() >= state.patience {
                state.hasty_last = (state.hasty_last * 2).clamp(FEWEST_HASTY, MOST_HASTY);
                state.hasty = state.hasty_last;
                return;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "decides how long a leader waits for others, and nothing else")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Arc, AtomicU64, Ordering, spawn};

    #[test]
    fn all_who_came_while_one_led_share_the_next_sync() {
        let group = Arc::new(GroupSync::default());
        let (end, synced, leads) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        end.store(1, Ordering::SeqCst);
        let (entered, has_entered) = crossbeam_channel::bounded(10);
        let (go_on, may_go_on) = crossbeam_channel::bounded(10);
        let wait_for = |position: u64| {
            let (group, end, synced, leads) = (group.clone(), end.clone(), synced.clone(), leads.clone());
            let (entered, may_go_on) = (entered.clone(), may_go_on.clone());
            let body = move || {
                let covered = || Ok(synced.load(Ordering::SeqCst) >= position);
                let lead = || {
                    let target = end.load(Ordering::SeqCst);
                    leads.fetch_add(1, Ordering::SeqCst);
                    entered.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    synced.store(target, Ordering::SeqCst);
                    Ok(())
                };
                group.wait(covered, lead).unwrap();
            };
            spawn("waiter", body).unwrap()
        };
        let first = wait_for(1);
        has_entered.recv().unwrap();
        end.store(6, Ordering::SeqCst);
        let others: Vec<_> = (2..=6).map(wait_for).collect();
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        first.join().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(leads.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_leader_waits_for_all_who_are_around() {
        let group = Arc::new(GroupSync::default());
        let mut state = group.state.lock();
        (state.waiting, state.around, state.patience, state.hasty_last) = (1, 3, Duration::MAX, 8);
        let comes = Arc::clone(&group);
        let others = spawn("others", move || (0..2).for_each(|_| comes.state.lock().waiting += 1)).unwrap();
        State::gather(&mut state);
        assert_eq!((state.waiting, state.hasty, state.hasty_last), (3, 0, 0));
        drop(state);
        others.join().unwrap();
    }

    #[test]
    fn the_more_often_leaders_wait_in_vain_the_fewer_do() {
        let group = GroupSync::default();
        let mut state = group.state.lock();
        (state.waiting, state.around) = (1, 2);
        let mut hasty = Vec::new();
        for _ in 0..1000 {
            State::gather(&mut state);
            hasty.push(state.hasty);
        }
        let after_vain: Vec<u32> =
            hasty.iter().zip(hasty.iter().skip(1)).filter(|(a, b)| b > a).map(|(_, b)| *b).collect();
        assert_eq!((hasty[0], after_vain), (4, vec![8, 16, 32, 64, 128, 256, 256, 256]));
        // One that was alone needs nobody.
        (state.waiting, state.hasty) = (2, 0);
        State::gather(&mut state);
        assert_eq!(state.hasty, 0);
    }
}
