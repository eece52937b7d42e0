//! What the log says of prepared transactions, on its way into the table.
//!
//! It is all published: nobody knows of sequences.

use super::Outcome;
use super::pending::Pending;
use super::table::{Found, PreparedTable};
use crate::db::batch::Operations;
use crate::db::record::{Logged, LoggedCommit};
use crate::format::Reason;
use crate::log::LogPosition;
use crate::manifest::{InDoubt, KeyspaceId, Known, PreparedState};
use crate::sync::Arc;

impl PreparedTable {
    /// At an opening: nothing is missing, so everything makes sense. `below`: every keyspace that ever was has a lower id.
    pub(crate) fn replay(&mut self, logged: &Logged<'_>, end: LogPosition, below: KeyspaceId) -> Result<(), Reason> {
        if !matches!(logged, Logged::Commit(LoggedCommit { decides: None, .. })) {
            self.is_logged_to(end);
        }
        match logged {
            Logged::Commit(LoggedCommit { decides: None, .. }) => Ok(()),
            Logged::Commit(LoggedCommit { decides: Some(id), timestamp, .. }) => {
                self.replay_outcome(id, Outcome::Committed(*timestamp))
            }
            Logged::Aborted(id) => self.replay_outcome(id, Outcome::Aborted),
            // Shares the bytes.
            Logged::Prepared(in_doubt) => self.replay_prepared(&Arc::new(in_doubt.clone()), below),
            Logged::Forgotten(id) => match self.find(id) {
                Found::Decided(..) => {
                    self.discard(id);
                    Ok(())
                }
                _ => Err("forgets a transaction that was not decided".into()),
            },
        }
    }

    /// In a repair: something before it may be lost.
    pub(crate) fn salvage(&mut self, logged: &Logged<'_>) -> Result<(), Reason> {
        match logged {
            Logged::Commit(LoggedCommit { decides: None, operations, .. }) => {
                // Those that were in its way had been decided by then.
                while let Some(met) = self.met_by_writes(Operations::new(operations).flatten()) {
                    self.discard(met.holder.id());
                }
            }
            Logged::Commit(LoggedCommit { decides: Some(id), timestamp, .. }) => {
                self.discard(id);
                self.note_outcome(id, Outcome::Committed(*timestamp));
            }
            Logged::Aborted(id) => {
                self.discard(id);
                self.note_outcome(id, Outcome::Aborted);
            }
            Logged::Prepared(in_doubt) => {
                let pending = Pending::read(Arc::new(in_doubt.clone())).map_err(|error| error.reason)?;
                self.discard(&in_doubt.id);
                // As above.
                while let Some(met) = self.met_by(&pending) {
                    self.discard(met.holder.id());
                }
                self.enter(&Arc::new(pending), 0);
                self.settle(0);
            }
            Logged::Forgotten(id) => self.discard(id),
        }
        Ok(())
    }

    /// Of a manifest as far as it makes sense.
    pub(crate) fn salvage_known(state: &PreparedState) -> Self {
        let mut table = Self::default();
        for (id, known) in &*state.transactions {
            match known {
                Known::InDoubt(in_doubt) => _ = table.replay_prepared(in_doubt, KeyspaceId(u32::MAX)),
                Known::Decided(outcome) => table.note_outcome(id, *outcome),
            }
        }
        table
    }

    pub(super) fn replay_prepared(&mut self, in_doubt: &Arc<InDoubt>, below: KeyspaceId) -> Result<(), Reason> {
        if !matches!(self.find(&in_doubt.id), Found::Nothing) {
            return Err("prepares a transaction whose id is not free".into());
        }
        let pending = Pending::read(Arc::clone(in_doubt)).map_err(|error| error.reason)?;
        if pending.keyspaces().last().is_some_and(|id| *id >= below) {
            return Err("prepares a transaction in a keyspace that never was".into());
        }
        if self.met_by(&pending).is_some() {
            return Err("prepares a transaction that another one was in the way of".into());
        }
        self.enter(&Arc::new(pending), 0);
        self.settle(0);
        Ok(())
    }

    fn replay_outcome(&mut self, id: &[u8], outcome: Outcome) -> Result<(), Reason> {
        if !matches!(self.find(id), Found::InDoubt(_)) {
            return Err("decides a transaction that is not in doubt".into());
        }
        self.decide(id, outcome, 0);
        self.settle(0);
        Ok(())
    }

    /// Whatever it is.
    fn discard(&mut self, id: &[u8]) {
        if let Found::InDoubt(_) = self.find(id) {
            self.decide(id, Outcome::Aborted, 0);
        }
        self.forget(id, 0);
        self.settle(0);
    }
}
