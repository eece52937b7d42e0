//! Closing: everything acknowledged is on disk, every handle ends, the lock is free.

use super::engine::{Engine, ManifestCell};
use crate::Result;
use crate::log::LogPosition;
use crate::manifest::Change;

impl Engine {
    /// Ends every handle; what could not be made durable is the error. The second call, and every later one, does
    /// nothing.
    pub(crate) fn close(&self) -> Result<()> {
        if !self.end() {
            return Ok(());
        }
        // Those who wait see that it is closed. Once the commit lock was ours nothing is reserved any more.
        self.background.wake_all();
        drop(self.commit.lock());
        self.in_flight.wait_idle();
        // After a failure nothing can be made durable any more, so what was acknowledged unlogged is lost: that is not
        // passed over.
        let settled = if self.options.read_only { Ok(()) } else { self.check_sound().and_then(|()| self.settle()) };
        self.stop_background();
        // Whoever was past the first check writes nothing once the lock is free: neither an edit nor a new manifest.
        let _no_keyspace_is_made = self.keyspaces.lock();
        let mut cell = self.manifest.lock();
        *cell = ManifestCell::Recovered(Box::new(cell.state().clone()));
        self.set_log(None);
        self.store.end();
        *self.lock.lock() = None;
        settled
    }

    /// Flushes what is in no log, and leaves a log and a manifest that prove each other whole (L1).
    fn settle(&self) -> Result<()> {
        self.flush_where(|keyspace| keyspace.active.first_unlogged().is_some())?;
        self.stop_background();
        let log = self.log()?;
        let end: LogPosition = log.end();
        log.sync_through(end)?;
        if matches!(*self.manifest.lock(), ManifestCell::Writing(_)) {
            let timestamp = self.current.horizon().last_timestamp;
            let changes = vec![Change::LogProved(log.proof()), Change::LastTimestamp { timestamp }];
            self.edit_in_living(changes, |world| Ok((world.clone(), ())))?;
        }
        log.close()
    }
}
