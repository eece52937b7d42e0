//! Group sync: of all who wait for the log to be synced, one at a time leads and syncs for all.
//!
//! The obvious way, a sync for each who asks, makes commits wait in a row for one sync each. Here:
//!
//! 1. Who finds its position covered returns.
//! 2. Else, if nobody leads, it leads: it syncs all that was appended until then, outside the lock, and wakes the others.
//! 3. Else it waits, and begins again: mostly its position is covered by then, if not the next leader is among the woken.

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
