//! Group sync: of all who wait for the log to be synced, one at a time leads and syncs for all.
//!
//! The obvious way, a sync for each who asks, makes commits wait in a row for one sync each. Here:
//!
//! 1. Who finds its position covered returns.
//! 2. Else, if nobody leads, it leads: it syncs all that was appended until then, outside the lock, and wakes the
//!    others.
//! 3. Else it waits, and begins again: mostly its position is covered by then, if not the next leader is among the
//!    woken.

use crate::Result;
use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
pub(super) struct GroupSync {
    leading: Mutex<bool>,
    led: Condvar,
}

impl GroupSync {
    /// Returns once `covered` says so. `lead` must cover all that was asked for before it was called, or fail.
    pub(super) fn wait(&self, covered: impl Fn() -> Result<bool>, lead: impl Fn() -> Result<()>) -> Result<()> {
        let mut leading = self.leading.lock();
        while !covered()? {
            if *leading {
                self.led.wait(&mut leading);
                continue;
            }
            *leading = true;
            drop(leading);
            let result = lead();
            leading = self.leading.lock();
            *leading = false;
            self.led.notify_all();
            result?;
        }
        Ok(())
    }
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
}
